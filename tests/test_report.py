"""The page about a run is one file that says what was measured, and of what."""

import dataclasses
import html
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import pytest
import test_run
import tiny

import envs
from dreamer import schema
from dreamer.agent import Agent
from dreamer.config import load_toml
from dreamer.logger import read_rows
from envs.adapters import minigrid
from experiments import presets, statistics
from experiments.cli import main
from experiments.report import page, report
from experiments.report.meanings import MEANINGS
from experiments.report.report import Examination, Examiner
from experiments.training import run

pytestmark = pytest.mark.usefixtures("compilation_cache")
SMALL = {"report__episodes": 2, "report__max_steps": 8, "report__context": 2, "report__horizon": 3}
STRANGE = '<b>&"'
"""A name that is not to become part of the page's own text."""
ROOM = "minigrid:MiniGrid-Empty-5x5-v0"
SESSION = {
    "time": "2026-01-02T03:04:05Z",
    "command": f"dreamer train --run {STRANGE}",
    "cpus": 2,
    "devices": ["cpu:0"],
    "python": "3.11.1",
    "versions": {"jax": "0.10"},
    "commit": None,
}


class Reported(NamedTuple):
    """A run folder, what was printed of it, and what was found."""

    run: Path
    printed: dict[str, Any]
    found: Examination

    @property
    def page(self) -> str:
        return (self.run / "report.html").read_text()


@cache
def newborn(task: str):
    """An agent for a task, which has learned nothing, and its state."""
    env = envs.make(task, 1)
    agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    env.close()
    return agent, jax.jit(agent.init)(jax.random.key(0))


def untrained(folder: Path, **changes) -> Path:
    """A run folder with an agent that has learned nothing."""
    agent, state = newborn(ROOM)
    tiny.store(folder, state, agent, **{"task": ROOM, "preset": "quickstart", **SMALL, **changes})
    (folder / "environment.json").write_text(json.dumps({"sessions": [{}, SESSION]}))
    return folder


def reported(folder: Path, make: Callable[[], int]) -> Reported:
    """What `make` prints and finds."""
    seen, examine = [], Examiner.examine
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.setattr(Examiner, "examine", lambda *told: seen.append(examine(*told)) or seen[-1])
        assert make() == 0
    return Reported(folder, json.loads(out.getvalue()), seen[-1])


@pytest.fixture(scope="module")
def room(tmp_path_factory, compilation_cache) -> Reported:
    """An agent that has learned nothing, on a Gymnasium environment, with pictures."""
    folder = untrained(tmp_path_factory.mktemp("runs") / "room")
    return reported(folder, lambda: main(["report", str(folder), "--json"]))


@pytest.fixture(scope="module")
def ended(tmp_path_factory, compilation_cache) -> Reported:
    """A run in the loop of the device that ended, without pictures; the folder has a strange name."""
    folder = tmp_path_factory.mktemp("runs") / STRANGE
    return reported(folder, lambda: run.train(small(report__every=64), folder, json=True))


@pytest.fixture(params=["room", "ended"])
def either(request) -> Reported:
    return request.getfixturevalue(request.param)


@pytest.fixture
def asked(monkeypatch, room) -> list[str]:
    """Which configurations are examined from now on, each with what was found in the room."""
    names = []
    agent, _ = newborn(ROOM)
    world = SimpleNamespace(obs_space=agent.obs_space, act_space=agent.act_space, close=str)

    def examine(self, player, *, pictures=True):
        names.append(f"{self.cfg.task} {self.cfg.report.episodes}")
        return room.found

    monkeypatch.setattr(Examiner, "__init__", lambda self, cfg: vars(self).update(cfg=cfg, env=world))
    monkeypatch.setattr(Examiner, "examine", examine)
    return names


def escaped(text: str) -> str:
    """Text as a page has it."""
    return html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


# The page of one run.


def test_report_page_loads_no_external_resource(either):
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", either.page)
    assert not re.findall(r"https?:|@import|<link[^>]*stylesheet|<iframe", text)
    for found in re.findall(r"""\b(?:src|href)\s*=\s*["']?([^"'\s>]*)""", text):
        assert found.startswith(("data:", "#"))
    assert "<base" not in text and "srcset" not in text


def test_report_page_shows_every_number_of_the_card(either):
    assert re.findall(r'<tr data-name="(\w+)"', either.page) == list(MEANINGS)
    for name, meaning in MEANINGS.items():
        assert html.escape(meaning.title) in either.page
        row = either.page.partition(f'data-name="{name}"')[2].partition("</tr>")[0]
        assert f'<td class="n">{page.number(either.found.numbers[name])}</td>' in row


def test_write_run_of_crafter_lists_score_and_every_achievement(room, tmp_path):
    """Two episodes, of which one unlocked the second achievement: 0 and 50 percent."""
    unlocked = [[0, 1], [0, 0]]
    rows = [{"env_steps": 9, "return": 3.0, "success": None, "log": {"achievements": x}} for x in unlocked]
    run = report.read_run(room.run)
    cfg = dataclasses.replace(run.cfg, task="crafter:reward")
    run = dataclasses.replace(run, folder=tmp_path, cfg=cfg, episodes=rows)
    player = SimpleNamespace(counters={"env_steps": 10, "updates": 1}, everything={})
    text = report.write_run(run, room.found, player).read_text()
    assert re.findall(r"<tr><td>(\d)</td><td class=\"n\">(\d+)</td></tr>", text) == [("0", "0"), ("1", "50")]
    assert "crafter score" in text and f"<b>{page.number(51**0.5 - 1)}</b>" in text
    assert "achievements" not in room.page


def test_report_page_says_what_the_doctor_says(either, capsys):
    assert main(["doctor", "--run", str(either.run), "--json"]) == 0
    diagnosed = json.loads(capsys.readouterr().out)
    section = either.page.partition("<h2>Diagnosis</h2>")[2].partition("<h2>")[0]
    assert f'<p id="headline">{escaped(diagnosed["headline"])}</p>' in section
    rules = re.findall(r'<li data-rule="(\w+)"', section)
    assert rules == [finding["rule"] for finding in diagnosed["findings"]] and rules
    for finding in diagnosed["findings"]:
        assert escaped(finding["sentence"]) in section and escaped(finding["evidence"]) in section
    for note in diagnosed["notes"]:
        assert escaped(note) in section


def test_report_page_shows_config_command_and_versions(either):
    config = re.search(r"<pre>(.*?)</pre>", either.page, re.DOTALL)
    assert config and html.unescape(config[1]) == (either.run / "config.toml").read_text()
    session = json.loads((either.run / "environment.json").read_text())["sessions"][-1]
    assert f"<code>{escaped(session['command'])}</code>" in either.page
    assert f"JAX {session['versions']['jax']}, commit {session['commit'] or 'unknown'}" in either.page
    steps = presets.build("quickstart").steps, load_toml(either.run / "config.toml").steps
    assert "<code>steps</code></td><td>{}</td><td>{}</td>".format(*steps) in either.page


def test_report_card_json_equals_the_page(either):
    card = json.loads((either.run / "card.json").read_text())
    assert card["episodes"] == 2 and card["env_steps"] in (128, 160)
    assert card["numbers"] == either.found.numbers and card["numbers"]["surprise"] > 0
    error = {key: by_step.tolist() for key, by_step in either.found.card.open_loop.error.items()}
    assert card["representation"]["error"] == json.loads(json.dumps(error).replace("NaN", "null"))
    assert either.printed["report"] == str(either.run / "report.html")
    assert f"<b>{card['updates']}</b><span>updates" in either.page


def test_report_command_prints_the_numbers(room):
    assert room.printed.keys() == {"report", "numbers"}
    assert room.printed["numbers"] == room.found.numbers


def test_report_page_special_characters_are_escaped(room, ended):
    assert f"<title>{escaped(STRANGE)}</title>" in ended.page
    for text in (room.page, ended.page):
        assert STRANGE not in text and STRANGE in html.unescape(text)


def test_report_page_embeds_every_episode_and_clip(either):
    told = {
        name: json.loads(re.search(rf'<script id="{name}"[^>]*>(.*?)</script>', either.page, re.DOTALL)[1])
        for name in ("episodes", "clip-data")
    }
    assert len(told["episodes"]) == len(either.found.played)
    for episode, played in zip(
        sorted(told["episodes"], key=lambda e: e["seed"]), either.found.played, strict=True
    ):
        assert episode["seed"] == played.seed and episode["length"] == played.length
        assert len(episode["actions"]) == played.length + 1
    assert len(told["clip-data"]) == len(either.found.clips) > 0


def test_embedded_script_end_in_the_data_is_escaped():
    data = {"name": "</script><script>alert(1)</script>&amp;"}
    assert "<" not in page.embedded(data) and json.loads(page.embedded(data)) == data


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.5, "0.5"), (0.12345, "0.123"), (12345.6, "12,346"), (-2000, "-2,000")]
)
def test_number_values_are_formatted_briefly(value, text):
    assert page.number(value) == text


def test_preset_changes_unknown_preset_is_empty():
    cfg = presets.build("cartpole")
    assert page.preset_changes(cfg) == []
    assert page.preset_changes(dataclasses.replace(cfg, seed=3)) == [("seed", 0, 3)]
    assert page.preset_changes(dataclasses.replace(cfg, preset="mine")) == []


def test_smooth_points_give_a_running_mean_of_limited_length():
    points = [(10 * i, float(i)) for i in range(5)]
    assert report.smooth(points, window=2) == ([0, 10, 20, 30, 40], [0, 0.5, 1.5, 2.5, 3.5])
    assert report.smooth([]) == ([], [])
    assert report.smooth([(0, 1.0), (0, 0.0), (8, 1.0)], window=2) == ([0, 8], [0.5, 0.5])
    assert len(report.smooth([(i, 1.0) for i in range(1000)])[0]) == 400


# What is told of a run, with and without its result.


def result_of(folder: Path, env_steps: int) -> None:
    result = {"env_steps": env_steps, "episodes": 100, "success_rate": 0.75, "success_interval": [0.65, 0.83]}
    (folder / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize(("env_steps", "finished"), [(160, True), (80, False)])
def test_report_result_is_shown_only_for_the_newest_checkpoint(tmp_path, asked, env_steps, finished):
    result_of(untrained(tmp_path / "run"), env_steps)
    assert main(["report", f"{tmp_path}/run"]) == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert ("75.0%" in text) == finished
    assert ("This run has not finished" in text) != finished


def test_report_training_section_needs_logged_episodes(tmp_path, asked):
    folder = untrained(tmp_path / "run")
    assert main(["report", str(folder)]) == 0
    assert "How training went" not in (folder / "report.html").read_text()
    rows = [{"env_steps": i, "return": 1.0, "success": True, "length": 3} for i in range(9)]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["report", str(folder)]) == 0
    assert "How training went" in (folder / "report.html").read_text()


def test_report_command_run_without_report_episodes_uses_default_or_option(tmp_path, asked):
    folder = untrained(tmp_path / "run", report__episodes=0)
    assert main(["report", str(folder)]) == 0
    assert main(["report", str(folder), "--episodes", "5"]) == 0
    assert asked == [f"{ROOM} 32", f"{ROOM} 5"]


def test_report_command_with_out_writes_there_only(tmp_path, asked, capsys):
    folder = untrained(tmp_path / "run")
    (folder / "report.html").write_text("as it was")
    assert main(["report", str(folder), "--out", f"{tmp_path}/other.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == f"{tmp_path}/other.html"
    assert (folder / "report.html").read_text() == "as it was"
    assert "Report card" in (tmp_path / "other.html").read_text()


def test_report_title_of_current_folder_is_its_name(tmp_path, asked, monkeypatch):
    monkeypatch.chdir(untrained(tmp_path / "here"))
    assert main(["report", "."]) == 0
    assert "<title>here</title>" in Path("report.html").read_text()


def test_report_page_shows_the_note_of_the_task(tmp_path, asked, monkeypatch):
    folder = untrained(tmp_path / "run")
    monkeypatch.setattr(minigrid, "note", lambda name: f"{name} & others", raising=False)
    assert main(["report", str(folder)]) == 0
    both = report.write_many([report.read_run(folder)] * 2, [{}] * 2, tmp_path / "both.html")
    for path in (folder / "report.html", both):
        assert path.read_text().count('<p class="note">MiniGrid-Empty-5x5-v0 &amp; others</p>') == 1


# Several runs.


CARD = {"env_steps": 160, "updates": 40, "episodes": 2, "meaning": report.MEANING}
"""What a card says of what it is of."""


def carded(folder: Path, numbers: dict[str, float], **changes) -> Path:
    """A run whose card is that of its newest checkpoint."""
    untrained(folder, **changes)
    (folder / "card.json").write_text(json.dumps(CARD | {"numbers": numbers}))
    return folder


def headings(path: Path) -> list[str]:
    """The groups of a comparison."""
    row = path.read_text().partition('<table id="cards">')[2].partition("</tr>")[0]
    return [html.unescape(name) for name in re.findall(r"<th[^>]*>(.*?)</th>", row)[1:-1]]


def values(path: Path, name: str) -> list[str]:
    """One number of the card, of every group."""
    row = path.read_text().partition(f'<tr data-name="{name}">')[2].partition("</tr>")[0]
    return re.findall(r'<td class="n">(.*?)</td>', row)


def compare(capsys, *words: str) -> dict[str, Any]:
    """What `dreamer report --json` prints of several runs."""
    assert main(["report", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_write_many_success_of_several_seeds_has_an_interval(tmp_path, asked, capsys):
    for i, rate in enumerate((0.5, 1.0, 0.75)):
        folder = carded(tmp_path / f"run{i}", {}, seed=i, steps=1000 + i // 2)
        (folder / "result.json").write_text(json.dumps({"success_rate": rate}))
    compare(capsys, *(f"{tmp_path}/run{i}" for i in range(3)), "--out", f"{tmp_path}/all.html")
    table = (tmp_path / "all.html").read_text().partition('<table id="results">')[2].partition("</table>")[0]
    assert re.findall(r'<td class="n">([\d.]+%)(?:<small>(.*?)</small>)?</td>', table) == [
        ("75.0%", "[50.0%, 100.0%]"),
        ("75.0%", ""),
    ]


def test_write_many_returns_show_interquartile_mean_with_interval(tmp_path, asked, capsys):
    returns = (0.0, 0.5, 0.75, 10.0)
    for i, value in enumerate(returns):
        folder = carded(tmp_path / f"run{i}", {}, seed=i)
        (folder / "result.json").write_text(json.dumps({"return_mean": value}))
    compare(capsys, *(f"{tmp_path}/run{i}" for i in range(4)), "--out", f"{tmp_path}/all.html")
    text = (tmp_path / "all.html").read_text()
    table = text.partition('<table id="results">')[2].partition("</table>")[0]
    low, high = statistics.iqm_interval([returns])
    interval = f"<small>[{page.number(low)}, {page.number(high)}]</small>"
    assert f'<td class="n">0.625{interval}</td></tr>' in table
    assert "Performance profile" not in text


def test_write_many_one_setting_on_several_tasks_has_one_profile(tmp_path, asked, capsys):
    rates = {"5x5": (0.5, 1.0), "6x6": (0.25,)}
    folders = []
    for name, own in rates.items():
        for seed, rate in enumerate(own):
            folder = untrained(tmp_path / f"{name}{seed}", task=f"minigrid:Empty-{name}", seed=seed)
            (folder / "result.json").write_text(json.dumps({"success_rate": rate}))
            folders.append(folder)
    told = [report.read_run(folder) for folder in folders]
    assert report.profiled(told) == {"all runs": [[0.5, 1.0], [0.25]]}
    faster = [dataclasses.replace(run, cfg=dataclasses.replace(run.cfg, steps=99)) for run in told[:1]]
    assert [*report.profiled(told + faster).values()] == [[[0.5, 1.0], [0.25]], [[0.5]]]
    assert report.profiled([*told, dataclasses.replace(told[0], result={})]) == {}
    path = report.write_many(told, [{}] * 3, tmp_path / "all.html")
    assert path.read_text().count("Performance profile") == 1


def test_report_command_seeds_of_one_config_form_one_group(tmp_path, asked, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        carded(tmp_path / f"run{seed}", {"surprise": 1.0 + seed}, seed=seed)
    printed = compare(capsys, "run0", "run1")
    path = tmp_path / "report.html"
    assert printed["report"] == "report.html"
    assert [told["run"] for told in printed["runs"]] == ["run0", "run1"]
    assert [told["numbers"]["surprise"] for told in printed["runs"]] == [1.0, 2.0]
    assert headings(path) == [ROOM]
    assert values(path, "surprise") == ["1.5"] and values(path, "randomness") == ["–"]
    assert asked == []


def test_report_command_groups_are_named_by_their_differing_fields(tmp_path, asked, capsys):
    for i, lr in enumerate((1e-2, 1e-2, 3e-4)):
        carded(tmp_path / f"run{i}", {"surprise": float(i)}, seed=i, agent__optim__lr=lr, preset=f"p{i}")
    compare(capsys, *(f"{tmp_path}/run{i}" for i in range(3)), "--out", f"{tmp_path}/all.html")
    assert headings(tmp_path / "all.html") == ["lr=0.01", "lr=0.0003"]
    assert values(tmp_path / "all.html", "surprise") == ["0.5", "2"]
    text = (tmp_path / "all.html").read_text()
    assert "3 runs, 2 configurations" in text and not re.search(r"https?:(?!//www.w3.org)", text)


def names(*configurations: dict) -> list[str]:
    """What configurations are called that differ from a preset in some fields."""
    cfg = dict(schema.values(presets.build("quickstart")))
    plain = [cfg | {k.replace("__", "."): v for k, v in c.items()} for c in configurations]
    return report._names(plain, [k for k in cfg if len({repr(p[k]) for p in plain}) > 1])


def test_names_differing_fields_are_shortened_and_unambiguous():
    assert names({"agent__encoder__layers": 1}, {"agent__encoder__layers": 2}) == ["layers=1", "layers=2"]
    both = {"agent__encoder__layers": 7, "agent__decoder__layers": 8}
    assert names({}, both)[1] == "agent.encoder.layers=7, agent.decoder.layers=8"
    many = {"task": "a:b", "steps": 5, "agent__rssm__deter": 8, "agent__rssm__stoch": 2}
    assert names({}, many)[1] == "task=a:b, steps=5, deter=8, …"
    assert names({}, many, {**many, "agent__rssm__stoch": 3})[1] == "task=a:b, steps=5, deter=8, stoch=2"


def test_report_command_population_compares_its_members(tmp_path, asked, capsys):
    whole = untrained(tmp_path / "all", population__seeds=2)
    cfg = load_toml(whole / "config.toml")
    for i in range(2):
        member = whole / "members" / f"{i:03d}"
        member.mkdir(parents=True)
        own = schema.replace_paths(cfg, {"population.seeds": 1, "seed": i})
        (member / "config.toml").write_text(schema.dump_toml(own))
        (member / "card.json").write_text(json.dumps(CARD | {"numbers": {"surprise": float(i)}}))
    printed = compare(capsys, str(whole))
    assert printed["report"] == f"{whole}/report.html"
    assert values(whole / "report.html", "surprise") == ["0.5"]
    other = carded(tmp_path / "other", {"surprise": 4.0}, steps=2000)
    compare(capsys, str(whole), str(other), "--out", f"{tmp_path}/both.html")
    assert headings(tmp_path / "both.html") == ["steps=1000", "steps=2000"]
    assert values(tmp_path / "both.html", "surprise") == ["0.5", "4"]


@pytest.mark.parametrize(
    ("changed", "words", "measured"),
    [
        ({}, [], 0),
        ({"env_steps": 80}, [], 1),
        ({"updates": 39}, [], 1),
        ({"episodes": 9}, [], 1),
        ({"meaning": "another"}, [], 1),
        ({}, ["--episodes", "3"], 2),
    ],
)
def test_report_command_outdated_card_is_measured_again(tmp_path, asked, capsys, changed, words, measured):
    for i in range(2):
        carded(tmp_path / f"run{i}", {"surprise": 99.0}, seed=i)
    card = tmp_path / "run0" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | changed))
    runs = [f"{tmp_path}/run{i}" for i in range(2)]
    printed = compare(capsys, *runs, "--out", f"{tmp_path}/page.html", *words)
    fresh = [told["numbers"] != {"surprise": 99.0} for told in printed["runs"]]
    assert len(asked) == measured and fresh == [measured > 0, measured > 1]


# What cannot be.


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with two runs, one without checkpoints, and something else."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "run2"):
        carded(Path(name), {})
    empty = untrained(Path("empty")) / "checkpoints"
    empty.rename(tmp_path / "away")
    Path("else").mkdir()
    Path("pipe").symlink_to("/dev/null")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "dreamer report needs the folder of a run"),
        ("none", "There is no run folder none."),
        ("else", "else is not a run folder (it has no config.toml)."),
        ("run else", "else is not a run folder"),
        ("empty", "there is no checkpoint folder"),
        ("run empty", "there is no checkpoint folder"),
        ("run run2 --watch", "--watch follows one run, but these are 2"),
        ("run --out none/page.html", "none/page.html cannot be written (No such file or directory)"),
        ("run run2 --out else", "else exists and is not a file: name another --out"),
        ("run --out pipe", "pipe exists and is not a file: name another --out"),
        ("run --episodes -1", "episodes must be a whole number of at least 0, but it is -1"),
    ],
)
def test_report_command_invalid_arguments_are_refused_before_measuring(place, asked, capsys, words, sentence):
    assert main(["report", *words.split()]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "measuring the world model" not in line]
    assert out == "" and len(lines) == 1 and lines[0].startswith("dreamer: ") and sentence in lines[0]
    assert asked == [] and not Path("report.html").exists()


# At the end of a run, and in between.


def small(**changes):
    task = {"task": "grid:Catch", "steps": 128, "loop__prefill": 32, "eval__episodes": 4}
    return test_run.change(preset="quickstart", **{**task, **SMALL, **changes})


def trained(folder: Path, capsys, **changes) -> dict[str, Any]:
    """What `dreamer train --json` prints of a small run, and what it says."""
    assert run.train(small(**changes), folder, json=True) == 0
    out, err = capsys.readouterr()
    return json.loads(out) | {"said": err}


def test_train_with_reports_logs_them_during_and_at_the_end(ended):
    rows = [row for row in read_rows(ended.run / "metrics.jsonl") if "report/surprise" in row]
    assert [row["env_steps"] for row in rows] == [64, 128]
    told = {f"report/{k}": v for k, v in ended.found.numbers.items() if v is not None}
    assert told.items() <= rows[1].items() and rows[0]["report/surprise"] != rows[1]["report/surprise"]
    assert "This run has not finished" not in ended.page
    assert ended.printed["env_steps"] == 128 and "seconds" in ended.printed


def test_train_without_report_episodes_writes_no_report(tmp_path, ended, asked, capsys):
    folder = tmp_path / "run"
    shutil.copytree(ended.run, folder)
    for name in ("report.html", "card.json", "result.json"):
        (folder / name).unlink()
    printed = trained(folder, capsys, report__episodes=0, report__every=10, steps=192)
    assert asked == [] and "report" not in printed and printed["env_steps"] == 192
    assert not {"report.html", "card.json"} & {p.name for p in folder.iterdir()}


@pytest.mark.parametrize(
    ("error", "sentence", "traceback"),
    [
        (OSError(28, "No space left on device"), "([Errno 28] No space left on device)", False),
        (envs.EnvError("the world\nbroke"), "(the world broke)", False),
        (ZeroDivisionError("division by zero"), "(ZeroDivisionError: division by zero)", True),
    ],
)
def test_train_failing_report_keeps_the_result(ended, capsys, monkeypatch, error, sentence, traceback):
    def fail(self, cfg):
        raise error

    monkeypatch.setattr(Examiner, "__init__", fail)
    printed = trained(ended.run, capsys, report__every=64)
    assert printed["env_steps"] == 128 and "report" not in printed
    assert f"there is no report {sentence}; try again with: dreamer report {ended.run}" in printed["said"]
    assert ("Traceback" in printed["said"]) == traceback
