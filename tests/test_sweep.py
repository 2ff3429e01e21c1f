"""A sweep makes, claims and ends its trials exactly once, whoever works and whoever is killed."""

import contextlib
import csv
import dataclasses
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sweep_driver
from sweep_driver import pretend, worker_command

import dreamer
from dreamer import atomic, schema
from dreamer.config import load_toml
from dreamer.schema import ConfigError
from experiments import signals, statistics
from experiments.sweep import answer, estimate, executor, lock, spec, study, sweep, table, trial, worker
from experiments.sweep.options import SweepOptions, SweepReportOptions
from experiments.sweep.study import FAILED, FINISHED, PRUNED, RUNNING, Row, Study
from experiments.sweep.trial import Part, TrialFailed
from experiments.training.run import TrainingStopped

optuna = pytest.importorskip("optuna")

SPEC = """
[sweep]
task = "grid:DoorKey-5x5"
trials = {trials}
seeds = {seeds}
sampler = "{sampler}"
{more}
[space]
agent.optim.lr = {{log = [1e-4, 1e-2]}}
"agent.rssm.deter" = {{choice = [64, 128]}}
"""
LR = "agent.optim.lr"
SOURCE = {"PYTHONPATH": str(Path(dreamer.__file__).parents[1])}
"""For processes that a test starts."""


def write(folder: Path, trials=3, seeds=1, sampler="random", more="", name="spec") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(SPEC.format(trials=trials, seeds=seeds, sampler=sampler, more=more))
    return path


@pytest.fixture
def made(tmp_path):
    """Opens studies and closes them."""
    opened = []

    def make(**fields) -> Study:
        opened.append(study.prepare(write(tmp_path, **fields), tmp_path / "sweep", "", shared=True))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def instant(part: Part, ended, lock: int) -> None:
    """A run without time."""
    part.folder.mkdir(parents=True, exist_ok=True)
    first = -abs(np.log10(part.cfg.agent.optim.lr) + 3) + 0.01 * part.cfg.seed
    result = {"env_steps": part.cfg.steps, "success_rate": None, "return_mean": first}
    atomic.write(part.folder / "result.json", json.dumps(result))


def run(path: Path, out: Path, trainer=instant, storage="journal", **options) -> int:
    """In this process; in a journal, which is made in no time."""
    url = f"journal:///{out}.journal" if storage == "journal" else storage
    options = SweepOptions(out=str(out), storage=url, **options)
    return sweep.sweep(path, options, trainer=trainer, command=worker_command)


def trials_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


# One process


def test_sweep_run_makes_every_trial_once_with_a_folder_per_seed(tmp_path, capsys):
    out = tmp_path / "sweep"
    assert run(write(tmp_path, trials=5, seeds=2), out, json=True) == 0
    rows = trials_of(out)
    assert list(rows[0]) == ["trial", "state", "score", "seeds", LR, "agent.rssm.deter"]
    assert [row["trial"] for row in rows] == list("01234")
    assert {(row["state"], row["seeds"]) for row in rows} == {(FINISHED, "2")}
    told = json.loads(capsys.readouterr().out)
    best = max(rows, key=lambda row: float(row["score"]))
    assert told["finished"] == 5 and told["best"]["trial"] == int(best["trial"])
    assert load_toml(out / "best.toml").agent.optim.lr == float(best[LR])


def test_sweep_best_file_is_a_single_run_config_with_a_report(tmp_path):
    out = tmp_path / "sweep"
    run(write(tmp_path, seeds=2), out)
    cfg = load_toml(out / "best.toml")
    assert cfg.population.is_one and cfg.seed == 0 and cfg.report.episodes > 0
    assert cfg.task == "grid:DoorKey-5x5"


def test_sweep_raised_number_of_trials_keeps_the_earlier_ones(tmp_path):
    out = tmp_path / "sweep"
    run(write(tmp_path, trials=2), out)
    before = trials_of(out)
    run(write(tmp_path, trials=5), out)
    after = trials_of(out)
    assert len(after) == 5 and after[:2] == before
    again = tmp_path / "again"
    run(write(tmp_path, trials=5), again)
    assert trials_of(again) == after


def test_sweep_different_spec_or_foreign_folder_is_refused(tmp_path):
    out = tmp_path / "sweep"
    run(write(tmp_path), out)
    with pytest.raises(ConfigError, match="another sweep, which differs in sampler"):
        run(write(tmp_path, sampler="qmc"), out)
    with pytest.raises(ConfigError, match="is stored at journal"):
        run(write(tmp_path), out, storage=f"sqlite:///{tmp_path}/other.db")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ConfigError, match="not a sweep"):
        run(write(tmp_path), tmp_path / "other")


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "qmc"])
def test_sweep_every_sampler_gives_the_requested_number_of_trials(tmp_path, sampler):
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    out = tmp_path / "sweep"
    path = write(tmp_path, trials=14, sampler=sampler)
    numbers = '"agent.behavior.imag_length" = {int = [2, 30]}'
    path.write_text(path.read_text().replace('"agent.rssm.deter" = {choice = [64, 128]}', numbers))
    run(path, out)
    assert [row["state"] for row in trials_of(out)] == [FINISHED] * 14
    assert len({row[LR] for row in trials_of(out)}) == 14


def test_sweep_every_storage_holds_the_same_trials(tmp_path):
    run(write(tmp_path, trials=4), tmp_path / "journal")
    run(write(tmp_path, trials=4), tmp_path / "default", storage="")
    assert (tmp_path / "default" / "sweep.db").is_file()
    assert trials_of(tmp_path / "journal") == trials_of(tmp_path / "default")


def test_sweep_failed_trial_has_no_score_and_a_reason(tmp_path):
    def fails(part, ended, lock):
        (part.folder.parent / executor.LOG).write_text("one\ntwo\n")
        if part.folder.parent.name == "0001":
            raise TrialFailed("loss/total is nan")
        instant(part, ended, lock)

    out = tmp_path / "sweep"
    assert run(write(tmp_path), out, fails) == 0
    rows = trials_of(out)
    assert [row["state"] for row in rows] == [FINISHED, FAILED, FINISHED]
    assert rows[1]["score"] == ""
    (told,) = [row for row in json.loads((out / "trials.json").read_text()) if row["state"] == FAILED]
    assert told["reason"] == "loss/total is nan" and told["log"] == "one\ntwo"


def test_sweep_all_trials_failed_raises_with_the_first_reason(tmp_path):
    def fails(part, ended, lock):
        raise TrialFailed("loss/total is nan")

    with pytest.raises(
        TrainingStopped, match="no trial .* has a score; the first one says: loss/total is nan"
    ):
        run(write(tmp_path, trials=2), tmp_path / "sweep", fails)


def test_sweep_incompatible_values_fail_their_trial_only(tmp_path):
    path = write(tmp_path, trials=6, sampler="tpe")
    path.write_text(
        path.read_text().replace("[64, 128]", "[64, 128]") + '"replay.capacity" = {choice = [300, 99999]}\n'
    )
    run(path, tmp_path / "sweep")
    states = {row["replay.capacity"]: row["state"] for row in trials_of(tmp_path / "sweep")}
    assert states == {"300": FAILED, "99999": FINISHED}


def test_sweep_hours_spent_starts_no_more_trials(tmp_path):
    def slow(part, ended, lock):
        time.sleep(0.2)
        instant(part, ended, lock)

    out = tmp_path / "sweep"
    assert run(write(tmp_path, trials=50, more="hours = 0.0001"), out, slow) == 0  # 0.36 s
    assert 1 <= len(trials_of(out)) <= 2


# Claims


def test_claim_trial_is_exclusive_until_its_lock_is_released(made):
    one, other = made(trials=2), made(trials=2)
    a, b = one.claim(), other.claim()
    assert a is not None and b is not None and {a.row.number, b.row.number} == {0, 1}
    assert one.claim() is None and one.counts() == (0, 2, 0)
    a.lock.release()  # as the kernel does when its holder is killed
    assert one.counts() == (0, 1, 1)
    again = other.claim()
    assert again is not None and again.row.number == 0 and again.row.params == a.row.params
    assert again.row.attempts == 2
    for claim in (again, b):
        claim.lock.release()


def test_claim_trial_with_partial_values_is_completed(made):
    one = made(trials=2)
    whole = one.claim()
    assert whole is not None
    one._study.enqueue_trial(one._encoded(one.spec.point(1)))
    one._study.ask({LR: one.spec.space[LR].distribution})  # dies before the second value
    claim = one.claim()
    assert claim is not None and claim.row.number == 1
    assert dict(claim.row.params) == one.spec.point(1)
    for taken in (whole, claim):
        taken.lock.release()


def test_claim_waiting_trial_is_not_created_twice(made):
    one = made(trials=1)
    one._study.enqueue_trial(one._encoded(one.spec.point(0)))
    claim = one.claim()
    assert claim is not None and dict(claim.row.params) == one.spec.point(0)
    assert one.claim() is None and len(one.rows()) == 1
    claim.lock.release()


def test_finish_ended_trial_cannot_be_failed_later(made):
    one, other = made(trials=1), made(trials=1)
    claim = one.claim()
    assert claim is not None
    one.finish(claim, [0.5, 0.7], "return_mean", (0.5, 0.7))
    with pytest.raises((ValueError, optuna.exceptions.UpdateFinishedTrialError)):
        other.fail(claim, "too late", "")
    (row,) = other.rows()
    assert row.state == FINISHED and row.score == pytest.approx(0.6) and row.scores == (0.5, 0.7)
    claim.lock.release()


def test_claim_trial_finished_meanwhile_is_not_taken(made, monkeypatch):
    """The other one has read that it runs, and then finds it unlocked."""
    one, other = made(trials=1), made(trials=1)
    claim = one.claim()
    assert claim is not None
    take = other._take

    def late(trial_id, number):
        one.finish(claim, [0.5], "return_mean", (0.5, 0.5))
        one.release(claim, seconds=1.0, asked=False)
        return take(trial_id, number)

    monkeypatch.setattr(other, "_take", late)
    assert other.claim() is None
    assert [row.state for row in other.rows()] == [FINISHED] and other.counts() == (1, 0, 0)


def test_claim_trial_killing_its_workers_fails_at_the_limit(made):
    one = made(trials=1)
    for _ in range(study.DEATHS):
        claim = one.claim()
        assert claim is not None
        claim.lock.release()
    assert one.claim() is None
    (row,) = one.rows()
    assert row.state == FAILED and "died 10 times" in row.reason


def test_release_requested_stop_does_not_count_as_a_death(made):
    one = made(trials=1)
    for _ in range(study.DEATHS + 2):
        claim = one.claim()
        assert claim is not None
        one.release(claim, seconds=1.0, asked=True)
    (row,) = one.rows()
    assert row.state == RUNNING and row.seconds == study.DEATHS + 2


def test_lock_of_a_killed_holder_is_released(tmp_path):
    code = "import time; from pathlib import Path; from experiments.sweep import lock; "
    code += f"x = lock.take(Path({str(tmp_path / 'lock')!r})); print('has it', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert lock.take(tmp_path / "lock") is None
        process.kill()
        process.wait()
    mine = lock.take(tmp_path / "lock")
    assert mine is not None and lock.take(tmp_path / "lock") is None
    mine.release()


def test_lock_inherited_by_a_surviving_run_stays_held(tmp_path):
    """Or the next worker would start a second process in the same folder."""
    mine = lock.take(tmp_path / "lock")
    assert mine is not None
    words = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[mine.descriptor]) as process:
        mine.release()
        assert lock.take(tmp_path / "lock") is None
        process.communicate(timeout=60)
    again = lock.take(tmp_path / "lock")
    assert again is not None
    again.release()


def test_end_with_parent_killed_worker_ends_its_run(tmp_path):
    """The parent starts a child that waits for ever, and is killed."""
    wait = "import os, time; from experiments import machine; machine.end_with_parent(os.getppid()); "
    wait += "print(os.getpid(), flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {wait!r}])"
    words = [sys.executable, "-c", parent]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ | SOURCE) as process:
        assert process.stdout is not None
        run = int(process.stdout.readline())
        process.kill()
        process.wait()
        wait_until(
            lambda: not Path(f"/proc/{run}").exists() or " Z " in Path(f"/proc/{run}/stat").read_text()
        )


def test_storage_addresses_are_absolute_and_without_password(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert study.absolute("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert study.absolute("journal:////b") == "journal:////b"
    assert study.without_password("postgresql://me:secret@host/name") == "postgresql://me@host/name"
    assert study.absolute("postgresql://host/name") == "postgresql://host/name"
    with pytest.raises(ConfigError, match="mysql://host/x is no storage; use sqlite"):
        study._storage("mysql://host/x")


# Trials


def test_parts_every_seed_is_a_separate_run(tmp_path):
    parts = trial.parts(spec.load(write(tmp_path, seeds=2)), {}, tmp_path)
    assert [(p.folder.name, p.cfg.seed) for p in parts] == [("seed0", 0), ("seed1", 1)]
    assert all(part.cfg.population.is_one for part in parts)


def result(part: Part, **numbers) -> Part:
    part.folder.mkdir(parents=True, exist_ok=True)
    (part.folder / "result.json").write_text(json.dumps({"env_steps": part.cfg.steps, **numbers}))
    return part


def test_score_is_the_mean_over_seeds_of_the_mean_over_tasks(tmp_path):
    path = write(tmp_path, seeds=2)
    tasks = '["minigrid:Empty-5x5", "minigrid:DoorKey-5x5"]'
    path.write_text(path.read_text().replace('"grid:DoorKey-5x5"', tasks))
    found = spec.load(path)
    parts = trial.parts(found, {}, tmp_path)
    assert len({part.folder for part in parts}) == 4
    for part in parts:
        good = 1.0 if "Empty" in part.cfg.task else 0.5
        result(part, success_rate=good - 0.2 * part.cfg.seed, return_mean=9.0)
    told = trial.score(found, parts)
    assert told.scores == pytest.approx([0.75, 0.55]) and told.metric == "success_rate"
    assert told.interval == statistics.bootstrap(told.scores)


def test_score_task_without_success_uses_the_return(tmp_path):
    found = spec.load(write(tmp_path))
    parts = trial.parts(found, {}, tmp_path)
    result(parts[0], success_rate=None, return_mean=3.0, return_interval=[2.0, 4.0])
    assert trial.score(found, parts) == ([3.0], (2.0, 4.0), "return_mean")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_score_non_finite_value_raises_trial_failed(tmp_path, value):
    found = spec.load(write(tmp_path, more='metric = "return_mean"'))
    parts = trial.parts(found, {}, tmp_path)
    result(parts[0], success_rate=1.0, return_mean=value)
    with pytest.raises(TrialFailed):
        trial.score(found, parts)


def test_work_finished_run_is_not_trained_again(tmp_path, made):
    one = made(trials=1)
    claim = one.claim()
    assert claim is not None
    for part in trial.parts(one.spec, claim.row.params, claim.folder):
        instant(part, lambda: False, 0)
    claim.lock.release()  # killed between result and storage

    def never(part, ended, lock):
        raise AssertionError("trained again")

    worker.work(one, signals.Stop(), print, executor.SingleExecutor(never))
    assert [row.state for row in one.rows()] == [FINISHED]


def test_sweep_pruner_prunes_trials_that_fall_behind(tmp_path, monkeypatch):
    """Scores are known from the start; the second half of the trials is worse than the first."""
    monkeypatch.setattr(worker, "LOOK", 0.0)
    monkeypatch.setattr(worker, "TICK", 0.005)
    steps = 900

    def learns(part, ended, lock):
        part.folder.mkdir(parents=True, exist_ok=True)
        number = int(part.folder.parent.name)
        with (part.folder / "metrics.jsonl").open("w") as file:
            for now in range(100, steps + 1, 100):
                file.write(
                    json.dumps({"env_steps": now, "eval/return_mean": now * (1.0 if number < 4 else 0.1)})
                    + "\n"
                )
                file.flush()
                time.sleep(0.05)
                if ended():
                    return
        instant(part, ended, lock)

    out = tmp_path / "sweep"
    more = f'steps = {steps}\npruner = "halving"'
    run(write(tmp_path, trials=8, more=more), out, learns)
    states = [row["state"] for row in trials_of(out)]
    assert states[:1] == [FINISHED] and states[4:] == [PRUNED] * 4
    pruned = json.loads((out / "trials.json").read_text())[4]
    assert pruned["reason"] == "fell behind after 100 steps" and pruned["score"] is None


def test_sweep_lagging_trials_copy_from_leading_ones(tmp_path, monkeypatch):
    """Eight runs that begin at the same time and stay together."""
    copies: list[tuple[Part, Part]] = []
    together = threading.Barrier(8)

    class Together(executor.SingleExecutor):
        slots = 8

        def copy(self, part, leader):
            copies.append((part, leader))

    def learns(part, ended, lock):
        part.folder.mkdir(parents=True, exist_ok=True)
        number = int(part.folder.parent.name)
        for now in (110, 205, 330):
            together.wait(60)
            with (part.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"env_steps": now + number, "eval/return_mean": number}) + "\n")
            time.sleep(0.3)
        together.wait(60)
        instant(part, ended, lock)

    monkeypatch.setattr(worker, "LOOK", 0.0)
    monkeypatch.setattr(worker, "TICK", 0.005)
    monkeypatch.setattr(sweep, "SingleExecutor", Together)
    path = write(tmp_path, trials=8, more='steps = 400\npruner = "exploit"')
    text = path.read_text().replace('"agent.rssm.deter" = {choice = [64, 128]}', "")
    path.write_text(text + "[fixed]\neval.every = 100\n")
    run(path, tmp_path / "sweep", learns)
    followers = [(int(p.folder.parent.name), int(q.folder.parent.name)) for p, q in copies]
    assert len(followers) >= 2 and {f for f, _ in followers} == {0, 1} and {q for _, q in followers} <= {6, 7}
    rows = json.loads((tmp_path / "sweep" / "trials.json").read_text())
    assert [bool(row["moves"]) for row in rows] == [True, True] + [False] * 6
    moved = rows[0]
    last = moved["moves"][-1]
    assert moved["params"] == last["params"] != last["before"] and last["from"] in (6, 7)
    assert copies[0][0].cfg.agent.optim.lr == rows[followers[0][0]]["moves"][0]["params"][LR]
    assert {row["state"] for row in rows} == {FINISHED}


# What it will cost


@pytest.mark.parametrize(
    ("task", "whole"), [("grid:Catch", 10.0 + 4 * 10.0), ("minigrid:Empty-5x5", 4 * 20.0)]
)
def test_measure_cost_is_that_of_a_short_run_times_all_runs(tmp_path, monkeypatch, task, whole):
    """A run begins for 10 s and learns for 10 s; two workers have four each. One program begins once."""
    path = write(tmp_path, trials=4, seeds=2, more="steps = 11_000")
    path.write_text(path.read_text().replace("grid:DoorKey-5x5", task))
    clock = iter((0.0, 12.0))
    monkeypatch.setattr(estimate, "time", SimpleNamespace(monotonic=clock.__next__))

    def learns(part, ended, lock):
        part.folder.mkdir(parents=True)
        rows = [{"env_steps": 10_100, "seconds": 11.0}, {"env_steps": 10_300, "seconds": 13.0}]
        (part.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    monkeypatch.setattr(estimate, "train_in_process", learns)
    monkeypatch.setattr(estimate, "_Enough", lambda part: None)
    assert estimate.measure(spec.load(path), workers=2) == pytest.approx((20.0, 8, whole))


@pytest.mark.parametrize("json_", [False, True])
def test_dry_run_failing_run_reports_the_reason_without_a_cost(tmp_path, monkeypatch, capsys, json_):
    def refused(part, ended, lock):
        raise TrialFailed("loop.prefill must be at most the steps of the run")

    monkeypatch.setattr(estimate, "train_in_process", refused)
    assert estimate.dry_run(spec.load(write(tmp_path)), workers=1, json=json_) == 0
    said = capsys.readouterr().out
    assert "the short run failed: loop.prefill must be at most the steps" in said
    assert ("run" not in json.loads(said)) if json_ else "cost      not known" in said


# Real runs

TINY = """
[fixed]
agent.encoder = {layers = 1, units = 8}
agent.rssm = {deter = 16, hidden = 8, stoch = 4, classes = 4, blocks = 2}
agent.decoder = {layers = 1, units = 8}
agent.reward = {layers = 1, units = 8, bins = 15}
agent.cont = {layers = 1, units = 8}
agent.policy = {layers = 1, units = 8}
agent.value = {layers = 1, units = 8, bins = 15}
agent.behavior.imag_length = 3
agent.optim.warmup = 0
loop = {num_envs = 4, batch_size = 4, batch_length = 4, prefill = 40, train_ratio = 4}
replay.capacity = 2000
eval.episodes = 4
log = {every = 0.01, tensorboard = false}
[space]
agent.optim.lr = {choice = [1e-3, 1e25]}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("compilation_cache")
def test_sweep_trained_trials_are_normal_runs_and_divergence_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE["PYTHONPATH"])
    path = tmp_path / "spec.toml"
    path.write_text('[sweep]\ntask = "probe:chosen"\nsteps = 80\nsampler = "grid"\n' + TINY)
    out = tmp_path / "sweep"
    assert run(path, out, executor.train_in_process) == 0
    assert [row["state"] for row in trials_of(out)] == [FINISHED, FAILED]
    folder = out / "trials" / "0000" / "seed0"
    assert json.loads((folder / "result.json").read_text())["env_steps"] == 80
    assert (folder / "checkpoints").is_dir() and load_toml(folder / "config.toml").agent.optim.lr == 1e-3
    (failed,) = [row for row in json.loads((out / "trials.json").read_text()) if row["state"] == FAILED]
    assert "not finite" in failed["reason"] and "3,723 parameters" in failed["log"]


COMPANY = """
[sweep]
task = "grid:Catch"
steps = 80
seeds = 2
sampler = "grid"
"""


@pytest.fixture
def in_one_process(tmp_path, monkeypatch):
    """Two trials of two runs each, one of which diverges, on a JAX environment."""
    monkeypatch.setenv("PYTHONPATH", SOURCE["PYTHONPATH"])
    path = tmp_path / "spec.toml"
    path.write_text(COMPANY + TINY)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("compilation_cache")
def test_sweep_runs_in_one_program_equal_runs_in_processes(tmp_path, in_one_process):
    together, apart = tmp_path / "together", tmp_path / "apart"
    assert run(in_one_process, together, None) == 0
    assert run(in_one_process, apart, executor.train_in_process) == 0
    assert [row["state"] for row in trials_of(together)] == [FINISHED, FAILED]
    assert trials_of(together) == trials_of(apart)
    for seed in (0, 1):
        ours, theirs = (out / "trials" / "0000" / f"seed{seed}" for out in (together, apart))
        episodes = [(folder / "episodes.jsonl").read_text() for folder in (ours, theirs)]
        assert episodes[0] == episodes[1] and episodes[0]
    reason = lambda out: json.loads((out / "trials.json").read_text())[1]["reason"]
    assert reason(together) == reason(apart) and "not finite" in reason(together)


@pytest.mark.slow
@pytest.mark.usefixtures("compilation_cache")
def test_sweep_killed_batched_process_is_resumed(tmp_path, in_one_process, monkeypatch):
    in_one_process.write_text(in_one_process.read_text().replace("1e-3, 1e25", "1e-3").replace("80", "2000"))
    started = executor.BatchedExecutor.start
    lives = iter((1, 1))

    def start(self, part, lock):
        started(self, part, lock)
        if part.folder.name == "seed1" and next(lives, None):
            wait_until(
                lambda: (
                    (part.folder / "checkpoints").is_dir() and any((part.folder / "checkpoints").iterdir())
                )
            )
            self._process.kill()

    monkeypatch.setattr(executor.BatchedExecutor, "start", start)
    assert run(in_one_process, tmp_path / "out", None) == 0
    (only,) = json.loads((tmp_path / "out" / "trials.json").read_text())
    assert only["state"] == FINISHED and len(only["scores"]) == 2 and only["attempts"] == 3


# The table


def row(number, state=FINISHED, score=None, seconds=10.0, **more) -> Row:
    return Row(
        number, state, {LR: 1e-3 * (number + 1), "agent.rssm.deter": 64}, score, seconds=seconds, **more
    )


def test_seconds_left_counts_running_trials_and_workers(tmp_path):
    found = spec.load(write(tmp_path, trials=10))
    rows = [row(0, score=1.0), row(1, FAILED), row(2, RUNNING, seconds=0.0)]
    assert table.seconds_left(found, rows, {2: 0.5}, 1) == pytest.approx(75)
    assert table.seconds_left(found, rows, {2: 0.5}, 3) == pytest.approx(25)
    assert table.seconds_left(found, [row(2, RUNNING, seconds=0.0)], {}, 1) is None


def test_table_shows_best_latest_and_running_trials(tmp_path):
    from rich.console import Console

    found = spec.load(write(tmp_path, trials=40))
    rows = [row(i, score=float(-i), metric="return_mean", interval=(-i - 1.0, -i + 1.0)) for i in range(20)]
    rows += [row(20, FAILED, reason="loss/total is nan"), row(21, RUNNING)]
    assert [r.number for r in table.shown(found, rows)] == [0, 1, 2, 15, 16, 17, 18, 19, 20, 21]
    console = Console(width=120, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    console.print(table.panel(found, rows, {21: 0.25}, 1))
    text = console.export_text()
    console.file.close()
    assert (
        "20 finished, 1 failed, 1 running of 40" in text
        and "running 25%" in text
        and "loss/total is nan" in text
    )


def test_ranked_equal_scores_keep_trial_order(tmp_path):
    found = spec.load(write(tmp_path))
    rows = [row(0, score=0.5), row(1, score=0.9), row(2, score=0.9), row(3, FAILED), row(4, PRUNED)]
    assert [r.number for r in answer.ranked(found, rows)] == [1, 2, 0]
    lowest = spec.load(write(tmp_path, more='direction = "minimize"'))
    assert [r.number for r in answer.ranked(lowest, rows)] == [0, 1, 2]


def test_train_in_process_runs_of_tasks_with_dots_have_a_configuration_each(tmp_path, monkeypatch):
    monkeypatch.setattr(executor.machine, "command", lambda *words: [sys.executable, "-c", ""])
    found = spec.load(write(tmp_path, seeds=2))
    dotted = dataclasses.replace(found.sweep, task=("gymnasium:my.pkg:A-v0", "gymnasium:my.pkg:B-v0"))
    parts = trial.parts(dataclasses.replace(found, sweep=dotted), {}, tmp_path / "0")
    assert all("." in part.folder.name for part in parts)
    (tmp_path / "0").mkdir()
    with open(tmp_path / "lock", "w") as held:
        for part in parts:
            executor.train_in_process(part, lambda: False, held.fileno())
    written = [load_toml(path) for path in (tmp_path / "0").glob("*.toml")]
    assert sorted((cfg.task, cfg.seed) for cfg in written) == sorted((p.cfg.task, p.cfg.seed) for p in parts)
    assert len(written) == 4


# The page and the fresh seeds


def test_sweep_report_shows_results_and_retrains_the_best(tmp_path, capsys):
    def learns(part, ended, lock):
        instant(part, ended, lock)
        (part.folder / "config.toml").write_text(schema.dump_toml(part.cfg))
        episodes = [
            {"env_steps": i * 10, "return": i / 50, "length": 5, "success": None} for i in range(1, 50)
        ]
        (part.folder / "episodes.jsonl").write_text("".join(json.dumps(e) + "\n" for e in episodes))

    out = tmp_path / "sweep"
    path = write(tmp_path, trials=8, seeds=2)
    path.write_text(path.read_text().replace("grid:DoorKey-5x5", "probe:chosen"))
    run(path, out, learns)
    assert sweep.report(out, SweepReportOptions(), trainer=learns) == 0
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 6 and "On fresh seeds" in page and "--top 3" in page
    assert sweep.report(out, SweepReportOptions(top=2, seeds=3, json=True), trainer=learns) == 0
    found = json.loads(capsys.readouterr().out)["fresh"]
    assert len(found) == 2 and all(entry["seeds"] == [2, 3, 4] for entry in found)
    for entry in found:  # 0.01 more for every seed
        assert entry["score"] - entry["chosen"] == pytest.approx(0.025)
    cfgs = [load_toml(p) for p in sorted(out.glob("fresh/*/seed*/config.toml"))]
    assert all(cfg.eval.seed == 100 for cfg in cfgs)
    assert "when chosen" in (out / "report.html").read_text()


def test_sweep_report_without_ended_trials_is_refused(tmp_path, made):
    with pytest.raises(ConfigError, match="holds no sweep"):
        sweep.report(tmp_path, SweepReportOptions())
    folder = made().folder
    with pytest.raises(ConfigError, match="no trial .* has ended yet"):
        sweep.report(folder, SweepReportOptions())


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_sweep_moved_folder_is_read_and_continued(kind, tmp_path):
    shared = kind == "journal"
    one = study.prepare(write(tmp_path), tmp_path / "here", "", shared=shared)
    claim = one.claim()
    one.prune(claim, "enough")
    one.release(claim, seconds=1, asked=False)
    one.close()
    moved = (tmp_path / "here").rename(tmp_path / "there")
    for reading in (True, False):
        found = Study(moved, reading=reading)
        assert [row.reason for row in found.rows()] == ["enough"] and str(tmp_path / "here") not in found.url
        found.close()
    again = study.prepare(write(tmp_path), moved, "", shared=shared)
    assert len(again.rows()) == 1
    again.close()


def test_sweep_report_foreign_database_is_not_written(tmp_path, made):
    folder = made().folder
    for name, store in (("theirs.db", "sqlite"), ("theirs.journal", "journal")):
        theirs = tmp_path / name
        if store == "sqlite":
            with contextlib.closing(sqlite3.connect(theirs)) as base, base:
                base.execute("create table mine (x)")
        else:
            theirs.write_text("")
        before = theirs.read_bytes()
        (folder / "storage.json").write_text(json.dumps({"url": f"{store}:///{theirs}", "name": "sweep-1"}))
        with pytest.raises(ConfigError, match="does not hold the sweep of"):
            sweep.report(folder, SweepReportOptions())
        assert theirs.read_bytes() == before
    (folder / "storage.json").write_text('{"url": "postgresql://host/x", "name": "sweep-1"}')
    with pytest.raises(ConfigError, match="name it with --storage"):
        sweep.report(folder, SweepReportOptions())
    (folder / "storage.json").write_text("[]")
    with pytest.raises(ConfigError, match="does not say where the sweep is stored"):
        sweep.report(folder, SweepReportOptions())


# Launchers


def start(path: Path, out: Path, launcher: str, workers: int, storage: str = "") -> subprocess.Popen:
    words = ["sweep", str(path), str(out), launcher, str(workers), *([storage] if storage else [])]
    return subprocess.Popen(
        [sys.executable, sweep_driver.__file__, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | SOURCE,
    )


def finish(process: subprocess.Popen) -> None:
    with process:
        _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said.decode()


def check_whole(out: Path, trials: int, expected: Path) -> None:
    """All trials ended once, as in the sweep of one process."""
    assert trials_of(out) == trials_of(expected) and len(trials_of(out)) == trials
    assert (out / "best.toml").read_text() == (expected / "best.toml").read_text()
    assert not list(out.rglob("TWO AT ONCE"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The sweep of one process, which all launchers must equal."""
    folder = tmp_path_factory.mktemp("sweeps")
    assert run(write(folder, trials=6), folder / "alone", pretend) == 0
    return folder


@pytest.mark.parametrize("launcher", ["processes", "submitit"])
def test_sweep_every_launcher_gives_the_same_trials(alone, launcher):
    if launcher != "processes":
        pytest.importorskip(launcher)
    finish(start(alone / "spec.toml", alone / launcher, launcher, 2))
    check_whole(alone / launcher, 6, alone / "alone")


def test_sweep_two_ray_nodes_give_the_same_trials(alone, monkeypatch):
    pytest.importorskip("ray")
    with ray_nodes(2) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        finish(start(alone / "spec.toml", alone / "ray", "ray", 2))
    check_whole(alone / "ray", 6, alone / "alone")


def test_sweep_postgresql_workers_give_the_same_trials(alone, tmp_path):
    pytest.importorskip("psycopg2")
    if not shutil.which("initdb") or not shutil.which("pg_ctl"):
        pytest.skip("PostgreSQL is not installed")
    with postgresql(tmp_path) as url:
        finish(start(alone / "spec.toml", alone / "postgresql", "processes", 2, url))
        check_whole(alone / "postgresql", 6, alone / "alone")


def test_sweep_interrupted_by_sigterm_is_continued_later(alone):
    out = alone / "stopped"
    with start(alone / "spec.toml", out, "processes", 2) as process:
        wait_until(lambda: ticks_of(out) or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert not workers_of(out)
    finish(start(alone / "spec.toml", out, "inline", 1))
    check_whole(out, 6, alone / "alone")


@pytest.mark.slow
def test_sweep_ten_random_kills_neither_lose_nor_duplicate_trials(tmp_path):
    """Whoever is killed at random moments: exactly the trials that were asked for, each ended once."""
    path = write(tmp_path, trials=24)
    assert run(path, tmp_path / "alone", pretend) == 0
    out, chance, killed = tmp_path / "killed", random.Random(0), {"worker": 0, "coordinator": 0}
    process = start(path, out, "processes", 3)
    while sum(killed.values()) < 10 and process.poll() is None:
        before = ticks_of(out)
        wait_until(lambda: process.poll() is not None or ticks_of(out) != before)  # noqa: B023
        time.sleep(chance.uniform(0.0, 0.3))
        workers = workers_of(out)
        if chance.random() < 0.3 or not workers:
            process.kill()
            process.communicate()
            process = start(path, out, "processes", 3)
            killed["coordinator"] += 1
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
            killed["worker"] += 1
    finish(process)
    assert killed["coordinator"] and killed["worker"]
    check_whole(out, 24, tmp_path / "alone")


def workers_of(out: Path) -> list[int]:
    """Processes that work for a sweep."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it is over
            continue
        if b"worker" in words and str(out.absolute()).encode() in words:
            found.append(int(path.parent.name))
    return found


def ticks_of(out: Path) -> dict[Path, str]:
    """How far every run is."""
    return {path: path.read_text() for path in out.glob("trials/*/*/ticks")}


def wait_until(true, seconds=120):
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)


@contextlib.contextmanager
def postgresql(folder: Path):
    """A server of its own on a socket of its own."""
    data, user = folder / "data", "postgres"
    environment = os.environ | {"LC_ALL": "C"}
    as_user = ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []
    folder.chmod(0o777)
    for parent in folder.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    call = lambda *words: subprocess.run([*as_user, *words], check=True, env=environment, capture_output=True)
    try:
        call("initdb", "-D", str(data), "-U", "sweep", "-A", "trust", "--no-sync")
        call("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -h ''", "start")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"PostgreSQL does not start here: {getattr(error, 'stderr', error)!r}")
    try:
        yield f"postgresql+psycopg2://sweep@/postgres?host={folder}"
    finally:
        call("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


@contextlib.contextmanager
def ray_nodes(count: int):
    """A cluster on this machine with one core in every node, so that each has one worker."""
    code = f"""
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1}})
for _ in range({count} - 1):
    cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
    words = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    streams = {"stdin": pipe, "stdout": pipe, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, **streams, text=True, env=os.environ | SOURCE) as process:
        assert process.stdout is not None
        yield next(line.split()[1] for line in process.stdout if line.startswith("address"))
        process.communicate(timeout=60)
