"""`dreamer compare`: all agents play the same episodes, and a page shows the results."""

from __future__ import annotations

import contextlib
import json as jsonlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import envs
from dreamer.checkpoint import CheckpointError
from dreamer.schema import ConfigError
from experiments import lock, machine
from experiments.compare import question, results, transcript
from experiments.compare.contestants import Contestant, gathered, split
from experiments.compare.options import CompareOptions
from experiments.compare.play import Entry, Say, Seat, Stopped, Unlimited, play
from experiments.compare.question import Question
from experiments.compare.transcript import Played

PAGE = "report.html"
MISTAKE = 2
"""The exit code where there is no result, for a reason that the user can fix."""


def compare(options: CompareOptions) -> int:
    """Play what is not played yet, and write the results and the page; the exit code.

    Raises:
      ConfigError: an agent or a task is not there or they do not fit, or the folder is of another question.
    """
    options.check()
    for name in options.agents:
        split(name)  # before anything is made
    say: Say = lambda text: print(text, file=sys.stderr, flush=True)
    out = Path(options.out)
    with _folder(out), lock.held(out, "comparison", "another --out"):
        return _compare(options, out, say)


def _compare(options: CompareOptions, out: Path, say: Say) -> int:
    machine.prepare()
    stop = threading.Event()
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        agents = gathered(options, out, stack, stop, say)
        identity, absent = fitting(agents, options.task)
        for _, _, why in absent:
            say(f"sitting out: {why}")
        asked = Question(
            options.task, options.agents, options.episodes, options.seed, options.max_steps, identity
        )
        question.ask(out, asked)
        entries, stopped = _played(asked, agents, out, options.limit, stop, say)
    summary, timings = _summed(asked, entries, absent, options)
    results.write(out, summary, timings)
    from experiments.compare import page

    path = page.write(out / PAGE, asked, entries, summary, timings, options)
    notes = filter(None, map(envs.note, asked.tasks))
    for line in [*sentences(summary["tasks"]), *losses(timings["tasks"]), *notes]:
        say(line)
    if stopped:
        resume = "" if _is_final(stopped) else "; rerun the same command to resume"
        say(f"not all is played: {stopped}{resume}")
    say(f"{path} ({time.perf_counter() - began:.0f} s)")
    if options.json:
        print(jsonlib.dumps({"out": str(out), "report": str(path), **summary}))
    nothing = fruitless(summary["tasks"])
    for line in nothing:
        say(f"dreamer: {line}")
    return MISTAKE if nothing or _is_final(stopped) else 0


def _is_final(stopped: Stopped | None) -> bool:
    """Whether the same command would end in the same way."""
    return isinstance(stopped, Unlimited)


def fruitless(tasks: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """A line for every agent all of whose episodes on a task errored, with the reason."""
    return [
        f"all {row['errored']} episodes of {agent} on {task} errored: {next(iter(row['errors']))}"
        for task, agents in tasks.items()
        for agent, row in agents.items()
        if row["errored"] and row["errored"] == row["planned"]
    ]


def losses(timings: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """A line for every agent of whose replies some were lost on their way."""
    return [
        f"{task}  {agent}: replies to {lost['replies']} calls were lost and may be billed: at most "
        f"{lost['tokens']:,} tokens" + (f", ${lost['usd']:.4f}" if lost["usd"] else "")
        for task, agents in timings.items()
        for agent, row in agents.items()
        if (lost := row["lost"])["replies"]
    ]


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Within it the folder is there; one that is still empty afterwards goes, if it was made here."""
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made: {error.strerror}") from None
    try:
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                out.rmdir()


def fitting(
    agents: Sequence[Contestant], tasks: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str, str]]]:
    """`[task][agent]` the identity of each player, and (agent, task, why) where an agent cannot play a task.

    Raises:
      ConfigError: an agent can play none of them, or one of them has no agent that can play it.
    """
    identity: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    absent: list[tuple[str, str, str]] = []
    for agent in agents:
        wrong: list[Exception] = []
        for task in tasks:
            try:
                identity[task][agent.name] = agent.identity(task)
            except (ConfigError, CheckpointError) as error:
                wrong.append(error)
                absent.append((agent.name, task, str(error)))
        if len(wrong) == len(tasks):
            raise wrong[0]
    for task, players in identity.items():
        if not players:
            reason = next(why for _, where, why in absent if where == task)
            raise ConfigError(f"no agent can play {task}: {reason}")
    return identity, absent


def _played(
    asked: Question,
    agents: Sequence[Contestant],
    out: Path,
    limit: int,
    stop: threading.Event,
    say: Say,
) -> tuple[list[Entry], Stopped | None]:
    """Play every agent on every task; what was played, and why not all of it was."""
    entries: list[Entry] = []
    stopped: Stopped | None = None
    for task in asked.tasks:
        seats: dict[str, Seat] = {}
        played: dict[str, list[Played]] = {}
        for agent in (agent for agent in agents if agent.name in asked.identity[task]):
            folder = question.place(out, task, agent.name)
            seat = agent.seat(task)
            try:
                announce = lambda text, agent=agent, task=task: say(f"{agent.name} on {task}: {text}")
                play(seat, asked.seeds, folder, max_steps=limit, say=announce, stop=stop)
            except Stopped as why:
                stopped = stopped if _is_final(stopped) else why
            seats[agent.name], played[agent.name] = seat, transcript.read_all(folder, asked.seeds)
        entries += [Entry(task, name, p, seats[name]) for name, p in results.judged(played).items()]
    return entries, stopped


def _summed(
    asked: Question,
    entries: Sequence[Entry],
    absent: Sequence[tuple[str, str, str]],
    options: CompareOptions,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `results.json` and `timing.json` hold."""
    tasks: dict[str, dict[str, Any]] = {task: {} for task in asked.tasks}
    timings: dict[str, dict[str, Any]] = {task: {} for task in asked.tasks}
    for entry in entries:
        reference = next(e for e in entries if e.task == entry.task)
        disclosure = dict(entry.seat.disclosure)
        timings[entry.task][entry.agent] = results.timing(entry.played, disclosure, options.watts)
        disclosure.pop("training_seconds", None)
        gap = {"to": reference.agent, **results.difference(entry.played, reference.played)}
        tasks[entry.task][entry.agent] = {
            **results.summary(asked.episodes, entry.played),
            "parameters": disclosure.pop("parameters", None),
            "training_steps": disclosure.pop("env_steps", None),
            "difference": None if entry is reference else gap,
            "absent": None,
            "disclosure": disclosure,
        }
    for agent, task, why in absent:
        unknown = dict.fromkeys(("parameters", "training_steps", "difference"))
        tasks[task][agent] = {**results.summary(0, []), **unknown, "absent": why, "disclosure": {}}
        timings[task][agent] = results.timing([], {}, 0.0)
    tasks = {task: {name: rows[name] for name in asked.agents} for task, rows in tasks.items()}
    plain = {k: v for k, v in asdict(asked).items() if k != "identity"}
    return {"question": plain, "tasks": tasks}, {"tasks": timings}


def sentences(tasks: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """A line for every agent on every task."""
    return [
        f"{task}  {agent}: {_sentence(row)}"
        for task, agents in tasks.items()
        for agent, row in agents.items()
    ]


def _sentence(row: Mapping[str, Any]) -> str:
    if row["absent"] is not None:
        return "sat out"
    if not row["finished"]:
        parts = ["nothing finished"]
    else:
        low, high = row["return_interval"]
        parts = [f"return {row['return_mean']:.3f} [{low:.3f}, {high:.3f}]"]
    if row["success_rate"] is not None:
        low, high = row["success_interval"]
        parts.insert(0, f"success {row['success_rate']:.1%} [{low:.1%}, {high:.1%}]")
    parts.append(f"{row['finished']} of {row['planned']} episodes")
    if row["truncated_by_limit"]:
        parts.append(f"{row['truncated_by_limit']} of them cut short by the limit of steps")
    if row["errored"]:
        parts.append(f"{row['errored']} errored")
    if row["calls"]:
        tokens = (
            "tokens unknown"
            if row["tokens_in"] is None
            else f"{row['tokens_in']:,} + {row['tokens_out']:,} tokens"
        )
        parts += [tokens, "price unknown" if row["usd"] is None else f"${row['usd']:.4f}"]
        parts.append(f"{row['reasked']} of {row['decisions']} answers without an action")
        if row["truncated"]:
            parts.append(f"{row['truncated']} cut off (more --llm-output-tokens leave room for thoughts)")
        if row["defaulted"]:
            parts.append(f"{row['defaulted']} moved by default")
        if row["unsent"]:
            parts.append(f"without {' and '.join(row['unsent'])}, which the endpoint refuses")
    return ", ".join(parts)
