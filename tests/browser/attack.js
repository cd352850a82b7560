// Runs in a page of another origin, with the address of a site and a token of a page of its visitor: does all that the
// web lets one page do to another site, each request with what it is in its query. Resolves with what came of it.
async ({ shop, token, delegate }) => {
  const outcomes = {};
  const address = (path, by) => `${shop}${path}?by=${by}`;
  const document_ = "0123456789abcdef0123456789abcdef";
  let attempt = 1_000_000;
  const hello = (transport) => ["hello", { token, document: document_, attempt: (attempt += 1_000_000), transport, wait: false }];
  const bodies = {
    stream: () => JSON.stringify(hello("stream")),
    poll: () => JSON.stringify(hello("poll")),
    post: () => JSON.stringify([hello("poll"), ["send", 1, 0, delegate, "by post"], ["join", 2, "news"]]),
    renew: () => JSON.stringify({ token }),
    form: () => String(new URLSearchParams({ "pagews.token": token, "pagews.delegate": delegate, "pagews.back": "/" })),
  };
  const types = { json: "application/json", text: "text/plain", urlencoded: "application/x-www-form-urlencoded" };
  const event = (target, names) =>
    new Promise((resolve) => names.forEach((name) => target.addEventListener(name, () => resolve(name), { once: true })));

  // --- WebSockets -------------------------------------------------------------------------------------------------
  const socket = async (by, path, protocols) => {
    const ws = new WebSocket(address(path, by).replace("http", "ws"), protocols);
    const heard = [];
    ws.addEventListener("open", () => {
      ws.send(JSON.stringify(hello("websocket")));
      ws.send(JSON.stringify(["send", 1, 0, delegate, "by socket"]));
    });
    ws.addEventListener("message", ({ data }) => {
      heard.push(data);
      ws.close();
    });
    await event(ws, ["close"]);
    outcomes[by] = heard.length ? `heard ${heard[0]}` : "refused";
  };
  await socket("socket", "/pagews/socket", ["pagews.v1"]);
  await socket("custom", "/socket/custom", []);

  // --- fetch --------------------------------------------------------------------------------------------------------
  const read = async (by, path, options) => {
    try {
      const response = await fetch(address(path, by), { credentials: "include", ...options });
      outcomes[by] = response.type === "opaque" ? "nothing to read" : `read ${response.status}`;
    } catch {
      outcomes[by] = "refused";
    }
  };
  for (const [route, body] of Object.entries(bodies)) {
    for (const mode of ["cors", "no-cors"]) {
      for (const [name, type] of Object.entries(types)) {
        const options = { method: "POST", mode, body: body(), headers: { "Content-Type": type } };
        await read(`${mode}-${name}-${route}`, `/pagews/${route}`, options);
      }
      const fields = new FormData();
      for (const [name, value] of new URLSearchParams(bodies.form())) fields.append(name, value);
      await read(`${mode}-multipart-${route}`, `/pagews/${route}`, { method: "POST", mode, body: fields });
    }
  }
  for (const path of ["/", "/pagews/socket", "/pagews/stream", "/pagews/poll", "/pagews/static/pagews.js"]) {
    await read(`get-cors-${path}`, path, { mode: "cors" });
    await read(`get-no-cors-${path}`, path, { mode: "no-cors" });
  }

  // --- what reads without fetch ---------------------------------------------------------------------------------------
  for (const path of ["/pagews/stream", "/pagews/socket"]) {
    const source = new EventSource(address(path, `events-${path}`), { withCredentials: true });
    let heard = "refused";
    source.addEventListener("message", ({ data }) => (heard = `heard ${data}`));
    await event(source, ["error", "message"]);
    source.close();
    outcomes[`events-${path}`] = heard;
  }
  const paths = ["/", ...Object.keys(bodies).map((route) => `/pagews/${route}`), "/pagews/socket", "/pagews/static/pagews.js"];
  for (const path of paths) {
    for (const type of ["text/javascript", "module"]) {
      const by = `script-${type}-${path}`;
      const script = Object.assign(document.createElement("script"), { type, src: address(path, by) });
      script.dataset.pagews = `${shop}/pagews`;
      script.dataset.page = token;
      const done = event(script, ["load", "error"]);
      document.head.append(script);
      outcomes[by] = (await done) === "error" || window.pagews === undefined ? "nothing to read" : "ran";
      script.remove();
    }
    const by = `frame-${path}`;
    const frame = Object.assign(document.createElement("iframe"), { src: address(path, by) });
    const done = event(frame, ["load"]);
    document.body.append(frame);
    await done;
    try {
      outcomes[by] = frame.contentWindow?.document.title === undefined ? "nothing to read" : "read";
    } catch {
      outcomes[by] = "nothing to read";
    }
    frame.remove();
  }

  // --- forms, posted by the browser itself ----------------------------------------------------------------------------
  const submit = async (by, path, enctype, fields, rel = "") => {
    const frame = Object.assign(document.createElement("iframe"), { name: by });
    document.body.append(frame);
    const form = Object.assign(document.createElement("form"), {
      action: address(path, by),
      method: "post",
      enctype,
      target: by,
    });
    form.setAttribute("rel", rel);
    for (const [name, value] of fields) {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
    }
    document.body.append(form);
    const done = event(frame, ["load"]);
    form.submit();
    await done;
    outcomes[by] = "nothing to read";
    form.remove();
    frame.remove();
  };
  for (const route of Object.keys(bodies)) {
    for (const enctype of ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]) {
      // As text/plain, a name and a value can be made to be JSON.
      const text = bodies[route]();
      const end = text.slice(-1);
      const asText = [`${text.slice(0, -1)},${end === "}" ? '"more":' : ""}"`, `"${end}`];
      const fields = enctype === "text/plain" ? [asText] : [...new URLSearchParams(bodies.form())];
      await submit(`form-${enctype}-${route}`, `/pagews/${route}`, enctype, fields);
    }
  }
  const fields = [...new URLSearchParams(bodies.form())];
  // Says `Origin: null`, as a site's own form does where its policy is no-referrer.
  await submit("form-noreferrer", "/pagews/form", "application/x-www-form-urlencoded", fields, "noreferrer");

  // --- beacons --------------------------------------------------------------------------------------------------------
  for (const [route, body] of Object.entries(bodies)) {
    for (const [name, type] of Object.entries(types)) {
      navigator.sendBeacon(address(`/pagews/${route}`, `beacon-${name}-${route}`), new Blob([body()], { type }));
    }
  }
  return outcomes;
}
