"""`dreamer export`: a trained agent as one small file."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamer import atomic
from dreamer.checkpoint import CheckpointError
from experiments import machine, model_card

if TYPE_CHECKING:
    from dreamer.export import Dtype
    from dreamer.player import Player

NAME = "agent.safetensors"
"""The file, where none is named."""


def export(
    run: Path,
    file: Path | None,
    *,
    dtype: Dtype,
    force: bool,
    json: bool,
    hub_card: bool = False,
    license: str = "",
) -> int:
    """Write the agent of a run, a member or a checkpoint to a file, and a model card; the exit code.

    Args:
      hub_card: write a model card beside the file.
      license: of the parameters, as the card shall say; empty for none.

    Raises:
      CheckpointError: one of the files cannot be written, or there is another one.
    """
    import dreamer
    from dreamer.agent import size
    from dreamer.export import save

    machine.prepare()
    player = dreamer.load(run)
    file = file or default_file(run)
    beside = file.parent / model_card.FILE
    if hub_card:
        check_replaceable(beside, force=force)
    save(player, file, dtype=dtype, force=force)
    summary: dict[str, Any] = {
        "file": str(file),
        "bytes": file.stat().st_size,
        "parameters": size(player.everything),
        "probe_parameters": probe_size(player),
        "env_steps": player.counters["env_steps"],
    }
    if hub_card:
        write_card(beside, subject_of(player, run, file.name, dtype, license))
        summary["card"] = str(beside)
    print(jsonlib.dumps(summary) if json else sentence(summary))
    return 0


def probe_size(player: Player) -> int:
    """How many numbers the probe decoder of an agent has; 0 without one."""
    import jax

    return sum(x.size for x in jax.tree.leaves(player.everything.get("probe", {})))


def subject_of(player: Player, run: Path, file: str, dtype: str, license: str) -> model_card.Subject:
    """What the card is about."""
    from dreamer.agent import size

    assert player.config is not None
    return model_card.Subject(
        file=file,
        cfg=player.config,
        obs_space=player.agent.obs_space,
        act_space=player.agent.act_space,
        counters=player.counters,
        parameters=size(player.everything),
        probe=probe_size(player),
        dtype=dtype,
        license=license,
        **model_card.recorded(default_file(run).absolute().parent),
    )


def check_replaceable(card: Path, *, force: bool) -> None:
    """Refuse to write a card where there is another file, or one of ours without `force`.

    Raises:
      CheckpointError: there is.
    """
    if not card.exists():
        return
    if not (card.is_file() and model_card.is_card(card.read_text(errors="replace"))):
        raise CheckpointError(
            f"{card} exists already and is no model card of ours: export into another folder"
        )
    if not force:
        raise CheckpointError(f"{card} exists already: export into another folder, or use --force")


def write_card(card: Path, subject: model_card.Subject) -> None:
    """Write the card of an agent.

    Raises:
      CheckpointError: it cannot be written.
    """
    try:
        atomic.write(card, model_card.card(subject))
    except OSError as error:
        raise CheckpointError(f"{card} could not be written: {error.strerror}") from None


def default_file(run: Path) -> Path:
    """A file in the folder of the run, also for one of its checkpoints."""
    if run.absolute().parent.name == "checkpoints":
        return run.absolute().parents[1] / NAME
    return (run.parent if run.is_file() else run) / NAME


def sentence(summary: dict[str, Any]) -> str:
    """The summary as text, and how to load the file."""
    size = f"{summary['bytes'] / 1e6:,.1f} MB, {summary['parameters']:,} parameters"
    if probe := summary["probe_parameters"]:
        size += f" and {probe:,} of a probe decoder, which only shows what latents hold"
    card = f"{summary['card']}: its model card\n" if "card" in summary else ""
    return (
        f"{summary['file']}: {size}, after {summary['env_steps']:,} environment steps\n{card}"
        f"In Python: agent = dreamer.load({jsonlib.dumps(summary['file'])})"
    )
