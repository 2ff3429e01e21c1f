"""Retraining of the best trials on fresh seeds and episodes, which did not select them.

The best of many scores is partly luck, so it is too high (the winner's curse); the score on fresh seeds is
unbiased.

    DIR/fresh/0007/seed3/ ...       ordinary run folders, as those of a trial
    DIR/fresh.json                  their scores
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
    """Train the best `top` trials on `seeds` fresh seeds (0: as many as the sweep has), or resume it.

    Raises:
      ConfigError: no trial has finished, or another process is doing this.
    """
    best = answer.ranked(study.spec, study.rows())[:top]
    if not best:
        raise ConfigError(f"no trial of {study.folder} has finished yet: there is no best one to retrain")
    folder = study.folder / FRESH
    folder.mkdir(exist_ok=True)
    held = lock.take(folder / "lock")
    if held is None:
        raise ConfigError(f"another process is training the best trials of {study.folder}")
    try:
        entries = {entry["trial"]: entry for entry in read(study)}
        for row in best:
            runs = parts(study, row, seeds or study.spec.sweep.seeds)
            say(f"trial {row.number}: training it on {seeds or study.spec.sweep.seeds} fresh seeds")
            waiting = [part for part in runs if trial.result_of(part) is None]
            about = {"trial": row.number, "chosen": row.score, "seeds": sorted({p.cfg.seed for p in runs})}
            try:
                train_all(waiting, held.descriptor, executor, lambda: bool(stop))
                if stop:
                    return
                entries[row.number] = about | _reached(study, runs)
            except TrialFailed as error:
                entries[row.number] = about | {"score": None, "reason": str(error)}
            ordered = sorted(entries.values(), key=lambda entry: entry["trial"])
            sidecar.keep_damaged(study.folder / f"{FRESH}.json", list)
            atomic.write(study.folder / f"{FRESH}.json", json.dumps(ordered, indent=1) + "\n")
    except RunDied as error:
        raise ConfigError(f"{error}; rerun the same command to resume") from None
    finally:
        held.release()


def parts(study: Study, row: Row, seeds: int) -> list[Part]:
    """The runs of a trial on seeds after those of the sweep, and episodes after those of its trials."""
    first = study.spec.base.seed + study.spec.sweep.seeds
    folder = study.folder / FRESH / f"{row.number:04d}"
    runs = trial.parts(study.spec, row.params, folder, range(first, first + seeds))
    later = lambda cfg: schema.replace_path(cfg, "eval.seed", cfg.eval.seed + cfg.eval.episodes)
    return [Part(later(part.cfg), part.folder) for part in runs]


def _reached(study: Study, runs: list[Part]) -> dict[str, Any]:
    result = trial.score(study.spec, runs)
    mean = sum(result.scores) / len(result.scores)
    return {
        "score": mean,
        "interval": list(result.interval),
        "scores": result.scores,
        "metric": result.metric,
    }


def read(study: Study) -> list[dict[str, Any]]:
    """Earlier results, by trial."""
    return sidecar.read_rows(study.folder / f"{FRESH}.json", "trial", "chosen", "score", "seeds")
