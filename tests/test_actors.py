"""The seam of actors: a planner of one class and one line acts wherever agents act."""

import json
import pickle
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.actors import ACTORS, expected_return, named
from dreamer.agent import Agent, acting_params
from dreamer.player import Player, load
from dreamer.schema import ConfigError
from envs.api import Space, Spaces, Step
from experiments.cli import main

ACT = {"action": Space((), "int32", 3)}
TASK = "probe:chosen"


@dataclass(frozen=True)
class Lookahead:
    """Imagines one step for every action and takes the best; counts the steps of the episode."""

    act_space: Spaces

    @property
    def modules(self):
        return ("rssm", "reward", "cont", "value")

    def init(self, batch):
        return jnp.zeros(batch, jnp.int32)

    def act(self, world, latent, memory, is_first, *, key):
        (name, space), *_ = self.act_space.items()

        N, A = len(is_first), space.num_classes
        every = {name: jnp.tile(jnp.arange(A, dtype=space.dtype), N)}
        feat = world.step(jax.tree.map(lambda x: jnp.repeat(x, A, 0), latent), every, key=key).feat
        scores = world.reward(feat) + world.discount(feat) * world.value(feat)
        choice = jnp.argmax(scores.reshape(N, A), 1).astype(space.dtype)
        return {name: choice}, jnp.where(is_first, 0, memory) + 1


@pytest.fixture(scope="module")
def agent():
    """Of one choice, without chance."""
    return Agent(tiny.OBS, ACT, tiny.CFG, tiny.DETERMINISTIC)


@pytest.fixture(scope="module")
def params(agent):
    """Without zero kernels, so that the heads tell actions apart."""
    rng = np.random.default_rng(0)
    shake = lambda p: p + jnp.asarray(rng.normal(0, 0.3, p.shape), p.dtype)
    return jax.tree.map(shake, agent.init(jax.random.key(0)).params)


def steps(num, flags):
    """Random observations with these flags in every copy."""
    rng = np.random.default_rng(1)
    for flag in flags:
        first = np.broadcast_to(np.asarray(flag), (num,))
        yield Step(tiny.observation(rng, num), np.zeros(num, np.float32), first, ~first, ~first)


def best(agent, params, latent):
    """What one step of lookahead must take, action by action."""
    world = agent.world(params, tiny.NUMBERS)
    scores = []
    for choice in range(3):
        action = {"action": jnp.full(len(latent.deter), choice, jnp.int32)}
        feat = world.step(latent, action, key=jax.random.key(0)).feat
        scores.append(world.reward(feat) + world.discount(feat) * world.value(feat))
    return np.argmax(scores, 0)


def test_actors_planner_acts_equally_on_batches_and_single_observations(agent, params):
    player = Player(agent, params, tiny.NUMBERS, actor=Lookahead(ACT))
    many, single, taken = player.init(5), player.init(), set()
    for step in steps(5, (True, False, False)):
        action, many = player.act(many, step)
        np.testing.assert_array_equal(action["action"], best(agent, params, many.latent))
        one, single = player.act(single, jax.tree.map(lambda x: x[0], step))
        assert one["action"] == action["action"][0] and single.memory == many.memory[0]
        taken |= set(action["action"].tolist())
    assert len(taken) > 1


def test_actors_memory_at_episode_start_is_cleared_in_carry(agent, params):
    player = Player(agent, params, tiny.NUMBERS, actor=Lookahead(ACT))
    carry, counts = player.init(3), []
    for step in steps(3, (True, False, [False, True, False], False)):
        carry = player.act(carry, step)[1]
        counts.append(carry.memory.tolist())
    assert counts == [[1, 1, 1], [2, 2, 2], [3, 1, 3], [4, 2, 4]]


@pytest.mark.parametrize("name", ["greedy", "sampled", "random"])
def test_actors_without_memory_add_no_leaf_to_carry(agent, name):
    carry = agent.init_carry(2, named(name)(ACT))
    assert carry.memory == () and len(jax.tree.leaves(carry)) == len(jax.tree.leaves(carry[:2]))


def test_acting_params_per_actor_include_only_needed_modules(params):
    assert list(acting_params(params, Lookahead(ACT))) == ["encoder", "rssm", "reward", "cont", "value"]
    assert list(acting_params(params, named("greedy")(ACT))) == ["encoder", "rssm", "policy"]
    assert list(acting_params(params, named("random")(ACT))) == ["encoder", "rssm"]


def test_agent_act_unequal_batch_sizes_raises_assertion_error(agent, params):
    actor = named("greedy")(ACT)
    (step,) = steps(3, (True,))
    with pytest.raises(AssertionError):
        agent.act(params, agent.init_carry(2, actor), step, tiny.NUMBERS, key=jax.random.key(0), actor=actor)


# By name.


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder of an agent of `TASK`, and a planner in the table."""
    monkeypatch.setitem(ACTORS, "lookahead", Lookahead)
    return tiny.untrained(tmp_path / "run", TASK)


def test_actors_registered_planner_is_usable_by_load_and_eval(run, capsys):
    assert isinstance(load(run, actor="lookahead").actor, Lookahead)
    words = ["eval", str(run), "--episodes", "3", "--num-envs", "2"]
    assert main([*words, "--actor", "lookahead", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["actor"] == "lookahead" and result["episodes"] == 3


def test_actors_unknown_name_raises_config_error_listing_known_ones(tmp_path):
    expected = f"^there is no actor 'xyz'; there are {', '.join(ACTORS)}$"
    for call in (lambda: named("xyz"), lambda: load(tmp_path / "no run", actor="xyz")):
        with pytest.raises(ConfigError, match=expected):
            call()


# Planners in agents.


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("mppi:horizon=2,samples=8,elites=4,proposals=2,iterations=2", {"steer": Space((2,), "float32")}),
        ("gumbel:simulations=3,drawn=4", tiny.ACT),
        ("categorical_cem:horizon=2,samples=8,elites=4,proposals=2", {"move": Space((2,), "int32", 3)}),
    ],
)
def test_actors_planner_follows_real_agent_and_remembers(name, act):
    agent = Agent(tiny.OBS, act, replace(tiny.CFG, value_ensemble=3))
    player = Player(agent, agent.init(jax.random.key(0)).params, tiny.NUMBERS, actor=name)
    assert "critics" in player.params and "objective" not in player.params
    carry = player.init(3)
    with jax.debug_key_reuse(not name.startswith("gumbel")):  # mctx uses keys twice
        for step in steps(3, (True, False)):
            action, carry = player.act(carry, step)
        # An evaluation that is stored here and resumed elsewhere plans on as if nothing had happened.
        resumed = pickle.loads(pickle.dumps(jax.device_get(carry)))
        (later,) = steps(3, (False,))
        on, resumed = player.act(carry, later, key=5), player.act(resumed, later, key=5)
        assert all(map(np.array_equal, *map(jax.tree.leaves, (on, resumed))))
    for key, space in act.items():
        assert action[key].shape == (3, *space.shape) and action[key].dtype == space.dtype
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(carry.memory))
    assert expected_return(carry.memory).shape == (3,) and expected_return(player.init(3).latent) is None


def test_actors_options_of_planner_are_flags_of_eval(run, capsys):
    words = ["eval", str(run), "--episodes", "2", "--num-envs", "2", "--json"]
    options = ["--actor.horizon", "2", "--actor.samples=8", "--actor.elites", "4", "--actor.proposals", "2"]
    assert main([*words, "--actor", "categorical_cem", *options]) == 0
    actor = json.loads(capsys.readouterr().out)["actor"]
    assert actor == "categorical_cem:horizon=2,samples=8,elites=4,proposals=2"
    for bad, message in (
        (["--actor.horizon", "2"], "--actor.horizon needs an actor, as in --actor mppi"),
        (["--actor", "mppi"], "the actor mppi plans continuous actions, but 'action' is discrete"),
        (["--actor", "greedy", "--actor.horizon", "2"], "the actor greedy has no options"),
        (["--actor", "gumbel", "--actor.simulation", "2"], "has no option 'simulation'; it has"),
        (["--actor", "gumbel", "--actor.depth"], "--actor.depth needs a value"),
    ):
        assert main([*words, *bad]) == 2
        assert message in capsys.readouterr().err
