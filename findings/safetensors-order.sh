#!/bin/sh
# safetensors 0.8.0 (numpy): an array in column order comes back with its numbers in other places.
#
# `safetensors.numpy.save` writes the bytes of an array as they lie in memory and the shape beside them; `load`
# reads them in row order. Nothing warns. What helps: np.ascontiguousarray before saving.
#
# Seen on 2026-11-29 with Python 3.11.7, numpy 2.4.6:
#   saved  [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
#   loaded [[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]]
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'EOF'
import platform
import sys
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load, save

print(f"Python {platform.python_version()}, safetensors {version('safetensors')}, numpy {np.__version__}")
rows = np.arange(6, dtype=np.float32).reshape(2, 3)
loaded = load(save({"x": np.asfortranarray(rows)}))["x"]
print("saved ", rows.tolist())
print("loaded", loaded.tolist())
contiguous = load(save({"x": np.ascontiguousarray(np.asfortranarray(rows))}))["x"]
assert np.array_equal(contiguous, rows)
sys.exit(int(loaded.tolist() != [[0, 3, 1], [4, 2, 5]]))
EOF
echo "as described"
