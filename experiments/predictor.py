"""An agent behind the `predict` of Stable-Baselines3, for evaluation code that was written for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from dreamer.agent import Agent, Carry
from dreamer.config import EnvConfig
from dreamer.player import Player, load
from dreamer.schema import ConfigError
from envs import unflatten
from envs.api import Space, Spaces, Step, UnsupportedSpace
from envs.spaces import Builder, flatten_action, flatten_observation
from experiments import machine
from experiments.agreement import agree, spaces

INSTEAD = "dreamer.gym.TaskEnv(run) has the task of a run as its agent sees it"


class Memory(NamedTuple):
    """What an agent remembers of N episodes: the `state` that `predict` takes and returns."""

    carry: Carry[Any]
    """[N, ...]."""
    steps: int
    """Calls of `predict` since it began."""


class Predictor:
    """A trained agent that acts as a model of Stable-Baselines3 does.

        from stable_baselines3.common.evaluation import evaluate_policy

        env = gymnasium.make("CartPole-v1")
        evaluate_policy(Predictor("runs/cartpole-seed0", env), env, n_eval_episodes=20)

    The agent has a memory, as policies of RecurrentPPO have: pass the returned state to the next call, and
    `episode_start` where an episode begins. Without a state every call is the first of an episode.
    """

    def __init__(self, run: str | Path | Player, env: Any, *, seed: int = 0):
        """Load the agent and see that it fits the environment.

        Args:
          run: the folder of a run, a checkpoint of it, an exported file, or what `dreamer.load` gives.
          env: where it will act: a Gymnasium environment, single or vectorised, or a `VecEnv` of
            Stable-Baselines3. Only its spaces are read.
          seed: of all sampling.

        Raises:
          CheckpointError: there is no such agent.
          ConfigError: the environment has other spaces than the agent was trained with.
        """
        machine.prepare()
        player = run if isinstance(run, Player) else load(run)
        name = "this agent" if isinstance(run, Player) else str(run)
        seen = getattr(env, "single_observation_space", env.observation_space)
        chosen = getattr(env, "single_action_space", env.action_space)
        cfg = player.config.env if player.config is not None else EnvConfig()
        self._space, self._seed, self._calls = seen, seed, 0
        self._read, self._build = _translated(name, player.agent, seen, chosen, cfg)
        agent, everything, numbers = player.agent, player.everything, player.numbers
        self._greedy = Player(agent, everything, numbers, actor="greedy")
        self._sampled = Player(agent, everything, numbers, actor="sampled")

    def predict(
        self,
        observation: Any,
        state: Memory | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, Memory]:
        """Choose an action for every observation.

        Args:
          observation: of the environment, one or [N, ...] of them: an array, or a dictionary of arrays.
          state: from the last call; None where all episodes begin.
          episode_start: [N] bool, where an episode begins and the state of the last one is to be forgotten.
          deterministic: take the most likely actions, as a function of the arguments and the seed alone; else
            they are sampled, differently in every call.

        Returns:
          Actions of the environment's action space ([N, ...], a list of them where the space is a Dict or a
          Tuple; a single one for a single observation), and the state for the next call.

        Raises:
          ValueError: the arguments have other shapes.
          EnvError: the observation is none of the environment.
        """
        single = _is_single(self._space, observation)
        raws = [observation] if single else list(_each(observation))
        flats = [self._read(raw) for raw in raws]
        obs = {key: np.stack([flat[key] for flat in flats]) for key in flats[0]}
        memory = Memory(self._greedy.init(len(raws)), 0) if state is None else state
        starts = _starts(len(raws), memory if state is not None else None, episode_start)
        player, key = self._chance(memory.steps, deterministic)
        nothing = np.zeros(len(raws), bool)
        step = Step(obs, nothing.astype(np.float32), starts, nothing, nothing)
        chosen, carry = player.act(memory.carry, step, key=key)
        actions = [self._build({k: v[i] for k, v in chosen.items()}) for i in range(len(raws))]
        if not isinstance(actions[0], dict | tuple):
            actions = np.stack(actions)
        return actions[0] if single else actions, Memory(carry, memory.steps + 1)

    def _chance(self, steps: int, deterministic: bool) -> tuple[Player, int]:
        """Who chooses, and the key of a call."""
        self._calls += 1
        words = [self._seed, steps] if deterministic else [self._seed, steps, self._calls]
        key = int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)
        return self._greedy if deterministic else self._sampled, key


class _Spaces(NamedTuple):
    obs_space: Spaces
    act_space: Spaces


def _translated(
    name: str, agent: Agent, seen: gymnasium.Space, chosen: gymnasium.Space, cfg: EnvConfig
) -> tuple[Callable[[Any], Mapping[str, np.ndarray]], Builder]:
    """From an observation to the agent's, and from its action to the environment's."""
    try:
        obs_space, read = _observations(agent, seen, cfg)
        act_space, build = _actions(agent, chosen)
        agree(name, "this environment", spaces(agent), _Spaces(obs_space, act_space))
    except (ConfigError, UnsupportedSpace) as error:
        raise ConfigError(f"{error}; {INSTEAD}") from None
    return read, build


def _observations(
    agent: Agent, seen: gymnasium.Space, cfg: EnvConfig
) -> tuple[Spaces, Callable[[Any], Mapping[str, np.ndarray]]]:
    """As the agent's keys where the space is made of these, else as in training."""
    keys = agent.obs_space
    if seen == unflatten.observation_space(keys):
        parts = lambda raw: raw if isinstance(seen, gym.Dict) else dict.fromkeys(keys, raw)
        return keys, lambda raw: {k: _array(k, parts(raw), space) for k, space in keys.items()}
    obs_space, fill = flatten_observation(seen, pixels=cfg.pixels, categories=cfg.categories)

    def read(raw: Any) -> dict[str, np.ndarray]:
        fill(raw, flat := {})
        return {key: flat[key] for key in keys}

    return obs_space, read


def _actions(agent: Agent, chosen: gymnasium.Space) -> tuple[Spaces, Builder]:
    keys = agent.act_space
    if chosen == unflatten.action_space(keys):
        return keys, lambda flat: dict(flat) if isinstance(chosen, gym.Dict) else flat[next(iter(keys))]
    return flatten_action(chosen)


def _array(key: str, parts: Mapping[str, Any], space: Space) -> np.ndarray:
    if key not in parts:
        raise ValueError(f"the observation lacks '{key}', which the environment has")
    value = np.asarray(parts[key])
    if value.shape != space.shape:
        raise ValueError(f"observation '{key}' has the shape {value.shape}, expected {space.shape}")
    return value.astype(space.dtype)


def _is_single(space: gymnasium.Space, obs: Any) -> bool:
    """Whether this is an observation of the space, and no batch of them."""
    while isinstance(space, gym.Dict | gym.Tuple):
        name = next(iter(space)) if isinstance(space, gym.Dict) else 0
        try:
            space, obs = space[name], obs[name]  # pyrefly: ignore
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"the observation lacks '{name}', which the environment has") from None
    shape, expected = np.shape(obs), space.shape
    if shape == expected or shape[1:] == expected and shape[0] > 0:
        return shape == expected
    raise ValueError(f"the observation has the shape {shape}, expected {expected} or a batch of these")


def _each(batch: Any) -> list[Any]:
    """The observations of a batch."""
    if isinstance(batch, Mapping):
        parts = {key: _each(part) for key, part in batch.items()}
        return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
    if isinstance(batch, tuple):
        return list(zip(*map(_each, batch), strict=True))
    return list(batch)


def _starts(count: int, memory: Memory | None, episode_start: np.ndarray | None) -> np.ndarray:
    """[count] where an episode begins."""
    if memory is None:
        return np.ones(count, bool)
    if (remembered := len(memory.carry.latent.deter)) != count:
        raise ValueError(f"the state is of {remembered} episodes, but there are {count} observations")
    starts = np.zeros(count, bool) if episode_start is None else np.asarray(episode_start, bool).reshape(-1)
    if len(starts) != count:
        raise ValueError(f"episode_start has {len(starts)} flags, but there are {count} observations")
    return starts
