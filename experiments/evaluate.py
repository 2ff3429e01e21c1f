"""`dreamer eval`: how good a trained agent is, with confidence intervals."""

from __future__ import annotations

import contextlib
import json as jsonlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

import envs
from dreamer.config import Config, EnvConfig
from dreamer.logger import read_rows
from dreamer.schema import ConfigError
from envs.api import FIRST_TRAINING_SEED, Policy, Step, VectorEnv
from envs.rollout import IDLE, LONGEST, Episode, OnStep, rollout
from experiments import machine, memory, statistics, surroundings
from experiments.agreement import World, agree, spaces
from experiments.costs import summary as costs
from experiments.costs.options import CostOptions

if TYPE_CHECKING:
    from dreamer.player import Player
    from experiments.costs.ledger import Ledger

HOST_COPIES, DEVICE_COPIES = 16, 256
"""Default number of copies of an environment that are played together."""
TIMES = 10
"""Default limit of an episode, in multiples of the longest one in training."""
FIRST_WORD, NEXT_WORD = 5.0, 30.0
"""Seconds until an evaluation first reports its progress, and between later reports."""

Say = Callable[[str], None]


def step_limit(asked: int = 0, longest: int = 0) -> int:
    """Steps after which an evaluation cuts an episode, so that an endless one stops.

    Args:
      asked: the configured limit; 0 for none.
      longest: steps of the longest training episode. One that never ended is not known, and should not count:
        it would be as long as the training.
    """
    return asked or max(LONGEST, TIMES * longest)


def longest_episode(path: Path) -> int:
    """Steps of the longest training episode that a run logged, 0 where none is known.

    Args:
      path: folder of the run, of a member or of a checkpoint, or an exported file, which has no history.
    """
    path = path.absolute()
    folder = path.parent.parent if path.parent.name == "checkpoints" else path
    rows = read_rows(folder / "episodes.jsonl") if folder.is_dir() else []
    lengths = [row.get("length") for row in rows if row.get("kind", "train") == "train"]
    return max((length for length in lengths if isinstance(length, int)), default=0)


def progress(episodes: int, limit: int, say: Say) -> OnStep:
    """A callback for `rollout` that reports the progress of the episodes from time to time."""
    due, slots, begun = time.monotonic() + FIRST_WORD, 0, 0

    def on_step(step: Step, action: Mapping[str, np.ndarray], index: np.ndarray) -> None:
        nonlocal due, slots, begun
        slots, begun = slots + 1, max(begun, int(index.max()) + 1)
        if time.monotonic() < due:
            return
        due = time.monotonic() + NEXT_WORD
        over = begun - int(((index != IDLE) & ~step.is_last).sum())
        far = f"{over:,} of {episodes:,} episodes are over after {slots:,} steps of each copy"
        say(f"evaluation: {far}; an episode is cut short after {limit:,} steps")

    return on_step


def summary(episodes: Sequence[Episode], limit: int | None = None) -> dict[str, Any]:
    """Summary statistics of the episodes; success is null where the task does not report it.

    Args:
      limit: steps after which they were cut short.
    """
    returns, success = _returns(episodes), _successes(episodes)
    return {
        "episodes": len(episodes),
        "seed": episodes[0].seed,
        "success_rate": float(np.mean(success)) if success else None,
        "success_interval": list(statistics.wilson(int(sum(success)), len(success))) if success else None,
        "return_mean": float(np.mean(returns)),
        "return_interval": list(statistics.bootstrap(returns)),
        "return_iqm": statistics.iqm(returns),
        "length_mean": float(np.mean([e.length for e in episodes])),
        "truncated_by_limit": _cut(episodes),
        "step_limit": limit,
    }


def generalisation(episodes: Sequence[Episode], trained: Sequence[Episode]) -> dict[str, Any]:
    """The generalisation gap: success (or return, where success is unknown) on training minus unseen levels.

    Args:
      episodes: on unseen levels.
      trained: on training levels.
    """
    success, returns = _successes(trained), _returns(trained)
    both = success, _successes(episodes)
    if all(both):
        gap = statistics.rate_difference(*((int(sum(x)), len(x)) for x in both))
    else:
        gap = statistics.difference(returns, _returns(episodes))
    return {
        "train_episodes": len(trained),
        "train_success_rate": float(np.mean(success)) if success else None,
        "train_return_mean": float(np.mean(returns)),
        "train_truncated_by_limit": _cut(trained),
        "generalisation_gap": gap.mean,
        "generalisation_interval": [gap.low, gap.high],
    }


def _cut(episodes: Sequence[Episode]) -> int:
    return sum(e.cut for e in episodes)


def _returns(episodes: Sequence[Episode]) -> list[float]:
    return [e.return_ for e in episodes]


def _successes(episodes: Sequence[Episode]) -> list[float]:
    """1 or 0 for every episode whose success the task reports."""
    return [float(e.success) for e in episodes if e.success is not None]


def over_members(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One summary of several agents: means over agents, with intervals over agents."""
    column = lambda name: [result[name] for result in results]
    tells = results[0]["success_rate"] is not None
    return {
        "episodes": sum(column("episodes")),
        "seed": results[0]["seed"],
        "success_rate": float(np.mean(column("success_rate"))) if tells else None,
        "success_interval": list(statistics.bootstrap(column("success_rate"))) if tells else None,
        "return_mean": float(np.mean(column("return_mean"))),
        "return_interval": list(statistics.bootstrap(column("return_mean"))),
        "return_iqm": statistics.iqm(column("return_mean")),
        "length_mean": float(np.mean(column("length_mean"))),
        "truncated_by_limit": sum(column("truncated_by_limit")),
        "step_limit": results[0]["step_limit"],
    }


def sentence(result: dict[str, Any]) -> str:
    """A summary as text."""
    low, high = result["return_interval"]
    text = f"return {result['return_mean']:.3f} [{low:.3f}, {high:.3f}], length {result['length_mean']:.1f}"
    if result["success_rate"] is not None:
        low, high = result["success_interval"]
        text = f"success {result['success_rate']:.1%} [{low:.1%}, {high:.1%}], " + text
    text = f"{text} over {result['episodes']} episodes (95% intervals)"
    if cut := cut_short(result):
        text = f"{text}, {cut}"
    return text + _on_training_levels(result) if "generalisation_gap" in result else text


def metrics(result: dict[str, Any], actor: str) -> dict[str, float]:
    """What of a summary is logged, under `eval/` or, for actors other than greedy, `eval_sampled/`."""
    prefix = "eval" if actor == "greedy" else f"eval_{actor}"
    return {f"{prefix}/{k}": v for k, v in result.items() if isinstance(v, float)}


def beside(greedy: dict[str, Any], sampled: dict[str, Any], actor: str = "sampled") -> str:
    """The end of the sentence about greedy episodes: what sampled actions reach, and if that differs.

    Args:
      actor: of training.
    """
    mean, interval, form = ("success_rate", "success_interval", ".1%")
    if greedy[mean] is None:
        mean, interval, form = ("return_mean", "return_interval", ".3f")
    estimates = [statistics.Estimate(result[mean], *result[interval]) for result in (greedy, sampled)]
    as_in_training = ", as in training," if actor == "sampled" else ""
    text = f"; with sampled actions{as_in_training} {mean.partition('_')[0]} {sampled[mean]:{form}}"
    return text + (": more than chance sets them apart" if statistics.is_apart(*estimates) else "")


def cut_short(result: dict[str, Any], count: str = "truncated_by_limit") -> str:
    """How many episodes were cut short, as text; empty if none was."""
    cut, limit = result[count], result["step_limit"]
    return f"{cut} of them cut short after {limit:,} steps" if cut else ""


def _on_training_levels(result: dict[str, Any]) -> str:
    """The end of the sentence about an agent that was trained on a set of levels."""
    success, gap = result["train_success_rate"], result["generalisation_gap"]
    form = ".3f" if None in (success, result["success_rate"]) else ".1%"
    low, high = (format(end, form) for end in result["generalisation_interval"])
    text = f"return {result['train_return_mean']:.3f}"
    text = text if success is None else f"success {success:.1%}, {text}"
    text = ", ".join(filter(None, (text, cut_short(result, "train_truncated_by_limit"))))
    count = result["train_episodes"]
    return f"; on {count} training levels {text}, generalisation gap {gap:{form}} [{low}, {high}]"


def play(
    policy: Policy, env: VectorEnv, episodes: int, seed: int, limit: int = LONGEST, say: Say | None = None
) -> dict[str, Any]:
    """Play `episodes` episodes on the seeds `seed, seed + 1, ...` and summarize them.

    Args:
      limit: steps after which an episode is cut short (`step_limit`).
      say: reports progress from time to time.
    """
    return summary(play_each(policy, env, episodes, seed, limit, say), limit)


def play_each(
    policy: Policy,
    env: VectorEnv,
    episodes: int,
    seed: int,
    limit: int,
    say: Say | None = None,
    also: OnStep | None = None,
) -> list[Episode]:
    """As `play`, but every episode itself, in the order of the seeds; `also` hears of every step."""
    seeds = range(seed, seed + episodes)
    listeners = [*([progress(episodes, limit, say)] if say else []), *([also] if also else [])]

    def on_step(step: Step, action: Mapping[str, np.ndarray], index: np.ndarray) -> None:
        for listener in listeners:
            listener(step, action, index)

    return rollout(policy, env, seeds, key=seed, max_steps=limit, on_step=on_step)


def evaluate(
    run: Path,
    *,
    episodes: int,
    seed: int,
    actor: str,
    num_envs: int,
    out: str,
    json: bool,
    max_steps: int = 0,
    task: str = "",
    wanted: CostOptions = CostOptions(),
) -> int:
    """Evaluate the newest checkpoint of a run, also on its training levels where it has a set; the exit code.

    Args:
      actor: name of the actor that chooses the actions.
      num_envs: copies of the environment (0: the default of the task).
      out: file for the episodes, a line of JSON each (empty: none).
      max_steps: after which an episode is cut short (0: as the run is configured).
      task: another task than that of the run, with the same spaces (empty: its own).
      wanted: costs and a goal; a planner plans with them, and what episodes cost is added up.

    Raises:
      CheckpointError: there is no agent in the folder.
      UnknownTask, MissingExtra: there is no such task here.
      ConfigError: there is no such actor, the file cannot be written, or the task has other spaces than the
        agent was trained with.
    """
    import dreamer

    machine.prepare()
    player = dreamer.load(run, actor=actor)
    cfg = player.config
    assert cfg is not None
    say: Say = lambda text: print(text, file=sys.stderr, flush=True)
    player, ledger = _with_costs(player, actor, wanted, say)
    trained_on, cfg = cfg.task, elsewhere(cfg, task)
    is_other = cfg.task != trained_on
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(out)) if out else None
        env = stack.enter_context(opened_world(run, player.agent, cfg, episodes, num_envs, is_other=is_other))
        limit = step_limit(max_steps or cfg.eval.max_steps, longest_episode(run))
        also = ledger.on_step if ledger else None
        played, trained = play_each(ledger or player, env, episodes, seed, limit, say, also), []
        result: dict[str, Any] = {"task": cfg.task, "trained_on": trained_on, "actor": actor} | summary(
            played, limit
        )
        records = [record(episode) for episode in played]
        if ledger:
            paid = ledger.rows()
            records = [each | {"costs": row} for each, row in zip(records, paid, strict=True)]
            result |= {"wanted": wanted.described, "costs": costs.summary(paid)}
        if cfg.env.levels:
            levels = min(episodes, cfg.env.levels)
            trained = play_each(player, env, levels, FIRST_TRAINING_SEED, limit, say)
            result |= generalisation(played, trained)
        if file is not None:
            records += map(record, trained)
            file.writelines(jsonlib.dumps(row) + "\n" for row in records)
    note = envs.note(cfg.task)
    if json:
        print(jsonlib.dumps(result | ({"note": note} if note else {})))
    else:
        where = f"{cfg.task} (trained on {trained_on})" if is_other else cfg.task
        print(f"{where}, {actor} actions, seeds {seed} to {seed + episodes - 1}", file=sys.stderr)
        print("\n".join([sentence(result), *costs.sentences(result.get("costs", {}))]))
        if note:
            print(note, file=sys.stderr)
    return 0


def _with_costs(player: Player, actor: str, wanted: CostOptions, say: Say) -> tuple[Player, Ledger | None]:
    """The player as costs change it, and the ledger of its episodes; as it is where none are named."""
    if not wanted.wishes:
        return player, None
    from dreamer.player import Player
    from experiments.costs import reading
    from experiments.costs.ledger import Ledger

    terms = reading.read(wanted, player)
    chooses = reading.charged(actor, player.agent, terms, wanted.reward_weight)
    if not reading.plans(chooses):
        say(f"the actor {actor} does not plan: costs change nothing in what it does and are only added up")
    player = Player(player.agent, player.everything, player.numbers, actor=chooses, config=player.config)
    return player, Ledger(player, terms)


@contextlib.contextmanager
def opened_world(
    run: Path, agent: World, cfg: Config, episodes: int, num_envs: int = 0, *, is_other: bool = False
) -> Iterator[VectorEnv]:
    """Within it the task of a configuration is there, as the agent of a run can play it.

    Args:
      episodes: to be played: more copies than that are not made.
      num_envs: copies (0: the default of the task).
      is_other: whether the agent was trained on another task.

    Raises:
      UnknownTask, MissingExtra: there is no such task here.
      ConfigError: the task has other spaces than the agent was trained with, or the copies need more memory
        than there is.
    """
    num_envs = num_envs or (DEVICE_COPIES if envs.is_on_device(cfg.task) else HOST_COPIES)
    memory.check_copies(min(num_envs, episodes), cfg.env.parallel, "--num-envs")
    env = envs.make(cfg.task, min(num_envs, episodes), **cfg.env.copies, **cfg.env.world)
    with contextlib.closing(env):
        agree(str(run), cfg.task, spaces(agent), env, more=is_other)
        if not is_other:
            surroundings.notice(run, cfg)
        yield env


def elsewhere(cfg: Config, task: str) -> Config:
    """The configuration of a run with another task in the place of its own (empty: its own).

    Rules of the trained task do not hold there; within its suite it is seen as the trained one was.

    Raises:
      UnknownTask, MissingExtra: there is no such task here.
    """
    if not task or envs.canonical(task) == envs.canonical(cfg.task):
        return cfg
    is_related = task.partition(":")[0] == cfg.task.partition(":")[0]
    seen = EnvConfig(obs=cfg.env.obs, distractor=cfg.env.distractor) if is_related else EnvConfig()
    world = replace(seen, parallel=cfg.env.parallel, timeout=cfg.env.timeout)
    return replace(cfg, task=envs.canonical(task), env=world)


def _opened(out: str) -> TextIO:
    try:
        return Path(out).open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from None


def record(episode: Episode) -> dict[str, Any]:
    """An episode as a line of `--out`."""
    return {
        "seed": episode.seed,
        "return": episode.return_,
        "length": episode.length,
        "success": episode.success,
        "discount": episode.discount,
        "cut": episode.cut,
        **({"log": dict(episode.log)} if episode.log else {}),
        "seconds": episode.seconds,
    }
