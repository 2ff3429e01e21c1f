"""Every test runs on two simulated CPU devices, with rank promotion and key reuse as errors."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

hypothesis.settings.register_profile("compiling", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("compiling")


def pytest_addoption(parser):
    parser.addoption("--golden", default=None, help="folder of reference .npz files (default: tests/golden)")


@pytest.fixture
def key():
    return jax.random.key(0)
