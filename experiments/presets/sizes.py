"""How large an agent is, as one dial: a name, and what it sets in an `AgentConfig`.

The published sizes follow one rule. With U units in every MLP and head,

    deter = 8 U    hidden = U    classes = depth = U / 16    stoch = 32    blocks = 8

so that parameters grow with the square of U; the names say about how many there are.

Reference: Hafner et al. (2025), model sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from dreamer.config import AgentConfig

Size = Callable[[AgentConfig], AgentConfig]


def _size(
    cfg: AgentConfig, *, units: int, deter: int, hidden: int, stoch: int, classes: int, depth: int
) -> AgentConfig:
    return replace(
        cfg,
        encoder=replace(cfg.encoder, units=units, depth=depth),
        rssm=replace(cfg.rssm, deter=deter, hidden=hidden, stoch=stoch, classes=classes, blocks=8),
        decoder=replace(cfg.decoder, units=units, depth=depth, blocks=8),
        reward=replace(cfg.reward, units=units),
        cont=replace(cfg.cont, units=units),
        policy=replace(cfg.policy, units=units),
        value=replace(cfg.value, units=units),
        next_embedding=replace(cfg.next_embedding, units=units),
    )


def _published(units: int) -> Size:
    share = units // 16
    return partial(_size, units=units, deter=8 * units, hidden=units, stoch=32, classes=share, depth=share)


SIZES: dict[str, Size] = {
    "tiny": partial(_size, units=64, deter=256, hidden=64, stoch=16, classes=8, depth=4),
    "1m": _published(64),
    "12m": _published(256),
    "25m": _published(384),
    "50m": _published(512),
    "100m": _published(768),
    "200m": _published(1024),
    "400m": _published(1536),
}
"""`tiny` is for a laptop's CPU, the others are the paper's."""
