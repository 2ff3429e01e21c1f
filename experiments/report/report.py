"""`dreamer report`: run folders in, one page out.

A run folder gets `report.html` and `card.json` (the numbers of its report card, with the updates after which
they were measured); several runs, or a population, get one page that compares them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json as jsonlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer import atomic, schema
from dreamer.agent import size
from dreamer.checkpoint import CheckpointError, CheckpointStore
from dreamer.config import Config, ReportConfig, load_toml
from dreamer.inspection import Episodes, Inspector
from dreamer.logger import read_rows
from dreamer.player import MEMBERS, Player
from dreamer.schema import ConfigError
from envs.draw import action_names
from envs.rollout import Episode
from experiments import learning_curve, machine, sidecar, statistics, surroundings
from experiments.agreement import agree, spaces
from experiments.benchmark import scores
from experiments.decoding import PROBE, nothing_decodes
from experiments.diagnosis import diagnosis, summary
from experiments.report import card as cards
from experiments.report import figures, page, representation, states, stories
from experiments.report.meanings import MEANINGS
from experiments.report.recording import record
from experiments.report.representation import Representation

SEED = 2**20
"""Of the first recorded episode: apart from those that evaluations play by default."""
CLIPS = 3
PAGE = "report.html"
PLANS = "discounted return of plans"
"""Title of the panel of runs that act with a planner."""
MEANING = hashlib.sha256(repr(MEANINGS).encode()).hexdigest()[:12]
"""Hash of the meanings of a card's numbers: a card with other meanings is measured again."""
OF_EPISODES = ("return", "success", "planned", "realised")
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Examination:
    """Everything measured of one agent, for its page."""

    card: cards.Card
    representation: Representation
    played: list[Episode]
    stories: list[dict[str, Any]]
    clips: list[dict[str, Any]]
    pictures: dict[str, str]

    @property
    def numbers(self) -> dict[str, float | None]:
        """{name in `MEANINGS`: value}."""
        return self.card.numbers | self.representation.numbers


class Examiner:
    """Plays with agents of one configuration on one task, and measures their world models.

    Use as a context manager: it keeps the environment open.
    """

    def __init__(self, cfg: Config):
        self.cfg = cfg
        num_envs = min(cfg.report.episodes, 16)
        self.env = states.opened(cfg, num_envs)
        self._player: Player | None = None
        self._inspector: Inspector | None = None

    def __enter__(self) -> Examiner:
        return self

    def __exit__(self, *_: object) -> None:
        self.env.close()

    def examine(self, player: Player, *, pictures: bool = True) -> Examination:
        """Play `report.episodes` episodes and measure the report card.

        Args:
          player: samples its actions as in training.
          pictures: also make what only the page of a single run shows.
        """
        cfg, report = self.cfg, self.cfg.report
        if self._player is None or self._inspector is None:
            self._player = player
            self._inspector = Inspector(player.agent, player.everything, player.numbers)
        else:  # compiled once for all agents of this configuration
            self._player.everything, self._player.numbers = player.everything, player.numbers
            self._inspector.params, self._inspector.numbers = player.everything, player.numbers
        seeds = range(SEED, SEED + report.episodes)
        played, episodes = record(self._player, self.env, seeds, max_steps=report.max_steps)
        gamma = 1 - 1 / cfg.agent.behavior.horizon
        card = cards.measure(
            self._inspector, episodes, context=report.context, horizon=report.horizon, gamma=gamma
        )
        held = representation.measure(self._inspector, episodes, card.readings.latent)
        if not pictures:
            return Examination(card, held, played, [], [], {})
        return Examination(
            card,
            held,
            played,
            self._stories(card, played, episodes, gamma),
            self._clips(card, episodes),
            figures.draw(card) | self._behaviour(card, episodes),
        )

    def _stories(
        self, card: cards.Card, played: list[Episode], episodes: Episodes, gamma: float
    ) -> list[dict[str, Any]]:
        assert self._inspector is not None
        names = action_names(self.cfg.task, self.env.act_space)
        common = self._inspector, self.env.obs_space, episodes, card
        return [stories.episode(*common, played[n], n, names, gamma) for n in stories.chosen(played)]

    def _clips(self, card: cards.Card, episodes: Episodes) -> list[dict[str, Any]]:
        assert self._inspector is not None
        report, spaces = self.cfg.report, self._inspector.agent.obs_space
        windows = cards.cut(episodes.length, report.context, report.horizon)
        order = np.argsort(-windows.steps, kind="stable")
        _, first = np.unique(windows.episode[order], return_index=True)  # one per episode
        longest = order[np.sort(first)[:CLIPS]]
        clips = []
        for w in longest:
            clip = stories.clip(self._inspector, spaces, episodes, card, windows, int(w), report.context)
            if clip is None:
                break
            truth, model = clip.pop("truth_values"), clip.pop("model_values")
            clip["curves"] = [
                figures.vectors(truth[k], model[k], clip["context"], k)
                for k, space in spaces.items()
                if not space.is_discrete and len(space.shape) == 1
            ]
            clips.append(clip)
        return clips

    def _behaviour(self, card: cards.Card, episodes: Episodes) -> dict[str, str]:
        names = action_names(self.cfg.task, self.env.act_space)
        if names is None or len(names) > 20:
            return {}
        return {"behaviour": figures.behaviour(names, stories.actions_by_value(episodes, card, names))}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The contents of a run folder: its configuration, logs and result."""

    folder: Path
    cfg: Config
    metrics: list[dict[str, Any]]
    episodes: list[dict[str, Any]]
    result: dict[str, Any]
    session: dict[str, Any]

    @property
    def name(self) -> str:
        """The display name of the run."""
        folder = self.folder.absolute()
        inside = folder.parent.name == MEMBERS
        return f"{folder.parent.parent.name}/{folder.name}" if inside else folder.name

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Environment steps and a metric, or the running mean of what is known of episodes (`OF_EPISODES`).

        Episodes count where they began (`experiments.learning_curve`).
        """
        if key in OF_EPISODES:
            return smooth(learning_curve.points(self.episodes, key))
        rows = [(row["env_steps"], row[key]) for row in self.metrics if isinstance(row.get(key), int | float)]
        return [float(x) for x, _ in rows], [float(y) for _, y in rows]


def smooth(points: Sequence[tuple[float, float]], window: int = 100) -> tuple[list[float], list[float]]:
    """The mean over the last `window` points at each of them, at most 400 of those.

    Points at the same steps are one: of some of them alone the mean would depend on their order.

    Args:
      points: (steps, value), the steps never decrease.
    """
    if not points:
        return [], []
    x, y = np.asarray(points, float).T
    total = np.concatenate([[0.0], np.cumsum(y)])
    ends = np.unique(np.linspace(1, len(y), min(len(y), 400)).astype(int))
    ends = np.unique(np.searchsorted(x, x[ends - 1], side="right"))
    starts = np.maximum(ends - window, 0)
    return list(x[ends - 1]), list((total[ends] - total[starts]) / (ends - starts))


def read_run(folder: Path) -> RunRecord:
    """Read a run folder, or that of a member.

    Raises:
      CheckpointError: it is not a run folder.
    """
    if not (folder / "config.toml").is_file():
        raise CheckpointError(f"{folder} is not a run folder (it has no config.toml).")
    sessions = surroundings.sessions(above(folder)) or [{}]
    return RunRecord(
        folder,
        load_toml(folder / "config.toml"),
        _rows(folder / "metrics.jsonl"),
        _rows(folder / "episodes.jsonl"),
        sidecar.read(folder / "result.json"),
        sessions[-1],
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return read_rows(path, "env_steps") if path.is_file() else []


def write_run(run: RunRecord, examination: Examination, player: Player, out: Path | None = None) -> Path:
    """The page of one run (by default in its folder), and the numbers of its card in its folder."""
    save_card(run, examination, player)
    if run.result.get("env_steps") != player.counters["env_steps"]:  # from before the run was resumed
        run = dataclasses.replace(run, result={})
    training = [row for row in run.episodes if row.get("kind", "train") == "train"]
    score, achievements = scores.divided(scores.of(run.cfg.task, training, player.counters["env_steps"]))
    kinds = [key for key in ("return", "success") if run.curve(key)[0]]
    panels = {key: [figures.Curve([run.curve(key)])] for key in kinds}
    if run.curve("planned")[0]:
        panels[PLANS] = [figures.Curve([run.curve(key)], key) for key in ("planned", "realised")]
    entropy = next((k for row in run.metrics for k in row if k.startswith("randomness/")), None)
    if entropy:
        panels["randomness of actions"] = [figures.Curve([run.curve(entropy)])]
    return page.write(
        out or run.folder / PAGE,
        "run.html",
        run=run,
        numbers=examination.numbers,
        counters=player.counters,
        parameters=size(player.everything),
        representation=examination.representation,
        losses=representation.objective_losses(run.cfg.agent.objective, run.metrics),
        missing=_missing(run.cfg.agent.objective),
        probe=PROBE,
        played=examination.played,
        success=_rate(examination.played),
        score=score,
        achievements=achievements,
        acted_with=learning_curve.acted_with(training),
        has_plans=PLANS in panels,
        diagnosis=_diagnosed(run, examination, player),
        pictures=examination.pictures | ({"curves": figures.curves(panels)} if panels else {}),
        stories=examination.stories,
        clips=[{k: v for k, v in clip.items() if k != "curves"} for clip in examination.clips],
        clip_curves=[curve for clip in examination.clips for curve in clip["curves"]],
        changes=page.preset_changes(run.cfg),
        config=schema.dump_toml(run.cfg),
    )


def _diagnosed(run: RunRecord, examination: Examination, player: Player) -> diagnosis.Diagnosis:
    """Why it does not learn, by what the page shows."""
    card = {**player.counters, "numbers": examination.numbers}
    rows = run.metrics, run.episodes, run.result, card
    return diagnosis.diagnose(summary.summarize(run.folder, run.cfg.task, run.cfg, *rows))


def _missing(objective: str) -> str:
    """What is said in place of decoded observations."""
    text = nothing_decodes(objective, "there is nothing to compare here")
    return f"{text[0].upper()}{text[1:]}."


def _rate(played: Sequence[Episode]) -> dict[str, Any] | None:
    known = [e.success for e in played if e.success is not None]
    if not known:
        return None
    return {"rate": float(np.mean(known)), "interval": statistics.wilson(sum(known), len(known))}


def save_card(run: RunRecord, examination: Examination, player: Player) -> None:
    """Write the numbers of a card, the counters they belong to, and the details of the representation."""
    counts = {**player.counters, "episodes": len(examination.played)}
    content = {**counts, "meaning": MEANING, "numbers": examination.numbers}
    content["representation"] = _details(run, examination)
    atomic.write(run.folder / "card.json", jsonlib.dumps(content, indent=1) + "\n")


def _details(run: RunRecord, examination: Examination) -> dict[str, Any]:
    held, loop = examination.representation, examination.card.open_loop
    losses = representation.objective_losses(run.cfg.agent.objective, run.metrics)
    steps = lambda errors: [float(x) if np.isfinite(x) else None for x in errors]
    return {
        "decoder": held.decoder,
        "alarm": held.alarm,
        "untrained_rank": held.untrained_rank,
        "error": {key: steps(errors) for key, errors in loop.error.items()},
        "probes": {name: probe._asdict() for name, probe in held.probes.items()},
        "objective": {loss.name: loss._asdict() for loss in losses},
    }


def numbers_of(runs: Sequence[RunRecord], say: Say) -> list[dict[str, float | None]]:
    """The numbers of every run's card: those in its folder if up to date, else measured."""
    import dreamer

    examiners: dict[str, Examiner] = {}
    numbers = []
    try:
        for run in runs:
            progress = CheckpointStore(above(run.folder) / "checkpoints").meta()["progress"]
            stored = sidecar.read(run.folder / "card.json")
            wanted = {k: progress[k] for k in ("env_steps", "updates")}
            wanted |= {"episodes": run.cfg.report.episodes, "meaning": MEANING}
            if wanted.items() <= {k: v for k, v in stored.items() if k != "numbers"}.items():
                numbers.append(stored["numbers"])
                continue
            say(f"{run.name}: playing {run.cfg.report.episodes} episodes and measuring the world model")
            player = dreamer.load(run.folder, actor="sampled")
            alike = schema.dump_toml(dataclasses.replace(run.cfg, seed=0))
            if alike not in examiners:
                examiners[alike] = Examiner(run.cfg)
            agree(str(run.folder), run.cfg.task, spaces(player.agent), examiners[alike].env)
            examination = examiners[alike].examine(player, pictures=False)
            save_card(run, examination, player)
            numbers.append(examination.numbers)
    finally:
        for examiner in examiners.values():
            examiner.env.close()
    return numbers


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    name: str
    runs: list[RunRecord]
    numbers: list[dict[str, float | None]]

    def mean(self, name: str) -> float | None:
        """Mean of one number of the card, over the seeds that have it."""
        values = [n[name] for n in self.numbers if n.get(name) is not None]
        return float(np.mean(values)) if values else None  # pyrefly: ignore

    def scores(self, key: str) -> list[float]:
        """`success_rate` or `return_mean` of every seed that was evaluated."""
        return [run.result[key] for run in self.runs if run.result.get(key) is not None]

    def summary(self, key: str) -> dict[str, float | None] | None:
        """Mean and interquartile mean over seeds, each with its interval where there are several."""
        values = self.scores(key)
        if not values:
            return None
        low, high = statistics.bootstrap(values) if len(values) > 1 else (None, None)
        mean = {"mean": float(np.mean(values)), "low": low, "high": high}
        low, high = statistics.iqm_interval([values]) if len(values) > 1 else (None, None)
        return mean | {"iqm": statistics.iqm(values), "iqm_low": low, "iqm_high": high}


def grouped(runs: Sequence[RunRecord], numbers: Sequence[dict[str, float | None]]) -> list[Group]:
    """Seeds of one configuration together, each group named by what sets it apart from the others."""
    plain = [dict(schema.values(dataclasses.replace(run.cfg, seed=0, preset=""))) for run in runs]
    differing = [k for k in plain[0] if len({repr(p[k]) for p in plain}) > 1]
    names = _names(plain, differing)
    groups: dict[str, Group] = {}
    for run, name, values in zip(runs, names, numbers, strict=True):
        group = groups.setdefault(name, Group(name, [], []))
        group.runs.append(run)
        group.numbers.append(values)
    if len(groups) == 1:
        (only,) = groups.values()
        label = runs[0].cfg.task if len(runs) > 1 else runs[0].name
        return [Group(label, only.runs, only.numbers)]
    return list(groups.values())


def _names(plain: Sequence[Mapping[str, Any]], differing: Sequence[str], most: int = 3) -> list[str]:
    """What sets each configuration apart, by the first few fields where those suffice."""
    last = [k.split(".")[-1] for k in differing]
    short = {k: name if last.count(name) == 1 else k for k, name in zip(differing, last, strict=True)}
    named = lambda fields: [", ".join(f"{short[k]}={p[k]}" for k in fields) for p in plain]
    whole, few = named(differing), named(differing[:most])
    suffice = len(differing) > most and len(set(few)) == len(set(whole))
    return [f"{name}, …" for name in few] if suffice else whole


def profiled(runs: Sequence[RunRecord]) -> dict[str, list[list[float]]]:
    """{setting: [tasks][seeds]} success rates: runs of one configuration on several tasks together.

    Empty unless every run was evaluated on a task that reports success.
    """
    if any(run.result.get("success_rate") is None for run in runs):
        return {}
    blank = [dataclasses.replace(run, cfg=dataclasses.replace(run.cfg, task="")) for run in runs]
    tasks = {id(run): original.cfg.task for run, original in zip(blank, runs, strict=True)}
    profiles = {}
    for group in grouped(blank, [{}] * len(runs)):
        scores: dict[str, list[float]] = {}
        for run in group.runs:
            scores.setdefault(tasks[id(run)], []).append(run.result["success_rate"])
        profiles[group.name or "all runs"] = list(scores.values())
    return profiles


def write_many(runs: Sequence[RunRecord], numbers: Sequence[dict[str, float | None]], out: Path) -> Path:
    """One page for several runs and the numbers of their cards."""
    groups = grouped(runs, numbers)
    keys = [k for k in ("return", "success") if any(run.curve(k)[0] for run in runs)]
    panels = {k: [figures.Curve([run.curve(k) for run in group.runs]) for group in groups] for k in keys}
    pictures = {"curves": figures.curves(panels)} if panels else {}
    if len(runs) > 1 and (profiles := profiled(runs)):
        pictures["profile"] = figures.profile(profiles)
    return page.write(
        out,
        "comparison.html",
        runs=runs,
        acted_with=learning_curve.acted_with(row for run in runs for row in run.episodes),
        groups=groups,
        meanings=MEANINGS,
        colors=figures.COLORS,
        pictures=pictures,
    )


def expanded(folders: Sequence[Path]) -> list[Path]:
    """Populations become their members.

    Raises:
      CheckpointError: a folder that is not there.
    """
    runs: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(f"There is no run folder {folder}.")
        members = sorted(p for p in (folder / MEMBERS).glob("*") if p.is_dir())
        runs += members or [folder]
    return runs


def report(
    folders: Sequence[Path],
    *,
    out: str = "",
    changes: Mapping[str, Any] | None = None,
    follow: bool = False,
    port: int = 0,
    json: bool = False,
) -> int:
    """Write the page of one run, or one that compares several; the exit code.

    Args:
      out: where to (empty: `report.html` in the folder of the run or population; of several runs, here).
      changes: fields of `ReportConfig` that override those of the runs.
      follow: serve the page of one run on `port`, and update it whenever the run saves.

    Raises:
      CheckpointError: a folder holds no agent.
      ConfigError: several runs are to be followed, the port is in use, or the page cannot be written.
    """
    machine.prepare()
    say = lambda text: print(text, file=sys.stderr)
    runs = [_changed(read_run(folder), changes or {}) for folder in expanded(folders)]
    path = Path(out) if out else (folders[0] if len(folders) == 1 else Path()) / PAGE
    _check_writable(path)
    for run in runs:
        surroundings.notice(run.folder, run.cfg)
    if follow:
        return _follow(runs, folders, path, port, say)
    began = time.perf_counter()
    if _is_one(runs, folders):
        measured: Any = {"numbers": _one(runs[0], path, say)}
    else:
        write_many(runs, numbers_of(runs, say), path)
        measured = {
            "runs": [{"run": str(run.folder)} | sidecar.read(run.folder / "card.json") for run in runs]
        }
    say(f"{path} ({path.stat().st_size / 2**20:.1f} MB, {time.perf_counter() - began:.0f} s)")
    if json:
        print(jsonlib.dumps({"report": str(path), **measured}))
    return 0


def _changed(run: RunRecord, changes: Mapping[str, Any]) -> RunRecord:
    """With other fields of `ReportConfig`; a run configured without a report gets one of the default size."""
    usual = {} if run.cfg.report.episodes else {"episodes": ReportConfig().episodes}
    report = dataclasses.replace(run.cfg.report, **{**usual, **changes})
    return dataclasses.replace(run, cfg=dataclasses.replace(run.cfg, report=report))


def _check_writable(path: Path) -> None:
    """Raise a ConfigError if the page cannot be written, before the measuring, which takes a while."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} exists and is not a file: name another --out, such as {PAGE}")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): name another --out") from None


def _is_one(runs: Sequence[RunRecord], folders: Sequence[Path]) -> bool:
    """Whether a single run was asked for, and not a population."""
    return len(runs) == 1 and list(folders) == [runs[0].folder]


def _follow(runs: Sequence[RunRecord], folders: Sequence[Path], path: Path, port: int, say: Say) -> int:
    from experiments.report.watch import watch

    if not _is_one(runs, folders):
        raise ConfigError(f"--watch follows one run, but these are {len(runs)}")
    (run,) = runs

    def make() -> Path:
        _one(dataclasses.replace(read_run(run.folder), cfg=run.cfg), path, say)
        return path

    return watch(CheckpointStore(above(run.folder) / "checkpoints"), make, port, say)


def above(folder: Path) -> Path:
    """The folder with the checkpoints of a run: that of the population for a member."""
    return folder.parent.parent if folder.parent.name == MEMBERS else folder


def _one(run: RunRecord, path: Path, say: Say) -> dict[str, float | None]:
    """Write the page of a run; the numbers of its card."""
    import dreamer

    player = dreamer.load(run.folder, actor="sampled")
    say(f"{run.name}: playing {run.cfg.report.episodes} episodes and measuring the world model")
    with Examiner(run.cfg) as examiner:
        agree(str(run.folder), run.cfg.task, spaces(player.agent), examiner.env)
        examination = examiner.examine(player)
    write_run(run, examination, player, path)
    return examination.numbers
