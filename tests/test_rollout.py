"""rollout: one episode per seed, whatever the number of copies."""

import numpy as np
import pytest

import envs
from envs.rollout import Random, rollout

SOUND = "gymnasium:faulty_env:Sound-v0"


class ByOffset:
    """Deterministic; the length of its episodes depends on their seed."""

    def init(self, batch):
        return np.zeros(batch, int)

    def act(self, carry, step, *, key):
        carry = np.where(step.is_first, 0, carry + 1)
        stop = carry >= 4 + 8 * (step.obs["offset"][:, 0] + 1) / 2
        return {"action": stop.astype(int)}, carry


def outcomes(episodes):
    return [(e.seed, e.return_, e.length, e.success) for e in episodes]


def test_rollout_one_episode_matches_hand_computation():
    env = envs.make("probe:delayed")
    (episode,) = rollout(Random(env.act_space), env, [11])
    assert (episode.seed, episode.return_, episode.length, episode.success) == (11, 1.0, 2, None)
    assert 0 < episode.seconds < 10


def test_rollout_episode_records_small_log_observations():
    env = envs.make("jax:my_jax_env:Counting", 2)
    episodes = rollout(Random(env.act_space), env, range(3))
    assert [e.log for e in episodes] == [{"counts": [5, 50]}] * 3 and episodes[0].success is None


class Always:
    """Takes the same action, whatever happens."""

    def __init__(self, action):
        self.action = action

    def init(self, batch):
        return None

    def act(self, carry, step, *, key):
        return {"action": np.full(len(step.is_first), self.action)}, carry


@pytest.mark.parametrize(
    ("action", "max_steps", "length", "discount"),
    [(1, None, 5, 0.0), (0, None, 12, 1.0), (1, 4, 4, 1.0), (1, 5, 5, 0.0), (0, 4, 4, 1.0)],
)
def test_rollout_discount_is_0_only_after_termination(action, max_steps, length, discount):
    episodes = rollout(Always(action), envs.make(SOUND, 2), range(5), max_steps=max_steps)
    assert [(e.length, e.discount) for e in episodes] == [(length, discount)] * 5


@pytest.mark.parametrize(
    ("action", "max_steps", "cut"),
    [(1, None, False), (1, 5, False), (1, 4, True), (0, 12, False), (0, 11, True)],
)
def test_rollout_cut_is_true_for_episodes_stopped_at_max_steps(action, max_steps, cut):
    episodes = rollout(Always(action), envs.make(SOUND, 2), range(5), max_steps=max_steps)
    assert [e.cut for e in episodes] == [cut] * 5


@pytest.mark.parametrize("num_envs", [1, 2, 5])
def test_rollout_endless_episode_is_cut_at_max_steps(num_envs):
    env = envs.make("gymnasium:faulty_env:Endless-v0", num_envs)
    episodes = rollout(Always(1), env, range(5), max_steps=20)
    assert [(e.seed, e.length, e.return_, e.cut, e.discount) for e in episodes] == [
        (seed, 20, 20.0, True, 1.0) for seed in range(5)
    ]


@pytest.mark.parametrize("num_envs", [2, 3, 8, 32])
def test_rollout_number_of_copies_does_not_change_the_episodes(num_envs):
    seeds = [*range(20), 3, 3]
    one = rollout(ByOffset(), envs.make(SOUND, 1), seeds)
    many = rollout(ByOffset(), envs.make(SOUND, num_envs), seeds)
    assert [e.seed for e in many] == seeds
    assert outcomes(one) == outcomes(many)
    assert len({e.length for e in one}) > 3  # the episodes do differ


def test_rollout_without_seeds_is_empty():
    assert rollout(ByOffset(), envs.make(SOUND, 2), []) == []


def test_rollout_success_is_that_of_the_task():
    env = envs.make("minigrid:Empty-5x5", 4)
    episodes = rollout(Random(env.act_space), env, range(12))
    assert {e.success for e in episodes} == {True, False}
    assert all(e.success == (e.return_ > 0) for e in episodes)


def test_random_equal_key_gives_equal_episodes_and_another_key_others():
    def play(key):
        env = envs.make("minigrid:Empty-5x5", 2)
        return outcomes(rollout(Random(env.act_space), env, range(4), key=key))

    assert play(0) == play(0) != play(1)


def test_random_many_copies_cover_the_action_space():
    env = envs.make("gymnasium:Pendulum-v1", 500)
    step = env.reset()
    action, _ = Random(env.act_space).act(None, step, key=0)
    assert action["action"].shape == (500, 1) and action["action"].dtype == np.float32
    assert action["action"].min() < -0.9 and action["action"].max() > 0.9
    chosen, _ = Random({"a": envs.Space((3,), "int32", 4)}).act(None, step, key=0)
    assert chosen["a"].shape == (500, 3) and set(chosen["a"].flat) == {0, 1, 2, 3}


def test_rollout_on_step_receives_every_slot_with_its_episode_index():
    slots = []
    env = envs.make("probe:delayed", 2)
    rollout(
        Random(env.act_space),
        env,
        [1, 2, 3],
        on_step=lambda step, action, index: slots.append((index.tolist(), step.is_first.tolist())),
    )
    first, later = [True, True], [False, False]
    assert slots == [
        *(([0, 1], flag) for flag in (first, later, later)),
        *(([2, -1], flag) for flag in (first, later, later)),
    ]


@pytest.mark.parametrize("num_envs", [1, 2, 5])
def test_rollout_max_steps_truncates_length_and_return(num_envs):
    seeds = range(7)
    full = rollout(ByOffset(), envs.make(SOUND, 1), seeds)
    cut = rollout(ByOffset(), envs.make(SOUND, num_envs), seeds, max_steps=8)
    assert [e.length for e in cut] == [min(e.length, 8) for e in full]
    assert [e.return_ for e in cut] == [e.return_ if e.length <= 8 else 0.0 for e in full]


def test_rollout_every_slot_has_its_own_key():
    keys = []

    class Listening(Random):
        def act(self, carry, step, *, key):
            keys.append(key)
            return super().act(carry, step, key=key)

    env = envs.make(SOUND)
    rollout(Listening(env.act_space), env, [0, 1], key=5)
    assert len(set(keys)) == len(keys) and all(0 <= k < 2**31 for k in keys)
