"""brax: the same robots as Brax's own, with a time limit that is not terminal."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned

import envs
from envs.adapters import brax as adapter
from envs.wrappers import Batched

try:
    brax = adapter.load()
except ImportError as missing:
    pytest.skip(str(missing), allow_module_level=True)

# Brax reads MuJoCo's data in a way that MuJoCo wants to end.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing:DeprecationWarning")
COPIES, LIMIT = 4, 20


@pytest.fixture(autouse=True)
def lenient():
    """Brax promotes ranks and uses keys twice where it poses a robot."""
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        yield


def test_brax_adapter_tasks_match_registry_of_package():
    assert {*adapter.TASKS, *adapter.LEFT_OUT} == set(brax._envs)


def test_brax_adapter_default_backend_matches_documentation():
    for task in adapter.TASKS:
        assert inspect.signature(brax._envs[task].__init__).parameters["backend"].default == "generalized"


@pytest.mark.parametrize("task", ["ant", "pusher"])
def test_brax_adapter_reset_and_step_keep_declared_shapes_and_dtypes(task):
    env = envs.make_jax(f"brax:{task}")
    act = {"action": jnp.zeros(env.act_space["action"].shape)}
    state, start = jax.eval_shape(lambda key: env.reset(key=key), jax.random.key(0))
    after, step = jax.eval_shape(lambda s, key: env.step(s, act, key=key), state, jax.random.key(0))
    shape = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    assert shape(state) == shape(after) and shape(start) == shape(step)
    (space,) = env.obs_space.values()
    assert shape(step.obs["vector"]) == (space.shape, np.float32, False)


def test_brax_adapter_checked_passes_environment_contract():
    findings = envs.check("brax:inverted_pendulum", steps=80)
    assert not [f for f in findings if f.status == "fail"], findings


def test_brax_adapter_played_matches_original_env():
    ours = adapter.Brax("inverted_pendulum", max_steps=LIMIT)
    with adapter.quiet():
        theirs = brax.create("inverted_pendulum", episode_length=LIMIT, auto_reset=False)

    def turn(carry, action):
        mine, state = carry
        mine, step = ours.step(mine, {"action": action}, key=jax.random.key(9))
        # Beyond the bounds an action means what the bound means.
        state = theirs.step(state, jnp.clip(action, -1, 1))
        return (mine, state), (step, (state.obs, state.reward, state.done, state.info["truncation"]))

    def play(key, strength):
        (mine, start), state = ours.reset(key=key), theirs.reset(key)
        actions = strength * jax.random.uniform(jax.random.fold_in(key, 1), (LIMIT, 1), minval=-1, maxval=1)
        return start, state.obs, jax.lax.scan(turn, (mine, state), actions)[1]

    # Those that nobody pushes stand until the limit, the others fall.
    keys, strengths = jax.random.split(jax.random.key(0), COPIES), jnp.asarray([0.0, 0.0, 1.0, 4.0])
    played = jax.tree.map(np.asarray, jax.jit(jax.vmap(play))(keys, strengths))
    start, shown, (step, (obs, reward, done, truncation)) = played
    # Both are in one program, where XLA may fuse floats differently.
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    same(start.obs["vector"], shown)
    for copy in range(COPIES):
        # What happens after the end is undefined.
        end = np.argmax(step.is_last[copy])
        until = slice(0, end + 1)
        same(step.obs["vector"][copy, until], obs[copy, until])
        same(step.reward[copy, until], reward[copy, until])
        np.testing.assert_array_equal(step.is_last[copy, until], done[copy, until] > 0)
        assert step.is_last[copy, end] and step.is_terminal[copy, end] == (end < LIMIT - 1)
        assert step.is_terminal[copy, end] == (truncation[copy, end] == 0)
    ends = np.argmax(step.is_last, 1)
    assert (ends[:2] == LIMIT - 1).all() and (ends[2:] < LIMIT - 1).all()


def test_brax_adapter_batched_in_scan_compiles_once_with_distinct_starts():
    step = scanned.played(Batched(adapter.Brax("inverted_pendulum", max_steps=9), COPIES), 30)
    firsts = np.asarray(step.obs["vector"])[np.asarray(step.is_first)]
    assert len(firsts) and len({start.tobytes() for start in firsts}) == len(firsts)


def test_brax_adapter_step_does_not_mutate_input_state():
    env = adapter.Brax("reacher")
    state, _ = jax.eval_shape(lambda key: env.reset(key=key), jax.random.key(0))
    before = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    kept = jax.tree.leaves(before)
    jax.eval_shape(lambda act: env.step(before, {"action": act}, key=jax.random.key(1)), jnp.ones(2))
    assert all(a is b for a, b in zip(jax.tree.leaves(before), kept, strict=True))
    assert env.max_steps == 1000


def test_brax_adapter_make_prints_nothing_and_writes_no_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    envs.make_jax("brax:halfcheetah")
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def test_brax_adapter_wrong_task_name_raises_unknown_task():
    with pytest.raises(envs.UnknownTask, match="did you mean halfcheetah"):
        envs.make("brax:half_cheetah")
    with pytest.raises(envs.UnknownTask, match="swimmer is left out: Brax 0.14.2"):
        envs.make("brax:swimmer")
