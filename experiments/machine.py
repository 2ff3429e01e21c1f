"""Process settings that must be in place before Python or JAX starts."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from dreamer.packages import ROOT
from dreamer.processes import current

CACHE = "JAX_COMPILATION_CACHE_DIR"
"""Names the folder of compiled programs, as JAX itself reads it."""
TUNABLES, LARGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
"""What the C library reads when a process starts, and which of its settings backs memory with large pages."""
ENDED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of a process that was interrupted or terminated."""
PR_SET_PDEATHSIG = 1
"""Asks Linux for a signal when the parent of a process ends."""
COMPILED, LARGE = "/jax/core/compile/backend_compile_duration", 1.0
"""What JAX calls the end of compiling, and the seconds from which on it leaves much memory behind."""


def begin() -> None:
    """Re-execute this process with large pages for its memory, if it lacks them (Linux only).

    XLA takes the memory of an update from the C library at every call, which takes it from the system. In
    pages of 4 KB that is a quarter of the CPU time of an update at 1m, in pages of 2 MB a seventh.
    """
    tunables = os.environ.get(TUNABLES, "")
    if sys.platform == "linux" and LARGE_PAGES not in tunables:
        os.environ[TUNABLES] = ":".join(filter(None, (tunables, f"{LARGE_PAGES}=1")))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def end(code: int) -> int:
    """The exit code of this process; one that a signal ended, or one of several of a run, ends here.

    Tearing down the state of JAX and XLA takes seconds of CPU time, too long after a signal.
    """
    if code in ENDED or current().are_several:
        for child in multiprocessing.active_children():
            child.kill()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    return code


def command(module: str, *words: str) -> list[str]:
    """The command that runs one of our modules in a separate process, from any working directory."""
    return [sys.executable, "-P", str(ROOT / "dreamer_cli.py"), module, *words]


def end_with_parent(parent: int) -> None:
    """Have the kernel ask this process to stop when its parent ends, where the kernel can (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)


@functools.cache  # a listener stays for good
def release_when_compiled() -> None:
    """From now on release the memory that compiling a large program leaves, as soon as it is done."""
    import jax.monitoring

    def heard(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILED and duration_secs >= LARGE:
            release_memory()

    jax.monitoring.register_event_duration_secs_listener(heard)


def release_memory() -> None:
    """Return free memory to the system: after compiling that is most of the memory of the process."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def prepare() -> None:
    """Settings before JAX starts: a CPU device for every core, at least two, and a cache.

    The host loop acts on one device while another learns, members of a population run next to each other.
    With the cache of compiled programs the next run of the same shapes starts in seconds.
    """
    import jax

    release_when_compiled()
    with contextlib.suppress(RuntimeError):  # JAX has started, and keeps the devices that it has
        jax.config.update("jax_num_cpu_devices", max(2, cores()))
    if CACHE not in os.environ and getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(base / "dreamer-toolkit" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
