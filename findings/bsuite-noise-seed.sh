#!/bin/sh
# bsuite 0.3.6, cartpole_noise with a seed: the noise of the first two rewards follows from the first observation.
#
# The experiment hands one `seed` to the environment and to the wrapper that adds Gaussian noise to rewards. Both
# build a RandomState of it, so both read the same stream: the numbers that placed the cart (x, x_dot) are those the
# noise is made of, by the polar method: with u = x / 0.05, v = x_dot / 0.05 and s = u^2 + v^2 < 1, the noises are
# v f and u f with f = sqrt(-2 ln(s) / s). The published sweep leaves the seed open (None), so who seeds for
# repeatable runs meets it. Only the first draws line up in cartpole; noise meant to be independent of the state is
# not, in the first episode of every run. catch_noise, mountain_car_noise and mnist_noise hand their seed on alike.
# What helps: another seed for the wrapper, RewardNoise(env, scale, seed=seed + something).
#
# Seen on 2026-11-30 with Python 3.11.7, bsuite 0.3.6, numpy 2.4.6:
#   seeds 0 to 299, correlation of the first noise with x_dot 0.49, of the second with x 0.57 (by chance: 0.06)
#   in 244 seeds of 300 s < 1; there both noises follow from the observation to within 5.5e-07
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q bsuite==0.3.6 pandas==3.1.1 numpy==2.4.6 plotnine==0.15.9 scikit-image==0.26.0
cd "$folder"
"$folder/venv/bin/python" - <<'END'
import platform
import sys
from importlib.metadata import version

import bsuite
import numpy as np

rows = []
for seed in range(300):
    env = bsuite.load("cartpole_noise", {"noise_scale": 1.0, "seed": seed})
    # The observation divides position and speed by 3; both start in [-0.05, 0.05].
    u, v = env.reset().observation[0, :2].astype(float) * 3 / 0.05
    # Each of these steps is worth 1 without noise.
    rows.append((u, v, env.step(1).reward - 1, env.step(1).reward - 1))
u, v, first, second = np.array(rows).T
print(f"Python {platform.python_version()}, bsuite {version('bsuite')}, numpy {np.__version__}")
correlations = np.corrcoef(v, first)[0, 1], np.corrcoef(u, second)[0, 1]
print(
    f"seeds 0 to 299, correlation of the first noise with x_dot {correlations[0]:.2f}, "
    f"of the second with x {correlations[1]:.2f} (by chance: {1 / np.sqrt(300):.2f})"
)
s = u**2 + v**2
inside = s < 1
factor = np.sqrt(-2 * np.log(s[inside]) / s[inside])
error = max(abs(v[inside] * factor - first[inside]).max(), abs(u[inside] * factor - second[inside]).max())
print(f"in {inside.sum()} seeds of 300 s < 1; there both noises follow from the observation to within {error:.1e}")
sys.exit(int(min(correlations) < 0.3 or error > 1e-4))
END
echo "as described"
