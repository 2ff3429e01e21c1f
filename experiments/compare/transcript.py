"""The transcript of every episode of every player: one form, that of `experiments.llm.transcript`.

    {"step": 0, "reward": 0.0, ..., "action": "forward", "act": {"action": 2}, "seconds": 0.001}
    {"step": 1, "reward": 1.0, "is_last": true, "is_terminal": true}
    {"result": {"seed": 0, "return": 1.0, "length": 1, "success": true, ...}}

A language model's lines have its calls in place of `act` and `seconds`, and are written one by one; those of
others are written when the episode is over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dreamer import atomic
from experiments.llm import transcript


class Writer(Protocol):
    """What an episode is written into; `experiments.llm.transcript.Transcript` is one."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        ...

    def finish(self, result: Mapping[str, Any]) -> None:
        """The episode is over and counts."""
        ...

    def fail(self, why: str) -> None:
        """The episode could not be played to its end."""
        ...

    def close(self) -> None:
        """Nothing follows."""
        ...


class Together:
    """A transcript that is written when the episode has ended: one that is broken off leaves nothing."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._lines = path, list[Mapping[str, Any]]()

    def write(self, line: Mapping[str, Any]) -> None:
        self._lines.append(line)

    def finish(self, result: Mapping[str, Any]) -> None:
        self.write({"result": result})
        atomic.write(self._path, "".join(json.dumps(line) + "\n" for line in self._lines))

    def fail(self, why: str) -> None:
        self.write({"error": why})
        atomic.write(self._path, "".join(json.dumps(line) + "\n" for line in self._lines))

    def close(self) -> None:
        """Nothing is open."""


class Played(NamedTuple):
    """One episode as far as it was played."""

    seed: int
    lines: tuple[dict[str, Any], ...]
    """Every slot and what else was written."""
    result: dict[str, Any] | None
    """None: it is not finished."""
    error: str | None
    """What kept it from its end, where that is known."""

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Every slot, the last one without an action."""
        return [line for line in self.lines if "step" in line]

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """The steps at which an action was chosen."""
        return [line for line in self.lines if "action" in line]


def read(path: Path) -> Played:
    """The episode of a file named after its seed; one that is not there has no lines."""
    return Played(int(path.stem), *transcript.read(path))


def read_all(folder: Path, seeds: range) -> list[Played]:
    """The episodes of these seeds that were begun, in order."""
    return [read(path) for seed in seeds if (path := folder / f"{seed}.jsonl").is_file()]


def is_repeated(line: Mapping[str, Any]) -> bool:
    """Whether all that a decision rests on was answered before, to equal requests."""
    calls = line.get("calls", ())
    return bool(calls) and all(map(transcript.repeats, calls))


def seconds(line: Mapping[str, Any]) -> float:
    """How long a decision took: the policy's time, or that of all calls it needed without the waits."""
    return line["seconds"] if "seconds" in line else sum(call["latency"] for call in line["calls"])
