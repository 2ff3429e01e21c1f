
/* Episodes of several players, in step. */
function contest(root, plays) {
  const choose = make("select", { ariaLabel: "episode" }), stage = make("div");
  plays.forEach((play, n) => choose.append(make("option", { textContent: play.title, value: n })));
  choose.style.maxWidth = "100%";
  root.append(choose, stage);
  let timer = null, move = () => {};
  const stop = () => { clearInterval(timer); timer = null; };
  const open = n => {
    stop();
    const { players } = plays[n], length = Math.max(...players.map(p => p.steps.length));
    const beside = Math.max(2, Math.min(players.length, Math.floor(root.clientWidth / 150)));
    const columns = players.map(player => {
      const frames = [["seen", player.expected ? "seen" : ""], ["expected", "expected by the model"]]
        .filter(([key]) => player[key]).map(([key, caption]) => new Frame(player[key], caption, root.clientWidth, beside));
      const said = make("div");
      const element = make("div", {}, make("b", { textContent: player.name }), make("br"),
        make("small", { className: "quiet", textContent: player.outcome }),
        make("div", { className: "frames" }, ...frames.map(frame => frame.element)), said);
      element.style.cssText = "flex: 1 1 130px; min-width: 130px; max-width: 480px; overflow-wrap: anywhere";
      return { player, frames, said, element };
    });
    const slider = make("input", { type: "range", min: 0, max: length - 1, value: 0, ariaLabel: "step" });
    const button = make("button", { textContent: "play" }), where = make("small", { className: "quiet" });
    const show = i => {
      slider.value = i = Math.max(0, Math.min(length - 1, i));
      where.textContent = `step ${i} of ${length - 1}`;
      columns.forEach(({ player, frames, said }) => {
        const step = player.steps[Math.min(i, player.steps.length - 1)];
        frames.forEach(frame => frame.show(i));
        const words = step.words.map(text => make("pre", { textContent: text }));
        words.forEach(pre => { pre.style.whiteSpace = "pre-wrap"; });
        const slip = step.slip ? [make("p", { className: "slip", textContent: step.slip })] : [];
        const text = step.text ? [make("details", {}, make("summary", { textContent: "what it was told" }),
          make("small", { textContent: step.text }))] : [];
        said.replaceChildren(make("p", { textContent: step.action }), ...slip, ...words, ...text);
      });
    };
    slider.oninput = () => show(+slider.value);
    button.onclick = () => {
      if (timer) { stop(); button.textContent = "play"; return; }
      if (+slider.value === length - 1) show(0);
      button.textContent = "stop";
      timer = setInterval(() => {
        if (+slider.value >= length - 1) { stop(); button.textContent = "play"; } else show(+slider.value + 1);
      }, 400);
    };
    move = by => show(+slider.value + by);
    const row = make("div", { className: "frames" }, ...columns.map(c => c.element));
    stage.replaceChildren(make("div", { className: "row" }, button, slider, where), row);
    show(0);
  };
  choose.onchange = () => open(+choose.value);
  document.addEventListener("keydown", event => {
    if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
    if (event.key === "ArrowRight") move(1);
    if (event.key === "ArrowLeft") move(-1);
  });
  open(0);
}

contest(document.getElementById("contest"), read("plays"));
