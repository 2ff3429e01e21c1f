"""A trained agent as an `envs.Policy`: parameters in, actions out, no loop."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dreamer import export, objectives
from dreamer.actors import Actor, model_steps, named
from dreamer.actors.charged import Charged
from dreamer.agent import FOLLOWING, Agent, Carry, Params, acting_params
from dreamer.checkpoint import NAME, CheckpointError, CheckpointStore
from dreamer.config import Config, from_dict, load_toml
from dreamer.numbers import Numbers, trace
from dreamer.schema import ConfigError
from dreamer.world import Cost
from envs.api import Step, spaces_from


class Player:
    """Acts with fixed parameters on one observation or a batch of them.

    Args:
      agent: the structure.
      params: of every module, or at least of those that acting needs.
      actor: chooses the actions; also a name in `ACTORS` (greedy takes the most likely one, sampled draws
        as in training, random is uniform).
      config: of the run that the parameters are from, where there is one.
      counters: `env_steps` and `updates` of that run.
      cost: what an actor that plans shall avoid besides; the task's reward counts `reward_weight` times.

    Raises:
      ValueError: `params` lack a module that the actor needs, or there is a cost and the actor does not plan.
    """

    def __init__(
        self,
        agent: Agent,
        params: Params,
        numbers: Numbers,
        *,
        actor: str | Actor[Any] = "greedy",
        config: Config | None = None,
        counters: Mapping[str, int] | None = None,
        cost: Cost | None = None,
        reward_weight: float = 1.0,
    ):
        self.agent = agent
        self.actor: Actor[Any] = named(actor)(agent.act_space) if isinstance(actor, str) else actor
        if cost is not None:
            if not model_steps(self.actor):
                raise ConfigError("the actor does not plan, so a cost would change nothing in what it does")
            self.actor = Charged(self.actor, cost, agent.decoder, reward_weight)
        self.set_params(params, numbers, config=config, counters=counters)
        self._act = jax.jit(partial(_act, agent, self.actor))

    def set_params(
        self,
        params: Params,
        numbers: Numbers,
        *,
        config: Config | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> None:
        """Act with other parameters of the same structure, without compiling again.

        Raises:
          ValueError: they lack a module that the actor needs.
        """
        needed = (*FOLLOWING, *self.actor.modules)
        if missing := [name for name in needed if name not in params]:
            raise ValueError(
                f"The actor needs the parameters of {', '.join(needed)}, but {', '.join(missing)} is missing."
            )
        self.everything, self.numbers, self.config = dict(params), numbers, config
        self.counters = dict(counters or {})

    @property
    def params(self) -> Params:
        """Of the modules that acting needs."""
        return acting_params(self.everything, self.actor)

    def init(self, batch: int | None = None) -> Carry[Any]:
        """The memory with which `batch` episodes start, or (None) a single one without a batch axis."""
        carry = self.agent.init_carry(batch or 1, self.actor)
        return carry if batch else jax.tree.map(lambda x: x[0], carry)

    def act(
        self, carry: Carry[Any], step: Step | Mapping[str, Any], *, key: int = 0
    ) -> tuple[dict[str, np.ndarray], Carry[Any]]:
        """Choose an action after seeing `step`.

        Args:
          carry: from `init` or the last call.
          step: a `Step`, or only its observation {key: array} when a fresh carry starts every episode.
          key: seed of all sampling; the same key and carry give the same action.

        Returns:
          {key: array} actions (continuous ones in about [-1, 1]) and the new memory.
        """
        obs, is_first = (step.obs, step.is_first) if isinstance(step, Step) else (step, None)
        single = carry.latent.stoch.ndim == 2
        size = 1 if single else len(carry.latent.stoch)
        obs = {k: self._checked(k, obs, size, single) for k in self.agent.obs_space}
        if is_first is None:  # only a fresh memory holds no sample
            is_first = ~np.asarray(carry.latent.stoch, np.float32).any((-2, -1))
        if single:
            carry = jax.tree.map(lambda x: x[None], carry)
        first = np.reshape(np.asarray(is_first, bool), (size,))
        action, carry = self._act(self.params, carry, obs, first, self.numbers, key)
        action = {k: np.asarray(v) for k, v in jax.device_get(action).items()}
        if single:
            action, carry = jax.tree.map(lambda x: x[0], (action, carry))
        return action, carry

    def _checked(self, name: str, obs: Mapping[str, Any], size: int, single: bool) -> np.ndarray:
        space = self.agent.obs_space[name]
        if name not in obs:
            known = ", ".join(self.agent.obs_space)
            raise ValueError(f"The observation lacks '{name}'; this agent reads {known}.")
        value = np.asarray(obs[name])
        expected = space.shape if single else (size, *space.shape)
        if value.shape != expected:
            raise ValueError(f"Observation '{name}' has shape {value.shape}, but {expected} is needed.")
        return value[None] if single else value


def _act(agent: Agent, actor: Actor[Any], params, carry, obs, is_first, numbers, key):
    nothing = np.zeros(is_first.shape, bool)
    step = Step(obs, np.zeros(is_first.shape, np.float32), is_first, nothing, nothing)
    return agent.act(params, carry, step, numbers, key=jax.random.key(key), actor=actor)


MEMBERS = "members"
"""Folder of the members' runs within that of a population, which holds the checkpoints of all."""


def load(
    path: str | Path,
    *,
    actor: str | Actor[Any] = "greedy",
    greedy: bool | None = None,
    updates: int | None = None,
    cost: Cost | None = None,
    reward_weight: float = 1.0,
) -> Player:
    """A trained agent, from the folder of its run, one checkpoint of that, or an exported file.

    Args:
      path: a folder that `dreamer train` made or the one of a population's member (the newest checkpoint that
        is whole), a folder in `checkpoints/` (that checkpoint), or a file that `dreamer export` wrote.
      actor: chooses the actions, as for `Player`.
      greedy: an older way to say actor="greedy" (True) or actor="sampled" (False).
      updates: of a run, take the checkpoint made after this many updates; None takes the newest.
      cost, reward_weight: as for `Player`.

    Raises:
      CheckpointError: nothing like that exists, or it cannot be read.
      ConfigError: there is no such actor, it does not plan and there is a cost, or the agent has an objective
        in a module that is not imported yet.
    """
    if greedy is not None:
        actor = "greedy" if greedy else "sampled"
        warnings.warn(f"load(greedy={greedy}) is now load(actor={actor!r})", DeprecationWarning, stacklevel=2)
    if isinstance(actor, str):
        named(actor)  # before anything is read
    path = Path(path)
    if path.is_file() and updates is not None:
        raise CheckpointError(f"{path} is a file, which has no checkpoint after {updates} updates to choose.")
    if path.is_file():
        agent, params, cfg, counters = export.read(path)
    elif path.is_dir():
        agent, params, cfg, counters = _from_run(path.absolute(), updates)
    else:
        raise CheckpointError(f"There is no run folder {path} and no exported file of that name.")
    numbers, how = trace(cfg.agent), {"cost": cost, "reward_weight": reward_weight}
    return Player(agent, params, numbers, actor=actor, config=cfg, counters=counters, **how)


def _from_run(folder: Path, updates: int | None) -> export.Exported:
    """What a run, a member of a population or a single checkpoint holds."""
    name = folder.name if NAME.fullmatch(folder.name) else None
    run, checkpoints = (folder.parent.parent, folder.parent) if name else (folder, folder / "checkpoints")
    member = None
    if folder.parent.name == MEMBERS and not checkpoints.is_dir():
        checkpoints, member = folder.parent.parent / "checkpoints", int(folder.name)
    store = CheckpointStore(checkpoints)
    name = name if updates is None else store.at(updates)
    meta = store.meta(name)
    cfg = from_dict(meta["config"]) if member is None else load_toml(folder / "config.toml")
    if not cfg.population.is_one:
        raise CheckpointError(
            f"{folder} holds a population; take one of its members, as {run / MEMBERS / '000'}."
        )
    objectives.check_stored(cfg.agent.objective)
    agent = Agent(spaces_from(meta["obs_space"]), spaces_from(meta["act_space"]), cfg.agent)
    like = jax.eval_shape(agent.init, jax.random.key(0))
    _, state, meta = store.load(like, name, replay=False, member=member)
    counters = {count: meta["progress"][count] for count in ("env_steps", "updates")}
    return export.Exported(agent, state.params, cfg, counters)
