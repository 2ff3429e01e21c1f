"""Dreams as Gymnasium environments, single and vectorised, and the task itself in the same spaces."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from dreamer.player import Player
from dreamer.schema import ConfigError
from envs.api import FIRST_TRAINING_SEED, SUCCESS
from experiments import machine
from experiments.decoding import PROBE
from experiments.dream import dynamics, interface
from experiments.dream import starts as beginnings
from experiments.dream.dynamics import Dreams
from experiments.dream.interface import Interface

Termination = Literal["sampled", "threshold"]
SEEDS = 2**31
"""Seeds of dreams lie below."""
NOT_BEGUN = "there is no episode yet: call reset before step"
THROUGH_PROBE = (
    f"the observations of these dreams are {PROBE}: they show what the latents of the agent hold, while it "
    "was trained to predict rewards and endings, but not these"
)
LIMIT = 64
"""Default of `max_episode_steps` for an agent without the configuration of a run."""


class DreamEnv(gymnasium.Env):
    """The learned world model of a run as a Gymnasium environment.

        env = DreamEnv("runs/quickstart-seed0")
        obs, info = env.reset(seed=0)
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())

    Observations are decoded from the latent, rewards are the model's expectation, and an episode terminates
    as the model expects; `info["survival"]` is the probability that it continues, without the discount.
    Seeds determine everything that happens. The spaces are those of the task's environment, without keys for
    people (`log/`). Those of an agent with only a probe decoder (`agent.probe_decoder`) are seen through that
    probe: what its latents hold, not what it was trained to predict; rewards and endings are its own. A
    warning says so. Where no task is opened, or it is a JAX world, they are the agent's keys: a lone one as
    itself, several as a Dict, continuous actions in [-1, 1].
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self,
        run: str | Path | Player,
        *,
        starts: Any = "task",
        num_starts: int = 64,
        random_steps: int = 0,
        max_episode_steps: int | None = None,
        termination: Termination = "sampled",
        seed: int = 0,
    ):
        """Load the agent and collect where episodes start.

        Args:
          run: the folder of a run, a checkpoint of it, an exported file, or what `dreamer.load` gives.
          starts: "task" opens the task of the run (and imports the modules it names), and episodes start
            after its first observations on training seeds. Or real observations of the agent's keys,
            {key: [K, ...]} or an array [K, ...] of its only one, or a `Latent` [K, ...]: no task is opened.
          num_starts: how many episodes of the task to start from; each dream takes one at random.
          random_steps: starts are 0 to this many random steps into these episodes.
          max_episode_steps: after so many steps an episode is truncated (None: the length of a sequence in
            training, since a model's errors grow with the length of its dreams).
          termination: "sampled" ends an episode with the probability that the model expects, "threshold"
            where that is above one half.
          seed: which episodes of the task, and the sampling in them.

        Raises:
          CheckpointError: there is no such agent.
          ConfigError: it has no decoder, an argument is wrong, or its task has other spaces now.
          UnknownTask, MissingExtra: there is no such task here.
        """
        how = (starts, num_starts, random_steps, max_episode_steps, termination, seed)
        self._dreams, self._interface = _prepared(run, 1, *how)
        self.observation_space = self._interface.observation_space
        self.action_space = self._interface.action_space
        self._over: bool | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the first episode of a seed, or (None) the next one."""
        super().reset(seed=seed)
        again = seed is None and self._over is not None
        dreamt = self._dreams.reset(None if again else [int(self.np_random.integers(SEEDS))])
        self._over = False
        return self._interface.observation(dreamt.obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance the dream.

        Raises:
          ResetNeeded: there is no episode, or it has ended.
          ValueError: the action is none of the action space.
        """
        _check_begun(self._over)
        dreamt = self._dreams.step(self._interface.action(action))
        terminated, truncated = bool(dreamt.terminated[0]), bool(dreamt.truncated[0])
        self._over = terminated or truncated
        obs, info = self._interface.observation(dreamt.obs), {"survival": float(dreamt.survival[0])}
        return obs, float(dreamt.reward[0]), terminated, truncated, info


class DreamVectorEnv(gymnasium.vector.VectorEnv):
    """N dreams of a run as a Gymnasium vector environment: one compiled program steps all of them.

        envs = DreamVectorEnv("runs/quickstart-seed0", num_envs=256)
        obs, infos = envs.reset(seed=0)
        obs, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())

    Dream i of seed s is the one that `DreamEnv` has with the seed s + i. After its end a dream ignores the
    next action and starts an episode (NEXT_STEP autoreset).
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        run: str | Path | Player,
        num_envs: int = 16,
        *,
        starts: Any = "task",
        num_starts: int = 64,
        random_steps: int = 0,
        max_episode_steps: int | None = None,
        termination: Termination = "sampled",
        seed: int = 0,
    ):
        """Load the agent and collect where episodes start.

        Args:
          num_envs: how many dreams.
          run, starts, num_starts, random_steps, max_episode_steps, termination, seed: as of `DreamEnv`,
            with the same errors.
        """
        if num_envs < 1:
            raise ConfigError(f"num_envs is {num_envs}; it takes at least 1 dream")
        how = (starts, num_starts, random_steps, max_episode_steps, termination, seed)
        self._dreams, self._interface = _prepared(run, num_envs, *how)
        self.num_envs = num_envs
        self.single_observation_space = self._interface.observation_space
        self.single_action_space = self._interface.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._over: np.ndarray | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the first episode of a seed in every dream, or (None) the next one.

        Args:
          seed: of dream 0, the others count on from it; or one for each.
        """
        super().reset(seed=None if isinstance(seed, Sequence) else seed)
        again = seed is None and self._over is not None
        dreamt = self._dreams.reset(None if again else [_drawn(s) for s in self._seeds(seed)])
        self._over = np.zeros(self.num_envs, bool)
        return self._interface.build(dreamt.obs), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every dream, or start the next episode where one has ended.

        Raises:
          ResetNeeded: `reset` was not called.
          ValueError: an action is none of the action space.
        """
        if self._over is None:
            raise gymnasium.error.ResetNeeded(NOT_BEGUN)
        goes_on = ~self._over
        dreamt = self._dreams.step(self._interface.actions(actions, self.num_envs))
        self._over = dreamt.terminated | dreamt.truncated
        infos = {"survival": np.where(goes_on, dreamt.survival, 0), "_survival": goes_on}
        obs = self._interface.build(dreamt.obs)
        return obs, dreamt.reward, dreamt.terminated, dreamt.truncated, infos

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        seeds = seed if isinstance(seed, Sequence) else [seed + i for i in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} numbers, but there are {self.num_envs} dreams")
        return seeds


class TaskEnv(gymnasium.Env):
    """The task that a run was trained on, in the spaces of its `DreamEnv`: here any library can evaluate what
    has learned in a dream, also where the task is no Gymnasium environment but a JAX world.

    The info of the last step of an episode has `is_success`, where the task says it.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, run: str | Path | Player):
        """Open the task, which imports the modules that the run names.

        Raises:
          CheckpointError, ConfigError, UnknownTask, MissingExtra: as of `DreamEnv`.
        """
        machine.prepare()
        player = interface.loaded(run)
        self._env = interface.opened(run, player)
        self._interface = interface.of(player.agent, self._env)
        self.observation_space = self._interface.observation_space
        self.action_space = self._interface.action_space
        self._over: bool | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the episode of a seed (None: of any seed that is not of training)."""
        super().reset(seed=seed)
        seed = int(self.np_random.integers(FIRST_TRAINING_SEED)) if seed is None else seed
        self._over = False
        return self._interface.observation(self._env.reset([seed]).obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance the task.

        Raises:
          ResetNeeded: there is no episode, or it has ended.
          ValueError: the action is none of the action space.
          EnvError: from the environment.
        """
        _check_begun(self._over)
        step = self._env.step(self._interface.action(action))
        terminated, self._over = bool(step.is_terminal[0]), bool(step.is_last[0])
        info, success = {}, step.obs.get(SUCCESS, [np.nan])[0]
        if self._over and not np.isnan(success):
            info["is_success"] = bool(success)
        obs = self._interface.observation(step.obs)
        return obs, float(step.reward[0]), terminated, self._over and not terminated, info

    def close(self) -> None:
        """Close the task."""
        self._env.close()


def _prepared(
    run: str | Path | Player,
    num: int,
    starts: Any,
    num_starts: int,
    random_steps: int,
    max_episode_steps: int | None,
    termination: str,
    seed: int,
) -> tuple[Dreams, Interface]:
    """Dreams and how they look."""
    _check(num_starts, random_steps, max_episode_steps, termination)
    machine.prepare()
    player = interface.loaded(run)
    dynamics.check_decodes(player)
    if player.agent.decoder == "probe":
        warnings.warn(THROUGH_PROBE, stacklevel=3)
    if isinstance(starts, str) and starts == "task":
        env = interface.opened(run, player, seed)
        try:
            looks = interface.of(player.agent, env)
            latents = beginnings.of_task(player, env, num_starts, random_steps, seed)
        finally:
            env.close()
    else:
        looks, latents = interface.of(player.agent, None), beginnings.given(player, starts)
    length = player.config.loop.batch_length if player.config is not None else LIMIT
    limit, sampled = max_episode_steps or length, termination == "sampled"
    return Dreams(player, latents, num, limit=limit, sampled=sampled), looks


def _check(num_starts: int, random_steps: int, max_episode_steps: int | None, termination: str) -> None:
    if termination not in ("sampled", "threshold"):
        raise ConfigError(f"termination is {termination!r}; it takes 'sampled' or 'threshold'")
    at_least = {"num_starts": (num_starts, 1), "random_steps": (random_steps, 0)}
    if max_episode_steps is not None:
        at_least["max_episode_steps"] = (max_episode_steps, 1)
    for name, (value, least) in at_least.items():
        if value < least:
            raise ConfigError(f"{name} is {value}; it takes at least {least}")


def _check_begun(over: bool | None) -> None:
    if over is None:
        raise gymnasium.error.ResetNeeded(NOT_BEGUN)
    if over:
        raise gymnasium.error.ResetNeeded("the episode has ended: call reset before the next step")


def _drawn(seed: int | None) -> int:
    """The seed of the dreams of a Gymnasium seed."""
    return int(seeding.np_random(seed)[0].integers(SEEDS))
