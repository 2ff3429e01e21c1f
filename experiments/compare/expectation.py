"""What a Dreamer expected to see at every step of an episode that it played, before it looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamer.inspection import Episodes, Inspector
from dreamer.player import Player
from experiments.decoding import caption

SLOTS = 200
"""Of an episode that is looked at: one shape for all, which is compiled once."""


class Expectation:
    """Asks the world model of an agent; compiles at the first question.

    Args:
      player: has the parameters of all modules.
    """

    def __init__(self, player: Player):
        self._agent = player.agent
        self.caption = caption(player.agent, "expected by the model")
        """Of its pictures."""
        self._inspector = Inspector(player.agent, player.everything, player.numbers)

    def __call__(
        self, observations: Sequence[Mapping[str, np.ndarray]], lines: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, np.ndarray]] | None:
        """The observations that were expected, as many as there were, at most `SLOTS`; None if nothing is.

        Args:
          observations: {key: array} of every slot.
          lines: of the transcript, one for every slot.
        """
        count = min(len(observations), SLOTS)

        def column(rows: Sequence[Any], shape: Sequence[int], dtype: str) -> np.ndarray:
            filled = np.zeros((1, SLOTS, *shape), dtype)
            filled[0, :count] = rows[:count]
            return filled

        last = {k: np.zeros(s.shape, s.dtype) for k, s in self._agent.act_space.items()}
        acts = [line.get("act", last) for line in lines]
        episodes = Episodes(
            obs={
                k: column([obs[k] for obs in observations], s.shape, s.dtype)
                for k, s in self._agent.obs_space.items()
            },
            action={
                k: column([act[k] for act in acts], s.shape, s.dtype)
                for k, s in self._agent.act_space.items()
            },
            reward=column([line["reward"] for line in lines], (), "float32"),
            is_terminal=column([line["is_terminal"] for line in lines], (), "bool"),
            length=np.array([count], np.int32),
        )
        latent = self._inspector.read(episodes).latent
        expected = self._inspector.decode_prior(latent)
        if expected is None:
            return None
        expected = {k: np.asarray(v)[0] for k, v in expected.items()}
        return [{k: v[t] for k, v in expected.items()} for t in range(count)]
