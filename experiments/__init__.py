"""Runs, built from worlds and agents; importing it claims the names of our packages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
try:
    from dreamer.packages import OURS, claim
finally:
    del sys.path[0]

claim(*OURS)
