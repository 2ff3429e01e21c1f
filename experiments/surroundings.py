"""What a run was made with, as recorded in its `environment.json`, and whether it differs here."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import envs
from dreamer import atomic
from dreamer.config import Config
from experiments import sidecar

FILE = "environment.json"
PACKAGES = (
    "dreamer-toolkit",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "gymnasium",
    "minigrid",
)


def world_versions(cfg: Config) -> dict[str, str]:
    """What determines the behaviour of the task of a run: {package: version}, and simulator settings."""
    with contextlib.suppress(envs.UnknownTask, envs.MissingExtra):
        return envs.made_of(cfg.task, cfg.env.world["kwargs"])
    return {}


def record(folder: Path, cfg: Config, start: Mapping[str, Any] | None = None) -> None:
    """Append to `environment.json` where, when, with what and by which command this session runs.

    Args:
      start: what its parameters started from, where that was another run.
    """
    path = folder / FILE
    before = sessions(folder)
    added = session(cfg) | ({"start": dict(start)} if start else {})
    sidecar.keep_damaged(path)
    atomic.write(path, json.dumps({"sessions": [*before, added]}, indent=1))


def session(cfg: Config) -> dict[str, Any]:
    """Where, when, with what and by which command this process works on the task of a configuration."""
    import jax

    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join(sys.argv),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [str(d) for d in jax.devices()],
        "versions": package_versions() | world_versions(cfg),
        "commit": commit(),
    }


def package_versions() -> dict[str, str]:
    """{package: version} of ours and of those that decide what it computes, where they are installed."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def commit() -> str | None:
    """The commit of the source this runs from, where it is a checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        return result.stdout.strip() or None
    return None


def sessions(folder: Path) -> list[dict[str, Any]]:
    """Every session of a run, the last one at the end; none where nothing is readable."""
    stored = sidecar.read(folder / FILE).get("sessions")
    return [session for session in stored if isinstance(session, dict)] if isinstance(stored, list) else []


def changed(path: Path, cfg: Config) -> str:
    """One sentence where a task is made with other packages than in the last session of its run; else empty.

    Args:
      path: the run, a member, a checkpoint or an exported file in its folder.
    """
    path = path.absolute()
    home = next((place for place in (path, *path.parents[:2]) if (place / FILE).is_file()), path)
    recorded = next(reversed(sessions(home)), {}).get("versions")
    if not isinstance(recorded, dict):
        return ""
    now = world_versions(cfg)
    differ = [name for name in now if name in recorded and recorded[name] != now[name]]
    if not differ:
        return ""
    listed = ", ".join(f"{name} {recorded[name]} (here {now[name]})" for name in differ)
    return f"{home} was trained with {listed}: the same actions may lead elsewhere in {cfg.task}"


def notice(path: Path, cfg: Config) -> None:
    """Say on standard error what `changed` finds."""
    if text := changed(path, cfg):
        print(text, file=sys.stderr)
