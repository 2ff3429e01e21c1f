"""Statistics of few runs: rates, means and interquartile means, each with its 95% interval.

Scores of several tasks are lists of lists, `[tasks][seeds]`, and every run counts the same, also where tasks
have different numbers of seeds. All intervals but Wilson's are percentile bootstraps of 2,000 resamples with
a fixed seed, which resample seeds within every task.

Reference: Agarwal et al. (2021), Deep RL at the edge of the statistical precipice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
PERMUTATIONS = 20_000


class Difference(NamedTuple):
    """How much larger one mean is than another."""

    mean: float
    """The first minus the second."""
    low: float
    """Where its interval begins."""
    high: float
    """Where it ends."""


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float


class Profile(NamedTuple):
    """How many runs reach which score."""

    share: np.ndarray
    """[thresholds] of all runs."""
    low: np.ndarray
    """[thresholds] where the interval of each begins."""
    high: np.ndarray
    """[thresholds] where it ends."""


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """95% interval of a success rate (Wilson score): never outside [0, 1], never of width 0.

        (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

    Written out, because importing `scipy.stats` takes as long as a short evaluation.
    """
    n, p, z = episodes, successes / episodes, NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
    return (low if successes else 0.0), (high if successes < episodes else 1.0)


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of a mean."""
    low, high = _interval(_resampled([values])[0].mean(1))
    return float(low), float(high)


def iqm(values: Sequence[float]) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of the values, rounded down."""
    return float(_iqm(np.asarray(values, float)))


def _iqm(values: np.ndarray) -> np.ndarray:
    """[..., runs] -> [...]."""
    cut = values.shape[-1] // 4
    return np.sort(values)[..., cut : values.shape[-1] - cut].mean(-1)


def iqm_interval(scores: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95% interval of the interquartile mean of all runs.

    Args:
      scores: [tasks][seeds].
    """
    low, high = _interval(_iqm(np.concatenate(_resampled(scores), 1)))
    return float(low), float(high)


def aggregates(scores: Sequence[Sequence[float]], target: float = 1.0) -> dict[str, Estimate]:
    """`iqm`, `median`, `mean` and `optimality_gap` of normalised scores, each with its 95% interval.

        iqm              interquartile mean of all runs
        median, mean     of the mean score of each task
        optimality gap   mean over tasks of target - min(score, target): by how much `target` is missed

    Args:
      scores: [tasks][seeds], on one scale for all tasks.
      target: the score from which on nothing is missed.
    """
    observed = [np.asarray(task, float)[None] for task in scores]
    over_tasks = lambda tasks: np.stack([task.mean(1) for task in tasks], 1)
    functions = {
        "iqm": lambda tasks: _iqm(np.concatenate(tasks, 1)),
        "median": lambda tasks: np.median(over_tasks(tasks), 1),
        "mean": lambda tasks: over_tasks(tasks).mean(1),
        "optimality_gap": lambda tasks: target - over_tasks([np.minimum(t, target) for t in tasks]).mean(1),
    }
    drawn = _resampled(scores)
    return {name: Estimate(f(observed).item(), *_ends(f(drawn))) for name, f in functions.items()}


def probability_of_improvement(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Estimate:
    """How probable it is that a run of a beats one of b on a task drawn at random; ties count half.

        P = mean over tasks m of mean over runs i, j of [a_mi > b_mj] + [a_mi = b_mj] / 2

    Args:
      a, b: [tasks][seeds], the same tasks in the same order.

    Raises:
      ValueError: they are of different numbers of tasks.
    """
    if len(a) != len(b):
        raise ValueError(f"both need scores of the same tasks, but there are {len(a)} and {len(b)} of them")
    observed = [
        _wins(np.asarray(x, float)[None], np.asarray(y, float)[None]) for x, y in zip(a, b, strict=True)
    ]
    drawn = _resampled([*a, *b])
    wins = [_wins(x, y) for x, y in zip(drawn[: len(a)], drawn[len(a) :], strict=True)]
    return Estimate(float(np.mean(observed)), *_ends(np.mean(wins, 0)))


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[n] share of the pairs of [n, runs] and [n, others] in which the first is larger."""
    difference = a[:, :, None] - b[:, None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean((1, 2))


def performance_profile(scores: Sequence[Sequence[float]], thresholds: Sequence[float]) -> Profile:
    """Share of all runs whose score is above each threshold, with an interval for each threshold alone.

    Args:
      scores: [tasks][seeds], on one scale for all tasks.
    """
    runs = np.concatenate([np.asarray(task, float) for task in scores])
    resampled = np.concatenate(_resampled(scores), 1)
    drawn = np.stack([(resampled > threshold).mean(1) for threshold in thresholds], 1)
    share = np.array([(runs > threshold).mean() for threshold in thresholds])
    return Profile(share, *_interval(drawn))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Mean of a[i] - b[i], where both come from the same seed i, so that what a seed does to both cancels.

    Raises:
      ValueError: there are not as many of one as of the other.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs need as many scores of both, but there are {len(a)} and {len(b)}")
    differences = np.asarray(a, float) - np.asarray(b, float)
    return Difference(float(differences.mean()), *bootstrap(differences.tolist()))


def difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Mean of a minus mean of b, which have nothing to do with each other."""
    ours, theirs = _resampled([a, b])
    low, high = _interval(ours.mean(1) - theirs.mean(1))
    return Difference(float(np.mean(a)) - float(np.mean(b)), float(low), float(high))


def rate_difference(a: tuple[int, int], b: tuple[int, int]) -> Difference:
    """Success rate of a minus that of b, each (successes, episodes): never certain, not even at 0 or 1.

        low  = d - sqrt((p_a - l_a)^2 + (u_b - p_b)^2)
        high = d + sqrt((u_a - p_a)^2 + (p_b - l_b)^2)        with the Wilson interval [l, u] of each

    Reference: Newcombe (1998), method 10.
    """
    (p, q), ((l_a, u_a), (l_b, u_b)) = (s / n for s, n in (a, b)), (wilson(*a), wilson(*b))
    return Difference(p - q, p - q - math.hypot(p - l_a, u_b - q), p - q + math.hypot(u_a - p, q - l_b))


def is_apart(a: Estimate, b: Estimate) -> bool:
    """Whether two estimates differ by more than chance: 0 lies outside the interval of their difference.

    That combines the intervals of the two: a - b - hypot(a - low_a, high_b - b), where a is the larger one.

    Reference: Newcombe (1998), method 10, for rates; Zou and Donner (2008), for any mean.
    """
    better, worse = sorted((a, b), key=lambda estimate: estimate.value, reverse=True)
    reach = math.hypot(better.value - better.low, worse.high - worse.value)
    return better.value - worse.value > reach


def permutation_test(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value of a difference of means: how often chance alone makes it at least as large.

    The share of all ways to divide the pooled values into groups of these sizes; where there are more than
    20,000 of them, of that many drawn at random and the one that was observed.
    """
    pooled = np.concatenate([np.asarray(a, float), np.asarray(b, float)])
    if not len(a) or not len(b):
        raise ValueError("there is nothing to compare: both samples need at least one value")
    if math.comb(len(pooled), len(a)) <= PERMUTATIONS:
        chosen = np.array(list(itertools.combinations(range(len(pooled)), len(a))))
    else:
        rng = np.random.default_rng(0)
        drawn = rng.permuted(np.tile(np.arange(len(pooled)), (PERMUTATIONS, 1)), axis=1)[:, : len(a)]
        chosen = np.concatenate([np.arange(len(a))[None], drawn])
    first = pooled[chosen].sum(1)
    gaps = np.abs(first / len(a) - (pooled.sum() - first) / len(b))
    return float((gaps >= abs(np.mean(a) - np.mean(b)) - 1e-9 * np.ptp(pooled)).mean())


def _resampled(samples: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Bootstrap resamples of every sample: [sample][RESAMPLES, values]."""
    if min((len(sample) for sample in samples), default=0) == 0:
        raise ValueError("there is nothing to resample: every sample needs at least one value")
    rng = np.random.default_rng(0)
    drawn = lambda values: values[rng.integers(len(values), size=(RESAMPLES, len(values)))]
    return [drawn(np.asarray(sample, float)) for sample in samples]


def _interval(statistic: np.ndarray) -> np.ndarray:
    """[2, ...] low and high of what was computed from each resample, [RESAMPLES, ...]."""
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(statistic, (tail, 1 - tail), axis=0)


def _ends(statistic: np.ndarray) -> tuple[float, float]:
    """Low and high of what was computed from each resample, [RESAMPLES]."""
    low, high = _interval(statistic)
    return float(low), float(high)
