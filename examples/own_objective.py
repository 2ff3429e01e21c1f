"""An objective of your own, in your own file: a world model without a decoder that predicts its own tokens.

    python examples/own_objective.py                                        from the folder of examples/
    python examples/own_objective.py --objective none --run runs/control    only rewards shape the model

The configuration names the class, so the commands find it too, from the same folder:

    dreamer train --task grid:Empty-5x5 --agent.objective examples.own_objective:Decorrelated
    dreamer eval runs/own-objective

With 24,000 steps on one core beside other work: 100 of 100 episodes, in 5.1 steps, after 148 s; while it
trained, every episode succeeded from 11,600 steps on.

A program of your own imports the module before it loads such a run: files never decide what is imported.
"""

import argparse

import jax.numpy as jnp
from flax import nnx
from jax import Array

import dreamer
from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer, Linear
from dreamer.numbers import Numbers
from dreamer.records import Batch, Latent, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces

REDUNDANCY = 5e-3
"""What the entries beside the diagonal weigh."""


class Decorrelated(nnx.Module):
    """Predict the encoder's tokens from the latent, as numbers that agree but are not redundant.

        C = corr(project(h, z), tokens) over all steps of a batch         [E, E]
        loss = sum_i (1 - C_ii)^2 + REDUNDANCY * sum_{i != j} C_ij^2

    Equal tokens for all observations would be easy to predict, but they correlate with nothing; so nothing
    must be held still, and no pixel be drawn.

    Reference: Zbontar et al. (2021), Barlow Twins, whose two views of an image are latent and tokens here.
    """

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        self.project = Linear(cfg.rssm.features, tokens, init=init)

    def slow(self, params: Params) -> Params:
        """No slow part; one with a slow encoder would return {"encoder": params["encoder"]}."""
        return {}

    def follow(self, slow: Params, params: Params, numbers: Numbers) -> Params:
        """No slow part."""
        return slow

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """A loss called rec/NAME is weighed by `agent.loss.rec`; all metrics are logged."""
        predicted, tokens = _standardized(self.project(seen.latent.feat)), _standardized(seen.tokens)
        correlation = predicted.T @ tokens / len(tokens)
        agreement = jnp.diag(correlation)
        redundancy = jnp.square(correlation).sum() - jnp.square(agreement).sum()
        loss = jnp.square(1 - agreement).sum() + REDUNDANCY * redundancy
        return ObjectiveLosses({"rec/tokens": loss}, {"objective/agreement": agreement.mean()})

    def decode(self, latent: Latent) -> None:
        """Nothing leads back to observations; reports say so instead of drawing."""
        return None


def _standardized(x: Array) -> Array:
    """[B, T, E] -> [B*T, E] float32, every entry with mean 0 and deviation 1 over the batch."""
    x = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    return (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train an agent with an objective of one's own.")
    parser.add_argument("--objective", default="examples.own_objective:Decorrelated")
    parser.add_argument("--task", default="grid:Empty-5x5", help="see `dreamer envs`")
    parser.add_argument("--steps", type=int, default=14_000, help="environment steps")
    parser.add_argument("--run", default="runs/own-objective", help="folder of the run")
    args = parser.parse_args()

    changes = {"task": args.task, "steps": args.steps, "until": "", "agent.objective": args.objective}
    changes |= {"loop.prefill": min(2_000, args.steps // 2)}
    result = dreamer.train(dreamer.preset("quickstart", changes), args.run)
    low, high = result["return_interval"]
    print(f"{args.objective}: return {result['return_mean']:.2f} [{low:.2f}, {high:.2f}]")
    print(f"in {result['length_mean']:.1f} steps on average, after {result['env_steps']:,} steps of training")


if __name__ == "__main__":
    main()
