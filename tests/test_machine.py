"""What a process settles with the machine."""

import sys

import jax
import pytest

from experiments import machine


@pytest.fixture
def released(monkeypatch):
    """How often memory was handed back."""
    calls = []
    monkeypatch.setattr(machine, "release_memory", lambda: calls.append(1))
    machine.keep_memory()
    return calls


def test_what_compiling_a_large_program_leaves_is_handed_back(released, monkeypatch):
    jax.jit(lambda x: x + 1)(1.0)
    assert not released
    monkeypatch.setattr(machine, "LARGE", 0.0)
    jax.jit(lambda x: x + 2)(1.0)
    assert len(released) == 1


def test_it_is_handed_back_once_however_often_a_process_is_prepared(released, monkeypatch):
    machine.keep_memory()
    monkeypatch.setattr(machine, "LARGE", 0.0)
    jax.jit(lambda x: x + 3)(1.0)
    assert len(released) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked to hand memory back")
def test_handing_back_leaves_less_resident_and_all_else_as_it_was():
    kept = bytearray(b"x" * 10_000_000)
    pieces = [bytearray(100_000) for _ in range(2_000)]
    before = resident()
    del pieces
    machine.release_memory()
    assert resident() < before
    assert kept == b"x" * 10_000_000


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * machine.PAGE
