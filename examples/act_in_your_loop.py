"""Act with a trained agent in a Gymnasium loop of your own; all it needs is one exported file.

    python examples/train.py                                    leaves runs/example
    dreamer export runs/example                                 runs/example/agent.safetensors
    python examples/act_in_your_loop.py runs/example/agent.safetensors

It was trained in grid:DoorKey-5x5, whose original this is: ten of ten episodes, in 7 to 14 steps, after 4 s.
Reading the file runs no code that is in it.
"""

import argparse

import gymnasium
import minigrid  # noqa: F401  registers its environments with Gymnasium

import dreamer
import envs


def main() -> None:
    parser = argparse.ArgumentParser(description="Act in a Gymnasium environment.")
    parser.add_argument("agent", nargs="?", default="runs/example/agent.safetensors")
    parser.add_argument("--env", default="MiniGrid-DoorKey-5x5-v0", help="id of a Gymnasium environment")
    parser.add_argument("--episodes", type=int, default=10)
    args = parser.parse_args()

    agent = dreamer.load(args.agent)
    # Your environment with your wrappers; Flat gives observations and takes actions as agents have them.
    env = envs.Flat(gymnasium.make(args.env))
    for episode in range(args.episodes):
        obs, info = env.reset(seed=episode)
        memory, return_, steps, done = agent.init(), 0.0, 0, False  # a fresh memory starts every episode
        while not done:
            action, memory = agent.act(memory, obs, key=steps)
            obs, reward, terminated, truncated, info = env.step(action)
            return_, steps, done = return_ + float(reward), steps + 1, terminated or truncated
        print(f"episode {episode}: return {return_:.3f} after {steps} steps")
    env.close()


if __name__ == "__main__":
    main()
