"""distractor: moving noise behind the scene, which a decoder has to predict and an agent need not.

    image[t] = where(background, noise[t], scene[t])
    noise[t] = texture_1 shifted by velocity_1 t + texture_2 shifted by velocity_2 t

An episode has two smooth random textures, which wrap around at the edges and move with velocities of their
own, by whole pixels. They follow from the seed of the episode alone, neither from actions nor from the scene;
two frames predict all others. Whatever is not background stays as it was, and so do rewards and endings.

The idea is that of the Distracting Control Suite (Stone et al. 2021); what moves here is not natural video.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs.api import UnsupportedSpace

STREAM = 1
"""Keeps the noise of a seed apart from whatever else is drawn with it."""
LAYERS = 2
PATCH = 8
"""Pixels between the random colours of a texture, which is interpolated between them."""
DARKEST, BRIGHTEST = 64, 255
"""Of the noise in every channel: black things in front of it stay visible."""
SLOWEST, FASTEST = 0.5, 2.0
"""Pixels a step."""
KEY = "image"


class Moving(NamedTuple):
    """The noise of an episode."""

    textures: np.ndarray
    """[LAYERS, h, w, channels] uint8, which add up to at most 255."""
    velocities: np.ndarray
    """[LAYERS, 2] pixels a step, down and to the right."""

    @classmethod
    def drawn(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> Moving:
        """Textures and velocities of any direction, for images [h, w, channels]."""
        angle = rng.uniform(0, 2 * np.pi, LAYERS)
        speed = rng.uniform(SLOWEST, FASTEST, LAYERS)
        textures = np.stack([_texture(rng, shape) for _ in range(LAYERS)])
        velocities = speed[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1)
        shades = DARKEST + (BRIGHTEST - DARKEST) * textures
        return cls((shades / LAYERS).astype(np.uint8), velocities)

    def at(self, t: int) -> np.ndarray:
        """The noise after t steps: [h, w, channels] uint8."""
        shifts = np.floor(self.velocities * t).astype(int).tolist()
        layers = zip(self.textures, shifts, strict=True)
        first, *others = (np.roll(texture, shift, (0, 1)) for texture, shift in layers)
        return sum(others, first)


class Distractor(gymnasium.Wrapper):
    """Noise behind the scene of the observation `image`, or of a picture that is all there is to observe.

    An image is divided into cells of the size of a tile. A cell that equals a tile shows nothing but
    background; of its pixels those of the most frequent colour of that tile are replaced by noise, so lines
    between cells remain.

    Args:
      env: shows uint8 [h, w, channels].
      tiles: [K, height, width, channels] uint8, what background looks like; of a plain colour one pixel.

    Raises:
      UnsupportedSpace: it shows no such picture, or one that is not made of whole tiles.
    """

    def __init__(self, env: gymnasium.Env, tiles: np.ndarray):
        super().__init__(env)
        self._tiles, self._plain = tiles, _most_frequent(tiles)
        self._shape = _pictured(env.observation_space, tiles.shape[1:])
        self._rng = np.random.default_rng()
        self._noise = Moving.drawn(self._rng, self._shape)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Start an episode with its scene and noise (seed None: noise that follows from the last seed)."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._rng = np.random.default_rng([STREAM, seed])
        self._noise, self._steps = Moving.drawn(self._rng, self._shape), 0
        return self._distracted(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance scene and noise."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        return self._distracted(observation), reward, terminated, truncated, info

    def _distracted(self, observation: Any) -> Any:
        if isinstance(observation, dict):
            return observation | {KEY: self._behind(observation[KEY])}
        return self._behind(observation)

    def _behind(self, scene: np.ndarray) -> np.ndarray:
        return np.where(background(scene, self._tiles, self._plain), self._noise.at(self._steps), scene)


def background(scene: np.ndarray, tiles: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Which pixels of a picture are background: [h, w, 1].

    Args:
      scene: [h, w, channels].
      tiles: [K, height, width, channels].
      plain: [K, height, width] pixels of a tile that count.
    """
    _, height, width, channels = tiles.shape
    rows, columns = scene.shape[0] // height, scene.shape[1] // width
    cells = scene.reshape(rows, height, columns, width, channels)
    pixels = np.zeros(cells.shape[:-1], bool)
    for tile, counts in zip(tiles, plain, strict=True):
        equal = (cells == tile[:, None]).all((1, 3, 4), keepdims=True)[..., 0]
        pixels |= equal & counts[:, None]
    return pixels.reshape(*scene.shape[:2], 1)


def _most_frequent(tiles: np.ndarray) -> np.ndarray:
    """Which pixels of every tile have its most frequent colour: [K, height, width]."""
    plain = []
    for tile in tiles:
        colors, counts = np.unique(tile.reshape(-1, tile.shape[-1]), axis=0, return_counts=True)
        plain.append((tile == colors[counts.argmax()]).all(-1))
    return np.stack(plain)


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A smooth periodic picture of random colours: [h, w, channels] in [0, 1]."""
    height, width, channels = shape
    colors = rng.integers(0, 2, (-(-height // PATCH), -(-width // PATCH), channels)).astype(np.float32)
    return _stretched(_stretched(colors, height).swapaxes(0, 1), width).swapaxes(0, 1)


def _stretched(values: np.ndarray, size: int) -> np.ndarray:
    """Values on a circle, interpolated linearly to so many along the first axis."""
    place = np.arange(size, dtype=np.float32) * (len(values) / size)
    before = place.astype(int)
    after = (before + 1) % len(values)
    share = (place - before).reshape(-1, *[1] * (values.ndim - 1))
    return (1 - share) * values[before] + share * values[after]


def _pictured(space: gymnasium.Space, tile: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the picture that is observed.

    Raises:
      UnsupportedSpace: there is none, or none that is made of whole tiles.
    """
    picture = space.spaces.get(KEY) if isinstance(space, gym.Dict) else space
    if not isinstance(picture, gym.Box) or picture.dtype != np.uint8 or len(picture.shape) != 3:
        raise UnsupportedSpace(
            f"a distractor needs an observation '{KEY}' of uint8 [height, width, channels], but the "
            f"observations are {space}"
        )
    height, width, channels = picture.shape
    if height % tile[0] or width % tile[1] or channels != tile[2]:
        raise UnsupportedSpace(
            f"a distractor was given background in tiles of {list(tile)}, of which the picture "
            f"{list(picture.shape)} is not made: its sides must be multiples, its channels the same"
        )
    return picture.shape
