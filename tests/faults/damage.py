"""Every file of the newest checkpoint, flipped, shortened and deleted: noticed, told and never used."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax

import dreamer
from dreamer.checkpoint import CheckpointError
from dreamer.config import load_toml
from dreamer.schema import ConfigError
from experiments.training import run, workspace

from .ground import Ground, Trial, files, newest
from .killed import arrays, same

RUNS = {
    "host": {"task": "probe:chosen", "steps": 400},
    "fused": {"task": "grid:Catch", "steps": 4000},
}


def flip(path: Path) -> None:
    """Turn one bit in the middle."""
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    else:
        content = bytearray(b"\0")
    path.write_bytes(content)


def shorten(path: Path) -> None:
    """Take away the last byte (what is empty gets one)."""
    path.write_bytes(path.read_bytes()[:-1] or b"\0")


HOW = {"flipped": flip, "shortened": shorten, "deleted": Path.unlink}


def damaged(ground: Ground, count: int, kind: str) -> Iterator[Trial]:
    """For a reader (`dreamer.load`), which must change nothing, and for a trainer that resumes.

    Right is the newest state or an older one, bit for bit, and a sentence where it is older; or a refusal in
    one sentence. Silence with other numbers is the worst there is.
    """
    whole = ground.finished(**RUNS[kind])
    place = sorted((whole / "checkpoints").glob("step-*"))[-1]
    names = [str(p.relative_to(place)) for p in sorted(place.rglob("*")) if p.is_file()]
    states = {step: arrays(_only(ground, whole, step)) for step in _steps(whole)}
    tried = 0
    for name in names:
        for how, damage in HOW.items():
            if tried == count:
                return
            tried += 1
            copy = ground.place("damaged")
            shutil.copytree(whole, copy)
            damage(copy / "checkpoints" / place.name / name)
            yield Trial(f"{kind}: {name} {how}", _read(copy) or _resumed(copy, states))
            shutil.rmtree(copy)


def _steps(folder: Path) -> list[int]:
    return sorted(int(p.name.removeprefix("step-")) for p in (folder / "checkpoints").glob("step-*"))


def _only(ground: Ground, whole: Path, step: int) -> Path:
    """A copy of a run without the checkpoints after this one."""
    copy = ground.place("until")
    shutil.copytree(whole, copy)
    for later in _steps(copy):
        if later > step:
            shutil.rmtree(copy / "checkpoints" / f"step-{later:012d}")
    return copy


def _read(copy: Path) -> str:
    """What is wrong with how a reader takes it; empty if nothing."""
    before, said = files(copy), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            dreamer.load(copy)
    except (CheckpointError, ConfigError):
        pass
    return "" if files(copy) == before else "looking changed the run"


def _resumed(copy: Path, states: dict[int, list]) -> str:
    """What is wrong with how a trainer goes on; empty if nothing."""
    cfg, said = load_toml(copy / "config.toml"), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), workspace.opened(cfg) as opened:
            resumed = run.build(cfg, copy, opened, True)
            at = resumed.loop.progress.env_steps
            found = jax.tree.leaves(jax.device_get(resumed.loop.checkpoint().arrays))
    except (CheckpointError, ConfigError) as error:
        return "" if str(error) and "\n" not in str(error) else f"no sentence: {error!r}"
    if at not in states or not same(found, states[at]):
        return f"silently wrong: at {at} steps with numbers that no checkpoint has"
    told = " ".join([*resumed.folder.notices, said.getvalue()])
    return "" if at == max(states) or "step-" in told else "an older one was taken without a word"


def unreadable(ground: Ground, count: int) -> Iterator[Trial]:
    """Checkpoints that are links, or that this user may not read, are looked at and left alone."""
    run = ground.finished(**RUNS["host"])
    store = ground.place("store")
    store.mkdir()
    for number, path in enumerate(p for p in (run / "checkpoints").rglob("*") if p.is_file()):
        path.rename(store / str(number))
        path.symlink_to(store / str(number))
    before = files(run)
    ended = ground.call("eval", run, "--episodes", 2)
    yield Trial("links", ended.went_well() or ("" if files(run) == before else "eval changed the run"))
    if os.geteuid() == 0 or count < 2:
        return  # who may read everything cannot try
    run = ground.finished(**RUNS["host"])
    for path in (run / "checkpoints").glob("step-*/manifest.json"):
        path.chmod(0)
    before = newest(run)
    ended = ground.call("eval", run, "--episodes", 2)
    yield Trial("no permission", ended.refused() or ("" if newest(run) == before else "eval moved them"))
