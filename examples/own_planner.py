"""An actor of your own: it plans in the world model, where the learned policy alone would only react.

    python examples/train.py --steps 22000 --run runs/half    an agent that has not finished learning
    python examples/own_planner.py runs/half                  the same agent with and without planning

Nothing is learned here: all play the same worlds with the same parameters. After 22,000 steps the most likely
actions of that agent reached the goal in none of 50 worlds, sampled and planned ones in 56% each, in a
minute on one core: the dreams of a half-learned model choose no better than its policy's own chance.
"""

import argparse
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

import dreamer
import envs
from dreamer.records import Latent
from dreamer.world import World
from experiments import evaluate


@dataclass(frozen=True)
class BestDream:
    """Dreams many futures under the policy, and takes the first action of the best one.

        score = r_1 + c_1 (r_2 + c_2 (... (r_H + c_H v_H)))

    for each dream; r, c and v are the rewards, discounts and values that the heads expect in it. This is
    random shooting with the policy as the proposal. The best of many is an optimist: where chance matters
    more than the action, average over dreams that begin with the same one.

    Args:
      horizon: H, steps of a dream.
      dreams: K, for every decision.
    """

    horizon: int = 15
    dreams: int = 32

    @property
    def modules(self) -> tuple[str, ...]:
        """Parameters that acting needs, besides those that follow the episode."""
        return ("reward", "cont", "policy", "value")

    def init(self, batch: int) -> tuple[()]:
        """No memory; a planner that starts its next search from its last plan keeps it here, [batch, ...]."""
        return ()

    def act(
        self, world: World, latent: Latent, memory: tuple[()], is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], tuple[()]]:
        """Latents of N environments [N, ...] -> actions {key: [N, ...]}; all dreams are one batch."""
        N, K = len(is_first), self.dreams
        start = jax.tree.map(lambda x: jnp.repeat(x, K, 0), latent)
        dream = world.imagine(start, world.choose, self.horizon, key=key)

        reached = dream.feat[1:]  # [H, N*K, F]; index 0 is where all of them start
        reward, discount = world.reward(reached), world.discount(reached)
        counts = jnp.cumprod(discount, 0)  # how much what follows each step counts
        before = jnp.concatenate([jnp.ones_like(counts[:1]), counts[:-1]])
        score = (before * reward).sum(0) + counts[-1] * world.value(reached[-1])

        best = jnp.argmax(score.reshape(N, K), -1) + K * jnp.arange(N)
        return {name: action[0][best] for name, action in dream.action.items()}, memory


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare an actor that plans with the policy alone.")
    parser.add_argument("run", nargs="?", default="runs/half", help="folder of a run, or an exported file")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--horizon", type=int, default=15, help="steps of a dream")
    parser.add_argument("--dreams", type=int, default=32, help="for every decision")
    args = parser.parse_args()

    config = dreamer.load(args.run).config
    env = envs.make(config.task, min(args.episodes, 25), **config.env.world)
    planner = BestDream(args.horizon, args.dreams)
    for name, actor in {"greedy": "greedy", "sampled": "sampled", "planner": planner}.items():
        agent = dreamer.load(args.run, actor=actor)
        result = evaluate.play(agent, env, args.episodes, seed=2_000, limit=300)
        print(f"{name:<8} {evaluate.sentence(result)}", flush=True)
    env.close()


if __name__ == "__main__":
    main()
