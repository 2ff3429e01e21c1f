"""Edit what an agent has seen, or what it does next, and look at what it then dreams.

    python examples/train.py                          leaves runs/example
    python examples/dream_edit.py runs/example        prints three dreams and draws them to dream-edit.png

From one moment of an episode the world model dreams three times, without looking again:
  as it was     the actions that the agent took;
  other action  it turns on the spot instead;
  edited        the goal is painted in front of the agent, and it walks forward.
"""

import argparse

import jax
import numpy as np
from matplotlib.figure import Figure

import dreamer
import envs
from dreamer.inspection import Inspector
from envs.draw import picture
from envs.gridworld import COLOR, FORWARD, GOAL, GREEN, RIGHT, VIEW
from experiments.report.recording import record

AHEAD = VIEW // 2, VIEW - 2
"""The cell in front of the agent, as it sees it: it looks upwards from the middle of the lowest row."""


def with_goal_ahead(obs: dict[str, np.ndarray], t: int) -> dict[str, np.ndarray]:
    """Observations {key: [N, T, ...]} with a goal in front of the agent at time t."""
    edited = {key: value.copy() for key, value in obs.items()}
    edited["object"][:, t, *AHEAD] = GOAL
    edited["color"][:, t, *AHEAD] = GREEN // COLOR
    edited["state"][:, t, *AHEAD] = 0
    return edited


def main() -> None:
    parser = argparse.ArgumentParser(description="Dream on from edited moments of an episode.")
    parser.add_argument("run", nargs="?", default="runs/example", help="folder of a run in a grid world")
    parser.add_argument("--world", type=int, default=3_000, help="seed of the episode")
    parser.add_argument("--at", type=int, default=2, help="steps that the agent sees before it dreams")
    parser.add_argument("--steps", type=int, default=6, help="steps of the dreams")
    parser.add_argument("--out", default="dream-edit.png", help="picture of the dreams")
    args = parser.parse_args()

    agent = dreamer.load(args.run)
    env = envs.make(agent.config.task, 1, **agent.config.env.world)
    _, played = record(agent, env, [args.world], max_steps=args.at + args.steps)
    env.close()
    model = Inspector(agent.agent, agent.everything, agent.numbers)
    latest = min(args.at, played.length[0] - 1)

    def dream(obs: dict[str, np.ndarray], action: np.ndarray):
        """Follow the episode until `latest` with the posterior, then dream on under these actions [H]."""
        seen = model.read(played._replace(obs=obs)).latent
        start = jax.tree.map(lambda x: x[:, latest], seen)
        return model.forecast(start, {"action": action[None]})[1]

    taken = played.action["action"][0, latest:][: args.steps]
    always = lambda choice: np.full(len(taken), choice, taken.dtype)
    dreams = {
        "as it was": dream(played.obs, taken),
        "other action": dream(played.obs, always(RIGHT)),
        "edited": dream(with_goal_ahead(played.obs, latest), always(FORWARD)),
    }
    print(f"{'':<14}{'cells that differ':>18}{'reward':>9}{'continues':>11}{'value':>8}   after one step")
    for name, seen in dreams.items():
        differ = int(
            (np.asarray(seen.obs["object"]) != np.asarray(dreams["as it was"].obs["object"]))[0, 0].sum()
        )
        reward, cont, value = (float(x[0, 0]) for x in (seen.heads.reward, seen.heads.cont, seen.heads.value))
        print(f"{name:<14}{differ:>18}{reward:>9.2f}{cont:>11.2f}{value:>8.2f}")

    figure = Figure(figsize=(1.4 * len(taken) + 1, 4.6), layout="constrained")
    rows = figure.subplots(len(dreams), len(taken), squeeze=False)
    for axes, (name, seen) in zip(rows, dreams.items(), strict=True):
        for t, ax in enumerate(axes):
            ax.imshow(picture({k: np.asarray(v)[0, t] for k, v in seen.obs.items()}, agent.agent.obs_space))
            ax.set(
                xticks=[], yticks=[], title=f"r {seen.heads.reward[0, t]:.1f}  c {seen.heads.cont[0, t]:.1f}"
            )
        axes[0].set_ylabel(name)
    figure.savefig(args.out, dpi=90)
    print(f"drawn to {args.out}: r is the reward that is expected there, c the chance to continue")


if __name__ == "__main__":
    main()
