"""What each objective computes, against numbers made elsewhere; what it moves; what collapse costs."""

import json
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

from dreamer.agent import Agent, size
from dreamer.nets.layers import Initializer
from dreamer.nets.predictor import Predictor
from dreamer.objectives import OBJECTIVES, barlow, cdp, infonce, next_embedding, sigreg, tokens, visreg
from dreamer.records import Latent, Observed
from dreamer.schema import ConfigError

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
