"""Which tasks a benchmark has: sets that adapters name, and those on which results are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import envs
from dreamer.schema import ConfigError
from envs.adapters import suggestion
from experiments import presets
from experiments.benchmark import published

PUBLISHED = {
    "dmc": ("dmc_proprio", "dmc_vision"),
    "atari100k": ("atari100k",),
    "atari": ("atari57",),
    "procgen": ("procgen",),
}
"""{suite: sets that are the tasks of published results, the default first}."""
JUDGED = {"crafter": ("reward",), "craftax": ("Craftax-Classic",)}
"""{suite: the tasks of its scoreboard}, the set `default` where the adapter has none."""
WITHOUT = "dreamerv3"
"""The preset of suites that have none."""
DEFAULT = "default"
"""Name of the set that a benchmark takes where none is named."""


def sets(suite: str) -> dict[str, tuple[str, ...]]:
    """{name: tasks, as the suite calls them} of the sets of a suite, those of its adapter first.

    Raises:
      UnknownTask: there is no such suite.
      MissingExtra: its package is not installed.
    """
    known = {s.name: s for s in envs.suites()}
    if suite not in known:
        close = suggestion(suite, list(known)) or f"; the suites are {', '.join(known)}"
        raise envs.UnknownTask(f"there is no suite '{suite}'{close}")
    adapter = known[suite].adapter()
    named: Mapping[str, Sequence[str]] = getattr(adapter, "sets", dict)()
    listed = {name: tuple(task.removeprefix(f"{suite}:") for task in tasks) for name, tasks in named.items()}
    if suite in JUDGED:
        listed.setdefault(DEFAULT, JUDGED[suite])
    ids = {published.normal(name): name for name in adapter.ids()} if suite in PUBLISHED else {}
    for name in PUBLISHED.get(suite, ()):
        listed.setdefault(name, tuple(ids.get(key, key) for key in published.names(name)))
    return listed


def tasks(suite: str, words: Sequence[str]) -> tuple[str, ...]:
    """The full names of the tasks that words name, each a task of the suite or a set of them.

    Args:
      words: none for the set `default`, or the first one.

    Raises:
      UnknownTask: there is no such suite or task, with close ones.
      MissingExtra: the package of the suite is not installed.
      ConfigError: no word, and no set.
    """
    known = sets(suite)
    if not words:
        if not known:
            raise ConfigError(f"{suite} has no set of tasks: name them, as in --tasks {_examples(suite)}")
        words = [DEFAULT if DEFAULT in known else next(iter(known))]
    named = [task for word in words for task in known.get(word, (word,))]
    return tuple(dict.fromkeys(_canonical(suite, name, known) for name in named))


def _canonical(suite: str, name: str, known: Mapping[str, Sequence[str]]) -> str:
    head, colon, _ = name.partition(":")
    if colon and head in {s.name for s in envs.suites()} and head != suite:
        raise envs.UnknownTask(f"{name} is no task of {suite}: a benchmark has tasks of one suite")
    try:
        return envs.canonical(f"{suite}:{name.removeprefix(f'{suite}:')}")
    except envs.UnknownTask as error:
        close = suggestion(name, list(known))
        raise envs.UnknownTask(f"{error}{close.replace('you mean', 'you mean the set')}") from None


def _examples(suite: str) -> str:
    examples = next(s.examples for s in envs.suites() if s.name == suite)
    return " ".join(task.partition(":")[2] for task in examples[:2])


def preset(suite: str, words: Sequence[str]) -> str:
    """The preset named after the set that was asked for, or after the suite; else `WITHOUT`."""
    asked = list(words) or [*PUBLISHED.get(suite, ())[:1]]
    names = [name.replace("_", "-") for name in (*asked, suite)]
    return next((name for name in names if name in presets.PRESETS), WITHOUT)


def steps(tasks: Sequence[str], num_envs: int) -> tuple[int, ...]:
    """Environment steps of each task by the protocol of its suite; none where it has one length for all.

    Args:
      num_envs: copies in a run.
    """
    known = {s.name: s for s in envs.suites()}
    lengths = [
        (getattr(known[suite].adapter(), "protocol_steps", None), name) for suite, name in map(_split, tasks)
    ]
    return tuple(of(name, num_envs) for of, name in lengths if of is not None)


def _split(task: str) -> tuple[str, str]:
    suite, _, name = task.partition(":")
    return suite, name
