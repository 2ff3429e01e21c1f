#!/bin/sh
# xminigrid 0.9.3: one in sixteen worlds of MiniGrid-BlockedUnlockPickUp has no key, and in one in thirty the
# object that blocks the door is just like the one to be picked up.
#
# The key is drawn before the object is put in front of the locked door, and that object goes over whatever is
# there: where it was the key, the door stays shut for ever. Kind and colour of both objects are drawn
# independently (5 x 6), and the goal is to hold one that looks like the far one.
#
# Seen on 2026-11-29 with Python 3.11.7, jax 0.10.2, of 4,096 worlds:
#   without a key: KEYLESS
#   won by picking up the blocking object: TWINS
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q xminigrid==0.9.3 jax==0.10.2 flax==0.12.8
cd "$folder"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'EOF'
import platform
import sys
from importlib.metadata import version

import jax
import numpy as np
import xminigrid
from xminigrid.core.constants import Tiles

WORLDS = 4096
packages = ", ".join(f"{name} {version(name)}" for name in ("xminigrid", "jax"))
print(f"Python {platform.python_version()}, {packages}")
env, params = xminigrid.make("MiniGrid-BlockedUnlockPickUp")
draw = jax.jit(jax.vmap(lambda key: env.reset(params, key).state))
worlds = draw(jax.random.split(jax.random.key(0), WORLDS))
grid, goal = np.asarray(worlds.grid), np.asarray(worlds.goal_encoding)
keyless = ~(grid[..., 0] == Tiles.KEY).any((1, 2))
twins = (grid == goal[:, None, None, 1:3]).all(-1).sum((1, 2)) > 1
print(f"without a key: {keyless.sum()}")
print(f"won by picking up the blocking object: {twins.sum()}")
sys.exit(int(not (0.05 < keyless.mean() < 0.08 and 0.02 < twins.mean() < 0.05)))
EOF
echo "as described"
