"""A task that is no longer what an agent was trained on: one sentence, whichever door it comes through."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

import dreamer
from dreamer import export
from dreamer.schema import ConfigError
from envs.api import Space
from experiments.agreement import agree, spaces
from experiments.cli import main

TASK = "gymnasium:CartPole-v1"
NUMBERS, CHOICE = Space((2,), "float32"), Space((), "int32", 3)
TRAINED = SimpleNamespace(obs_space={"vector": NUMBERS}, act_space={"action": CHOICE})


def world(obs=None, act=None):
    was = lambda now, before: before if now is None else now
    return SimpleNamespace(obs_space=was(obs, TRAINED.obs_space), act_space=was(act, TRAINED.act_space))


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (world({"vector": Space((3,), "float32")}), "observation 'vector' is float32[2], but .* float32[3]"),
        (
            world({"x": NUMBERS}),
            "'vector' is float32[2], but the task has nothing of .* instead 'x', float32[2]",
        ),
        (
            world({"vector": NUMBERS, "x": NUMBERS}),
            "observation 'x' is nothing, but the task has float32[2]",
        ),
        (world({"image": Space((8, 8, 3), "uint8")}), "'vector' is float32[2], .* 'image', uint8[8, 8, 3]"),
        (world(act={}), "action 'action' is int32[] of 3 classes, but the task has nothing of that name$"),
        (
            world(act={"action": Space((), "int32", 5)}),
            "action 'action' is int32[] of 3 classes, but the task has int32[] of 5 classes",
        ),
        (world(act={"action": Space((1,), "float32")}), "of 3 classes, but the task has float32[1]"),
    ],
)
def test_agree_differing_spaces_names_first_differing_key(now, sentence):
    pattern = "^runs/x was trained with other spaces and does not fit a:b: its .*" + sentence.replace(
        "[", r"\["
    )
    with pytest.raises(ConfigError, match=pattern):
        agree("runs/x", "a:b", spaces(TRAINED), now)


def test_agree_extra_log_or_unread_keys_are_accepted():
    agree("run", "a:b", spaces(TRAINED), world({"vector": NUMBERS, "log/success": Space((), "float32")}))
    more = world({"vector": NUMBERS, "x": NUMBERS})
    agree("run", "a:b", spaces(TRAINED), more, more=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of another task than its configuration says, and the file exported from it."""
    empty = jax.eval_shape(tiny.agent().init, jax.random.key(0))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), empty)
    folder = tiny.store(tmp_path_factory.mktemp("runs") / "run", state, tiny.agent(), task=TASK)
    file = folder.parent / "agent.safetensors"
    export.save(dreamer.load(folder), file)
    return folder, file


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "RUN"],
        ["eval", "FILE"],
        ["report", "RUN"],
        ["report", "RUN", "RUN"],
        ["play", "RUN", "--port", "0"],
        ["play", "FILE", "--port", "0"],
        ["train", "--run", "RUN", "--steps", "2000"],
        ["compare", "--task", TASK, "--agents", "run:RUN", "--out", "OUT"],
    ],
)
def test_commands_with_mismatched_task_report_spaces_in_one_sentence(trained, words, capsys, tmp_path):
    run, file = trained
    real = {"RUN": str(run), "FILE": str(file), "OUT": str(tmp_path), "run:RUN": f"run:{run}"}
    assert main([real.get(word, word) for word in words]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"does not fit {TASK}: its observation" in told
    assert "'vector' is float32[3], but the task has float32[4]" in told
