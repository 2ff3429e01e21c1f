"use strict";
const SVG = "http://www.w3.org/2000/svg";
const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
};
const draw = (tag, attributes = {}, ...children) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

/* Numbers as people read them. */
const count = n => Math.round(n).toLocaleString("en");
const short = n => {
  if (n === 0) return "0";
  const size = Math.abs(n), [by, unit] = size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
  return size < 1e-3 ? n.toExponential(1).replace("e-", "e−") : +(n / by).toPrecision(4) + unit;
};
const digits = n => Math.abs(n) >= 1e5 ? count(n) : Math.abs(n) >= 1000 ? count(n) : Math.abs(n) < 1e-3 && n ? n.toExponential(2) : String(+n.toPrecision(3));
const span = s => s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${(s / 86400).toFixed(1)} d`;

/* The line of a run: a color, and dashes once the colors are used up. */
const COLORS = 8, DASHES = ["", "6 3", "2 3", "9 3 2 3"];
function stroke(element, n) {
  element.style.stroke = `var(--c${n % COLORS})`;
  element.style.strokeDasharray = DASHES[Math.floor(n / COLORS) % DASHES.length];
  return element;
}
const swatch = n => draw("svg", { width: 22, height: 8, "aria-hidden": true },
  stroke(draw("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-width": 2.5 }), n));

/* At most about `most` round numbers from low to high. */
function ticks(low, high, most) {
  const rough = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(x => x * power).find(x => x >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(last - first + 1, 0) }, (_, i) => (first + i) * step);
}

/* A running mean that forgets, without the pull towards its start. */
function smoothed(values, weight) {
  let mean = 0, total = 0;
  return values.map(value => {
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + 1 - weight;
    return mean / total;
  });
}

/* The mean of lines where at least one of them is known, at so many times. */
function meanOf(lines, points = 160) {
  const low = Math.min(...lines.map(line => line.x[0])), high = Math.max(...lines.map(line => line.x.at(-1)));
  const x = [], y = [];
  for (let i = 0; i < points; i++) {
    const at = low + (high - low) * i / (points - 1), there = lines.filter(line => line.x[0] <= at && at <= line.x.at(-1)).map(line => valueAt(line, at));
    if (there.length) { x.push(at); y.push(there.reduce((a, b) => a + b) / there.length); }
  }
  return { x, y };
}
function valueAt({ x, y }, at) {
  let i = nearest(x, at);
  if (x[i] > at) i--;
  const next = Math.min(i + 1, x.length - 1), share = x[next] > x[i] ? (at - x[i]) / (x[next] - x[i]) : 0;
  return y[i] + share * (y[next] - y[i]);
}

/* The point of a sorted list that is nearest to a number. */
function nearest(sorted, x) {
  let low = 0, high = sorted.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (sorted[middle] < x) low = middle; else high = middle; }
  return Math.abs(sorted[low] - x) <= Math.abs(sorted[high] - x) ? low : high;
}

/* The curves of several runs over one clock, with their values where the pointer or the arrow keys are. */
class Plot {
  constructor(name, remove) {
    this.name = name;
    this.at = null;
    this.chart = draw("svg", { class: "chart", tabindex: 0, role: "img" });
    this.values = make("div", { className: "values", hidden: true });
    this.words = make("p", { className: "off" });
    this.words.setAttribute("aria-live", "polite");
    const close = make("button", { type: "button", textContent: "×", title: `remove ${name}`, ariaLabel: `remove the curve ${name}`, onclick: remove });
    this.element = make("figure", { className: "plot" }, make("figcaption", {}, make("span", { textContent: name }), close), this.chart, this.values, this.words);
    this.chart.addEventListener("pointermove", event => this.point(this.clock(event)));
    this.chart.addEventListener("pointerdown", event => this.point(this.clock(event)));
    this.chart.addEventListener("pointerleave", () => this.point(null));
    this.chart.addEventListener("blur", () => this.point(null));
    this.chart.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.lines && this.draw()).observe(this.chart);
  }

  /* lines: [{ label, n, x, y, within: whether another line is its mean }], smooth: weight of the past, words: of a time on the clock. */
  show(lines, smooth, words) {
    this.lines = lines.map(line => ({ ...line, shown: smoothed(line.y, smooth) }));
    this.smooth = smooth;
    this.said = words;
    this.draw();
    if (this.at !== null) this.point(this.at);
  }

  draw() {
    const width = this.chart.clientWidth || 330, height = 210, [left, right, top, bottom] = [46, 10, 8, 24];
    this.chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const means = this.lines.filter(line => !line.within), raws = this.smooth && this.lines.length <= 6 ? means : [];
    const xs = this.lines.flatMap(line => [line.x[0], line.x.at(-1)]);
    const ys = this.lines.flatMap(line => raws.includes(line) ? line.y : line.shown);
    let [x0, x1, y0, y1] = [Math.min(0, ...xs), Math.max(...xs), ys.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b))];
    if (x1 <= x0) x1 = x0 + 1;
    const gap = (y1 - y0) * 0.06 || Math.abs(y1) * 0.1 || 0.5;
    [y0, y1] = [y0 >= 0 && y0 - gap < 0 ? 0 : y0 - gap, y1 + gap];
    this.x = x => left + (x - x0) / (x1 - x0) * (width - left - right);
    this.y = y => height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom);
    this.back = pixel => x0 + (pixel - left) / (width - left - right) * (x1 - x0);
    const grid = ticks(y0, y1, 4).flatMap(y => [
      draw("line", { class: "grid", x1: left, x2: width - right, y1: this.y(y), y2: this.y(y) }),
      draw("text", { x: left - 6, y: this.y(y) + 4, "text-anchor": "end" }, short(y))]);
    const marks = ticks(x0, x1, Math.max(2, width / 90)).map(x =>
      draw("text", { x: this.x(x), y: height - 7, "text-anchor": this.x(x) > width - 30 ? "end" : "middle" }, this.said(x, true)));
    const path = (line, y, kind) => stroke(draw("path", { class: `curve ${kind} run${line.n}`, d: this.path(line.x, y) }), line.n);
    const thin = [...this.lines.filter(line => line.within).map(line => path(line, line.shown, "within")), ...raws.map(line => path(line, line.y, "raw"))];
    this.cross = draw("g");
    this.chart.replaceChildren(...grid, ...marks, ...thin, ...means.map(line => path(line, line.shown, "")), this.cross);
    const ends = means.map(line => `${line.label} ${digits(line.shown.at(-1))}`);
    this.chart.setAttribute("aria-label", `${this.name}: at the end ${ends.join(", ")}. The arrow keys move over the curves.`);
  }

  path(x, y) {
    const points = x.map((at, i) => `${this.x(at).toFixed(1)} ${this.y(y[i]).toFixed(1)}`);
    return points.length === 1 ? `M${points[0]}h.01` : `M${points.join("L")}`;
  }

  clock(event) { return this.back(event.clientX - this.chart.getBoundingClientRect().left); }

  key(event) {
    const all = [...new Set(this.lines.flatMap(line => line.x))].sort((a, b) => a - b);
    const now = this.at === null ? -1 : nearest(all, this.at), far = Math.max(1, Math.round(all.length / 40));
    const to = { ArrowRight: now + far, ArrowLeft: now - far, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Escape") this.point(null);
    if (to === undefined) return;
    event.preventDefault();
    this.point(all[Math.max(0, Math.min(all.length - 1, to))], true);
  }

  /* Show the values at a time on the clock; null shows none. */
  point(at, speak = false) {
    this.at = at;
    this.cross.replaceChildren();
    this.values.hidden = at === null;
    if (at === null) { this.words.textContent = ""; return; }
    const here = this.lines.filter(line => !line.within).map(line => { const i = nearest(line.x, at); return { ...line, at: line.x[i], value: line.shown[i] }; })
      .filter(point => Math.abs(this.x(point.at) - this.x(at)) < 40).sort((a, b) => b.value - a.value);
    if (!here.length) { this.values.hidden = true; return; }
    const middle = here.reduce((best, p) => Math.abs(p.at - at) < Math.abs(best.at - at) ? p : best).at, x = this.x(middle);
    this.cross.append(draw("line", { class: "cross", x1: x, x2: x, y1: 8, y2: 186 }), ...here.map(p =>
      draw("circle", { cx: this.x(p.at), cy: this.y(p.value), r: 3.2, class: `dot${p.n % COLORS}` })));
    const rows = here.slice(0, 12).map(p => make("div", {}, swatch(p.n), make("span", { textContent: p.label }), make("b", { textContent: digits(p.value) })));
    if (here.length > 12) rows.push(make("div", { textContent: `and ${here.length - 12} more` }));
    this.values.replaceChildren(make("div", { className: "quiet", textContent: this.said(middle) }), ...rows);
    const right = x > this.chart.clientWidth / 2;
    Object.assign(this.values.style, { top: "30px", left: right ? "" : `${x + 14}px`, right: right ? `${this.chart.clientWidth - x + 14}px` : "" });
    if (speak) this.words.textContent = `${this.said(middle)}: ${here.map(p => `${p.label} ${digits(p.value)}`).join(", ")}`;
  }
}
