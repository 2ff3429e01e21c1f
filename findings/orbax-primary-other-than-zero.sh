#!/bin/sh
# orbax-checkpoint 0.12.8: a save by another process than the first, alone, succeeds without its numpy arrays.
#
# In a run of several processes, Orbax's MultiprocessingOptions say which ones take part in a save
# (`active_processes`) and which one leads (`primary_host`). With both set to the process that calls, a
# `Checkpointer` of process 0 writes its numpy arrays. The same lines in process 1 return without an error and
# leave a checkpoint that looks finished, but holds no array: that shows when it is loaded. What helps: let process
# 0 write what all processes have, or read every checkpoint back before it counts as one.
#
# Seen on 2026-12-01 with Python 3.11.7, jax 0.10.2, two processes on one machine:
#   orbax-checkpoint 0.12.8: process 0 saved alone, loaded later: x = [0.0, 1.0, 2.0]
#   orbax-checkpoint 0.12.8: process 1 saved alone, loaded later: ValueError, NOT_FOUND
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/save.py" <<'END'
import sys
from pathlib import Path

import jax

index, folder, port = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
jax.config.update("jax_platforms", "cpu")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

options = ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})
handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
path = folder / f"by-{index}"
with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
    checkpointer.save(path, {"x": np.arange(3.0)})
multihost_utils.sync_global_devices("end")
END
cat > "$folder/load.py" <<'END'
import sys
from importlib.metadata import version
from pathlib import Path

import orbax.checkpoint as ocp

for index in (0, 1):
    try:
        read = f"x = {ocp.PyTreeCheckpointer().restore(Path(sys.argv[1]) / f'by-{index}')['x'].tolist()}"
    except Exception as error:
        read = f"{type(error).__name__}, {'NOT_FOUND' if 'NOT_FOUND' in str(error) else error}"
    print(f"orbax-checkpoint {version('orbax-checkpoint')}: process {index} saved alone, loaded later: {read}")
END
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 orbax-checkpoint==0.12.8 numpy==2.4.6
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
for index in 0 1; do
  timeout -s KILL 300 "$folder/venv/bin/python" "$folder/save.py" "$index" "$folder" "$port" > "$folder/$index.txt" 2> "$folder/$index.err" &
done
wait
ls -d "$folder/by-0" "$folder/by-1" > /dev/null
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/load.py" "$folder" 2> "$folder/load.err" | tee "$folder/load.txt"
grep -q "process 0 saved alone, loaded later: x = \[0.0, 1.0, 2.0\]" "$folder/load.txt" || { tail -3 "$folder"/*.err; exit 1; }
grep -q "process 1 saved alone, loaded later: ValueError, NOT_FOUND" "$folder/load.txt" || { tail -3 "$folder"/*.err; exit 1; }
