"""The same parameters and the same batch give the reference's losses, gradients and updates."""

from pathlib import Path

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.agent import Agent, Gradients, TrainState
from dreamer.numbers import trace

FOLDER = Path(__file__).parent / "golden"
LOSS, GRAD, CHANGE = 1e-4, 1e-3, 5e-3  # relative tolerances; the reference agrees with itself to 2e-4


def pytest_generate_tests(metafunc):
    folder = Path(metafunc.config.getoption("--golden") or FOLDER)
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise pytest.UsageError(f"no .npz files in {folder}")
    metafunc.parametrize("case", files, ids=lambda p: p.stem, indirect=True, scope="module")


class Case:
    """One file, evaluated once."""

    def __init__(self, path: Path):
        self.golden = golden.load(path)
        meta = self.golden.meta
        self.agent = Agent(
            golden.spaces(meta, "obs_space"),
            golden.spaces(meta, "act_space"),
            golden.config(meta),
            golden.DETERMINISTIC,
        )
        self.numbers = trace(self.agent.cfg)
        self.state = golden.train_state(self.golden, self.agent)
        self.batch = golden.batch(self.golden)
        state = self.state
        value_and_grad = jax.jit(jax.value_and_grad(self.agent.loss, has_aux=True))
        (self.total, self.aux), self.grads = value_and_grad(
            state.params,
            state.slow,
            state.stats,
            *self.batch,
            self.numbers,
            key=jax.random.key(0),
        )


@pytest.fixture(scope="module")
def case(request) -> Case:
    return Case(request.param)


def relative(ours, theirs) -> float:
    """Relative norm of the difference of two tensors."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-12))


def assert_trees_close(ours, theirs, tolerance: float) -> None:
    pairs = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
    errors = [(jax.tree_util.keystr(path), relative(a, b)) for (path, a), b in pairs]
    wrong = [f"{name}: {error:.2e}" for name, error in errors if not error <= tolerance]
    assert not wrong, wrong


def test_observe_golden_batch_matches_reference_tokens_and_features(case):
    seen, out = case.aux.seen, case.golden.part("out/")
    np.testing.assert_allclose(seen.tokens, out["tokens"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.latent.deter, out["feat/deter"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.latent.stoch, out["feat/stoch"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.logits, out["feat/logit"], rtol=1e-4, atol=1e-5)


def test_loss_golden_batch_matches_reference_losses(case):
    theirs = case.golden.part("out/losses/")
    names = {golden.loss_name(k, case.golden.meta): v for k, v in theirs.items()}
    assert names.keys() == case.aux.losses.keys()
    for name, value in names.items():
        ours = np.asarray(case.aux.losses[name])
        np.testing.assert_allclose(ours, value, rtol=LOSS, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(case.total, case.golden.arrays["out/loss"], rtol=LOSS)


def test_loss_golden_batch_matches_reference_gradients(case):
    theirs = golden.tree(case.golden.part("out/grad/"), golden.paths(case.golden.meta), case.grads)
    assert_trees_close(case.grads, theirs, GRAD)


def test_apply_gradients_golden_batch_matches_reference_updates(case):
    """Consecutive updates on the same batch: losses, and the change of everything that learning changes."""
    loss = jax.value_and_grad(case.agent.loss, has_aux=True)

    @jax.jit
    def update(state: TrainState):
        learned = state.params, state.slow, state.stats
        (total, out), grads = loss(*learned, *case.batch, case.numbers, key=jax.random.key(0))
        return case.agent.apply_gradients(state, Gradients(grads, out.stats, {}), case.numbers)[0], total

    state, losses = case.state, []
    for _ in range(case.golden.meta["steps"]):
        state, total = update(state)
        losses.append(total)
    np.testing.assert_allclose(jnp.stack(losses), case.golden.arrays["out/train_losses"], rtol=LOSS)
    after = golden.train_state(case.golden, case.agent, "out/after/")
    change = lambda new, old: jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), new, old)
    for part in ("params", "slow"):
        before = getattr(case.state, part)
        assert_trees_close(change(getattr(state, part), before), change(getattr(after, part), before), CHANGE)
    assert_trees_close(state.stats, after.stats, LOSS)
