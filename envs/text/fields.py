"""Small vectors in words: every number by its name, with all its digits.

    cart position: 0.012, cart velocity: -0.43, ...

Where nothing is known of a task its numbers and actions are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from envs.api import Space, UnsupportedSpace, VectorEnv
from envs.text.world import Teller, Text, choice, listed, seen

VERSION = "fields-1"
MOST = 64
"""More numbers than this are no text that a person would read."""


@dataclass(frozen=True)
class Known:
    """What the numbers and actions of a task mean."""

    fields: tuple[str, ...]
    actions: Mapping[str, str]
    """What each does, in the order of the action space."""
    default: str
    rules: str


KNOWN = {
    "CartPole": Known(
        fields=("cart position", "cart velocity", "pole angle", "pole angular velocity"),
        actions={"push left": "push the cart to the left.", "push right": "push the cart to the right."},
        default="push left",
        rules="A pole stands on a cart that moves on a track; keep the pole from falling for as long as"
        " you can. Positive is right; angles are in radians, 0 is upright. The episode fails when the"
        " pole leans more than 0.2095 radians or the cart is more than 2.4 from the middle. Every"
        " step gives a reward of 1.",
    ),
    "MountainCar": Known(
        fields=("position", "velocity"),
        actions={
            "push left": "accelerate to the left.",
            "no push": "do not accelerate.",
            "push right": "accelerate to the right.",
        },
        default="no push",
        rules="A car stands in a valley, at a position of about -0.5, and its engine is too weak to climb"
        " the hill on the right at once: swing to and fro. Positive is right. The goal is a position"
        " of 0.5 or more, in as few steps as you can: every step gives a reward of -1.",
    ),
    "Acrobot": Known(
        fields=(
            *("cosine of angle 1", "sine of angle 1", "cosine of angle 2", "sine of angle 2"),
            *("angular velocity 1", "angular velocity 2"),
        ),
        actions={
            "push negative": "apply a torque of -1 to the joint between the links.",
            "no push": "apply no torque.",
            "push positive": "apply a torque of 1 to the joint between the links.",
        },
        default="no push",
        rules="Two links of length 1 hang from a fixed point, and the joint between them can be turned."
        " Angle 1 is that of the first link, 0 hanging down; angle 2 is that of the second link"
        " relative to the first. The goal is to swing the free end higher than 1 above the fixed"
        " point: -cos(angle 1) - cos(angle 1 + angle 2) > 1, in as few steps as you can: every step"
        " gives a reward of -1.",
    ),
}
"""By the name of the task without its version."""


def fields(env: VectorEnv) -> Teller:
    """The text world of a task that shows a few numbers.

    Raises:
      UnsupportedSpace: the task shows something else, or its action is not one choice.
    """
    key, count = choice(env.task, env.act_space)
    names = _fields(env)
    known = KNOWN.get(env.task.partition(":")[2].rpartition("-v")[0])
    if known and (len(names), count) == (len(known.fields), len(known.actions)):
        shown = dict(zip(names, known.fields, strict=True))
        actions, default, rules = known.actions, known.default, known.rules
    else:
        shown = {field: _counted(*field) for field in names}
        actions = {f"action {i}": f"number {i} of the task's {count} actions." for i in range(count)}
        default = "action 0"
        rules = f"The world is {env.task}. What its numbers and actions mean is not known: find out."
        rules += " The goal is a high sum of rewards."

    def tell(obs: Mapping[str, np.ndarray]) -> Text:
        entries = (f"{name}: {number(obs[key].reshape(-1)[i])}" for (key, i), name in shown.items())
        return Text(", ".join(entries), "")

    return Teller(
        version=VERSION,
        privileged=False,
        sees=f"the {len(names)} numbers of its observation with their names, and the rules",
        actions=tuple(actions),
        default=default,
        rules=f"{rules}\n{listed(actions, tuple(actions))}",
        key=key,
        names=tuple(actions),
        describe=tell,
    )


def number(value: np.generic) -> str:
    """The fewest digits that give the same number again."""
    return str(value)


def _fields(env: VectorEnv) -> list[tuple[str, int]]:
    """Key and index of every number of an observation."""
    spaces = seen(env.obs_space)
    for key, space in spaces.items():
        if len(space.shape) > 1:
            raise UnsupportedSpace(
                f"{env.task} cannot be told in words: its observation '{key}' is {_kind(space)} of the shape"
                f" {space.shape}, and there are words for grids of MiniGrid's kind and for a few numbers"
            )
    names = [(key, i) for key, space in spaces.items() for i in range(space.size)]
    if len(names) > MOST:
        raise UnsupportedSpace(
            f"{env.task} cannot be told in words: its observation has {len(names)} numbers without names, and"
            f" the most that is told is {MOST}"
        )
    return names


def _kind(space: Space) -> str:
    return "an image" if space.is_image else "a board" if space.is_discrete else "an array"


def _counted(key: str, index: int) -> str:
    return f"{'value' if key == 'vector' else key} {index}"
