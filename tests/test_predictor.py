"""`predict` as Stable-Baselines3 has it: one or many observations, memory, chance, and its evaluation."""

from types import SimpleNamespace

import gymnasium
import jax
import numpy as np
import pytest
import tiny
from gymnasium import spaces as gym

import envs
from dreamer.agent import Agent
from dreamer.ops import dists
from dreamer.player import Player
from dreamer.sb3 import Predictor
from dreamer.schema import ConfigError
from envs import unflatten
from envs.flat import Flat
from envs.rollout import rollout

FLAT = SimpleNamespace(
    observation_space=unflatten.observation_space(tiny.OBS), action_space=unflatten.action_space(tiny.ACT)
)
LONE = gym.Box(-1, 1, (2,), np.float32)


def world(action_space=gym.Discrete(2), observation_space=LONE):
    return SimpleNamespace(observation_space=observation_space, action_space=action_space)


def player_of(env, sampler=dists.GREEDY) -> Player:
    """Never trained; the greedy sampler leaves no chance in its latents either."""
    flat = Flat(SimpleEnv(env.observation_space, env.action_space))
    agent = Agent(flat.obs_space, flat.act_space, tiny.CFG, sampler)
    shake = lambda p: p + np.random.default_rng(p.size).normal(0, 0.3, p.shape).astype(np.float32)
    return Player(agent, jax.tree.map(shake, agent.init(jax.random.key(0)).params), tiny.NUMBERS)


class SimpleEnv(gymnasium.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.fixture(scope="module")
def chosen():
    return player_of(world())


@pytest.fixture(scope="module")
def nested():
    return Player(tiny.agent(dists.GREEDY), tiny.state().params, tiny.NUMBERS)


def test_predict_batch_equals_single_observations_with_memory(nested):
    predictor, rng = Predictor(nested, FLAT), np.random.default_rng(0)
    state, states = None, [None] * 3
    for t in range(3):
        obs = tiny.observation(rng, 3)
        actions, state = predictor.predict(obs, state, np.full(3, t == 0), deterministic=True)
        assert len(actions) == 3
        for i in range(3):
            one = {k: v[i] for k, v in obs.items()}
            action, states[i] = predictor.predict(one, states[i], deterministic=True)
            assert FLAT.action_space.contains(action) and FLAT.action_space.contains(actions[i])
            assert action["move"] == actions[i]["move"]
            np.testing.assert_allclose(action["steer"], actions[i]["steer"], rtol=1e-4, atol=1e-5)


def test_predict_episode_start_forgets_what_was(chosen):
    predictor, rng = Predictor(chosen, world()), np.random.default_rng(0)
    before, obs = rng.uniform(-1, 1, (2, 4, 2)).astype(np.float32)
    _, fresh = predictor.predict(obs, deterministic=True)
    _, state = predictor.predict(before, deterministic=True)
    start = np.array([True, False, True, False])
    _, after = predictor.predict(obs, state, start, deterministic=True)
    same = np.isclose(after.carry.latent.deter, fresh.carry.latent.deter, atol=1e-6).all(1)
    assert same.tolist() == start.tolist()


def test_predict_deterministic_depends_on_arguments_and_sampled_on_the_call():
    env = world(gym.Box(-2, 2, (3,), np.float32))
    player = player_of(env, dists.RANDOM)
    predictor, obs = Predictor(player, env), np.zeros((2, 2), np.float32)
    greedy = [predictor.predict(obs, deterministic=True)[0] for _ in range(2)]
    sampled = [predictor.predict(obs)[0] for _ in range(2)]
    np.testing.assert_array_equal(*greedy)
    assert (sampled[0] != sampled[1]).all() and (greedy[0] != sampled[0]).all()
    again = Predictor(player, env)
    again.predict(obs, deterministic=True)
    again.predict(obs, deterministic=True)
    np.testing.assert_array_equal(again.predict(obs)[0], sampled[0])
    assert (Predictor(player, env, seed=1).predict(obs)[0] != sampled[0]).all()


@pytest.mark.parametrize(
    "space",
    [
        gym.Discrete(3, start=-1),
        gym.MultiDiscrete([2, 3]),
        gym.Box(-2, 2, (2,), np.float32),
        gym.Box(np.array([0, 5]), np.array([9, 6]), dtype=np.int64),
    ],
    ids=str,
)
def test_predict_actions_are_of_the_action_space(space):
    predictor = Predictor(player_of(world(space)), world(space))
    actions, state = predictor.predict(np.zeros((5, 2), np.float32))
    assert actions.shape == (5, *space.shape) and all(space.contains(action) for action in actions)
    one, _ = predictor.predict(np.zeros(2), deterministic=True)
    assert space.contains(one)


def test_predict_in_an_environment_earns_what_a_rollout_earns(chosen):
    env = envs.make("probe:remembered", 4)
    expected = [episode.return_ for episode in rollout(chosen, env, range(12))]
    single = env.worlds()[0]
    predictor, returns = Predictor(chosen, single), []
    for seed in range(12):
        (obs, _), state, over, total = single.reset(seed=seed), None, False, 0.0
        while not over:
            action, state = predictor.predict(obs, state, deterministic=True)
            obs, reward, terminated, truncated, _ = single.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
    assert returns == expected and len(set(returns)) == 2


@pytest.mark.parametrize("copies", [0, 3])
def test_predict_is_evaluated_by_stable_baselines3(chosen, copies):
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    make = lambda: envs.make("probe:remembered").worlds()[0]
    env = vec_env.DummyVecEnv([make] * copies) if copies else make()
    env.seed(0) if copies else env.reset(seed=0)
    predictor = Predictor(chosen, env)
    how = {"n_eval_episodes": 40, "warn": False, "return_episode_rewards": True}
    returns, lengths = evaluation.evaluate_policy(predictor, env, **how)
    assert len(returns) == 40 and set(returns) == {0, 1} and len(set(lengths)) == 1
    assert lengths[0] == envs.make("probe:remembered").worlds()[0].length


def test_predictor_vector_environment_gives_its_single_spaces(chosen):
    make = lambda: envs.make("probe:chosen").worlds()[0]
    env = gymnasium.vector.SyncVectorEnv([make] * 2)
    actions, _ = Predictor(chosen, env).predict(env.reset(seed=0)[0])
    assert env.action_space.contains(actions.astype(env.action_space.dtype))


def test_predictor_other_spaces_raise_one_sentence_naming_the_way_out(chosen):
    for env in (world(observation_space=gym.Box(-1, 1, (3,))), world(gym.Discrete(3))):
        with pytest.raises(
            ConfigError, match=r"does not fit this environment: .*TaskEnv\(run\) has the task"
        ):
            Predictor(chosen, env)
    with pytest.raises(ConfigError, match=r"which no agent here can handle: .*TaskEnv"):
        Predictor(chosen, world(observation_space=gym.Text(9)))


def test_predict_wrong_arguments_raise_one_sentence(chosen, nested):
    predictor, obs = Predictor(chosen, world()), np.zeros((2, 2), np.float32)
    _, state = predictor.predict(obs)
    with pytest.raises(ValueError, match=r"the state is of 2 episodes, but there are 3 observations"):
        predictor.predict(np.zeros((3, 2)), state)
    with pytest.raises(ValueError, match=r"episode_start has 1 flags, but there are 2 observations"):
        predictor.predict(obs, state, np.zeros(1))
    with pytest.raises(ValueError, match=r"the shape \(3,\), expected \(2,\) or a batch of these"):
        predictor.predict(np.zeros(3))
    with pytest.raises(ValueError, match="the observation lacks 'vector'"):
        Predictor(nested, FLAT).predict({"token": np.zeros(2)})
