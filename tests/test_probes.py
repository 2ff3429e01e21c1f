"""Probes: their best returns and values are what they say."""

import numpy as np
import pytest

import envs
from envs.probes import PROBES


class Scripted:
    """Plays a probe perfectly, from what it has seen."""

    def __init__(self, name):
        self.name = name

    def init(self, batch):
        return np.zeros(batch)

    def act(self, carry, step, *, key):
        shown = step.obs["vector"][:, 0]
        carry = np.where(step.is_first, shown, carry)
        if self.name == "continuous":
            return {"action": shown[:, None]}, carry
        if self.name == "remembered":
            return {"action": (carry > 0).astype(int)}, carry
        return {"action": np.ones(len(shown), int)}, carry


@pytest.mark.parametrize("name", PROBES)
def test_probe_scripted_policy_gets_the_optimal_return(name):
    env = envs.make(f"probe:{name}", 8)
    episodes = envs.rollout(Scripted(name), env, range(400))
    returns = [e.return_ for e in episodes]
    # Only "observed" is random under the best policy: a mean of 400 signs.
    assert np.mean(returns) == pytest.approx(PROBES[name].optimal_return, abs=0.15)
    if name != "observed":
        assert np.ptp(returns) < 1e-6
    assert {e.length for e in episodes} == {PROBES[name].length}


@pytest.mark.parametrize("name", PROBES)
def test_probe_random_policy_gets_the_random_return(name):
    env = envs.make(f"probe:{name}", 8)
    episodes = envs.rollout(envs.Random(env.act_space), env, range(400))
    mean = np.mean([e.return_ for e in episodes])
    assert mean == pytest.approx(PROBES[name].random_return, abs=0.15)


@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("name", PROBES)
def test_probe_optimal_value_equals_the_discounted_return(name, discount):
    env = envs.make(f"probe:{name}", 1)
    policy, total = Scripted(name), []
    for seed in range(200):
        step, carry, value, t = env.reset([seed]), policy.init(1), 0.0, 0
        while not step.is_last[0]:
            action, carry = policy.act(carry, step, key=0)
            step = env.step(action)
            value += discount**t * step.reward[0]
            t += 1
        total.append(value)
    assert np.mean(total) == pytest.approx(PROBES[name].optimal_value(discount), abs=0.2)


def test_probe_observed_shows_the_reward_beforehand():
    env = envs.make("probe:observed", 16)
    step = env.reset(list(range(16)))
    shown = step.obs["vector"][:, 0]
    assert set(shown) == {-1, 1}
    assert np.array_equal(env.step({"action": np.zeros(16, int)}).reward, shown)


def test_probe_remembered_hides_the_bit_after_the_first_step():
    env = envs.make("probe:remembered", 16)
    step = env.reset(list(range(16)))
    assert set(step.obs["vector"][:, 0]) == {-1, 1}
    for _ in range(3):
        step = env.step({"action": np.zeros(16, int)})
        assert not step.obs["vector"][:, 0].any()
    assert step.is_terminal.all() and set(step.reward) == {0, 1}


@pytest.mark.parametrize("name", PROBES)
def test_probe_every_probe_passes_the_check(name):
    assert [f for f in envs.check(f"probe:{name}", 30, elsewhere=False) if f.status == "fail"] == []
