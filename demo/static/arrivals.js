/** A strip that shows when numbers came, and when there was no socket for them. */

const SLOT = 250; // ms
const SLOTS = 120;
const FULL = 20; // what a bar of full height stands for; more is written beside it

export class Arrivals {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => boolean} connected
   */
  constructor(canvas, connected) {
    this.canvas = canvas;
    this.connected = connected;
    /** @type {{ count: number, away: boolean }[]} */
    this.slots = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Lets the strip run from now on. */
  start() {
    this.slots = [{ count: 0, away: !this.connected() }];
    clearInterval(this.timer);
    this.timer = setInterval(() => this.#next(), SLOT);
    this.draw();
  }

  stop() {
    clearInterval(this.timer);
  }

  receive() {
    const slot = this.slots.at(-1);
    if (slot) slot.count += 1;
  }

  lose() {
    const slot = this.slots.at(-1);
    if (slot) slot.away = true;
  }

  #next() {
    this.slots.push({ count: 0, away: !this.connected() });
    if (this.slots.length > SLOTS) this.slots.shift();
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    if (!context) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = width * devicePixelRatio;
    this.canvas.height = height * devicePixelRatio;
    context.scale(devicePixelRatio, devicePixelRatio);
    const style = getComputedStyle(this.canvas);
    const edge = (/** @type {number} */ index) => Math.round((index * width) / SLOTS);
    this.slots.forEach(({ count, away }, index) => {
      const left = edge(index);
      const wide = edge(index + 1) - left;
      if (away) {
        context.fillStyle = style.getPropertyValue("--shade");
        context.fillRect(left, 0, wide, height);
      }
      const tall = Math.min(1, count / FULL) * (height - 8);
      context.fillStyle = style.color;
      context.fillRect(left, height - tall, Math.max(1, wide - 1), tall);
    });
    context.font = "12px system-ui, sans-serif";
    this.slots.forEach(({ count }, index) => {
      if (count <= FULL) return;
      const leftHalf = index < SLOTS / 2;
      context.textAlign = leftHalf ? "left" : "right";
      context.fillText(`${count} at once`, leftHalf ? edge(index + 1) + 4 : edge(index) - 4, 18);
    });
  }
}
