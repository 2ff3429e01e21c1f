#!/bin/sh
# envpool 1.2.5: `max_episode_steps` of its Procgen games ends no episode, and turns deaths into time limits.
#
# Elsewhere in EnvPool `max_episode_steps` cuts an episode, with `truncated`. In Procgen (here one copy, seed 3, always
# action 4, which does nothing) episodes go on to where the game ends them, whatever it is, and the flag is chosen by the
# number alone: an end after that many steps is `truncated`, one before is `terminated`. So with a limit of 20 the
# death of starpilot after 102 steps is `truncated`, not `terminated`: an agent that bootstraps where an episode was cut
# learns that life goes on. With a limit above the game's own (1,000 steps in coinrun, 500 in leaper), reaching
# that one is `terminated`. Only the default, which is the game's limit, tells both apart. What helps: leave the
# argument out, and put a wrapper around a copy that counts.
#
# Seen on 2026-12-01 with Python 3.11.7; envpool's Procgen needs Qt 5 of the system (Debian: libqt5gui5).
#   envpool 1.2.5, starpilot, default: end after 102 steps, terminated
#   envpool 1.2.5, starpilot, 20: end after 102 steps, truncated
#   envpool 1.2.5, starpilot, 1500: end after 102 steps, terminated
#   envpool 1.2.5, coinrun, default: end after 1000 steps, truncated
#   envpool 1.2.5, coinrun, 20: end after 1000 steps, truncated
#   envpool 1.2.5, coinrun, 1500: end after 1000 steps, terminated
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ends.py" <<'END'
import warnings

import envpool
import numpy as np

warnings.filterwarnings("ignore")
NOTHING = np.array([4])

seen = []
for game in ("starpilot", "coinrun"):
    for limit in (None, 20, 1500):
        options = {} if limit is None else {"max_episode_steps": limit}
        pool = envpool.make(f"{game.capitalize()}Hard-v0", env_type="gymnasium", num_envs=1, seed=3, **options)
        pool.reset()
        for step in range(1, 2000):
            _, _, terminated, truncated, _ = pool.step(NOTHING)
            if terminated[0] or truncated[0]:
                break
        seen.append((step, "terminated" if terminated[0] else "truncated"))
        print(f"envpool {envpool.__version__}, {game}, {limit or 'default'}: end after {step} steps, {seen[-1][1]}")
expected = [(102, "terminated"), (102, "truncated"), (102, "terminated")]
expected += [(1000, "truncated"), (1000, "truncated"), (1000, "terminated")]
raise SystemExit(seen != expected)
END
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet envpool==1.2.5
"$folder/venv/bin/python" "$folder/ends.py"
