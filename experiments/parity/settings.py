"""The settings that both sides share, as the flags of each, and the list of what is not equal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What both sides are trained with; the defaults are the paper's at size 1m."""

    task: str = "gymnasium:CartPole-v1"
    """As `envs.make` takes it, on both sides."""
    steps: int = 10_000
    """Slots of all environments together, a reset counting as one."""
    size: str = "1m"
    """A published size."""
    num_envs: int = 16
    """Copies of the environment."""
    train_ratio: float = 32.0
    """Replayed steps per environment step."""
    batch_size: int = 16
    """Sequences of a batch."""
    batch_length: int = 64
    """Steps of each."""
    lr: float = 4e-5
    """Learning rate."""
    warmup: int = 1000
    """Updates over which it rises from 0."""
    imag_last: int = 0
    """Imagine from the last steps of every sequence (0: all)."""
    imag_length: int = 15
    """Steps of every imagined rollout."""
    horizon: int = 333
    """Discount horizon."""
    entropy: float = 3e-4
    """Weight of the policy's entropy."""
    rec: float = 1.0
    """Weight of the reconstruction loss."""
    replay_value: float = 0.3
    """Weight of the critic's loss on replayed steps."""

    @property
    def prefill(self) -> int:
        """Slots before the reference's first update: it waits for as many sequences as a batch has steps."""
        return self.batch_length * (self.batch_size + self.num_envs)


def reference_flags(settings: Settings, seed: int, folder: Path) -> list[str]:
    """Flags of the reference's `main` for one seed."""
    s = settings
    values: dict[str, object] = {
        "logdir": folder,
        "configs": f"size{s.size}",
        "task": s.task,
        "seed": seed,
        "script": "train",
        "batch_size": s.batch_size,
        "batch_length": s.batch_length,
        "report_length": s.batch_length,
        "jax.platform": "cpu",
        "jax.prealloc": False,
        "jax.compute_dtype": "float32",
        "logger.outputs": "jsonl",
        "run.steps": s.steps,
        "run.envs": s.num_envs,
        "run.train_ratio": s.train_ratio,
        "run.log_every": 20,
        "run.report_every": 0,
        "run.save_every": 0,
        "run.debug": True,
        "agent.report": False,
        "agent.opt.lr": s.lr,
        "agent.opt.warmup": s.warmup,
        "agent.imag_last": s.imag_last,
        "agent.imag_length": s.imag_length,
        "agent.horizon": s.horizon,
        "agent.imag_loss.actent": s.entropy,
        "agent.loss_scales.rec": s.rec,
        "agent.loss_scales.repval": s.replay_value,
    }
    return _flags(values)


def our_flags(settings: Settings, seed: int, folder: Path) -> list[str]:
    """Flags of `dreamer train dreamerv3` for one seed."""
    s = settings
    values: dict[str, object] = {
        "task": s.task,
        "steps": s.steps,
        "seed": seed,
        "size": s.size,
        "run": folder,
        "loop.num-envs": s.num_envs,
        "loop.train-ratio": s.train_ratio,
        "loop.batch-size": s.batch_size,
        "loop.batch-length": s.batch_length,
        "loop.prefill": s.prefill,
        "agent.dtype": "float32",
        "agent.optim.lr": s.lr,
        "agent.optim.warmup": s.warmup,
        "agent.behavior.imag-last": s.imag_last,
        "agent.behavior.imag-length": s.imag_length,
        "agent.behavior.horizon": s.horizon,
        "agent.behavior.entropy": s.entropy,
        "agent.behavior.unimix": 0.0,  # the reference's categorical policies have none either
        "agent.loss.rec": s.rec,
        "agent.loss.replay-value": s.replay_value,
        "eval.episodes": 0,
        "report.episodes": 0,
        "checkpoint.every": 3600,
    }
    return _flags(values)


def _flags(values: dict[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


DIFFERENCES = (
    "Updates are due for slots there (a reset counts) and for environment steps here: for episodes of 20 "
    "steps it makes 5% more of them, for 500 steps 0.2%, and the first one about 5% of the prefill earlier.",
    "Acting: there with the parameters from before an update, taken over one action later and not while "
    "others wait; here with those of the update before the last.",
    "Random numbers: other generators for parameters, actions, dreams and sampling. A seed fixes the worlds "
    "(copy i of seed s starts its n-th episode in the same state on both sides), not what is done in them. "
    "There the sampling of the replay has seed 0 in every run.",
    "Fresh sequences are trained on once before uniform sampling on both sides; there they begin one slot "
    "later, and batches are drawn some updates ahead.",
    "Recurrent states in the replay: float32 there, bfloat16 here.",
    "Categories: one vector of integers there, in their own shape here; both are one-hot inside.",
)
"""What is not equal, in words."""
