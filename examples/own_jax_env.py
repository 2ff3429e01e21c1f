"""An environment of your own in JAX: world, replay, world model and behaviour are one compiled program.

python examples/own_jax_env.py                         four seeds at once, from the folder of examples/
dreamer eval runs/own-jax-env/members/002              a member is a run like any other
dreamer train --task jax:examples.own_jax_env:Hunt     the same world from the command line
"""

import argparse
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import dreamer
from envs.api import SUCCESS, Space, Step

TASK = "jax:examples.own_jax_env:Hunt"  # in your project: jax:YOUR_MODULE:YOUR_CLASS
SIZE, LIMIT = 5, 20
MOVES = np.array([(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)], np.int32)


class HuntState(NamedTuple):
    """All that the world remembers, as arrays without a batch axis."""

    hunter: Array
    """[2] int32."""
    prey: Array
    """[2] int32."""
    steps: Array
    """[] int32."""


class Hunt:
    """Catch a prey that strays on a board without edges, within twenty steps.

    Pure functions of one world: no `self` that changes, no `if` on arrays, all chance from `key`. Copies,
    seeds and new episodes are the caller's (`envs.api.JaxEnv`).
    """

    task = TASK
    obs_space = {"board": Space((SIZE, SIZE), "uint8", 3), SUCCESS: Space((), "float32")}
    act_space = {"action": Space((), "int32", len(MOVES))}

    def reset(self, *, key: Array) -> tuple[HuntState, Step]:
        places = jax.random.choice(key, SIZE * SIZE, (2,), replace=False)
        hunter, prey = jnp.stack([places // SIZE, places % SIZE], 1).astype(jnp.int32)
        state = HuntState(hunter, prey, jnp.zeros((), jnp.int32))
        return state, self._step(state, is_first=True)

    def step(self, state: HuntState, action: dict[str, Array], *, key: Array) -> tuple[HuntState, Step]:
        moves = jnp.asarray(MOVES)
        hunter = (state.hunter + moves[action["action"]]) % SIZE
        strays = (state.prey + moves[jax.random.randint(key, (), 0, len(MOVES))]) % SIZE
        prey = jnp.where((hunter == state.prey).all(), state.prey, strays)  # once reached it cannot escape
        state = HuntState(hunter, prey, state.steps + 1)
        return state, self._step(state, is_first=False)

    def _step(self, state: HuntState, is_first: bool) -> Step:
        caught = (state.hunter == state.prey).all() & (not is_first)
        over = caught | (state.steps == LIMIT)
        cells = jnp.zeros((SIZE, SIZE), jnp.uint8)
        board = cells.at[tuple(state.prey)].set(2).at[tuple(state.hunter)].set(1)
        # Keys under log/ are for people: the agent never sees them. NaN: not known yet.
        success = jnp.where(over, caught.astype(jnp.float32), jnp.nan)
        return Step(
            obs={"board": board, SUCCESS: success},
            reward=caught.astype(jnp.float32),
            is_first=jnp.asarray(is_first),
            is_last=over,
            is_terminal=caught,  # the limit of steps is no end of the world: returns bootstrap there
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train several seeds of an agent in a world written in JAX.")
    parser.add_argument("--steps", type=int, default=12_000, help="environment steps of each seed")
    parser.add_argument("--seeds", type=int, default=4, help="agents that are trained at once")
    parser.add_argument("--run", default="runs/own-jax-env", help="folder of the run")
    args = parser.parse_args()

    changes = {"task": TASK, "steps": args.steps, "loop.prefill": args.steps // 10, "until": ""}
    changes |= {"population.seeds": args.seeds, "report.episodes": 0}
    result = dreamer.train(dreamer.preset("quickstart", changes), args.run)
    for i, member in enumerate(result["members"]):
        print(f"seed {i}: caught {member['success_rate']:.0%} in {member['length_mean']:.1f} steps")
    low, high = result["success_interval"]
    print(f"all seeds: {result['success_rate']:.0%} [{low:.0%}, {high:.0%}] after {result['seconds']:.0f} s")


if __name__ == "__main__":
    main()
