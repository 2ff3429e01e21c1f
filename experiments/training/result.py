"""The end of a run: an evaluation, a verdict, a result file and a page."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import envs
from dreamer.config import Config
from dreamer.logger import read_rows
from envs.api import EnvError
from experiments import evaluate, memory
from experiments.benchmark import scores
from experiments.learning_curve import acted_with
from experiments.training import score
from experiments.training.folder import acting
from experiments.training.verdict import verdict

if TYPE_CHECKING:
    from experiments.training.agents import Agents
    from experiments.training.folder import RunFolder
    from experiments.training.goal import Until


def finish(agents: Agents[Any], folder: RunFolder, until: Until) -> dict[str, Any]:
    """Evaluate, write the result and the report, and say what to do next; the result."""
    result, evaluation, words = evaluated(agents, folder, until)
    if folder.cfg.population.is_one:  # else every member has its score
        result |= scores.of_run(folder.path, folder.cfg.task, result["env_steps"])
        score.log(folder, result.get("score", {}))
    agents.write_result(result)
    cfg, progress = folder.cfg, agents.loop.progress
    seconds = folder.logger.seconds
    folder.notice(f"{cfg.task} after {progress.env_steps:,} steps and {seconds:,.0f} s: {words}")
    lines = [
        _score(cfg, result.get("score", {})),
        _verdict(agents, folder, until, evaluation),
        envs.note(cfg.task),
    ]
    for line in filter(None, lines):
        folder.notice(line)
    folder.notice(f"next: dreamer eval {agents.playable} --episodes 1000 --seed 1000")
    if cfg.report.episodes:
        folder.notice(f"writing the report of {cfg.report.episodes} episodes")
        if page := try_report(agents, folder):
            result["report"] = str(page)
            folder.notice(f"{page} has the report: open it in a browser")
    return result


def _score(cfg: Config, numbers: Mapping[str, float]) -> str:
    """The score of a suite in a line; empty where it is the success that the evaluation also has."""
    reached = scores.sentence(numbers)
    is_more = scores.scoring(cfg.task).headline != "success_rate"
    words = ", ".join(filter(None, ("score of the training episodes", acted_with([acting(cfg)]))))
    return f"{words}: {reached}" if reached and is_more else ""


def evaluated(
    agents: Agents[Any], folder: RunFolder, until: Until
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The result, the summary of its greedy episodes (empty without), and both as text."""
    cfg, progress = folder.cfg, agents.loop.progress
    result: dict[str, Any] = {
        "run": str(folder.path),
        "task": cfg.task,
        "env_steps": progress.env_steps,
        "updates": progress.updates,
        **acting(cfg),
    }
    evaluation, words = {}, "not evaluated"
    if cfg.until:
        result |= {"until": cfg.until, "solved": agents.is_solved, "solved_at": until.solved.get(0)}
    if cfg.eval.episodes:
        evaluation = agents.evaluate(cfg.eval.episodes)
        sampled = agents.evaluate(cfg.eval.episodes, actor="sampled")
        words = evaluate.sentence(evaluation) + evaluate.beside(evaluation, sampled, cfg.loop.actor)
        result |= evaluation | {"sampled": sampled}
    result["seconds"] = round(folder.logger.seconds, 1)
    result["cpu_seconds"] = round(folder.cpu_seconds, 1)
    result["peak_mb"] = round(memory.peak() / 2**20)
    return result, evaluation, words


def _verdict(agents: Agents[Any], folder: RunFolder, until: Until, evaluation: dict[str, Any]) -> str:
    """Whether it is solved or learned nothing, and what to try then."""
    return verdict(
        folder.cfg,
        run=str(folder.path),
        progress=agents.loop.progress,
        solved=agents.is_solved,
        reachable=until.is_reachable,
        evaluation=evaluation,
        episodes=read_rows(folder.path / "episodes.jsonl", "env_steps", "return"),
    )


def evaluate_meanwhile(agents: Agents[Any], folder: RunFolder) -> None:
    """Evaluate during training."""
    episodes = folder.cfg.eval.during
    if cut := evaluate.cut_short(agents.evaluate(episodes)):
        now = agents.loop.progress.env_steps
        folder.notice(f"evaluation at {now:,} steps: {episodes} episodes, {cut}")


def try_report(agents: Agents[Any], folder: RunFolder) -> Path | None:
    """The page, or None where it cannot be made: a failed report does not fail the run."""
    if not folder.cfg.report.episodes:
        return None
    try:
        return agents.report()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError | EnvError):
            why = " ".join(str(error).split())
        else:  # a bug: log the traceback
            folder.notice(traceback.format_exc())
        folder.notice(f"there is no report ({why}); try again with: dreamer report {folder.path}")
        return None
