"""check finds what was planted, and finds nothing in sound environments."""

import numpy as np
import pytest
from faulty_env import FAULTS

import envs
from envs.api import Step

MY = "gymnasium:faulty_env:"


def findings(task, steps=60):
    return {f.name: f for f in envs.check(task, steps)}


def failed(found):
    return {name for name, finding in found.items() if finding.status == "fail"}


@pytest.mark.parametrize(
    "task",
    [
        MY + "Sound-v0",
        "gymnasium:CartPole-v1",
        "gymnasium:Pendulum-v1",
        "minigrid:DoorKey-5x5",
        "minigrid:BabyAI-GoToLocal",
    ],
)
def test_sound_environments_pass(task):
    found = findings(task)
    assert failed(found) == set()
    assert len(found) == 14


@pytest.mark.parametrize(
    ("fault", "name", "message"),
    [
        ("NaNObservation", "playing", "step 3 .*'offset' contains nan"),
        ("WrongShape", "playing", "has the shape"),
        ("WrongDtype", "playing", "has the dtype"),
        ("WrongKeys", "playing", "has the keys"),
        ("WrongClass", "playing", "expected one of 0..12"),
        ("NaNReward", "playing", "the reward contains nan"),
        ("ArrayReward", "playing", "the reward is array"),
        ("Raises", "playing", "ZeroDivisionError"),
        ("IgnoresSeed", "deterministic", "'offset' differs at slot 0"),
        ("IgnoresSeed", "copies", "differ in 'offset' at slot 0"),
        ("Leaks", "deterministic", "'offset' differs at slot"),
        ("CannotBeBuilt", "building", "no licence"),
    ],
)
def test_planted_faults_are_found(fault, name, message):
    import re

    finding = findings(f"{MY}{fault}-v0")[name]
    assert finding.status == "fail"
    assert re.search(message, finding.message), finding.message


@pytest.mark.parametrize(
    ("fault", "name", "message"),
    [("LimitAsEnd", "endings", "time limit"), ("LosesTheEnd", "final observation", "is the final one lost")],
)
def test_suspicions_are_notes(fault, name, message):
    finding = findings(f"{MY}{fault}-v0")[name]
    assert finding.status == "note" and message in finding.message


def test_every_planted_fault_is_noticed():
    for fault in FAULTS:
        if fault.__name__ == "Dies":  # it would take this process with it
            continue
        sound, faulty = findings(MY + "Sound-v0"), findings(f"{MY}{fault.__name__}-v0")
        assert {n: f.status for n, f in sound.items()} != {n: f.status for n, f in faulty.items()}, fault


def test_unsupported_space_is_a_finding():
    import gymnasium

    class Text(gymnasium.Env):
        observation_space = gymnasium.spaces.Text(5)
        action_space = gymnasium.spaces.Discrete(2)

    gymnasium.register("Text-v0", entry_point=Text)
    (finding,) = envs.check("gymnasium:Text-v0")
    assert finding.status == "fail" and "Text" in finding.message


def test_unknown_task_is_the_callers_mistake():
    with pytest.raises(envs.UnknownTask):
        envs.check("gymnasium:Nothing-v0")


def test_how_arrays_are_read_is_a_note():
    note = findings("gymnasium:cells:Cells-v0")["images"]
    assert note.status == "note"
    assert "'map' (uint8[5, 5] of 0 to 3) is read as categories, 4 an entry; --env.pixels map" in note.message
    assert findings("gymnasium:CartPole-v1")["images"].status == "pass"


class Broken:
    """A vector environment of someone else that breaks one invariant of the stream."""

    task, num_envs = "broken", 2
    act_space = {"action": envs.Space((), "int32", 2)}

    def __init__(self, fault):
        self.inner = envs.make(MY + "Sound-v0", 2)
        self.obs_space = self.inner.obs_space
        self.fault = fault
        self.buffer = np.zeros(2, np.int32)

    def reset(self, seeds=None):
        self.action = np.zeros(2, int)
        return self.broken(self.inner.reset(seeds))

    def step(self, action, seeds=None):
        self.action = action["action"]
        return self.broken(self.inner.step(action, seeds))

    def broken(self, step: Step) -> Step:
        match self.fault:
            case "flags":
                return step._replace(is_terminal=step.is_last | step.is_first)
            case "first reward":
                return step._replace(reward=step.reward + step.is_first.astype(np.float32))
            case "declared":
                return step._replace(reward=step.reward.astype(np.float64))
            case "values":
                return step._replace(obs={**step.obs, "offset": step.obs["offset"] / 0.0})
            case "own memory":
                self.buffer[:] = step.obs["count"]
                return step._replace(obs={**step.obs, "count": self.buffer})
            case "ignored action":
                leak = step.obs["offset"] + (step.is_first * self.action)[:, None].astype(np.float32)
                return step._replace(obs={**step.obs, "offset": leak})
            case _:
                return step

    def close(self):
        self.inner.close()


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(
    "fault", ["flags", "first reward", "declared", "values", "own memory", "ignored action"]
)
def test_faults_of_other_vectors_are_found(fault):
    assert fault in failed(findings(Broken(fault)))


def test_other_vectors_pass_if_sound():
    assert failed(findings(Broken(""))) == set()


def test_finding_reads_as_a_line():
    assert str(envs.Finding("flags", "pass", "fine")) == "pass  flags: fine"
