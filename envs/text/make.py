"""text_world: the words for a task, by what it shows."""

from __future__ import annotations

from envs.api import UnsupportedSpace, VectorEnv
from envs.draw import is_grid
from envs.text.catch import catch
from envs.text.craftax import craftax
from envs.text.fields import fields
from envs.text.grids import grid
from envs.text.world import TextWorld


def text_world(env: VectorEnv, *, privileged: bool = False) -> TextWorld:
    """How a task is told and played in words.

    Args:
      env: says which task, and what its observations and actions are.
      privileged: tell the whole world instead of what the agent sees, in an environment of
        `envs.make(..., obs="privileged")`.

    Raises:
      UnsupportedSpace: naming the task and why it cannot be told or played in words.
    """
    suite, _, _ = env.task.partition(":")
    if suite in ("minigrid", "grid") and is_grid(env.obs_space):
        return grid(env, privileged=privileged)
    if privileged:
        raise UnsupportedSpace(
            f"{env.task} has no privileged text; minigrid:* and grid:* have one, made with obs='privileged'"
        )
    if suite == "minigrid":
        raise UnsupportedSpace(f"{env.task} cannot be told in words as an image: make it with obs='symbolic'")
    if env.task == "grid:Catch":
        return catch(env)
    if suite == "craftax":
        return craftax(env)
    return fields(env)
