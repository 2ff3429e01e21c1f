"""An environment of your own in JAX: world, replay, world model and behaviour are one compiled program.

    python examples/own_jax_env.py                           three seeds at once, from the folder of examples/
    dreamer eval runs/own-jax-env/members/002                a member is a run like any other
    dreamer train --task jax:examples.own_jax_env:Forage     the same world from the command line

Two seeds on one core, after 10,000 steps and 168 s: 1.2 and 3.9 apples and rising; by chance it is 1.0.
"""

import argparse
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import dreamer
import envs
from envs.api import Space, Step

TASK = "jax:examples.own_jax_env:Forage"  # in your project: jax:YOUR_MODULE:YOUR_CLASS
SIZE, LIMIT = 5, 25
MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)], np.int32)


class ForageState(NamedTuple):
    """All that the world remembers, as arrays without a batch axis."""

    walker: Array
    """[2] int32."""
    apple: Array
    """[2] int32."""
    steps: Array
    """[] int32."""


class Forage:
    """Walk to the apple on a board without edges; another one grows elsewhere, for twenty-five steps.

    Pure functions of one world: no `self` that changes, no `if` on arrays, all chance from `key`. Copies,
    seeds and new episodes are the caller's (`envs.api.JaxEnv`). Observations under `log/` are for people, as
    `log/success` (1 or 0 at the end, NaN before), which a task without such a notion leaves out.
    """

    task = TASK
    # Row and column of each, as categories; without the number of classes they would be measurements.
    obs_space = {"walker": Space((2,), "int32", SIZE), "apple": Space((2,), "int32", SIZE)}
    act_space = {"action": Space((), "int32", len(MOVES))}

    def reset(self, *, key: Array) -> tuple[ForageState, Step]:
        walker, apple = jax.random.randint(key, (2, 2), 0, SIZE)
        state = ForageState(walker, apple, jnp.zeros((), jnp.int32))
        return state, self._step(state, eats=jnp.zeros((), bool), is_first=True)

    def step(self, state: ForageState, action: dict[str, Array], *, key: Array) -> tuple[ForageState, Step]:
        walker = (state.walker + jnp.asarray(MOVES)[action["action"]]) % SIZE
        eats = (walker == state.apple).all()
        apple = jnp.where(eats, jax.random.randint(key, (2,), 0, SIZE), state.apple)
        state = ForageState(walker, apple, state.steps + 1)
        return state, self._step(state, eats, is_first=False)

    def _step(self, state: ForageState, eats: Array, is_first: bool) -> Step:
        return Step(
            obs={"walker": state.walker, "apple": state.apple},
            reward=eats.astype(jnp.float32),
            is_first=jnp.asarray(is_first),
            is_last=state.steps == LIMIT,
            is_terminal=jnp.zeros((), bool),  # a time limit is no end of the world: returns bootstrap there
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train several seeds of an agent in a world written in JAX.")
    parser.add_argument("--steps", type=int, default=16_000, help="environment steps of each seed")
    parser.add_argument("--seeds", type=int, default=3, help="agents that are trained at once, two or more")
    parser.add_argument("--run", default="runs/own-jax-env", help="folder of the run")
    args = parser.parse_args()

    # No more steps by chance than needed, and twice the updates for every step: steps cost next to nothing.
    changes = {"task": TASK, "steps": args.steps, "loop.prefill": min(1_000, args.steps // 2), "until": ""}
    changes |= {"loop.train_ratio": 64, "population.seeds": args.seeds, "report.episodes": 0}
    result = dreamer.train(dreamer.preset("quickstart", changes), args.run)
    for i, member in enumerate(result["members"]):
        print(f"seed {i}: {member['return_mean']:.1f} apples")
    low, high = result["return_interval"]
    print(f"all seeds: {result['return_mean']:.1f} [{low:.1f}, {high:.1f}] after {result['seconds']:.0f} s")

    env = envs.make(TASK, num_envs=100)
    by_chance = envs.rollout(envs.Random(env.act_space), env, seeds=range(100))
    env.close()
    print(f"by chance: {np.mean([episode.return_ for episode in by_chance]):.1f}")


if __name__ == "__main__":
    main()
