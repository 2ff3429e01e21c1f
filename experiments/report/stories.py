"""Episodes to view: what happened, what the model predicted, and where it went wrong."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dreamer.inspection import Episodes, Inspector
from envs.api import Spaces
from envs.draw import is_drawable, picture
from envs.rollout import Episode
from experiments.decoding import caption
from experiments.report.card import Card, Window

MOST_FRAMES = 300
"""Of an episode; the last ones are shown."""
MOST_NUMBERS = 12
"""Of an observation without a picture."""
COLUMNS = 20
"""Frames in a row of a sprite sheet."""


def sprites(frames: Sequence[np.ndarray]) -> dict[str, Any]:
    """Frames [h, w, 3] of one size as one PNG sheet inside a data URI, for a page to step through."""
    from PIL import Image

    height, width = frames[0].shape[:2]
    rows = -(-len(frames) // COLUMNS)
    columns = min(len(frames), COLUMNS)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, frame in enumerate(frames):
        y, x = i // COLUMNS * height, i % COLUMNS * width
        sheet[y : y + height, x : x + width] = frame
    image, file = Image.fromarray(sheet), io.BytesIO()
    if len(frames) > 1 and len(image.getcolors(256) or []) > 1:
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(file, "png", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"uri": uri, "width": width, "height": height, "columns": columns, "count": len(frames)}


def chosen(played: Sequence[Episode], most: int = 3) -> list[int]:
    """Which episodes to show: some that succeeded and some that did not, or the best and the worst."""
    known = [e for e in played if e.success is not None]
    if known:
        kinds = [[i for i, e in enumerate(played) if e.success is kind] for kind in (True, False)]
        return [i for kind in kinds for i in kind[:most]]
    order = sorted(range(len(played)), key=lambda i: -played[i].return_)
    return order[:most] + order[most:][-most:]


def setback(reward: np.ndarray, value: np.ndarray, gamma: float) -> int:
    """The slot with the worst setback: the t with the smallest ``r[t] + gamma * v[t] - v[t-1]``."""
    if len(value) < 2:
        return 0
    return int(np.argmin(reward[1:] + gamma * value[1:] - value[:-1])) + 1


def episode(
    inspector: Inspector,
    spaces: Spaces,
    episodes: Episodes,
    card: Card,
    played: Episode,
    n: int,
    names: Sequence[str] | None,
    gamma: float,
) -> dict[str, Any]:
    """One episode as the page plays it: frames, predictions, and the outputs of the heads."""
    length = int(episodes.length[n])
    begin = max(0, length - MOST_FRAMES)
    part = slice(begin, length)
    heads = jax.tree.map(lambda x: x[n, part], card.readings.heads)
    reward = episodes.reward[n, part]
    following = np.where(episodes.is_terminal[n, part], 0.0, heads.value)
    story: dict[str, Any] = {
        "caption": caption(inspector.agent, "expected by the model"),
        "seed": played.seed,
        "return": round(played.return_, 4),
        "length": played.length,
        "success": played.success,
        "first": begin,
        "wrong": None if played.success else setback(reward, following, gamma),
        "actions": [_named({k: v[n, t] for k, v in episodes.action.items()}, names) for t in _range(part)],
        "series": {
            "critic": _rounded(heads.value),
            "reward": _rounded(reward),
            "goes on": _rounded(heads.cont),
            "surprise": _rounded(card.readings.kl[n, part]),
        },
    }
    obs = {k: v[n, part] for k, v in episodes.obs.items()}
    latent = jax.tree.map(lambda x: x[n], card.readings.latent)  # whole: one shape for all episodes
    expected = jax.device_get(inspector.decode_prior(latent))
    expected = expected and {k: v[part] for k, v in expected.items()}
    if is_drawable(spaces):
        story["seen"] = sprites(_pictures(obs, spaces))
        if expected:
            story["expected"] = sprites(_pictures(expected, spaces))
    else:
        story["numbers"] = numbers(obs, expected, inspector.agent.obs_space)
    return story


def numbers(obs: dict[str, Any], expected: dict[str, Any] | None, spaces: Spaces) -> list[dict[str, Any]]:
    """Observations without a picture: for the first entries the `name`, and [T] `seen` and `expected`."""
    rows = []
    for key, space in ((k, s) for k, s in spaces.items() if k in (expected or obs)):
        for i in range(space.size):
            name = f"{key} {i}" if space.size > 1 else key
            entry = lambda x, key=key, i=i: _rounded(np.asarray(x[key]).reshape(len(x[key]), -1)[:, i])
            rows.append({"name": name, "seen": entry(obs), "expected": entry(expected) if expected else []})
    return rows[:MOST_NUMBERS]


def clip(
    inspector: Inspector,
    spaces: Spaces,
    episodes: Episodes,
    card: Card,
    windows: Window,
    w: int,
    context: int,
) -> dict[str, Any] | None:
    """An open-loop prediction next to the truth: `context` observed slots, then the prediction.

    None where the objective does not decode.
    """
    n, slot, steps = (int(x[w]) for x in windows)
    begin = max(0, slot + 1 - context)
    looked = slice(begin, slot + 1)
    ahead = slice(slot, slot + steps)
    start = jax.tree.map(lambda x: x[n : n + 1, slot], card.readings.latent)
    action = {k: v[n : n + 1, ahead] for k, v in episodes.action.items()}
    _, forecast = inspector.forecast(start, action, key=w)
    seen = inspector.decode(jax.tree.map(lambda x: x[n, looked], card.readings.latent))
    if seen.obs is None or forecast.obs is None:
        return None
    joined = {
        k: np.concatenate([np.asarray(seen.obs[k]), np.asarray(forecast.obs[k])[0]]) for k in forecast.obs
    }
    truth = {k: episodes.obs[k][n, begin : slot + steps + 1] for k in joined}
    content: dict[str, Any] = {"context": slot + 1 - begin, "truth_values": truth, "model_values": joined}
    content["caption"] = caption(inspector.agent, "model")
    if is_drawable(spaces):
        real, imagined = _pictures(truth, spaces), _pictures(joined, spaces)
        gap = [np.abs(a.astype(int) - b).astype(np.uint8) for a, b in zip(real, imagined, strict=True)]
        content |= {"truth": sprites(real), "model": sprites(imagined), "difference": sprites(gap)}
    return content


def actions_by_value(episodes: Episodes, card: Card, names: Sequence[str], quarters: int = 4) -> np.ndarray:
    """[actions, quarters] shares of a single discrete action, by quarters of the critic's value."""
    (chosen_,) = episodes.action.values()
    inner = episodes.valid.copy()
    inner[:, :-1] &= episodes.valid[:, 1:]  # the action of a last slot had no effect
    inner[:, -1] = False
    value, action = card.readings.heads.value[inner], chosen_[inner].reshape(-1)
    edges = np.quantile(value, np.linspace(0, 1, quarters + 1)[1:-1])
    where = np.searchsorted(edges, value)
    counts = np.zeros((len(names), quarters))
    np.add.at(counts, (action, where), 1)
    return counts / np.maximum(counts.sum(0), 1)


def _pictures(obs: dict[str, Any], spaces: Spaces) -> list[np.ndarray]:
    count = len(next(iter(obs.values())))
    shown = {k: spaces[k] for k in obs if k in spaces}
    return [picture({k: obs[k][t] for k in shown}, shown, tile=12) for t in range(count)]


def _named(action: dict[str, np.ndarray], names: Sequence[str] | None) -> str:
    if names and len(action) == 1:
        return names[int(next(iter(action.values())))]
    texts = (np.array2string(np.asarray(v), precision=2, suppress_small=True) for v in action.values())
    return ", ".join(texts)


def _rounded(x: Any) -> list[float]:
    return [round(float(v), 4) for v in x]


def _range(part: slice) -> range:
    return range(part.start, part.stop)
