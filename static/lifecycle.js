/**
 * Tells the page what becomes of its document: sleeps, wakes, ends, is seen, has a network.
 *
 * @param {import("./page.js").Page} page
 * @param {Window} window
 */
export function followLifecycle(page, window) {
  const { document } = window;
  window.addEventListener("pagehide", ({ persisted }) => {
    // In the back-forward cache a socket would stay open with nobody behind it.
    if (persisted) page.suspend();
    else page.bye();
  });
  window.addEventListener("pageshow", () => page.resume());
  document.addEventListener("freeze", () => page.suspend());
  document.addEventListener("resume", () => page.resume());
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") page.wake();
  });
  window.addEventListener("online", () => page.online());
  // Not `navigator.onLine` as well: it is false on a machine without network that talks to a server of its own.
  window.addEventListener("offline", () => page.offline());
}
