"use strict";
const read = id => JSON.parse(document.getElementById(id).textContent);
const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
};

/* One frame of a sprite sheet, enlarged to at most 224 pixels, of which `beside` fit into `width`. */
class Frame {
  constructor(sheet, caption, width, beside) {
    this.sheet = sheet;
    const most = Math.min(224, (width - 12 * (beside - 1)) / beside);
    this.scale = Math.min(2, most / Math.max(sheet.width, sheet.height));
    this.view = make("div", { className: "frame" });
    const size = n => Math.round(n * this.scale) + "px";
    Object.assign(this.view.style, {
      width: size(sheet.width), height: size(sheet.height), backgroundImage: `url(${sheet.uri})`,
      backgroundSize: `${sheet.columns * sheet.width * this.scale}px auto`,
    });
    this.element = make("figure", {}, this.view, make("figcaption", { textContent: caption }));
  }
  show(i) {
    const { columns, width, height, count } = this.sheet;
    i = Math.min(i, count - 1);
    const x = (i % columns) * width * this.scale, y = Math.floor(i / columns) * height * this.scale;
    this.view.style.backgroundPosition = `-${x}px -${y}px`;
  }
}

/* A slider over the steps of an episode, and a button that plays them. */
class Playback {
  constructor(length, milliseconds, show) {
    Object.assign(this, { length, milliseconds, show, timer: null });
    this.slider = make("input", { type: "range", min: 0, max: length - 1, value: 0, ariaLabel: "step" });
    this.button = make("button", { textContent: "play", className: "play" });
    this.slider.oninput = () => this.to(+this.slider.value);
    this.button.onclick = () => this.timer ? this.stop() : this.start();
  }
  to(i) {
    this.slider.value = i = Math.max(0, Math.min(this.length - 1, i));
    this.show(i);
  }
  move(by) { this.to(+this.slider.value + by); }
  start() {
    if (+this.slider.value === this.length - 1) this.to(0);
    this.button.textContent = "stop";
    this.timer = setInterval(() => { if (+this.slider.value >= this.length - 1) this.stop(); else this.move(1); }, this.milliseconds);
  }
  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "play";
  }
}

/* Arrow keys step, except where they mean something already. */
function onArrows(move) {
  document.addEventListener("keydown", event => {
    if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
    if (event.key === "ArrowRight") move(1);
    if (event.key === "ArrowLeft") move(-1);
  });
}
