"""A new run that starts from parameters of another one: those of some modules, and nothing else.

    dreamer train --from runs/quickstart-seed0@1200 --modules encoder,rssm

The run has its own folder and configuration; `start` in the latter records its origin, so it is resumed as
any other run. Optimiser, replay and counters are fresh, and the slow critic copies the critic.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamer.config import StartConfig
from dreamer.schema import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dreamer.agent import Agent, Params
    from dreamer.loops.loop import Loop
    from dreamer.player import Player


def apply(loop: Loop, agent: Agent, start: StartConfig) -> dict[str, Any] | None:
    """Set the initial parameters of a loop that has not begun.

    Returns:
      Where they are from: `run`, `modules`, `task`, `env_steps` and `updates`; None where all are fresh.

    Raises:
      ConfigError: a module is unknown, or its parameters have other shapes; lists all that differ.
      CheckpointError: nothing there can be read.
    """
    if not start.run:
        return None
    import jax

    ours = jax.eval_shape(agent.init, jax.random.key(0)).params
    modules = _chosen(start.modules, ours)
    player = load(start.run)
    theirs = player.everything
    _check_shapes(start.run, modules, ours, theirs)
    loop.set_params({name: theirs[name] for name in modules})
    assert player.config is not None
    return {"run": start.run, "modules": list(modules), "task": player.config.task, **player.counters}


def canonical(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changed fields of `start` in a canonical form: an absolute path, sorted module names."""
    write = {
        "start.run": lambda run: str(Path(run).absolute()) if run else "",
        "start.modules": lambda names: sorted(set(names)),
    }
    return {path: write[path](value) for path, value in changes.items() if path in write}


def sentence(origin: Mapping[str, Any]) -> str:
    """Where a run started from, as text."""
    modules, updates = ", ".join(origin["modules"]), origin["updates"]
    return f"starting from {origin['run']} ({origin['task']}, {updates:,} updates): {modules}"


def load(run: str) -> Player:
    """The agent behind `--from`: of a run, one of its checkpoints as RUN@UPDATES, or an exported file.

    Raises:
      CheckpointError: there is none, or it cannot be read.
    """
    from dreamer import player

    match = re.fullmatch(r"(.+)@(\d+)", run)
    if match is None or Path(run).exists():
        return player.load(run)
    return player.load(match[1], updates=int(match[2]))


def _chosen(modules: tuple[str, ...], ours: Params) -> tuple[str, ...]:
    """The modules to start from, by default all.

    Raises:
      ConfigError: one is no module of this agent.
    """
    for name in modules:
        if name not in ours:
            raise ConfigError(
                f"--modules names '{name}', which this agent does not have; its modules are {', '.join(ours)}"
            )
    return modules or tuple(ours)


def _check_shapes(run: str, modules: Iterable[str], ours: Params, theirs: Params) -> None:
    """Raise a ConfigError with every parameter of these modules that differs, and both shapes."""
    differ = {name: _differences(ours[name], theirs.get(name, {}), name) for name in modules}
    fitting = ",".join(name for name, lines in differ.items() if not lines)
    listed = "; ".join(line for lines in differ.values() for line in lines)
    if listed:
        hint = f"; what fits is --modules {fitting}" if fitting else ""
        raise ConfigError(f"{run} does not fit this agent: {listed}{hint}")


def _differences(ours: Any, theirs: Any, module: str) -> list[str]:
    here, there = _shapes(ours, module), _shapes(theirs, module)
    shown = lambda shape: "missing" if shape is None else str(list(shape))
    return [
        f"{name} is {shown(there.get(name))} there, {shown(here.get(name))} here"
        for name in {**here, **there}
        if here.get(name) != there.get(name)
    ]


def _shapes(params: Any, module: str) -> dict[str, tuple[int, ...]]:
    """{dotted path: shape} of every parameter of a module."""
    import jax

    pairs = jax.tree_util.tree_flatten_with_path(params)[0]
    path = lambda keys: ".".join((module, jax.tree_util.keystr(keys, simple=True, separator=".")))
    return {path(keys): leaf.shape for keys, leaf in pairs}
