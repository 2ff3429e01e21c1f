"""How an agent's observations and actions look to other libraries, and the task behind them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

import envs
from dreamer.agent import Agent
from dreamer.player import Player, load
from dreamer.schema import ConfigError
from envs import unflatten
from envs.api import Spaces
from envs.spaces import Builder
from envs.unflatten import Taker
from envs.vector import HostVector
from experiments import surroundings
from experiments.agreement import agree, spaces


class Interface(NamedTuple):
    """The spaces of an environment, and the way from and to an agent's mappings {key: [N, ...]}."""

    observation_space: gymnasium.Space
    action_space: gymnasium.Space
    build: Builder
    """From an agent's observations to a batch of that space."""
    take: Taker
    """From actions, with or without a leading axis, to an agent's."""
    act_space: Spaces
    """The agent's."""

    def observation(self, obs: Mapping[str, np.ndarray]) -> Any:
        """The only observation of a batch of one."""
        return _first(self.build(obs))

    def action(self, raw: Any) -> dict[str, np.ndarray]:
        """A batch of one from a single action.

        Raises:
          ValueError: it is none of the action space.
        """
        return {key: value[None] for key, value in self._shaped(raw).items()}

    def actions(self, raw: Any, num: int) -> dict[str, np.ndarray]:
        """An agent's batch from a batch of so many.

        Raises:
          ValueError: it is none of the batched action space.
        """
        return self._shaped(raw, num)

    def _shaped(self, raw: Any, *lead: int) -> dict[str, np.ndarray]:
        flat = self.take(raw)
        for key, space in self.act_space.items():
            if flat[key].shape != (*lead, *space.shape):
                expected = (*lead, *space.shape)
                raise ValueError(f"action '{key}' has the shape {flat[key].shape}, expected {expected}")
        return flat


def _first(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {key: _first(part) for key, part in raw.items()}
    return tuple(map(_first, raw)) if isinstance(raw, tuple) else raw[0]


def of(agent: Agent, env: HostVector | None) -> Interface:
    """The spaces of the Gymnasium environment of a task, or where there is none (JAX worlds, no task) the
    agent's keys as spaces: a lone one as itself, several as a Dict, continuous actions in [-1, 1]."""
    world = env.worlds()[0] if env is not None else None
    if isinstance(world, gymnasium.Env):
        seen, chosen = world.observation_space, world.action_space
    else:
        seen, chosen = unflatten.observation_space(agent.obs_space), unflatten.action_space(agent.act_space)
    seen, build = unflatten.unflatten_observation(seen, agent.obs_space)
    take = unflatten.unflatten_action(chosen, agent.act_space)
    return Interface(seen, chosen, build, take, agent.act_space)


def loaded(run: str | Path | Player) -> Player:
    """The agent of a run, a checkpoint or an exported file, or one that is loaded already."""
    return run if isinstance(run, Player) else load(run)


def opened(run: str | Path | Player, player: Player, seed: int = 0) -> HostVector:
    """One copy of the task that an agent was trained on, with its training levels where it had a set.

    Raises:
      ConfigError: the agent does not say what it was trained on, or the task has other spaces now.
      UnknownTask, MissingExtra: there is no such task here.
    """
    cfg = player.config
    if cfg is None:
        raise ConfigError("this agent has no configuration that names its task: give observations as starts")
    how = {"levels": cfg.env.levels, "timeout": cfg.env.timeout}
    env = envs.make(cfg.task, 1, seed=seed, **how, **cfg.env.world)
    assert isinstance(env, HostVector)
    try:
        name = "this agent" if isinstance(run, Player) else str(run)
        agree(name, cfg.task, spaces(player.agent), env)
    except ConfigError:
        env.close()
        raise
    if not isinstance(run, Player):
        surroundings.notice(Path(run), cfg)
    return env
