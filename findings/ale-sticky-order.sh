#!/bin/sh
# ale-py 0.12.1 and 0.9.0: sticky actions switched off after loadROM stay on, and getFloat reports them off.
#
# The emulator reads `repeat_action_probability` once, while it loads the game. Set to 0.0 later, the setting is
# stored, read back as 0.0 and without effect: each action is still replaced by the one before it with probability
# 0.25. Nothing warns (a comment of the C++ header says to load after setting; the Python side is silent). Users who
# write an Atari environment on ALEInterface meet it; the public DreamerV3 code
# (danijar/dreamerv3, e3f0224, which pins ale-py 0.9.0) makes its calls in this order in embodied/envs/atari.py, so
# `sticky: False` of its atari100k configuration has no effect. What helps: set it before loadROM.
#
# Eight seeds of the emulator play the same 300 actions; counted are the different games among them. Without sticky
# actions the seed changes nothing, so there is one.
#
# Seen on 2026-11-30:
#   Python 3.11.7, ale-py 0.12.1, numpy 2.4.6
#   pong     0.0 before loading: 1 game   0.0 after loading: 8 games, frame for frame those with 0.25; getFloat 0.0
#   breakout 0.0 before loading: 1 game   0.0 after loading: 8 games, frame for frame those with 0.25; getFloat 0.0
#   Python 3.11.7, ale-py 0.9.0, numpy 2.4.6
#   (the same lines)
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/play.py" <<'END'
import platform
from importlib.metadata import version

import ale_py
import numpy as np
from ale_py import roms

SETTING = "repeat_action_probability"


def play(game, seed, before=None, after=None):
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    if before is not None:
        ale.setFloat(SETTING, before)
    ale.loadROM(roms.get_rom_path(game))
    if after is not None:
        ale.setFloat(SETTING, after)
    ale.reset_game()
    actions = ale.getMinimalActionSet()
    frames = []
    for index in np.random.default_rng(0).integers(len(actions), size=300):
        ale.act(actions[index])
        frames.append(ale.getScreen().tobytes())
    return b"".join(frames), ale.getFloat(SETTING)


print(f"Python {platform.python_version()}, ale-py {version('ale-py')}, numpy {np.__version__}")
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
seeds = range(1, 9)
for game in ("pong", "breakout"):
    early = [play(game, seed, before=0.0)[0] for seed in seeds]
    late, read = zip(*(play(game, seed, after=0.0) for seed in seeds), strict=True)
    sticky = [play(game, seed, before=0.25)[0] for seed in seeds]
    same = "frame for frame those with 0.25" if list(late) == sticky else "others than with 0.25"
    print(
        f"{game:8} 0.0 before loading: {len(set(early))} game   0.0 after loading: {len(set(late))} games, "
        f"{same}; getFloat {read[0]}"
    )
    assert len(set(early)) == 1
    assert len(set(late)) > 1 and list(late) == sticky and set(read) == {0.0}
END
cd "$folder"
for pin in 0.12.1 0.9.0; do
    "${PYTHON:-python3}" -m venv "$folder/$pin"
    "$folder/$pin/bin/pip" install -q "ale-py==$pin" numpy==2.4.6
    "$folder/$pin/bin/python" play.py
done
echo "as described"
