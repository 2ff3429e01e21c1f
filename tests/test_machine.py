"""What a process settles with the machine."""

import mmap
import os
import subprocess
import sys

import jax
import pytest

from experiments import cli, machine


@pytest.fixture
def released(monkeypatch):
    """How often memory was handed back."""
    calls = []
    monkeypatch.setattr(machine, "release_memory", lambda: calls.append(1))
    machine.release_when_compiled()
    return calls


def test_release_when_compiled_large_program_releases_memory(released, monkeypatch):
    jax.jit(lambda x: x + 1)(1.0)
    assert not released
    monkeypatch.setattr(machine, "LARGE", 0.0)
    jax.jit(lambda x: x + 2)(1.0)
    assert len(released) == 1


def test_release_when_compiled_called_twice_releases_memory_once(released, monkeypatch):
    machine.release_when_compiled()
    monkeypatch.setattr(machine, "LARGE", 0.0)
    jax.jit(lambda x: x + 3)(1.0)
    assert len(released) == 1


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only there processes begin anew")


def tunables(script: str, before: str | None = None) -> str:
    """What a process that begins by this script finds in its environment."""
    env = {k: v for k, v in os.environ.items() if k != machine.TUNABLES}
    env |= {} if before is None else {machine.TUNABLES: before}
    command = [sys.executable, "-c", script, "a word", "--and=more"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


SHOW = (
    "import os, sys; from experiments import machine; machine.begin(); "
    "print(os.environ[machine.TUNABLES], sys.argv[1:])"
)


@LINUX
def test_begin_process_restarts_with_large_pages_and_equal_arguments():
    assert tunables(SHOW) == "glibc.malloc.hugetlb=1 ['a word', '--and=more']\n"


@LINUX
def test_begin_existing_tunables_are_kept():
    other = "glibc.malloc.check=0"
    assert f"{other}:glibc.malloc.hugetlb=1 " in tunables(SHOW, other)
    assert "glibc.malloc.hugetlb=0 " in tunables(SHOW, "glibc.malloc.hugetlb=0")


@LINUX
def test_console_script_large_pages_are_set_within_the_same_process(tmp_path):
    script = tmp_path / "start.py"
    script.write_text(
        "import os, sys, experiments.cli as cli\n"
        "print(os.getpid(), file=sys.stderr)\n"
        "cli._run = lambda words: print(words, os.environ['GLIBC_TUNABLES']) or 0\n"
        "sys.exit(cli.main())\n"
    )
    env = {k: v for k, v in os.environ.items() if k != machine.TUNABLES}
    command = [sys.executable, str(script), "train", "x"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "['train', 'x'] glibc.malloc.hugetlb=1\n"
    assert len(set(done.stderr.split())) == 1


def test_main_called_from_python_does_not_restart_the_process(monkeypatch):
    monkeypatch.setattr(machine, "begin", lambda: pytest.fail("it did"))
    assert cli.main(["--help"]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked to hand memory back")
def test_release_memory_freed_blocks_lowers_resident_memory():
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
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize(("code", "ends"), [(0, False), (1, False), (130, True), (143, True)])
def test_end_exit_code_of_a_signal_exits_without_teardown(monkeypatch, code, ends):
    ended = []
    monkeypatch.setattr(machine.os, "_exit", ended.append)
    assert machine.end(code) == code and ended == ([code] if ends else [])
