"""What the representation holds: how many directions it uses, whether it collapsed, what can be read from it.

    tokens      what the encoder says of one observation, [R, E]
    features    [h, z], what everything else reads, [R, F]

Both are measured on steps of recorded episodes. A collapse is judged against an encoder before its first
update on the same observations, since a world that shows little needs few directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.inspection import Episodes, Inspector
from dreamer.objectives.tokens import effective_rank, live
from dreamer.records import Latent
from experiments.report import probing, states
from experiments.report.meanings import LIVE_KEPT, RANK_KEPT, REPRESENTATION
from experiments.report.states import Variable

STEPS, RANKED = 4096, 2048
"""Most recorded steps on which probes are fitted and scored, and of which ranks are measured."""


@dataclass(frozen=True)
class Representation:
    """Everything measured of one agent's representation."""

    numbers: dict[str, float | None]
    """{name in `REPRESENTATION`: value}; None where the episodes do not determine it."""
    probes: dict[str, probing.Probe]
    """{variable of the true state: how well it is read}; empty where the world does not say it."""
    decoder: str
    """What shows latents as observations: objective, probe, or '' for nothing."""
    width: int
    """E."""
    untrained_rank: float
    """Effective rank of the tokens of an untrained encoder."""

    @property
    def alarm(self) -> str:
        """That the tokens have collapsed, in a sentence; empty where they have not."""
        rank, share = self.numbers["tokens_rank_kept"], self.numbers["tokens_live_kept"]
        if not is_collapsed(rank, share):
            return ""
        return (
            "The representation has collapsed: the encoder says nearly the same of everything it sees "
            f"(effective rank {self.numbers['tokens_rank']:.3g}, {self.untrained_rank:.3g} before training; "
            f"{self.numbers['tokens_live']:.0%} of the tokens are live)."
        )

    @property
    def summary(self) -> str:
        """Whether the tokens have collapsed, in a sentence."""
        if self.untrained_rank == 0:
            return "The observations never change, so there is nothing that the representation could hold."
        return self.alarm or (
            f"No collapse: the {self.width} tokens vary over {self.numbers['tokens_rank']:.3g} directions, "
            f"those of an untrained encoder over {self.untrained_rank:.3g}."
        )


def is_collapsed(rank: float | None, share: float | None) -> bool:
    """Whether too little is left of the effective rank or of the share of live tokens; None is unknown."""
    return (rank is not None and rank < RANK_KEPT) or (share is not None and share < LIVE_KEPT)


def measure(inspector: Inspector, episodes: Episodes, latent: Latent) -> Representation:
    """Measure the representation on episodes.

    Args:
      latent: [N, T, ...] the posterior of every slot.
    """
    at = _some(episodes.valid)
    obs = {k: v[at] for k, v in episodes.obs.items()}
    features = np.asarray(jax.tree.map(lambda x: x[at], latent).feat, np.float32)
    tokens, untrained = (np.asarray(inspector.tokens(obs, is_trained=x), np.float32) for x in (True, False))
    (rank, share), (before, share_before) = _spread(tokens), _spread(untrained)
    variables = {name: Variable(v.values[at], v.known[at]) for name, v in states.of(episodes.obs).items()}
    probes = probing.measure(variables, features, tokens, at[0])
    mean = lambda skills: float(np.mean(skills)) if probes else None
    numbers = {
        "tokens_rank": rank,
        "tokens_rank_kept": rank / before if before else None,
        "tokens_live": share,
        "tokens_live_kept": share / share_before if share_before else None,
        "features_rank": _spread(features)[0],
        "state_read": mean([probe.skill for probe in probes.values()]),
        "state_read_tokens": mean([probe.tokens_skill for probe in probes.values()]),
    }
    assert numbers.keys() == REPRESENTATION.keys()
    return Representation(numbers, probes, inspector.agent.decoder, tokens.shape[1], before)


def _spread(rows: np.ndarray) -> tuple[float, float]:
    """Effective rank, and the share of the columns that live."""
    some = jnp.asarray(rows[:RANKED])
    return float(effective_rank(some)), float(live(some))


def _some(valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a sample of the filled slots, in random order."""
    places = np.random.default_rng(0).permutation(np.argwhere(valid))[:STEPS]
    return places[:, 0], places[:, 1]


class ObjectiveLoss(NamedTuple):
    """What a loss of the objective came to, from the run's log."""

    name: str
    last: float
    floor: float | None
    """What a perfect prediction costs; None where that is not known."""
    constant: float | None
    """What a prediction costs that says the same of everything; None where that is not logged."""

    @property
    def sentence(self) -> str:
        """Its numbers in words."""
        text = f"The loss {self.name} was last {self.last:.3g}"
        text += "" if self.floor is None else f"; its floor, a perfect prediction, is {self.floor:.3g}"
        if self.constant is not None:
            text += f", and a prediction that says the same of everything costs {self.constant:.3g}"
        return text + "."


def objective_losses(objective: str, metrics: Sequence[Mapping[str, Any]]) -> list[ObjectiveLoss]:
    """The last logged losses of an objective `a` or `a+b`; those of all reconstructions are summed.

    Args:
      metrics: rows of `metrics.jsonl`.
    """
    losses = []
    for name in dict.fromkeys(_loss_of(part) for part in objective.split("+")):
        rows = [row for row in metrics if _values(row, name)]
        if rows:
            get = lambda part, row=rows[-1], name=name: row.get(f"{name}/{part}")
            total = float(sum(_values(rows[-1], name)))
            losses.append(ObjectiveLoss(name, total, get("floor"), get("constant")))
    return losses


def _loss_of(objective: str) -> str:
    """What the losses of an objective are called, before a slash."""
    return "rec" if ":" in objective or objective == "reconstruction" else objective


def _values(row: Mapping[str, Any], name: str) -> list[float]:
    """The losses of a name in a row of metrics; none where one of them was not finite."""
    values = [v for k, v in row.items() if k == f"loss/{name}" or k.startswith(f"loss/{name}/")]
    return values if all(isinstance(v, int | float) for v in values) else []
