"""What worlds of the device share: their first step and the later ones; not a suite itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from envs.api import Step


def concrete(tree: Any) -> Any:
    """The same numbers as arrays whose dtype is settled.

    Packages start their states from Python numbers, which become arrays of a weak dtype. A loop would be
    compiled once for those and once more for the arrays of the first step.
    """
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), tree)


def restart(obs: dict[str, Array]) -> Step:
    """The step that starts an episode."""
    no = jnp.zeros((), bool)
    return Step(obs, jnp.zeros((), jnp.float32), ~no, no, no)


def transition(obs: dict[str, Array], reward: Any, terminal: Any, limit: Any) -> Step:
    """A step that an action led to.

    Args:
      terminal: whether the episode ends here and nothing follows.
      limit: whether its time is over; where both are true it has terminated.
    """
    terminal, limit = jnp.asarray(terminal, bool), jnp.asarray(limit, bool)
    return Step(obs, jnp.asarray(reward, jnp.float32), jnp.zeros((), bool), terminal | limit, terminal)
