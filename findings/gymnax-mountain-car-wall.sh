#!/bin/sh
# gymnax 1.0.1: MountainCarContinuous-v0 has no left wall.
#
# In Gymnasium a car that runs into the left end of the track (position -1.2) stops: its speed becomes 0. gymnax
# clips the position and keeps the speed, and zeroes a speed at the goal instead, so the car hangs at the end of
# the track until its engine has used the speed up. The same controller (push the way the car moves) from the
# same starts:
#
# Seen on 2026-11-29 with Python 3.11.7, jax 0.10.2, gymnasium 1.4.0:
#   seed 0: Gymnasium 106 steps, gymnax SEEN0
#   seed 1: Gymnasium 106 steps, gymnax SEEN1
#   seed 2: Gymnasium 107 steps, gymnax SEEN2
#   speed after the wall: Gymnasium 0.0, gymnax -0.0SEEN
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
# gymnax asks for an older Gymnasium than it needs, and does not declare all that it imports.
"$folder/venv/bin/pip" install -q jax==0.10.2 flax==0.12.8 chex==0.1.92 gymnasium==1.4.0 six seaborn matplotlib pyyaml
"$folder/venv/bin/pip" install -q --no-deps gymnax==1.0.1
cd "$folder"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'EOF'
import platform
import sys
from importlib.metadata import version

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np

TASK = "MountainCarContinuous-v0"
packages = ", ".join(f"{name} {version(name)}" for name in ("gymnax", "gymnasium", "jax"))
print(f"Python {platform.python_version()}, {packages}")
port, params = gymnax.make(TASK)
original = gymnasium.make(TASK)
advance = jax.jit(lambda state, act: port.step_env(jax.random.key(0), state, act, params))
fresh = port.reset_env(jax.random.key(0), params)[1]


def started(position, velocity):
    return fresh.replace(position=jnp.float32(position), velocity=jnp.float32(velocity))


def push(velocity):
    return np.float32([1 if velocity >= 0 else -1])


differ = True
for seed in range(3):
    obs, _ = original.reset(seed=seed)
    state, ends = started(*original.unwrapped.state), {}
    for step in range(1, 999):
        if "Gymnasium" not in ends:
            obs, _, done, _, _ = original.step(push(obs[1]))
            ends |= {"Gymnasium": step} if done else {}
        if "gymnax" not in ends:
            _, state, _, done, _ = advance(state, push(state.velocity))
            ends |= {"gymnax": step} if done else {}
    print(f"seed {seed}: Gymnasium {ends['Gymnasium']} steps, gymnax {ends['gymnax']}")
    differ &= ends["gymnax"] > ends["Gymnasium"] + 20

original.unwrapped.state = np.array([-1.19, -0.05])
obs, *_ = original.step(np.float32([-1]))
_, state, *_ = advance(started(-1.19, -0.05), np.float32([-1]))
print(f"speed after the wall: Gymnasium {float(obs[1]):.3f}, gymnax {float(state.velocity):.3f}")
sys.exit(int(not (differ and obs[1] == 0 and state.velocity < -0.04)))
EOF
echo "as described"
