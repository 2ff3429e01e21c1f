
/* Episodes of several players, in step. */
function contest(root, plays) {
  const choose = make("select", { ariaLabel: "episode" }), stage = make("div");
  plays.forEach((play, n) => choose.append(make("option", { textContent: play.title, value: n })));
  choose.style.maxWidth = "100%";
  root.append(choose, stage);
  let playback = null;
  const open = n => {
    playback?.stop();
    const { players } = plays[n], length = Math.max(...players.map(p => p.steps.length));
    const beside = Math.max(2, Math.min(players.length, Math.floor(root.clientWidth / 150)));
    const columns = players.map(player => {
      const frames = [["seen", player.expected ? "seen" : ""], ["expected", player.caption]]
        .filter(([key]) => player[key]).map(([key, caption]) => new Frame(player[key], caption, root.clientWidth, beside));
      const said = make("div");
      const astray = player.astray ? [make("p", { className: "slip", textContent: player.astray })] : [];
      const element = make("div", {}, make("b", { textContent: player.name }), make("br"),
        make("small", { className: "quiet", textContent: player.outcome }), ...astray,
        make("div", { className: "frames" }, ...frames.map(frame => frame.element)), said);
      element.style.cssText = "flex: 1 1 130px; min-width: 130px; max-width: 480px; overflow-wrap: anywhere";
      return { player, frames, said, element };
    });
    const where = make("small", { className: "quiet" });
    playback = new Playback(length, 400, i => {
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
    });
    const row = make("div", { className: "frames" }, ...columns.map(c => c.element));
    stage.replaceChildren(make("div", { className: "row" }, playback.button, playback.slider, where), row);
    playback.to(0);
  };
  choose.onchange = () => open(+choose.value);
  open(0);
  onArrows(by => playback.move(by));
}

contest(document.getElementById("contest"), read("plays"));
