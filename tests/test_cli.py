"""The command line: precedence, where runs go, and one sentence for every mistake."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

import envs
from dreamer import config, schema
from dreamer.config import Config, PopulationConfig
from dreamer.schema import ConfigError
from experiments import cli, doctor, envs_command, presets
from experiments.cli import main
from experiments.commands import Plan, TrainOptions, resolve
from experiments.presets.sizes import SIZES
from experiments.training.run import TrainingStopped

ROOT = Path(cli.__file__).resolve().parents[1]
KINDS = {path: field.type for path, field in schema.paths(Config).items()}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# What the words say.


@pytest.mark.parametrize(
    ("words", "positional", "values"),
    [
        ("", [], {}),
        ("quickstart --steps 1e6", ["quickstart"], {"steps": 1e6}),
        ("--agent.rssm.deter 512 name", ["name"], {"agent.rssm.deter": 512}),
        ("--loop.num-envs=4 --loop.num_envs 5", [], {"loop.num_envs": 5}),
        ("--agent.encoder.mults 1 2 --seed -1", [], {"agent.encoder.mults": [1, 2], "seed": -1}),
        (
            "--agent.encoder.mults 1 2 --seed 3 --agent.encoder.mults 4",
            [],
            {"agent.encoder.mults": [1, 2, 4], "seed": 3},
        ),
        ("--log.wandb name", ["name"], {"log.wandb": True}),
        ("--log.wandb false --log.no-tensorboard", [], {"log.wandb": False, "log.tensorboard": False}),
        ("--task gymnasium:my_pkg:My-v0", [], {"task": "gymnasium:my_pkg:My-v0"}),
        ("--task=minigrid:DoorKey-5x5", [], {"task": "minigrid:DoorKey-5x5"}),
        ("--agent.optim.lr -3e-4", [], {"agent.optim.lr": -3e-4}),
        ("--env.kwargs {} --max-episode-steps 7", [], {"env.kwargs": "{}", "env.max_episode_steps": 7}),
        ("--wrappers a:b c:d --no-parallel", [], {"env.wrappers": ["a:b", "c:d"], "env.parallel": False}),
    ],
)
def test_parse_words_returns_positional_and_field_values(words, positional, values):
    assert cli.parse(words.split(), KINDS, "dreamer train") == (positional, values)


def test_parse_population_keeps_the_values_of_a_number_together():
    kinds = {path: f.type for path, f in schema.paths(TrainOptions).items()}
    _, values = cli.parse(["--population", "lr=1e-3,2.5e-3", "seeds=2"], kinds, "dreamer train")
    assert values == {"population": ["lr=1e-3,2.5e-3", "seeds=2"]}


def test_train_options_and_config_fields_share_no_name():
    assert not KINDS.keys() & schema.paths(TrainOptions).keys()


# What will be trained.


def asked(preset: str = "", changes: dict | None = None, **options) -> Plan:
    return resolve(preset, TrainOptions(**options), changes or {})


def store(plan: Plan) -> None:
    plan.folder.mkdir(parents=True)
    (plan.folder / "config.toml").write_text(schema.dump_toml(plan.cfg))


def test_resolve_without_arguments_returns_quickstart():
    assert asked() == (presets.build("quickstart"), Path("runs/quickstart-seed0"), False)


def test_resolve_applies_preset_then_size_then_file_then_flags():
    Path("mine.toml").write_text("steps = 7\n[agent.rssm]\nhidden = 96\nclasses = 5\n")
    changes = {"agent.rssm.classes": 6}
    cfg = asked("cartpole", changes, size="12m", config="mine.toml").cfg
    sized = SIZES["12m"](presets.build("cartpole").agent)
    expected = {"steps": 7, "agent.rssm.hidden": 96, "agent.rssm.classes": 6}
    changed = {path: new for path, _, new in schema.diff(presets.build("cartpole"), cfg)}
    assert {path: changed[path] for path in expected} == expected
    assert cfg.agent.rssm.deter == sized.rssm.deter == 2048
    assert cfg.preset == "cartpole"


@pytest.mark.parametrize(
    ("preset", "changes", "folder"),
    [
        ("", {"seed": 3}, "runs/quickstart-seed3"),
        ("empty", {}, "runs/empty-seed0"),
        ("", {"task": "minigrid:Empty-8x8"}, "runs/minigrid-Empty-8x8-seed0"),
        ("dreamerv3", {"task": "gymnasium:my.pkg:My-v0"}, "runs/gymnasium-my.pkg-My-v0-seed0"),
    ],
)
def test_resolve_without_run_names_folder_after_preset_or_task(preset, changes, folder):
    assert asked(preset, changes).folder == Path(folder)
    assert asked(preset or "quickstart", changes, run="x").folder == Path("x")


def test_resolve_without_preset_takes_small_for_a_named_task(tmp_path):
    assert asked().cfg.preset == "quickstart"
    assert asked(changes={"task": "gymnasium:CartPole-v1"}).cfg.preset == "small"
    assert asked("cartpole", {"task": "gymnasium:Acrobot-v1"}).cfg.preset == "cartpole"
    for text, expected in (('task = "gymnasium:Acrobot-v1"', "small"), ("steps = 9", "quickstart")):
        (tmp_path / "a.toml").write_text(text)
        assert asked(config=str(tmp_path / "a.toml")).cfg.preset == expected


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--task", "dmc:walker-walk"], "dreamer train dmc-proprio --task dmc:walker-walk"),
        (["--task", "minigrid:FourRooms"], "dreamer train minigrid --task minigrid:"),
        (["--task", "gymnasium:CartPole-v1"], ""),
        (["cartpole", "--task", "dmc:walker-walk"], ""),
    ],
)
def test_train_without_preset_names_that_of_the_suite(words, named, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.training.run.train", lambda *args, **options: 0)
    assert cli.main(["train", *words]) == 0
    err = capsys.readouterr().err
    assert named in err if named else not err


@pytest.mark.parametrize(
    ("options", "seeds", "vary"),
    [
        ({"seeds": 8}, 8, ()),
        ({"population": ("lr=1e-4,3e-4", "seeds=4")}, 4, ("lr=1e-4,3e-4",)),
        ({"population": ("entropy=1e-3",)}, 1, ("entropy=1e-3",)),
    ],
)
def test_resolve_seeds_or_vary_returns_population_config(options, seeds, vary):
    plan = asked(changes={"task": "grid:DoorKey-5x5"}, **options)
    assert plan.cfg.population == PopulationConfig(seeds, vary)
    assert plan.folder == Path("runs/grid-DoorKey-5x5-population-seed0")


def test_resolve_existing_run_resumes_with_stored_configuration():
    first = asked("cartpole", {"seed": 5, "agent.optim.lr": 1e-3}, run="x")
    store(first)
    assert asked(run="x") == (first.cfg, Path("x"), True)
    assert asked("cartpole", run="x") == (first.cfg, Path("x"), True)
    longer = asked(run="x", changes={"steps": 10**6}).cfg
    assert schema.diff(first.cfg, longer) == [("steps", first.cfg.steps, 10**6)]


def test_resolve_other_preset_for_existing_run_returns_that_preset():
    store(asked("cartpole", run="x"))
    assert asked("pendulum", run="x") == (presets.build("pendulum"), Path("x"), True)


def test_resolve_changes_are_validated_against_stored_configuration():
    store(asked("quickstart", run="x", changes={"agent.rssm.blocks": 3, "agent.rssm.deter": 9}))
    assert asked(run="x", changes={"agent.rssm.deter": 12}).cfg.agent.rssm.deter == 12
    with pytest.raises(ConfigError, match="multiple of blocks"):
        asked(changes={"agent.rssm.deter": 12})


# Mistakes.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("trian", "there is no command 'trian'; did you mean train?"),
        ("fly", "there is no command 'fly'; there are " + ", ".join(cli.COMMANDS)),
        ("train cartpol", "there is no preset 'cartpol'; did you mean cartpole?"),
        (
            "train minigrid:Empty-5x5",
            "'minigrid:Empty-5x5' is a task, not a preset: --task minigrid:Empty-5x5",
        ),
        ("train quickstart cartpole", "dreamer train does not take 'cartpole'"),
        ("train --size 1mm", "there is no size '1mm'; did you mean 1m?"),
        (
            "train --agent.rssm.detr 4",
            "dreamer train has no option --agent.rssm.detr; did you mean --agent.rssm.deter?",
        ),
        (
            "train --loop.num-env 4",
            "dreamer train has no option --loop.num-env; did you mean --loop.num-envs?",
        ),
        ("train --zzz", "dreamer train has no option --zzz; see dreamer train --help"),
        ("train --foo", "dreamer train has no option --foo; see dreamer train --help"),
        ("train --env.kwarg {}", "dreamer train has no option --env.kwarg; did you mean --env.kwargs?"),
        ("doctor --env.kwarg {}", "dreamer doctor has no option --env.kwarg; did you mean --env.kwargs?"),
        (
            "train --env.size 8",
            "dreamer train has no option --env.size; did you mean --size?; arguments of the environment "
            """itself are --env.kwargs '{"size": ...}'""",
        ),
        ("train --eval", "--eval is a section; name one of its fields, as --eval.every"),
        ("train --steps", "--steps needs a value"),
        ("train --steps many", "steps must be a whole number of at least 1, but it is 'many'"),
        ("train --agent.rssm.deter 100", "agent.rssm.deter must be a multiple of blocks (8), but it is 100"),
        ("train --agent.dtype half", "agent.dtype must be one of auto, float32, bfloat16, but it is 'half'"),
        ("train --log.wandb=often", "log.wandb must be true or false, but it is 'often'"),
        ("train --config absent.toml", "absent.toml cannot be read: No such file or directory"),
        ("eval", "dreamer eval needs the folder of a run, as in dreamer eval runs/quickstart-seed0"),
        ("export", "dreamer export needs the folder of a run, as in dreamer export runs/quickstart-seed0"),
        ("export a b c", "dreamer export does not take 'c'"),
        ("export a --dtype half", "dtype must be one of float32, bfloat16, float16, but it is 'half'"),
        ("eval x --episode 3", "dreamer eval has no option --episode; did you mean --episodes?"),
        ("eval x --episodes 0", "episodes must be a whole number of at least 1, but it is 0"),
        ("bench --sizes 1m 2m", "there is no size '2m'; did you mean 25m?"),
        (
            "bench --obs sound",
            "obs must be a list whose entries are each one of vector, image, but it is ['sound']",
        ),
    ],
)
def test_main_user_mistake_prints_one_sentence_and_returns_2(words, sentence, capsys):
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"dreamer: {sentence}\n")
    assert main([*words.split(), "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {"error": sentence}


def test_train_missing_run_suggests_near_name_and_creates_nothing(capsys):
    store(asked("quickstart", run="runs/mine-seed0"))
    for words, near in (("runs/mine-sed0", "runs/mine-seed0"), ("mine", "runs/mine-seed0")):
        assert main(["train", "--run", words]) == 2
        err = capsys.readouterr().err
        assert f"there is no run {words} to resume; did you mean {near}?" in err
        assert f"dreamer train quickstart --run {words}" in err and not Path(words).exists()


def test_resolve_new_run_accepts_preset_task_or_config_file(tmp_path):
    (tmp_path / "some.toml").write_text("steps = 5")
    assert asked("quickstart", run="new").folder == Path("new")
    assert asked(run="new", changes={"task": "probe:chosen"}).cfg.task == "probe:chosen"
    assert asked(run="new", config="some.toml").cfg.steps == 5


def test_main_very_long_argument_prints_short_message(capsys):
    assert main(["train", "a" * 10_000]) == 2
    err = capsys.readouterr().err
    assert len(err) < 2500 and "there are quickstart" in err


def test_doctor_unknown_task_suggests_close_names(capsys):
    assert main(["doctor", "--task", "minigrid:DorKey-5x5"]) == 2
    assert "DoorKey-5x5" in capsys.readouterr().err


def test_exit_code_unknown_observation_is_user_mistake():
    with pytest.raises(envs.UnknownTask, match="'symbolic', 'rgb', 'full'") as error:
        envs.make("minigrid:Empty-5x5", obs="pixels")
    assert cli._exit_code(error.value) == 2


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/x"), 2, "/x: Permission denied"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (envs.EnvError("the environment\nbroke"), 2, "the environment broke"),
        (TrainingStopped("a loss is not finite"), 1, "a loss is not finite"),
    ],
)
def test_main_command_raises_returns_code_and_prints_sentence(error, code, sentence, capsys, monkeypatch):
    monkeypatch.setattr(envs_command, "show", lambda json: (_ for _ in ()).throw(error))
    assert main(["envs"]) == code
    assert capsys.readouterr().err == f"dreamer: {sentence}\n"


def test_main_internal_error_propagates_exception(monkeypatch):
    monkeypatch.setattr(envs_command, "show", lambda json: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["envs"])


# Help, envs, doctor.


@pytest.mark.parametrize("words", [["--help"], [], *([name, "--help"] for name in cli.COMMANDS)])
def test_main_help_prints_usage_and_returns_0(words, capsys):
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: dreamer") and not err


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_main_version_names_ours_and_what_it_stands_on(word, capsys):
    assert main([word]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"dreamer-toolkit {metadata.version('dreamer-toolkit')}")
    assert f"jax {metadata.version('jax')}" in line and "Python 3." in line


def test_train_help_lists_every_field_with_preset_values(capsys):
    main(["train", "pendulum", "--help"])
    out = capsys.readouterr().out
    assert all(f"--{path.replace('_', '-')}" in out for path in KINDS)
    assert "gymnasium:Pendulum-v1" in out
    assert all(name in out for name in (*presets.PRESETS, *SIZES))


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "--steps", "many"]])
def test_main_help_and_mistakes_do_not_load_jax(words):
    code = f"import sys; from experiments.cli import main; main({words!r}); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_envs_without_options_lists_every_suite(capsys):
    assert main(["envs"]) == 0
    out = capsys.readouterr().out
    assert all(suite.name in out for suite in envs.suites())
    assert main(["envs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["suites"]
    assert [row["name"] for row in rows] == [suite.name for suite in envs.suites()]
    assert all(row["tasks"] > 0 for row in rows if row["installed"] and row["name"] != "jax")


def test_envs_check_prints_findings_as_text_and_json(capsys):
    assert main(["envs", "--check", "probe:constant", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and found["task"] == "probe:constant"
    assert {f["status"] for f in found["findings"]} <= {"pass", "note"}
    assert main(["envs", "--check", "probe:constant"]) == 0
    assert "declared" in capsys.readouterr().out


def test_envs_check_json_with_printing_env_keeps_stdout_valid():
    command = ["envs", "--check", "gymnasium:faulty_env:Prints-v0", "--json"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    run = [sys.executable, "-m", "experiments.cli", *command]
    done = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0 and json.loads(done.stdout)["ok"]
    assert "a step" in done.stderr and "from native code" in done.stderr


@pytest.mark.parametrize(
    ("printed", "out", "err"),
    [
        (["a\n", "b", "\n", '{"x": 1}', "\n"], '{"x": 1}\n', "a\nb\n"),
        (['a\n{"x"', ": 1}\n"], '{"x": 1}\n', "a\n"),
        (["a\n", "\n"], "", "a\n\n"),
        ([], "", ""),
    ],
)
def test_json_alone_printed_text_keeps_only_json_on_stdout(capsys, printed, out, err):
    with cli.json_alone():
        for text in printed:
            print(text, end="")
    assert capsys.readouterr() == (out, err)


def test_doctor_endless_task_warns_of_missing_time_limit(capsys):
    assert main(["doctor", "--task", "gymnasium:faulty_env:Endless-v0", "--json"]) == 0
    (warning,) = [w for w in json.loads(capsys.readouterr().out)["warnings"] if "No episode" in w]
    assert "Endless-v0 ended in 1,000 random steps; it declares no time limit" in warning
    for task in ("gymnasium:faulty_env:Sound-v0", "minigrid:DoorKey-5x5", "grid:Catch"):
        assert doctor.plan(task, presets.build("quickstart"))["ends"] == ""
    raising = doctor.plan("gymnasium:faulty_env:Raises-v0", presets.build("quickstart"))
    assert raising["ends"].startswith("It cannot be played: gymnasium:faulty_env:Raises-v0, copy 0, step 3")


def test_envs_and_doctor_accept_env_arguments(monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(envs, "check", lambda task, **how: seen.update(how, task=task) or [])
    words = ["--kwargs", '{"size": 8}', "--env.max-episode-steps", "7", "--wrappers", "a:b", "c:d"]
    assert main(["envs", "--check", "probe:constant", *words]) == 0
    made = {"kwargs": {"size": 8}, "max_episode_steps": 7, "wrappers": ("a:b", "c:d")}
    assert seen == {"task": "probe:constant", **made}
    words = ["doctor", "--json", "--task", "minigrid:Empty-5x5", "--kwargs"]
    assert main([*words, '{"agent_view_size": 5}']) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["task"]["observations"]["object"].startswith("uint8[5, 5]")
    assert main([*words, '{"sise": 5}']) == 2
    assert "takes no argument 'sise'; did you mean size" in capsys.readouterr().err


def test_envs_check_failing_finding_returns_1(capsys, monkeypatch):
    broken = [envs.Finding("flags", "fail", "is_first and is_last coincide")]
    monkeypatch.setattr(envs, "check", lambda task: broken)
    assert main(["envs", "--check", "probe:constant", "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["ok"]


def test_doctor_with_task_reports_versions_machine_and_loop(capsys):
    assert main(["doctor", "--task", "minigrid:DoorKey-5x5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["jax"] and found["devices"]["backend"] == "cpu"
    assert found["machine"]["cores"] >= 1 and found["machine"]["disk_gib"] > 0
    assert found["task"]["task"] == "minigrid:MiniGrid-DoorKey-5x5-v0"
    assert found["task"]["loop"] == "host" and "Python" in found["task"]["why"]
    assert set(found["task"]["observations"]) == {"object", "color", "state", "direction"}
    assert main(["doctor"]) == 0
    assert "versions" in capsys.readouterr().out


def test_doctor_integer_array_prints_reading_note(capsys):
    assert main(["doctor", "--task", "gymnasium:cells:Cells-v0"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note ")]
    assert len(notes) == 1 and "'map' (uint8[5, 5] of 0 to 3) is read as categories" in notes[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["gymnasium:cells:Cells-v0", "--env.pixels", "mop"], "env.pixels names 'mop', but .* mean map?"),
        (["gymnasium:cells:Cells-v0", "--env.pixels", "at"], "'at' .* no Box of pixels"),
        (["gymnasium:cells:Cells-v0", "--env.pixels=map", "--env.categories=map"], "both name 'map'"),
        (["grid:Catch", "--env.categories", "board"], "env.categories is for Gymnasium environments"),
    ],
)
def test_train_invalid_array_reading_fails_before_run_is_created(words, sentence, capsys, tmp_path):
    run = tmp_path / "run"
    assert main(["train", "--task", *words, "--run", str(run)]) == 2
    assert re.search(sentence, capsys.readouterr().err) and not run.exists()


@pytest.mark.parametrize(("task", "loop"), [("grid:Catch", "fused"), ("minigrid:Empty-5x5", "host")])
def test_doctor_plan_task_names_loop_and_reason(task, loop):
    from experiments import doctor

    plan = doctor.plan(task, presets.build("quickstart"))
    assert plan["loop"] == loop and "16 copies" in plan["why"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"devices": {"nvidia": True, "backend": "cpu"}}, "dreamer-toolkit[gpu]"),
        ({"machine": {"disk_gib": 0.5, "memory_gib": 8}}, "0.5 GiB of disk"),
        ({"task": {"replay_gib": 9}}, "replay.capacity"),
        ({"versions": {"dreamer-toolkit": "not installed"}}, "pip install -e ."),
    ],
)
def test_doctor_warnings_unhealthy_machine_contains_hint(changes, words):
    healthy = {
        "devices": {"nvidia": False, "backend": "cpu"},
        "machine": {"disk_gib": 50, "memory_gib": 8},
        "versions": {"dreamer-toolkit": "0.1.0"},
    }
    assert doctor.warnings(healthy) == []
    (warning,) = doctor.warnings(healthy | changes)
    assert words in warning


# What commands are called with.


def test_train_command_passes_configuration_folder_and_options(monkeypatch):
    from experiments.training import run

    seen = SimpleNamespace()
    monkeypatch.setattr(
        run, "train", lambda cfg, folder, **rest: vars(seen).update(cfg=cfg, folder=folder, **rest) or 7
    )
    words = "train cartpole --run x --seed 3 --force replay.capacity agent.optim.lr --json"
    assert main(words.split()) == 7
    expected = schema.replace_path(presets.build("cartpole"), "seed", 3)
    assert vars(seen) == {
        "cfg": expected,
        "folder": Path("x"),
        "json": True,
        "force": ("replay.capacity", "agent.optim.lr"),
        "fresh": False,
        "without_replay": False,
    }


def test_train_default_folder_with_run_prints_notice(monkeypatch, capsys):
    from experiments.training import run

    monkeypatch.setattr(run, "train", lambda *args, **rest: 0)
    store(asked())
    assert main(["train"]) == 0
    assert "runs/quickstart-seed0 holds a run" in capsys.readouterr().err


def test_eval_command_passes_options(monkeypatch):
    from experiments import evaluate

    seen = {}
    monkeypatch.setattr(evaluate, "evaluate", lambda run, **rest: seen.update(run=run, **rest) or 0)
    assert main(["eval", "runs/x", "--episodes", "3", "--seed", "1000", "--sampled"]) == 0
    how = {"episodes": 3, "seed": 1000, "actor": "sampled", "num_envs": 0, "max_steps": 0}
    how |= {"out": "", "json": False, "task": ""}
    assert seen.pop("wanted").wishes == ()
    assert seen == {"run": Path("runs/x"), **how}


@pytest.mark.parametrize(
    ("words", "actor", "notice"),
    [
        ("", "greedy", ""),
        ("--actor random", "random", ""),
        ("--sampled", "sampled", "--sampled is now --actor sampled\n"),
        ("--sampled --actor sampled", "sampled", "--sampled is now --actor sampled\n"),
    ],
)
def test_eval_actor_or_older_flag_is_passed_as_actor(monkeypatch, capsys, words, actor, notice):
    from experiments import evaluate

    seen = {}
    monkeypatch.setattr(evaluate, "evaluate", lambda run, **rest: seen.update(rest) or 0)
    assert main(["eval", "runs/x", *words.split()]) == 0
    assert seen["actor"] == actor and capsys.readouterr() == ("", notice)


def test_eval_sampled_with_other_actor_is_rejected(capsys):
    assert main(["eval", "runs/x", "--sampled", "--actor", "greedy"]) == cli.MISTAKE
    expected = "dreamer: --sampled and --actor greedy contradict each other: give --actor alone\n"
    assert capsys.readouterr() == ("", expected)


def test_eval_unknown_actor_prints_one_sentence_with_known_ones(capsys):
    from dreamer.actors import ACTORS

    assert main(["eval", "runs/x", "--actor", "dreamy"]) == cli.MISTAKE
    expected = f"dreamer: there is no actor 'dreamy'; there are {', '.join(ACTORS)}\n"
    assert capsys.readouterr() == ("", expected)


def test_eval_help_names_every_actor(capsys):
    from dreamer.actors import ACTORS

    assert main(["eval", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ACTORS)


def test_resolve_stored_config_file_reproduces_configuration():
    store(asked("pendulum", {"seed": 9}, run="x"))
    again = asked(config="x/config.toml", run="y")
    assert again.cfg == config.load_toml("x/config.toml")


def test_eval_seed_in_training_range_is_rejected(capsys):
    assert cli.main(["eval", "nowhere", "--seed", str(2**30 - 10), "--episodes", "20"]) == cli.MISTAKE
    assert "below the training seeds" in capsys.readouterr().err


def test_doctor_mesh_lists_bytes_per_device_and_split_parameters(capsys):
    words = ["doctor", "--size", "12m", "--loop.mesh", "data=2,fsdp=4", "--memory", "80"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert re.search(r"^mesh +data=2,fsdp=4: 1\d,\d{3},\d{3} parameters$", out, re.MULTILINE)
    assert re.search(r"^split +[1-9]\d* parameters; \d+ are whole on every device$", out, re.MULTILINE)
    assert "along" in out and "of 80.00 GiB on each device" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--size 400m --loop.mesh data=8 --memory 4", "what would fit: --loop.mesh data=4,fsdp=2"),
        ("--size 4m", "there is no size '4m'"),
        ("--size 12m --loop.mesh tensor=2", "mesh names 'tensor', which is no axis"),
    ],
)
def test_doctor_mesh_that_cannot_be_is_one_sentence(words, sentence, capsys):
    assert main(["doctor", *words.split()]) == 2
    err = capsys.readouterr().err
    assert sentence in err and "Traceback" not in err and len(err.strip().splitlines()) == 1
