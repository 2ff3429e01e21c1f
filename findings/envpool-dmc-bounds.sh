#!/bin/sh
# envpool 1.2.5: observations of the DeepMind Control tasks lie outside the space envpool declares for them.
#
# Where a value is unbounded, the declared lower bound is 2.2e-308, the smallest positive double, in place of the
# most negative one. So neither a negative number nor zero is in the space: `contains` is false for most observations,
# and a program that clips observations to their bounds, or scales by them, loses every negative number without a
# word. The gymnasium and the dm_env interface declare the same; the actions of these tasks have bounds, which are
# right. What helps: take bounds of such size for none.
#
# Seen on 2026-11-30 with Python 3.11.7, envpool 1.2.5, gymnasium 1.4.0, numpy 2.4.6:
#   CheetahRun-v1 position declared [2.2250738585072014e-308, 1.7976931348623157e+308], observed from -0.1068: outside
#   CheetahRun-v1 velocity declared [2.2250738585072014e-308, 1.7976931348623157e+308], observed from -0.0098: outside
#   CartpoleSwingup-v1 position declared (the same), observed from -1.0000: outside
#   CartpoleSwingup-v1 velocity declared (the same), observed from -0.0142: outside
#   WalkerWalk-v1 orientations declared (the same), observed from -0.8465: outside
#   WalkerWalk-v1 height declared (the same), observed from 1.3000: inside
#   WalkerWalk-v1 velocity declared (the same), observed from 0.0000: outside
#   CheetahRun-v1 position in dm_env: from 2.2250738585072014e-308 to 1.7976931348623157e+308
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q envpool==1.2.5 gymnasium==1.4.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'END'
import platform
import sys
from importlib.metadata import version

import envpool
import numpy as np

names = ("envpool", "gymnasium", "numpy")
print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names))
outside = []
for task in ("CheetahRun-v1", "CartpoleSwingup-v1", "WalkerWalk-v1"):
    env = envpool.make_gymnasium(task, num_envs=1, seed=0)
    observation, _ = env.reset()
    for name, space in env.observation_space.items():
        value = np.asarray(observation[name][0], space.dtype).reshape(space.shape)
        outside.append(not space.contains(value) and space.low.min() == np.finfo(float).tiny)
        print(
            f"{task} {name} declared [{space.low.min()}, {space.high.max()}], observed from {value.min():.4f}: "
            f"{'outside' if outside[-1] else 'inside'}"
        )
bounds = envpool.make_dm("CheetahRun-v1", num_envs=1).observation_spec().position
print(f"CheetahRun-v1 position in dm_env: from {bounds.minimum} to {bounds.maximum}")
sys.exit(int(not any(outside) or bounds.minimum != np.finfo(float).tiny))
END
echo "as described"
