"""The optimiser is a chain of known pieces, in this order: clip, RMS, momentum, decay, rate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamer.config import AgentConfig, OptimConfig
from dreamer.numbers import trace
from dreamer.ops import optim
from dreamer.schema import ConfigError


def settings(**changes):
    cfg = OptimConfig(lr=1e-2, warmup=3, anneal=8)
    return trace(AgentConfig(optim=dataclasses.replace(cfg, **changes)))


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda scale, *shape: jnp.asarray(rng.normal(0, scale, shape), jnp.float32)
    return {
        "a": {"kernel": normal(1, 3, 4), "bias": normal(1, 4)},
        "b": {"kernel": jnp.zeros((2, 2, 2)), "scale": normal(1, 5)},
    }


def gradients(seed):
    """Of all sizes, so that clipping, floors and divisions all matter."""
    rng = np.random.default_rng(seed + 100)
    return jax.tree.map(
        lambda p: jnp.asarray(rng.normal(0, 10 ** rng.uniform(-3, 2), p.shape), jnp.float32), parameters()
    )


def run(numbers, steps=6):
    """[(parameters, metrics)] after every step."""
    step = jax.jit(optim.update)
    params, out = parameters(), []
    state = optim.laprop_init(params)
    for i in range(steps):
        params, state, metrics = step(gradients(i), state, params, numbers)
        out.append((params, metrics))
    return out


def assert_close(ours, theirs, **kwargs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **kwargs), ours, theirs)


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("agc", [0.3, 0.0])
def test_update_all_options_matches_the_optax_chain(agc, decay):
    """Optax clips per unit, which for a flat tensor is per tensor: so its chain gets flat tensors."""
    flat = lambda tree: jax.tree.map(jnp.ravel, tree)
    params, shapes = flat(parameters()), parameters()
    chain = optax.chain(
        optax.adaptive_grad_clip(agc, eps=1e-3) if agc else optax.identity(),
        optax.scale_by_rms(0.999, eps=1e-20, eps_in_sqrt=False, bias_correction=True),
        optax.ema(0.9, debias=True),
        optax.masked(
            optax.add_decayed_weights(decay),
            {"a": {"kernel": True, "bias": False}, "b": {"kernel": True, "scale": False}},
        ),
        optax.scale_by_learning_rate(optax.linear_schedule(0.0, 1e-2, 3)),
    )
    state, step = chain.init(params), jax.jit(chain.update)
    for i, (ours, _) in enumerate(run(settings(agc=agc, weight_decay=decay))):
        updates, state = step(flat(gradients(i)), state, params)
        params = optax.apply_updates(params, updates)
        theirs = jax.tree.map(lambda p, like: p.reshape(like.shape), params, shapes)
        assert_close(ours, theirs, rtol=2e-5, atol=1e-6)


def test_laprop_second_step_matches_hand_computation():
    """LaProp: the momentum averages gradients that were already divided by their own RMS."""
    g1, g2, lr = 3.0, -4.0, 0.1
    params = {"x": jnp.zeros(1)}
    state = optim.laprop_init(params)
    decay = dict(beta1=jnp.float32(0.9), beta2=jnp.float32(0.99), eps=jnp.float32(1e-20))
    step, state = optim.laprop({"x": jnp.full(1, g1)}, state, **decay)
    np.testing.assert_allclose(step["x"], 1.0, rtol=1e-5)
    step, _ = optim.laprop({"x": jnp.full(1, g2)}, state, **decay)
    nu = (0.99 * 0.01 * g1**2 + 0.01 * g2**2) / (1 - 0.99**2)
    expected = (0.9 * 0.1 * 1.0 + 0.1 * g2 / np.sqrt(nu)) / (1 - 0.9**2)
    np.testing.assert_allclose(lr * step["x"], lr * expected, rtol=1e-4)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_clip_by_norm_ratio_any_size_bounds_norm_and_keeps_direction(size):
    params, grads = parameters(), jax.tree.map(lambda g: size * g, gradients(0))
    clipped = optim.clip_by_norm_ratio(grads, params, jnp.float32(0.3))

    def check(new, old, param):
        limit = 0.3 * max(1e-3, float(jnp.linalg.norm(param.ravel())))
        norm = float(jnp.linalg.norm(old.ravel()))
        np.testing.assert_allclose(new, old * min(1.0, limit / norm), rtol=1e-5)

    jax.tree.map(check, clipped, grads, params)


def test_clip_by_norm_ratio_of_zero_is_the_identity():
    grads = jax.tree.map(lambda g: 1e6 * g, gradients(0))
    assert_close(optim.clip_by_norm_ratio(grads, parameters(), jnp.float32(0)), grads, rtol=0)


def test_update_first_step_of_warmup_changes_nothing():
    (first, metrics), (second, _), *_ = run(settings(), steps=2)
    assert_close(first, parameters(), rtol=0)
    assert metrics["opt/lr"] == 0
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True))


def test_update_first_step_without_warmup_moves_by_the_learning_rate():
    """Debiased, the first step is the sign of the gradient, however large it was."""
    (first, _), *_ = run(settings(warmup=0), steps=1)
    expected = jax.tree.map(lambda p, g: p - 1e-2 * jnp.sign(g), parameters(), gradients(0))
    assert_close(first, expected, rtol=1e-4, atol=1e-6)


def test_update_weight_decay_changes_kernels_only():
    plain, decayed = (run(settings(warmup=0, weight_decay=d), steps=1)[0][0] for d in (0.0, 0.5))
    np.testing.assert_allclose(
        decayed["a"]["kernel"],
        plain["a"]["kernel"] - 1e-2 * 0.5 * parameters()["a"]["kernel"],
        rtol=1e-4,
        atol=1e-7,
    )
    np.testing.assert_array_equal(decayed["a"]["bias"], plain["a"]["bias"])
    np.testing.assert_array_equal(decayed["b"]["scale"], plain["b"]["scale"])


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("schedule", ["const", "linear", "cosine"])
def test_learning_rate_every_schedule_matches_optax(schedule, warmup):
    """As optax has them: a linear ramp, then nothing, a line or a half cosine down to a tenth."""
    count, lr, anneal = jnp.arange(60), 0.2, 50
    ours = optim.learning_rate(count, jnp.float32(lr), jnp.float32(warmup), jnp.float32(anneal), schedule)
    length = anneal - warmup
    after = {
        "const": optax.constant_schedule(lr),
        "linear": optax.linear_schedule(lr, lr / 10, length),
        "cosine": optax.cosine_decay_schedule(lr, length, alpha=0.1),
    }[schedule]
    theirs = after(count)
    if warmup:
        theirs = optax.join_schedules([optax.linear_schedule(0, lr, warmup), after], [warmup])(count)
    np.testing.assert_allclose(ours, jnp.broadcast_to(theirs, (60,)), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(ours[50:], lr if schedule == "const" else lr / 10, rtol=1e-5)


def test_update_metrics_are_global_norms():
    ((params, metrics),) = run(settings(warmup=0), steps=1)
    norm = lambda tree: np.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(tree)))
    np.testing.assert_allclose(metrics["opt/grad_norm"], norm(gradients(0)), rtol=1e-5)
    np.testing.assert_allclose(metrics["opt/param_norm"], norm(params), rtol=1e-5)


def test_laprop_init_bfloat16_parameters_has_float32_moments():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), parameters())
    state = optim.laprop_init(params)
    assert {x.dtype for x in jax.tree.leaves((state.nu, state.mu))} == {jnp.dtype("float32")}


def test_update_factor_scales_the_steps_below_its_prefix_only():
    before = parameters()
    moved = {}
    for name, factors in (("plain", ()), ("scaled", ("a=0.5", "a.bias=0", "b.scale=2"))):
        ((params, _),) = run(settings(warmup=0, factors=factors), steps=1)
        moved[name] = jax.tree.map(lambda new, old: np.asarray(new - old), params, before)
    expected = {"a": {"kernel": 0.5, "bias": 0.0}, "b": {"kernel": 1.0, "scale": 2.0}}
    jax.tree.map(
        lambda scaled, plain, factor: np.testing.assert_allclose(
            scaled, factor * plain, rtol=1e-3, atol=1e-6
        ),
        moved["scaled"],
        moved["plain"],
        expected,
    )


@pytest.mark.parametrize("prefix", ["a.kern", "c", "kernel", "a.kernel.x"])
def test_check_factors_prefix_of_no_parameter_is_refused(prefix):
    with pytest.raises(ConfigError, match=f"'{prefix}', which matches no parameter; .* a, b"):
        optim.check_factors({"a": 1.0, prefix: 0.5}, parameters())


@pytest.mark.parametrize("entry", ["a", "a=", "=0.5", "a=-1", "a=nan", "a=b"])
def test_rate_factors_malformed_entry_is_refused(entry):
    with pytest.raises(ConfigError, match="factors needs entries like encoder=0.5"):
        OptimConfig(factors=(entry,))
