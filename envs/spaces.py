"""Spaces: any Gymnasium space as a flat mapping from key to array.

Nested keys are joined with "/" (`arm/joints`, `pair/0`). What becomes of each kind of space:

    Discrete, MultiDiscrete       classes counted from 0; unequal ones become one key per entry, and more
                                  than can be one-hot become a number
    Box bool, MultiBinary         2 classes
    other Box                     by its reading (`envs.readings`): an image uint8 [h, w, c], classes counted
                                  from the lowest, or numbers: int32 (counted from the lowest where only
                                  their range fits), float32 where the range exceeds int32
    Dict, Tuple                   their parts

A lone observation is called "image", "vector" or "token", a lone action "action". An action Box is
acted on in [-1, 1]: an affine map leads to its bounds, then the action is clipped to them. A
dimension without bounds takes the number itself, and one with a single bound the interval of length
2 next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs import readings
from envs.api import LOG_PREFIX, EnvError, Space, UnsupportedSpace
from envs.readings import MAX_ONE_HOT, NO_BOUND, Readings

SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple"
INT32 = 2**31

Reader = Callable[[Any, dict[str, np.ndarray]], None]
Builder = Callable[[Mapping[str, np.ndarray]], Any]


def flatten_observation(
    space: gymnasium.Space,
    *,
    pixels: Collection[str] = (),
    categories: Collection[str] = (),
    notices: list[str] | None = None,
) -> tuple[dict[str, Space], Reader]:
    """Turn an observation space into flat spaces and a reader that fills a flat mapping.

    Args:
      pixels, categories: flat keys of Boxes to read as pictures and as categories.
      notices: gets a sentence for every key whose reading had to be chosen.

    Returns:
      `{key: Space}`, and `read(raw, out)`, which writes every array of the observation `raw` into
      `out` and raises `EnvError` (expected against got) where keys, shape or dtype differ from what
      was declared.

    Raises:
      UnsupportedSpace: naming the key and the space.
    """
    asked = Readings(pixels, categories, [] if notices is None else notices)
    pairs, read = _observation(space, "", asked)
    flat = _unique(pairs, space)
    asked.check(flat)
    if all(key.startswith(LOG_PREFIX) for key in flat):
        raise UnsupportedSpace(
            f"the observation has only keys that are for people ({', '.join(flat)}), so no agent would see "
            f"anything: name what it should see without '{LOG_PREFIX}'"
        )
    return flat, read


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


def join(key: str, name: object) -> str:
    """The key of a part of what has a key ("" for the whole)."""
    return f"{key}/{name}" if key else str(name)


def _unsupported(what: str, key: str, space: gymnasium.Space, why: str = "") -> UnsupportedSpace:
    name = f"{what} '{key}'" if key else what
    return UnsupportedSpace(
        f"the {name} has the space {space}, which no agent here can handle: "
        + (why or f"supported are {SUPPORTED}")
    )


def counts(space: gymnasium.Space) -> tuple[np.ndarray, np.ndarray] | None:
    """The number of classes and the first value of every entry, None for other spaces."""
    if isinstance(space, gym.Discrete):
        return np.asarray(space.n), np.asarray(space.start)
    if isinstance(space, gym.MultiDiscrete):
        return space.nvec, np.broadcast_to(space.start, space.nvec.shape)
    if isinstance(space, gym.MultiBinary):
        return np.full(space.shape, 2), np.zeros(space.shape, int)
    return None


# Observations


def _observation(space: gymnasium.Space, key: str, asked: Readings) -> tuple[list[tuple[str, Space]], Reader]:
    if isinstance(space, gym.Dict):
        return _read_dict(space, key, asked)
    if isinstance(space, gym.Tuple):
        return _read_tuple(space, key, asked)
    if 0 in (space.shape or ()):
        raise _unsupported("observation", key, space, "it has no entries")
    discrete = counts(space)
    if discrete is not None:
        if asked.of(key) == "pixels":
            raise _unsupported("observation", key, space, "env.pixels names it, but it is no Box of pixels")
        return _read_classes(space, key, *discrete, asked)
    if isinstance(space, gym.Box):
        return _read_box(space, key, asked)
    raise _unsupported("observation", key, space)


def _read_dict(space: gym.Dict, key: str, asked: Readings) -> tuple[list[tuple[str, Space]], Reader]:
    parts = {name: _observation(sub, join(key, name), asked) for name, sub in space.items()}
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


def _read_tuple(space: gym.Tuple, key: str, asked: Readings) -> tuple[list[tuple[str, Space]], Reader]:
    parts = [_observation(sub, join(key, i), asked) for i, sub in enumerate(space.spaces)]
    label = f"observation '{key}'" if key else "the observation"

    def read(raw: Any, out: dict[str, np.ndarray]) -> None:
        if not isinstance(raw, (tuple, list)) or len(raw) != len(parts):
            raise EnvError(f"{label} is {raw!r:.60}, expected a tuple of {len(parts)}")
        for value, (_, part) in zip(raw, parts, strict=True):
            part(value, out)

    return [pair for pairs, _ in parts for pair in pairs], read


def _read_classes(
    space: gymnasium.Space, key: str, classes: np.ndarray, start: np.ndarray, asked: Readings
) -> tuple[list[tuple[str, Space]], Reader]:
    """What counts from `start` on: equal entries as one key, unequal ones as a key each."""
    chosen, shape = asked.of(key), classes.shape
    if (classes == classes.flat[0]).all():
        key = key or ("token" if classes.size * int(classes.flat[0]) <= MAX_ONE_HOT else "vector")
        flat = _counted(space, key, shape, int(classes.flat[0]), chosen, asked)
        array = _counter(key, space, classes, start, flat)

        def read(raw: Any, out: dict[str, np.ndarray]) -> None:
            out[key] = array(raw)

        return [(key, flat)], read

    key = key or "token"
    named = [(f"{key}/{i}", int(n)) for i, n in enumerate(classes.flat)]
    flats = {k: _counted(space, k, (), n, asked.of(k) or chosen, asked) for k, n in named}
    dtypes = {flat.dtype for flat in flats.values()}
    wide = Space(shape, dtypes.pop() if len(dtypes) == 1 else "int64", int(classes.max()))
    array = _counter(key, space, classes, start, wide)

    def read_each(raw: Any, out: dict[str, np.ndarray]) -> None:
        entries = array(raw).reshape(-1)
        out.update((k, x.astype(flat.dtype)) for (k, flat), x in zip(flats.items(), entries, strict=True))

    return list(flats.items()), read_each


def _counted(
    space: gymnasium.Space, key: str, shape: tuple[int, ...], number: int, chosen: str | None, asked: Readings
) -> Space:
    """So many classes, or a number where one input for each of them would fill the memory."""
    costs = _too_many(number, shape)
    if not costs or key.startswith(LOG_PREFIX):
        # A declared uint8 stays one, so that a replay holds a grid in one byte per cell.
        return Space(shape, "uint8" if space.dtype == np.uint8 else "int32", number)
    if chosen == "categories":
        raise _unsupported("observation", key, space, f"env.categories names it, but it has {costs}")
    asked.say(key, f"observation '{key}' has {costs}, so it is read as numbers instead")
    return Space(shape, "int32" if number <= INT32 else "float32")


def _too_many(number: int, shape: tuple[int, ...]) -> str:
    """What so many classes for every entry of a shape would cost; empty where they can be one-hot."""
    size = int(np.prod(shape, dtype=int))
    if number * size <= MAX_ONE_HOT:
        return ""
    step = 4 * number * size
    memory = lambda count: f"{count / 1e9:,.0f} GB" if count >= 1e10 else f"{count / 1e6:,.0f} MB"
    entries = "" if size == 1 else f"{size:,} entries of "
    return (
        f"{entries}{number:,} classes, which as categories take {memory(step)} at every step, "
        f"{memory(1024 * step)} for a batch of 16 x 64"
    )


def _counter(
    key: str, space: gymnasium.Space, classes: np.ndarray, start: np.ndarray, flat: Space
) -> Callable[[Any], np.ndarray]:
    """What reads classes that count from `start` on."""
    if not start.any() and flat.classes is not None and flat.dtype != "int64":
        return _array_reader(key, flat.shape, flat.dtype)
    return _offset_reader(key, start, added(start, classes - 1).astype(space.dtype), flat)


def _offset_reader(key: str, low: np.ndarray, high: np.ndarray, flat: Space) -> Callable[[Any], np.ndarray]:
    """What reads whole numbers of `low` to `high` as how far they lie above `low`, also beyond int64."""

    def read(raw: Any) -> np.ndarray:
        value = _shaped(key, raw, flat.shape)
        if value.dtype.kind not in "iub":
            raise EnvError(f"observation '{key}' has the dtype {value.dtype}, expected {low.dtype}")
        wrong = (value < low) | (value > high)
        if wrong.any():
            raise EnvError(
                f"observation '{key}' contains {value[wrong].flat[0]}, expected {low.min()} to {high.max()}"
            )
        return subtracted(value, low).astype(flat.dtype)

    return read


def _read_box(space: gym.Box, key: str, asked: Readings) -> tuple[list[tuple[str, Space]], Reader]:
    chosen = asked.of(key)
    reading = chosen or readings.usual(space)
    key = key or readings.LONE[reading]
    if chosen is None:
        asked.say(key, readings.sentence(space, key, reading))
    flat, array = {"pixels": _pixels, "categories": _categories, "numbers": _numbers}[reading](space, key)

    def read(raw: Any, out: dict[str, np.ndarray]) -> None:
        out[key] = array(raw)

    return [(key, flat)], read


def _pixels(space: gym.Box, key: str) -> tuple[Space, Callable[[Any], np.ndarray]]:
    """A picture, its bounds scaled to 0 and 255."""
    order, ends = readings.forced_layout(space.shape), readings.bounds(space)
    if order is None or ends is None or ends[0] == ends[1]:
        lacks = "2 to 4 sides" if order is None else "two bounds, one for black and one for white"
        raise _unsupported("observation", key, space, f"a picture needs {lacks}")
    h, w, *rest = (space.shape[axis] for axis in order)
    flat = Space((h, w, int(np.prod(rest, dtype=int))), "uint8")
    array, (low, high) = _array_reader(key, space.shape, str(space.dtype)), ends
    plain = space.dtype == np.uint8 and ends == (0, 255)

    def read(raw: Any) -> np.ndarray:
        value = array(raw)
        if not plain:
            shade = (value.astype(np.float64) - low) * (255 / (high - low))
            # A resized picture may lie beyond its bounds by a rounding error.
            if not (shade.min() > -0.5 and shade.max() < 255.5):
                raise EnvError(
                    f"observation '{key}' contains {value.min()} to {value.max()}, expected {low} to {high}"
                )
            value = np.clip(np.rint(shade), 0, 255).astype(np.uint8)
        return value.transpose(order).reshape(flat.shape)

    return flat, read


def _categories(space: gym.Box, key: str) -> tuple[Space, Callable[[Any], np.ndarray]]:
    """Classes counted from the lowest number."""
    number, ends = readings.classes(space), readings.bounds(space)
    if number is None or ends is None:
        raise _unsupported("observation", key, space, "categories need bounds that are whole numbers")
    if costs := _too_many(number, space.shape):
        raise _unsupported("observation", key, space, f"env.categories names it, but it has {costs}")
    # No class is missing in a Box, so it needs no sign.
    flat = Space(space.shape, "uint8" if number <= 256 else "int32", number)
    if space.dtype.kind == "b":
        return Space(space.shape, "int32", 2), _array_reader(key, space.shape, "int32")
    if ends[0] == 0 and space.dtype == np.uint8:
        return flat, _array_reader(key, space.shape, flat.dtype)
    whole = np.int64 if space.dtype.kind == "f" else space.dtype
    low, high = (np.asarray(int(end), whole) for end in ends)
    counted = _offset_reader(key, low, high, flat)
    return flat, counted if space.dtype.kind != "f" else lambda raw: counted(_whole(key, raw))


def _whole(key: str, raw: Any) -> np.ndarray:
    """Floats that are whole numbers as such."""
    value = np.asarray(raw)
    if value.dtype.kind == "f":
        if not (value == np.rint(value)).all():
            raise EnvError(
                f"observation '{key}' contains {value[value != np.rint(value)][0]}, expected whole numbers"
            )
        value = value.astype(np.int64)
    return value


def _numbers(space: gym.Box, key: str) -> tuple[Space, Callable[[Any], np.ndarray]]:
    """Numbers as they are, or whole ones above their lowest where only that fits."""
    limits = np.iinfo(np.int32)
    if space.dtype.kind == "f":
        dtype = "float32"
    elif space.low.min() >= limits.min and space.high.max() <= limits.max:
        dtype = "int32"
    elif subtracted(space.high, space.low).max() <= limits.max:
        flat = Space(space.shape, "int32")
        return flat, _offset_reader(key, space.low, space.high, flat)
    else:
        dtype = "float32"
    return Space(space.shape, dtype), _array_reader(key, space.shape, dtype)


def _array_reader(key: str, shape: tuple[int, ...], dtype: str) -> Callable[[Any], np.ndarray]:
    target = np.dtype(dtype)

    def read(raw: Any) -> np.ndarray:
        value = _shaped(key, raw, shape)
        if value.dtype == target:
            return value
        if not np.can_cast(value.dtype, target, "same_kind"):
            raise EnvError(f"observation '{key}' has the dtype {value.dtype}, expected {target}")
        return value.astype(target)

    return read


def subtracted(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """How far whole numbers lie above others, as uint64: right where that fits no signed dtype."""
    with np.errstate(over="ignore"):  # modulo 2^64
        return np.asarray(high.astype(np.uint64) - low.astype(np.uint64))


def added(low: np.ndarray, above: np.ndarray) -> np.ndarray:
    """The inverse, still to be brought to the dtype of `low`."""
    with np.errstate(over="ignore"):
        return np.asarray(low.astype(np.uint64) + above.astype(np.uint64))


def _shaped(key: str, raw: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        value = np.asarray(raw)
    except ValueError:
        raise EnvError(f"observation '{key}' is no array: {raw!r:.60}") from None
    if value.shape != shape:
        raise EnvError(f"observation '{key}' has the shape {value.shape}, expected {shape}")
    return value


# Actions


def _action(space: gymnasium.Space, key: str) -> tuple[list[tuple[str, Space]], Builder]:
    if isinstance(space, gym.Dict):
        parts = {name: _action(sub, join(key, name)) for name, sub in space.items()}
        pairs = [pair for part, _ in parts.values() for pair in part]
        return pairs, lambda flat: {name: build(flat) for name, (_, build) in parts.items()}
    if isinstance(space, gym.Tuple):
        items = [_action(sub, join(key, i)) for i, sub in enumerate(space.spaces)]
        pairs = [pair for part, _ in items for pair in part]
        return pairs, lambda flat: tuple(build(flat) for _, build in items)
    if 0 in (space.shape or ()):
        raise _unsupported("action", key, space, "it has no entries")
    key = key or "action"
    discrete = counts(space)
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
        return [(key, _choices(space, key, (), int(classes)))], lambda flat: int(flat[key]) + first
    shape, dtype = classes.shape, space.dtype
    first = start.astype(dtype)
    if (classes == classes.flat[0]).all():
        pair = (key, _choices(space, key, shape, int(classes.flat[0])))
        return [pair], lambda flat: flat[key].astype(dtype) + first
    keys = [f"{key}/{i}" for i in range(classes.size)]
    pairs = [(k, _choices(space, k, (), int(n))) for k, n in zip(keys, classes.flat, strict=True)]
    return pairs, lambda flat: np.reshape([flat[k] for k in keys], shape).astype(dtype) + first


def _choices(space: gymnasium.Space, key: str, shape: tuple[int, ...], number: int) -> Space:
    """The classes of an action, each of which is an output of the policy and an input of the dynamics."""
    if costs := _too_many(number, shape):
        raise _unsupported("action", key, space, f"it has {costs}")
    return Space(shape, "int32", number)


def _build_box(space: gym.Box, key: str) -> tuple[list[tuple[str, Space]], Builder]:
    to_bounds = _to_whole(space) if space.dtype.kind in "iub" else _to_numbers(space)

    def build(flat: Mapping[str, np.ndarray]) -> np.ndarray:
        unit = np.clip(flat[key].astype(np.float64), -1, 1)
        return to_bounds((unit + 1) / 2)

    return [(key, Space(space.shape, "float32"))], build


def _to_numbers(space: gym.Box) -> Callable[[np.ndarray], np.ndarray]:
    """From [0, 1] to the bounds."""
    low, high = action_bounds(space)
    # The cast may round past a bound that the target dtype represents exactly.
    return lambda share: np.clip((low + share * (high - low)).astype(space.dtype), space.low, space.high)


def _to_whole(space: gym.Box) -> Callable[[np.ndarray], np.ndarray]:
    """From [0, 1] to the nearest whole number within the bounds, exact at both ends of every dtype."""
    span = subtracted(space.high, space.low)
    most = span.astype(np.float64)
    return lambda share: added(space.low, nearest(share * most, np.zeros_like(span), span)).astype(
        space.dtype
    )


def nearest(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The nearest whole numbers from `low` to `high`, in their dtype and exact at both ends of it."""
    value, bottom, top = (np.asarray(x, np.float64) for x in (value, low, high))
    rounded = np.rint(value)
    inside = (rounded > bottom) & (rounded < top)
    return np.where(
        inside, np.where(inside, rounded, 0).astype(low.dtype), np.where(rounded < top, low, high)
    )


def action_bounds(space: gym.Box) -> tuple[np.ndarray, np.ndarray]:
    """The finite interval that [-1, 1] is mapped to, in float64."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    has_low, has_high = np.abs(low) < NO_BOUND, np.abs(high) < NO_BOUND
    low = np.where(has_low, low, np.where(has_high, high - 2, -1.0))
    return low, np.where(has_high, high, low + 2)
