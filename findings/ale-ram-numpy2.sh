#!/bin/sh
# ale-py 0.9.0 with numpy 2: getRAM() answers 128 copies of the machine's first byte.
#
# The metadata of ale-py 0.9.0 lets pip install numpy 2 beside it, and does so today. Everything seems to work, moving
# pictures come out, but the memory of the console is wrong: each of its 128 bytes reads as the first. So is the
# observation of `obs_type="ram"`, and nothing warns. The pin matters: danijar/dreamerv3 (e3f0224) asks for
# ale_py==0.9.0. getRAM(buffer) fills a buffer rightly in the same process. What helps: ale-py 0.9.1 or later, or
# numpy 1.
#
# Seen on 2026-11-30 with Python 3.11.7, Pong after 50 frames:
#   ale-py 0.9.0, numpy 1.26.4: getRAM() has 31 values, getRAM(buffer) 31: equal
#   ale-py 0.9.0, numpy 2.4.6: getRAM() has 1 values, getRAM(buffer) 31: different
#   ale-py 0.12.1, numpy 2.4.6: getRAM() has 31 values, getRAM(buffer) 31: equal
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ram.py" <<'END'
import sys
from importlib.metadata import version

import ale_py
import numpy as np
from ale_py import roms

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
ale = ale_py.ALEInterface()
ale.setInt("random_seed", 1)
ale.loadROM(roms.get_rom_path("pong"))
ale.reset_game()
for index in range(50):
    ale.act(ale.getMinimalActionSet()[index % 6])
buffer = np.zeros(128, np.uint8)
ale.getRAM(buffer)
returned = ale.getRAM()
equal = np.array_equal(returned, buffer)
print(
    f"ale-py {version('ale-py')}, numpy {np.__version__}: getRAM() has {len(set(returned.tolist()))} values, "
    f"getRAM(buffer) {len(set(buffer.tolist()))}: {'equal' if equal else 'different'}"
)
constant = set(returned.tolist()) == {int(buffer[0])}
sys.exit(int((equal, constant) != ((False, True) if sys.argv[1] == "wrong" else (True, False))))
END
cd "$folder"
attempt() {
    "${PYTHON:-python3}" -m venv "$folder/$1-$2"
    "$folder/$1-$2/bin/pip" install -q "ale-py==$1" "numpy==$2"
    "$folder/$1-$2/bin/python" ram.py "$3"
}
"${PYTHON:-python3}" --version
attempt 0.9.0 1.26.4 right
attempt 0.9.0 2.4.6 wrong
attempt 0.12.1 2.4.6 right
echo "as described"
