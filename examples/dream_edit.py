"""Edit what an agent sees, or what it does next, and look at what it then dreams.

    python examples/train.py                          leaves runs/example
    python examples/dream_edit.py runs/example        prints three dreams and draws them to dream-edit.png

After the first picture of an episode the world model dreams three times, without looking again:
  as it was       the actions that the agent took;
  another action  it picks up what is in front of it, where there is nothing, and turns around;
  edited          the same actions, but a key was painted in front of it.

With that run, in 14 s on one core: in the edited dream the agent carries the key and sees no other one; in
the second it sees a key lie where it may well be, and carries none.
"""

import argparse
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from matplotlib.figure import Figure

import dreamer
import envs
from dreamer.inspection import Forecast, Inspector
from envs.api import Spaces
from envs.draw import picture
from envs.gridworld import AGENT, COLOR, EMPTY, KEY, LEFT, PICKUP, VIEW, YELLOW
from experiments.report.recording import record

AHEAD = VIEW // 2, VIEW - 2
"""The cell in front of the agent, as it sees it: it looks upwards from the middle of the lowest row."""


def with_key_ahead(obs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Observations {key: [N, T, ...]} whose first picture has the key in front of the agent and nowhere else.

    Edits of later pictures have less effect: the model remembers what was there, and decodes that.
    """
    edited = {key: value.copy() for key, value in obs.items()}
    elsewhere = edited["object"][:, 0] == KEY
    for channel, nothing, key in (("object", EMPTY, KEY), ("color", 0, YELLOW // COLOR), ("state", 0, 0)):
        edited[channel][:, 0][elsewhere] = nothing
        edited[channel][:, 0, *AHEAD] = key
    return edited


def draw(dreams: Mapping[str, Forecast], steps: int, spaces: Spaces, path: str) -> None:
    """A row of pictures for every dream."""
    figure = Figure(figsize=(1.4 * steps + 1, 1.6 * len(dreams)), layout="constrained")
    rows = figure.subplots(len(dreams), steps, squeeze=False)
    for axes, (name, dream) in zip(rows, dreams.items(), strict=True):
        for t, ax in enumerate(axes):
            ax.imshow(picture({key: np.asarray(dream.obs[key])[0, t] for key in spaces}, spaces))
            ax.set(xticks=[], yticks=[], title=f"value {dream.heads.value[0, t]:.2f}")
        axes[0].set_ylabel(name)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description="Dream on from edited moments of an episode.")
    parser.add_argument("run", nargs="?", default="runs/example", help="folder of a run in DoorKey")
    parser.add_argument("--world", type=int, default=3_001, help="seed of the episode")
    parser.add_argument("--steps", type=int, default=6, help="steps of the dreams")
    parser.add_argument("--out", default="dream-edit.png", help="picture of the dreams")
    args = parser.parse_args()

    agent = dreamer.load(args.run)
    env = envs.make(agent.config.task, 1, **agent.config.env.world)
    _, played = record(agent, env, [args.world], max_steps=args.steps)
    env.close()
    model = Inspector(agent.agent, agent.everything, agent.numbers)

    def dream(obs: Mapping[str, np.ndarray], actions: Sequence[int]) -> Forecast:
        """Look at the first picture, then dream on under these actions."""
        seen = model.read(played._replace(obs=obs)).latent
        start = jax.tree.map(lambda x: x[:, 0], seen)
        _, imagined = model.forecast(start, {"action": np.asarray([actions], np.int32)})
        return imagined

    taken = [*played.action["action"][0], *[LEFT] * args.steps][: args.steps]
    picks_up = [PICKUP, *[LEFT] * (args.steps - 1)]
    dreams = {
        "as it was": dream(played.obs, taken),
        "another action": dream(played.obs, picks_up),
        "edited": dream(with_key_ahead(played.obs), picks_up),
    }

    print("after one step     carries the key   reward   continues   value")
    for name, imagined in dreams.items():
        carries = "yes" if np.asarray(imagined.obs["object"])[0, 0][AGENT] == KEY else "no"
        heads = (imagined.heads.reward, imagined.heads.cont, imagined.heads.value)
        reward, cont, value = (float(head[0, 0]) for head in heads)
        print(f"{name:<14}{carries:>20}{reward:>9.2f}{cont:>12.2f}{value:>8.3f}")
    draw(dreams, args.steps, agent.agent.obs_space, args.out)
    print(f"drawn to {args.out}")


if __name__ == "__main__":
    main()
