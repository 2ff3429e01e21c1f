"""`dreamer export`: a trained agent as one small file."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import machine

if TYPE_CHECKING:
    from dreamer.export import Dtype

NAME = "agent.safetensors"
"""The file, where none is named."""


def export(run: Path, file: Path | None, *, dtype: Dtype, force: bool, json: bool) -> int:
    """Write the agent of a run, a member or a checkpoint to a file; the exit code."""
    import jax

    import dreamer
    from dreamer.export import save

    machine.prepare()
    player = dreamer.load(run)
    file = file or default_file(run)
    save(player, file, dtype=dtype, force=force)
    summary = {
        "file": str(file),
        "bytes": file.stat().st_size,
        "parameters": sum(x.size for x in jax.tree.leaves(player.everything)),
        "env_steps": player.counters["env_steps"],
    }
    print(jsonlib.dumps(summary) if json else sentence(summary))
    return 0


def default_file(run: Path) -> Path:
    """A file in the folder of the run, also for one of its checkpoints."""
    if run.absolute().parent.name == "checkpoints":
        return run.absolute().parents[1] / NAME
    return (run.parent if run.is_file() else run) / NAME


def sentence(summary: dict[str, Any]) -> str:
    """The summary as text, and how to load the file."""
    size = f"{summary['bytes'] / 1e6:,.1f} MB, {summary['parameters']:,} parameters"
    return (
        f"{summary['file']}: {size}, after {summary['env_steps']:,} environment steps\n"
        f"In Python: agent = dreamer.load({jsonlib.dumps(summary['file'])})"
    )
