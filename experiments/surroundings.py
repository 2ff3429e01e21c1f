"""What a run was made with, as its `environment.json` says, and whether that is what is here now."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import envs
from dreamer.config import Config
from experiments import sidecar

FILE = "environment.json"


def world_versions(cfg: Config) -> dict[str, str]:
    """What decides what the task of a run does: {package: version}, and settings of a simulator."""
    with contextlib.suppress(envs.UnknownTask, envs.MissingExtra):
        return envs.made_of(cfg.task, cfg.env.world["kwargs"])
    return {}


def sessions(folder: Path) -> list[dict[str, Any]]:
    """Every session of a run, the last one at the end; none where nothing readable says so."""
    found = sidecar.read(folder / FILE).get("sessions")
    return [session for session in found if isinstance(session, dict)] if isinstance(found, list) else []


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
