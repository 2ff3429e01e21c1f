"""A core declares its state and everything around it takes that as it is: another is a file and a line."""

from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

import dreamer
from dreamer.actors.policy import SAMPLED, Policy
from dreamer.agent import Agent, Carry
from dreamer.config import RSSMConfig
from dreamer.cores import CORES
from dreamer.nets.layers import Linear
from dreamer.ops import dists
from dreamer.player import Player
from dreamer.records import State
from dreamer.replay.device import DeviceReplay
from dreamer.replay.host import HostReplay
from envs.api import Space, Step

E, T = 3, 4


class Average(nnx.Module):
    """A core with a state besides h: a slow average of what it read, in float32 whatever h is.

    m' = 0.9 m + 0.1 tanh(W [z, a]),    h' = tanh(V m' + h / 2)
    """

    def __init__(self, action_width, cfg, *, init):
        self.cfg = cfg
        self.inward = Linear(cfg.stoch * cfg.classes + action_width, 5, init=init)
        self.outward = Linear(5, cfg.deter, init=init)

    @staticmethod
    def initial(cfg, batch, dtype):
        # An episode does not start from zeros here, so that a reset must ask.
        return State(jnp.full((batch, cfg.deter), 0.5, dtype), {"average": jnp.ones((batch, 5))})

    @staticmethod
    def entries(cfg):
        return {"output": Space((cfg.deter,), "bfloat16"), "average": Space((5,), "float32")}

    @staticmethod
    def pack(state):
        return {"output": state.deter.astype(jnp.bfloat16), "average": state.memory["average"]}

    @staticmethod
    def unpack(packed, dtype):
        return State(packed["output"].astype(dtype), {"average": jnp.asarray(packed["average"])})

    def read(self, action):
        return action

    def weights(self):
        return ()

    def carry(self, state):
        return state

    def step(self, weights, carry, stoch, action):
        drive = jnp.tanh(self.inward(jnp.concatenate([stoch, action], -1)))
        average = 0.9 * carry.memory["average"] + 0.1 * drive.astype(jnp.float32)
        deter = jnp.tanh(self.outward(average.astype(carry.deter.dtype)) + carry.deter / 2)
        return State(deter, {"average": average})

    def state(self, carry):
        return carry


@pytest.fixture
def agent(monkeypatch):
    """An agent with that core."""
    monkeypatch.setitem(CORES, "gru", Average)
    return Agent(tiny.OBS, tiny.ACT, tiny.CFG, tiny.DETERMINISTIC)


def episode(seed=0):
    """T slots of E environments, of which the first restarts at slot 2."""
    rng = np.random.default_rng(seed)
    for t in range(T):
        first = np.array([t in (0, 2), t == 0, t == 0])
        nothing = np.zeros(E, bool)
        yield Step(tiny.observation(rng, E), rng.normal(size=E).astype(np.float32), first, nothing, nothing)


def test_core_config_choices_equal_registered_cores():
    assert set(get_args(get_type_hints(RSSMConfig)["core"])) == set(CORES)
    assert RSSMConfig().core == "gru"


def test_core_entries_are_replay_columns(agent):
    assert list(agent.entries) == ["output", "average", "stoch"]
    args = 40, E, tiny.OBS, tiny.ACT, agent.entries
    layout = HostReplay(*args).layout
    assert str(layout.columns["average"]) == "float32[5]"
    assert DeviceReplay(*args).layout == layout


def test_core_stored_state_restores_latents_for_training(agent):
    """Acting, both replays, learning and refreshing with a core of which none of them knows."""
    state = jax.jit(agent.init)(jax.random.key(0))
    host, device = (kind(40, E, tiny.OBS, tiny.ACT, agent.entries) for kind in (HostReplay, DeviceReplay))
    act = jax.jit(lambda *args: agent.act(*args, tiny.NUMBERS, key=jax.random.key(1), actor=SAMPLED))
    carry, ring, latents = agent.init_carry(E, SAMPLED), device.init(), []
    for step in episode():
        action, carry = act(state.params, carry, step)
        latents.append(agent.pack(carry.latent))
        host.add(step, action, latents[-1])
        ring = device.add(ring, step, action, latents[-1])
    batch, where = host.sample(jax.random.key(2), E, T - 1)
    ring, same, there = device.sample(ring, E, T - 1, key=jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, (batch, where), (same, there))
    env = where[0]
    np.testing.assert_array_equal(batch.context_latent["average"], np.asarray(latents[0]["average"])[env])

    train = jax.jit(lambda state, batch: agent.train_step(state, batch, tiny.NUMBERS, key=jax.random.key(3)))
    after, posteriors, metrics = train(state, batch)
    assert np.isfinite(metrics["loss"])
    moved = lambda name: np.abs(after.params["rssm"][name]["kernel"] - state.params["rssm"][name]["kernel"])
    assert moved("inward").max() > 0 and moved("outward").max() > 0
    for t in range(1, T):  # the model follows as it acted, resets included
        acted = np.asarray(latents[t]["average"])[env]
        np.testing.assert_allclose(posteriors["average"][:, t - 1], acted, rtol=1e-4, atol=1e-5)

    host.refresh(where, posteriors)
    ring = device.refresh(ring, there, posteriors)
    for name in agent.entries:
        stored = np.asarray(ring.columns[name])[:, :T]
        np.testing.assert_array_equal(stored, host._ring[name][:, :T].view(stored.dtype))


def test_core_reset_at_episode_start_restores_initial_state(agent):
    state, (first, second, *_) = jax.jit(agent.init)(jax.random.key(0)), episode()
    act = jax.jit(
        lambda *args: agent.act(*args, tiny.NUMBERS, key=jax.random.key(1), actor=Policy(greedy=True))
    )
    _, carry = act(state.params, agent.init_carry(E, SAMPLED), first)
    carry = carry._replace(latent=carry.latent._replace(memory={"average": -jnp.ones((E, 5))}))
    _, later = act(state.params, carry, second)
    assert (later.latent.memory["average"] <= -0.8).all()
    second = second._replace(is_first=np.ones(E, bool))
    _, again = act(state.params, carry, second)
    assert (again.latent.memory["average"] >= 0.8).all()
    _, fresh = act(state.params, agent.init_carry(E, SAMPLED), second)
    jax.tree.map(np.testing.assert_array_equal, again.latent, fresh.latent)


def test_core_imagination_uses_whole_state(agent):
    """Open loop, under actions of a policy and step by step: the same states."""
    params = jax.jit(agent.init)(jax.random.key(0)).params
    world = agent.world(params, tiny.NUMBERS)
    start = agent.unpack(agent.pack(world.initial(E)))._replace(memory={"average": jnp.full((E, 5), -2.0)})
    action = {"move": jnp.zeros((E, 2), jnp.int32), "steer": jnp.ones((E, 2, 2)) / 2}
    reached = world.rollout(start, action, key=jax.random.key(0))
    one = world.step(start, {k: a[:, 0] for k, a in action.items()}, key=jax.random.key(0))
    two = world.step(one, {k: a[:, 1] for k, a in action.items()}, key=jax.random.key(0))
    last = jax.tree.map(lambda x: x[:, 1], reached)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), two, last)
    policy = lambda feat, key: {k: a[:, 0] for k, a in action.items()}
    dream = world.imagine(start, policy, 2, key=jax.random.key(0))
    np.testing.assert_allclose(dream.feat[1:].swapaxes(0, 1), reached.feat, rtol=1e-5, atol=1e-6)
    with pytest.raises(AssertionError, match=r"memory.*average"):
        world.step(start._replace(memory={"average": jnp.zeros((E, 4))}), action, key=jax.random.key(0))


def test_core_custom_agent_is_stored_loaded_and_played(agent, tmp_path):
    state = jax.jit(agent.init)(jax.random.key(0))
    player = dreamer.load(tiny.store(tmp_path / "run", state, agent))
    assert isinstance(player, Player)
    step = next(episode())
    action, carry = player.act(player.init(E), step)
    without_flags, _ = player.act(player.init(E), step.obs)
    jax.tree.map(np.testing.assert_array_equal, action, without_flags)
    assert isinstance(carry, Carry) and carry.latent.memory["average"].shape == (E, 5)
    assert player.agent.sampler is dists.RANDOM
