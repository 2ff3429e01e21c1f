"""The page of a sweep: the best trials, their uncertainty, importances, and how it was searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreamer import schema
from dreamer.schema import ConfigError
from dreamer.status import span
from experiments.report import figures as report_figures
from experiments.report import page
from experiments.report.figures import COLORS, Curve
from experiments.report.report import RunRecord, read_run
from experiments.sweep import answer, figures, fresh, trial
from experiments.sweep.spec import Spec
from experiments.sweep.study import FAILED, FINISHED, PRUNED, Row, Study
from experiments.sweep.table import outcome, short_names, values

REPORT = "report.html"
SHOWN = 4
"""Trials whose learning curves stand beside each other."""


def write(study: Study) -> Path:
    """Write DIR/report.html.

    Raises:
      ConfigError: no trial has ended.
    """
    spec, rows = study.spec, study.rows()
    if not any(row.ended for row in rows):
        raise ConfigError(f"no trial of {study.folder} has ended yet: there is nothing to report")
    best = answer.ranked(spec, rows)
    score = best[0].metric.replace("_", " ") if best else "score"
    shares = study.importances()
    retrained = fresh.read(study)
    return page.write(
        study.folder / REPORT,
        "sweep.html",
        spec=spec,
        folder=study.folder,
        counts={state: sum(row.state == state for row in rows) for state in (FINISHED, PRUNED, FAILED)},
        seconds=span(sum(row.seconds for row in rows)),
        best=best,
        names=short_names(list(spec.space)),
        ended=[*best, *(row for row in rows if row.ended and row not in best)],
        failures=[row for row in rows if row.state == FAILED],
        fresh=sorted(retrained, key=lambda entry: _order(spec, entry)),
        shares=shares,
        pictures=_pictures(spec, rows, best, score, shares) | _curves(study, best[:SHOWN]),
        shown=[f"trial {row.number}: {values(row)}" for row in best[:SHOWN]],
        colors=COLORS,
        outcome=outcome,
        changes=page.preset_changes(answer.runnable(spec, best[0])) if best else [],
        config=schema.dump_toml(answer.runnable(spec, best[0])) if best else "",
    )


def _order(spec: Spec, entry: dict[str, Any]) -> tuple[bool, float]:
    score = entry["score"]
    return score is None, 0.0 if score is None else -score if spec.maximizes else score


def _pictures(
    spec: Spec, rows: Sequence[Row], best: Sequence[Row], score: str, shares: dict[str, float]
) -> dict[str, str]:
    if not best:
        return {}
    pictures = {"history": figures.history(spec, rows, score), "slices": figures.slices(spec, rows, score)}
    if len(best) > 1:
        pictures["parallel"] = figures.parallel(spec, rows, score)
    if shares:
        pictures["importance"] = figures.importance(shares)
    return pictures


def _curves(study: Study, best: Sequence[Row]) -> dict[str, str]:
    """How the best trials learned: every seed thin, their mean with its interval."""
    groups = [_runs(study, row) for row in best]
    keys = [key for key in ("return", "success") if any(run.curve(key)[0] for runs in groups for run in runs)]
    panels = {key: [Curve([run.curve(key) for run in runs]) for runs in groups] for key in keys}
    return {"curves": report_figures.curves(panels)} if panels else {}


def _runs(study: Study, row: Row) -> list[RunRecord]:
    """The runs of a trial that have begun."""
    parts = trial.parts(study.spec, row.params, study.trial_folder(row.number))
    return [read_run(part.folder) for part in parts if (part.folder / "config.toml").is_file()]
