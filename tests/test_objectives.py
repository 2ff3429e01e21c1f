"""What each objective computes, against numbers made elsewhere; what it moves; what collapse costs."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import envs
from dreamer import checkpoint, numbers
from dreamer.agent import Agent, size
from dreamer.nets.layers import Initializer
from dreamer.nets.predictor import Predictor
from dreamer.objectives import OBJECTIVES, barlow, cdp, infonce, sigreg, tokens, visreg
from dreamer.player import load
from dreamer.records import Latent, Observed
from dreamer.schema import ConfigError
from experiments.cli import main

pytestmark = pytest.mark.usefixtures("compilation_cache")

FOLDER = Path(__file__).parent / "golden" / "objectives"
VALUE, GRADIENT = 1e-6, 1e-5  # relative, in float32
DECODER_FREE = [name for name in OBJECTIVES if name not in ("reconstruction", "none")]


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("--objectives") or FOLDER)
        files = sorted(folder.glob("*.npz"))
        if not files:
            raise pytest.UsageError(f"no .npz files in {folder}")
        metafunc.parametrize("case", files, ids=lambda path: path.stem, indirect=True, scope="module")


# Parity: `tests/golden/objectives/README.md` says what the files hold.


class Case(NamedTuple):
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]

    @property
    def inputs(self) -> dict[str, Array]:
        """Arrays that have a gradient, in float32."""
        names = {"deter", "feat", "kernel", "tokens", *(k for k in self.arrays if k.startswith("param_"))}
        graded = {k for k in names if f"grad_{k.removeprefix('param_')}" in self.arrays}
        return {k: jnp.asarray(self.arrays[k], jnp.float32) for k in sorted(graded)}

    def constant(self, name: str) -> Array:
        return jnp.asarray(self.arrays[name], jnp.float32)


@pytest.fixture
def case(request) -> Case:
    with np.load(request.param) as file:
        return Case({k: file[k] for k in file.files if k != "meta"}, json.loads(str(file["meta"])))


def _barlow(case: Case, x: dict[str, Array]) -> Array:
    parts = barlow.redundancy(x["feat"] @ x["kernel"], case.constant("tokens"))
    return parts.invariance + case.meta["lam"] * parts.redundancy


def _infonce(case: Case, x: dict[str, Array]) -> Array:
    losses = infonce.contrast(x["feat"] @ x["kernel"], case.constant("tokens"))
    return losses if case.arrays["loss"].ndim else losses.mean()


def _cdp(case: Case, x: dict[str, Array]) -> Array:
    predictor = nnx.eval_shape(
        lambda: Predictor(case.arrays["deter"].shape[-1], case.arrays["tokens"].shape[-1], init=Initializer())
    )
    params = {
        "layer": {
            "linear": {"kernel": x["param_kernel0"], "bias": x["param_bias0"]},
            "norm": {"scale": x["param_scale"]},
        },
        "out": {"kernel": x["param_kernel1"], "bias": x["param_bias1"]},
    }
    return cdp.distance(nnx.merge(nnx.graphdef(predictor), params)(x["deter"]), case.constant("tokens"))


def _sigreg(case: Case, x: dict[str, Array]) -> Array:
    rows, meta = x["tokens"], case.meta
    assert meta["factor"] == "batch"
    distance = sigreg.normality(rows, case.constant("directions"), meta["knots"], tuple(meta["interval"]))
    return rows.shape[1] * distance


KINDS: dict[str, Callable[[Case, dict[str, Array]], Array]] = {
    "barlow": _barlow,
    "infonce": _infonce,
    "cdp": _cdp,
    "sigreg": _sigreg,
}


def relative(ours: Any, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(ours, np.float64) - theirs) / np.linalg.norm(theirs))


def test_loss_equals_the_golden_value(case):
    loss = KINDS[case.meta["kind"]](case, case.inputs)
    assert loss.dtype == jnp.float32 and loss.shape == case.arrays["loss"].shape
    assert relative(loss, case.arrays["loss"]) < VALUE


def test_loss_gradient_equals_the_golden_gradient(case):
    inputs = case.inputs
    grads = jax.grad(lambda x: KINDS[case.meta["kind"]](case, x).mean())(inputs)
    assert set(grads) and {f"grad_{k.removeprefix('param_')}" for k in grads} == {
        k for k in case.arrays if k.startswith("grad_")
    }
    for name, grad in grads.items():
        assert relative(grad, case.arrays[f"grad_{name.removeprefix('param_')}"]) < GRADIENT, name


# What moves what.


B, T = 4, 6
SHAPES = {"tokens": (B, T, 8), "deter": (B, T, 16), "stoch": (B, T, 4, 4)}
CAUSAL = ("cdp", "sigreg", "visreg", "value_equivalent")
"""They predict the tokens of a step from h, which has not seen it."""


def made(name: str, **changes) -> tuple[Agent, dict[str, Any]]:
    """An agent with the objective and random parameters, none of them zero."""
    agent = Agent(tiny.OBS, tiny.ACT, tiny.config(objective=name, **changes))
    rng = np.random.default_rng(0)
    random = lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype)
    return agent, jax.tree.map(random, jax.eval_shape(agent.init, jax.random.key(0)).params)


def seen(seed: int = 0) -> Observed:
    rng = np.random.default_rng(seed)
    x = {k: jnp.asarray(rng.normal(size=shape), jnp.float32) for k, shape in SHAPES.items()}
    return Observed(x["tokens"], Latent(x["deter"], x["stoch"]), jnp.zeros((B, T, 4, 4)))


def batch():
    """The second sequence starts an episode at index 3."""
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x])[:B], tiny.batch())
    longer = jax.tree.map(lambda x: jnp.concatenate([x, x], 1)[:, :T] if x.ndim > 1 else x, twice)
    is_first = np.zeros((B, T), bool)
    is_first[1, 3] = True
    return longer._replace(is_first=is_first)


def total(agent: Agent, params: Any, seen: Observed, seed: int = 0) -> Array:
    """The mean of the objective's losses, for latents that are given."""
    world = agent.world(params, tiny.NUMBERS)
    objective = nnx.merge(agent.modules.objective, params["objective"])
    out = objective.loss(world, batch(), seen, objective.slow(params), jax.random.key(seed))
    assert all(loss.dtype == jnp.float32 for loss in out.losses.values())
    return jnp.stack([loss.mean() for loss in out.losses.values()]).sum()


@pytest.fixture(scope="module", params=DECODER_FREE)
def objective(request):
    """The name of an objective, its loss as a function of parameters and `seen`, and both with gradients."""
    agent, params = made(request.param)
    loss = jax.jit(jax.value_and_grad(lambda p, x: total(agent, p, x), argnums=(0, 1)))
    return request.param, lambda x: loss(params, x)[0], *loss(params, seen())


def moved(tree: Any) -> bool:
    return any(bool(jnp.abs(x).max() > 0) for x in jax.tree.leaves(tree))


def test_loss_gradient_reaches_what_the_source_says(objective):
    name, _, _, (_, grads) = objective
    assert moved(grads.tokens) == (name in ("sigreg", "visreg"))
    assert moved(grads.latent.deter)
    assert moved(grads.latent.stoch) == (name not in CAUSAL)


def test_loss_gradient_moves_no_parameters_but_its_own(objective):
    _, _, _, (grads, _) = objective
    others = {k: v for k, v in grads.items() if k != "objective"}
    assert moved(grads["objective"]) and not moved(others)


def test_loss_first_step_of_an_episode_is_not_predicted_from_h(objective):
    name, _, _, (_, grads) = objective
    size = np.abs(np.asarray(grads.latent.deter)).max(-1)
    if name in CAUSAL:
        assert size[1, 3] == 0 and (np.delete(size.ravel(), T + 3) > 0).all()
    elif name == "next_embedding":
        assert size[1, 2] == 0 and (size[:, -1] == 0).all() and size[1, 3] > 0  # no target across or past it
    else:
        assert (size > 0).all()


def test_loss_of_bfloat16_activations_is_computed_in_float32(objective):
    _, loss, _, _ = objective
    short = jax.tree.map(lambda x: x.astype(jnp.bfloat16), seen())
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), short)
    np.testing.assert_allclose(loss(short), loss(wide), rtol=1e-5)


def test_loss_sharded_over_devices_is_the_same(objective):
    _, loss, whole, _ = objective
    split = NamedSharding(Mesh(np.asarray(jax.devices()), ("data",)), PartitionSpec("data"))
    np.testing.assert_allclose(loss(jax.device_put(seen(), split)), whole, rtol=1e-5)


@pytest.mark.parametrize("name", ["barlow", "infonce", "cdp", "sigreg", "visreg"])  # others read the batch
def test_loss_does_not_depend_on_the_order_of_sequences(name):
    agent, params = made(name)
    order = np.array([0, 1, 3, 2])  # those without a reset inside
    loss = jax.jit(lambda x: total(agent, params, x))
    changed = jax.tree.map(lambda x: x[order], seen())
    np.testing.assert_allclose(loss(changed), loss(seen()), rtol=1e-5)


# Collapse and information.


def normal(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_barlow_every_constant_token_costs_one_without_gradient():
    tokens = normal(64, 6).at[:, :2].set(0.5)
    loss = lambda predicted: barlow.redundancy(predicted, tokens).invariance
    value, grad = jax.value_and_grad(loss)(tokens)
    np.testing.assert_allclose(value, 2 + 4 * (1 / 64) ** 2, rtol=1e-5)  # C_ii = (N-1)/N of the others
    assert (grad[:, :2] == 0).all() and jnp.isfinite(grad).all()


def test_barlow_weight_leaves_rows_out():
    tokens, predicted = normal(20, 3), normal(20, 3)[::-1]
    weight = jnp.asarray([1.0] * 12 + [0.0] * 8)
    some, all_of_them = (
        barlow.redundancy(predicted, tokens, weight),
        barlow.redundancy(predicted[:12], tokens[:12]),
    )
    np.testing.assert_allclose(np.array(some), np.array(all_of_them), rtol=1e-5)


def test_redundancy_weight_makes_the_floor_grow_as_the_tokens():
    cfg = tiny.NUMBERS.barlow
    floors = []
    for count in (16, 64):
        tokens = normal(512, count)
        weight = barlow.redundancy_weight(cfg, jnp.float32(512), count)
        floors.append(float(weight * barlow.redundancy(tokens, tokens).redundancy / count))
    np.testing.assert_allclose(floors, 5e-4, rtol=0.2)  # lambda N/E * E(E-1)/N
    assert (
        barlow.redundancy_weight(tiny.config(barlow__lambda_reference=True).barlow, jnp.float32(9), 3) == 5e-4
    )


def test_infonce_floor_is_reached_by_sharp_predictions_and_counts_equal_rows():
    tokens = normal(12, 8)
    tokens = tokens / jnp.linalg.norm(tokens, axis=-1, keepdims=True)
    tokens = tokens.at[1].set(tokens[0])
    np.testing.assert_allclose(infonce.floor(tokens), 2 * np.log(2) / 12, rtol=1e-6)
    np.testing.assert_allclose(
        infonce.contrast(100 * tokens, tokens).mean(), infonce.floor(tokens), atol=1e-3
    )


def test_infonce_constant_tokens_cost_the_logarithm_of_the_rows():
    np.testing.assert_allclose(infonce.contrast(normal(9, 4), jnp.ones((9, 4))), np.log(9), rtol=1e-5)
    np.testing.assert_allclose(infonce.floor(jnp.ones((9, 4))), np.log(9), rtol=1e-6)


def test_cdp_constant_tokens_cost_nothing():
    """Which is why their encoder has to move slowly."""
    np.testing.assert_allclose(cdp.distance(jnp.ones((3, 4)), jnp.full((3, 4), 2.0)), 0, atol=1e-6)
    np.testing.assert_allclose(cdp.distance(jnp.eye(2), jnp.eye(2)[::-1]), 1)
    assert jnp.isfinite(jax.grad(lambda x: cdp.distance(x, jnp.ones((1, 4))).sum())(jnp.zeros((1, 4)))).all()


def test_normality_collapse_and_scale_cost_what_the_integral_says():
    rows, axes = normal(8, 256, 16), sigreg.directions(jax.random.key(0), 16, 128)
    of = lambda scale: float(sigreg.normality(scale * rows, axes).mean())
    np.testing.assert_allclose(of(0), 0.402, atol=2e-3)
    np.testing.assert_allclose(of(1), sigreg.least(256), rtol=0.1)
    np.testing.assert_allclose(sigreg.least(1), 1.052, atol=1e-3)
    for c in (0.5, 2.0):
        beyond = np.sqrt(2 * np.pi) * (1 / np.sqrt(2 * c**2 + 1) - 2 / np.sqrt(c**2 + 2) + 1 / np.sqrt(3))
        np.testing.assert_allclose(of(c), beyond, rtol=0.1)


def test_deviations_of_normal_quantiles_have_no_shape_and_of_a_collapse_the_whole_scale():
    quantiles = jax.scipy.stats.norm.ppf(jnp.arange(1, 65) / 65)
    rows = (quantiles / quantiles.std())[None, :, None]
    parts = visreg.deviations(rows, jnp.ones((1, 1)))
    np.testing.assert_allclose(np.array(parts), 0, atol=1e-8)
    collapsed = visreg.deviations(jnp.full((1, 16, 3), 2.0), jnp.eye(3))
    np.testing.assert_allclose([float(x[0]) for x in collapsed[:2]], [4.0, 1.0], rtol=1e-5)
    grad = jax.grad(lambda x: sum(p.sum() for p in visreg.deviations(x, jnp.eye(3))))(jnp.zeros((1, 16, 3)))
    assert jnp.isfinite(grad).all()


def test_effective_rank_counts_directions_of_equal_variance():
    rows = jnp.concatenate([jnp.eye(4), -jnp.eye(4)])
    np.testing.assert_allclose(tokens.effective_rank(rows), 4, rtol=1e-6)
    np.testing.assert_allclose(tokens.effective_rank(jnp.ones((5, 3))), 0)
    wide = normal(5, 9)
    padded = jnp.concatenate([wide, jnp.broadcast_to(wide.mean(0), (5, 9))])
    np.testing.assert_allclose(tokens.effective_rank(wide), tokens.effective_rank(padded), rtol=1e-5)


def test_live_is_the_share_of_columns_that_vary():
    np.testing.assert_allclose(tokens.live(normal(50, 4).at[:, 0].set(1.0)), 0.75)


# The transformer of next_embedding.


def test_next_embedding_expectation_depends_on_the_past_of_its_episode_only():
    agent, params = made("next_embedding")
    module = nnx.merge(agent.modules.objective, params["objective"])
    feat, records = seen().latent.feat, batch()
    expect = lambda feat, action: module.expect(feat, action, jnp.asarray(records.is_first))
    before = expect(feat, records.action)
    changed = lambda after: {(int(b), int(t)) for b, t in np.argwhere(np.abs(after - before).max(-1) > 1e-6)}
    assert changed(expect(feat.at[1, 2].add(1.0), records.action)) == {(1, 2)}  # index 3 begins an episode
    assert changed(expect(feat.at[0, 3].add(1.0), records.action)) == {(0, 3), (0, 4), (0, 5)}
    steered = {**records.action, "steer": jnp.asarray(records.action["steer"]).at[0, 4].add(1.0)}
    assert changed(expect(feat, steered)) == {(0, 4), (0, 5)}  # the action chosen at a step counts there


def test_next_embedding_sequence_without_positions_is_refused():
    agent, params = made("next_embedding", next_embedding__length=5)
    expected = r"length is 5, but sequences have 6 steps .* --agent.next_embedding.length 6"
    with pytest.raises(ConfigError, match=expected):
        total(agent, params, seen())


def test_next_embedding_heads_must_share_the_width():
    with pytest.raises(ConfigError, match="units must be a multiple of heads"):
        tiny.config(next_embedding__units=10)


# Sums and rates.


def test_config_objective_sums_two_different_names():
    for name in ("reconstruction+barlow", "sigreg+my_objective:SlowTokens"):
        assert tiny.config(objective=name).objective == name
    for name in ("barlow+barlow", "barlow+cdp+sigreg", "barlow+", "barlow+nome"):
        with pytest.raises(ConfigError, match="or the sum of two as a.b"):
            tiny.config(objective=name)


def test_sum_has_both_losses_and_slow_parts_and_decodes():
    agent, params = made("value_equivalent+reconstruction")
    objective = nnx.merge(agent.modules.objective, params["objective"])
    slow, world = objective.slow(params), agent.world(params, tiny.NUMBERS)
    assert slow == {"first": {"encoder": params["encoder"]}, "second": {}}
    out = jax.eval_shape(lambda: objective.loss(world, batch(), seen(), slow, jax.random.key(0)))
    assert set(out.losses) == {"rec/vector", "rec/token", "value_equivalent"} and agent.decoder == "objective"
    doubled = jax.tree.map(lambda x: 2 * x, params)
    followed = objective.follow(slow, doubled, tiny.NUMBERS)["first"]["encoder"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 1.01 * b, rtol=1e-5), followed, params["encoder"])


def test_sum_of_objectives_with_a_loss_of_one_name_is_refused():
    agent, params = made("my_objective:SlowTokens+my_objective:SlowTokensAgain")
    with pytest.raises(ConfigError, match="both parts of agent.objective have a loss 'rec/tokens'"):
        total(agent, params, seen())


def test_rate_factors_of_cdp_are_below_those_of_the_optimiser():
    assert tiny.config(objective="cdp").rate_factors == {"encoder": 0.15, "rssm": 10, "objective": 10}
    slower = tiny.config(objective="cdp", optim__factors=("encoder=0.5",))
    assert slower.rate_factors == {"encoder": 0.5, "rssm": 10, "objective": 10}
    assert tiny.config(objective="reconstruction+cdp").rate_factors == {}
    with pytest.raises(ConfigError, match="factors needs entries like"):
        tiny.config(cdp__factors=("encoder",))


# The probe decoder.


def test_probe_decoder_moves_nothing_else_and_does_not_count():
    alone, probed = (made("barlow", probe_decoder=probe) for probe in (False, True))
    assert (alone[0].decoder, probed[0].decoder) == ("", "probe")
    assert size(alone[1]) == size(probed[1]) < sum(x.size for x in jax.tree.leaves(probed[1]))
    agent, params = probed

    def shown(params: Any) -> Array:
        world, key = agent.world(params, tiny.NUMBERS), jax.random.key(0)
        seen = world.observe(world.initial(B), batch().obs, batch().action, batch().is_first, key=key)
        losses, _ = world.loss(batch(), seen, {}, key=jax.random.key(1))
        return jnp.stack([v.mean() for k, v in losses.items() if k.startswith("probe/")]).sum()

    grads = jax.jit(jax.grad(shown))(params)
    assert moved(grads.pop("probe")) and not moved(grads)


def test_init_encoder_and_dynamics_do_not_depend_on_the_objective():
    starts = (made(name)[0].init(jax.random.key(0)).params for name in ("reconstruction", "barlow"))
    one, other = ({name: params[name] for name in ("encoder", "rssm")} for params in starts)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_probe_decoder_leaves_the_start_of_all_others_as_it_is():
    alone, probed = (
        Agent(tiny.OBS, tiny.ACT, tiny.config(objective="barlow", probe_decoder=probe)).init(
            jax.random.key(0)
        )
        for probe in (False, True)
    )
    jax.tree.map(np.testing.assert_array_equal, alone.params, {k: probed.params[k] for k in alone.params})


def test_probe_decoder_of_an_objective_that_decodes_is_not_made():
    agent, params = made("reconstruction", probe_decoder=True)
    assert agent.decoder == "objective" and "probe" not in params


def test_world_decode_shows_latents_through_the_probe():
    agent, params = made("barlow", probe_decoder=True)
    world = agent.world(params, tiny.NUMBERS)
    decoded = world.decode(world.initial(3))
    assert {k: (v.shape, v.dtype) for k, v in decoded.items()} == {
        "vector": ((3, 3), jnp.float32),
        "token": ((3, 2), jnp.int32),
    }


# A class of a user's, by name.


OURS = "my_objective:SlowTokens"


@pytest.fixture(scope="module")
def trained():
    """The agent with this objective, its state before and after one update, and the metrics."""
    agent = Agent(tiny.OBS, tiny.ACT, tiny.config(objective=OURS))
    state = jax.jit(agent.init)(jax.random.key(0))
    told = numbers.replace(numbers.trace(agent.cfg), {"behavior.slow_rate": jnp.float32(0.25)})
    after, _, metrics = jax.jit(agent.train_step)(state, tiny.batch(), told, key=jax.random.key(1))
    return agent, state, after, metrics


def test_init_slow_part_is_a_copy(trained):
    _, state, _, _ = trained
    jax.tree.map(np.testing.assert_array_equal, state.slow["objective"]["encoder"], state.params["encoder"])


def test_train_step_slow_part_follows_without_gradient(trained):
    _, state, after, _ = trained
    expected = jax.tree.map(
        lambda new, old: 0.25 * new + 0.75 * old,
        after.params["encoder"],
        state.slow["objective"]["encoder"],
    )
    slow = after.slow["objective"]["encoder"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), slow, expected)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), slow, state.params["encoder"])
    assert max(jax.tree.leaves(moved)) > 0


def test_train_step_objective_loss_and_diagnostics_are_logged(trained):
    metrics = trained[3]
    np.testing.assert_allclose(metrics["loss/rec/tokens"], metrics["objective/error"], rtol=1e-6)
    assert metrics["objective/error"] > 0


def test_store_slow_part_is_restored(trained, tmp_path):
    _, _, after, _ = trained
    store = checkpoint.CheckpointStore(tmp_path)
    store.save(1, after, {})
    store.wait()
    jax.tree.map(np.testing.assert_array_equal, store.load(after)[1].slow, after.slow)


def test_agent_rate_factor_of_unknown_module_is_refused():
    with pytest.raises(ConfigError, match=r"names 'encodr'.*the modules are cont, "):
        Agent(tiny.OBS, tiny.ACT, tiny.config(optim__factors=("encodr=0.5",)))


def test_train_step_rate_factor_of_zero_freezes_a_module():
    agent = Agent(tiny.OBS, tiny.ACT, tiny.config(optim__factors=("encoder=0",)), tiny.DETERMINISTIC)
    state = tiny.state()
    step = jax.jit(agent.train_step)
    after, _, _ = step(state, tiny.batch(), numbers.trace(agent.cfg), key=jax.random.key(0))
    still = jax.tree.map(lambda a, b: bool((a == b).all()), after.params, state.params)
    assert all(jax.tree.leaves(still["encoder"])) and not any(jax.tree.leaves(still["rssm"]["gates"]))


# By name, in other processes.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of an untrained run with this objective, and its exported agent in it."""
    env = envs.make("probe:chosen", 1)
    agent = Agent(env.obs_space, env.act_space, tiny.config(objective=OURS))
    env.close()
    folder = tiny.store(tmp_path_factory.mktemp("runs") / "mine", agent.init(jax.random.key(0)), agent)
    assert main(["export", str(folder)]) == 0
    return folder


@pytest.fixture
def not_imported(monkeypatch):
    """As in a process that has not imported the module."""
    monkeypatch.delitem(sys.modules, "my_objective", raising=False)


def test_config_objective_name_without_module_is_refused():
    expected = (
        "objective must be one of reconstruction, none, barlow, .*, a class of yours .*did you mean none"
    )
    with pytest.raises(ConfigError, match=expected):
        tiny.config(objective="nome")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my_objective:Lossless", "is no objective: that is a class of flax.nnx.Module with slow, follow"),
        ("my_objective:jax", "the module my_objective has no 'jax'"),
        ("my_objective:Linear", "is no objective"),
        ("my_objectives:Slow", "there is no module 'my_objectives' here"),
        ("tests/my_objective.py:SlowTokens", "did you mean tests.my_objective"),
    ],
)
def test_agent_objective_that_is_none_raises_one_sentence(name, expected):
    with pytest.raises(ValueError, match=expected):
        Agent(tiny.OBS, tiny.ACT, tiny.config(objective=name))


def test_weight_of_unknown_loss_names_the_one_that_has_a_weight():
    with pytest.raises(ConfigError, match="call it 'rec/tokens', which agent.loss.rec weighs"):
        tiny.NUMBERS.loss.weight("tokens")


@pytest.mark.parametrize("file", ["", "agent.safetensors"])
def test_load_objective_of_a_user_is_imported_by_the_program_not_by_the_file(run, not_imported, file):
    with pytest.raises(ValueError, match="`import my_objective` before loading it, if you trust"):
        load(run / file)
    assert "my_objective" not in sys.modules
    import my_objective  # noqa: F401

    assert load(run / file).agent.cfg.objective == OURS


def test_eval_command_imports_the_objective_and_says_so(run, not_imported, capsys):
    assert main(["eval", str(run), "--episodes", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["episodes"] == 2
    assert f"importing the module 'my_objective', which a file names: {Path(__file__).parent}" in err


@pytest.mark.parametrize("file", ["", "agent.safetensors"])
def test_eval_objective_in_the_run_folder_needs_trust(run, not_imported, tmp_path, monkeypatch, capsys, file):
    shutil.copytree(run, tmp_path / "mine")
    shutil.copy(Path(__file__).with_name("my_objective.py"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    words = ["eval", str(tmp_path / "mine" / file), "--episodes", "2"]
    assert main(words) == 2 and "my_objective" not in sys.modules
    assert "add --trust if you trust it" in capsys.readouterr().err
    assert main([*words, "--trust"]) == 0
