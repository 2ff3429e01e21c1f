"""An actor of your own: it plans in the world model, where the learned policy alone would only react.

    python examples/train.py --steps 22000 --run runs/half    an agent that has not finished learning
    python examples/own_planner.py runs/half                  the same agent with and without planning

Nothing is learned here: both play the same worlds with the same parameters.
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
from envs.api import Spaces
from experiments import evaluate


@dataclass(frozen=True)
class Lookahead:
    """Tries every action in dreams, follows the policy from there, and takes what went best on average.

        score(a) = mean over dreams of  r_1 + c_1 (r_2 + c_2 (... (r_H + c_H v_H)))

    with a first, then actions of the policy; r, c and v are the rewards, discounts and values that the heads
    expect.

    Args:
      act_space: of a single discrete action.
      horizon: H, steps of a dream.
      dreams: for every action.
    """

    act_space: Spaces
    horizon: int = 8
    dreams: int = 4

    @property
    def modules(self) -> tuple[str, ...]:
        """Parameters that acting needs, besides those that follow the episode."""
        return ("reward", "cont", "policy", "value")

    def init(self, batch: int) -> tuple[()]:
        """No memory; a planner that warm-starts its search would keep its plan here, [batch, ...]."""
        return ()

    def act(
        self, world: World, latent: Latent, memory: tuple[()], is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], tuple[()]]:
        """Latents [N, ...] -> {key: [N]}: N environments, A actions, K dreams of each, all in one batch."""
        ((name, space),) = self.act_space.items()
        N, A, K = len(is_first), space.num_classes, self.dreams
        step_key, dream_key = jax.random.split(key)

        start = jax.tree.map(lambda x: jnp.repeat(x, A * K, 0), latent)
        first = jnp.tile(jnp.repeat(jnp.arange(A, dtype=space.dtype), K), N)
        reached = world.step(start, {name: first}, key=step_key)
        feat = world.imagine(reached, world.choose, self.horizon - 1, key=dream_key).feat  # [H, N*A*K, F]

        reward, discount = world.reward(feat), world.discount(feat)
        weight = jnp.cumprod(discount, 0)  # what the next step counts
        before = jnp.concatenate([jnp.ones_like(weight[:1]), weight[:-1]])
        score = (before * reward).sum(0) + weight[-1] * world.value(feat[-1])

        best = jnp.argmax(score.reshape(N, A, K).mean(-1), -1)
        return {name: best.astype(space.dtype)}, memory


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare an actor that plans with the policy alone.")
    parser.add_argument("run", nargs="?", default="runs/half", help="folder of a run, or an exported file")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--horizon", type=int, default=8)
    parser.add_argument("--dreams", type=int, default=4)
    args = parser.parse_args()

    config = dreamer.load(args.run).config
    env = envs.make(config.task, min(args.episodes, 25), **config.env.world)
    planner = Lookahead(env.act_space, args.horizon, args.dreams)
    for name, actor in {"greedy": "greedy", "sampled": "sampled", "planner": planner}.items():
        agent = dreamer.load(args.run, actor=actor)
        result = evaluate.play(agent, env, args.episodes, seed=2_000, limit=300)
        print(f"{name:<8} {evaluate.sentence(result)}", flush=True)
    env.close()


if __name__ == "__main__":
    main()
