"""Planners on worlds of which the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_world import FakeWorld, latent
from scipy.linalg import solve_discrete_are

from dreamer.actors import ACTORS, expected_return, named, planning
from dreamer.actors.icem import coloured
from dreamer.actors.mppi import sharpness
from dreamer.actors.planning import Doubt
from dreamer.ops import dists
from dreamer.schema import ConfigError
from envs.api import Space

NUMBER = {"push": Space((), "float32")}
CHOICE = {"go": Space((), "int32", 3)}
TWO = {"go": Space((), "int32", 3), "turn": Space((2,), "int32", 2)}
CONTINUOUS, DISCRETE = ("mppi", "cem", "icem"), ("categorical_cem", "gumbel")


def normal(mean, std, ndim):
    """A head that gives these numbers."""
    return dists.BoundedNormal(mean, jnp.full(mean.shape, std), ndim, 0.1, 1.0)


def even(space_of):
    """The policy that prefers nothing."""

    def policy(state):
        lead = state.shape[:-1]
        return {
            name: dists.Categorical(
                jnp.full((*lead, *s.shape, s.num_classes), -jnp.log(s.num_classes)), len(s.shape)
            )
            if s.is_discrete
            else normal(jnp.zeros((*lead, *s.shape)), 0.5, len(s.shape))
            for name, s in space_of.items()
        }

    return policy


class Chooser:
    """A planner in a world, compiled once for every number of states."""

    def __init__(self, world, text, spaces):
        self.actor = named(text)(spaces)
        self.strict = not text.startswith("gumbel")  # mctx uses keys twice
        act = lambda states, memory, first: self.actor.act(
            world, latent(states), memory, first, key=jax.random.key(7)
        )
        self.act = jax.jit(act)

    def __call__(self, states, *, first=True, memory=None):
        """What it does in states [N, D], {key: [N, ...]}, and its memory."""
        states = jnp.asarray(states, jnp.float32)
        memory = self.actor.init(len(states)) if memory is None else memory
        with jax.debug_key_reuse(self.strict):
            return jax.device_get(self.act(states, memory, jnp.full(len(states), first)))


# Known answers.


@pytest.mark.parametrize("text", ["categorical_cem:horizon=2", "gumbel:simulations=32,depth=2"])
def test_planning_two_choices_first_of_best_pair_is_taken(text):
    earned = jnp.asarray([[0.4, 0.1, 0.2], [0.0, 0.1, 0.9], [0.4, 0.35, 0.3]], jnp.float32)
    # State: steps taken, first choice, last choice; all is earned at the second step.
    move = lambda s, a: jnp.stack([s[:, 0] + 1, jnp.where(s[:, 0] == 0, a["go"], s[:, 1]), a["go"]], -1)
    table = lambda s: earned[s[..., 1].astype(int), s[..., 2].astype(int)]
    reward = lambda s: jnp.where(s[..., 0] == 2, table(s), 0.0)
    # The critic is that of the even policy, which would choose 2.
    value = lambda s: jnp.where(s[..., 0] == 1, earned.mean(1)[s[..., 1].astype(int)], earned.mean())[None]
    alive = lambda s: (s[..., 0] < 2).astype(jnp.float32)
    world = FakeWorld(move, reward, alive, value, even(CHOICE))
    action, memory = Chooser(world, text, CHOICE)(np.zeros((1, 3)))
    assert action["go"].tolist() == [1]
    if text.startswith("categorical"):
        assert memory.expected == pytest.approx([0.9])


@pytest.mark.parametrize("name", CONTINUOUS)
def test_planning_linear_quadratic_world_takes_action_of_riccati_gain(name):
    a, b = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.0], [0.1]])
    q, r = np.diag([1.0, 0.1]), np.array([[0.01]])
    p = solve_discrete_are(a, b, q, r)
    gain = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)[0]
    A, B, Q, P = (jnp.asarray(x, jnp.float32) for x in (a, b, q, p))
    # What is paid on arriving: the state left behind and the push; the rest is the value at the end.
    cost = lambda x, m: jnp.einsum("...i,ij,...j->...", x, m, x)
    move = lambda s, u: jnp.concatenate(
        [
            s[:, :2] @ A.T + jnp.outer(u["push"], B[:, 0]),
            (cost(s[:, :2], Q) + r[0, 0] * u["push"] ** 2)[:, None],
        ],
        -1,
    )
    world = FakeWorld(
        move, lambda s: -s[..., 2], values_of=lambda s: -cost(s[..., :2], P)[None], policy_of=even(NUMBER)
    )
    states = np.array([[0.1, 0.0, 0], [-0.05, 0.1, 0], [0.02, -0.12, 0]])
    text = f"{name}:horizon=3,samples=512,elites=64,iterations=12,min_std=0.005"
    action, _ = Chooser(world, text, NUMBER)(states)
    expected = -(states[:, :2] @ gain)
    assert (np.abs(expected) < 0.9).all() and np.ptp(expected) > 0.5  # within the range of actions, and apart
    np.testing.assert_allclose(action["push"], expected, atol=0.06)


@pytest.mark.parametrize("name", DISCRETE)
def test_planning_step_that_looks_good_and_ends_episode_is_not_taken(name):
    # Choice 0 earns 0.6 at once and ends the episode; any other earns 0.3 a step for ever. A model that
    # dreams on behind the end sees 1 a step there.
    move = lambda s, a: jnp.stack([s[:, 0] + 1, jnp.maximum(s[:, 1], a["go"] == 0), s[:, 1]], -1)
    ended, before = lambda s: s[..., 1] > 0, lambda s: s[..., 2] > 0
    reward = lambda s: jnp.where(before(s), 1.0, jnp.where(ended(s), 0.6, 0.3))
    world = FakeWorld(
        move,
        reward,
        lambda s: jnp.where(ended(s), 0.2, 0.97),
        values_of=lambda s: jnp.where(ended(s), 9.0, 1.0)[None],
        policy_of=even(CHOICE),
    )
    action, _ = Chooser(world, name, CHOICE)(np.zeros((2, 3)))
    assert (action["go"] != 0).all()


@pytest.mark.parametrize(
    ("name", "spaces"),
    [(name, NUMBER) for name in CONTINUOUS] + [("categorical_cem", CHOICE), ("gumbel:depth=1", CHOICE)],
)
def test_planning_expected_return_is_of_the_plan_that_is_taken(name, spaces):
    # One step that earns the action itself and ends: the return of a plan is its first action.
    move = lambda s, a: jnp.stack([next(iter(a.values())).astype(jnp.float32)], -1)
    world = FakeWorld(move, lambda s: s[..., 0], lambda s: 0.0 * s[..., 0], policy_of=even(spaces))
    action, memory = Chooser(world, name, spaces)([[0.0], [0.5]])
    (taken,) = action.values()
    np.testing.assert_allclose(expected_return(memory), taken, rtol=1e-5)
    assert (taken > 0.5).all()


def test_planning_returns_by_hand_count_nothing_behind_predicted_end():
    # The state is the plan's action; rewards are the state, endings where it is above 0.85.
    world = FakeWorld(
        lambda s, a: a["push"][:, None],
        lambda s: s[..., 0],
        lambda s: jnp.where(s[..., 0] > 0.85, 0.4, 0.8),
        values_of=lambda s: jnp.stack([10 * s[..., 0], 20 * s[..., 0]]),
        gamma=0.5,
    )
    plans = {"push": jnp.asarray([[0.2, 0.4, 0.5], [0.2, 0.9, 0.7]])}
    total = planning.returns(
        world, jax.tree.map(lambda x: x[0], latent(np.zeros((1, 1)))), plans, Doubt(), key=jax.random.key(7)
    )
    np.testing.assert_allclose(
        total, [0.2 + 0.4 * 0.4 + 0.16 * 0.5 + 0.064 * 5.0, 0.2 + 0.4 * 0.9], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("doubt", "expected"), [(Doubt(), 1.0), (Doubt("mean"), 2.0), (Doubt("mean", 0.5), 1.5)]
)
def test_planning_doubt_of_critics_by_hand(doubt, expected):
    assert float(doubt.value(jnp.asarray([1.0, 3.0]))) == pytest.approx(expected)
    assert float(doubt.value(jnp.asarray([2.0]))) == 2.0  # one critic is not doubted


def test_planning_proposals_are_of_policy_within_range_and_first_without_chance():
    world = FakeWorld(lambda s, a: s + 1, policy_of=lambda s: {"push": normal(0.8 - s[..., 0], 1.0, 0)})
    like, one = {"push": jnp.zeros(3)}, jax.tree.map(lambda x: x[0], latent(np.zeros((1, 1))))
    plans = planning.proposals(world, one, like, 50, key=jax.random.key(7))["push"]
    np.testing.assert_allclose(plans[0], [0.8, -0.2, -1.0], rtol=1e-5)
    assert plans.shape == (50, 3) and float(jnp.abs(plans).max()) == 1.0 and float(plans[1:, 0].std()) > 0.2
    assert planning.proposals(world, one, like, 0, key=jax.random.key(7))["push"].shape == (0, 3)


# What must not matter.


@pytest.mark.parametrize(
    ("name", "spaces"),
    [(name, NUMBER) for name in CONTINUOUS] + [("categorical_cem", TWO), ("gumbel", TWO), ("gumbel", NUMBER)],
)
def test_planning_choice_depends_neither_on_order_nor_on_others(name, spaces):
    move = lambda s, a: (
        s * 0.9 + sum(jnp.atleast_2d(x.T).T.astype(jnp.float32).sum(-1, keepdims=True) for x in a.values())
    )
    world = FakeWorld(move, lambda s: -jnp.square(s[..., 0] - 1.5), policy_of=even(spaces))
    states = np.array([[0.3], [-1.0], [2.0], [0.3]])
    chosen = Chooser(world, name, spaces)
    (together, _), (turned, _), (alike, _) = (
        chosen(states),
        chosen(states[::-1]),
        chosen(states[[1, 1, 1, 1]]),
    )
    for key, action in together.items():
        np.testing.assert_allclose(turned[key][::-1], action, rtol=1e-5)
        np.testing.assert_allclose(alike[key], np.stack([action[1]] * 4), rtol=1e-5)
        np.testing.assert_array_equal(action[0], action[3])


@pytest.mark.parametrize("name", [*CONTINUOUS, "categorical_cem"])
def test_planning_memory_is_used_within_an_episode_and_cleared_at_its_start(name):
    spaces = CHOICE if name == "categorical_cem" else NUMBER
    move = lambda s, a: s + next(iter(a.values()))[:, None]
    world = FakeWorld(move, lambda s: -jnp.square(s[..., 0] - 3.0), policy_of=even(spaces))
    chosen = Chooser(world, name, spaces)
    _, memory = chosen([[0.0]])
    fresh, again = chosen([[1.0]]), chosen([[1.0]], memory=memory)
    jax.tree.map(np.testing.assert_array_equal, fresh, again)
    later = chosen([[1.0]], memory=memory, first=False)
    assert any((x != y).any() for x, y in zip(jax.tree.leaves(later), jax.tree.leaves(fresh), strict=True))


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_planning_without_difference_between_plans_acts_within_range(name):
    spaces = NUMBER if name in CONTINUOUS else CHOICE
    world = FakeWorld(lambda s, a: s, policy_of=even(spaces))
    action, memory = Chooser(world, name, spaces)([[0.0]])
    (value,) = action.values()
    assert -1 <= value[0] <= 2 and all(np.isfinite(x).all() for x in jax.tree.leaves(memory))
    assert memory.expected == pytest.approx([0.0])


# What goes wrong.


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_planning_head_without_number_leaves_action_to_policy_and_says_so(name, capfd):
    spaces = NUMBER if name in CONTINUOUS else CHOICE

    def prefers(state):
        if spaces is NUMBER:
            return {"push": normal(jnp.full(state.shape[:-1], 0.25), 0.1, 0)}
        logp = jnp.log(jnp.asarray([0.1, 0.1, 0.8]))
        return {"go": dists.Categorical(jnp.broadcast_to(logp, (*state.shape[:-1], 3)), 0)}

    move = lambda s, a: s  # where the state is negative, values are no numbers
    values = lambda s: jnp.where(s[..., 0] < 0, jnp.nan, 1.0)[None]
    world = FakeWorld(move, values_of=values, policy_of=prefers)
    planning._say_once.cache_clear()
    action, memory = Chooser(world, name, spaces)([[-1.0], [1.0]])
    jax.effects_barrier()
    assert float(next(iter(action.values()))[0]) == pytest.approx(0.25 if spaces is NUMBER else 2)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((action, memory.search)))
    assert np.isnan(memory.expected[0]) and memory.expected[1] >= 1  # of an action of the policy nothing
    assert capfd.readouterr().err.count("so the policy chose instead") == 1


@pytest.mark.parametrize(
    ("text", "spaces", "message"),
    [
        (
            "mppi",
            CHOICE,
            "but 'go' is discrete: for those there are categorical_cem and gumbel",
        ),
        (
            "categorical_cem",
            NUMBER,
            "but 'push' is continuous: for those there are mppi, cem, icem and gumbel",
        ),
        ("mppi:horizons=3", NUMBER, r"mppi has no option 'horizons'; it has end_value, spread, horizon"),
        ("mppi:horizon=0", NUMBER, "horizon"),
        ("mppi:horizon", NUMBER, "has no ="),
        ("mppi:horizon=3,horizon=4", NUMBER, "gives horizon twice"),
        ("mppi:elites=300", NUMBER, r"elites is 300, more than samples \(64\)"),
        ("icem:survivors=9", NUMBER, r"survivors is 9, more than elites \(8\)"),
        ("categorical_cem:smoothing=1", CHOICE, "smoothing"),
        ("categorical_cem:proposals=64", CHOICE, r"proposals is 64, more than samples \(64\) allow"),
        ("mppi:min_std=3", NUMBER, r"min_std is 3, more than max_std \(2\)"),
        ("greedy:horizon=3", NUMBER, "the actor greedy has no options"),
        ("mpi", NUMBER, r"there is no actor 'mpi'; did you mean mppi\?"),
    ],
)
def test_planning_bad_choice_of_planner_is_refused_in_a_sentence(text, spaces, message):
    with pytest.raises(ConfigError, match=message):
        named(text)(spaces)


def test_planning_options_in_text_reach_planner():
    actor = named("icem:horizon=3,colour=0.5,end_value=mean,spread=1")(NUMBER)
    assert (actor.cfg.horizon, actor.cfg.colour, actor.cfg.spread, actor.cfg.samples) == (3, 0.5, 1.0, 64)
    assert {name for name in ACTORS if name in (*CONTINUOUS, *DISCRETE)} == {*CONTINUOUS, *DISCRETE}


# Parts.


def test_planning_sharpness_has_no_unit_and_ignores_what_has_no_number():
    best = jnp.asarray([3.0, 2.0, 1.0, -jnp.inf])
    weights = np.exp(1.5 * np.array([0.0, -1.0, -2.0]) / np.std([3.0, 2.0, 1.0]))
    np.testing.assert_allclose(sharpness(best, 1.5)[:3], weights / weights.sum(), rtol=1e-5)
    np.testing.assert_allclose(sharpness(100 * best, 1.5), sharpness(best, 1.5), rtol=1e-5)
    assert float(sharpness(best, 1.5)[3]) == 0 and not sharpness(jnp.full(3, -jnp.inf), 1.0).any()


def test_planning_coloured_noise_has_variance_one_and_power_of_its_colour():
    np.testing.assert_allclose(coloured(5, 0.0), np.eye(5), atol=1e-12)
    for beta in (1.0, 2.0):
        filters = coloured(16, beta)
        np.testing.assert_allclose(np.square(filters).sum(1), 1.0)
        power = np.square(np.abs(np.fft.rfft(filters[:, 0])))
        np.testing.assert_allclose(power[1:9] / power[1], np.arange(1, 9.0) ** -beta, rtol=1e-6)


def test_planning_later_plan_starts_one_step_on():
    plan, rest = {"push": jnp.arange(3.0)}, {"push": jnp.full(3, 9.0)}
    assert planning.later(plan, rest)["push"].tolist() == [1, 2, 9]


def test_planning_moments_are_weighted():
    mean, std = planning.moments({"push": jnp.asarray([[0.0], [1.0], [5.0]])}, jnp.asarray([0.5, 0.5, 0.0]))
    assert mean["push"].tolist() == [0.5] and std["push"].tolist() == [0.5]
