"""What played episodes cost: each cost at every situation, as the agent really saw it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer.player import Player
from envs.api import Step
from envs.rollout import IDLE
from experiments.costs.reading import Terms, charge


class Ledger:
    """A player that remembers what the situations of its episodes cost; `on_step` belongs to its rollout.

    Weights do not count here: every cost is as its function gives it.
    """

    def __init__(self, player: Player, terms: Terms):
        self._player, self._names = player, list(terms)
        self._charge = charge(player.agent, terms)
        self._latent: Any = None
        self._paid: dict[int, _Paid] = {}

    def init(self, batch: int) -> Any:
        """The memory of the player."""
        return self._player.init(batch)

    def act(self, carry: Any, step: Step, *, key: int = 0) -> tuple[dict[str, np.ndarray], Any]:
        """As the player."""
        action, carry = self._player.act(carry, step, key=key)
        self._latent = carry.latent
        return action, carry

    def on_step(self, step: Step, action: Mapping[str, np.ndarray], index: np.ndarray) -> None:
        """Take in what every copy has just reached."""
        obs = {name: step.obs[name] for name in self._player.agent.obs_space}
        paid = np.asarray(self._charge(self._player.everything, self._player.numbers, self._latent, obs))
        for copy in np.flatnonzero(index != IDLE):
            self._paid.setdefault(int(index[copy]), _Paid(len(paid))).add(paid[:, copy])

    def rows(self) -> list[dict[str, dict[str, float]]]:
        """Of every episode, {cost: mean, least and largest over its situations, the first one included}."""
        return [
            {name: paid.row(k) for k, name in enumerate(self._names)}
            for _, paid in sorted(self._paid.items())
        ]


class _Paid:
    """Sums over the situations of an episode, of all costs."""

    def __init__(self, costs: int) -> None:
        self.count, self.sum = 0, np.zeros(costs)
        self.least, self.largest = np.full(costs, np.inf), np.full(costs, -np.inf)

    def add(self, costs: np.ndarray) -> None:
        self.count += 1
        self.sum += costs
        self.least, self.largest = np.minimum(self.least, costs), np.maximum(self.largest, costs)

    def row(self, k: int) -> dict[str, float]:
        return {
            "mean": float(self.sum[k] / self.count),
            "least": float(self.least[k]),
            "largest": float(self.largest[k]),
        }
