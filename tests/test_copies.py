"""Copies: what a slot tells, and processes that are as good as a loop."""

import time

import faulty_env
import numpy as np
import pytest
from test_vector import SOUND, go

import envs
from envs.api import EnvError, Space, UnsupportedSpace


def test_copies_success_not_reported_is_nan():
    env = envs.make("minigrid:Empty-5x5")
    assert np.isnan(env.reset([0]).obs["log/success"])


@pytest.mark.parametrize(
    ("info", "success"),
    [
        ({"success": True}, 1),
        ({"is_success": np.bool_(False)}, 0),
        ({"success": 0.0}, 0),
        ({"success": np.array(1)}, 1),
        ({"success": np.array([True])}, 1),
        ({"success": [1]}, 1),
        ({"success": np.array(["True"])}, 1),
        ({"success": "true"}, 1),
        ({"is_success": "False"}, 0),
        ({"success": " no "}, 0),
        ({"success": None}, None),
        ({"success": None, "is_success": True}, 1),
        ({"success": float("nan")}, None),
        ({}, None),
    ],
)
def test_copies_success_in_info_is_read_if_boolean(monkeypatch, info, success):
    env = saying(monkeypatch, info)
    told = go(env, 0).obs["log/success"][0]
    assert np.isnan(told) if success is None else told == success


@pytest.mark.parametrize("said", ["almost", [1, 0], np.zeros(2), object(), {}, [[1], [1, 2]], b"yes", 1j])
def test_copies_success_not_boolean_is_ignored_with_one_warning(monkeypatch, said):
    env = saying(monkeypatch, {"success": said, "is_success": True})
    with pytest.warns(
        UserWarning, match=r"info\['success'\] is .*neither yes nor no: it is ignored"
    ) as warned:
        assert go(env, 0).obs["log/success"][0] == 1  # the other one says it
        go(env, 0)
    assert len(warned) == 1


def saying(monkeypatch, info):
    """One copy, at the start of an episode, that has this info in every step."""
    monkeypatch.setattr(faulty_env.SaysSuccess, "said", info)
    env = envs.make("gymnasium:faulty_env:SaysSuccess-v0")
    env.reset([0])
    return env


def test_copies_parallel_gives_same_steps_as_serial():
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


def noting(folder, *, parallel):
    env = envs.make("gymnasium:faulty_env:Notes-v0", 1, parallel=parallel, kwargs={"folder": str(folder)})
    env.reset()
    return env


def wait_for(path):
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.01)


def test_copies_in_processes_take_a_sent_step_before_it_is_received(tmp_path):
    env = noting(tmp_path, parallel=True)
    env.send({"action": np.array([1])})
    wait_for(tmp_path / "step 1")
    step = env.receive()
    env.close()
    assert step.obs["count"] == [1] and step.reward == [1.0]


def test_copies_in_this_process_step_when_received(tmp_path):
    env = noting(tmp_path, parallel=False)
    env.send({"action": np.array([1])})
    assert not (tmp_path / "step 1").exists()
    assert env.receive().obs["count"] == [1] and (tmp_path / "step 1").exists()


def test_copies_closed_with_a_sent_step_close_their_environment(tmp_path):
    env = noting(tmp_path, parallel=True)
    env.send({"action": np.array([0])})
    env.close()
    assert (tmp_path / "closed").exists()


def test_copies_process_gone_before_sending_is_env_error_on_receiving():
    env = envs.make(SOUND, 2, parallel=True)
    env.reset()
    process = env._copies._vector.processes[1]
    process.kill()
    process.join()
    for _ in range(2):  # the first may still be written into the pipe
        env.send({"action": np.array([0, 0])})
        with pytest.raises(EnvError, match="the process of a copy died"):
            env.receive()
    env.close()


@pytest.mark.parametrize("parallel", [False, True])
def test_copies_array_readings_follow_request(parallel):
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
def test_copies_reading_of_unknown_key_raises_unsupported_space(parallel):
    with pytest.raises(UnsupportedSpace, match="env.categories names 'mop', but .* did you mean map?"):
        envs.make("gymnasium:cells:Cells-v0", 2, parallel=parallel, categories=("mop",))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("Raises", "copy 0, step 3 .*ZeroDivisionError"),
        ("Exits", "copy 0, step 3 .*SystemExit: 3, which would end the program"),
        ("Dies", "the process of a copy died"),
    ],
)
def test_copies_fault_in_subprocess_raises_env_error(fault, message, capfd):
    env = envs.make(f"gymnasium:faulty_env:{fault}-v0", 2, parallel=True)
    env.reset([5, 6])
    with pytest.raises(EnvError, match=message):
        for _ in range(6):
            go(env, 0)
    env.close()
    assert "Traceback" not in capfd.readouterr().err
