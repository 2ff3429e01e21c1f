"""unflatten: from the flat mappings {key: array} of an agent back to what Gymnasium spaces hold.

The inverse of `envs.spaces`, for what stands in the place of an environment, as a world model can:

    flatten_observation    what an environment shows      ->  {key: array}    of an agent
    unflatten_observation  {key: array}, perhaps decoded  ->  an observation of the environment's space
    flatten_action         {key: array} of an agent       ->  an action of the environment's space
    unflatten_action       an action of that space        ->  {key: array}

Everything here also takes arrays with a leading axis of environments, and then gives what
`gymnasium.vector` has: arrays with that axis, in dictionaries and tuples of the space's structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs import readings
from envs.api import LOG_PREFIX, Space, Spaces
from envs.flat import choices
from envs.spaces import Builder, action_bounds, added, box, counts, join, nearest, subtracted

Taker = Callable[[Any], dict[str, np.ndarray]]


def observation_space(spaces: Spaces) -> gymnasium.Space:
    """The Gymnasium space of flat observations, where no environment says another; a lone key as itself.

    Categories and pictures have their bounds, numbers have none.
    """
    return _lone({key: _shown(space) for key, space in spaces.items() if not key.startswith(LOG_PREFIX)})


def action_space(spaces: Spaces) -> gymnasium.Space:
    """The Gymnasium space of flat actions, continuous ones in [-1, 1]; a lone key as itself."""
    return _lone({key: choices(space) for key, space in spaces.items()})


def _lone(parts: dict[str, gymnasium.Space]) -> gymnasium.Space:
    return next(iter(parts.values())) if len(parts) == 1 else gym.Dict(parts)


def _shown(space: Space) -> gymnasium.Space:
    if space.classes is None:
        return box(space)
    if not space.shape:
        return gym.Discrete(space.classes)
    return gym.Box(0, space.classes - 1, space.shape, np.dtype(space.dtype))  # pyrefly: ignore


# Observations


def unflatten_observation(space: gymnasium.Space, spaces: Spaces) -> tuple[gymnasium.Space, Builder]:
    """Turn flat observations into those of a space.

    Args:
      space: which `flatten_observation` (or the functions above) relate to `spaces`.
      spaces: the flat ones; keys for people (`log/`) may be among them.

    Returns:
      The space without its parts for people, and `build(flat)`, which maps {key: [(N,) ...]} to an
      observation of that space. Values that a decoder predicted need not be exact: they are rounded to
      what the space holds and clipped to its bounds.
    """
    return _observation(space, "", {k: s for k, s in spaces.items() if not k.startswith(LOG_PREFIX)})


def _observation(space: gymnasium.Space, key: str, spaces: Spaces) -> tuple[gymnasium.Space, Builder]:
    if isinstance(space, gym.Dict):
        seen = {name: sub for name, sub in space.items() if _names(join(key, name), spaces)}
        parts = {name: _observation(sub, join(key, name), spaces) for name, sub in seen.items()}
        left = gym.Dict({name: sub for name, (sub, _) in parts.items()})
        return left, lambda flat: {name: build(flat) for name, (_, build) in parts.items()}
    if isinstance(space, gym.Tuple):
        items = [_observation(sub, join(key, i), spaces) for i, sub in enumerate(space.spaces)]
        return gym.Tuple([sub for sub, _ in items]), lambda flat: tuple(build(flat) for _, build in items)
    names = _names(key, spaces)
    counted = counts(space)
    if counted is not None:
        return space, _counted(space, {name: spaces[name] for name in names}, *counted)
    assert isinstance(space, gym.Box)
    (name,) = names
    back = _box(space, spaces[name])
    return space, lambda flat: back(np.asarray(flat[name]))


def _names(key: str, spaces: Spaces) -> list[str]:
    """The flat keys of a part: its own one, or those of its parts or entries."""
    if key in spaces:
        return [key]
    return [name for name in spaces if not key or name.startswith(f"{key}/")]


def _counted(space: gymnasium.Space, flats: Spaces, classes: np.ndarray, start: np.ndarray) -> Builder:
    """To classes that count from `start` on: of one key, or of one for every entry."""
    zero = np.zeros((), np.int64)

    def entry(flat: Mapping[str, np.ndarray], name: str, number: int) -> np.ndarray:
        value = np.asarray(flat[name])
        return value if flats[name].is_discrete else nearest(value, zero, np.asarray(number - 1, np.int64))

    def build(flat: Mapping[str, np.ndarray]) -> np.ndarray:
        each = [entry(flat, name, int(n)) for name, n in zip(flats, classes.flat, strict=False)]
        if len(flats) == 1:
            value = each[0]
        else:
            value = np.stack(each, -1).reshape(*each[0].shape, *classes.shape)
        return added(start, value).astype(space.dtype)

    return build


def _box(space: gym.Box, flat: Space) -> Callable[[np.ndarray], np.ndarray]:
    """To an array of a Box, from how `flat` has it: a picture, categories or numbers."""
    if flat.is_image:
        return _picture(space)
    if flat.is_discrete:
        return _categories(space)
    return _whole_numbers(space, flat) if space.dtype.kind in "iub" else _numbers(space)


def _picture(space: gym.Box) -> Callable[[np.ndarray], np.ndarray]:
    order, ends = readings.forced_layout(space.shape), readings.bounds(space)
    assert order is not None and ends is not None
    shape, inverse = [space.shape[axis] for axis in order], np.argsort(order)
    low, high = ends
    to_numbers = _numbers(space) if space.dtype.kind == "f" else lambda x: nearest(x, space.low, space.high)

    def back(value: np.ndarray) -> np.ndarray:
        lead = value.shape[:-3]
        axes = (*range(len(lead)), *(len(lead) + inverse))
        value = value.reshape(*lead, *shape).transpose(axes)
        if space.dtype == np.uint8 and ends == (0, 255):
            return value.astype(np.uint8)
        return to_numbers(low + value.astype(np.float64) * ((high - low) / 255)).astype(space.dtype)

    return back


def _categories(space: gym.Box) -> Callable[[np.ndarray], np.ndarray]:
    whole = np.int64 if space.dtype.kind in "fb" else space.dtype
    low = np.asarray(int(space.low.min()), whole)
    return lambda value: np.clip(added(low, value).astype(whole), space.low, space.high).astype(space.dtype)


def _numbers(space: gym.Box) -> Callable[[np.ndarray], np.ndarray]:
    most = float(np.finfo(space.dtype).max)  # pyrefly: ignore
    low, high = (np.clip(end.astype(np.float64), -most, most) for end in (space.low, space.high))
    return lambda value: np.clip(value.astype(np.float64), low, high).astype(space.dtype)


def _whole_numbers(space: gym.Box, flat: Space) -> Callable[[np.ndarray], np.ndarray]:
    limits = np.iinfo(np.int32)
    fits = space.low.min() >= limits.min and space.high.max() <= limits.max
    if fits or flat.dtype != "int32":
        return lambda value: nearest(value, space.low, space.high).astype(space.dtype)
    span = subtracted(space.high, space.low)
    return lambda value: added(space.low, nearest(value, np.zeros_like(span), span)).astype(space.dtype)


# Actions


def unflatten_action(space: gymnasium.Space, spaces: Spaces) -> Taker:
    """What turns an action of a space into the flat one that leads to it.

    Returns:
      A function from an action to {key: [(N,) ...]}, continuous ones in [-1, 1]. It raises `ValueError`
      where the action is not one of the space; numbers beyond their bounds are clipped.
    """
    return _action(space, "", spaces)


def _action(space: gymnasium.Space, key: str, spaces: Spaces) -> Taker:
    parts: dict[Any, Taker] = {}
    if isinstance(space, gym.Dict):
        parts = {name: _action(sub, join(key, name), spaces) for name, sub in space.items()}
    if isinstance(space, gym.Tuple):
        parts = {i: _action(sub, join(key, i), spaces) for i, sub in enumerate(space.spaces)}
    if parts:
        return lambda raw: {k: v for name, take in parts.items() for k, v in take(raw[name]).items()}
    names = _names(key, spaces)
    counted = counts(space)
    if counted is not None:
        return _take_classes(names, *counted)
    assert isinstance(space, gym.Box)
    return _take_box(space, names[0])


def _take_classes(names: list[str], classes: np.ndarray, start: np.ndarray) -> Taker:
    last = added(start, classes - 1).astype(start.dtype)

    def take(raw: Any) -> dict[str, np.ndarray]:
        value = _shaped(names[0], raw, classes.shape)
        if value.dtype.kind not in "iub" or (value < start).any() or (value > last).any():
            raise ValueError(f"action '{names[0]}' is {raw!r:.60}, expected {start.min()} to {last.max()}")
        chosen = subtracted(value, start).astype(np.int32)
        if len(names) == 1:
            return {names[0]: chosen}
        entries = chosen.reshape(*chosen.shape[: chosen.ndim - classes.ndim], -1)
        return {name: entries[..., i] for i, name in enumerate(names)}

    return take


def _take_box(space: gym.Box, name: str) -> Taker:
    low, high = action_bounds(space)
    width = np.where(high > low, high - low, 1.0)

    def take(raw: Any) -> dict[str, np.ndarray]:
        value = _shaped(name, raw, space.shape).astype(np.float64)
        if not np.isfinite(value).all():
            raise ValueError(
                f"action '{name}' contains {value[~np.isfinite(value)][0]}, expected finite numbers"
            )
        return {name: np.clip(2 * (value - low) / width - 1, -1, 1).astype(np.float32)}

    return take


def _shaped(name: str, raw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape, perhaps with one axis before it."""
    value = np.asarray(raw)
    if value.shape[-len(shape) :] != shape and shape or value.ndim not in (len(shape), len(shape) + 1):
        raise ValueError(f"action '{name}' has the shape {value.shape}, expected {shape}")
    return value
