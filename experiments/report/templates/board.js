
const $ = id => document.getElementById(id);
const MOST = {{ most }}, FIRST = 150, PLOTS = 2, SMOOTH = 0.5;
const LOGGED = new Set(["run", "population", "member", "ppo"]);
const KINDS = { run: "runs", population: "populations", member: "members", ppo: "PPO runs", sweep: "sweeps", benchmark: "benchmarks", objectives: "comparisons of objectives",
  comparison: "comparisons", page: "pages" };

/* What is shown, which the address keeps after its #, beside the token. */
const address = new URLSearchParams(location.hash.slice(1));
const view = {
  query: address.get("query") || "", kind: address.get("kind") || "", sort: address.get("sort") || "changed", down: address.get("up") === null,
  chosen: address.getAll("run"), over: address.get("over") || "env_steps", grouped: address.get("grouped") !== null, smooth: +(address.get("smooth") ?? SMOOTH), curves: address.getAll("curve"),
};
const rows = new Map(), lines = new Map(), fields = new Map(), plots = new Map();
let version = 0, clock = 0, every = 2, complete = false, limit = FIRST, shown = [], curves = {}, names = {}, groups = [], timer = null;

function remember() {
  const kept = new URLSearchParams({ token: address.get("token") || "" });
  const usual = { query: "", kind: "", sort: "changed", over: "env_steps", smooth: SMOOTH };
  for (const [name, value] of Object.entries(usual)) if (view[name] !== value) kept.set(name, view[name]);
  if (!view.down) kept.set("up", "");
  if (view.grouped) kept.set("grouped", "");
  for (const id of view.chosen) kept.append("run", id);
  for (const name of view.curves) kept.append("curve", name);
  history.replaceState(null, "", "#" + kept);
}

/* What the server answers; what it refuses is an Error with its sentence. */
async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", body: JSON.stringify(body),
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${address.get("token") || ""}` } });
  } catch (error) { throw new Error("The server does not answer; is dreamer board still running?"); }
  const content = await answer.json();
  if (content.error) throw new Error(content.error);
  return content;
}
const complain = error => { $("error").textContent = error ? error.message : ""; };

/* Look again and again; while nobody sees the page, not at all. */
async function follow() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const news = await ask("/rows", { since: version });
    [version, clock, every, complete] = [news.version, news.now, news.every, news.complete];
    $("name").textContent = document.title = news.name || news.root;
    $("root").textContent = news.root;
    news.gone.forEach(id => { rows.delete(id); lines.delete(id); });
    news.rows.forEach(row => { rows.set(row.id, { ...row, words: `${row.id} ${row.kind} ${row.task} ${row.preset} ${row.status}`.toLowerCase() }); });
    if ($("error").dataset.from === "server") complain(null);
    if (news.rows.length || news.gone.length || !shown.drawn) await list(news.rows.length > 0);
    ages();
    if (view.chosen.length && $("chosen").hidden && complete) await choose();  // as the address says
    else if (!$("chosen").hidden && news.gone.some(id => view.chosen.includes(id))) await choose();
    else if (!$("chosen").hidden && news.rows.some(row => view.chosen.includes(row.id))) await learn();
  } catch (error) { complain(error); $("error").dataset.from = "server"; }
  timer = setTimeout(follow, complete ? 1000 * every : 50);
}
document.addEventListener("visibilitychange", follow);

/* The columns: how a row is sorted by them, and what a cell shows. */
const ago = at => { const s = Math.max(clock - at, 0); return s < 5 ? "now" : `${span(s)} ago`; };
const percent = x => `${(100 * x).toFixed(x === 1 || x === 0 ? 0 : 1)}%`;
const rough = row => row.judged === "training" ? "n rough" : "n";
const breakable = text => text.split(/(?<=[/:_])/).flatMap((part, i) => i ? [make("wbr"), part] : [part]);
const COLUMNS = [
  { name: "name", key: row => row.id.toLowerCase(), cell: (td, row) => {
    const cut = row.id.lastIndexOf("/") + 1;
    td.append(...cut ? [make("span", { className: "above" }, ...breakable(row.id.slice(0, cut)))] : [], ...breakable(row.id === "." ? "(this folder)" : row.id.slice(cut)));
    if (row.kind !== "run") td.append(make("span", { className: "tag", textContent: row.kind }));
    if (row.page) td.append(" ", make("a", { href: row.page, target: "_blank", rel: "noopener noreferrer", textContent: "report", ariaLabel: `report of ${row.id}` }));
    if (row.problem) td.append(make("small", { className: "problem", textContent: row.problem }));
    if (row.task) td.append(make("small", { className: "task quiet", textContent: row.task }));
  } },
  { name: "task", key: row => row.task.toLowerCase(), cell: (td, row) => td.append(...breakable(row.task)) },
  { name: "preset", key: row => row.preset, cell: (td, row) => td.append(row.preset) },
  { name: "seed", n: true, key: row => row.seed, cell: (td, row) => td.append(row.seed ?? "") },
  { name: "status", key: row => row.status, cell: (td, row) => {
    td.append(make("span", { className: `state ${row.status}`, textContent: row.status }));
    if (row.left > 0) td.append(make("small", { className: "quiet", textContent: `${span(row.left)} left` }));
  } },
  { name: "progress", n: true, key: row => row.unit ? row.ready : null, cell: (td, row) => {
    if (!row.unit) return;
    const inner = row.unit === "runs" || row.unit === "trials", text = `${short(row.ready)}${row.total === null ? "" : ` of ${short(row.total)}`}${row.unit === "steps" ? "" : ` ${row.unit}`}`;
    td.title = `${count(row.ready)}${row.total === null ? "" : ` of ${count(row.total)}`} ${row.unit}`;
    td.append(inner ? make("button", { type: "button", className: "inner", textContent: text, title: "show what lies in it", onclick: event => { event.stopPropagation(); filter(`${row.id}/`); } }) : text);
    const bar = make("i");
    bar.style.width = `${100 * Math.min(row.total ? row.ready / row.total : 0, 1)}%`;
    if (row.total !== null) td.append(make("span", { className: "part" }, bar));
  } },
  { name: "return", n: true, key: row => row.return_mean, cell: (td, row) => {
    if (row.return_mean === null) return;
    td.append(digits(row.return_mean)); td.className = rough(row); td.title = row.judged;
  } },
  { name: "success", n: true, key: row => row.success_rate, cell: (td, row) => {
    if (row.success_rate === null) return;
    td.append(percent(row.success_rate)); td.className = rough(row); td.title = row.judged;
  } },
  { name: "time", n: true, key: row => row.seconds, cell: (td, row) => td.append(row.seconds === null ? "" : span(row.seconds)) },
  { name: "changed", n: true, key: row => row.changed, cell: (td, row) => { td.append(ago(row.changed)); td.title = new Date(1000 * row.changed).toLocaleString(); } },
];
const text = value => value === undefined || value === null ? "" : typeof value === "number" ? String(value) : String(value) || '""';
const columns = () => {
  const asked = new Map([...fields.values()].filter(field => field.used).map(field => [field.path, field.values]));
  const more = [...asked].map(([path, values]) => ({ name: path, n: true, className: "field", key: row => values[row.id],
    cell: (td, row) => { td.append(td.title = text(values[row.id])); } }));
  return [COLUMNS[0], ...more, ...COLUMNS.slice(1)];
};
const LOCAL = { name: row => row.id, kind: row => row.kind, task: row => row.task, preset: row => row.preset, seed: row => row.seed, status: row => row.status,
  steps: row => row.unit === "steps" ? row.ready : null, updates: row => row.updates, return: row => row.return_mean, success: row => row.success_rate,
  seconds: row => row.seconds };

/* The filter: words that a row has, and conditions on its columns or on fields of its configuration. */
const CONDITION = /^-{0,2}([A-Za-z][\w.-]*)(!=|<=|>=|=|<|>)(.*)$/;
const COMPARE = {
  "=": (a, b) => a === b, "!=": (a, b) => a !== b, "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
};
function holds(value, how, wanted) {
  if (value === undefined || value === null) return how === "!=";
  const [a, b] = [Number(value), Number(wanted)], numbers = typeof value === "number" && wanted !== "" && !isNaN(b);
  if (numbers) return COMPARE[how](a, b);
  const plain = x => String(x).toLowerCase().replace(/\s|"/g, "");
  return how === "=" || how === "!=" ? COMPARE[how](plain(value), plain(wanted)) : false;
}
async function tests() {
  const all = [], problems = [];
  fields.forEach(field => { field.used = false; });
  for (const word of view.query.match(/\S+/g) || []) {
    const [, name, how, wanted] = word.match(CONDITION) || [];
    if (!how) { all.push(row => row.words.includes(word.toLowerCase())); continue; }
    if (wanted === "") continue;  // it is still being written
    if (LOCAL[name]) { all.push(row => holds(LOCAL[name](row), how, wanted)); continue; }
    try {
      if (fields.get(name)?.version !== version) fields.set(name, { ...await ask("/field", { name }), version });
      const field = fields.get(name);
      field.used = true;
      all.push(row => holds(field.values[row.id], how, wanted));
    } catch (error) { problems.push(error.message); }
  }
  return [all, problems];
}

let turn = 0;
async function list() {
  const mine = ++turn, [all, problems] = await tests();
  if (mine !== turn) return;  // a newer filter overtook this one
  complain(problems.length ? new Error(problems.join("; ")) : null);
  $("error").dataset.from = "filter";
  const matching = [...rows.values()].filter(row => all.every(test => test(row)));
  kinds(matching);
  const column = columns().find(column => column.name === view.sort) || COLUMNS.at(-1), sign = view.down ? -1 : 1;
  const key = new Map(matching.map(row => [row, column.key(row)])), missing = x => x === undefined || x === null || x === "";
  shown = matching.filter(row => !view.kind || row.kind === view.kind).sort((a, b) => {
    const [x, y] = [key.get(a), key.get(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y) || (a.id < b.id ? -1 : 1);
    return x === y ? (a.id < b.id ? -1 : 1) : sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x) < String(y) ? -1 : 1);
  });
  shown.drawn = true;
  table();
}

function kinds(matching) {
  const counted = {};
  matching.forEach(row => { counted[row.kind] = (counted[row.kind] || 0) + 1; });
  const button = (kind, label, number) => {
    const made = make("button", { type: "button", onclick: () => { view.kind = kind; limit = FIRST; remember(); list(); } }, label, " ", make("span", { textContent: count(number) }));
    made.setAttribute("aria-pressed", view.kind === kind);
    return made;
  };
  const all = new Set([...rows.values()].map(row => row.kind));
  const present = Object.keys(KINDS).filter(kind => all.has(kind)), focused = [...$("kinds").children].indexOf(document.activeElement);
  $("kinds").replaceChildren(...present.length > 1 || view.kind ? [button("", "all", matching.length), ...present.map(kind => button(kind, KINDS[kind], counted[kind] || 0))] : []);
  if (focused >= 0) $("kinds").children[focused]?.focus();
}

/* Draw the head and the first rows; a row that is the same as before is not drawn again. */
function table() {
  const all = columns(), focused = document.activeElement?.closest?.("#table tbody tr")?.dataset.id;
  const logged = shown.filter(row => LOGGED.has(row.kind)), some = logged.some(row => view.chosen.includes(row.id));
  const every = make("input", { type: "checkbox", checked: some, ariaLabel: some ? "choose none of these" : `choose these, at most ${MOST}`, onchange: () => {
    const ids = logged.map(row => row.id);
    view.chosen = some ? view.chosen.filter(id => !ids.includes(id)) : [...new Set([...view.chosen, ...ids])].slice(0, MOST);
    remember();
    choose();
  } });
  every.title = every.ariaLabel;
  const head = [make("th", { className: "tick" }, every), ...all.map(column => {
    const th = make("th", { className: `${column.n ? "n" : ""} ${column.name}`, scope: "col" }, make("button", { type: "button", textContent: column.name, onclick: () => sort(column.name) }));
    th.setAttribute("aria-sort", column.name !== view.sort ? "none" : view.down ? "descending" : "ascending");
    return th;
  })];
  const at = [...$("table").tHead.rows[0].cells].findIndex(th => th.contains(document.activeElement));
  $("table").tHead.rows[0].replaceChildren(...head);
  if (at >= 0) head[at]?.firstChild.focus();
  const layout = all.map(column => column.name).join();
  $("table").tBodies[0].replaceChildren(...shown.slice(0, limit).map(row => line(row, all, layout)));
  if (focused) [...$("table").tBodies[0].rows].find(tr => tr.dataset.id === focused)?.querySelector("input")?.focus({ preventScroll: true });
  $("rest").hidden = shown.length <= limit;
  $("rest").firstChild.textContent = `show ${count(Math.min(shown.length - limit, 500))} more of ${count(shown.length)}`;
  $("nothing").hidden = shown.length > 0;
  $("table").hidden = !rows.size;
  $("nothing").textContent = rows.size ? "Nothing matches this filter." : complete ?
    "There are no runs, sweeps, benchmarks or comparisons below this folder yet: dreamer train starts a first run." : "Looking …";
  const training = [...rows.values()].filter(row => row.status === "training" && LOGGED.has(row.kind)).length;
  $("count").textContent = `${shown.length === rows.size ? "" : `${count(shown.length)} of `}${count(rows.size)} ${rows.size === 1 ? "entry" : "entries"}` +
    (training ? `, ${count(training)} training` : "") + (complete ? "" : ", still looking …");
}

function line(row, all, layout) {
  const chosen = view.chosen.includes(row.id), before = lines.get(row.id);
  if (before && before.row === row && before.layout === layout && before.chosen === chosen) return before.tr;
  const tick = make("input", { type: "checkbox", checked: chosen, ariaLabel: `choose ${row.id}`, disabled: !LOGGED.has(row.kind) });
  tick.onchange = () => toggle(row.id);
  const cells = all.map(column => {
    const td = make("td", { className: `${column.n ? "n" : ""} ${column.className || column.name}` });
    const kept = td.className;
    column.cell(td, row);
    if (td.className !== kept) td.className += ` ${column.name}`;
    return td;
  });
  const tr = make("tr", { className: chosen ? "chosen" : "" }, make("td", { className: "tick" }, LOGGED.has(row.kind) ? tick : ""), ...cells);
  tr.dataset.id = row.id;
  tr.onclick = event => { if (!event.target.closest("a, button, input") && LOGGED.has(row.kind) && !String(getSelection())) toggle(row.id); };
  lines.set(row.id, { tr, row, layout, chosen });
  return tr;
}

/* Times pass also where nothing else changes. */
function ages() {
  for (const tr of $("table").tBodies[0].rows) {
    const row = rows.get(tr.dataset.id), td = tr.querySelector("td.changed");
    if (row && td && td.textContent !== ago(row.changed)) td.textContent = ago(row.changed);
  }
}

function sort(name) {
  view.down = view.sort === name ? !view.down : !["name", "task", "preset", "seed", "status"].includes(name);
  view.sort = name;
  remember();
  list();
}

function filter(text) {
  $("query").value = view.query = text;
  [view.kind, limit] = ["", FIRST];
  remember();
  list();
}

/* The chosen runs. */
function toggle(id) {
  if (view.chosen.includes(id)) view.chosen = view.chosen.filter(other => other !== id);
  else if (view.chosen.length < MOST) view.chosen.push(id);
  else { complain(new Error(`At most ${MOST} runs can be chosen at a time.`)); table(); return; }
  remember();
  choose();
}

const label = id => shortened(id) + (rows.get(id)?.acted_with ? `, acted with ${rows.get(id).acted_with}` : "");

const shortened = id => {
  const parts = id.split("/");
  for (let n = 1; n < parts.length; n++) {
    const end = parts.slice(-n).join("/");
    if (view.chosen.filter(other => other === end || other.endsWith("/" + end)).length === 1) return end;
  }
  return id;
};

async function choose() {
  view.chosen = view.chosen.filter(id => rows.has(id));
  const open = view.chosen.length > 0;
  $("chosen").hidden = !open;
  $("panes").className = open ? "chosen" : "";
  table();
  $("many").textContent = view.chosen.length === 1 ? "1 run" : `${view.chosen.length} runs`;
  chips();
  if (!open) return;
  try { await compare(); await learn(); } catch (error) { complain(error); }
}

/* The number of the line of a run, which several share that differ in their seed alone. */
const numberOf = id => {
  const group = view.grouped ? groups.findIndex(group => group.runs.includes(id)) : -1;
  return group < 0 ? view.chosen.indexOf(id) : group;
};

function chips() {
  $("runs").replaceChildren(...view.chosen.map(id => {
    const n = numberOf(id);
    return make("li", { title: id, onmouseenter: () => light(n), onmouseleave: () => light(null) }, swatch(n), make("span", { textContent: label(id) }),
      make("button", { type: "button", textContent: "×", ariaLabel: `remove ${id}`, onclick: () => toggle(id) }));
  }));
}

function light(n) {
  $("plots").className = n === null ? "" : "fade";
  document.querySelectorAll("#plots .lit").forEach(path => path.classList.remove("lit"));
  if (n !== null) document.querySelectorAll(`#plots .run${n}`).forEach(path => path.classList.add("lit"));
}

/* Ask for the curves of the chosen runs, and draw them. */
let lesson = 0;
async function learn() {
  const mine = ++lesson, wanted = view.curves.length ? view.curves : ["return", "success", "loss", "eval/return_mean"];
  const answer = await ask("/curves", { runs: view.chosen, curves: wanted, over: view.over });
  if (mine !== lesson) return;
  [curves, names] = [answer.curves, answer.names];
  const there = name => view.chosen.some(id => curves[id]?.[name]);
  if (!view.curves.length) view.curves = wanted.filter(there).slice(0, PLOTS);
  paint();
}

function paint() {
  const words = (x, brief) => view.over === "seconds" ? span(x) : brief ? short(x) : `${count(x)} ${view.over === "updates" ? "updates" : "steps"}`;
  for (const [name, plot] of plots) if (!view.curves.includes(name)) { plot.element.remove(); plots.delete(name); }
  for (const name of view.curves) {
    const one = id => ({ label: label(id), n: numberOf(id), x: curves[id][name][0], y: curves[id][name][1] });
    const drawn = view.grouped ? groups.flatMap(group => grouped(group, group.runs.filter(id => curves[id]?.[name]).map(one)))
      : view.chosen.filter(id => curves[id]?.[name]).map(one);
    if (!plots.has(name)) plots.set(name, new Plot(name, () => show(view.curves.filter(other => other !== name))));
    const plot = plots.get(name);
    if (!drawn.length) { plot.element.remove(); continue; }
    $("plots").append(...plot.element.isConnected ? [] : [plot.element]);
    plot.show(drawn, view.smooth, words);
  }
  const known = [...new Set(view.chosen.flatMap(id => names[id] || []))].filter(name => !view.curves.includes(name));
  $("more").replaceChildren(make("option", { value: "", textContent: "add …" }), ...known.map(name => make("option", { value: name, textContent: name })));
}

/* The lines of runs that differ in their seed alone: thin, and their mean. */
function grouped(group, members) {
  if (members.length < 2) return members;
  return [...members.map(line => ({ ...line, within: true })), { label: group.label, n: members[0].n, ...meanOf(members) }];
}

function show(list) {
  view.curves = list;
  remember();
  if (list.length) learn().catch(complain); else { plots.forEach(plot => plot.element.remove()); plots.clear(); paint(); }
}

/* In what the configurations of the chosen runs differ. */
async function compare() {
  const { runs, fields, differences } = await ask("/differences", { runs: view.chosen });
  group(runs, differences);
  if (runs.length < 2) { $("differences").replaceChildren(); return; }
  const title = make("h2", { textContent: "Configurations" });
  const same = make("p", { className: "quiet", textContent: differences.length ? `${differences.length} of ${fields} fields differ.` : `All ${fields} fields are the same.` });
  const head = make("tr", {}, make("th", { textContent: "field" }), ...runs.map(id => make("th", { title: id }, swatch(numberOf(id)), " ", label(id))));
  const body = differences.map(({ path, values }) => make("tr", {}, make("td", { textContent: path }), ...values.map(value => {
    const word = value === null ? "–" : text(value);
    return make("td", { textContent: word, title: word });
  })));
  const scroll = make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "differences of the configurations" }, make("table", {}, head, ...body));
  $("differences").replaceChildren(title, same, ...differences.length ? [scroll] : []);
}

/* Runs that differ in their seed alone, named by what sets them apart from the others. */
function group(runs, differences) {
  const apart = differences.filter(({ path }) => !["seed", "preset"].includes(path)), found = new Map();
  for (const id of view.chosen) {
    const values = runs.includes(id) ? apart.map(({ path, values }) => `${path.split(".").at(-1)}=${text(values[runs.indexOf(id)])}`) : [id];
    const key = values.join(", ");
    found.set(key, [...found.get(key) || [], id]);
  }
  groups = [...found].map(([key, runs]) => ({ runs, label: runs.length > 1 ? `${key ? `${key}: ` : ""}${runs.length} seeds` : label(runs[0]) }));
  $("grouping").hidden = groups.length === view.chosen.length;
  chips();
}

/* What a user does. */
let typing = null;
$("query").value = view.query;
$("query").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => { view.query = $("query").value; limit = FIRST; remember(); list(); }, 120);
};
$("smooth").value = view.smooth;
$("smooth").oninput = () => { view.smooth = +$("smooth").value; remember(); paint(); };
$("grouped").checked = view.grouped;
$("grouped").onchange = () => { view.grouped = $("grouped").checked; remember(); choose(); };
$("over").value = view.over;
$("over").onchange = () => { view.over = $("over").value; remember(); learn().catch(complain); };
$("more").onchange = () => show([...view.curves, $("more").value]);
$("clear").onclick = () => { view.chosen = []; remember(); choose(); $("query").focus(); };
$("rest").firstChild.onclick = () => { limit += 500; table(); };
$("list").addEventListener("scroll", () => {
  if ($("list").scrollTop + $("list").clientHeight > $("list").scrollHeight - 600 && shown.length > limit) { limit += 500; table(); }
});
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = document.activeElement;
  if (event.key === "/" && !["INPUT", "SELECT"].includes(at.tagName) || event.key === "/" && at.type === "checkbox") { event.preventDefault(); $("query").focus(); }
  if (event.key === "Escape" && at === $("query")) filter("");
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key], ticks = [...document.querySelectorAll("#table tbody input")];
  if (!by || !(at === $("query") || at.closest?.("#table"))) return;
  event.preventDefault();
  const now = ticks.indexOf(at);
  if (now === 0 && by < 0) $("query").focus(); else ticks[now + by]?.focus();
});
follow();
