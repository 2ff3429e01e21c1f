"""The folder of a benchmark: the state of its runs, who trains which, and what may change."""

import dataclasses

import benchmark_runs
import pytest
from benchmark_runs import REACHER, WALKER, flat, store

from dreamer.schema import ConfigError
from experiments.benchmark.runs import Benchmark, prepare
from experiments.sweep.runset import DONE, FAILED, MISSING, UNFINISHED
from experiments.sweep.trial import beside


def test_parts_have_distinct_folders_and_the_first_seed_of_all_tasks_first(tmp_path):
    bench = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER, REACHER, seeds=2, seed=5))
    assert [(p.cfg.task, p.cfg.seed) for p in bench.parts] == [
        (WALKER, 5),
        (REACHER, 5),
        (WALKER, 6),
        (REACHER, 6),
    ]
    assert bench.parts[0].folder == tmp_path / "x" / "runs" / "dmc-walker-walk-seed5"
    assert len({beside(p, "toml") for p in bench.parts}) == 4


def test_parts_of_tasks_with_dots_have_distinct_files(tmp_path):
    told = benchmark_runs.plan("gymnasium", "gymnasium:my.pkg:A-v0", "gymnasium:my.pkg:B-v0", seeds=2)
    assert len({beside(p, "toml") for p in prepare(tmp_path / "x", told).parts}) == 4


def test_state_follows_the_files_of_a_run(tmp_path):
    bench = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER))
    (part,) = bench.parts
    assert bench.state(part) == MISSING
    store(part, flat(1.0, 10_000), 10_000, done=False)
    assert bench.state(part) == UNFINISHED
    bench.fail(part, "loss\nis nan")
    assert (bench.state(part), bench.why(part)) == (FAILED, "loss is nan")
    bench.forgive()
    assert (bench.state(part), bench.why(part)) == (UNFINISHED, "")
    store(part, flat(1.0))
    assert bench.state(part) == DONE


def test_claim_gives_every_run_once_and_again_when_released(tmp_path):
    bench = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER, REACHER))
    first, second = bench.claim(), Benchmark(tmp_path / "x").claim()
    assert first is not None and second is not None
    assert {first.part.cfg.task, second.part.cfg.task} == {WALKER, REACHER}
    assert bench.claim() is None and bench.counts() == (0, 2, 0)
    first.lock.release()
    assert bench.counts() == (0, 1, 1)
    again = bench.claim()
    assert again is not None and again.part == first.part
    bench.fail(again.part, "why")
    assert bench.counts() == (1, 1, 0)
    again.lock.release()
    second.lock.release()


def test_prepare_same_or_larger_plan_is_resumed(tmp_path):
    prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER))
    larger = benchmark_runs.plan("dmc", REACHER, WALKER, seeds=3, steps=40_000)
    assert len(prepare(tmp_path / "x", larger).parts) == 6
    assert Benchmark(tmp_path / "x").plan == larger


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loop.train_ratio": 64}, "loop.train_ratio was 32.0, now 64.0"),
        ({"steps": 20_000}, "steps was 30000, now 20000"),
        ({"seeds": 1}, "seeds was 2, now 1"),
        ({"agent.rssm.deter": 256, "seed": 1}, "agent.rssm.deter was 512, now 256"),
    ],
)
def test_prepare_other_settings_are_refused_saying_which(tmp_path, changes, words):
    prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER, seeds=2))
    before = (tmp_path / "x" / "benchmark.toml").read_text()
    with pytest.raises(ConfigError, match=f"holds a benchmark with other settings: .*{words}"):
        prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER, **{"seeds": 2, **changes}))
    assert (tmp_path / "x" / "benchmark.toml").read_text() == before


def test_prepare_other_suite_or_fewer_tasks_are_refused_saying_which(tmp_path):
    prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER, REACHER))
    with pytest.raises(
        ConfigError, match="suite was dmc, now grid; tasks had dmc:walker-walk, dmc:reacher-easy"
    ):
        prepare(tmp_path / "x", benchmark_runs.plan("grid", "grid:Catch"))


def test_prepare_foreign_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="exists but is not a benchmark"):
        prepare(tmp_path, benchmark_runs.plan("dmc", WALKER))


def test_benchmark_of_another_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no benchmark: start one with dreamer benchmark SUITE --out"):
        Benchmark(tmp_path)


def test_beside_is_named_after_the_folder(tmp_path):
    (part,) = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER)).parts
    assert beside(part, "log").name == "dmc-walker-walk-seed0.log"


def test_parts_have_the_steps_of_their_task_and_fewer_are_refused(tmp_path):
    told = benchmark_runs.plan("dmc", WALKER, REACHER)
    lengths = dataclasses.replace(told, steps=(500, 700))
    assert [part.cfg.steps for part in prepare(tmp_path / "x", lengths).parts] == [500, 700]
    assert Benchmark(tmp_path / "x").plan.steps_of(REACHER) == 700
    swapped = dataclasses.replace(told, tasks=(REACHER, WALKER), steps=(700, 500))
    assert [part.cfg.steps for part in prepare(tmp_path / "x", swapped).parts] == [700, 500]
    with pytest.raises(ConfigError, match="steps was 700, now 600, of dmc:reacher-easy"):
        prepare(tmp_path / "x", dataclasses.replace(told, steps=(500, 600)))
    assert prepare(tmp_path / "x", told).plan.steps == ()  # 30,000 for both
