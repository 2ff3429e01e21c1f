"""A recording is what a loop over the environment would have seen, whoever else plays beside it."""

import numpy as np
import pytest

import envs
from envs.rollout import Random
from experiments.report.recording import record

SOUND = "gymnasium:faulty_env:Sound-v0"


class ByOffset:
    """Deterministic; the length of its episodes depends on their seed, its actions on its memory."""

    def init(self, batch):
        return np.zeros(batch, int)

    def act(self, carry, step, *, key):
        carry = np.where(step.is_first, 0, carry + 1)
        stop = carry >= 4 + 8 * (step.obs["offset"][:, 0] + 1) / 2
        return {"action": (stop | (carry % 3 == 1) & (carry < 4)).astype(int)}, carry


def alone(seed, max_steps):
    """The slots of one episode and what was done in them, by hand."""
    env, policy = envs.make(SOUND, 1), ByOffset()
    step, carry, slots = env.reset([seed]), policy.init(1), []
    while True:
        action, carry = policy.act(carry, step, key=0)
        slots.append((step, action))
        if step.is_last[0] or len(slots) - 1 == max_steps:
            return slots
        step = env.step(action)


@pytest.mark.parametrize("max_steps", [None, 7])
@pytest.mark.parametrize("num_envs", [1, 3, 16])
def test_record_any_number_of_copies_equals_a_loop_per_episode(num_envs, max_steps):
    """More seeds than copies or fewer, whole or cut: the slots of another seed never get in."""
    seeds = [5, 3, 8, 13, 3, 21, 1]
    played, episodes = record(ByOffset(), envs.make(SOUND, num_envs), seeds, max_steps=max_steps)
    loops = [alone(seed, max_steps) for seed in seeds]
    lengths = [len(slots) for slots in loops]
    assert len(set(lengths)) > 1 and episodes.reward.shape == (7, max(lengths))
    np.testing.assert_array_equal(episodes.length, lengths)
    for n, slots in enumerate(loops):
        for t, (step, action) in enumerate(slots):
            for k, v in step.obs.items():
                np.testing.assert_array_equal(episodes.obs[k][n, t], v[0])
            assert episodes.action["action"][n, t] == action["action"][0]
            assert episodes.reward[n, t] == step.reward[0]
            assert episodes.is_terminal[n, t] == step.is_terminal[0]
    assert [e.seed for e in played] == seeds
    np.testing.assert_allclose(episodes.reward.sum(1), [e.return_ for e in played])
    np.testing.assert_array_equal(episodes.is_terminal.any(1), [e.discount == 0 for e in played])


def test_record_episode_starts_without_reward_and_terminates_at_most_once():
    _, episodes = record(ByOffset(), envs.make(SOUND, 2), range(8))
    last = np.arange(episodes.reward.shape[1]) == episodes.length[:, None] - 1
    assert (episodes.obs["count"][:, 0] == 0).all() and not episodes.reward[:, 0].any()
    assert episodes.is_terminal.any() and not episodes.is_terminal[~last].any()
    assert not episodes.is_terminal[last].all()  # some ran out of time


def test_record_slots_after_the_end_are_zero():
    _, episodes = record(ByOffset(), envs.make(SOUND, 2), range(8))
    blank = ~episodes.valid
    assert blank.any()
    for v in (*episodes.obs.values(), *episodes.action.values(), episodes.reward, episodes.is_terminal):
        assert not v[blank].any()


def test_record_arrays_keep_the_dtypes_of_the_spaces():
    env = envs.make("minigrid:Empty-5x5", 2)
    _, episodes = record(Random(env.act_space), env, range(3), max_steps=4)
    for k, space in env.obs_space.items():
        assert episodes.obs[k].dtype == space.dtype and episodes.obs[k].shape[2:] == space.shape
    assert (episodes.reward.dtype, episodes.is_terminal.dtype) == (np.float32, bool)
    np.testing.assert_array_equal(episodes.length, [5, 5, 5])
    env.close()
