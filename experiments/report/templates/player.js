/* An observation that has no picture, as numbers. */
class Numbers {
  constructor(rows, caption) {
    this.rows = rows;
    this.cells = rows.map(() => ["seen", "expected"].map(() => make("td", { className: "n" })));
    const head = ["", "seen", caption].map((text, i) => make("th", { textContent: text, className: i ? "n" : "" }));
    this.element = make("table", { className: "numbers" }, make("tr", {}, ...head),
      ...rows.map((row, r) => make("tr", {}, make("td", { textContent: row.name }), ...this.cells[r])));
  }
  show(i) {
    this.rows.forEach((row, r) => ["seen", "expected"].forEach((side, s) => { this.cells[r][s].textContent = row[side][i]; }));
  }
}

/* Curves over the steps of an episode, each in its own range, with a cursor. */
class Chart {
  static colors = { critic: "#2f6fde", reward: "#3a9d6e", "goes on": "#8a5fd1", surprise: "#d1622b" };
  constructor(series, wrong, onPick) {
    this.series = series;
    this.wrong = wrong;
    this.canvas = make("canvas");
    this.legend = make("p", { className: "legend" });
    this.element = make("div", {}, this.canvas, this.legend);
    this.length = Object.values(series)[0].length;
    this.canvas.onclick = event => {
      const box = this.canvas.getBoundingClientRect();
      onPick(Math.round((event.clientX - box.left) / box.width * (this.length - 1)));
    };
  }
  show(i) {
    const ratio = window.devicePixelRatio || 1, width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const x = t => (this.length < 2 ? 0.5 : t / (this.length - 1)) * (width - 4) + 2;
    const line = (t, color) => {
      pen.strokeStyle = color;
      pen.beginPath();
      pen.moveTo(x(t), 0);
      pen.lineTo(x(t), height);
      pen.stroke();
    };
    for (const [name, values] of Object.entries(this.series)) {
      const low = Math.min(0, ...values), high = Math.max(...values, low + 1e-6);
      pen.strokeStyle = Chart.colors[name];
      pen.lineWidth = 1.5;
      pen.beginPath();
      values.forEach((v, t) => pen.lineTo(x(t), height - 4 - (v - low) / (high - low) * (height - 8)));
      pen.stroke();
    }
    if (this.wrong !== null) line(this.wrong, "#c9302c");
    line(i, "#888");
    this.legend.replaceChildren(...Object.entries(this.series).map(([name, values]) =>
      Object.assign(make("span", { textContent: `${name} ${values[i]}` }), { style: `color: ${Chart.colors[name]}` })));
  }
}

function players(root, episodes) {
  const choose = make("div", { className: "row", role: "group" });
  const stage = make("div");
  root.append(choose, stage);
  let playback = null;
  const open = n => {
    playback?.stop();
    [...choose.children].forEach((button, i) => button.setAttribute("aria-pressed", i === n));
    const episode = episodes[n], length = episode.actions.length;
    const frames = [["seen", "seen"], ["expected", episode.caption]]
      .filter(([key]) => episode[key]).map(([key, caption]) => new Frame(episode[key], caption, root.clientWidth, 2));
    if (episode.numbers) frames.push(new Numbers(episode.numbers, episode.caption));
    const caption = make("p");
    playback = new Playback(length, 150, i => {
      frames.forEach(frame => frame.show(i));
      chart.show(i);
      const last = i === length - 1;
      caption.textContent = `step ${episode.first + i} of ${episode.length}: ` + (last ? "the end" : episode.actions[i]);
    });
    const chart = new Chart(episode.series, episode.wrong, i => playback.to(i));
    const summary = make("p", { className: "quiet", textContent: `return ${episode.return}, seed ${episode.seed}` });
    stage.replaceChildren(summary, make("div", { className: "frames" }, ...frames.map(f => f.element)), caption,
      make("div", { className: "row" }, playback.button, playback.slider), chart.element);
    playback.to(episode.wrong ?? 0);
  };
  episodes.forEach((episode, n) => {
    const kind = { true: "success", false: "failure" }[episode.success] ?? `return ${episode.return}`;
    choose.append(make("button", { textContent: `${kind}, ${episode.length} steps`, onclick: () => open(n) }));
  });
  open(0);
  onArrows(by => playback.move(by));
  window.addEventListener("resize", () => playback.move(0));
}

/* Open-loop predictions, all in step. */
function loops(root, clips) {
  const shown = clips.filter(clip => clip.truth);
  if (!shown.length) return;
  const rows = shown.map(clip => {
    const frames = ["truth", "model", "difference"].map(
      name => new Frame(clip[name], name === "model" ? clip.caption : name, root.clientWidth, 3));
    const note = make("small");
    root.append(make("div", { className: "frames" }, ...frames.map(f => f.element)), note);
    return { clip, frames, note };
  });
  let t = 0;
  const show = () => rows.forEach(({ clip, frames, note }) => {
    const i = t % (clip.truth.count + 4);
    frames.forEach(frame => frame.show(i));
    const ahead = Math.min(i, clip.truth.count - 1) - clip.context + 1;
    note.textContent = ahead <= 0 ? "looking" : `${ahead} ahead, without looking`;
  });
  show();
  setInterval(() => { t += 1; show(); }, 400);
}

players(document.getElementById("player"), read("episodes"));
if (document.getElementById("clips")) loops(document.getElementById("clips"), read("clip-data"));
