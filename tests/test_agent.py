"""The whole agent: which loss moves what, acting as learning sees it, one compiled update."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer import numbers
from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent, Carry
from dreamer.ops import dists
from dreamer.records import Latent
from envs.api import Space, Step

B, T, H = tiny.B, tiny.T, tiny.H
LOSSES = ("rec/vector", "rec/token", "reward", "cont", "dyn", "rep", "replay_value", "policy", "value")
MODULES = {"encoder", "rssm", "objective", "reward", "cont", "policy", "value", "slow"}
PRIOR = ("prior_mlp", "prior_out")
NUMBERS = numbers.replace(tiny.NUMBERS, {"loss.free_nats": jnp.float32(0)})  # so that no KL is clipped


def inputs(batch):
    """(batch, the latent before it, the actions before every step)."""
    shift = lambda first, x: np.concatenate([np.asarray(first)[:, None], x[:, :-1]], 1)
    prev = {k: shift(batch.context_action[k], v) for k, v in batch.action.items()}
    return batch, tiny.agent().unpack(batch.context_latent), prev


@cache
def evaluate(cfg=tiny.CFG, names=LOSSES):
    """{loss: {path of a parameter: gradient of the mean loss}} and the total with everything else."""
    agent, state = tiny.agent(cfg=cfg), tiny.state()

    def means(params, slow, batch, latent, prev):
        total, out = agent.loss(
            params, slow, state.stats, batch, latent, prev, NUMBERS, key=jax.random.key(0)
        )
        return jnp.stack([out.losses[name].mean() for name in names]), (total, out)

    jacobian, aux = jax.jit(jax.jacrev(means, argnums=(0, 1), has_aux=True))(
        state.params, state.slow, *inputs(tiny.batch())
    )
    leaves = jax.tree_util.tree_leaves_with_path(jacobian[0] | {"slow": jacobian[1]})
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    flat = {name(path): np.asarray(leaf) for path, leaf in leaves}
    return {loss: {k: v[i] for k, v in flat.items()} for i, loss in enumerate(names)}, aux


def moved(grads):
    """The modules, and the prior apart from the rest of the dynamics, of which some parameter moves."""
    paths = [path for path, grad in grads.items() if np.abs(grad).max() > 1e-9]
    return {"prior" if path.split("/")[1].startswith(PRIOR) else path.split("/")[0] for path in paths}


@pytest.mark.parametrize(
    ("loss", "own"),
    [
        ("rec/vector", "objective"),
        ("rec/token", "objective"),
        ("reward", "reward"),
        ("cont", "cont"),
        ("dyn", "prior"),
        ("rep", None),
        ("replay_value", "value"),
    ],
)
def test_agent_loss_on_replay_trains_representation_and_matching_head(loss, own):
    grads = evaluate()[0][loss]
    assert {path.split("/")[0] for path in grads} == MODULES
    assert moved(grads) == {"encoder", "rssm"} | ({own} if own else set())
    for path, grad in grads.items():
        if path.split("/")[0] in ("encoder", "rssm") and not path.split("/")[1].startswith(PRIOR):
            assert np.abs(grad).max() > 0, path


@pytest.mark.parametrize("loss", ["policy", "value"])
def test_agent_loss_on_imagination_trains_only_matching_head(loss):
    grads = evaluate()[0][loss]
    assert moved(grads) == {loss}
    assert all(np.abs(grad).max() > 0 for path, grad in grads.items() if path.startswith(loss))


def test_agent_loss_with_grad_options_off_leaves_representation_alone():
    cfg = tiny.config(loss__reward_grad=False, behavior__replay_value_grad=False)
    grads, _ = evaluate(cfg, ("reward", "replay_value"))
    assert {loss: moved(grad) for loss, grad in grads.items()} == {
        "reward": {"reward"},
        "replay_value": {"value"},
    }


def test_agent_loss_total_equals_weighted_sum_of_means():
    _, (total, out) = evaluate()
    assert out.losses.keys() == set(LOSSES)
    scales = dict.fromkeys(LOSSES, 1.0) | {"rep": 0.1, "replay_value": 0.3}
    expected = sum(scale * np.mean(out.losses[name]) for name, scale in scales.items())
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_agent_loss_per_term_has_one_float32_value_per_step():
    _, (_, out) = evaluate()
    shapes = {k: v.shape for k, v in out.losses.items()}
    assert shapes == dict.fromkeys(LOSSES, (B, T)) | {"replay_value": (B, T - 1)}
    assert {v.dtype for v in out.losses.values()} == {jnp.dtype("float32")}


def test_agent_loss_imag_last_set_imagines_from_last_steps_only():
    cfg = tiny.config(behavior__imag_last=2, behavior__replay_value=False)
    agent, state = Agent(tiny.OBS, tiny.ACT, cfg), tiny.state()
    _, out = jax.eval_shape(
        agent.loss,
        state.params,
        state.slow,
        state.stats,
        *inputs(tiny.batch()),
        NUMBERS,
        key=jax.random.key(0),
    )
    assert out.losses["policy"].shape == out.losses["value"].shape == (B, 2)
    assert out.losses["dyn"].shape == (B, T)
    assert "replay_value" not in out.losses


def test_agent_act_step_by_step_equals_latents_of_training():
    """The latents of a batch are those that the agent had when it acted, resets included."""
    agent, state, batch = tiny.agent(), tiny.state(), tiny.batch()
    before = agent.unpack(batch.context_latent)
    carry = Carry(before, jax.tree.map(jnp.asarray, batch.context_action), ())

    @jax.jit
    def act(carry, obs, is_first):
        step = Step(obs, None, is_first, None, None)
        return agent.act(state.params, carry, step, NUMBERS, key=jax.random.key(0), actor=SAMPLED)

    actions, latents = [], []
    for t in range(T):
        action, carry = act(carry, {k: v[:, t] for k, v in batch.obs.items()}, batch.is_first[:, t])
        jax.tree.map(np.testing.assert_array_equal, action, carry.action)
        actions.append(action)
        latents.append(carry.latent)
    over_time = lambda *steps: np.stack(steps, 1)
    played = batch._replace(action=jax.tree.map(over_time, *actions))
    seen = observe(*inputs(played))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        jax.tree.map(over_time, *latents),
        seen,
    )


@jax.jit
def observe(batch, latent, prev) -> Latent:
    state = tiny.state()
    _, out = tiny.agent().loss(
        state.params, state.slow, state.stats, batch, latent, prev, NUMBERS, key=jax.random.key(0)
    )
    return out.seen.latent


class Compiled:
    """A train step that counts how often it was traced."""

    def __init__(self):
        self.agent = tiny.agent(dists.RANDOM)
        self.traces = 0
        self.jitted = jax.jit(self.traced)

    def traced(self, state, batch, numbers, key):
        self.traces += 1
        return self.agent.train_step(state, batch, numbers, key=key)

    def __call__(self, state, seed=0, batch=0, numbers=tiny.NUMBERS):
        return self.jitted(state, tiny.batch(batch), numbers, jax.random.key(seed))


@pytest.fixture(scope="module")
def train():
    return Compiled()


def test_train_step_same_key_is_reproducible_and_other_key_differs(train):
    a, b, c = (train(tiny.state(), seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not np.array_equal(a[1]["stoch"], c[1]["stoch"])
    assert a[2]["loss/policy"] != c[2]["loss/policy"]


def test_train_step_other_data_and_numbers_does_not_recompile(train):
    """Neither later updates nor other data nor other numbers."""
    state = tiny.state()
    for i in range(3):
        state, _, metrics = train(state, seed=i, batch=i)
    doubled = jax.tree.map(lambda x: 2 * x, tiny.NUMBERS)
    train(state, numbers=doubled)
    assert train.traces == 1
    assert state.updates == 3
    assert {k: v.shape for k, v in metrics.items()} == dict.fromkeys(metrics, ())
    assert all(np.isfinite(v) for v in metrics.values())


def test_train_step_changed_learning_rate_takes_effect_without_recompiling(train):
    state = tiny.state()
    still, _, _ = train(state, numbers=numbers.replace(tiny.NUMBERS, {"optim.lr": jnp.float32(0)}))
    jax.tree.map(np.testing.assert_array_equal, still.params, state.params)
    after, _, _ = train(state)
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.params, state.params)
    assert all(x > 0 for x in jax.tree.leaves(change))


def test_train_step_slow_critic_follows_at_configured_rate_and_interval(train):
    state = tiny.state()
    for updates, rate in ((0, 0.25), (1, 0.0), (2, 0.25)):
        hyper = numbers.replace(
            tiny.NUMBERS, {"behavior.slow_rate": jnp.float32(0.25), "behavior.slow_every": jnp.float32(2)}
        )
        after, _, _ = train(state._replace(updates=jnp.int32(updates)), numbers=hyper)
        jax.tree.map(
            lambda slow, new, old, rate=rate: np.testing.assert_allclose(
                slow, rate * new + (1 - rate) * old, rtol=1e-5, atol=1e-6
            ),
            after.slow["value"],
            after.params["value"],
            state.slow["value"],
        )
    assert train.traces == 1


def test_agent_freshly_initialized_predicts_exactly_zero(train):
    """Also where the compiler fuses the prediction into what is around it."""
    state = train.agent.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.slow["value"], state.params["value"])
    _, _, metrics = train(state)
    for name in ("imagined_reward", "value", "slow_value", "imagined_return", "advantage"):
        assert metrics[name] == 0, name
    np.testing.assert_allclose(metrics["loss/reward"], np.log(15), rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy/move"], np.log(3), rtol=1e-3)


def test_agent_init_parameters_depend_on_key_only():
    agent = tiny.agent()
    a, b, c = (agent.init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    kernel = lambda state: state.params["rssm"]["gates"]["kernel"]
    assert not np.array_equal(kernel(a), kernel(c))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_train_step_any_dtype_keeps_shapes_and_dtypes(dtype):
    agent = Agent(tiny.OBS, tiny.ACT, tiny.config(dtype=dtype))
    like = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    before = jax.eval_shape(agent.init, jax.random.key(0))
    batch = tiny.batch()
    after, latents, metrics = jax.eval_shape(
        agent.train_step, before, batch, tiny.NUMBERS, key=jax.random.key(0)
    )
    assert like(after) == like(before)
    assert {x.dtype for x in jax.tree.leaves((before.params, before.opt.nu, before.opt.mu))} == {
        jnp.dtype("float32")
    }
    assert {x.dtype for x in metrics.values()} == {jnp.dtype("float32")}
    step = lambda x: jax.ShapeDtypeStruct((B, T, *x.shape[1:]), x.dtype)
    assert like(latents) == like(jax.tree.map(step, batch.context_latent))


def test_agent_loss_bfloat16_is_close_to_float32():
    agent, state = Agent(tiny.OBS, tiny.ACT, tiny.config(dtype="bfloat16"), tiny.DETERMINISTIC), tiny.state()
    loss = lambda *args: agent.loss(
        state.params, state.slow, state.stats, *args, NUMBERS, key=jax.random.key(0)
    )[1]
    half, exact = jax.jit(loss)(*inputs(tiny.batch())), evaluate()[1][1]
    assert half.seen.latent.deter.dtype == jnp.bfloat16
    assert {v.dtype for v in half.losses.values()} == {jnp.dtype("float32")}
    for name in LOSSES:
        np.testing.assert_allclose(
            half.losses[name].mean(), exact.losses[name].mean(), rtol=0.2, err_msg=name
        )


def test_agent_log_keys_in_observation_are_ignored():
    spaces = tiny.OBS | {"log/success": Space((), "float32")}
    ours, theirs = (Agent(s, tiny.ACT, tiny.CFG) for s in (spaces, tiny.OBS))
    assert ours.obs_space == theirs.obs_space
    a, b = (jax.eval_shape(agent.init, jax.random.key(0)) for agent in (ours, theirs))
    assert jax.tree.structure(a) == jax.tree.structure(b)


def test_agent_act_with_acting_modules_only_works():
    agent, state = tiny.agent(), tiny.state()
    params = {k: state.params[k] for k in ("encoder", "rssm", "policy")}
    carry = agent.init_carry(3, SAMPLED)
    assert not any(x.any() for x in jax.tree.leaves(carry))
    obs = tiny.observation(np.random.default_rng(0), 3)
    step = Step(obs, None, np.ones(3, bool), None, None)
    action, after = jax.eval_shape(
        lambda key: agent.act(params, carry, step, NUMBERS, key=key, actor=SAMPLED), jax.random.key(0)
    )
    like = lambda tree: jax.tree.map(lambda x: (x.shape, jnp.dtype(x.dtype)), tree)
    assert like(after) == like(carry) and like(action) == like(carry.action)


def test_agent_act_greedy_sampler_ignores_key():
    """A greedy agent does the same whatever the key."""
    agent, state = tiny.agent(dists.GREEDY), tiny.state()
    step = Step(tiny.observation(np.random.default_rng(0), 3), None, np.ones(3, bool), None, None)
    act = jax.jit(
        lambda key: agent.act(
            state.params, agent.init_carry(3, SAMPLED), step, NUMBERS, key=key, actor=SAMPLED
        )
    )
    jax.tree.map(np.testing.assert_array_equal, *(act(jax.random.key(seed)) for seed in (0, 1)))


# Several critics.


@cache
def with_critics():
    """An agent of three critics, its state, and its compiled update."""
    agent = tiny.agent(cfg=dataclasses.replace(tiny.CFG, value_ensemble=3))
    state = agent.init(jax.random.key(0))
    return (
        agent,
        state,
        jax.jit(lambda state: agent.train_step(state, tiny.batch(), NUMBERS, key=jax.random.key(1))),
    )


def test_agent_critics_beside_the_first_move_nothing_else():
    agent, among, step = with_critics()
    alone = tiny.agent().init(jax.random.key(0))
    assert set(among.params) - set(alone.params) == {"critics"}
    jax.tree.map(np.testing.assert_array_equal, alone.params, {k: among.params[k] for k in alone.params})
    update = jax.jit(
        lambda state: tiny.agent().train_step(state, tiny.batch(), NUMBERS, key=jax.random.key(1))
    )
    (after_one, _, _), (after_many, _, metrics) = update(alone), step(among)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
    jax.tree.map(close, after_one.params, {k: after_many.params[k] for k in alone.params})
    moved = jax.tree.map(
        lambda x, y: bool((x != y).any()), among.params["critics"], after_many.params["critics"]
    )
    assert all(any(jax.tree.leaves(head)) for head in moved["heads"].values())
    assert {f"loss/{name}/{k}" for name in ("value", "replay_value") for k in (1, 2)} <= set(metrics)


def test_agent_critic_with_parameters_of_the_first_has_its_losses():
    agent, state, step = with_critics()
    shaken = jax.tree.map(lambda x: x + 0.1, state.params["value"])
    equal = lambda tree: {**tree, "value": shaken, "critics": {"heads": {"1": shaken, "2": shaken}}}
    state = state._replace(params=equal(state.params), slow=equal(state.slow))
    _, _, metrics = step(state)
    for name in ("value", "replay_value"):
        np.testing.assert_allclose(metrics[f"loss/{name}/1"], metrics[f"loss/{name}"], rtol=1e-6)
    world = agent.world(state.params, NUMBERS)
    values = world.values(jnp.ones((2, agent.cfg.rssm.features)))
    np.testing.assert_array_equal(values[0], values[2])
    np.testing.assert_array_equal(values[0], world.value(jnp.ones((2, agent.cfg.rssm.features))))
