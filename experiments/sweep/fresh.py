"""The best trials anew, on seeds and episodes that they were not chosen by.

The best of many scores is partly luck, so it is too high (the winner's curse); what a configuration is worth
is what it reaches on fresh seeds.

    DIR/fresh/0007/seed3/ ...       ordinary run folders, as those of a trial
    DIR/fresh.json                  what they reached
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dreamer import atomic, schema
from dreamer.schema import ConfigError
from experiments import sidecar
from experiments.sweep import answer, lock, trial
from experiments.sweep.executor import Executor, RunDied, train_all
from experiments.sweep.study import Row, Study
from experiments.sweep.trial import Part, TrialFailed

FRESH = "fresh"


def evaluate(
    study: Study, top: int, seeds: int, stop: Any, say: Callable[[str], None], executor: Executor
) -> None:
    """Train the best `top` trials on `seeds` fresh seeds (0: as many as the sweep has); goes on where it was.

    Raises:
      ConfigError: nothing has finished, or somebody else is at it.
    """
    best = answer.ranked(study.spec, study.rows())[:top]
    if not best:
        raise ConfigError(f"no trial of {study.folder} has finished yet: there is no best one to train anew")
    folder = study.folder / FRESH
    folder.mkdir(exist_ok=True)
    own = lock.take(folder / "lock")
    if own is None:
        raise ConfigError(f"somebody else trains the best trials of {study.folder} at this moment")
    try:
        found = {entry["trial"]: entry for entry in read(study)}
        for row in best:
            runs = parts(study, row, seeds or study.spec.sweep.seeds)
            say(f"trial {row.number}: training it on {seeds or study.spec.sweep.seeds} fresh seeds")
            waiting = [part for part in runs if trial.result_of(part) is None]
            about = {"trial": row.number, "chosen": row.score, "seeds": sorted({p.cfg.seed for p in runs})}
            try:
                train_all(waiting, own.descriptor, executor, lambda: bool(stop))
                if stop:
                    return
                found[row.number] = about | _reached(study, runs)
            except TrialFailed as error:
                found[row.number] = about | {"score": None, "reason": str(error)}
            told = sorted(found.values(), key=lambda entry: entry["trial"])
            sidecar.keep_damaged(study.folder / f"{FRESH}.json", list)
            atomic.write(study.folder / f"{FRESH}.json", json.dumps(told, indent=1) + "\n")
    except RunDied as error:
        raise ConfigError(f"{error}; the same command goes on") from None
    finally:
        own.release()


def parts(study: Study, row: Row, seeds: int) -> list[Part]:
    """The runs of a trial on seeds after those of the sweep, judged on episodes after those of its trials."""
    first = study.spec.base.seed + study.spec.sweep.seeds
    folder = study.folder / FRESH / f"{row.number:04d}"
    found = trial.parts(study.spec, row.params, folder, range(first, first + seeds))
    later = lambda cfg: schema.replace_path(cfg, "eval.seed", cfg.eval.seed + cfg.eval.episodes)
    return [Part(later(part.cfg), part.folder) for part in found]


def _reached(study: Study, runs: list[Part]) -> dict[str, Any]:
    found = trial.score(study.spec, runs)
    mean = sum(found.scores) / len(found.scores)
    return {
        "score": mean,
        "interval": list(found.interval),
        "scores": found.scores,
        "metric": found.metric,
    }


def read(study: Study) -> list[dict[str, Any]]:
    """What was found before, by trial."""
    return sidecar.read_rows(study.folder / f"{FRESH}.json", "trial", "chosen", "score", "seeds")
