"""Benchmarks whose runs take no time: hand-made logs in run folders, as training leaves them behind."""

import json
from collections.abc import Callable
from pathlib import Path

from dreamer import atomic, schema
from dreamer.config import AgentConfig, Config
from experiments.benchmark.runs import Benchmark, Plan, prepare
from experiments.sweep.trial import Part, TrialFailed

WALKER, REACHER = "dmc:walker-walk", "dmc:reacher-easy"


def plan(suite: str, *tasks: str, seeds: int = 1, steps: int = 30_000, **changes) -> Plan:
    cfg = schema.replace_paths(Config(task=tasks[0], steps=steps, agent=AgentConfig()), changes)
    return Plan(suite, tasks, seeds, cfg)


def store(part: Part, episodes: list[dict], steps: int | None = None, *, done: bool = True) -> None:
    """A run folder: its episodes, how far it is, and its result where it is done."""
    part.folder.mkdir(parents=True, exist_ok=True)
    atomic.write(part.folder / "config.toml", schema.dump_toml(part.cfg))
    lines = "".join(json.dumps({"length": 1, "success": None, **row}) + "\n" for row in episodes)
    atomic.write(part.folder / "episodes.jsonl", lines)
    steps = part.cfg.steps if steps is None else steps
    atomic.write(part.folder / "metrics.jsonl", json.dumps({"env_steps": steps}) + "\n")
    sessions = {"sessions": [{"versions": {"jax": "0.10.2"}}]}
    atomic.write(part.folder / "environment.json", json.dumps(sessions))
    if done:
        result = {
            "env_steps": steps,
            "return_mean": 5.0,
            "success_rate": None,
            "sampled": {"return_mean": 4.0},
        }
        atomic.write(part.folder / "result.json", json.dumps(result))


def flat(value: float, steps: int = 30_000, **more) -> list[dict]:
    """Episodes of a thousand steps with one return."""
    return [{"env_steps": at, "return": value, **more} for at in range(1000, steps + 1, 1000)]


def made(folder: Path, told: Plan, value: Callable[[Part], float | None]) -> Benchmark:
    """A benchmark whose runs had one return throughout; None for a run that has not begun."""
    bench = prepare(folder, told)
    for part in bench.parts:
        height = value(part)
        if height is not None:
            store(part, flat(height, part.cfg.steps))
    return bench


def instant(part: Part, ended: Callable[[], bool], lock: int) -> None:
    """A trainer that needs no time; seed 7 fails."""
    if part.cfg.seed == 7:
        raise TrialFailed("loss/total is nan")
    store(part, flat(float(part.cfg.seed), part.cfg.steps, success=True))
