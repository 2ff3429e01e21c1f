"""bsuite: the scores of experiments and tags, by the package's own analysis, from what runs recorded.

The package logs, at episodes spaced by logarithms, what an environment has counted since the experiment
began. Runs record every episode with the counts of that episode (`envs.adapters.bsuite`), so that they can
stop, resume and have several copies; added up in the order of the rows they are the package's log.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

RATIOS = (1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
LOGGED = frozenset(int(ratio * 10**k) for k in range(6) for ratio in RATIOS if ratio * 10**k % 1 == 0)
"""The episodes at which bsuite 0.3.6 logs."""
GREATEST = "best_"
"""Counts with this prefix are a maximum over episodes, all others a sum."""

SOLVED = {"deep_sea": (0.9, 1), "deep_sea_stochastic": (0.8, 100)}
"""Of deep sea: the share of bad episodes below which a size is solved, and the first episode that counts."""
FORGIVEN = 100
"""Episodes that may be added to the 2^size in which chance alone is expected to solve deep sea."""

TAGS = ("basic", "credit_assignment", "exploration", "generalization", "memory", "noise", "scale")
"""The axes of bsuite's radar, in its order."""

Rows = Sequence[Mapping[str, Any]]
"""Episodes as in `episodes.jsonl`: `return`, `length`, and the counts as `log`."""


class Scores(NamedTuple):
    """How well an agent did in bsuite, as far as it was played."""

    experiments: dict[str, float]
    """In [0, 1], of experiments of which a setting was played (deep_sea_stochastic: for 100 episodes)."""
    tags: dict[str, float]
    """The mean of the experiments with a tag: the axes of bsuite's radar."""
    settings: dict[str, tuple[int, int]]
    """Of every experiment: the settings that were played to the end, and how many there are."""


def score(settings: Mapping[str, Rows]) -> Scores:
    """Score runs, one of each setting, with bsuite's analysis.

    Args:
      settings: {name, as `catch/0`: its episodes in the order in which they ended}. Those after the last one
        of the experiment count for nothing.

    Raises:
      ValueError: there is no such setting, or not one episode.
    """
    import pandas as pd
    from bsuite.experiments import summary_analysis as analysis  # pyrefly: ignore

    frame = table(settings)
    rows = []
    for name, played in frame.groupby("bsuite_env"):
        info = analysis.BSUITE_INFO[name]
        one = _deep_sea(played, *SOLVED[name]) if name in SOLVED else float(info.score(played))
        rows.append({"bsuite_env": name, "score": one, "tags": str(info.tags)})
    scores = pd.DataFrame(rows).dropna()
    tags = analysis.ave_score_by_tag(scores, []).dropna().sort_values("tag")
    return Scores(
        dict(zip(scores["bsuite_env"], scores["score"].tolist(), strict=True)),
        dict(zip(tags["tag"], tags["score"].tolist(), strict=True)),
        finished(settings),
    )


def table(settings: Mapping[str, Rows]) -> Any:
    """The log of these settings as bsuite's analysis expects it: a `pandas.DataFrame` with a row for every
    logged episode, with the arguments of its setting.

    Raises:
      ValueError: as `score`.
    """
    import pandas as pd
    from bsuite.logging.logging_utils import join_metadata  # pyrefly: ignore
    from bsuite.sweep import EPISODES  # pyrefly: ignore

    if unknown := [name for name in settings if name not in EPISODES]:
        raise ValueError(f"bsuite has no setting '{unknown[0]}'; a setting is named as catch/0")
    rows = [
        {**row, "bsuite_id": name}
        for name, played in settings.items()
        for row in logged(played[: EPISODES[name]])
    ]
    if not rows:
        raise ValueError("there is no episode of any setting, so there is nothing to score")
    return join_metadata(pd.DataFrame(rows))


def logged(episodes: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """What bsuite's logger writes in a run with these episodes, at the episodes at which it does."""
    lines: list[dict[str, float]] = []
    steps, total, counts = 0, 0.0, dict[str, float]()
    for number, row in enumerate(episodes, 1):
        steps, total = steps + row["length"], total + row["return"]
        for name, value in row.get("log", {}).items():
            before = counts.get(name, 0.0)
            counts[name] = max(before, value) if name.startswith(GREATEST) else before + value
        if number in LOGGED:
            standard = {"steps": steps, "episode": number, "total_return": total}
            last = {"episode_len": row["length"], "episode_return": row["return"]}
            lines.append(standard | last | counts)
    return lines


def summary(seeds: Sequence[Mapping[str, Rows]]) -> dict[str, Any]:
    """What several runs of every setting reached, as JSON can say it.

    Args:
      seeds: of every seed what `score` takes.

    Returns:
      `experiments` and `tags` with the mean of the seeds and each of their `scores`; `settings`, how many of
      each experiment were begun with a seed, and played to the end with all; `short`, the begun ones that
      were not, with the fewest episodes of a seed.
    """
    from bsuite.sweep import EPISODES  # pyrefly: ignore

    scored = [score(settings) for settings in seeds if any(settings.values())]
    begun = dict.fromkeys(name for settings in seeds for name, rows in settings.items() if rows)
    fewest = {name: min((settings.get(name, ()) for settings in seeds), key=len) for name in begun}
    counts = {name: {"finished": done, "there": there} for name, (done, there) in finished(fewest).items()}
    for count in counts.values():
        count["begun"] = 0
    for name in begun:
        counts[name.partition("/")[0]]["begun"] += 1
    return {
        "experiments": _means([one.experiments for one in scored]),
        "tags": _means([one.tags for one in scored]),
        "settings": {name: count for name, count in counts.items() if count["begun"]},
        "short": {
            name: {"episodes": len(rows), "needed": EPISODES[name]}
            for name, rows in fewest.items()
            if len(rows) < EPISODES[name]
        },
    }


def _means(seeds: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    names = sorted({name for one in seeds for name in one})
    scores = {name: [one[name] for one in seeds if name in one] for name in names}
    return {name: {"mean": sum(values) / len(values), "scores": values} for name, values in scores.items()}


def finished(settings: Mapping[str, Rows]) -> dict[str, tuple[int, int]]:
    """{experiment: (settings that were played to the end, settings there are)}."""
    from bsuite.sweep import EPISODES  # pyrefly: ignore

    counts = {name.partition("/")[0]: [0, 0] for name in EPISODES}
    for name, needed in EPISODES.items():
        count = counts[name.partition("/")[0]]
        count[0] += len(settings.get(name, ())) >= needed
        count[1] += 1
    return {name: (done, there) for name, (done, there) in counts.items()}


def _deep_sea(played: Any, share: float, start: int) -> float:
    """The share of sizes that are solved before chance alone would: the package's rule, whose own code
    (`find_solution`) calls `Series.append`, which pandas has had no more since 2.0.

    Args:
      share: of bad episodes since the first, below which a size is solved.
      start: the first episode at which that is looked at.

    Returns:
      NaN where no size was played until there.
    """
    played = played[played["episode"] >= start]
    good = played[played["total_bad_episodes"] / played["episode"] < share]
    first = good.groupby("size")["episode"].min()
    sizes = played["size"].nunique()
    return float((first < 2.0**first.index + FORGIVEN).sum() / sizes) if sizes else math.nan
