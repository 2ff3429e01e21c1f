"""What a run did, read once from its folder: the typed summary that every rule looks at.

    config.toml        or ppo.json of a PPO run
    metrics.jsonl      rows of updates; broken lines are skipped
    episodes.jsonl     training episodes
    result.json        evaluations at the end, left out where the run was resumed since
    card.json          the report card, left out where the run learned on since

Old and damaged folders have fewer of these: what is missing is None or empty, and rules about it are silent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dreamer import schema
from dreamer.config import Config, load_toml
from dreamer.logger import read_rows
from dreamer.schema import ConfigError
from experiments import sidecar, statistics
from experiments.baselines.ppo.presets import PPOConfig
from experiments.diagnosis.limits import CLEAR, LATE, LIMIT_SEEN, MOST, SOLVED, START

Outcome = Literal["learned", "improved", "not learned", "unclear"]
Row = Mapping[str, Any]
MEMBERS = "members"


class Played(NamedTuple):
    """An evaluation."""

    episodes: int
    success: float | None
    success_interval: tuple[float, float] | None
    return_: float
    return_interval: tuple[float, float]
    length: float
    cut: int
    """Episodes that were cut short."""

    def estimate(self, *, by_success: bool) -> statistics.Estimate | None:
        """Its success or return with the 95% interval; None where success is not reported."""
        if not by_success:
            return statistics.Estimate(self.return_, *self.return_interval)
        if self.success is None or self.success_interval is None:
            return None
        return statistics.Estimate(self.success, *self.success_interval)

    @classmethod
    def of(cls, row: Any) -> Played | None:
        """From a summary of `experiments.evaluate`; None where it is incomplete."""
        try:
            rate, interval = row.get("success_rate"), row.get("success_interval")
            return cls(
                int(row["episodes"]),
                None if rate is None else float(rate),
                None if rate is None else (float(interval[0]), float(interval[1])),
                float(row["return_mean"]),
                (float(row["return_interval"][0]), float(row["return_interval"][1])),
                float(row["length_mean"]),
                int(row.get("truncated_by_limit") or 0),
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Episodes:
    """Training episodes in the order in which they ended, as columns [N]; NaN where a number is missing."""

    env_steps: np.ndarray
    updates: np.ndarray
    """Of the run when they ended."""
    return_: np.ndarray
    length: np.ndarray
    success: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Episodes:
        """From the rows of `episodes.jsonl`; evaluations are left out, and rows without a return."""
        kept = [row for row in rows if row.get("kind", "train") == "train" and _is_number(row.get("return"))]
        column = lambda name: np.array([_number(row.get(name)) for row in kept], float)
        return cls(*(column(name) for name in ("env_steps", "updates", "return", "length", "success")))

    def __len__(self) -> int:
        return len(self.return_)

    def __getitem__(self, part: slice) -> Episodes:
        return Episodes(*(getattr(self, field.name)[part] for field in dataclasses.fields(self)))

    @cached_property
    def reports_success(self) -> bool:
        """Whether the task says of at least half of them if they succeeded."""
        return len(self) > 0 and np.isfinite(self.success).mean() >= 0.5

    @cached_property
    def scores(self) -> np.ndarray:
        """Success where it is reported, else return; without the missing ones."""
        values = self.success if self.reports_success else self.return_
        return values[np.isfinite(values)]

    @cached_property
    def estimate(self) -> statistics.Estimate:
        """The mean score with its 95% interval; NaN without episodes."""
        if not len(self.scores):
            return statistics.Estimate(math.nan, math.nan, math.nan)
        if self.reports_success:
            interval = statistics.wilson(int(self.scores.sum()), len(self.scores))
        else:
            interval = statistics.bootstrap(self.scores.tolist())
        return statistics.Estimate(float(self.scores.mean()), *interval)

    @cached_property
    def typical_length(self) -> float:
        """The median length; NaN where it is not known."""
        lengths = self.length[np.isfinite(self.length)]
        return float(np.median(lengths)) if len(lengths) else math.nan

    def at_least(self, length: float) -> float:
        """Share of the episodes that are at least so long; 0 without any."""
        return float((self.length >= length).mean()) if len(self) else 0.0


@dataclass(frozen=True)
class Metrics:
    """Rows of `metrics.jsonl` that are about updates, in order."""

    rows: Sequence[Row]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Metrics:
        return cls([row for row in rows if any(name.startswith("loss") for name in row)])

    @property
    def first_updates(self) -> float:
        """Updates that had been made at the first row; infinity without one."""
        return _number(self.rows[0].get("updates"), math.inf) if self.rows else math.inf

    def column(self, prefix: str) -> np.ndarray:
        """The mean of all metrics with that name or prefix, [rows]; those without any are left out."""
        wanted = lambda name: name == prefix or (prefix.endswith("/") and name.startswith(prefix))
        values = [[v for k, v in row.items() if wanted(k) and _is_number(v)] for row in self.rows]
        return np.array([sum(v) / len(v) for v in values if v], float)

    def late(self, prefix: str) -> float | None:
        """The mean over the last quarter of the rows; None without any."""
        column = self.column(prefix)
        return float(column[-max(len(column) // 4, 1) :].mean()) if len(column) else None

    def early(self, prefix: str) -> float | None:
        """The first one; None without any."""
        column = self.column(prefix)
        return float(column[0]) if len(column) else None


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    folder: str
    task: str
    config: Config | PPOConfig
    env_steps: int
    updates: int
    is_finished: bool
    """Whether it ended by itself and was not resumed since."""
    is_solved: bool
    """Whether it reached `until`."""
    is_diverged: bool
    episodes: Episodes
    metrics: Metrics
    greedy: Played | None
    sampled: Played | None
    card: Mapping[str, float]
    """Numbers of the report card that are known; empty without an up-to-date one."""

    @property
    def cfg(self) -> Config:
        """The configuration of a Dreamer run."""
        assert isinstance(self.config, Config)
        return self.config

    @property
    def planned_with(self) -> str:
        """What acted in training, where that was not the sampled policy."""
        actor = self.cfg.loop.actor if isinstance(self.config, Config) else "sampled"
        return "" if actor == "sampled" else actor

    @property
    def is_ppo(self) -> bool:
        return isinstance(self.config, PPOConfig)

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.config.lr if isinstance(self.config, PPOConfig) else self.config.agent.optim.lr

    @property
    def entropy(self) -> float:
        """The weight of the policy's entropy."""
        return self.config.entropy if isinstance(self.config, PPOConfig) else self.cfg.agent.behavior.entropy

    @property
    def num_envs(self) -> int:
        return self.config.num_envs if isinstance(self.config, PPOConfig) else self.cfg.loop.num_envs

    @property
    def by_success(self) -> bool:
        """Whether the task reports success, which then is what counts; else the return does."""
        return self.episodes.reports_success

    def shown(self, score: float) -> str:
        """A score as text, with what it is."""
        return f"{'success' if self.by_success else 'return'} {self.number(score)}"

    def number(self, score: float) -> str:
        """A score as text."""
        if not math.isfinite(score):
            return "unknown"
        return (
            f"{score:.0%}" if self.by_success else f"{score:,.0f}" if abs(score) >= 1000 else f"{score:.3g}"
        )

    @cached_property
    def started(self) -> int:
        """Episodes that show how good the agent was at the start.

        Those before the first update; where they are few, also the next ones, but at most a quarter of all.
        """
        before, after = self.episodes.updates == 0, self.episodes.updates > 0
        if not (before | after).any() and isinstance(self.config, Config):  # rows of an old format
            before = self.episodes.env_steps <= self.config.loop.prefill
        return max(int(before.sum()), min(START, len(self.episodes) // 4))

    @cached_property
    def start(self) -> Episodes:
        """Episodes of the agent as it began, the last ones where there are very many."""
        return self.episodes[max(self.started - MOST, 0) : self.started]

    @cached_property
    def after(self) -> Episodes:
        """Episodes of an agent that learns."""
        return self.episodes[self.started :]

    @cached_property
    def late(self) -> Episodes:
        """Episodes of the agent as it was at the end."""
        count = min(LATE, max(START, len(self.after) // 4), len(self.after))
        return self.after[len(self.after) - count :]

    @cached_property
    def is_better(self) -> bool:
        """Whether the late episodes are better than the first ones by more than chance."""
        return gain(self.late, self.start) > 0

    @cached_property
    def is_worse(self) -> bool:
        """Whether they are worse by more than chance."""
        return gain(self.start, self.late) > 0

    @cached_property
    def outcome(self) -> Outcome:
        """Whether it learned, as far as its episodes say.

        Where success is not reported it is unknown how much there is to earn: clearly better is enough.
        """
        if self.is_solved:
            return "learned"
        if not self.updates or len(self.after) < START:
            return "unclear"
        if not self.is_better:
            return "learned" if self.by_success and self.is_at_its_best else "not learned"
        return "learned" if self.is_at_its_best or self._is_clearly_better else "improved"

    @cached_property
    def _is_clearly_better(self) -> bool:
        """Of returns: whether they rose by more than those of the start differ."""
        rise, spread = self.late.estimate.value - self.start.estimate.value, self.start.scores.std()
        return not self.by_success and rise >= CLEAR * float(spread)

    @cached_property
    def judged(self) -> list[statistics.Estimate]:
        """The evaluations that were made, greedy before sampled."""
        played = [
            p.estimate(by_success=self.by_success) for p in (self.greedy, self.sampled) if p is not None
        ]
        return [estimate for estimate in played if estimate is not None]

    @cached_property
    def success(self) -> float:
        """Success in the better evaluation, of the late episodes where there is none."""
        return max((estimate.value for estimate in self.judged), default=self.late.estimate.value)

    @cached_property
    def is_at_its_best(self) -> bool:
        """Whether there is little more to earn: enough success, or most of what the best episode earned.

        Of a return that is its share of the way from the mean at the start to the best return ever seen.
        """
        if self.by_success:
            return self.success >= SOLVED
        start, best = self.start.estimate.value, self.episodes.scores.max(initial=-math.inf)
        reached = [self.late.estimate.value, *(estimate.value for estimate in self.judged)]
        return max(reached) - start >= SOLVED * (best - start)

    @cached_property
    def limit(self) -> float | None:
        """The time limit of the episodes, where it shows: the greatest length, if several end there."""
        lengths = self.episodes.length[np.isfinite(self.episodes.length)]
        if not len(lengths) or (lengths == lengths.max()).sum() < LIMIT_SEEN or np.ptp(lengths) == 0:
            return None
        return float(lengths.max())

    @cached_property
    def travel(self) -> float:
        """The sum of the learning rates of all updates (`dreamer.ops.optim.learning_rate`)."""
        optim, count = self.cfg.agent.optim, np.arange(self.updates)
        ramp = optim.lr * np.clip(count / max(optim.warmup, 1), 0, 1)
        done = np.clip((count - optim.warmup) / max(optim.anneal - optim.warmup, 1), 0, 1)
        decay = {
            "const": np.ones(len(count)),
            "linear": 1 - 0.9 * done,
            "cosine": 0.1 + 0.45 * (1 + np.cos(np.pi * done)),
        }[optim.schedule]
        return float(np.where(count < optim.warmup, ramp, optim.lr * decay).sum())


def gain(after: Episodes, before: Episodes) -> float:
    """How much better some episodes are than others, at least: the low end of the 95% interval.

    Minus infinity where one of them is empty.
    """
    a, b = after.scores, before.scores
    if not len(a) or not len(b) or after.reports_success != before.reports_success:
        return -math.inf
    if after.reports_success:
        return statistics.rate_difference((int(a.sum()), len(a)), (int(b.sum()), len(b))).low
    return statistics.difference(a.tolist(), b.tolist()).low


def read(folder: Path) -> Summary:
    """Read the folder of a run, of a member of a population or of a PPO run.

    Raises:
      ConfigError: it is none of them, a population, or its configuration cannot be read.
    """
    rows = lambda name: read_rows(folder / name, "env_steps")
    if (folder / "ppo.json").is_file():
        task, config = _ppo(folder)
    else:
        config = _config(folder)
        task = config.task
    result, card = sidecar.read(folder / "result.json"), sidecar.read(folder / "card.json")
    return summarize(folder, task, config, rows("metrics.jsonl"), rows("episodes.jsonl"), result, card)


def _config(folder: Path) -> Config:
    if not (folder / "config.toml").is_file():
        missing = f"{folder} is not a run folder (it has no config.toml)"
        raise ConfigError(missing if folder.is_dir() else f"there is no run folder {folder}")
    config = load_toml(folder / "config.toml")
    if not config.population.is_one:
        raise ConfigError(
            f"{folder} is a population, and every member learns by itself: name one, as in "
            f"dreamer doctor --run {folder / MEMBERS / '000'}"
        )
    return config


def _ppo(folder: Path) -> tuple[str, PPOConfig]:
    record = sidecar.read(folder / "ppo.json")
    known = {name: record[name] for name in schema.paths(PPOConfig) if name in record}
    return str(record.get("task", "")), schema.build(PPOConfig, known)


def summarize(
    folder: Path,
    task: str,
    config: Config | PPOConfig,
    metrics: Sequence[Row],
    episodes: Sequence[Row],
    result: Row,
    card: Row,
) -> Summary:
    """The summary of what was logged.

    Args:
      metrics, episodes: rows that have their `env_steps`.
      result, card: contents of `result.json` and `card.json`; empty without.
    """
    logged = [*metrics, *episodes]
    last = lambda name: int(max((_number(row.get(name), 0.0) for row in logged), default=0))
    is_current = not result or _number(result.get("env_steps"), -1.0) >= last("env_steps")
    result = result if is_current else {}
    counted = lambda name: max(last(name), *(int(_number(row.get(name), 0.0)) for row in (result, card)))
    env_steps, updates = counted("env_steps"), counted("updates")
    numbers = card.get("numbers") if _number(card.get("updates"), -1.0) >= updates else {}
    numbers = numbers if isinstance(numbers, Mapping) else {}
    return Summary(
        folder=str(folder),
        task=task,
        config=config,
        env_steps=env_steps,
        updates=updates,
        is_finished=bool(result) or (isinstance(config, PPOConfig) and env_steps >= config.steps),
        is_solved=result.get("solved") is True,
        is_diverged=bool(result.get("diverged")) or _is_diverged(metrics),
        episodes=Episodes.of(episodes),
        metrics=Metrics.of(metrics),
        greedy=Played.of(result),
        sampled=Played.of(result.get("sampled")),
        card={name: float(value) for name, value in numbers.items() if _is_number(value)},
    )


def _is_diverged(metrics: Sequence[Row]) -> bool:
    """Whether the last row says so, or one has a loss that was not finite (null)."""
    return bool(metrics and metrics[-1].get("diverged")) or any(
        value is None
        for row in metrics
        for name, value in row.items()
        if name == "loss" or name.startswith(("loss/", "opt/"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: Any, missing: float = math.nan) -> float:
    return float(value) if _is_number(value) else missing
