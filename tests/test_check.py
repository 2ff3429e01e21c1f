"""check finds what was planted, and finds nothing in sound environments."""

import re
import warnings

import gymnasium
import numpy as np
import pytest
from faulty_env import FAULTS, ODD, Sound
from gymnasium import spaces

import envs
from envs.api import Step
from envs.check import Recording, bounds, first_end, time_limit

MY = "gymnasium:faulty_env:"


def findings(task, steps=60, elsewhere=False):
    return {f.name: f for f in envs.check(task, steps, elsewhere=elsewhere)}


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
def test_check_sound_environments_pass(task):
    found = findings(task)
    assert failed(found) == set()
    assert len(found) == 15


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
        ("ExitsWhenBuilt", "building", "ExitsWhenBuilt-v0 cannot be built: it raised SystemExit: no licence"),
        ("Exits", "playing", "step 3 .*it raised SystemExit: 3, which would end the program"),
        ("Bounds", "bounds", "^'offset' in slot 3 contains [123].[0-9]+, above its declared bound of 1$"),
        ("ByAddress", "deterministic", "'token' differs at slot 0, .*: something besides the seed decides"),
        ("ByAddress", "copies", "something besides the seed decides .*an address"),
    ],
)
def test_check_planted_fault_fails_with_message(fault, name, message):
    finding = findings(f"{MY}{fault}-v0")[name]
    assert finding.status == "fail"
    assert re.search(message, finding.message), finding.message


@pytest.mark.parametrize(
    ("fault", "name", "message"),
    [
        ("LimitAsEnd", "endings", "time limit"),
        ("LosesTheEnd", "final observation", "is the final one lost"),
        ("Endless", "endings", "no episode ended in 60 steps; it declares no time limit"),
    ],
)
def test_check_suspicious_environment_adds_note(fault, name, message):
    finding = findings(f"{MY}{fault}-v0")[name]
    assert finding.status == "note" and message in finding.message


def test_check_every_planted_fault_changes_findings():
    sound = findings(MY + "Sound-v0")
    for fault in FAULTS:
        if fault.__name__ in ("Dies", "ByHash"):  # takes this process with it, differs only in another
            continue
        faulty = findings(f"{MY}{fault.__name__}-v0")
        assert {n: f.status for n, f in sound.items()} != {n: f.status for n, f in faulty.items()}, fault


@pytest.mark.parametrize(("fault", "key"), [("ByAddressOnce", "token"), ("ByHash", "offset")])
def test_check_difference_between_processes_fails(fault, key):
    found = findings(f"{MY}{fault}-v0", 20, elsewhere=True)
    assert failed(found) == {"processes"}
    what = f"'{key}' differs at slot 0, .* in another process: something besides the seed decides"
    assert re.search(what, found["processes"].message)


def test_check_deterministic_environment_passes_across_processes():
    assert findings(MY + "Sound-v0", 20, elsewhere=True)["processes"].status == "pass"


def test_check_unusual_but_valid_environments_pass():
    for env in ODD:
        assert failed(unclosed(env.__name__)) == set(), env


def unclosed(name):
    """What is found in an environment whose closing may fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return findings(f"{MY}{name}-v0", 30)


def test_check_task_registered_only_here_has_note_for_processes():
    gymnasium.register("OnlyHere-v0", entry_point=Sound)
    found = findings("gymnasium:OnlyHere-v0", 30, elsewhere=True)["processes"]
    assert found.status == "note" and "Gymnasium has no task 'OnlyHere-v0'" in found.message


def test_time_limit_of_task_returns_declared_limit():
    for task, limit in (
        ("gymnasium:CartPole-v1", 500),
        ("minigrid:Empty-5x5", 100),
        (MY + "OldStepWithLimit-v0", 50),
        (MY + "Endless-v0", None),
        ("grid:Empty-5x5", None),
    ):
        env = envs.make(task)
        assert time_limit(env) == limit
        env.close()
    assert findings("gymnasium:MountainCar-v0")["endings"].message.endswith("its time limit is 200 steps")


def test_first_end_random_play_returns_step_of_episode_end():
    assert first_end(envs.make("probe:delayed")) == (2, True)
    assert first_end(envs.make(MY + "Endless-v0"), 40) == (40, False)
    assert first_end(envs.make(MY + "Endless-v0"), seconds=0.0) == (1, False)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([-9, -9], [9, 9], ""),
        ([np.nan, -9], [9, np.nan], ""),
        ([-np.inf, -9], [np.inf, 9], ""),
        ([2 + 1e-6, -9], [9, 9], ""),
        ([2.1, -9], [9, 9], "'x' in slot 1 contains 2, below its declared bound of 2.1"),
        ([-9, -9], [9, 3.5], "'x' in slot 1 contains 4, above its declared bound of 3.5"),
    ],
)
def test_bounds_observation_outside_declared_range_fails(low, high, message):
    space = {"x": envs.Space((2,), "float32")}
    blank = np.zeros(2)
    steps = [Step({"x": np.array(x, np.float32)}, *[blank] * 4) for x in ([[3, 3]] * 2, [[2, 3], [3, 4]])]
    found = bounds(Recording(space, steps, steps), {"x": np.array(low)}, {"x": np.array(high)})
    assert (found.status, found.message) == ("fail", message) if message else found.status == "pass"


def test_check_nested_observation_out_of_bounds_names_key_and_slot():
    class Nested(gymnasium.Env):
        action_space = spaces.Discrete(2)

        def __init__(self):
            numbers = spaces.Box(0, 9, (3,), np.float32)
            pair = spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiDiscrete([2, 3])])
            parts = {"numbers": numbers, "pair": pair, "bits": spaces.MultiBinary(4)}
            self.observation_space = spaces.Dict(parts)

        def reset(self, *, seed=None, options=None):
            self.observation_space.seed(seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            obs = self.observation_space.sample()
            obs["numbers"][1] = 9 + action
            return obs, 0.0, False, False, {}

    gymnasium.register("Nested-v0", entry_point=Nested, max_episode_steps=10)
    found = findings("gymnasium:Nested-v0", 20)
    assert failed(found) == {"bounds"}
    assert found["bounds"].message == "'numbers' in slot 2 contains 10, above its declared bound of 9"


def test_check_unsupported_space_fails():
    class Text(gymnasium.Env):
        observation_space = spaces.Text(5)
        action_space = spaces.Discrete(2)

    gymnasium.register("Text-v0", entry_point=Text)
    (finding,) = envs.check("gymnasium:Text-v0")
    assert finding.status == "fail" and "Text" in finding.message


def test_check_unknown_task_raises_unknown_task():
    with pytest.raises(envs.UnknownTask):
        envs.check("gymnasium:Nothing-v0")


def test_check_integer_array_read_as_categories_adds_note():
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
def test_check_faulty_vector_env_fails(fault):
    assert fault in failed(findings(Broken(fault)))


def test_check_sound_vector_env_passes():
    assert failed(findings(Broken(""))) == set()


def test_finding_str_is_one_line():
    assert str(envs.Finding("flags", "pass", "fine")) == "pass  flags: fine"
