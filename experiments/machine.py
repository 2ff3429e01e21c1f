"""How a process meets the machine: settings that must stand before JAX starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

CACHE = "JAX_COMPILATION_CACHE_DIR"
"""Names the folder of compiled programs, as JAX itself reads it."""

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Parameters of glibc's mallopt."""


def keep_memory() -> None:
    """Let glibc keep freed memory for the next update instead of handing it back to the system.

    XLA allocates its temporary buffers anew at every call; fetched from the system each time they cost a page
    fault per 4 KB, which took half of the CPU time of small agents.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
        libc.mallopt(M_ARENA_MAX, 1)


def release_memory() -> None:
    """Hand back to the system what is free now: after compiling that is most of what the process has.

    What an update needs comes after it and is kept (`keep_memory`).
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def prepare() -> None:
    """Settings before JAX starts: a second CPU device to act on while the first learns, and a cache.

    With the cache of compiled programs the next run of the same shapes starts in seconds.
    """
    import jax

    keep_memory()
    jax.config.update("jax_num_cpu_devices", 2)
    if CACHE not in os.environ:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(base / "dreamer-toolkit" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
