"""What an observation looks like to a person: a picture of a grid or of an image.

Vectors have no picture; plot them as curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.api import Spaces

GRID = ("object", "color", "state")
"""The keys of a symbolic grid, as MiniGrid encodes its cells."""
SMALLEST = 96
"""Pictures with a shorter side are enlarged by a whole factor to at least this."""


def is_drawable(spaces: Spaces) -> bool:
    """Whether observations of these spaces have a picture."""
    return is_grid(spaces) or any(space.is_image for space in spaces.values())


def is_grid(spaces: Spaces) -> bool:
    """Whether they are a symbolic grid."""
    return all(k in spaces and spaces[k].is_discrete and len(spaces[k].shape) == 2 for k in GRID)


def picture(obs: Mapping[str, Any], spaces: Spaces, *, tile: int = 16) -> np.ndarray:
    """One observation (no batch axis) as [height, width, 3] uint8.

    Args:
      tile: pixels of the side of a cell of a grid.

    Raises:
      ValueError: there is nothing to draw.
    """
    if is_grid(spaces):
        return _grid(np.stack([np.asarray(obs[k]) for k in GRID], -1).astype(np.uint8), tile)
    parts = [_image(np.asarray(obs[k])) for k, space in spaces.items() if space.is_image]
    if not parts:
        raise ValueError(f"an observation of {', '.join(spaces)} has no picture")
    height = max(len(part) for part in parts)
    return np.concatenate([np.pad(p, ((0, height - len(p)), (0, 0), (0, 0))) for p in parts], 1)


def _grid(cells: np.ndarray, tile: int) -> np.ndarray:
    """Cells [width, height, 3] the way MiniGrid draws what its agent sees: itself at the lower edge."""
    from minigrid.core.grid import Grid

    import envs.adapters.minigrid  # noqa: F401  keeps pygame quiet

    grid, seen = Grid.decode(cells)
    agent = (cells.shape[0] // 2, cells.shape[1] - 1)
    return grid.render(tile, agent_pos=agent, agent_dir=3, highlight_mask=seen)


def _image(image: np.ndarray) -> np.ndarray:
    """[h, w, channels] as colours: one channel is grey, of more than three the last three are shown."""
    channels = image.shape[-1]
    if channels < 3:
        image = np.repeat(image[..., -1:], 3, -1)
    image = image[..., -3:]
    factor = max(1, -(-SMALLEST // min(image.shape[:2])))
    return image.repeat(factor, 0).repeat(factor, 1)


MOVES = ("left", "right", "forward", "pick up", "drop", "toggle", "done")
"""MiniGrid's actions in order."""


def action_names(task: str, act_space: Spaces) -> tuple[str, ...] | None:
    """What the choices of a single discrete action are called; None for other actions."""
    if len(act_space) != 1:
        return None
    (space,) = act_space.values()
    if space.classes is None or space.shape:
        return None
    suite = task.partition(":")[0]
    if suite in ("minigrid", "grid") and space.classes == len(MOVES):
        return MOVES
    return tuple(str(i) for i in range(space.classes))
