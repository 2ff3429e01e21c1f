"""A user's modules are found wherever they lie, and ours whatever they are called."""

import os
import re
import subprocess
import sys

import pytest

import envs
from envs import modules
from envs.adapters import MissingExtra, UnknownTask

WORLD = """
import gymnasium, numpy
class World(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Discrete(3), gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return int(self.np_random.integers(3)), {}
    def step(self, action):
        self.left -= 1
        return int(self.np_random.integers(3)), 1.0, self.left == 0, False, {}
"""


def registers(name: str, place: str) -> str:
    return f"import gymnasium\ngymnasium.register('{name}', entry_point={place})\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder that Python forgets afterwards, and what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    registered, before = dict(envs.make("probe:constant") and _registry()), set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in (modules.ALIAS, "sub", "alone", "raises", "exits", "lacks", "late"):
            del sys.modules[name]
    modules._aliases.clear()
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not modules._Finder]
    _registry().clear()
    _registry().update(registered)


def _registry():
    import gymnasium

    return gymnasium.registry


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("ours", modules.OURS)
@pytest.mark.parametrize("regular", [True, False])
def test_import_module_user_folder_named_like_a_package_of_ours_is_found(folder, ours, regular):
    write(folder, {f"{ours}/world.py": WORLD, f"{ours}/deep/wrappers.py": "NUMBER = 7\n"})
    if regular:
        (folder / ours / "__init__.py").write_text("HERE = True\n")
    lines = [
        "from .world import World",
        f"from {ours}.deep.wrappers import NUMBER",
        f"from {ours}.deep import wrappers",
        f"import {ours}.deep.wrappers",
        f"assert {ours}.deep.wrappers.NUMBER == NUMBER == wrappers.NUMBER == 7",
        "from envs.api import Space",  # which they lack: ours
        "def later():",
        f"    from {ours} import world",
        "    return world.World is World",
        registers("Mine-v0", f"'{ours}.mine:World'"),
    ]
    write(folder, {f"{ours}/mine.py": "\n".join(lines)})
    env = envs.make(f"gymnasium:{ours}.mine:Mine-v0", 2)
    assert env.task == f"gymnasium:{ours}.mine:Mine-v0" and env.reset([0, 1]).is_first.all()
    assert sys.modules[f"{modules.ALIAS}.{ours}.mine"].later()
    assert sys.modules[ours].__file__ == os.path.join(modules.HERE, ours, "__init__.py")


def test_import_module_user_module_named_like_one_of_ours_is_preferred(folder):
    write(folder, {"envs/wrappers.py": WORLD + registers("Mine-v0", "World"), "envs/make.py": "A = 1\n"})
    assert envs.make("gymnasium:envs.wrappers:Mine-v0").act_space["action"].classes == 2
    assert modules.import_module("envs.make").A == 1 and not hasattr(envs.make, "A")


def test_import_module_only_ours_exists_returns_ours(folder):
    write(folder, {"envs/mine.py": ""})
    assert modules.import_module("envs.catch").Catch().task == "grid:Catch"


@pytest.mark.parametrize("place", ["World", "'envs:World'"])
@pytest.mark.parametrize("file", ["envs.py", "envs/__init__.py"])
def test_make_world_in_a_single_file_or_package_root_is_found(folder, file, place):
    write(folder, {file: WORLD + registers("Mine-v0", place)})
    assert envs.make("gymnasium:envs:Mine-v0").num_envs == 1


def test_make_world_in_a_nested_folder_is_found(folder):
    write(folder, {"sub/deep/mine.py": WORLD + registers("Mine-v0", "'sub.deep.mine:World'")})
    assert envs.make("gymnasium:sub.deep.mine:Mine-v0").num_envs == 1


def test_make_installed_package_of_the_same_name_does_not_hide_the_folder(folder, monkeypatch):
    write(folder, {"site/alone/__init__.py": "", "alone/mine.py": WORLD + registers("Mine-v0", "World")})
    monkeypatch.syspath_prepend(str(folder / "site"))
    assert envs.make("gymnasium:alone.mine:Mine-v0").num_envs == 1


@pytest.mark.parametrize(
    ("task", "error", "sentence"),
    [
        ("envs.absent:My-v0", UnknownTask, "there is no module 'envs.absent' here ('envs' is also a package"),
        ("absent:My-v0", UnknownTask, "there is no module 'absent' here: install it or run from the folder"),
        ("sub/mine.py:My-v0", UnknownTask, "a module is named with dots; did you mean sub.mine?"),
        ("sub/mine:My-v0", UnknownTask, "a module is named with dots; did you mean sub.mine?"),
        ("raises:My-v0", UnknownTask, "importing the module 'raises' failed with RuntimeError: no licence"),
        ("envs.raises:My-v0", UnknownTask, "the module 'envs.raises' failed with RuntimeError: no licence"),
        ("exits:My-v0", UnknownTask, "importing the module 'exits' failed with SystemExit: 3"),
        ("lacks:My-v0", MissingExtra, "the module 'lacks' needs a missing package: No module named 'absent'"),
        ("envs.lacks:My-v0", MissingExtra, "the module 'envs.lacks' needs a missing package: No module"),
        ("late:My-v0", MissingExtra, "late:My-v0 needs a missing package: No module named 'absent'"),
        ("late:Other-v0", envs.EnvError, "late:Other-v0 cannot be built: it raised AttributeError: module"),
    ],
)
def test_make_module_that_cannot_be_imported_raises_one_sentence(folder, task, error, sentence):
    raises = "raise RuntimeError('no licence\\nhere')"
    late = registers("My-v0", "'absent:My'") + registers("Other-v0", "'late:Absent'")
    write(folder, {"raises.py": raises, "envs/raises.py": raises, "exits.py": "raise SystemExit(3)"})
    write(folder, {"lacks.py": "import absent", "envs/lacks.py": "import absent", "late.py": late})
    with pytest.raises(error, match=re.escape(sentence)) as raised:
        envs.make(f"gymnasium:{task}")
    assert "\n" not in str(raised.value)


def run(code, folder):
    """What Python says whose path begins with a user's folder."""
    path = os.pathsep.join([str(folder), str(modules.HERE)])
    command = [sys.executable, "-c", code]
    surroundings = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd="/", env=surroundings, capture_output=True, text=True)


def test_find_shadowed_packages_still_imports_ours_in_worker_processes(tmp_path):
    write(tmp_path, {f"{name}/__init__.py": "raise ImportError('the wrong one')" for name in modules.OURS})
    write(
        tmp_path, {"envs/__init__.py": "", "envs/mine.py": WORLD + registers("Mine-v0", "'envs.mine:World'")}
    )
    code = (
        "import dreamer_cli; dreamer_cli.find(); import envs\n"
        "env = envs.make('gymnasium:envs.mine:Mine-v0', 1, parallel=True)\n"
        "print(env.reset([0]).is_first); env.close()"
    )
    done = run(code, tmp_path)
    assert (done.stdout, done.stderr) == ("[ True]\n", "")


def test_load_shadowed_envs_package_raises_naming_the_conflict(tmp_path):
    write(tmp_path, {"envs/__init__.py": ""})
    done = run("import envs, dreamer\ntry: dreamer.load\nexcept ImportError as error: print(error)", tmp_path)
    taken = f"needs its package 'envs' in {modules.HERE}, but {tmp_path}/envs/__init__.py was imported"
    assert taken in done.stdout and done.stdout.count("\n") == 1
    done = run("from dreamer.packages import claim\nclaim('envs')\nimport envs.api", tmp_path)
    assert done.returncode == 0
