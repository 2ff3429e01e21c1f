"""`dreamer eval`: how good a trained agent is, with honest intervals."""

from __future__ import annotations

import contextlib
import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import envs
from dreamer.schema import ConfigError
from envs.api import FIRST_TRAINING_SEED, Policy, VectorEnv
from envs.rollout import Episode, rollout
from experiments import machine, statistics

HOST_COPIES, DEVICE_COPIES = 16, 256
"""Copies of an environment that are played together where nobody says how many."""


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What the episodes say together; success is null where the task does not tell."""
    returns, told = _returns(episodes), _told(episodes)
    return {
        "episodes": len(episodes),
        "seed": episodes[0].seed,
        "success_rate": float(np.mean(told)) if told else None,
        "success_interval": list(statistics.wilson(int(sum(told)), len(told))) if told else None,
        "return_mean": float(np.mean(returns)),
        "return_interval": list(statistics.bootstrap(returns)),
        "return_iqm": statistics.iqm(returns),
        "length_mean": float(np.mean([e.length for e in episodes])),
    }


def generalisation(episodes: Sequence[Episode], trained: Sequence[Episode]) -> dict[str, Any]:
    """How much better the agent is in worlds of its training: in success, in return where that is not told.

    Args:
      episodes: in worlds it has never seen.
      trained: in worlds it was trained in.
    """
    told, returns = _told(trained), _returns(trained)
    both = told, _told(episodes)
    if all(both):
        gap = statistics.rate_difference(*((int(sum(x)), len(x)) for x in both))
    else:
        gap = statistics.difference(returns, _returns(episodes))
    return {
        "train_episodes": len(trained),
        "train_success_rate": float(np.mean(told)) if told else None,
        "train_return_mean": float(np.mean(returns)),
        "generalisation_gap": gap.mean,
        "generalisation_interval": [gap.low, gap.high],
    }


def _returns(episodes: Sequence[Episode]) -> list[float]:
    return [e.return_ for e in episodes]


def _told(episodes: Sequence[Episode]) -> list[float]:
    """1 or 0 for every episode of which the task says whether it succeeded."""
    return [float(e.success) for e in episodes if e.success is not None]


def over_members(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the summaries of several agents say together: means over agents, with intervals over agents."""
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
    }


def sentence(result: dict[str, Any]) -> str:
    """The same for people."""
    low, high = result["return_interval"]
    text = f"return {result['return_mean']:.3f} [{low:.3f}, {high:.3f}], length {result['length_mean']:.1f}"
    if result["success_rate"] is not None:
        low, high = result["success_interval"]
        text = f"success {result['success_rate']:.1%} [{low:.1%}, {high:.1%}], " + text
    text = f"{text} over {result['episodes']} episodes (95% intervals)"
    return text + _on_training_levels(result) if "generalisation_gap" in result else text


def _on_training_levels(result: dict[str, Any]) -> str:
    """The end of the sentence about an agent that was trained on a set of levels."""
    success, gap = result["train_success_rate"], result["generalisation_gap"]
    form = ".3f" if None in (success, result["success_rate"]) else ".1%"
    low, high = (format(end, form) for end in result["generalisation_interval"])
    text = f"return {result['train_return_mean']:.3f}"
    text = text if success is None else f"success {success:.1%}, {text}"
    count = result["train_episodes"]
    return f"; on {count} training levels {text}, generalisation gap {gap:{form}} [{low}, {high}]"


def play(policy: Policy, env: VectorEnv, episodes: int, seed: int) -> dict[str, Any]:
    """Play `episodes` episodes on the seeds `seed, seed + 1, ...` and sum them up."""
    return summary(_played(policy, env, episodes, seed))


def _played(policy: Policy, env: VectorEnv, episodes: int, seed: int) -> list[Episode]:
    return rollout(policy, env, range(seed, seed + episodes), key=seed)


def evaluate(
    run: Path, *, episodes: int, seed: int, sampled: bool, num_envs: int, out: str, json: bool
) -> int:
    """Evaluate the newest checkpoint of a run, also on its training levels where it has a set; the exit code.

    Args:
      num_envs: copies of the environment (0: as many as suit the task).
      out: file for the episodes, a line of JSON each (empty: none).

    Raises:
      CheckpointError: there is no agent in the folder.
      ConfigError: the file cannot be written.
    """
    import dreamer

    machine.prepare()
    player = dreamer.load(run, greedy=not sampled)
    cfg = player.config
    assert cfg is not None
    num_envs = num_envs or (DEVICE_COPIES if envs.is_on_device(cfg.task) else HOST_COPIES)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(out)) if out else None
        env = envs.make(cfg.task, min(num_envs, episodes), parallel=cfg.env.parallel, **cfg.env.world)
        stack.callback(env.close)
        played, trained = _played(player, env, episodes, seed), []
        result = summary(played)
        if cfg.env.levels:
            trained = _played(player, env, min(episodes, cfg.env.levels), FIRST_TRAINING_SEED)
            result |= generalisation(played, trained)
        if file is not None:
            file.writelines(jsonlib.dumps(record(episode)) + "\n" for episode in [*played, *trained])
    note = envs.note(cfg.task)
    if json:
        print(jsonlib.dumps(result | ({"note": note} if note else {})))
    else:
        how = "sampled" if sampled else "greedy"
        print(f"{cfg.task}, {how} actions, seeds {seed} to {seed + episodes - 1}", file=sys.stderr)
        print(sentence(result))
        if note:
            print(note, file=sys.stderr)
    return 0


def _opened(out: str) -> TextIO:
    try:
        return Path(out).open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from None


def record(episode: Episode) -> dict[str, Any]:
    """An episode as a line of `--out` has it."""
    return {
        "seed": episode.seed,
        "return": episode.return_,
        "length": episode.length,
        "success": episode.success,
        "discount": episode.discount,
        "seconds": episode.seconds,
    }
