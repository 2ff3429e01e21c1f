"""dm: ends of dm_env as those of Gymnasium, and errors of dm_control as sentences."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from envs.adapters import MissingExtra, UnknownTask
from envs.api import EnvError
from envs.dm import World, loading, written_for


class Counting:
    """A world of dm_env that gives the number of the step as its reward and ends after `length` steps."""

    def __init__(self, length, discount):
        self.length, self.discount, self.closed, self.seed = length, discount, 0, None

    def reset(self):
        self.t = 0
        return self._now()

    def step(self, action):
        self.t += 1
        return self._now()

    def close(self):
        self.closed += 1

    def _now(self):
        last = self.t == self.length
        discount = self.discount if last else 1.0
        return SimpleNamespace(
            observation={"t": self.t}, reward=float(self.t), discount=discount, last=lambda: last
        )


def world(begin, **kwargs):
    return World("dmc:x", begin, lambda _, seen: seen, (None, None), **kwargs)


@pytest.mark.parametrize(
    ("discount", "ends"), [(0.0, (True, False)), (0.5, (False, True)), (1.0, (False, True))]
)
def test_world_last_step_is_terminal_only_with_discount_0(discount, ends):
    env = world(lambda seed: Counting(2, discount))
    env.reset(seed=0)
    assert env.step(0) == ({"t": 1}, 1.0, False, False, {})
    assert env.step(0) == ({"t": 2}, 2.0, *ends, {})


def test_world_terminal_step_at_the_limit_is_not_truncated():
    env = world(lambda seed: Counting(2, 0.0), max_episode_steps=2)
    env.reset(seed=0)
    env.step(0)
    assert env.step(0)[2:4] == (True, False)


def test_world_repeated_action_sums_rewards_to_the_end():
    env = world(lambda seed: Counting(5, 1.0), action_repeat=3, limit=5)
    env.reset(seed=0)
    assert env.step(0) == ({"t": 3}, 1.0 + 2.0 + 3.0, False, False, {})
    assert env.step(0) == ({"t": 5}, 4.0 + 5.0, False, True, {})
    assert env.spec.max_episode_steps == 2


def test_world_reset_begins_with_its_seed_and_draws_one_without():
    seeds = []
    env = world(lambda seed: seeds.append(seed) or Counting(1, 1.0))
    env.reset(seed=5)
    env.reset()
    env.reset()
    env.reset(seed=5)
    env.reset()
    assert seeds[0] == seeds[3] == 5 and seeds[1] == seeds[4] != seeds[2]


def test_world_replaced_by_another_is_closed_once():
    rebuilt = [Counting(1, 1.0) for _ in range(2)]
    env = world(lambda seed: rebuilt[seed])
    env.reset(seed=0)
    env.reset(seed=0)
    assert rebuilt[0].closed == 0
    env.reset(seed=1)
    env.close()
    env.close()
    assert [w.closed for w in rebuilt] == [1, 1]


@pytest.mark.parametrize("kind", [MissingExtra, UnknownTask, EnvError])
def test_loading_sentence_passes_as_it_is(kind):
    with pytest.raises(kind, match="^as it is$"), loading("dmc:x"):
        raise kind("as it is")


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (ModuleNotFoundError("No module named 'labmaze'"), MissingExtra, "needs a missing package.*labmaze"),
        (RuntimeError("Cannot create an EGL context."), MissingExtra, "needs OpenGL"),
        (
            ValueError("the mesh\nis bad"),
            EnvError,
            "^dmc:x cannot be built: it raised ValueError: the mesh is bad$",
        ),
    ],
)
def test_loading_error_becomes_a_sentence(error, kind, sentence):
    with pytest.raises(kind, match=sentence), loading("dmc:x"):
        raise error


def test_written_for_is_the_lowest_mujoco_that_dm_control_allows(monkeypatch):
    needs = ["absl-py>=0.7.0", "mujoco-mjx>=9", "mujoco>=3.17.0", "numpy"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: needs)
    assert written_for() == "3.17.0"
    monkeypatch.setattr("importlib.metadata.requires", lambda name: None)
    assert written_for() == ""


def test_written_for_installed_dm_control_names_the_tried_version():
    pytest.importorskip("dm_control")
    if importlib.metadata.version("dm-control") != "1.0.50":
        pytest.skip("another dm_control is installed")
    assert written_for() == "3.17.0"
