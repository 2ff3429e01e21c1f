"""Copies: what a slot tells, and processes that are as good as a loop."""

import numpy as np
import pytest
from test_vector import SOUND, go

import envs
from envs.api import EnvError, Space, UnsupportedSpace


def test_success_is_nan_until_told():
    env = envs.make("minigrid:Empty-5x5")
    assert np.isnan(env.reset([0]).obs["log/success"])


def test_processes_give_the_same_stream():
    here, there = envs.make(SOUND, 2, seed=1), envs.make(SOUND, 2, seed=1, parallel=True)
    rng = np.random.default_rng(0)
    pairs = [(here.reset(), there.reset())]
    for _ in range(40):
        action = {"action": rng.integers(0, 2, 2)}
        pairs.append((here.step(action), there.step(action)))
    there.close()
    for a, b in pairs:
        assert all(np.array_equal(a.obs[k], b.obs[k], equal_nan=True) for k in a.obs)
        assert all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a[1:], b[1:], strict=True))


@pytest.mark.parametrize("parallel", [False, True])
def test_readings_are_those_that_were_asked_for(parallel):
    env = envs.make("gymnasium:cells:Cells-v0", 2, parallel=parallel)
    (notice,) = env.notices
    env.close()
    assert "--env.pixels map" in notice and env.obs_space["map"] == Space((5, 5), "uint8", 4)
    env = envs.make("gymnasium:cells:Cells-v0", 2, parallel=parallel, pixels=("map",))
    step = env.reset()
    env.close()
    assert env.notices == [] and env.obs_space["map"] == Space((5, 5, 1), "uint8")
    assert set(np.unique(step.obs["map"])) <= {0, 85, 170, 255}


@pytest.mark.parametrize("parallel", [False, True])
def test_a_reading_of_a_key_that_is_not_there_is_refused(parallel):
    with pytest.raises(UnsupportedSpace, match="env.categories names 'mop', but .* did you mean map?"):
        envs.make("gymnasium:cells:Cells-v0", 2, parallel=parallel, categories=("mop",))


@pytest.mark.parametrize(
    ("fault", "message"),
    [("Raises", "copy 0, step 3 .*ZeroDivisionError"), ("Dies", "the process of a copy died")],
)
def test_faults_in_processes(fault, message, capfd):
    env = envs.make(f"gymnasium:faulty_env:{fault}-v0", 2, parallel=True)
    env.reset([5, 6])
    with pytest.raises(EnvError, match=message):
        for _ in range(6):
            go(env, 0)
    env.close()
    assert "Traceback" not in capfd.readouterr().err
