"""The transcript of an episode: a line of JSON per step, for people and the accounts, and its result.

    {"step": 0, "system": ..., "text": ..., "reward": 0.0, ..., "calls": [...], "action": ..., "rung": ...}
    {"note": ..., "calls": [...]}                  where lessons are written
    {"result": {...}}                              the episode is finished; without it, it is played again
    {"error": "..."}                               why it is not

Every line is on the disk before the next step, so a kill loses no more than the step it falls in.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dreamer import atomic
from dreamer.schema import ConfigError
from experiments.llm.cache import reply_to
from experiments.llm.wire import Reply

COUNTED = ("invalid", "empty", "truncated", "reasked", "defaulted")
"""What can be wrong with the answers of a step; more than one may be."""


class Transcript:
    """A transcript that is being written; an older one of the same name is replaced.

    Raises:
      ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path):
        self.path, self.lines = path, list[dict[str, Any]]()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Half a character, which no UTF-8 has, is escaped, and JSON reads that as it was.
            self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ConfigError(f"the transcript {path} cannot be written: {error.strerror}") from None

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line and wait until it is on the disk."""
        self.lines.append(dict(line))
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        atomic.sync(self._file)

    def finish(self, result: Mapping[str, Any]) -> None:
        """The episode is over and counts."""
        self.write({"result": dict(result)})

    def fail(self, why: str) -> None:
        """The episode could not be played to its end; it is kept and may be played again."""
        self.write({"error": why})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Transcript:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Written(NamedTuple):
    """A transcript as it was read."""

    lines: tuple[dict[str, Any], ...]
    """The steps, and the note where there is one."""
    result: dict[str, Any] | None
    """None: the episode is not finished."""
    error: str | None
    """Why it is not, where that is known."""


def read(path: Path) -> Written:
    """Read a transcript without a line that a kill cut short. One that is not there has nothing in it."""
    lines, result, error = [], None, None
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        if "result" in line:
            result = line["result"]
        elif "error" in line:
            error = line["error"]
        else:
            lines.append(line)
    return Written(tuple(lines), result, error)


def call(reply: Reply, asked: str | None = None) -> dict[str, Any]:
    """One call as a line has it.

    Args:
      asked: the question, where it was not the observation.
    """
    return ({} if asked is None else {"asked": asked}) | reply_to(reply)


class Tally(NamedTuple):
    """What the lines of one or many transcripts say together; None is what was not reported."""

    decisions: int
    """Steps in which an action was chosen."""
    calls: int
    replayed: int
    """Calls answered from the cache: paid for once, and counted once here."""
    repeated: int
    """Those of them that an equal request of another step had paid for: no tokens."""
    input: int | None
    """Tokens; None if any call does not tell."""
    output: int | None
    """The same, hidden reasoning included."""
    cached: int | None
    """Tokens of the input read from the provider's cache; None if no call tells, else a lower bound."""
    reasoning: int | None
    """Tokens of hidden reasoning, likewise."""
    usd: float | None
    """None if any call has no known price."""
    invalid: int
    """Decisions with an answer of words that named no action."""
    empty: int
    truncated: int
    reasked: int
    defaulted: int
    """Decisions that the model did not make."""
    rungs: dict[str, int]
    """How often which rung gave the action, sorted by name."""
    failures: dict[str, int]
    """How often which failure of the endpoint was fixed by a retry, sorted by name."""
    lost: int
    """Calls before whose reply others were lost that may be billed."""
    lost_tokens: int
    """The most tokens that those took."""
    lost_usd: float
    """And dollars, where a price is known."""
    unsent: tuple[str, ...]
    """Fields that the endpoint refused and that were left out, sorted."""
    models: tuple[str, ...]
    """The models as they were served, sorted."""


def tally(lines: Sequence[Mapping[str, Any]]) -> Tally:
    """Sum up lines, of one transcript or of many after each other."""
    calls = [call for line in lines for call in line.get("calls", ())]
    used = [call["usage"] for call in calls]
    decisions = [line for line in lines if "rung" in line]
    everything = lambda name: None if None in used else sum(usage[name] for usage in used)
    prices = [call["usd"] for call in calls]
    # A replayed reply was paid for once, and so was what was lost before it; earlier versions do not tell.
    lost = [call for call in calls if call.get("lost")]
    return Tally(
        decisions=len(decisions),
        calls=len(calls),
        replayed=sum(call["replayed"] for call in calls),
        repeated=sum(map(repeats, calls)),
        input=everything("input"),
        output=everything("output"),
        cached=_told([usage["cached"] for usage in used if usage]),
        reasoning=_told([usage["reasoning"] for usage in used if usage]),
        usd=None if None in prices else math.fsum(prices),
        **{name: sum(line[name] for line in decisions) for name in COUNTED},
        rungs=_counts([line["rung"] for line in decisions]),
        failures=_counts([failure for call in calls for failure in call["failures"]]),
        lost=len(lost),
        lost_tokens=sum(call["lost"]["input"] + call["lost"]["output"] for call in lost),
        lost_usd=math.fsum(call["lost_usd"] or 0.0 for call in lost),
        unsent=tuple(sorted({field for call in calls for field in call.get("unsent", ())})),
        models=tuple(sorted({call["model"] for call in calls if call["model"]})),
    )


def repeats(call: Mapping[str, Any]) -> bool:
    """Whether a call was answered as an equal one had been."""
    return call.get("repeated", False)  # transcripts of earlier versions do not say


def _told(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _counts(names: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
