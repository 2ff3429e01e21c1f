"""Dreams as environments: the APIs of Gymnasium, seeds, one dream as among many, and sentences."""

import warnings

import gymnasium
import jax
import numpy as np
import pytest
import tiny
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import dreamer.gym
import envs
from dreamer import export
from dreamer.agent import Agent
from dreamer.gym import DreamEnv, DreamVectorEnv, TaskEnv
from dreamer.inspection import Inspector
from dreamer.ops import dists
from dreamer.player import Player
from dreamer.schema import ConfigError
from envs.api import FIRST_TRAINING_SEED
from experiments.dream import starts

OBS = tiny.observation(np.random.default_rng(0), 5)


def agent_of(task: str, cfg=tiny.CFG) -> Agent:
    env = envs.make(task, 1)
    env.close()
    return Agent(env.obs_space, env.act_space, cfg)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{task: folder of a run on it that never learned, and expects that episodes end half of the time}."""
    stored = {}
    for task in ("probe:continuous", "grid:Empty-5x5"):
        agent = agent_of(task)
        state = jax.jit(agent.init)(jax.random.key(0))
        params = {**state.params, "cont": jax.tree.map(np.zeros_like, state.params["cont"])}
        folder = tmp_path_factory.mktemp("runs")
        stored[task] = tiny.store(folder, state._replace(params=params), agent, task=task)
    return stored


@pytest.fixture(scope="module")
def player():
    return Player(tiny.agent(dists.RANDOM), tiny.state().params, tiny.NUMBERS)


def played(env, seed, steps=20):
    """Observations, rewards and ends under actions of a seed; an ended episode is followed by the next."""
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    slots = [(obs, 0.0, False, False)]
    for _ in range(steps):
        if slots[-1][2] or slots[-1][3]:
            slots.append((env.reset()[0], 0.0, False, False))
        else:
            slots.append(env.step(env.action_space.sample())[:4])
    return slots


def test_dream_env_of_a_run_passes_the_check_of_gymnasium_in_its_spaces(runs):
    env = gymnasium.make("dreamer/Dream-v0", run=str(runs["probe:continuous"])).unwrapped
    assert isinstance(env, DreamEnv)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    assert env.observation_space == gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    assert env.action_space == envs.make("probe:continuous").worlds()[0].action_space


def test_dream_env_of_a_jax_world_has_the_keys_of_the_agent(runs):
    env, task = (kind(runs["grid:Empty-5x5"]) for kind in (DreamEnv, TaskEnv))
    assert env.observation_space == task.observation_space and env.action_space == task.action_space
    assert isinstance(env.observation_space, gymnasium.spaces.Dict) and env.action_space.n == 7
    for one in (env, task):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(one, skip_render_check=True)


def test_dream_env_given_observations_has_every_kind_of_key(player):
    env = DreamEnv(player, starts=OBS)
    assert env.observation_space["token"] == gymnasium.spaces.Box(0, 4, (2,), np.int32)
    assert env.action_space["move"] == gymnasium.spaces.Discrete(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*infinity")  # numbers without bounds
        check_env(env, skip_render_check=True)


def test_dream_env_same_seed_repeats_and_another_differs(player):
    env = DreamEnv(player, starts=OBS)
    first, again, other = (played(env, seed) for seed in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert any((a[0]["vector"] != b[0]["vector"]).any() for a, b in zip(first, other, strict=True))
    fresh = played(DreamEnv(player, starts=OBS), 3)
    jax.tree.map(np.testing.assert_array_equal, first, fresh)


def test_dream_env_without_chance_expects_what_the_inspector_expects():
    without = Player(tiny.agent(dists.GREEDY), tiny.state().params, tiny.NUMBERS)
    _, carry = without.act(without.init(1), {k: v[:1] for k, v in OBS.items()})
    env = DreamEnv(without, starts=carry.latent, termination="threshold")
    inspector = Inspector(without.agent, without.everything, without.numbers)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    obs, _ = env.reset(seed=0)
    jax.tree.map(lambda a, b: close(a, b[0]), obs, inspector.decode(carry.latent).obs)
    action = env.action_space.sample()
    obs, reward, terminated, truncated, info = env.step(action)
    one = {k: np.asarray(v)[None, None] for k, v in action.items()}
    _, forecast = inspector.forecast(carry.latent, one)
    jax.tree.map(lambda a, b: close(a, b[0, 0]), obs, forecast.obs)
    close([reward, info["survival"]], [forecast.heads.reward[0, 0], forecast.heads.cont[0, 0]])
    assert not truncated and terminated == (info["survival"] <= 0.5)


def test_dream_vector_env_equals_single_dreams_in_lockstep(player):
    num, how = 3, {"starts": OBS, "max_episode_steps": 6}
    many = DreamVectorEnv(player, num, **how)
    single = SyncVectorEnv([lambda: DreamEnv(player, **how)] * num, autoreset_mode=AutoresetMode.NEXT_STEP)
    assert many.observation_space == single.observation_space and many.action_space == single.action_space
    assert many.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    many.action_space.seed(0)
    slots = [(env.reset(seed=7)[0],) for env in (many, single)]
    ends = 0
    for _ in range(16):
        for a, b in zip(*map(jax.tree.leaves, slots), strict=True):
            assert np.asarray(a).dtype == np.asarray(b).dtype or np.asarray(b).dtype == np.float64
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        assert slots[0][0] in many.observation_space
        action = many.action_space.sample()
        slots = [env.step(action)[:4] for env in (many, single)]
        ends += int((slots[0][2] | slots[0][3]).sum())
    assert ends >= num


def test_dream_vector_env_ended_dream_ignores_its_action_and_begins(player):
    env = gymnasium.make_vec(
        "dreamer/Dream-v0", num_envs=4, vectorization_mode="vector_entry_point",
        run=player, starts=OBS, max_episode_steps=1, termination="threshold",
    )  # fmt: skip
    env.reset(seed=[5, None, 5, 6])
    *_, terminated, truncated, infos = env.step(env.action_space.sample())
    assert (terminated | truncated).all() and not (terminated & truncated).any() and infos["_survival"].all()
    obs, reward, terminated, truncated, infos = env.step(env.action_space.sample())
    assert not (terminated | truncated | infos["_survival"]).any() and not reward.any()
    assert (obs["vector"][0] == obs["vector"][2]).all() and (obs["token"][0] == obs["token"][2]).all()


def test_dream_env_sampled_termination_has_the_expected_rate(player):
    env = DreamVectorEnv(player, 200, starts=OBS, max_episode_steps=1000)
    env.reset(seed=0)
    ended, expected = [], []
    for _ in range(12):
        *_, terminated, _, infos = env.step(env.action_space.sample())
        there = infos["_survival"]
        ended.append(terminated[there])
        expected.append(1 - infos["survival"][there])
    ended, expected = np.concatenate(ended), np.concatenate(expected)
    deviation = np.sqrt((expected * (1 - expected)).sum())
    assert 0 < ended.sum() < len(ended) and abs(ended.sum() - expected.sum()) < 4 * deviation


def test_dream_env_default_horizon_is_the_length_of_training_sequences(runs):
    env = DreamEnv(runs["probe:continuous"], starts=np.zeros((1, 2)), termination="threshold")
    env.reset(seed=0)
    action = env.action_space.sample()
    for _ in range(63):
        assert env.step(action)[2:4] == (False, False)
    assert env.step(action)[2:4] == (False, True)
    with pytest.raises(gymnasium.error.ResetNeeded, match="has ended: call reset"):
        env.step(action)


def test_dream_env_exported_agent_needs_no_task(runs, tmp_path):
    export.save(dreamer.load(runs["probe:continuous"]), tmp_path / "agent.safetensors")
    env = DreamEnv(tmp_path / "agent.safetensors", starts=np.zeros((3, 2)))
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    assert env.reset(seed=0)[0] in env.observation_space


def test_starts_of_task_are_of_training_episodes_within_the_asked_steps(runs):
    seeds, lengths = [], []

    class Spy:
        def __init__(self, env):
            self.env = env

        def reset(self):
            step = self.env.reset()
            seeds.append(int(self.env._seeds[0]))
            lengths.append(0)
            return step

        def step(self, action):
            lengths[-1] += 1
            return self.env.step(action)

    follower, env = dreamer.load(runs["grid:Empty-5x5"]), envs.make("grid:Empty-5x5", 1)
    latents = starts.of_task(follower, Spy(env), 12, 3, 0)
    assert len(latents.deter) == len(set(seeds)) == 12 and min(seeds) >= FIRST_TRAINING_SEED
    assert {0, 3} <= set(lengths) <= {0, 1, 2, 3}
    again = starts.of_task(follower, envs.make("grid:Empty-5x5", 1), 12, 3, 0)
    jax.tree.map(np.testing.assert_array_equal, latents, again)


def test_task_env_episode_ends_with_its_success(runs):
    env = TaskEnv(runs["grid:Empty-5x5"])
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset before step"):
        env.step(0)
    first, _ = env.reset(seed=1)
    again, _ = env.reset(seed=1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    ends = [False, False]
    while not any(ends):
        _, reward, *ends, info = env.step(0)
        assert ("is_success" in info) == any(ends)
    assert ends == [False, True] and reward == 0 and info == {"is_success": False}


def test_dream_env_agent_without_decoder_raises_one_sentence(tmp_path):
    cfg = tiny.config(objective="none")
    agent = agent_of("probe:chosen", cfg)
    run = tiny.store(tmp_path, agent.init(jax.random.key(0)), agent)
    with pytest.raises(
        ConfigError, match=r"^the objective 'none' of this agent predicts no observations.*\w$"
    ):
        DreamEnv(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"starts": "replay"}, "starts is 'replay', but it must be 'task', latents or observations"),
        ({"starts": np.zeros((2, 3))}, "observations with the keys vector, token"),
        (
            {"starts": {"vector": np.zeros((2, 3))}},
            r"must have observations \[K, ...\] of each.*vector, token",
        ),
        ({"starts": {k: v[:0] for k, v in OBS.items()}}, r"observations \[K, ...\]"),
        (
            {"starts": {**OBS, "vector": np.zeros((5, 4))}},
            r"do not fit the agent: .*'vector' has shape \(5, 4\)",
        ),
        ({"starts": "task"}, "no configuration that names its task"),
        ({"termination": "never"}, "termination is 'never'; it takes 'sampled' or 'threshold'"),
        ({"num_starts": 0}, "num_starts is 0; it takes at least 1"),
        ({"random_steps": -1}, "random_steps is -1"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0; it takes at least 1"),
    ],
)
def test_dream_env_wrong_argument_raises_one_sentence(player, arguments, message):
    with pytest.raises(ConfigError, match=message):
        DreamEnv(player, **arguments)


def test_dream_envs_action_of_another_shape_raises_one_sentence(player):
    action = {"move": [0, 1], "steer": np.zeros((2, 2))}
    for env, message in ((DreamEnv(player, starts=OBS), r"\(2,\), expected \(\)"),
                         (DreamVectorEnv(player, 3, starts=OBS), r"\(2,\), expected \(3,\)")):  # fmt: skip
        env.reset(seed=0)
        with pytest.raises(ValueError, match=rf"^action 'move' has the shape {message}$"):
            env.step(action)


def test_dream_env_task_of_other_spaces_raises_naming_the_key(tmp_path):
    run = tiny.store(tmp_path, tiny.state(), tiny.agent())
    with pytest.raises(ConfigError, match="does not fit probe:chosen: its observation 'vector' is"):
        DreamEnv(run)


def test_dream_env_latents_of_another_agent_raise_one_sentence(player, runs):
    other = dreamer.load(runs["probe:continuous"]).init(2).latent
    with pytest.raises(ConfigError, match=r"latents of another agent: this one has arrays \['K', 16\]"):
        DreamEnv(player, starts=other._replace(deter=other.deter[:, :3]))
