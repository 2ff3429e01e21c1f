#!/bin/sh
# popgym 1.0.7, VelocityOnlyCartPole: the first observation of an episode is position and angle, not the two speeds.
#
# The task hides position and angle and shows the speed of the cart and of the pole. `step` does so; `reset` gives
# the two hidden numbers instead. So each episode starts with the answer an agent with memory is meant to work out
# (it need only add up speeds from there), under the names of the speeds, and nothing in shape or space tells them
# apart. All three levels are affected. PositionOnlyCartPole, for contrast, shows position and angle in both.
#
# Seen on 2026-11-30 with Python 3.11.7, popgym 1.0.7, gymnasium 1.4.0, numpy 2.4.6, seed 0:
#   VelocityOnlyCartPoleEasy
#     state x, x_dot, angle, angle_dot  [0.0137, -0.023, -0.0459, -0.0483]
#     reset observes [0.0137, -0.0459]: positions
#     step  observes [-0.2175, 0.2295]: speeds
#   (the same for Medium and Hard)
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q popgym==1.0.7 gymnasium==1.4.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'END'
import platform
import sys
from importlib.metadata import version

import numpy as np
from popgym.envs import position_only_cartpole, velocity_only_cartpole


def kind(observation, state):
    """Which part of the state x, x_dot, angle, angle_dot an observation is."""
    if np.allclose(observation, np.take(state, [0, 2])):
        return "positions"
    return "speeds" if np.allclose(observation, np.take(state, [1, 3])) else "neither"


def rounded(values):
    return [round(float(value), 4) for value in values]


def kinds(env):
    observation, _ = env.reset(seed=0)
    print(f"{type(env).__name__}\n  state x, x_dot, angle, angle_dot  {rounded(env.state)}")
    first = kind(observation, env.state)
    print(f"  reset observes {rounded(observation)}: {first}")
    observation, *_ = env.step(0)
    print(f"  step  observes {rounded(observation)}: {kind(observation, env.state)}")
    return first, kind(observation, env.state)


names = ("popgym", "gymnasium", "numpy")
print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names))
seen = [
    kinds(getattr(velocity_only_cartpole, f"VelocityOnlyCartPole{level}")())
    for level in ("Easy", "Medium", "Hard")
]
contrast = kinds(position_only_cartpole.PositionOnlyCartPoleEasy())
sys.exit(int(seen != [("positions", "speeds")] * 3 or contrast != ("positions", "positions")))
END
echo "as described"
