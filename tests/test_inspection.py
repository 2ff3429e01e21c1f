"""The inspector answers as the agent acts and dreams: by hand, and the same thing asked in two ways."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import tiny

from dreamer import numbers
from dreamer.actors.policy import SAMPLED, Policy
from dreamer.agent import Agent
from dreamer.inspection import Episodes
from dreamer.ops import dists
from dreamer.records import Latent
from envs.api import Step

N, T = 3, 5
HORIZON = float(tiny.NUMBERS.behavior.horizon)


@pytest.fixture(scope="module")
def inspector():
    """Of an agent without chance."""
    return oracle.real(tiny.agent(), tiny.state().params)


@pytest.fixture(scope="module")
def played():
    """Episodes in which the agent itself chose the actions, and the latents it had then."""
    agent, params = tiny.agent(), tiny.state().params
    act = jax.jit(lambda *args, key: agent.act(params, *args, tiny.NUMBERS, key=key, actor=SAMPLED))
    obs = tiny.observation(np.random.default_rng(0), N, T)
    carry, found = agent.init_carry(N, SAMPLED), []
    for t in range(T):
        flag = np.full(N, t == 0)
        step = Step({k: v[:, t] for k, v in obs.items()}, np.zeros(N, np.float32), flag, ~flag, ~flag)
        action, carry = act(carry, step, key=jax.random.key(t))
        found.append((action, carry.latent))
    action, latent = jax.tree.map(lambda *x: np.stack(x, 1), *found)
    zeros = np.zeros((N, T))
    episodes = Episodes(obs, action, zeros.astype(np.float32), zeros.astype(bool), np.array([5, 3, 2]))
    return episodes, latent


@pytest.fixture(scope="module")
def readings(inspector, played):
    return inspector.read(played[0])


def start(readings):
    return jax.tree.map(lambda x: x[:, 0], readings.latent)


def actions(steps, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "move": rng.integers(0, 3, (N, steps)).astype(np.int32),
        "steer": rng.uniform(-1, 1, (N, steps, 2)).astype(np.float32),
    }


def close(a, b, rtol=1e-4, atol=1e-4):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def with_heads(**biases):
    """Parameters with heads that say the same of every state: {head: its logits}."""
    changed = dict(tiny.state().params)
    for name, logits in biases.items():
        out = changed[name]["out"]
        bias = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), out["bias"].shape)
        changed[name] = changed[name] | {"out": {"kernel": jnp.zeros_like(out["kernel"]), "bias": bias}}
    return changed


BINS = np.asarray(dists.symexp_bins(tiny.CFG.reward.bins), np.float64)


def certain(number):
    """Logits that stand for exactly this number."""
    chances = np.asarray(dists.twohot(jnp.float32(number), dists.symexp_bins(len(BINS))))
    return np.log(np.maximum(chances, 1e-38)) * (1 + 10 * (chances == 0))


def logit(p):
    return np.log(p / (1 - p))


# Reading.


def test_episodes_valid_mask_covers_slots_up_to_length(played):
    np.testing.assert_array_equal(played[0].valid.sum(1), [5, 3, 2])
    assert played[0].valid[:, 0].all()


def test_read_episode_gives_latents_of_acting(readings, played):
    close(readings.latent, played[1])


def test_read_slots_after_episode_end_have_no_influence(inspector, readings, played):
    episodes, _ = played
    blank = ~episodes.valid
    garbage = lambda x: np.where(blank.reshape(N, T, *[1] * (x.ndim - 2)), x[::-1, ::-1], x)
    other = episodes._replace(
        obs={k: garbage(v) for k, v in episodes.obs.items()},
        action={k: garbage(v) for k, v in episodes.action.items()},
    )
    again = inspector.read(other)
    within = lambda told: jax.tree.map(lambda x: np.asarray(x)[episodes.valid], told)
    jax.tree.map(np.testing.assert_array_equal, within(again), within(readings))
    assert (np.asarray(again.kl) != readings.kl)[blank].any()


def test_read_kl_is_positive_and_entropies_are_bounded(readings):
    most = 4 * np.log(4)
    assert (np.asarray(readings.kl) > 0).all()
    for entropy in (readings.posterior_entropy, readings.prior_entropy):
        assert (np.asarray(entropy) > 0).all() and (np.asarray(entropy) < most).all()


def test_read_with_unimix_one_has_zero_kl_and_maximal_entropy(inspector, played):
    """With unimix 1 posterior and prior are both uniform over 4 classes in 4 groups."""
    told = oracle.real(
        inspector.agent, inspector.params, numbers.replace(tiny.NUMBERS, {"loss.unimix": jnp.float32(1)})
    )
    told._read = inspector._read  # it is compiled already
    readings = told.read(played[0])
    close(readings.kl, np.zeros((N, T)), atol=1e-6)
    for entropy in (readings.posterior_entropy, readings.prior_entropy):
        close(entropy, np.full((N, T), 4 * np.log(4)))


# Going on without looking.


def test_forecast_several_actions_equals_one_at_a_time(inspector, readings):
    action = actions(3)
    reached, told = inspector.forecast(start(readings), action)
    latent = start(readings)
    for t in range(3):
        there = lambda x, t=t: x[:, t : t + 1]
        one, step = inspector.forecast(latent, jax.tree.map(there, action))
        close(one, jax.tree.map(there, reached))
        close(step.obs, jax.tree.map(there, told.obs), rtol=1e-3)
        close(step.heads.cont, there(told.heads.cont))
        latent = jax.tree.map(lambda x: x[:, 0], one)


def test_forecast_matches_imagination_with_decoder_and_heads(inspector, readings):
    agent, params, action = inspector.agent, inspector.params, actions(3)
    world = agent.world(params, tiny.NUMBERS)

    def direct(latent, key):
        dreamt = world.rssm.replay_actions(latent, action, unimix=0.01, sampler=agent.sampler, key=key)
        heads = world.policy_head(dreamt.feat, 0.01).values()
        numbers = {"reward": world.reward(dreamt.feat), "value": world.value(dreamt.feat)}
        obs = world.objective.decode(dreamt)
        return dreamt, obs, numbers, sum(head.entropy() for head in heads)

    reached, told = inspector.forecast(start(readings), action)
    dreamt, obs, numbers, entropy = jax.jit(direct)(start(readings), jax.random.key(0))
    close(reached, dreamt)
    close(told.obs, obs, rtol=1e-3)
    close(told.heads.entropy, entropy)
    for name, number in numbers.items():
        close(getattr(told.heads, name), number, atol=1e-5 * BINS[-1])


def test_decode_forecast_latent_equals_forecast_outputs(inspector, readings):
    reached, told = inspector.forecast(start(readings), actions(3))
    close(inspector.decode(reached), told, rtol=1e-3, atol=1e-5 * BINS[-1])


def test_decode_prior_deterministic_agent_equals_forecast_observations(inspector, readings):
    """Where the most likely z is taken, a dream sees what its h alone expects."""
    reached, told = inspector.forecast(start(readings), actions(3))
    blind = Latent(reached.deter, jnp.zeros_like(reached.stoch))
    close(inspector.decode_prior(blind), told.obs, rtol=1e-3)


def test_open_loop_mean_without_chance_equals_forecast(inspector, readings):
    _, told = inspector.forecast(start(readings), actions(3))
    foreseen = inspector.open_loop_mean(start(readings), actions(3))
    close(foreseen, jax.tree.map(lambda x: x[:, -1], told.heads), rtol=1e-3, atol=1e-5 * BINS[-1])


def test_open_loop_mean_with_chance_is_mean_over_samples(inspector, readings):
    """With unimix 1 every z is as likely, and a single dream tells little."""
    hyper = numbers.replace(tiny.NUMBERS, {"loss.unimix": jnp.float32(1)})
    chance = oracle.real(tiny.agent(dists.RANDOM), inspector.params, hyper)
    keys = jax.random.split(jax.random.key(0), 8)
    single = [
        chance._forecast(chance.params, chance.numbers, start(readings), actions(2), key)[1].heads
        for key in keys
    ]
    mean = jax.tree.map(lambda *x: np.mean(x, 0)[:, -1], *single)
    foreseen = chance.open_loop_mean(start(readings), actions(2))
    close(foreseen.cont, mean.cont)
    close(foreseen.reward, mean.reward, atol=1e-5 * BINS[-1])
    close(foreseen.entropy, mean.entropy)
    assert np.std([x.cont[:, -1] for x in single], 0).max() > 0.01


# What the heads say.


@pytest.mark.parametrize(("inside", "said"), [(True, 1.0), (False, 1 - 1 / HORIZON)])
def test_decode_cont_has_discount_removed_and_is_at_most_one(readings, inside, said):
    agent = Agent(tiny.OBS, tiny.ACT, tiny.config(behavior__discount_in_cont=inside), tiny.DETERMINISTIC)
    inspector = oracle.real(agent, with_heads(cont=logit(1 - 1 / HORIZON)))
    close(inspector.decode(start(readings)).heads.cont, np.full(N, said), rtol=1e-5)
    inspector.params = with_heads(cont=logit(0.5))
    half = 0.5 / (1 - 1 / HORIZON) if inside else 0.5
    close(inspector.decode(start(readings)).heads.cont, np.full(N, half), rtol=1e-5)
    inspector.params = with_heads(cont=20.0)
    assert (np.asarray(inspector.decode(start(readings)).heads.cont) <= 1).all()


@pytest.fixture
def rewarded(inspector, readings, monkeypatch):
    """What is told of the reward by a head with these logits."""

    def told(logits):
        monkeypatch.setattr(inspector, "params", with_heads(reward=logits))
        heads = inspector.decode(start(readings)).heads
        return heads.reward, heads.reward_spread

    return told


@pytest.mark.parametrize("bin_", [0, 4, 7, 9])
def test_decode_reward_certain_head_has_zero_spread(rewarded, bin_):
    mean, unsure = rewarded(certain(BINS[bin_]))
    close(mean, np.full(N, BINS[bin_]), rtol=1e-5)
    close(unsure, np.zeros(N), atol=1e-5 * (1 + abs(BINS[bin_])))


def test_decode_reward_two_bins_have_spread_of_their_distance(rewarded):
    """Bins are 20/7 apart in symlog space, where distances are taken; the mean lies at 0 between -b and b."""
    for i in range(1, 8):
        logits = np.full(15, -100.0)
        logits[[7 - i, 7 + i]] = 0
        mean, unsure = rewarded(logits)
        close(mean, np.zeros(N))
        close(unsure, np.full(N, i * 20 / 7), rtol=1e-4)


def test_decode_reward_unlikely_far_bins_have_small_spread(rewarded):
    """A millionth of it at the last two bins, half a billion away: their parts of the mean are 485 each."""
    logits = np.full(15, -100.0)
    logits[[0, 14]] = np.log(1e-6)
    logits[7] = 0
    mean, unsure = rewarded(logits)
    close(unsure, np.full(N, 2 * 20e-6), rtol=1e-3, atol=485 * 2**-24)  # the mean is rounded


# Dreams.


def by_hand(reward, goes_on, value, lam, steps):
    worth = value
    for _ in range(steps):
        worth = reward + goes_on * ((1 - lam) * value + lam * worth)
    return worth


@pytest.mark.parametrize("inside", [True, False])
def test_dream_constant_heads_match_hand_computed_return(readings, inside):
    """The discount may live in the head or beside it: the return is the same."""
    r, c, v = 0.7, 0.8, -2.0
    agent = Agent(tiny.OBS, tiny.ACT, tiny.config(behavior__discount_in_cont=inside), tiny.DETERMINISTIC)
    discount = 1 - 1 / HORIZON
    said = logit(c * discount if inside else c)
    inspector = oracle.real(agent, with_heads(reward=certain(r), cont=said, value=certain(v)))
    promised = inspector.dream(start(readings), 3)
    close(promised, np.full(N, by_hand(r, c * discount, v, float(tiny.NUMBERS.behavior.lam), 3)))


def test_dream_ended_rollout_returns_next_reward(inspector, readings, monkeypatch):
    heads = with_heads(reward=certain(0.7), cont=-100.0, value=certain(9))
    monkeypatch.setattr(inspector, "params", heads)
    close(inspector.dream(start(readings), 3), np.full(N, 0.7))


def test_choose_latent_equals_action_of_agent(inspector, played):
    """`oracle.real` is an agent without chance: acting and choosing see the same latent."""
    episodes, _ = played
    agent, params = inspector.agent, inspector.params
    flag = np.ones(N, bool)
    step = Step({k: v[:, 0] for k, v in episodes.obs.items()}, np.zeros(N, np.float32), flag, ~flag, ~flag)
    carry = agent.init_carry(N, SAMPLED)
    key, greedy = jax.random.key(0), Policy(greedy=True)
    action, carry = agent.act(params, carry, step, tiny.NUMBERS, key=key, actor=greedy)
    close(inspector.choose(carry.latent), action)
