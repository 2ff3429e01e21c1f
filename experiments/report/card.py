"""The report card of a world model: measurements of what it knows.

`measure` queries an `Inspector` on recorded episodes and keeps the arrays that the figures are drawn from;
the meaning of each number is in `meanings`. Nothing here draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.inspection import Episodes, Forecast, Inspector, PosteriorStats
from dreamer.records import Latent
from envs.api import Space, Spaces
from experiments.report.meanings import CARD, FAR

WINDOWS, STATES, SLOTS = 512, 2048, 8192
"""Maximum numbers of open-loop predictions, dreams, and slots whose next reward and ending are predicted."""
BINS = 10
"""Of a reliability diagram, by quantile and again by width."""
USED = 1.15
"""Perplexity of a latent that takes a second value; 1% of chance alone makes 1.11 of a hundred classes."""


class Reliability(NamedTuple):
    """Binned predictions and outcomes."""

    expected: np.ndarray
    happened: np.ndarray
    count: np.ndarray
    noise: np.ndarray
    """Variance of `happened` by chance alone."""

    @property
    def error(self) -> float | None:
        """Root mean square gap, weighted by counts, without the part due to chance; None without data.

            sqrt(sum_b n_b ((e_b - h_b)^2 - noise_b) / sum_b n_b)

        Reference: Kumar, Liang and Ma (2019), Verified uncertainty calibration, section 5.
        """
        if not len(self.count):
            return None
        gap = np.square(self.expected - self.happened) - self.noise
        return math.sqrt(max(float((gap * self.count).sum() / self.count.sum()), 0.0))


class OpenLoop(NamedTuple):
    """Open-loop predictions against what happened."""

    error: dict[str, np.ndarray]
    """{key: [H]} share of wrong entries, or root mean square error over the standard deviation."""
    shuffled: dict[str, np.ndarray]
    """The same with the actions of other episodes."""
    still: dict[str, np.ndarray]
    """The same for predicting no change."""
    reward: np.ndarray
    """[H] mean absolute error."""
    cont: np.ndarray
    """[H] mean absolute error of the probability that the episode continues."""


@dataclass(frozen=True)
class Card:
    """Everything measured of one agent."""

    numbers: dict[str, float | None]
    """{name in `CARD`: value}; None where the episodes do not determine it."""
    open_loop: OpenLoop
    cont: Sequence[Reliability]
    """One and `FAR` steps ahead."""
    reward: Sequence[Reliability]
    spread: tuple[np.ndarray, np.ndarray]
    """Spread and error of the reward predictions."""
    returns: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Actual returns, those of the critic, and imagined ones, of the same states."""
    surprise: Sequence[np.ndarray]
    """[T] KL, posterior and prior entropy by slot of the episode."""
    perplexity: np.ndarray
    """[S] of every categorical latent, largest first."""
    readings: PosteriorStats
    """Of all episodes, [N, T, ...]."""


def measure(
    inspector: Inspector, episodes: Episodes, *, context: int, horizon: int, gamma: float, key: int = 0
) -> Card:
    """Measure a world model on episodes.

    Args:
      context: slots that are observed before an open-loop prediction.
      horizon: its steps.
      gamma: discount of the returns.
    """
    spaces = inspector.agent.obs_space
    seen = episodes._replace(obs={k: episodes.obs[k] for k in spaces})
    readings = jax.device_get(inspector.read(seen, key=key))
    valid = episodes.valid

    windows = cut(episodes.length, context, horizon)
    first, forecast = _predict(inspector, seen, readings.latent, windows, horizon, key)
    _, shuffled = _predict(inspector, seen, readings.latent, windows, horizon, key, shuffle=True)
    loop = _open_loop(spaces, seen, windows, forecast, shuffled)
    one, far = (_heads(inspector, seen, readings.latent, steps, key) for steps in (1, FAR))

    happened, some = discounted(episodes, readings.heads.value, gamma), _some(valid, STATES)
    states = jax.tree.map(lambda x: x[some], readings.latent)
    dreamt = np.asarray(inspector.dream(states, inspector.agent.cfg.behavior.imag_length, key=key))
    returns = happened[some], readings.heads.value[some], dreamt
    earned = discounted(episodes, np.zeros_like(readings.heads.value), gamma)  # without bootstrap
    size = float(np.square(earned[some]).mean()) if len(some[0]) else 0.0

    wrong = np.abs(one.expected_reward - one.reward)
    usage = readings.latent.stoch[valid].astype(np.float64).mean(0)
    perplexity = np.sort(np.exp(-(usage * np.log(np.maximum(usage, 1e-12))).sum(-1)))[::-1]
    by_slot = tuple(
        _mean_by_slot(x, valid) for x in (readings.kl, readings.posterior_entropy, readings.prior_entropy)
    )
    cont = tuple(reliability(h.expected_cont, h.goes_on) for h in (one, far))
    reward = tuple(reliability(h.expected_reward, h.reward) for h in (one, far))
    mean = lambda x: float(x[valid].mean())
    numbers = {
        "prediction_skill": _skill(loop),
        "reward_skill": _explained(one.reward, one.expected_reward, float(np.var(one.reward))),
        "action_ratio": _ratio(loop) if len(windows.slot) > 1 else None,
        "value_skill": _explained(returns[0], returns[1], size),
        "dream_skill": _explained(returns[0], returns[2], size),
        "cont_error": _over(cont[0].error, _size(1 - one.goes_on)),
        "cont_error_far": _over(cont[1].error, _size(1 - far.goes_on)),
        "reward_error": _over(reward[0].error, _size(one.reward)),
        "reward_error_far": _over(reward[1].error, _size(far.reward)),
        "spread_rank": _rank_correlation(one.spread, wrong) if np.var(one.reward) > 0 else None,
        "surprise": mean(readings.kl),
        "posterior_entropy": mean(readings.posterior_entropy),
        "prior_entropy": mean(readings.prior_entropy),
        "latents_used": float((perplexity > USED).mean()),
        "randomness": mean(readings.heads.entropy),
    }
    assert numbers.keys() == CARD.keys()
    return Card(numbers, loop, cont, reward, (one.spread, wrong), returns, by_slot, perplexity, readings)


class Window(NamedTuple):
    """Where an open-loop prediction starts: after slot `slot` of episode `episode`."""

    episode: np.ndarray
    slot: np.ndarray
    steps: np.ndarray
    """How many of its steps lie in the episode."""


def cut(length: np.ndarray, context: int, horizon: int, most: int = WINDOWS) -> Window:
    """Consecutive windows in every episode, the first after `context` slots (or half of a short episode)."""
    starts = []
    for episode, slots in enumerate(length):
        start = min(context, max(int(slots) // 2, 1)) - 1
        starts += [
            (episode, slot, min(horizon, slots - 1 - slot)) for slot in range(start, slots - 1, horizon)
        ]
    chosen = np.asarray(starts, np.int32).reshape(-1, 3)
    chosen = chosen[np.sort(np.random.default_rng(0).permutation(len(chosen))[:most])]
    return Window(*chosen.T)


def _ahead(x: Any, windows: Window, horizon: int, offset: int) -> Any:
    """[W, H, ...] of what is `offset` slots behind each of the `horizon` steps from a window's start."""
    last = np.shape(x)[1] - 1
    slots = np.minimum(windows.slot[:, None] + np.arange(horizon) + offset, last)
    return np.asarray(x)[windows.episode[:, None], slots]


def _start(
    episodes: Episodes, latent: Latent, windows: Window, horizon: int
) -> tuple[Latent, dict[str, np.ndarray]]:
    """Where windows start, and the actions from there on."""
    start = jax.tree.map(lambda x: x[windows.episode, windows.slot], latent)
    return start, {k: _ahead(v, windows, horizon, 0) for k, v in episodes.action.items()}


def _predict(
    inspector: Inspector,
    episodes: Episodes,
    latent: Latent,
    windows: Window,
    horizon: int,
    key: int,
    *,
    shuffle: bool = False,
) -> tuple[Latent, Forecast]:
    start, action = _start(episodes, latent, windows, horizon)
    if shuffle:
        order = np.random.default_rng(key).permutation(len(windows.slot))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)  # no window keeps its own actions
        action = {k: v[other] for k, v in action.items()}
    reached, forecast = inspector.forecast(start, action, key=key)
    return jax.device_get(reached), jax.device_get(forecast)


def _open_loop(
    spaces: Spaces, episodes: Episodes, windows: Window, real: Forecast, shuffled: Forecast
) -> OpenLoop:
    horizon = real.heads.reward.shape[1]
    spaces = {k: s for k, s in spaces.items() if real.obs is not None}  # what can be compared
    inside = np.arange(horizon) < windows.steps[:, None]
    truth = {k: _ahead(episodes.obs[k], windows, horizon, 1) for k in spaces}
    still = {
        k: np.broadcast_to(episodes.obs[k][windows.episode, windows.slot][:, None], truth[k].shape)
        for k in spaces
    }
    scale = {k: _scale(episodes.obs[k][episodes.valid], space) for k, space in spaces.items()}
    errors = lambda obs: {k: _error(obs[k], truth[k], s, scale[k], inside) for k, s in spaces.items()}
    gap = lambda expected, happened: _mean(np.abs(expected - happened), inside)
    ends = _ahead(episodes.is_terminal, windows, horizon, 1)
    return OpenLoop(
        errors(real.obs),
        errors(shuffled.obs),
        errors(still),
        gap(real.heads.reward, _ahead(episodes.reward, windows, horizon, 1)),
        gap(real.heads.cont, ~ends),
    )


def _scale(values: np.ndarray, space: Space) -> np.ndarray:
    """What an error of a number is divided by: the standard deviation of each entry (all of an image's)."""
    if space.is_discrete:
        return np.ones(())
    deviation = values.std(None if space.is_image else 0, dtype=np.float64)
    return np.where(deviation > 1e-6, deviation, np.inf)  # what never changes is no error


def _error(
    expected: np.ndarray, truth: np.ndarray, space: Space, scale: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """[H] how wrong a key is at every step ahead."""
    axes = tuple(range(2, truth.ndim))
    if space.is_discrete:
        return _mean(((expected != truth) & (truth >= 0)).mean(axes), inside)  # -1 is missing
    gap = (expected.astype(np.float64) - truth) / scale
    return np.sqrt(_mean(np.square(gap).mean(axes), inside))


def _mean(x: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """[W, H] -> [H] over the steps that lie in an episode; NaN where none does."""
    count = inside.sum(0)
    return np.where(count, (x * inside).sum(0) / np.maximum(count, 1), np.nan)


def _skill(loop: OpenLoop) -> float | None:
    """One minus the error over that of expecting no change, averaged over the keys that change."""
    shares = [
        np.nansum(loop.error[k]) / np.nansum(loop.still[k])
        for k in loop.error
        if np.nansum(loop.still[k]) > 0
    ]
    return 1 - float(np.mean(shares)) if shares else None


def _ratio(loop: OpenLoop) -> float | None:
    changing = [k for k in loop.error if np.nansum(loop.still[k]) > 0]
    if not changing:
        return None
    total = lambda errors: sum(float(np.nansum(errors[k])) for k in changing) + 1e-8
    return total(loop.shuffled) / total(loop.error)


def _size(x: np.ndarray) -> float:
    return float(np.abs(x).mean()) if len(x) else 0.0


def _over(x: float | None, size: float) -> float | None:
    return x / size if x is not None and size > 0 else None


class _Ahead(NamedTuple):
    """What the heads predicted some steps ahead, and what happened, for every slot with such a successor."""

    expected_reward: np.ndarray
    spread: np.ndarray
    expected_cont: np.ndarray
    reward: np.ndarray
    goes_on: np.ndarray


def _heads(inspector: Inspector, episodes: Episodes, latent: Latent, steps: int, key: int) -> _Ahead:
    """Open-loop head predictions `steps` steps after every slot."""
    windows = cut(episodes.length, 1, 1, most=SLOTS)
    start, action = _start(episodes, latent, windows, steps)
    heads = jax.device_get(inspector.open_loop_mean(start, action, key=key))
    there = windows.slot + steps < np.asarray(episodes.length)[windows.episode]
    episode, slot = windows.episode[there], windows.slot[there] + steps
    heads = jax.tree.map(lambda x: x[there], heads)
    return _Ahead(
        heads.reward,
        heads.reward_spread,
        heads.cont,
        episodes.reward[episode, slot],
        (~episodes.is_terminal[episode, slot]).astype(np.float32),
    )


def reliability(expected: np.ndarray, happened: np.ndarray) -> Reliability:
    """Sort by prediction, into bins of equal counts that are also cut at equal widths.

    Equal counts alone would merge the few rewards or endings of long episodes with zeros.
    """
    if not len(expected):
        return Reliability(*[np.zeros(0)] * 4)
    expected, shares = np.asarray(expected, np.float64), np.linspace(0, 1, BINS + 1)
    low, high = expected.min(), expected.max()
    edges = np.unique(np.concatenate([np.quantile(expected, shares), low + (high - low) * shares]))
    where = np.searchsorted(edges[1:-1], expected, "right")
    count = np.bincount(where).astype(float)
    some = count > 0
    mean = lambda x: np.bincount(where, x)[some] / count[some]
    variance = np.maximum(mean(np.square(np.asarray(happened, np.float64))) - np.square(mean(happened)), 0.0)
    return Reliability(mean(expected), mean(happened), count[some], variance / np.maximum(count[some] - 1, 1))


def discounted(episodes: Episodes, value: np.ndarray, gamma: float) -> np.ndarray:
    """[N, T] return of each slot: the discounted rewards after it, bootstrapped where an episode was cut."""
    N, T = episodes.reward.shape
    worth = np.zeros((N, T), np.float32)
    for n in range(N):
        last = int(episodes.length[n]) - 1
        following = 0.0 if episodes.is_terminal[n, last] else float(value[n, last])
        worth[n, last] = following
        for t in range(last - 1, -1, -1):
            following = episodes.reward[n, t + 1] + gamma * following
            worth[n, t] = following
    return worth


def _some(valid: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a sample of the filled slots that are not the last of an episode."""
    inner = valid.copy()
    inner[:, :-1] &= valid[:, 1:]
    inner[:, -1] = False
    places = np.argwhere(inner)
    places = places[np.sort(np.random.default_rng(0).permutation(len(places))[:most])]
    return places[:, 0], places[:, 1]


def _mean_by_slot(x: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """[T] mean over the episodes that reach each slot, as long as at least a tenth of them do."""
    count = valid.sum(0)
    enough = count >= max(1, len(valid) // 10)
    return ((x * valid).sum(0) / np.maximum(count, 1))[enough]


def _explained(happened: np.ndarray, expected: np.ndarray, size: float) -> float | None:
    """One minus the mean squared error over `size`."""
    return 1 - float(np.mean(np.square(happened - expected))) / size if size > 1e-12 else None


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    from scipy.stats import spearmanr

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)
