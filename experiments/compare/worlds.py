"""How the tasks of a comparison are opened: for all agents as the Dreamers in it were trained on them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import envs
from dreamer.checkpoint import CheckpointError
from dreamer.config import Config, load_toml
from dreamer.schema import ConfigError
from envs.api import VectorEnv

RULES = ("kwargs", "max_episode_steps", "wrappers")
"""Of the keywords of `envs.make` those that make a task another one, for any agent."""


@dataclass(frozen=True)
class Worlds:
    """The rules of every task that has others than its own."""

    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{full name of a task: keywords of `envs.make`}."""

    def of(self, task: str) -> dict[str, Any]:
        """The keywords with which a task is opened."""
        return dict(self.rules.get(envs.canonical(task), {})) if self.rules else {}

    def open(self, task: str) -> VectorEnv:
        """One copy of a task."""
        return envs.make(task, 1, **self.of(task))


def worlds_of(runs: Mapping[str, Path], tasks: Sequence[str]) -> Worlds:
    """The rules that runs were trained with, of the tasks that are played.

    Args:
      runs: {name: folder or file of an agent}.

    Raises:
      ConfigError: two were trained on one task with different rules.
    """
    trained: dict[str, tuple[str, dict[str, Any]]] = {}
    played = {envs.canonical(task) for task in tasks}
    for name, folder in runs.items():
        cfg = _config(folder)
        task = envs.canonical(cfg.task) if cfg is not None else ""
        if cfg is None or task not in played:
            continue
        rules = {rule: cfg.env.world[rule] for rule in RULES}
        other, theirs = trained.setdefault(task, (name, rules))
        if rules != theirs:
            raise ConfigError(
                f"{other} and {name} were trained on {task} with other rules: {_said(theirs, rules)}; "
                "compare each of them on its own"
            )
    asked = {task: {k: v for k, v in rules.items() if v} for task, (_, rules) in trained.items()}
    return Worlds({task: rules for task, rules in asked.items() if rules})


def _said(some: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """Where rules differ."""
    differ = [rule for rule in RULES if some[rule] != others[rule]]
    return ", ".join(f"{rule} was {some[rule] or 'none'} and {others[rule] or 'none'}" for rule in differ)


def _config(folder: Path) -> Config | None:
    """How an agent was trained; None where there is none, which loading the agent reports."""
    if (folder / "config.toml").is_file():
        return load_toml(folder / "config.toml")
    import dreamer

    with contextlib.suppress(CheckpointError):
        return dreamer.load(folder).config
    return None
