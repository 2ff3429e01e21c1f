"""Costs from words: names, functions of files and modules, and goals; checked before anything is played."""

from __future__ import annotations

import importlib.util
import math
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamer import costs
from dreamer.actors import Actor, model_steps, named
from dreamer.actors.charged import Charged
from dreamer.agent import Agent
from dreamer.player import Player
from dreamer.schema import ConfigError, closest
from dreamer.world import Cost
from envs import modules
from experiments.costs.options import CostOptions

Terms = dict[str, tuple[Cost, float]]
"""{as it was written: the cost and its weight}."""


def read(options: CostOptions, player: Player) -> Terms:
    """The costs that are named, in that order, each tried on imagined states of this agent.

    Raises:
      ConfigError: there is no such cost, it fails or gives something else than a number for every state, or
        the goal is no observation of this agent.
      UnknownTask, MissingExtra: its module cannot be imported.
    """
    terms: Terms = {}
    for text in options.cost:
        name, weight = _weighed(text, "--cost")
        terms[text] = _cost(name), weight
    if options.goal:
        file, weight = _weighed(options.goal, "--goal")
        observation = _observation(Path(file))
        terms[options.goal] = costs.goal(observation, player.agent.obs_space, options.goal_distance), weight
    for text, (cost, _) in terms.items():
        check(text, cost, player)
    return terms


def charged(text: str, agent: Agent, terms: Terms, reward_weight: float) -> Actor[Any]:
    """The actor of this name; one that plans does so with these costs, another one as it did (`plans`).

    Raises:
      ConfigError: there is no such actor, or it cannot choose such actions.
    """
    actor = named(text)(agent.act_space)
    if not terms or not plans(actor):
        return actor
    return Charged(actor, costs.Sum(tuple(terms.values())), agent.decoder, reward_weight)


def plans(actor: Actor[Any]) -> bool:
    """Whether an actor asks the world model, so that a cost changes what it does."""
    return model_steps(actor) > 0


def check(text: str, cost: Cost, player: Player) -> None:
    """Try a cost on the shapes of two imagined states.

    Raises:
      ConfigError: it fails, or does not give one number for each.
    """
    agent = player.agent
    feat = jax.ShapeDtypeStruct((2, agent.cfg.rssm.features), agent.dtype)

    def charge(params: Any, numbers: Any, feat: Any) -> Any:
        return agent.world(params, numbers).with_cost(cost).charge(feat)

    try:
        jax.eval_shape(charge, player.everything, player.numbers, feat)
    except Exception as error:  # the function is a user's
        if not isinstance(error, ValueError | ConfigError):
            where = _line(error, cost)
            error = ValueError(f"it fails{where} with {modules.described(error)}{_seen(agent)}")
        raise ConfigError(f"the cost {text} cannot be used: {error}") from None


def _seen(agent: Agent) -> str:
    if not agent.decoder:
        return f"; this agent ({agent.cfg.objective}) has no decoder, so what it is given as decoded is None"
    shapes = ", ".join(f"{name} [N, {', '.join(map(str, s.shape))}]" for name, s in agent.obs_space.items())
    return f"; decoded has {shapes}"


def _line(error: BaseException, cost: Cost) -> str:
    """Where in the user's file it failed."""
    code = getattr(cost, "__code__", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)]
    lines = [frame.lineno for frame in frames if code is not None and frame.filename == code.co_filename]
    return f" in line {lines[-1]}" if lines else ""


def _weighed(text: str, flag: str) -> tuple[str, float]:
    """NAME=WEIGHT as name and weight, which is 1 where it is not given.

    Raises:
      ConfigError: the weight is no finite number.
    """
    name, equals, weight = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{flag} {text} should be NAME=WEIGHT, but '{weight}' is no finite number")
    return name, value


def _cost(name: str) -> Cost:
    if name in costs.COSTS:
        return costs.COSTS[name]
    place, colon, function = name.rpartition(":")
    if not colon:
        known, close = ", ".join(costs.COSTS), closest(name, costs.COSTS)
        hint = f"did you mean {close[0]}" if close else f"there are {known}"
        raise ConfigError(
            f"--cost names '{name}'; {hint}, or a function as FILE.py:function or module:function"
        )
    if not place.endswith(".py"):
        return modules.attribute(name)
    return _function(Path(place), function)


def _function(file: Path, name: str) -> Cost:
    """A function of a file that the user named."""
    if not file.is_file():
        raise ConfigError(f"--cost names {file}:{name}, but there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"costs_of_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the file is a user's
        raise ConfigError(
            f"--cost names {file}:{name}, but {file} fails with {modules.described(error)}"
        ) from None
    value = getattr(module, name, None)
    if not callable(value):
        there = [
            key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
        ]
        raise ConfigError(f"{file} has no function '{name}'; it has {', '.join(there) or 'none'}")
    return value


def _observation(file: Path) -> Any:
    """An observation {key: array} of a file that `numpy.savez` wrote, or a single array of `numpy.save`."""
    try:
        content = np.load(file, allow_pickle=False)
        return content if isinstance(content, np.ndarray) else {key: content[key] for key in content.files}
    except (OSError, ValueError, EOFError) as error:
        why = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else "it is no file of NumPy arrays"
        )
        raise ConfigError(
            f"--goal {file} cannot be read ({why}): numpy.savez({str(file)!r}, **observation) writes one"
        ) from None


def charge(agent: Agent, terms: Terms):
    """What situations that were really seen cost, compiled: (params, numbers, latent, obs) -> [K, N].

    The costs are asked as in dreams, with the observations themselves in the place of decoded ones.
    """

    def call(params: Any, numbers: Any, latent: Any, obs: Any) -> Any:
        world = agent.world(params, numbers)
        rows = [jnp.asarray(cost(world, latent, obs)).astype(jnp.float32) for cost, _ in terms.values()]
        return jnp.stack(rows)

    return jax.jit(call)
