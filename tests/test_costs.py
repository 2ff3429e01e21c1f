"""Costs: taken off the reward wherever a world is asked for it, and goals as distances."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer import costs, rssm
from dreamer.actors import named
from dreamer.actors.charged import Charged
from dreamer.ops import dists
from dreamer.player import Player
from dreamer.schema import ConfigError

FEAT = tiny.CFG.rssm.features


@pytest.fixture(scope="module")
def world():
    return tiny.agent().world(tiny.state().params, tiny.NUMBERS)


@pytest.fixture(scope="module")
def feat():
    """[3, 5, F] of latents: some h, one-hot z."""
    rng = np.random.default_rng(0)
    deter = jnp.asarray(rng.uniform(-1, 1, (3, 5, 16)), jnp.float32)
    stoch = jax.nn.one_hot(rng.integers(0, 4, (3, 5, 4)), 4)
    return jnp.concatenate([deter, stoch.reshape(3, 5, 16)], -1)


def first(world, latent, decoded):
    """h_0 of every state."""
    return latent.deter[:, 0]


def test_reward_of_world_without_cost_is_what_head_expects(world, feat):
    np.testing.assert_array_equal(world.reward(feat), world.reward_head.expected(feat))
    np.testing.assert_array_equal(world.charge(feat), np.zeros((3, 5)))


@pytest.mark.parametrize("weight", [1.0, 0.25, 0.0])
def test_with_cost_reward_is_weighed_less_cost_and_critics_are_weighed(world, feat, weight):
    charged = world.with_cost(first, weight)
    expected = weight * world.reward(feat) - feat[..., 0]
    np.testing.assert_allclose(charged.reward(feat), expected, rtol=1e-6)
    np.testing.assert_allclose(charged.value(feat), weight * world.value(feat), rtol=1e-6)
    np.testing.assert_allclose(charged.values(feat), weight * world.values(feat), rtol=1e-6)
    np.testing.assert_array_equal(charged.discount(feat), world.discount(feat))


def test_split_is_inverse_of_feat(feat):
    latent = rssm.split(tiny.CFG.rssm, feat)
    assert latent.deter.shape == (3, 5, 16) and latent.stoch.shape == (3, 5, 4, 4)
    np.testing.assert_array_equal(latent.feat, feat)


def test_cost_is_asked_with_flat_states_their_look_and_world_without_cost(world, feat):
    heard = {}

    def listening(inner, latent, decoded):
        heard.update(shape=latent.feat.shape, cost=inner.cost, keys={k: v.shape for k, v in decoded.items()})
        return inner.reward(latent.feat)

    charged = world.with_cost(listening)
    np.testing.assert_allclose(charged.reward(feat), 0, atol=1e-6)  # the reward less itself
    assert heard == {"shape": (15, FEAT), "cost": None, "keys": {"vector": (15, 3), "token": (15, 2)}}


def test_cost_may_be_a_predicate(world, feat):
    charged = world.with_cost(lambda world, latent, decoded: latent.deter[:, 0] > 0)
    np.testing.assert_array_equal(charged.charge(feat), (feat[..., 0] > 0).astype(np.float32))


@pytest.mark.parametrize("value", [lambda n: 1.0, lambda n: jnp.zeros((n, 1)), lambda n: jnp.zeros(n + 1)])
def test_cost_other_than_number_for_every_state_is_refused(world, feat, value):
    with pytest.raises(ValueError, match=r"one number for each of N states, \[N\], but of 15 it is"):
        world.with_cost(lambda world, latent, decoded: value(len(latent.deter))).reward(feat)


def test_ending_and_failure_by_hand(world, feat, monkeypatch):
    flat = feat.reshape(15, FEAT)
    latent = rssm.split(tiny.CFG.rssm, flat)
    over, middle = 1 - world.survival(flat), float(np.median(world.reward(flat)))
    monkeypatch.setattr(costs, "REWARDED", middle)
    np.testing.assert_allclose(costs.ending(world, latent, None), over)
    expected = np.where(world.reward(flat) < middle, over, 0)
    assert (expected > 0).sum() == 7
    np.testing.assert_allclose(costs.failure(world, latent, None), expected)


def test_sum_weighs_its_terms(world, feat):
    two = costs.Sum(((first, 2.0), (lambda world, latent, decoded: latent.deter[:, 1] > 0, -3.0)))
    expected = 2 * feat[..., 0] - 3 * (feat[..., 1] > 0)
    np.testing.assert_allclose(world.with_cost(two).charge(feat), expected, rtol=1e-6)


# Goals.


def goal(distance, **changes):
    obs = {"vector": np.array([1.0, 2, 3], np.float32), "token": np.array([1, 4])} | changes
    return costs.goal(obs, tiny.OBS, distance)


def test_goal_latent_distance_is_surprise_of_seeing_it(world, feat):
    latent = rssm.split(tiny.CFG.rssm, feat.reshape(15, FEAT))
    there = {k: jnp.asarray(v)[None] for k, v in goal("latent").obs.items()}
    for n in (0, 7):
        tokens = world.encoder(there, 1, world.dtype)[0]
        h = latent.deter[n]
        q = world.rssm.post_out(world.rssm.post(jnp.concatenate([h, tokens])[None]))[0].reshape(4, 4)
        q = dists.unimix_logp(q, tiny.NUMBERS.loss.unimix)
        expected = dists.categorical_kl(q, world.prior(h)).mean()
        np.testing.assert_allclose(goal("latent")(world, latent, None)[n], expected, rtol=1e-4)


def test_goal_latent_posterior_is_that_of_observe():
    agent, batch = tiny.agent(), tiny.batch()
    world = agent.world(tiny.state().params, tiny.NUMBERS)
    latent, action = agent.context(batch)
    seen = world.observe(latent, batch.obs, action, batch.is_first, key=jax.random.key(0))
    logp = world.after_looking(seen.latent.deter, seen.tokens)
    np.testing.assert_allclose(logp, world.posterior(seen), rtol=1e-4, atol=1e-5)


def test_goal_embedding_distance_is_zero_at_goal_and_needs_decoder(world, feat):
    latent = rssm.split(tiny.CFG.rssm, feat.reshape(15, FEAT))
    seen = {k: jnp.stack([jnp.asarray(v)] * 15) for k, v in goal("latent").obs.items()}
    np.testing.assert_allclose(goal("embedding")(world, latent, seen), 0, atol=1e-5)
    far = goal("embedding")(world, latent, world.decode(latent))
    assert (far > 1e-3).all() and (far <= 2).all()
    with pytest.raises(ValueError, match="take the distance between latents"):
        goal("embedding")(world, latent, None)


@pytest.mark.parametrize(
    ("obs", "sentence"),
    [
        ({"vector": np.zeros(3)}, "the goal lacks token: it must be an observation with vector, token"),
        (np.zeros(3), "the goal lacks vector, token"),
        ({"vector": np.zeros((1, 3)), "token": np.zeros(2)}, r"'vector' of the goal has shape \(1, 3\)"),
    ],
)
def test_goal_that_is_no_observation_is_refused(obs, sentence):
    with pytest.raises(ConfigError, match=sentence):
        costs.goal(obs, tiny.OBS)


# Planners.


def test_charged_planner_does_what_the_cost_leaves_best():
    # Whatever the task's reward is here: alone, the cost of h_0 decides, and least h_0 is the wish.
    agent = tiny.agent(dists.RANDOM, dataclasses.replace(tiny.CFG))
    space = {"move": tiny.ACT["move"], "steer": tiny.ACT["steer"]}
    actor = named("gumbel:simulations=8")(space)
    low = Charged(actor, first, agent.decoder, reward_weight=0.0)
    assert low.modules == ("rssm", "reward", "cont", "value", "policy", "objective")
    assert low.model_steps == 8 and low.init(3).search == ()


@pytest.mark.parametrize("probe", [False, True])
def test_charged_planner_of_agent_without_decoder_acts_with_the_parameters_it_asks_for(probe):
    agent = tiny.agent(dists.RANDOM, tiny.config(objective="barlow", probe_decoder=probe))
    shown = []

    def cost(world, latent, decoded):
        shown.append(decoded is not None)
        return latent.deter[:, 0]

    params = agent.init(jax.random.key(0)).params
    player = Player(agent, params, tiny.NUMBERS, actor="gumbel:simulations=2", cost=cost)
    obs = {name: np.zeros((1, *space.shape), space.dtype) for name, space in tiny.OBS.items()}
    with jax.debug_key_reuse(False):  # mctx uses keys twice
        action, _ = player.act(player.init(1), obs)
    assert set(action) == set(tiny.ACT) and set(shown) == {probe}


def test_charged_changes_choice_of_planner():
    from fake_world import FakeWorld, latent

    choice = {"go": tiny.ACT["move"]}
    move = lambda s, a: jnp.stack([s[:, 0] + a["go"], s[:, 0] * 0], -1)

    @dataclasses.dataclass(frozen=True)
    class Wished(FakeWorld):
        def with_cost(self, cost, weight):
            reward = lambda s: weight * self.reward_of(s) - cost(self, s, None)
            return dataclasses.replace(self, reward_of=reward)

    even = lambda s: {"go": dists.Categorical(jnp.full((*s.shape[:-1], 3), -jnp.log(3.0)), 0)}
    world = Wished(move, lambda s: s[..., 0], policy_of=even)
    far, near = named("categorical_cem")(choice), None
    near = Charged(far, lambda world, state, decoded: 3.0 * (state[..., 0] > 0.5), "")
    chosen = lambda actor: actor.act(
        world, latent(np.zeros((1, 2))), actor.init(1), jnp.array([True]), key=jax.random.key(7)
    )[0]["go"].tolist()
    assert chosen(far) == [2] and chosen(near) == [2]  # 0 + 2 + ... earns more than 3 a step
    dear = Charged(far, lambda world, state, decoded: 30.0 * (state[..., 0] > 0.5), "")
    assert chosen(dear) == [0]
