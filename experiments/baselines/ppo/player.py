"""A trained PPO agent as an `envs.api.Policy`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.schema import ConfigError
from envs.api import Step, spaces_from
from experiments.baselines.ppo import folder as files
from experiments.baselines.ppo.agent import Agent


class Player:
    """Acts with the parameters that were saved last.

    Args:
      folder: of the run.
      greedy: take the most likely action; False samples, as in training.
    """

    def __init__(self, folder: Path, *, greedy: bool):
        manifest = files.manifest(folder)
        arrays, counters = files.read(folder)
        self.config = files.config_of(manifest)
        self.task: str = manifest["task"]
        self.obs_space = spaces_from(manifest["obs_space"])
        self.act_space = spaces_from(manifest["act_space"])
        self.env_steps = counters["env_steps"]
        """It has learned from."""
        self.seconds = counters["seconds"]
        """Wall-clock of its training."""
        self.finished = counters["finished"]
        """Whether that was all of it."""
        agent = Agent(self.obs_space, self.act_space, self.config)
        like = agent.init(0).params
        self.params = jax.tree.map(jnp.asarray, files.params_from(folder, arrays, like))
        self.num_params = sum(x.size for x in jax.tree.leaves(like))
        self._memory = agent.memory
        self._act = jax.jit(partial(_act, agent, greedy))

    def init(self, batch: int) -> np.ndarray:
        """Empty memories, [batch, H]."""
        return np.asarray(self._memory(batch))

    def act(self, carry: Any, step: Step, *, key: int) -> tuple[dict[str, np.ndarray], Any]:
        """Choose an action for every copy; the same key and memory give the same actions.

        Raises:
          ConfigError: the observation is another than that of its task.
        """
        for name, space in self.obs_space.items():
            shape = np.shape(step.obs[name])[1:] if name in step.obs else None
            if shape != space.shape:
                has = "lacks it" if shape is None else f"has {list(shape)}"
                reads = f"PPO of {self.task} reads '{name}' {list(space.shape)}"
                raise ConfigError(f"{reads}, but this world {has}")
        obs = {name: step.obs[name] for name in self.obs_space}
        action, carry = self._act(self.params, carry, obs, step.is_first, key)
        return jax.device_get(action), carry


def _act(agent: Agent, greedy: bool, params, memory, obs, is_first, key):
    memory, action, _, _ = agent.act(params, memory, obs, is_first, key=jax.random.key(key), greedy=greedy)
    return action, memory


def load(folder: str | Path, *, greedy: bool = False) -> Player:
    """The agent that `train` left in a folder, finished or not; arguments as of `Player`.

    Raises:
      ConfigError: there is none, or its files are damaged.
    """
    return Player(Path(folder), greedy=greedy)
