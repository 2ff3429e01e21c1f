"""Spaces: any Gymnasium space as a flat mapping from key to array.

Nested keys are joined with "/" (`arm/joints`, `pair/0`). What becomes of each kind of space:

    Box uint8 [h, w, c]           an image; [c, h, w] with at most 4 channels is turned around
    Box uint8 [h, w], >= 16       a grey image [h, w, 1]
    Box float                     numbers, float32
    Box integer                   numbers, int32 (float32 where the bounds exceed int32)
    Box bool, MultiBinary         2 classes
    Discrete, MultiDiscrete       classes counted from 0; unequal ones become one key per entry
    Dict, Tuple                   their parts

A lone observation is called "image", "vector" or "token", a lone action "action". An action Box is
acted on in [-1, 1]: an affine map leads to its bounds, then the action is clipped to them. A
dimension without bounds takes the number itself, and one with a single bound the interval of length
2 next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs.api import EnvError, Space, UnsupportedSpace

SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple"
MIN_IMAGE_SIDE = 16
MAX_CHANNELS = 4
NO_BOUND = 1e30
"""A bound at least this large stands for none: some environments declare the largest float."""

Reader = Callable[[Any, dict[str, np.ndarray]], None]
Builder = Callable[[Mapping[str, np.ndarray]], Any]


def flatten_observation(space: gymnasium.Space) -> tuple[dict[str, Space], Reader]:
    """Turn an observation space into flat spaces and a reader that fills a flat mapping.

    Returns:
      `{key: Space}`, and `read(raw, out)`, which writes every array of the observation `raw` into
      `out` and raises `EnvError` (expected against got) where keys, shape or dtype differ from what
      was declared.

    Raises:
      UnsupportedSpace: naming the key and the space.
    """
    pairs, read = _observation(space, "")
    return _unique(pairs, space), read


def flatten_action(space: gymnasium.Space) -> tuple[dict[str, Space], Builder]:
    """Turn an action space into flat spaces and a builder of the environment's own actions.

    Returns:
      `{key: Space}`, and `build(flat)`, which maps `{key: array}` to what the environment's `step`
      takes.

    Raises:
      UnsupportedSpace: naming the key and the space.
    """
    pairs, build = _action(space, "")
    return _unique(pairs, space), build


def box(space: Space) -> gym.Box:
    """The Gymnasium Box with the shape and dtype of a flat space, without bounds."""
    dtype = np.dtype(space.dtype)
    if dtype.kind == "b":
        return gym.Box(0, 1, space.shape, dtype)  # pyrefly: ignore
    if dtype.kind == "f":
        return gym.Box(-np.inf, np.inf, space.shape, dtype)  # pyrefly: ignore
    info = np.iinfo(dtype)
    return gym.Box(info.min, info.max, space.shape, dtype)  # pyrefly: ignore


def _unique(pairs: list[tuple[str, Space]], space: gymnasium.Space) -> dict[str, Space]:
    flat = dict(pairs)
    if not flat:
        raise UnsupportedSpace(f"the space {space} is empty")
    if len(flat) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise UnsupportedSpace(f"two parts of the space {space} get the same key '{twice}'")
    return flat


def _join(key: str, name: object) -> str:
    return f"{key}/{name}" if key else str(name)


def _unsupported(what: str, key: str, space: gymnasium.Space, why: str = "") -> UnsupportedSpace:
    name = f"{what} '{key}'" if key else what
    return UnsupportedSpace(
        f"the {name} has the space {space}, which no agent here can handle: "
        + (why or f"supported are {SUPPORTED}")
    )


def _classes(space: gymnasium.Space) -> tuple[np.ndarray, np.ndarray] | None:
    """The number of classes and the first value of every entry, None for other spaces."""
    if isinstance(space, gym.Discrete):
        return np.asarray(space.n), np.asarray(space.start)
    if isinstance(space, gym.MultiDiscrete):
        return space.nvec, np.broadcast_to(space.start, space.nvec.shape)
    if isinstance(space, gym.MultiBinary):
        return np.full(space.shape, 2), np.zeros(space.shape, int)
    return None


# Observations


def _observation(space: gymnasium.Space, key: str) -> tuple[list[tuple[str, Space]], Reader]:
    if isinstance(space, gym.Dict):
        return _read_dict(space, key)
    if isinstance(space, gym.Tuple):
        return _read_tuple(space, key)
    if 0 in (space.shape or ()):
        raise _unsupported("observation", key, space, "it has no entries")
    discrete = _classes(space)
    if discrete is not None:
        return _read_classes(space, key or "token", *discrete)
    if isinstance(space, gym.Box):
        return _read_box(space, key)
    raise _unsupported("observation", key, space)


def _read_dict(space: gym.Dict, key: str) -> tuple[list[tuple[str, Space]], Reader]:
    parts = {name: _observation(sub, _join(key, name)) for name, sub in space.items()}
    readers = [(name, read) for name, (_, read) in parts.items()]
    names, label = parts.keys(), f"observation '{key}'" if key else "the observation"

    def read(raw: Any, out: dict[str, np.ndarray]) -> None:
        if not isinstance(raw, Mapping):
            raise EnvError(f"{label} is a {type(raw).__name__}, expected a dict")
        if raw.keys() != names:
            raise EnvError(f"{label} has the keys {sorted(raw)}, expected {sorted(names)}")
        for name, part in readers:
            part(raw[name], out)

    return [pair for pairs, _ in parts.values() for pair in pairs], read


def _read_tuple(space: gym.Tuple, key: str) -> tuple[list[tuple[str, Space]], Reader]:
    parts = [_observation(sub, _join(key, i)) for i, sub in enumerate(space.spaces)]
    label = f"observation '{key}'" if key else "the observation"

    def read(raw: Any, out: dict[str, np.ndarray]) -> None:
        if not isinstance(raw, (tuple, list)) or len(raw) != len(parts):
            raise EnvError(f"{label} is {raw!r:.60}, expected a tuple of {len(parts)}")
        for value, (_, part) in zip(raw, parts, strict=True):
            part(value, out)

    return [pair for pairs, _ in parts for pair in pairs], read


def _read_classes(
    space: gymnasium.Space, key: str, classes: np.ndarray, start: np.ndarray
) -> tuple[list[tuple[str, Space]], Reader]:
    # A declared uint8 stays one, so that a replay holds a grid in one byte per cell.
    dtype = "uint8" if space.dtype == np.uint8 and not start.any() else "int32"
    array = _array_reader(key, classes.shape, dtype)
    shift = start.astype(dtype) if start.any() else None

    if (classes == classes.flat[0]).all():

        def read(raw: Any, out: dict[str, np.ndarray]) -> None:
            value = array(raw)
            out[key] = value if shift is None else np.asarray(value - shift, dtype)

        return [(key, Space(classes.shape, dtype, int(classes.flat[0])))], read

    keys = [f"{key}/{i}" for i in range(classes.size)]

    def read_each(raw: Any, out: dict[str, np.ndarray]) -> None:
        value = array(raw) if shift is None else array(raw) - shift
        out.update(zip(keys, value.reshape(-1), strict=True))

    return [(k, Space((), dtype, int(n))) for k, n in zip(keys, classes.flat, strict=True)], read_each


def _read_box(space: gym.Box, key: str) -> tuple[list[tuple[str, Space]], Reader]:
    shape, source = space.shape, space.dtype
    if source.kind == "b":
        return _read_classes(space, key or "token", np.full(shape, 2), np.zeros(shape, int))
    if source == np.uint8 and len(shape) > 3:
        raise _unsupported("observation", key, space, "stack frames along the channels, [h, w, c]")
    order, axis = _image_layout(shape) if source == np.uint8 else (None, False)
    if source == np.uint8 and (len(shape) == 3 or axis):
        key, dtype = key or "image", "uint8"
    else:
        key, dtype = key or "vector", _number_dtype(space)
    array = _array_reader(key, shape, dtype)
    out_shape = tuple(shape[i] for i in order) if order else shape + (1,) * axis

    def read(raw: Any, out: dict[str, np.ndarray]) -> None:
        value = array(raw)
        if order is not None:
            value = value.transpose(order)
        out[key] = value[..., None] if axis else value

    return [(key, Space(out_shape, dtype))], read


def _image_layout(shape: tuple[int, ...]) -> tuple[tuple[int, int, int] | None, bool]:
    """How to turn an image from [c, h, w] to [h, w, c], and whether it lacks a channel axis."""
    if len(shape) == 2:
        return None, min(shape) >= MIN_IMAGE_SIDE
    if len(shape) == 3 and min(shape[1:]) >= MIN_IMAGE_SIDE and shape[0] <= MAX_CHANNELS:
        return (1, 2, 0), False
    return None, False


def _number_dtype(space: gym.Box) -> str:
    if space.dtype.kind == "f":
        return "float32"
    limits = np.iinfo(np.int32)
    fits = space.low.min() >= limits.min and space.high.max() <= limits.max
    return "int32" if fits else "float32"


def _array_reader(key: str, shape: tuple[int, ...], dtype: str) -> Callable[[Any], np.ndarray]:
    target = np.dtype(dtype)

    def read(raw: Any) -> np.ndarray:
        try:
            value = np.asarray(raw)
        except ValueError:
            raise EnvError(f"observation '{key}' is no array: {raw!r:.60}") from None
        if value.shape != shape:
            raise EnvError(f"observation '{key}' has the shape {value.shape}, expected {shape}")
        if value.dtype == target:
            return value
        if not np.can_cast(value.dtype, target, "same_kind"):
            raise EnvError(f"observation '{key}' has the dtype {value.dtype}, expected {target}")
        return value.astype(target)

    return read


# Actions


def _action(space: gymnasium.Space, key: str) -> tuple[list[tuple[str, Space]], Builder]:
    if isinstance(space, gym.Dict):
        parts = {name: _action(sub, _join(key, name)) for name, sub in space.items()}
        pairs = [pair for part, _ in parts.values() for pair in part]
        return pairs, lambda flat: {name: build(flat) for name, (_, build) in parts.items()}
    if isinstance(space, gym.Tuple):
        items = [_action(sub, _join(key, i)) for i, sub in enumerate(space.spaces)]
        pairs = [pair for part, _ in items for pair in part]
        return pairs, lambda flat: tuple(build(flat) for _, build in items)
    if 0 in (space.shape or ()):
        raise _unsupported("action", key, space, "it has no entries")
    key = key or "action"
    discrete = _classes(space)
    if discrete is not None:
        return _build_classes(space, key, *discrete)
    if isinstance(space, gym.Box):
        return _build_box(space, key)
    raise _unsupported("action", key, space)


def _build_classes(
    space: gymnasium.Space, key: str, classes: np.ndarray, start: np.ndarray
) -> tuple[list[tuple[str, Space]], Builder]:
    if isinstance(space, gym.Discrete):
        first = int(start)
        return [(key, Space((), "int32", int(classes)))], lambda flat: int(flat[key]) + first
    shape, dtype = classes.shape, space.dtype
    if (classes == classes.flat[0]).all():
        pair = (key, Space(shape, "int32", int(classes.flat[0])))
        return [pair], lambda flat: (flat[key] + start).astype(dtype)
    keys = [f"{key}/{i}" for i in range(classes.size)]
    pairs = [(k, Space((), "int32", int(n))) for k, n in zip(keys, classes.flat, strict=True)]
    return pairs, lambda flat: (np.reshape([flat[k] for k in keys], shape) + start).astype(dtype)


def _build_box(space: gym.Box, key: str) -> tuple[list[tuple[str, Space]], Builder]:
    low, high = action_bounds(space)
    dtype, integer = space.dtype, space.dtype.kind in "iub"

    def build(flat: Mapping[str, np.ndarray]) -> np.ndarray:
        unit = np.clip(flat[key].astype(np.float64), -1, 1)
        value = low + (unit + 1) / 2 * (high - low)
        if integer:
            value = np.rint(value)
        # The cast may round past a bound that the target dtype represents exactly.
        return np.clip(value.astype(dtype), space.low, space.high)

    return [(key, Space(space.shape, "float32"))], build


def action_bounds(space: gym.Box) -> tuple[np.ndarray, np.ndarray]:
    """The finite interval that [-1, 1] is mapped to, in float64."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    has_low, has_high = np.abs(low) < NO_BOUND, np.abs(high) < NO_BOUND
    low = np.where(has_low, low, np.where(has_high, high - 2, -1.0))
    return low, np.where(has_high, high, low + 2)
