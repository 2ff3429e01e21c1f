"""The results of a sweep so far, as files written atomically: trials.csv, trials.json and best.toml."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from dreamer import atomic, schema
from dreamer.config import Config
from experiments import presets
from experiments.sweep import lock
from experiments.sweep.spec import Spec
from experiments.sweep.study import FINISHED, Row, Study

TRIALS, EVERYTHING, BEST = "trials.csv", "trials.json", "best.toml"
ANSWERING = "answer.lock"


def write(study: Study) -> None:
    """Rewrite the files; newer content is never replaced by older."""
    with lock.held(study.folder / ANSWERING):
        rows = study.rows()
        atomic.write(study.folder / TRIALS, table(study.spec, rows))
        everything = [dataclasses.asdict(row) for row in rows]
        atomic.write(study.folder / EVERYTHING, json.dumps(everything, indent=1) + "\n")
        best = ranked(study.spec, rows)[:1]
        if best:
            atomic.write(study.folder / BEST, schema.dump_toml(runnable(study.spec, best[0])))


def table(spec: Spec, rows: Iterable[Row]) -> str:
    """Every trial as a line: `trial, state, score, seeds` (their number), and its values."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["trial", "state", "score", "seeds", *spec.space])
    for row in rows:
        score = "" if row.score is None else row.score
        values = [_cell(row.params.get(path, "")) for path in spec.space]
        out.writerow([row.number, row.state, score, len(row.scores) or "", *values])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | bool) else value


def ranked(spec: Spec, rows: Sequence[Row]) -> list[Row]:
    """The finished trials, the best first; ties by number."""
    finished = [row for row in rows if row.state == FINISHED and row.score is not None]
    sign = -1.0 if spec.maximizes else 1.0
    return sorted(finished, key=lambda row: (sign * (row.score or 0.0), row.number))


def runnable(spec: Spec, row: Row) -> Config:
    """The configuration of a trial for training it alone: with the report of its preset."""
    cfg = spec.config(row.params)
    report = cfg.report if "report.episodes" in spec.fixed else presets.build(spec.sweep.preset).report
    return dataclasses.replace(cfg, report=report)
