"""Agreement: whether a task still has the spaces that an agent was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dreamer.schema import ConfigError
from envs.api import LOG_PREFIX, Space, Spaces


class World(Protocol):
    """Anything with spaces: a `VectorEnv`, a `JaxEnv`, an agent."""

    @property
    def obs_space(self) -> Spaces: ...

    @property
    def act_space(self) -> Spaces: ...


def spaces(agent: World) -> dict[str, Spaces]:
    """The spaces of an agent, as `agree` takes them."""
    return {"observation": agent.obs_space, "action": agent.act_space}


def agree(name: str, task: str, theirs: Mapping[str, Spaces], ours: World, *, more: bool = False) -> None:
    """Check that an agent with these spaces can play a task.

    Args:
      name: of the agent, for the message.
      theirs: `observation` and `action` spaces that the agent was trained with.
      ours: the task as it is now.
      more: whether the task may show more than the agent reads.

    Raises:
      ConfigError: naming the first key that does not fit, and both spaces.
    """
    wanted = _seen(theirs["observation"])
    shown = {k: s for k, s in _seen(ours.obs_space).items() if k in wanted or not more}
    pairs = (("observation", wanted, shown), ("action", dict(theirs["action"]), dict(ours.act_space)))
    for kind, want, have in pairs:
        for key in [*want, *have]:
            if want.get(key) != have.get(key):
                now = _described(have[key]) if key in have else _instead(want, have)
                raise ConfigError(
                    f"{name} was trained with other spaces and does not fit {task}: its {kind} '{key}' is "
                    f"{_described(want[key]) if key in want else 'nothing'}, but the task has {now}"
                )


def _seen(spaces: Spaces) -> dict[str, Space]:
    return {key: space for key, space in spaces.items() if not key.startswith(LOG_PREFIX)}


def _instead(want: Spaces, have: Spaces) -> str:
    """What a task has in place of a key that it lacks."""
    new = [f"'{key}', {_described(space)}" for key, space in have.items() if key not in want]
    return "nothing of that name" + (f" and instead {'; '.join(new)}" if new else "")


def _described(space: Space) -> str:
    size = f" of {space.classes} classes" if space.classes is not None else ""
    return f"{space.dtype}{list(space.shape)}{size}"
