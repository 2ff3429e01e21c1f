"""The block GRU is the equation of the paper, whatever the arrangement of its products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.config import RSSMConfig
from dreamer.cores.gru import GRU
from dreamer.ops import cpu
from dreamer.records import State

B, A = 3, 5
CFG = RSSMConfig(deter=8, hidden=6, stoch=3, classes=4, blocks=2)


def build(layers: int = 2, seed: int = 0) -> GRU:
    """A GRU of which no bias and no scale is as it starts."""
    cfg = RSSMConfig(deter=8, hidden=6, stoch=3, classes=4, blocks=2, core_layers=layers)
    core = GRU(A, cfg, init=tiny.initializer())
    shake(core, np.random.default_rng(seed))
    return core


def shake(core: GRU, rng: np.random.Generator) -> None:
    for layer in (*core.core, core.gates):
        layer.bias[...] = jnp.asarray(rng.normal(0, 0.5, layer.bias.shape), jnp.float32)
    for norm in core.core_norms:
        norm.scale[...] = jnp.asarray(rng.uniform(0.5, 2, norm.scale.shape), jnp.float32)


def inputs(seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """h, z and a."""
    rng = np.random.default_rng(seed)
    draw = lambda width: jnp.asarray(rng.uniform(-1, 1, (B, width)), jnp.float32)
    return draw(8), draw(12), draw(A)


def step(core, h, z, a):
    carry = core.carry(State(h))
    return core.state(core.step(core.weights(), carry, z, core.read(a))).deter


def by_hand(core, h, z, a):
    """One step with float64 numpy, every block reading a concatenation of its own."""
    array = lambda p: np.asarray(p[...], np.float64)
    linear = lambda layer, x: x @ array(layer.kernel) + array(layer.bias)[None]
    rms = lambda norm, x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4) * array(norm.scale)[None]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    silu = lambda x: x * sigmoid(x)
    layer = lambda m, x: silu(rms(m.norm, linear(m.linear, x)))
    kernels = lambda m: [array(m.kernel)[b] for b in range(2)]

    h, z, a = (np.asarray(x, np.float64) for x in (h, z, a))
    embeds = (core.embed_deter, core.embed_stoch, core.embed_action)
    shared = [layer(m, x) for m, x in zip(embeds, (h, z, a), strict=True)]
    xs = [np.concatenate([h[:, 4 * b : 4 * b + 4], *shared], -1) for b in range(2)]
    for block, norm in zip(core.core, core.core_norms, strict=True):
        x = np.concatenate([x @ k for x, k in zip(xs, kernels(block), strict=True)], -1)
        x = silu(rms(norm, x + array(block.bias)[None]))
        xs = [x[:, :4], x[:, 4:]]
    gates = [x @ k for x, k in zip(xs, kernels(core.gates), strict=True)]
    gates = [g + array(core.gates.bias)[12 * b : 12 * b + 12][None] for b, g in enumerate(gates)]
    reset, candidate, update = (
        np.concatenate([g[:, 4 * i : 4 * i + 4] for g in gates], -1) for i in range(3)
    )
    u = sigmoid(update - 1)
    return u * np.tanh(sigmoid(reset) * candidate) + (1 - u) * h


@pytest.mark.parametrize("layers", [1, 2])
def test_gru_step_any_depth_matches_paper_equation(layers):
    core = build(layers)
    np.testing.assert_allclose(step(core, *inputs()), by_hand(core, *inputs()), rtol=1e-4, atol=1e-5)


def test_gru_scanned_steps_match_single_step_gradients():
    """What `cpu.scan` collects are the gradients of the same function."""
    core, (h, z, a) = build(), inputs()
    zs, actions = jnp.stack([z, -z, z / 2]), jnp.stack([a, a / 2, -a])

    def scanned(core):
        one = lambda weights, carry, xs: ((carry := core.step(weights, carry, *xs)), carry.flat)
        xs = zs, core.read(actions)
        return cpu.scan(one, core.weights(), core.carry(State(h)), xs, rows=B, dtype=jnp.float32)[1]

    def stepped(core):
        now, out = h, []
        for z, a in zip(zs, actions, strict=True):
            now = step(core, now, z, a)
            out.append(now)
        return jnp.stack(out)

    loss = lambda f: lambda core: jnp.square(f(core)).sum()
    ours, theirs = (jax.jit(jax.value_and_grad(loss(f)))(core) for f in (scanned, stepped))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def test_gru_carry_has_h_and_its_blocks():
    core, (h, *_) = build(), inputs()
    carry = core.carry(State(h))
    np.testing.assert_array_equal(carry.blocks[1], h[:, 4:])
    np.testing.assert_array_equal(core.state(carry).deter, h)
    assert core.state(carry).memory == {}


def test_gru_packed_state_is_bfloat16_with_small_error():
    h = inputs()[0]
    packed = GRU.pack(State(h))
    assert {k: (v.shape[1:], str(v.dtype)) for k, v in packed.items()} == {
        k: (space.shape, space.dtype) for k, space in GRU.entries(CFG).items()
    }
    assert packed["deter"].nbytes == 2 * h.size
    np.testing.assert_allclose(GRU.unpack(packed, jnp.float32).deter, h, rtol=2**-8)
    assert GRU.unpack(packed, jnp.bfloat16).deter.dtype == jnp.bfloat16


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_gru_step_wrong_shape_raises_assertion_error(wrong):
    core, (h, z, a) = build(), inputs()
    xs = [core.carry(State(h)), z, core.read(a)]
    xs[wrong] = jax.tree.map(lambda x: x[..., :-1], xs[wrong])
    with pytest.raises(AssertionError, match="has shape .* but expected"):
        core.step(core.weights(), *xs)
