"""Take the actions of the learned policy."""

from dataclasses import dataclass

import chex
from jax import Array

from dreamer.ops import dists
from dreamer.records import Latent
from dreamer.world import World


@dataclass(frozen=True)
class Policy:
    """The policy that was learned in imagination; it remembers nothing.

    Args:
      greedy: take the most likely action; False samples, as in training.
    """

    greedy: bool

    @property
    def modules(self) -> tuple[str, ...]:
        """The policy alone."""
        return ("policy",)

    def init(self, batch: int) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def act(
        self, world: World, latent: Latent, memory: tuple[()], is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], tuple[()]]:
        """``a ~ pi(. | h, z)``, or its mode: latents [N, ...] -> {key: [N, ...]}."""
        chex.assert_rank(is_first, 1)
        chex.assert_tree_shape_prefix(latent, is_first.shape)
        return world.choose(latent.feat, key, dists.GREEDY if self.greedy else world.sampler), memory


SAMPLED = Policy(greedy=False)
"""The actor in training, unless another one is asked for."""
