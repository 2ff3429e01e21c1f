"""Comparisons of objectives whose runs take no time: hand-made logs, as training leaves them behind."""

import json
from collections.abc import Callable

import tiny

from dreamer import atomic, schema
from experiments.objectives.runs import Plan
from experiments.sweep.trial import Part, TrialFailed

TASK = "probe:chosen"


def plan(*objectives: str, seeds: int = 1, steps: int = 1000, **changes) -> Plan:
    cfg = schema.replace_paths(tiny.RUN, {"task": TASK, "steps": steps, "agent.objective": objectives[0]})
    return Plan(objectives, seeds, schema.replace_paths(cfg, changes))


def store(
    part: Part,
    *,
    score: float = 0.5,
    curve: Callable[[int], float] = lambda steps: 1.0,
    cpu: float = 10.0,
    error: list[float | None] | None = None,
    steps: int | None = None,
    success: bool = True,
) -> None:
    """A run folder: an episode and a row of CPU time every 100 steps, and its result where it is done.

    Args:
      score: its greedy success (or return); half of that sampled.
      curve: return, or share of successes as 0 or 1, of a training episode.
      cpu: CPU seconds from the first row, at step 0, to the last; compiling before it took 99.
      error: of open-loop predictions.
      steps: so far (default: all).
    """
    folder, total = part.folder, part.cfg.steps
    steps = total if steps is None else steps
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / "config.toml", schema.dump_toml(part.cfg))
    lines = lambda rows: "".join(json.dumps(row) + "\n" for row in rows)
    at = range(100, steps + 1, 100)
    known = lambda value: bool(value) if success else None
    episodes = [{"env_steps": t, "return": curve(t), "length": 1, "success": known(curve(t))} for t in at]
    atomic.write(folder / "episodes.jsonl", lines(episodes))
    clock = [{"env_steps": t, "cpu_seconds": 99 + cpu * t / total} for t in range(0, steps + 1, 100)]
    atomic.write(folder / "metrics.jsonl", lines([{"env_steps": 0, "loss": 1.0}, *clock]))
    if error is not None:
        card = {"numbers": {"prediction_skill": 0.25}, "representation": {"error": {"a": error, "b": error}}}
        atomic.write(folder / "card.json", json.dumps(card))
    if steps == total:
        numbers = {"return_mean": score, "return_interval": [score - 0.1, score + 0.1]}
        if success:
            numbers |= {"success_rate": score, "success_interval": [score - 0.2, score + 0.2]}
        result = {"env_steps": steps, "peak_mb": 100 + part.cfg.seed, "cpu_seconds": 99 + cpu, **numbers}
        half = {key: score / 2 for key in ("return_mean", "success_rate") if key in numbers}
        atomic.write(folder / "result.json", json.dumps(result | {"sampled": half}))


def instant(part: Part, ended: Callable[[], bool], lock: int) -> None:
    """A trainer that needs no time; `none` with seed 7 fails."""
    if part.cfg.seed == 7 and part.cfg.agent.objective == "none":
        raise TrialFailed("loss/total is nan")
    store(part)
