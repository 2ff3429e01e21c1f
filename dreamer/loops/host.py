"""The loop for environments that live on the host: act, step, store, learn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopConfig:
    """How acting and learning take turns."""

    num_envs: int = 8
    """Copies of the environment, stepped together."""
    train_ratio: float = 32.0
    """Replayed steps per environment step: how hard every step is learned from."""
    batch_size: int = 16
    """B, sequences in a batch."""
    batch_length: int = 64
    """T, steps of each sequence."""
    prefill: int = 1024
    """Environment steps before the first update."""
