"""No module in the folder of a run or a sweep runs unasked, whoever names it and however."""

import json
import sys
from pathlib import Path

import pytest

import envs
from dreamer import schema
from dreamer.config import Config
from envs import modules, trust
from envs.trust import Untrusted, guarding

RUNS = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"
"""A module that leaves a trace."""
REGISTERS = RUNS + "import gymnasium\ngymnasium.register('Gift-v0', entry_point='gymnasium:Env')\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("runs", "gift", "present", "own", "loose"):
            del sys.modules[name]
    import gymnasium

    gymnasium.registry.pop("Gift-v0", None)


def write(path: str, text: str = REGISTERS) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def gift(folder: str = "runs/gift", task: str = "gymnasium:runs.gift.present:Gift-v0") -> Path:
    """A module in the folder of a run that names it."""
    file = write(f"{folder}/present.py")
    write(f"{folder}/config.toml", schema.dump_toml(Config(task=task, steps=1)))
    return file


def ran() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*.ran"))


@pytest.mark.parametrize(
    "words", [["runs/gift"], ["--run", "runs/gift"], ["--run=runs/gift"], ["--agents", "run:runs/gift"], []]
)
def test_guard_module_in_a_run_folder_is_not_executed(words):
    file = gift()
    with guarding(words, trusted=False), pytest.raises(Untrusted, match="--trust") as error:
        envs.canonical("gymnasium:runs.gift.present:Gift-v0")
    assert str(file.absolute()) in str(error.value) and ran() == []


def test_guard_packages_and_absent_modules_in_a_run_folder_are_refused():
    gift()
    write("runs/gift/__init__.py", RUNS)
    write("runs/gift/deep/__init__.py", RUNS)
    with guarding(["runs/gift"], trusted=False):
        for module in ("runs.gift.deep.world", "runs.gift.absent", "runs.gift"):
            with pytest.raises(Untrusted):
                modules.import_module(module)
    assert ran() == []


def test_guard_module_in_a_sweep_or_beside_an_export_is_not_executed():
    write("runs/gift/present.py")
    write("runs/sweep.toml", "")
    write("runs/storage.json", "{}")
    write("own/loose.py")
    Path("own/agent.safetensors").write_bytes(bytes(8) + b"{}")
    with guarding(["own/agent.safetensors"], trusted=False):
        for module in ("runs.gift.present", "own.loose"):
            with pytest.raises(Untrusted):
                modules.import_module(module)
    assert ran() == []


def test_guard_current_folder_is_the_run_is_not_importable(monkeypatch):
    gift("runs/gift", "gymnasium:present:Gift-v0")
    monkeypatch.chdir("runs/gift")
    with guarding(["."], trusted=False):
        with pytest.raises(Untrusted):
            envs.canonical("gymnasium:present:Gift-v0")
        modules.import_module("json")
        assert str(Path.cwd()) not in sys.path  # where somebody's `moviepy.py` may wait to be imported
    assert ran() == []


def test_guard_symbolic_links_do_not_bypass_it():
    gift("elsewhere/gift")
    Path("runs").mkdir()
    Path("runs/gift").symlink_to(Path("elsewhere/gift").absolute())
    with guarding(["runs/gift"], trusted=False), pytest.raises(Untrusted):
        modules.import_module("runs.gift.present")
    with guarding(["runs/gift"], trusted=False), pytest.raises(Untrusted):
        modules.import_module("elsewhere.gift.present")


def test_guard_wrapper_module_in_a_run_folder_is_refused():
    gift()
    with guarding(["runs/gift"], trusted=False), pytest.raises(Untrusted):
        envs.make("gymnasium:CartPole-v1", wrappers=["runs.gift.present:wrap"])
    assert ran() == []


def test_guard_trusted_run_is_executed():
    gift()
    with guarding(["runs/gift"], trusted=True):
        assert envs.canonical("gymnasium:runs.gift.present:Gift-v0")
    assert ran() == ["runs/gift/present.ran"]


def test_guard_module_named_by_a_file_is_reported_once(capsys):
    file = write("own.py", RUNS)
    with guarding([], trusted=False):
        modules.import_module("own")
        modules.import_module("own")
        modules.import_module("gymnasium.envs.classic_control")
    assert capsys.readouterr().err == f"importing the module 'own', which a file names: {file.absolute()}\n"


def test_guard_module_named_by_the_user_is_not_reported(capsys):
    write("own.py", RUNS)
    with guarding(["--task", "gymnasium:own:My-v0", "--run", "new"], trusted=False):
        modules.import_module("own")
    assert capsys.readouterr().err == "" and ran() == ["own.ran"]


def test_guard_is_nested_restored_and_inherited_by_processes(monkeypatch):
    assert trust.guard() is None
    with guarding(["--trust"], trusted=True), guarding(["x"], trusted=False):
        standing = trust.guard()
        assert standing is not None and standing.trusted
    assert trust.guard() is None
    monkeypatch.setenv(trust.VARIABLE, json.dumps({"folders": ["/a"], "trusted": False}))
    assert trust.guard() == trust.Guard(folders=("/a",))


def test_guard_project_with_a_config_file_is_no_run(capsys):
    write("config.toml", "title = 'mine'\n")
    Path("checkpoints").mkdir()
    write("own.py", RUNS)
    with guarding(["--task", "gymnasium:own:My-v0"], trusted=False):
        modules.import_module("own")
    assert ran() == ["own.ran"]


@pytest.mark.parametrize("inner", ["checkpoints/step-1", "members/000", "trials/0001"])
def test_opened_inner_folder_resolves_to_the_whole_run(inner):
    Path("run", inner, "checkpoints").mkdir(parents=True)
    assert str(Path("run").absolute()) in trust.opened([f"run/{inner}", "\0", "a" * 9999, "absent"])
    assert str(Path("run").absolute()) in trust.opened([f"run:run/{inner}@sampled"])
