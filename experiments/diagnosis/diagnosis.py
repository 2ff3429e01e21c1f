"""`dreamer doctor --run`: the findings about a run in the order in which to act on them.

folder ─► summary.read ─► Summary ─► RULES ─► Diagnosis ─► text, JSON, or a section of the report
"""

from __future__ import annotations

import json as jsonlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.diagnosis.finding import Finding, Rule, rounded
from experiments.diagnosis.learning import remember
from experiments.diagnosis.rules import CAUSES, JUDGING, SYMPTOMS
from experiments.diagnosis.summary import MEMBERS, Summary, read

PPO_FIELDS = {"agent.optim.lr": "lr", "agent.behavior.entropy": "entropy", "steps": "steps"}
"""What fields are called in the configuration of a PPO run; it has no others of those that rules name."""
UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Diagnosis:
    """What is to be said about a run."""

    run: Summary
    headline: str
    """Whether it learned."""
    findings: Mapping[str, Finding]
    """{rule: finding}, the first thing to change first; empty where nothing is wrong."""
    consequences: Mapping[str, Finding]
    """What is also wrong, but to be expected with such findings."""
    notes: tuple[str, ...]
    """What limits all of this."""

    @property
    def command(self) -> str:
        """The command that makes the change of the first finding; empty where there is none."""
        changes = next((finding.changes for finding in self.findings.values() if finding.changes), {})
        if not changes or self.run.is_ppo:
            return ""
        folder = Path(self.run.folder)
        if changes.keys() == {"steps"} and folder.parent.name != MEMBERS:
            return f"dreamer train --run {shlex.quote(str(folder))} {flags(changes)}"
        config, other = shlex.quote(str(folder / "config.toml")), shlex.quote(str(_another(folder)))
        return f"dreamer train --config {config} --run {other} {flags(changes)}"

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "run": self.run.folder,
            "task": self.run.task,
            "env_steps": self.run.env_steps,
            "updates": self.run.updates,
            "outcome": self.run.outcome,
            "headline": self.headline,
            "findings": [
                {
                    "rule": name,
                    "sentence": finding.sentence,
                    "evidence": finding.evidence,
                    "field": next(iter(finding.changes), None),
                    "changes": dict(finding.changes),
                    "advice": finding.advice,
                }
                for name, finding in self.findings.items()
            ],
            "consequences": [
                {"rule": name, "sentence": finding.sentence, "evidence": finding.evidence}
                for name, finding in self.consequences.items()
            ],
            "notes": list(self.notes),
            "command": self.command,
        }


def flags(changes: Mapping[str, Any]) -> str:
    """Changed fields as options of `dreamer train`."""
    return " ".join(f"--{field.replace('_', '-')} {value}" for field, value in changes.items())


def diagnose(run: Summary) -> Diagnosis:
    """Ask every rule about a run."""
    causes, symptoms, judging = (_ask(rules, run) for rules in (CAUSES, SYMPTOMS, JUDGING))
    findings = causes | judging if causes else symptoms | judging
    if not findings and run.outcome in ("improved", "not learned"):
        findings = {UNEXPLAINED: _unexplained(run)}
    consequences = symptoms if causes else {}
    headline = _headline(run, bool(findings))
    return Diagnosis(run, headline, _possible(findings, run), consequences, tuple(_notes(run)))


def _ask(rules: Iterable[Rule], run: Summary) -> dict[str, Finding]:
    findings = {rule.name: rule.check(run) for rule in rules if rule.is_for(run)}
    return {name: finding for name, finding in findings.items() if finding is not None}


def _possible(findings: Mapping[str, Finding], run: Summary) -> dict[str, Finding]:
    """With the changes that remain: of fields that the run has, to more steps than it was asked for.

    A field is changed once, by the first finding that does: otherwise one could say more, and another less.
    """
    changed: set[str] = set()
    possible = {}
    for name, finding in findings.items():
        changes = {k: v for k, v in finding.changes.items() if k != "steps" or v > run.config.steps}
        if run.is_ppo:
            changes = {PPO_FIELDS[field]: value for field, value in changes.items() if field in PPO_FIELDS}
        changes = {field: value for field, value in changes.items() if field not in changed}
        changed |= changes.keys()
        possible[name] = finding._replace(changes=changes)
    return possible


def _unexplained(run: Summary) -> Finding:
    """Where no rule has anything to say."""
    random = run.metrics.late("randomness/")
    evidence = f"{run.updates:,} updates, {run.shown(run.late.estimate.value)}"
    evidence += "" if random is None else f", randomness of the policy {random:.2f}"
    return Finding(
        "No cause shows in what was logged.",
        evidence,
        {"steps": rounded(2 * run.env_steps)},
        remember(run),
    )


def _headline(run: Summary, is_wrong: bool) -> str:
    curve = (
        f"{run.shown(run.start.estimate.value)} at the start, {run.number(run.late.estimate.value)} in the "
    )
    curve += f"last {len(run.late)} training episodes"
    if run.judged:
        curve += f", {run.number(run.judged[0].value)} in the evaluation"
    match run.outcome:
        case "unclear":
            return "It is too early to say whether it learns."
        case "learned":
            return f"It learned: {curve}." if is_wrong else f"Nothing found, it learned: {curve}."
        case "improved":
            return f"It learned something, but hardly all: {curve}."
    return f"It did not learn: {curve}."


def _notes(run: Summary) -> Iterator[str]:
    if not run.is_finished:
        yield (f"The run has not ended ({run.env_steps:,} of {run.config.steps:,} steps): this may change.")
    if run.outcome == "unclear" or run.is_ppo:
        return
    if not run.metrics.rows:
        yield "No metrics of updates were logged, so only the episodes are judged."
    if run.is_finished and not run.judged:
        yield "There is no evaluation (eval.episodes), so only training episodes are judged."
    if not run.card and run.outcome != "learned":
        yield (
            "There is no report card of this state, so the world model is judged by its losses alone: "
            f"dreamer report {shlex.quote(run.folder)} makes one."
        )


def _another(folder: Path) -> Path:
    """A folder beside that of a run which does not exist yet."""
    name = folder.name
    if folder.parent.name == MEMBERS:
        folder, name = folder.parent.parent, f"{folder.parent.parent.name}-{name}"
    return next(path for i in range(2, 10**6) if not (path := folder.with_name(f"{name}-{i}")).exists())


def show(folder: Path, *, json: bool = False) -> int:
    """Print the diagnosis of a run; the exit code.

    Raises:
      ConfigError: the folder is that of no run, or of a population.
    """
    diagnosis = diagnose(read(folder))
    print(jsonlib.dumps(diagnosis.as_json()) if json else "\n".join(_lines(diagnosis)))
    return 0


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    run = diagnosis.run
    yield f"{run.folder}: {run.task} after {run.env_steps:,} steps and {run.updates:,} updates"
    yield diagnosis.headline
    for i, finding in enumerate(diagnosis.findings.values(), 1):
        yield f"\n{i}. {finding.sentence}"
        yield f"   evidence  {finding.evidence}"
        if finding.changes:
            yield f"   change    {finding.change}"
        if finding.advice:
            yield f"   {'besides' if finding.changes else 'advice':<8}  {finding.advice}"
    if diagnosis.consequences:
        yield "\nalso seen, perhaps as a consequence:"
        yield from (f"   {f.sentence} ({f.evidence})" for f in diagnosis.consequences.values())
    if diagnosis.notes or diagnosis.command:
        yield ""
    yield from (f"note: {note}" for note in diagnosis.notes)
    if diagnosis.command:
        yield f"next: {diagnosis.command}"
