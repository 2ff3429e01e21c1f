"""Split arrays come back from the files of pieces, whichever process wrote which."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dreamer import pieces

W = np.arange(12.0, dtype=np.float32).reshape(4, 3)


def split(array, *axes):
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("fsdp",))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))


def test_is_split_only_of_arrays_that_no_process_has_whole():
    assert pieces.is_split(split(W, "fsdp"))
    assert not any(pieces.is_split(x) for x in (split(W), W, jax.numpy.asarray(W), 3))


def test_here_has_every_number_once_with_its_place():
    found, index = pieces.here({"w": split(W, "fsdp")})
    assert sorted(piece["start"] for piece in index.values()) == [[0, 0], [2, 0]]
    for key, piece in index.items():
        start = piece["start"][0]
        np.testing.assert_array_equal(found[key], W[start : start + 2])
    assert pieces.leaves_of({"a": index, "b": {}}) == {"w"}


def test_here_of_equal_pieces_has_one():
    found, _ = pieces.here({"w": split(W)})
    assert [x.shape for x in found.values()] == [W.shape]


def files(folder):
    """Of two processes, each with one of the pieces."""
    found, index = pieces.here({"w": split(W, "fsdp")})
    indices = {pieces.name_of(i): {key: index[key]} for i, key in enumerate(sorted(found))}
    for file, index in indices.items():
        pieces.write(folder / file, {key: found[key] for key in index})
    return indices


def test_read_fills_arrays_from_the_files_of_all(tmp_path):
    read = pieces.read(tmp_path, {"w": np.full_like(W, np.nan)}, files(tmp_path))
    np.testing.assert_array_equal(read["w"], W)


def test_read_without_one_of_the_files_says_what_is_missing(tmp_path):
    indices = files(tmp_path)
    del indices[pieces.name_of(1)]
    with pytest.raises(ValueError, match="w lacks 6 numbers"):
        pieces.read(tmp_path, {"w": np.empty_like(W)}, indices)
