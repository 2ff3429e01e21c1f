"""Readings: whether an array that an environment shows is a picture, categories or numbers.

A Box says its dtype, its shape and its bounds, not what it means. How one is read by default:

    few whole numbers, in one byte or in a grid      categories, counted from the lowest
    uint8 in a grid too small for a picture          categories, whatever its bounds: codes of cells are often
                                                     declared as 0..255, and as numbers they are not learned
    uint8 with two sides of at least 16              a picture
    other dtypes of 0..255, or floats of 0..1,       a picture, if two of its three or four sides are of
                                                     at least 16 and it has fewer than 16 channels
    everything else                                  numbers

Where another reading would make sense too, a sentence says which one was taken and which field of the
configuration (`env.pixels`, `env.categories`) takes the other.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from gymnasium import spaces as gym

from envs.api import LOG_PREFIX, UnsupportedSpace

Reading = Literal["pixels", "categories", "numbers"]

NO_BOUND = 1e30
"""A bound at least this large stands for none: some environments declare the largest float."""
MIN_IMAGE_SIDE = 16
MAX_CATEGORIES = 64
"""A Box of at most so many whole numbers is read as categories where it could also be something else."""
MAX_GUESSED = 2**16
"""Inputs, entries times classes, up to which a Box is read as categories without being asked."""
MAX_ONE_HOT = 2**18
"""Inputs up to which an observation may be categories at all: a MiB a step, a GiB in a batch of 16 x 64."""
LONE: dict[Reading, str] = {"pixels": "image", "categories": "token", "numbers": "vector"}
"""What a lone observation is called, by its reading: each of these names it in the configuration."""


class Readings:
    """The readings that the user asked for, and notices about the others.

    Args:
      pixels, categories: keys to read that way.
      notices: gets a sentence for every key whose reading had to be chosen.
    """

    def __init__(self, pixels: Collection[str], categories: Collection[str], notices: list[str]):
        twice = sorted(set(pixels) & set(categories))
        if twice:
            raise UnsupportedSpace(f"env.pixels and env.categories both name '{twice[0]}'; name it in one")
        self._asked: dict[str, Reading] = {key: "pixels" for key in pixels}
        self._asked |= {key: "categories" for key in categories}
        self._notices = notices
        self._known: set[str] = set()

    def of(self, key: str) -> Reading | None:
        """What was asked for a key ("": of the lone observation)."""
        names = (key,) if key else tuple(LONE.values())
        self._known.update(names)
        return next((self._asked[name] for name in names if name in self._asked), None)

    def say(self, key: str, sentence: str) -> None:
        """A sentence about a key that an agent sees; nothing where it is empty."""
        if sentence and not key.startswith(LOG_PREFIX):
            self._notices.append(sentence)

    def check(self, keys: Collection[str]) -> None:
        """See that only keys were named that are there.

        Raises:
          UnsupportedSpace: with the keys there are, and a close one.
        """
        for name, reading in self._asked.items():
            if name not in self._known and name not in keys:
                shown = [key for key in keys if not key.startswith(LOG_PREFIX)]
                close = difflib.get_close_matches(name, shown, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise UnsupportedSpace(
                    f"env.{reading} names '{name}', but the observation has the keys {', '.join(shown)}{hint}"
                )


def bounds(space: gym.Box) -> tuple[float, float] | None:
    """The lowest and the highest value of all entries, exact for whole numbers; None without bounds."""
    low, high = space.low.min().item(), space.high.max().item()
    return (low, high) if all(abs(end) < NO_BOUND for end in (low, high)) else None


def classes(space: gym.Box) -> int | None:
    """How many whole numbers lie between the bounds; None where those are missing or not whole."""
    ends = bounds(space)
    if ends is None or any(end != int(end) for end in ends):
        return None
    return int(ends[1]) - int(ends[0]) + 1


def usual(space: gym.Box) -> Reading:
    """How a Box is read by default."""
    whole, kind, order = space.dtype.kind in "iub", space.dtype, layout(space.shape)
    grid = len(space.shape) > 1
    number = classes(space) if whole and (kind.itemsize == 1 or grid) else None
    few = MAX_CATEGORIES if order or not grid or kind != np.uint8 else 256
    if number is not None and number <= few and space.low.size * number <= MAX_GUESSED:
        return "categories"
    if order is None or bounds(space) is None:
        return "numbers"
    if kind in (np.uint8, np.bool_):
        return "pixels"
    channels = space.low.size // (space.shape[order[0]] * space.shape[order[1]])
    shades = ((0, 255),) if whole else ((0, 255), (0, 1))
    pictured = len(order) > 2 and channels < MIN_IMAGE_SIDE and bounds(space) in shades
    return "pixels" if pictured else "numbers"


def layout(shape: Sequence[int]) -> tuple[int, ...] | None:
    """The order of axes that makes a picture [h, w, channels ...] of an array; None if it cannot be one.

    [h, w] is grey. Of [c, h, w] and [h, w, c] the picture is what has two sides of at least
    `MIN_IMAGE_SIDE`; where both do, what is square, else what has fewer channels. Of four axes the first (or
    the last) counts frames.
    """
    large = [side >= MIN_IMAGE_SIDE for side in shape]
    if len(shape) == 2:
        return (0, 1) if all(large) else None
    if len(shape) == 3:
        first, last = all(large[1:]), all(large[:2])
        if first and (not last or _first_is_channels(shape)):
            return (1, 2, 0)
        return (0, 1, 2) if last else None
    if len(shape) == 4:
        if all(large[:2]) and not any(large[2:]):
            return (0, 1, 2, 3)
        frame = layout(shape[1:])
        return None if frame is None else (frame[0] + 1, frame[1] + 1, 0, frame[2] + 1)
    return None


def _first_is_channels(shape: Sequence[int]) -> bool:
    """Of three sides that are all large enough for a picture, whether the first one counts channels."""
    a, b, c = shape
    return a != b and (b == c or a < c)


def forced_layout(shape: Sequence[int]) -> tuple[int, ...] | None:
    """The order of axes of a picture of any size; None if there are too few axes or too many."""
    axes = layout(shape)
    if axes is not None or not 2 <= len(shape) <= 4:
        return axes
    if len(shape) == 4:
        frame = forced_layout(shape[1:])
        return None if frame is None else (frame[0] + 1, frame[1] + 1, 0, frame[2] + 1)
    if len(shape) == 2:
        return (0, 1)
    return (1, 2, 0) if shape[0] <= 4 < shape[2] else (0, 1, 2)


def described(space: gym.Box) -> str:
    """A Box in a few characters: uint8[5, 5, 2] of 0 to 1."""
    ends = bounds(space)
    inside = "without bounds" if ends is None else f"of {ends[0]:g} to {ends[1]:g}"
    return f"{space.dtype}{list(space.shape)} {inside}"


def sentence(space: gym.Box, key: str, reading: Reading) -> str:
    """The notice about a reading chosen by default; empty where no other one makes sense.

    Args:
      key: its flat key, by which the configuration names it.
    """
    start = f"observation '{key}' ({described(space)}) is read as"
    number = classes(space) if space.dtype.kind in "iu" else None
    picture = forced_layout(space.shape) is not None and bounds(space) is not None
    as_picture = f"--env.pixels {key} reads it as a picture" if picture else ""
    if reading == "categories":
        if number is None:  # truth values are no numbers
            return ""
        costs = number > MAX_CATEGORIES
        cheaper = "bounds no wider than its values would make it cheaper" if costs else ""
        return _joined(f"{start} categories, {number} an entry", cheaper, as_picture)
    few = number is not None and space.low.size * number <= MAX_ONE_HOT
    as_categories = f"--env.categories {key} reads it as categories" if few else ""
    if reading == "pixels":
        return _of_picture(space, start, as_categories)
    grid = space.dtype == np.uint8 and len(space.shape) > 1
    pictured = layout(space.shape) is not None and (picture or len(space.shape) > 2)
    if not grid and not pictured:
        return ""
    as_picture = as_picture or "with bounds it could be read as a picture"
    return _joined(f"{start} {space.low.size:,} numbers", as_categories, as_picture)


def _of_picture(space: gym.Box, start: str, as_categories: str) -> str:
    order = layout(space.shape)
    assert order is not None
    h, w = (space.shape[axis] for axis in order[:2])
    plain = space.dtype.kind in "iu" and bounds(space) == (0, 255)
    if plain and (len(space.shape) == 2 or min(space.shape) < MIN_IMAGE_SIDE):
        return ""
    scaled = "" if plain else ", its bounds as black and white"
    rounded = ", rounded to 256 shades" if space.dtype.kind == "f" else ""
    text = f"{start} a picture {h}x{w} with {space.low.size // (h * w)} channels{scaled}{rounded}"
    return _joined(text, "" if plain else as_categories)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
