"""Arrays that are split over the devices of several processes, as files: each process writes what it has.

    pieces-1.safetensors        the pieces of process 1; of equal ones only the first replica
    index of that file          {piece: {"leaf": name of the array, "start": where in it the piece begins}}

Arrays that every process has whole are no matter of this module: one process writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Index = dict[str, dict[str, Any]]


def name_of(process: int) -> str:
    """The file of the pieces of a process."""
    return f"pieces-{process}.safetensors"


def is_split(array: Any) -> bool:
    """Whether no process has all of an array."""
    return not getattr(array, "is_fully_replicated", True)


def here(leaves: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], Index]:
    """Copies of what this process writes of split arrays, and the index of its file."""
    pieces: dict[str, np.ndarray] = {}
    index: Index = {}
    for name, leaf in leaves.items():
        for shard in leaf.addressable_shards:
            if shard.replica_id == 0:
                key = f"{name}@{shard.device.id}"
                pieces[key] = np.array(shard.data)
                index[key] = {"leaf": name, "start": [axis.start or 0 for axis in shard.index]}
    return pieces, index


def write(path: Path, pieces: Mapping[str, np.ndarray]) -> None:
    """Write the file of this process."""
    from safetensors.numpy import save_file

    save_file(dict(pieces), path)


def leaves_of(indices: Mapping[str, Index]) -> set[str]:
    """Names of the arrays of which there are pieces.

    Args:
      indices: {file: its index}.
    """
    return {piece["leaf"] for index in indices.values() for piece in index.values()}


def read(folder: Path, empty: dict[str, np.ndarray], indices: Mapping[str, Index]) -> dict[str, np.ndarray]:
    """Fill arrays with their pieces.

    Args:
      empty: {name: an array of the right shape and dtype}.

    Raises:
      ValueError: an array is not complete.
    """
    from safetensors.numpy import load_file

    missing = {name: array.size for name, array in empty.items()}
    for file, index in indices.items():
        stored = load_file(folder / file)
        for key, piece in index.items():
            part, name = stored[key], piece["leaf"]
            where = zip(piece["start"], part.shape, strict=True)
            empty[name][tuple(slice(start, start + length) for start, length in where)] = part
            missing[name] -= part.size
    if lacking := [name for name, numbers in missing.items() if numbers]:
        raise ValueError(f"{lacking[0]} lacks {missing[lacking[0]]} numbers")
    return empty
