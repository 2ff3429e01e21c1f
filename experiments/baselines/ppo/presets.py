"""What a PPO run may choose, and named choices. Free of JAX, so that a command line can show it at once."""

from dataclasses import dataclass
from typing import Annotated

from dreamer.config import Count, Positive, Rate, Scale, Share, Weight
from dreamer.schema import ConfigError, Range, Section
from envs.adapters import suggestion


@dataclass(frozen=True)
class PPOConfig(Section):
    """One run of recurrent PPO, apart from its task and seed."""

    steps: Annotated[int, Range(1, 2**31, below=True)] = 500_000
    """Environment steps of the run, rounded up to whole iterations."""
    num_envs: Count = 64
    """Copies of the environment, E."""
    slots: Count = 128
    """Slots of every copy in one iteration, T; gradients go back in time through all of them."""
    epochs: Count = 4
    """How often an iteration learns from its slots."""
    minibatches: Count = 4
    """Into how many parts of the copies an epoch is split."""
    lr: Positive = 1e-3
    """Learning rate at the start; it falls linearly to zero."""
    discount: Weight = 0.99
    """Gamma."""
    lam: Weight = 0.95
    """Lambda of the advantages: 0 trusts the value of the next step, 1 the rewards that came."""
    clip: Rate = 0.2
    """How far the probability ratio of an action may profitably move from 1."""
    entropy: Scale = 0.01
    """Weight of the entropy bonus."""
    value: Scale = 0.5
    """Weight of the value loss."""
    max_grad_norm: Positive = 0.5
    """Gradients with a larger norm are shrunk to it."""
    scale_rate: Share = 0.1
    """How fast the range of the returns that values are measured in follows each iteration's."""
    units: Count = 64
    """Width of the encoder and of the heads' hidden layers."""
    memory: Count = 64
    """Width of the recurrent memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_envs % self.minibatches:
            divide = f"minibatches must divide the {self.num_envs} of num_envs"
            raise ConfigError(f"{divide}, but it is {self.minibatches}")

    @property
    def iterations(self) -> int:
        """How often the run collects and learns."""
        return -(-self.steps // (self.slots * self.num_envs))


def grid() -> PPOConfig:
    """Grid worlds with a sparse reward and a partial, symbolic view.

    On grid:DoorKey-5x5, one seed, 2 shared CPU cores: 200 of 200 unseen episodes solved, sampled and greedy,
    after 508,000 steps and 66 CPU seconds with compilation. The training episodes were all solved from
    205,000 steps on; after 262,000 steps in all the same held for sampled actions, but greedy ones solved
    27%: an uncertain policy that must not vary its actions runs in circles.
    """
    return PPOConfig()


def classic() -> PPOConfig:
    """Small control tasks of Gymnasium.

    On gymnasium:CartPole-v1, one seed, 2 shared CPU cores: mean return 494 sampled and 500 (the most there
    is) greedy in 200 episodes after 60,400 steps and 31 CPU seconds with compilation.
    """
    return PPOConfig(steps=60_000, num_envs=8, slots=128, minibatches=4, epochs=8, entropy=0.001)


PRESETS = {"grid": grid, "classic": classic}

GRIDS = ("grid", "minigrid", "xminigrid", "craftax", "navix")
"""Suites for which `grid` is meant."""


def suited(task: str) -> str:
    """The name of the preset for a task."""
    return "grid" if task.partition(":")[0] in GRIDS else "classic"


def named(preset: str) -> PPOConfig:
    """The configuration of that name.

    Raises:
      ConfigError: there is none.
    """
    if preset not in PRESETS:
        known = suggestion(preset, list(PRESETS)) or f"; there are {', '.join(PRESETS)}"
        raise ConfigError(f"there is no PPO preset '{preset}'{known}")
    return PRESETS[preset]()
