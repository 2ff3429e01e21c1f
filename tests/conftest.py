"""Every test runs on two simulated CPU devices, with rank promotion and key reuse as errors."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Here and in the processes that tests start: a third of the time to compile, to slower code.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false",
)

import hypothesis
import jax
import pytest

from experiments import machine

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

hypothesis.settings.register_profile("compiling", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("compiling")


CORE = """
    activations actor_critic actors agent architecture atomic checkpoint clocks config conv cores cpu
    decoder dists encoder golden gru heads inputs inspection layers logger loop migrations none numbers
    objectives optim outputs pieces placement planning player policy reconstruction records replay returns
    rssm running source status trackers transforms types uniform words world
"""
"""Modules whose tests are the core lane, `pytest -m core`: what a developer of the agent runs all day."""
SUITES = """
    atari benchmark_bsuite bsuite crafter craftax dmc gymnax memory_maze mujoco_adapter popgym text_craftax
"""
"""Modules whose tests need packages of suites; CI installs these and runs `pytest -m suites` once more."""


def pytest_configure(config):
    if hasattr(config, "cache"):
        folder = config.cache.mkdir("jax")  # compiled once for all workers and modules, and read from then on
        jax.config.update("jax_compilation_cache_dir", str(folder))
        least = 0.0 if config.option.markexpr == "core" else 0.1
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_modifyitems(items):
    for item in items:
        if {"slow", "gpu"} & set(item.keywords):
            continue
        for lane, modules in (("core", CORE), ("suites", SUITES)):
            if item.path.stem.removeprefix("test_") in modules.split():
                item.add_marker(lane)


def pytest_addoption(parser):
    parser.addoption("--golden", default=None, help="folder of reference .npz files (default: tests/golden)")
    parser.addoption("--objectives", default=None, help="of losses (default: tests/golden/objectives)")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="module")
def compilation_cache(tmp_path_factory):
    """Every run builds its own functions; the cache lets the process compile them once."""
    kept = jax.config.jax_compilation_cache_dir
    folder = kept or tmp_path_factory.mktemp("jax-cache")
    old = os.environ.get(machine.CACHE)
    os.environ[machine.CACHE] = str(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield folder
    jax.config.update("jax_compilation_cache_dir", kept)
    if old is None:
        del os.environ[machine.CACHE]
    else:
        os.environ[machine.CACHE] = old
