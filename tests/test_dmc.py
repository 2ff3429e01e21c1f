"""dmc: the same worlds as dm_control's own, with exact ends, and a sentence where something is missing."""

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import envs
from envs import opengl
from envs.adapters import MissingExtra, UnknownTask, dmc
from envs.dm import control

pytest.importorskip("dm_control")
make = importlib.import_module("envs.make")
ROOT = Path(envs.__file__).parents[1]

QUICK = (
    *("acrobot-swingup", "ball-in-cup-catch", "cartpole-swingup", "cheetah-run", "finger-turn-hard"),
    *("hopper-hop", "lqr-lqr-2-1", "pendulum-swingup", "point-mass-hard", "reacher-easy", "walker-walk"),
)
SLOW = tuple(pytest.param(name, marks=pytest.mark.slow) for name in dmc.TASKS if name not in QUICK)


@functools.cache
def drawing() -> str:
    """Why nothing can be drawn here, empty where it can."""
    try:
        dmc.make("pendulum-swingup", "image").close()
    except MissingExtra as error:
        return str(error)
    return ""


def needs_drawing():
    if reason := drawing():
        pytest.skip(reason)


def load(name, seed, **kwargs):
    """dm_control's own."""
    domain, task = dmc.TASKS[name]
    return control("dm_control.suite").load(domain, task, task_kwargs={"random": seed, **kwargs})


def controls(world, steps, seed=0):
    spec = world.action_spec()
    low, high = np.maximum(spec.minimum, -1), np.minimum(spec.maximum, 1)
    return np.random.default_rng(seed).uniform(low, high, (steps, *spec.shape))


def same(ours, theirs):
    """Whether an observation is one of dm_control in float32."""
    shown = {key: np.float32(value).reshape(ours[key].shape) for key, value in theirs.items()}
    assert ours.keys() == shown.keys()
    return all(np.array_equal(ours[key], shown[key]) and ours[key].dtype == np.float32 for key in shown)


def played(step):
    """What a step of a vector says, as bytes."""
    return b"".join(step.obs[key].tobytes() for key in sorted(step.obs)) + step.reward.tobytes()


def test_ids_are_the_tasks_of_dm_control():
    assert sorted(dmc.TASKS.values()) == sorted(control("dm_control.suite").ALL_TASKS)
    assert len(dmc.ids()) == 51 and all(dmc.canonical(name) == name for name in dmc.ids())


def test_ids_need_no_dm_control():
    code = "import sys; from envs.adapters import dmc; dmc.ids(); assert 'dm_control' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("cup-catch", "ball-in-cup-catch"),
        ("ball_in_cup_catch", "ball-in-cup-catch"),
        ("walker_walk", "walker-walk"),
        ("humanoid_CMU_run", "humanoid-cmu-run"),
        ("pointmass-easy", "point-mass-easy"),
    ],
)
def test_canonical_other_spelling_is_the_name_with_hyphens(name, full):
    assert envs.canonical(f"dmc:{name}") == f"dmc:{full}"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("walker-wlak", "did you mean walker-walk"),
        ("walker", "its tasks are walker-stand, walker-walk, walker-run"),
        ("ball_in_cup", "its tasks are ball-in-cup-catch"),
        ("zebra", "has no task 'zebra'"),
    ],
)
def test_canonical_unknown_name_suggests_tasks(name, hint):
    with pytest.raises(UnknownTask, match=hint):
        envs.make(f"dmc:{name}")


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_world_of_a_seed_equals_first_episode_of_dm_control(name):
    if name == "quadruped-escape":
        needs_drawing()
    ours, theirs = dmc.make(name, "proprio"), load(name, 7)
    ours.reset(seed=3)  # an episode before must leave no trace
    ours.step(controls(theirs, 1)[0])
    obs, _ = ours.reset(seed=7)
    assert ours.observation_space.contains(obs) and same(obs, theirs.reset().observation)
    for action in controls(theirs, 20):
        obs, reward, *_ = ours.step(action)
        now = theirs.step(action)
        assert same(obs, now.observation) and reward == now.reward


def test_make_action_of_the_agent_reaches_dm_control():
    ours, theirs = envs.make("dmc:walker-walk"), load("walker-walk", 11)
    step = ours.reset([11])
    theirs.reset()
    for action in np.random.default_rng(0).integers(-4, 5, (30, 6)) / 4:  # exact in float32
        step, now = ours.step({"action": action[None].astype(np.float32)}), theirs.step(action)
        assert np.array_equal(step.obs["velocity"][0], np.float32(now.observation["velocity"]))
        assert step.reward[0] == np.float32(now.reward)


def test_make_control_without_bounds_takes_the_number_itself():
    env = envs.make("dmc:lqr-lqr-2-1")
    world = load("lqr-lqr-2-1", 0)
    assert world.action_spec().maximum == dmc.UNLIMITED
    env.reset([0]), world.reset()
    step, now = env.step({"action": np.full((1, 1), 0.5, np.float32)}), world.step([0.5])
    assert np.array_equal(step.obs["velocity"][0], np.float32(now.observation["velocity"]))


def test_spaces_lone_number_has_one_entry():
    space = envs.make("dmc:walker-walk").obs_space
    assert space["height"] == envs.Space((1,), "float32")
    assert {"orientations", "height", "velocity", "log/success"} == set(space)


def test_time_limit_is_never_terminal():
    env = envs.make("dmc:pendulum-swingup")
    step = env.reset([0])
    for _ in range(1000):
        assert not step.is_last[0]
        step = env.step({"action": np.zeros((1, 1), np.float32)})
    assert step.is_last[0] and not step.is_terminal[0]
    assert load("pendulum-swingup", 0)._step_limit == 1000


def test_solved_lqr_is_terminal():
    env = dmc.make("lqr-lqr-2-1", "proprio")
    env.reset(seed=0)
    with env.world.physics.reset_context():  # at rest in the middle
        env.world.physics.data.qpos[:] = 0
    _, _, terminated, truncated, _ = env.step(np.zeros(1))
    assert terminated and not truncated


@pytest.mark.parametrize("steps", [3, 1500])
def test_max_episode_steps_replaces_the_time_limit(steps):
    env = dmc.make("pendulum-swingup", "proprio", max_episode_steps=steps)
    env.reset(seed=0)
    ends = [env.step(np.zeros(1))[2:4] for _ in range(steps)]
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]


@pytest.mark.parametrize("repeat", [2, 3])
def test_action_repeat_sums_rewards_and_ends_with_the_world(repeat):
    ours = dmc.make("cartpole-balance", "proprio", kwargs={"action_repeat": repeat})
    theirs = load("cartpole-balance", 5)
    ours.reset(seed=5)
    now, steps = theirs.reset(), 0
    for action in controls(theirs, 1000):
        if now.last():
            break
        obs, reward, terminated, truncated, _ = ours.step(action)
        rewards = []
        while len(rewards) < repeat and not now.last():
            now = theirs.step(action)
            rewards.append(now.reward)
        steps += 1
        assert reward == sum(rewards) and same(obs, now.observation)
        assert (terminated, truncated) == (False, now.last())
    assert steps == -(-1000 // repeat) == ours.spec.max_episode_steps


def test_same_seed_is_the_same_episode_in_another_process():
    code = (
        "import envs, numpy as np; from test_dmc import played; e = envs.make('dmc:reacher-easy', 2);"
        "s = [e.reset([5, 6])] + [e.step({'action': np.full((2, 2), .3, np.float32)}) for _ in range(20)];"
        "print(b''.join(map(played, s)).hex())"
    )
    path = os.pathsep.join([os.path.dirname(__file__), *(p or os.getcwd() for p in sys.path)])
    there = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=True
    )
    env = envs.make("dmc:reacher-easy", 2)
    env.reset([9, 9])
    steps = [env.reset([5, 6])]
    steps += [env.step({"action": np.full((2, 2), 0.3, np.float32)}) for _ in range(20)]
    assert there.stdout.decode().split()[-1] == b"".join(map(played, steps)).hex()


@pytest.mark.parametrize(
    ("obs", "kwargs", "sentence"),
    [
        ("proprio", {"action_repeat": 0}, "a whole number of at least 1 for 'action_repeat', not 0"),
        ("proprio", {"action_repeat": 1.5}, "not 1.5"),
        ("proprio", {"actionrepeat": 2}, "did you mean action_repeat"),
        ("proprio", {"size": 32}, "shows none: add --env.obs image"),
        ("image", {"camera": 9}, "has the cameras 0 to 1, not 9"),
        ("image", {"size": 5000}, "up to 480 pixels, not 5000"),
    ],
)
def test_make_wrong_argument_raises_with_what_is_right(obs, kwargs, sentence):
    with pytest.raises(UnknownTask, match=sentence):
        envs.make("dmc:pendulum-swingup", obs=obs, kwargs=kwargs)


@pytest.mark.parametrize("obs", ["proprio", "both"])
def test_check_task_keeps_the_contract(obs):
    if obs == "both":
        needs_drawing()
    findings = envs.check("dmc:cartpole-balance", steps=6, obs=obs, elsewhere=obs == "proprio")
    assert len(findings) > 10 and not [f for f in findings if f.status == "fail"], findings


def test_image_is_the_render_of_dm_control():
    needs_drawing()
    ours, theirs = dmc.make("reacher-easy", "both"), load("reacher-easy", 2)
    obs, _ = ours.reset(seed=2)
    seen = theirs.reset().observation
    for action in controls(theirs, 3):
        assert np.array_equal(obs.pop("image"), theirs.physics.render(64, 64, camera_id=0))
        assert same(obs, seen)
        obs, *_ = ours.step(action)
        seen = theirs.step(action).observation


def test_image_has_the_size_and_camera_that_were_asked_for():
    needs_drawing()
    env = envs.make("dmc:walker-walk", obs="image", kwargs={"size": 32, "camera": 1})
    assert env.obs_space["image"] == envs.Space((32, 32, 3), "uint8")
    theirs = load("walker-walk", 4)
    theirs.reset()
    shown = env.reset([4]).obs["image"][0]
    assert np.array_equal(shown, theirs.physics.render(32, 32, camera_id=1))
    assert not np.array_equal(shown, theirs.physics.render(32, 32, camera_id=0))


def test_image_of_quadruped_is_of_camera_2():
    needs_drawing()
    theirs = load("quadruped-walk", 4)
    theirs.reset()
    shown = envs.make("dmc:quadruped-walk", obs="image").reset([4]).obs["image"][0]
    assert np.array_equal(shown, theirs.physics.render(64, 64, camera_id=2))


def test_note_is_of_lqr_alone():
    noted = [name for name in dmc.ids() if make.note(f"dmc:{name}")]
    assert noted == ["lqr-lqr-2-1", "lqr-lqr-6-2"]


def test_lqr_system_is_that_of_the_seed():
    env = dmc.make("lqr-lqr-2-1", "proprio")
    stiffness = []
    for seed in (1, 2, 1):
        env.reset(seed=seed)
        stiffness.append(env.world.physics.model.jnt_stiffness.copy())
    assert np.array_equal(stiffness[0], stiffness[2]) and not np.array_equal(*stiffness[:2])


def test_make_wrapper_is_around_the_world():
    double = lambda env: gymnasium.wrappers.TransformReward(env, lambda reward: 2 * reward)
    ours, plain = (envs.make("dmc:pendulum-swingup", wrappers=w) for w in ((double,), ()))
    ours.reset([3]), plain.reset([3])
    up = {"action": np.ones((1, 1), np.float32)}
    pairs = [(ours.step(up).reward[0], plain.step(up).reward[0]) for _ in range(300)]
    assert all(a == 2 * b for a, b in pairs) and max(a for a, _ in pairs) > 0


def test_made_of_names_both_packages():
    assert set(make.made_of("dmc:walker-walk")) == {"dm-control", "mujoco"}


def test_make_missing_package_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "dm_control" else find(name))
    with pytest.raises(MissingExtra, match=r"need dm_control: pip install 'dreamer-toolkit\[dmc\]'"):
        envs.make("dmc:walker-walk")


@pytest.mark.parametrize("task", ["walker-walk", "quadruped-escape"])
def test_make_without_opengl_says_what_to_install(task):
    code = f"""
import envs
if "{task}" == "walker-walk":
    envs.make("dmc:{task}").reset([0])  # numbers need none
try:
    envs.make("dmc:{task}", obs="image" if "{task}" == "walker-walk" else "")
except envs.adapters.MissingExtra as error:
    print(error)
"""
    nothing = {"__EGL_VENDOR_LIBRARY_DIRS": os.devnull}  # EGL is there, and nothing that it could use
    bare = {
        name: value for name, value in os.environ.items() if name not in (opengl.VARIABLE, *opengl.SCREENS)
    }
    there = subprocess.run(
        [sys.executable, "-c", code], env=bare | nothing, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert there.stdout.startswith(f"dmc:{task} needs OpenGL") and there.stdout.count("\n") == 1
    assert opengl.INSTALL in there.stdout and "MUJOCO_GL=egl" in there.stdout


def test_make_mujoco_that_dm_control_cannot_use_says_which_to_install(monkeypatch):
    def fails(*_, **__):  # as with mujoco 4.0.0
        raise AttributeError("'MjModel' object has no attribute 'flex_vertedge'")

    installed = importlib.metadata.version
    other = lambda name: "4.0.0" if name == "mujoco" else installed(name)
    monkeypatch.setattr(control("dm_control.suite"), "load", fails)
    monkeypatch.setattr("importlib.metadata.version", other)
    sentence = (
        r"dm_control \S+ does not work with mujoco 4.0.0 \(.*flex_vertedge.*\): pip install mujoco==3.17.0$"
    )
    with pytest.raises(MissingExtra, match=sentence):
        envs.make("dmc:walker-walk")


def test_make_other_mujoco_that_works_is_used(monkeypatch):
    installed = importlib.metadata.version
    other = lambda name: "3.17.1" if name == "mujoco" else installed(name)
    monkeypatch.setattr("importlib.metadata.version", other)
    assert make.made_of("dmc:walker-walk")["mujoco"] == "3.17.1"
    assert envs.make("dmc:walker-walk").reset([0]).is_first.all()
