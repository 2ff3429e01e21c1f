"""What each number of a report card means, and what a healthy one looks like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

FAR = 5
"""Steps ahead of the second calibrations."""
RANK_KEPT, LIVE_KEPT = 0.25, 0.1
"""What must be left of the effective rank of the tokens, and of the share that is live, beside an encoder
before its first update: with less, the representation has collapsed."""


class Meaning(NamedTuple):
    """What a number says."""

    title: str
    sentence: str
    healthy: str
    low: float = -math.inf
    high: float = math.inf


CARD = {
    "prediction_skill": Meaning(
        "Open-loop prediction",
        "How much of the error of expecting that nothing changes the model avoids, over all steps ahead.",
        "0.5 or more; 1 is perfect, 0 is no better than standing still",
        low=0.5,
    ),
    "reward_skill": Meaning(
        "Reward prediction",
        "How much of the variance of the rewards the model foresees one step ahead.",
        "0.5 or more; 1 is perfect, 0 is no better than the mean",
        low=0.5,
    ),
    "action_ratio": Meaning(
        "Use of actions",
        "Prediction error with the actions of other episodes, over that with the real ones.",
        "1.2 or more; at 1 the model does not care what the agent does",
        low=1.2,
    ),
    "value_skill": Meaning(
        "Critic",
        "How much of what then happened the critic promised: one minus its mean squared error over the mean "
        "square of the returns. Beyond a cut of the episode its own promise counts as having happened.",
        "0.5 or more; 1 is perfect, 0 is no better than promising nothing",
        low=0.5,
    ),
    "dream_skill": Meaning(
        "Imagined return",
        "The same for the returns that the agent imagines, which the actor learns from.",
        "0.5 or more; 1 is perfect, 0 is no better than promising nothing",
        low=0.5,
    ),
    "cont_error": Meaning(
        "Calibration of endings",
        "Gap between how often endings are expected and how often they come among equal expectations (root "
        "mean square, without chance), one step ahead, over how often they come.",
        "at most 0.25",
        high=0.25,
    ),
    "cont_error_far": Meaning(
        "Calibration of endings, far",
        f"The same {FAR} steps ahead.",
        "at most 0.5",
        high=0.5,
    ),
    "reward_error": Meaning(
        "Calibration of rewards",
        "Gap between rewards expected and received among equal expectations (root mean square, without "
        "chance), one step ahead, over the mean reward.",
        "at most 0.25",
        high=0.25,
    ),
    "reward_error_far": Meaning(
        "Calibration of rewards, far",
        f"The same {FAR} steps ahead.",
        "at most 0.5",
        high=0.5,
    ),
    "spread_rank": Meaning(
        "Knows when it is unsure",
        "Rank correlation of how unsure the model is of a reward and how wrong it then was.",
        "above 0",
        low=0.0,
    ),
    "surprise": Meaning(
        "Surprise",
        "Nats that an observation adds to what the model expected (KL of posterior and prior).",
        "falls during training, and stays above 0 where the world is not known yet",
    ),
    "posterior_entropy": Meaning(
        "Doubt after looking",
        "Entropy of what the model believes once it has looked, in nats over all latents.",
        "below the doubt before looking",
    ),
    "prior_entropy": Meaning(
        "Doubt before looking",
        "Entropy of what the model expects, in nats over all latents.",
        "not far above the doubt after looking",
    ),
    "latents_used": Meaning(
        "Latents in use",
        "Share of the categorical latents that take more than one value.",
        "0.25 or more",
        low=0.25,
    ),
    "randomness": Meaning(
        "Randomness of behaviour",
        "Entropy of the policy where the agent goes, in nats.",
        "falls during training, not to 0 before the task is solved",
    ),
}
"""{name: meaning} of what the world model knows, in the order in which it is shown."""

REPRESENTATION = {
    "tokens_rank": Meaning(
        "Effective rank of the tokens",
        "Over how many directions what the encoder says varies: its participation ratio, 1 to the number of "
        "tokens.",
        "a world that shows little needs few: see the next number",
    ),
    "tokens_rank_kept": Meaning(
        "Rank against an untrained encoder",
        "The effective rank over that of an encoder before its first update, on the same observations.",
        f"{RANK_KEPT:g} or more; far below, the tokens have collapsed",
        low=RANK_KEPT,
    ),
    "tokens_live": Meaning(
        "Live tokens",
        "Share of the tokens that are not constant.",
        "a world that shows little needs few: see the next number",
    ),
    "tokens_live_kept": Meaning(
        "Live tokens against an untrained encoder",
        "That share over that of an encoder before its first update, on the same observations.",
        f"{LIVE_KEPT:g} or more; far below, the tokens have collapsed",
        low=LIVE_KEPT,
    ),
    "features_rank": Meaning(
        "Effective rank of the features",
        "The same of what the heads read, [h, z], which also holds the past.",
        "above 1; it grows with what there is to remember",
    ),
    "state_read": Meaning(
        "True state in the features",
        "How much of the true state a linear probe reads from [h, z] on episodes it has not seen, of what "
        "always giving the most frequent answer leaves; the mean over the variables below.",
        "1 is all; where the world hides something, above that of the tokens",
    ),
    "state_read_tokens": Meaning(
        "True state in the tokens",
        "The same from the tokens of the present observation alone.",
        "1 is all that one observation shows",
    ),
}
"""{name: meaning} of what the representation holds."""

MEANINGS = CARD | REPRESENTATION
"""{name: meaning} of every number of the card."""


class Grade(NamedTuple):
    """A number beside what is healthy."""

    name: str
    value: float | None
    meaning: Meaning
    ok: bool | None
    """None where there is no limit or no number."""


def grade(numbers: Mapping[str, float | None], meanings: Mapping[str, Meaning] = MEANINGS) -> list[Grade]:
    """Every number with its meaning, in order."""
    rows = []
    for name, meaning in meanings.items():
        value = numbers.get(name)
        judged = value is not None and (math.isfinite(meaning.low) or math.isfinite(meaning.high))
        rows.append(Grade(name, value, meaning, meaning.low <= value <= meaning.high if judged else None))
    return rows
