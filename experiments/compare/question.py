"""What a folder of a comparison answers: one question, asked once or in several sittings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dreamer import atomic
from dreamer.schema import ConfigError

MANIFEST = "compare.json"


@dataclass(frozen=True)
class Question:
    """Which agents play which episodes."""

    tasks: tuple[str, ...]
    agents: tuple[str, ...]
    episodes: int
    seed: int
    """Of the first episode."""
    max_steps: int
    """The cap of the comparison; 0: the task's own."""
    identity: Mapping[str, Mapping[str, Any]]
    """`[task][agent]` what makes it another player: its training, its prompt, what it is shown."""

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.episodes)


def ask(folder: Path, question: Question) -> None:
    """Write the question into the folder, or see that what is there belongs to it.

    More episodes, tasks or agents than before are the same question.

    Raises:
      ConfigError: another one was asked there; the message says what differs.
    """
    path = folder / MANIFEST
    now = json.loads(json.dumps(asdict(question)))
    if path.is_file():
        try:
            then = json.loads(path.read_text())
            different = _differences(then, now)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(f"{path} is not of a comparison: choose another --out") from None
        if different:
            raise ConfigError(
                f"{folder} answers another question ({'; '.join(different)}): choose another --out"
            )
    atomic.write(path, json.dumps(now, indent=1) + "\n")


def _differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, one phrase each; nothing where `now` is `then` or asks for more."""
    differences = [f"{k} was {then[k]} and is {now[k]}" for k in ("seed", "max_steps") if then[k] != now[k]]
    if now["episodes"] < then["episodes"]:
        differences.append(f"episodes were {then['episodes']} and are {now['episodes']}")
    for kind in ("tasks", "agents"):
        gone = [name for name in then[kind] if name not in now[kind]]
        differences += [f"{kind} had {', '.join(gone)}"] if gone else []
    for task, agents in then["identity"].items():
        for agent, was in agents.items():
            is_ = now["identity"].get(task, {}).get(agent)
            if is_ is not None and is_ != was:
                keys = [k for k in sorted({*was, *is_}) if was.get(k) != is_.get(k)]
                changes = ", ".join(f"{k} was {was.get(k)} and is {is_.get(k)}" for k in keys)
                differences.append(f"{agent} on {task}: {changes}")
    return differences


def place(folder: Path, task: str, agent: str) -> Path:
    """The folder of the transcripts of an agent on a task."""
    return folder / "transcripts" / task.replace("/", "_") / agent.replace("/", "_")
