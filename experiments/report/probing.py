"""Linear probes: how much of the true state a linear map reads from what an agent holds.

    W = (X'X + r I)^-1 X'Y        ridge regression on half of the episodes, scored on the other half

X are standardised features; Y is a number, or one column for each category, of which the largest is the
answer. Closed form, so that a probe has no training of its own to be blamed. The steps of an episode are
alike, so r is what does best where whole episodes of the first half are left out in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.report.states import Variable

RIDGES = (1e-2, 1e-1, 1.0, 10.0, 100.0)
"""r over the number of rows, of which one is chosen: how much of a feature's variance is taken for noise."""
FOLDS = 4
"""Parts of the episodes that are left out in turn where r is chosen."""
FEWEST = 20
"""Steps in either half below which a score says nothing."""


class Probe(NamedTuple):
    """How well one variable is read."""

    kind: str
    """accuracy (of categories), or R2 (of numbers): the share of the variance that is explained."""
    score: float
    """From what the agent holds, on episodes that the probe has not seen."""
    tokens: float
    """The same from the tokens of the present observation alone."""
    baseline: float
    """Of always saying the most frequent category, or the mean."""

    @property
    def skill(self) -> float:
        """How much of what the baseline leaves is read, at least 0."""
        return _skill(self.score, self.baseline)

    @property
    def tokens_skill(self) -> float:
        """The same of the tokens."""
        return _skill(self.tokens, self.baseline)


def _skill(score: float, baseline: float) -> float:
    return max((score - baseline) / (1 - baseline), 0.0) if baseline < 1 else 1.0


def measure(
    variables: Mapping[str, Variable], held: np.ndarray, tokens: np.ndarray, episode: np.ndarray
) -> dict[str, Probe]:
    """Probe every variable that changes in both halves of the episodes.

    Args:
      variables: of R steps.
      held: [R, F] features of the posterior.
      tokens: [R, E].
      episode: [R] of which episode each step is; every other one is for scoring.
    """
    probes = {}
    for name, variable in variables.items():
        fit, test = halves = [np.nonzero(variable.known & (episode % 2 == half))[0] for half in (0, 1)]
        changes = [len(rows) >= FEWEST and np.ptp(variable.values[rows]) > 0 for rows in halves]
        if not all(changes):
            continue
        target, truth = variable.values[fit], variable.values[test]
        fold = episode[fit] // 2 % FOLDS
        read = lambda x, fit=fit, test=test, target=target, fold=fold: predict(x[fit], target, x[test], fold)
        score = accuracy if variable.is_category else explained
        usual = _usual(target, truth, variable.is_category)
        kind = "accuracy" if variable.is_category else "R2"
        probes[name] = Probe(kind, score(truth, read(held)), score(truth, read(tokens)), score(truth, usual))
    return probes


def _usual(target: np.ndarray, truth: np.ndarray, is_category: bool) -> np.ndarray:
    """What is said without looking."""
    if not is_category:
        return np.full(len(truth), target.mean(dtype=np.float64))
    values, counts = np.unique(target, return_counts=True)
    return np.full(len(truth), values[counts.argmax()])


def predict(features: np.ndarray, target: np.ndarray, others: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """[M] answers for rows [M, F], fitted to rows [N, F] with targets [N].

    Args:
      fold: [N] which rows are left out together where r is chosen.
    """
    features, others = np.asarray(features, np.float64), np.asarray(others, np.float64)
    mean, std = features.mean(0), features.std(0)
    alive = std > 1e-6
    x, x_others = ((rows[:, alive] - mean[alive]) / std[alive] for rows in (features, others))
    kinds = np.unique(target)
    is_number = target.dtype.kind == "f"
    y = (target[:, None] if is_number else target[:, None] == kinds).astype(np.float64)
    expected = _centred_ridge(x, y, x_others, _strength(x, y, fold))
    return expected[:, 0] if is_number else kinds[expected.argmax(-1)]


def _strength(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    """The one of `RIDGES` with the least squared error on folds left out; the largest where there is one."""
    parts = [fold == k for k in np.unique(fold)]
    if len(parts) == 1:
        return RIDGES[-1]
    wrong = lambda out, r: np.square(_centred_ridge(x[~out], y[~out], x[out], r) - y[out]).sum()
    return min(RIDGES, key=lambda r: sum(wrong(out, r) for out in parts))


def _centred_ridge(x: np.ndarray, y: np.ndarray, others: np.ndarray, strength: float) -> np.ndarray:
    mean, centre = x.mean(0), y.mean(0)
    return centre + ridge(x - mean, y - centre, others - mean, strength)


def ridge(x: np.ndarray, y: np.ndarray, others: np.ndarray, strength: float) -> np.ndarray:
    """[M, K] predictions for rows [M, F] of the ridge regression of y [N, K] on x [N, F], both centred."""
    noise = strength * len(x)
    if x.shape[1] <= len(x):
        return others @ np.linalg.solve(x.T @ x + noise * np.eye(x.shape[1]), x.T @ y)
    return others @ (x.T @ np.linalg.solve(x @ x.T + noise * np.eye(len(x)), y))  # the same, N x N


def explained(truth: np.ndarray, expected: np.ndarray) -> float:
    """One minus the squared error over the variance: 1 is perfect, 0 the mean, below that worse."""
    gap = np.square(truth.astype(np.float64) - expected).mean()
    return float(1 - gap / truth.astype(np.float64).var())


def accuracy(truth: np.ndarray, expected: np.ndarray) -> float:
    """Share of right answers."""
    return float((truth == expected).mean())
