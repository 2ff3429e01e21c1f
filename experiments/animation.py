"""A moving picture of a dream: what happened, what the world model expected, and where they differ.

It plays evaluation episodes. The model sees the first steps of each (the context) and from then on only the
actions, so that everything to the right of the context on the bar is predicted open loop.

python -m experiments.figures dream RUN --out FILE.gif [--seed 3 2] [--context 3]
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from dreamer import atomic
from dreamer.inspection import Episodes, Inspector
from dreamer.player import Player
from dreamer.schema import ConfigError
from envs.api import Spaces
from envs.draw import GRID, is_drawable, is_grid, picture
from experiments.decoding import PROBE, nothing_decodes

SEED = 2**20
"""The first episode of reports, too: apart from those that evaluations play by default."""
LONGEST = 60
"""Steps of an episode that are shown."""
FORMATS = {".gif": "GIF", ".webp": "WEBP"}

SIDE, GAP, MARGIN, TOP, BOTTOM = 336, 28, 32, 76, 112
"""Pixels: of a panel, between panels, around them, above and below for the text."""
LINE = 44
"""Pixels of a line more below."""
LARGE, SMALL = 34, 29
"""Pixels of the letters, so that they can be read on a telephone, where the picture is a third as wide."""
CARD, PANEL, COMING = "#161b22", "#0b0e13", "#30363d"
INK, QUIET, DREAM, WRONG = "#e6edf3", "#8b949e", "#58a6ff", "#ff8a5c"
SEEING, DREAMING, ENDING = 750, 420, 1800
"""Milliseconds that a frame stays: of the context, of the dream, the last one."""


class Film(NamedTuple):
    """T steps of one episode beside what a model made of them."""

    truth: list[np.ndarray]
    """T pictures [h, w, 3] uint8."""
    model: list[np.ndarray]
    """T pictures: reconstructions in the context, then the dream."""
    wrong: list[str]
    """How much of the model's picture is wrong."""
    reward: np.ndarray
    """[T] received."""
    predicted: np.ndarray
    """[T] what the model expected of it."""
    context: int
    """Steps that the model saw."""
    is_probed: bool = False
    """Whether the model's pictures are seen through a probe."""


def film(player: Player, seed: int = SEED, context: int = 3) -> Film:
    """Play one episode and dream it from its first steps and its actions.

    Raises:
      ConfigError: the episode ends within the context, or there is nothing to draw.
    """
    from experiments.report.recording import record

    cfg = player.config
    if cfg is None:
        raise ConfigError("this agent has no configuration, so its task is unknown")
    import envs

    env = envs.make(cfg.task, 1, **cfg.env.world)
    try:
        spaces = {k: s for k, s in env.obs_space.items() if k in player.agent.obs_space}
        if not is_drawable(spaces):
            raise ConfigError(f"{cfg.task} shows numbers, which have no picture: see the report of the run")
        _, episodes = record(player, env, [seed], max_steps=LONGEST)
    finally:
        env.close()
    return _compare(Inspector(player.agent, player.everything, player.numbers), spaces, episodes, context)


def _compare(inspector: Inspector, spaces: Spaces, episodes: Episodes, context: int) -> Film:
    steps = int(episodes.length[0])
    if not 1 <= context < steps:
        raise ConfigError(
            f"the episode has {steps} steps and the context {context}: it must be 1 to {steps - 1}"
        )
    seen = inspector.read(episodes)
    action = {k: v[:, context - 1 : steps - 1] for k, v in episodes.action.items()}
    _, forecast = inspector.forecast(jax.tree.map(lambda x: x[:, context - 1], seen.latent), action)
    rebuilt = inspector.decode(jax.tree.map(lambda x: x[:, :context], seen.latent)).obs
    if forecast.obs is None or rebuilt is None:
        raise ConfigError(nothing_decodes(inspector.agent.cfg.objective, "its dreams cannot be drawn"))
    joined = {k: np.concatenate([rebuilt[k][0], forecast.obs[k][0]]) for k in forecast.obs}
    slots = range(steps)
    truth = [{k: episodes.obs[k][0, t] for k in joined} for t in slots]
    model = [{k: joined[k][t] for k in joined} for t in slots]
    return Film(
        [_picture(obs, spaces) for obs in truth],
        [_picture(obs, spaces) for obs in model],
        [_amiss(a, b, spaces) for a, b in zip(truth, model, strict=True)],
        np.asarray(episodes.reward[0, :steps], float),
        np.concatenate([seen.heads.reward[0, :context], forecast.heads.reward[0]]).astype(float),
        context,
        is_probed=inspector.agent.decoder == "probe",
    )


def _picture(obs: dict[str, Any], spaces: Spaces) -> np.ndarray:
    """As large as a panel, for grids in whole pixels."""
    shown = {k: spaces[k] for k in obs if k in spaces}
    tile = SIDE // max(spaces[GRID[0]].shape) if is_grid(shown) else 0
    image = picture(obs, shown, tile=max(tile, 1))
    rows, columns = (_spread(n, SIDE * n // max(image.shape[:2])) for n in image.shape[:2])
    return image[rows][:, columns]


def _spread(count: int, size: int) -> np.ndarray:
    """[size] which of `count` pixels is shown at each."""
    return np.arange(size) * count // size


def _amiss(truth: dict[str, Any], model: dict[str, Any], spaces: Spaces) -> str:
    """The cells of a grid that are wrong, of images the mean difference."""
    if is_grid({k: spaces[k] for k in truth if k in spaces}):
        wrong = np.any([truth[k] != model[k] for k in GRID], 0)
        return f"{wrong.sum()} of {wrong.size} cells"
    keys = [k for k in truth if k in spaces and spaces[k].is_image]
    gap = [np.abs(np.asarray(truth[k], float) - np.asarray(model[k], float)).mean() / 255 for k in keys]
    return f"{np.mean(gap):.1%}"


def frames(film: Film) -> list[Image.Image]:
    """One picture for every step."""
    return [_frame(film, t) for t in range(len(film.truth))]


def _frame(film: Film, t: int) -> Image.Image:
    image = Image.new("RGB", (3 * SIDE + 2 * (GAP + MARGIN), _height(film)), CARD)
    draw = ImageDraw.Draw(image)
    dreaming = t >= film.context
    panels = {
        "truth": film.truth[t],
        "dream" if dreaming else "model sees": film.model[t],
        "error": _difference(film.truth[t], film.model[t]),
    }
    for i, (name, content) in enumerate(panels.items()):
        left = MARGIN + i * (SIDE + GAP)
        color = (INK, DREAM if dreaming else INK, WRONG)[i]
        _text(draw, (left, TOP - 22), name, color, LARGE)
        _panel(image, content, left)
        if i == 1 and dreaming:
            draw.rectangle((left - 5, TOP - 5, left + SIDE + 4, TOP + SIDE + 4), outline=DREAM, width=5)
    right = image.width - MARGIN
    _text(draw, (right, TOP - 22), film.wrong[t], QUIET, SMALL, "rs")
    _caption(draw, film, t, right)
    return image


def _height(film: Film) -> int:
    return TOP + SIDE + BOTTOM + (LINE if film.is_probed else 0)


def _panel(image: Image.Image, content: np.ndarray, left: int) -> None:
    panel = Image.new("RGB", (SIDE, SIDE), PANEL)
    height, width = content.shape[:2]
    panel.paste(Image.fromarray(content), ((SIDE - width) // 2, (SIDE - height) // 2))
    image.paste(panel, (left, TOP))


def _caption(draw: ImageDraw.ImageDraw, film: Film, t: int, right: int) -> None:
    """The step, the reward and its prediction, and a bar of the whole episode."""
    ahead, line = t + 1 - film.context, TOP + SIDE + 52
    words = f"step {t}: dreaming, {ahead} ahead" if ahead > 0 else f"step {t}: sees the truth"
    _text(draw, (MARGIN, line), words, DREAM if ahead > 0 else INK, SMALL)
    reward, predicted = (x[t] + 0.0 if abs(x[t]) >= 0.005 else 0.0 for x in (film.reward, film.predicted))
    _text(draw, (right, line), f"reward {reward:.2f}, predicted {predicted:.2f}", INK, SMALL, "rs")
    edges = [int(edge) for edge in np.linspace(MARGIN, right + 6, len(film.truth) + 1)]
    for i, (left, end) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        color = COMING if i > t else DREAM if i >= film.context else QUIET
        draw.rectangle((left, line + 26, end - 7, line + 36), fill=color)
    if film.is_probed:
        _text(draw, (MARGIN, line + 36 + LINE), f"What the model sees and dreams is {PROBE}.", QUIET, SMALL)


def _difference(truth: np.ndarray, model: np.ndarray) -> np.ndarray:
    """[h, w, 3] the largest difference of the three colours, from dark (none) to bright."""
    amount = np.abs(truth.astype(int) - model).max(-1, keepdims=True) / 255
    low, high = (np.array(ImageColor.getrgb(color)) for color in (PANEL, WRONG))
    return (low + (high - low) * np.minimum(1.6 * amount, 1)).astype(np.uint8)


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], words: str, color: str, size: int, anchor: str = "ls"
) -> None:
    """Words whose baseline begins (or, with "rs", ends) at a place."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    draw.text(place, words, color, ImageFont.truetype(str(file), size), anchor)


def durations(film: Film) -> list[int]:
    """Milliseconds that each frame stays."""
    dreamt = len(film.truth) - film.context
    return [SEEING] * film.context + [DREAMING] * (dreamt - 1) + [ENDING]


def save(images: Sequence[Image.Image], duration: Sequence[int], path: Path) -> None:
    """Write frames as an animation that repeats for ever.

    Args:
      duration: milliseconds that each frame stays.

    Raises:
      ConfigError: the name of the file says no format that is known.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path} must end with {' or '.join(FORMATS)}")
    first, *rest = _indexed(images) if kind == "GIF" else images
    file = io.BytesIO()
    options: dict[str, Any] = {"optimize": True} if kind == "GIF" else {"lossless": True, "method": 6}
    first.save(file, kind, save_all=True, append_images=rest, duration=list(duration), loop=0, **options)
    atomic.write(path, file.getvalue())


def _indexed(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames with one palette of 256 colours, so that what does not change is stored once."""
    together = Image.new("RGB", (images[0].width, images[0].height * len(images)))
    for i, image in enumerate(images):
        together.paste(image, (0, i * image.height))
    palette = together.quantize(256)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]


def main(words: Sequence[str]) -> None:
    """The command.

    Raises:
      ConfigError, CheckpointError: saying what is wrong.
    """
    import dreamer

    parser = argparse.ArgumentParser(prog="python -m experiments.figures dream", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[SEED], help="of each episode, in order")
    parser.add_argument("--context", type=int, default=3, help="steps that the model sees")
    asked = parser.parse_args(words)
    player = dreamer.load(asked.run)
    films = [film(player, seed, asked.context) for seed in asked.seed]
    images = [image for played in films for image in frames(played)]
    save(images, [stays for played in films for stays in durations(played)], asked.out)
    print(f"{asked.out}: {len(images)} frames, {asked.out.stat().st_size / 1000:.0f} kB")
