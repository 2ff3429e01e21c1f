"""How a process meets the machine: settings that must stand before JAX starts."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
from pathlib import Path

CACHE = "JAX_COMPILATION_CACHE_DIR"
"""Names the folder of compiled programs, as JAX itself reads it."""

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Parameters of glibc's mallopt."""
MADV_HUGEPAGE = 14
"""Linux's advice to back memory with large pages."""
ROOM, PAGE = 2**30, mmap.PAGESIZE
"""Bytes that will be asked for after compiling, and of a page."""
COMPILED, LARGE = "/jax/core/compile/backend_compile_duration", 1.0
"""What JAX calls the end of compiling, and the seconds from which on it leaves much behind."""


def keep_memory() -> None:
    """Let glibc keep freed memory for the next update, except what compiling a large program leaves.

    XLA allocates its temporary buffers anew at every call; fetched from the system each time they cost a page
    fault per 4 KB, which took half of the CPU time of small agents.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
        libc.mallopt(M_ARENA_MAX, 1)
    _release_when_compiled()


@functools.cache  # a listener stays for good
def _release_when_compiled() -> None:
    import jax.monitoring

    def heard(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILED and duration_secs >= LARGE:
            release_memory()

    jax.monitoring.register_event_duration_secs_listener(heard)


def release_memory() -> None:
    """Hand back to the system what is free now: after compiling that is most of what the process has.

    What comes next is to have large pages: in the place of what was handed back the system puts single ones
    from everywhere, on which an update takes up to a twentieth longer.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.malloc.restype = ctypes.c_void_p
        room = libc.malloc(ctypes.c_size_t(ROOM))
        if room is not None:
            inside = ctypes.c_void_p(room + PAGE - room % PAGE)
            libc.madvise(inside, ctypes.c_size_t(ROOM - PAGE), MADV_HUGEPAGE)
            libc.free(ctypes.c_void_p(room))


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
