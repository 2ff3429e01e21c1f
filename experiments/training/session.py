"""The folder of a run: what may be in it, what may change in it, and who may write to it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dreamer import atomic, schema
from dreamer.checkpoint import CheckpointStore, check_name
from dreamer.config import Config, changes, load_toml
from dreamer.logger import read_rows
from dreamer.schema import ConfigError
from experiments import lock

MAY_CHANGE = (
    *("steps", "until", "preset", "env.parallel", "loop.updates", "loop.devices", "env.timeout"),
    *("loop.mesh", "loop.accumulate"),
    *("eval.", "report.", "log.", "checkpoint."),
)
"""Fields that a run may change when it is resumed; the learner does not depend on them."""

NEVER_CHANGE = (
    *("task", "env.obs", "env.pixels", "env.categories", "loop.num_envs", "population.", "start."),
    "loop.actor",
    *("agent.encoder.", "agent.rssm.", "agent.decoder.", "agent.reward.", "agent.cont.", "agent.value."),
    *("agent.policy.layers", "agent.policy.units", "agent.objective", "agent.probe_decoder"),
    "agent.value_ensemble",
    *("agent.next_embedding.", "agent.sigreg.width", "agent.visreg.width"),
)
"""Fields that decide which arrays there are: a run that has a checkpoint cannot change them at all."""

LENGTHS = ("loop.prefill", "loop.batch_length", "loop.num_envs")
"""Fields that a run must be long enough for."""

CONFIG = "config.toml"
TRAINER = "trainer"
"""Purpose of the lock of a run folder."""


def open_folder(folder: Path, cfg: Config, force: tuple[str, ...]) -> bool:
    """Make or reopen a run folder and write the resolved configuration; True if it is a resume.

    Raises:
      ConfigError: as `check_folder`.
    """
    resume = check_folder(folder, cfg, force)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, cfg)
    return resume


def write_config(folder: Path, cfg: Config) -> None:
    """Write the resolved configuration of a run."""
    atomic.write(folder / CONFIG, schema.dump_toml(cfg))


def check_folder(folder: Path, cfg: Config, force: tuple[str, ...]) -> bool:
    """Check that a folder can hold this run, without writing anything; True if it is a resume.

    Raises:
      ConfigError: the folder is something else, fields changed that must not change, or there is a
        history and no checkpoint to resume from.
      CheckpointError: no checkpoint can be kept in a folder of that name.
    """
    if not (folder / CONFIG).is_file():
        return check_fresh(folder, cfg)
    check_name(folder)
    if unknown := [name for name in force if name not in schema.paths(Config)]:
        close = " or ".join(schema.closest(unknown[0], schema.paths(Config))) or "another one"
        raise ConfigError(f"--force names {unknown[0]}, which is no field; did you mean {close}?")
    old, store = load_toml(folder / CONFIG), CheckpointStore(folder / "checkpoints")
    begun = bool(store.steps())
    if not begun and (items := history(folder, store)):
        raise ConfigError(no_way_on(folder, f"holds {', '.join(items)}, but no checkpoint to resume from"))
    changed = changes(old, cfg)
    _check_changes(changed, folder, force, begun)
    if not begun or any(path in LENGTHS for path, _, _ in changed):
        check_length(cfg)
    return True


def check_fresh(folder: Path, cfg: Config, force: tuple[str, ...] = ()) -> bool:
    """Check that this run can begin in a folder, which may hold another one; False, as it is no resume.

    Raises:
      ConfigError: the folder is something else, or the run is too short to learn from.
      CheckpointError: no checkpoint can be kept in a folder of that name.
    """
    check_place(folder)
    check_length(cfg)
    return False


def check_place(folder: Path) -> None:
    """Check that a folder does not exist, is empty or holds a run.

    Raises:
      ConfigError: it is something else.
      CheckpointError: no checkpoint can be kept in a folder of that name.
    """
    check_name(folder)
    is_run = (folder / CONFIG).is_file()
    if not is_run and folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
        raise ConfigError(f"{folder} exists but is not a run (it has no config.toml): choose another --run.")


def history(folder: Path, store: CheckpointStore) -> list[str]:
    """What a folder holds of a run that saved at least once, as text; empty for one that never saved.

    The first checkpoint is written before the first row about an update.
    """
    rows = read_rows(folder / "metrics.jsonl")
    updates = max((row["updates"] for row in rows if isinstance(row.get("updates"), int)), default=0)
    episodes = len(read_rows(folder / "episodes.jsonl")) if updates else 0
    items = [f"a log of {updates:,} updates"] if updates else []
    items += [f"a log of {episodes:,} episodes"] if episodes else []
    items += [name for name in ("result.json", "report.html", "card.json") if (folder / name).exists()]
    items += [f"checkpoints/{name} ({why})" for name, why in store.faults().items()]
    aside = folder / "checkpoints" / "quarantine"
    return items + (["checkpoints/quarantine/"] if aside.is_dir() else [])


def no_way_on(folder: Path, why: str) -> str:
    """Why a run cannot be resumed, and what can be done."""
    return (
        f"{folder} {why}. Nothing was changed. Put its checkpoints back (or make them readable), choose "
        "another --run, or start from scratch with --fresh, which keeps what is there in a folder beside it"
    )


def set_aside(folder: Path) -> None:
    """Move all of a run to a folder beside it, so that another one can begin; reports it.

    Raises:
      ConfigError: that folder cannot be created.
    """
    entries = [path for path in folder.iterdir() if _is_foreign(path)]
    if not entries:
        return
    before = f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    names = [before, *(f"{before}-{n}" for n in range(2, 1000))]
    place = folder.absolute().parent
    old = next(place / name for name in names if not os.path.lexists(place / name))
    try:
        old.mkdir()
        for path in sorted(entries, key=lambda path: path.name == CONFIG):  # last what makes it a run
            path.rename(old / path.name)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be moved to {old} ({error.strerror}): choose another --run instead of --fresh"
        ) from None
    print(f"{folder} starts from scratch; {old} keeps what was there", file=sys.stderr)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within it no other process trains in this folder.

    Raises:
      ConfigError: another process does; the message says which, where and since when.
    """
    with lock.held(folder, what=TRAINER, other="another --run"):
        for place in (folder, *folder.glob("members/*/")):
            atomic.clean(place)
        yield


def check_length(cfg: Config) -> None:
    """Check that a run is long enough to learn from.

    Raises:
      ConfigError: it is not; names the field.
    """
    loop = cfg.loop
    if loop.prefill > cfg.steps:
        raise ConfigError(
            f"loop.prefill must be at most the steps of the run ({cfg.steps}), but it is {loop.prefill}: "
            "nothing would be learned"
        )
    needed = least_steps(cfg)
    if needed > cfg.steps:
        raise ConfigError(
            f"loop.batch_length is {loop.batch_length}, which with {loop.num_envs} environments takes "
            f"{needed} steps before anything can be learned, but the run has {cfg.steps} steps: take shorter "
            "sequences or more steps"
        )


def least_steps(cfg: Config) -> int:
    """Environment steps until the replay holds a sequence, and the step before it, of every environment."""
    return (cfg.loop.batch_length + 1) * cfg.loop.num_envs


def _is_foreign(path: Path) -> bool:
    """Whether this is not of a run that ended before it began."""
    return not path.name.startswith((lock.NAME, f"{CONFIG}."))


def _check_changes(
    changed: Sequence[tuple[str, Any, Any]], folder: Path, force: tuple[str, ...], begun: bool
) -> None:
    fixed = [change for change in changed if not change[0].startswith(MAY_CHANGE)]
    never = [change for change in fixed if begun and change[0].startswith(NEVER_CHANGE)]
    if never:
        raise ConfigError(
            f"{folder} was trained with another configuration: {_listed(never)}. What was learned does not "
            "fit that: train it as another run, with another --run."
        )
    fixed = [change for change in fixed if change[0] not in force]
    if fixed:
        names = " ".join(path for path, _, _ in fixed)
        raise ConfigError(
            f"{folder} was trained with another configuration: {_listed(fixed)}. Use another --run, "
            f"or accept the change with --force {names}."
        )


def _listed(changed: Sequence[tuple[str, Any, Any]]) -> str:
    return "; ".join(f"{path} was {was!r}, now {now!r}" for path, was, now in changed)
