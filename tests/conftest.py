"""Every test runs on two simulated CPU devices, with rank promotion and key reuse as errors."""

import os
from functools import partialmethod

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

from experiments import machine

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


@pytest.fixture(scope="module")
def compilation_cache(tmp_path_factory):
    """Every run builds its own functions; the cache lets the process compile them once."""
    folder = tmp_path_factory.mktemp("jax-cache")
    old = os.environ.get(machine.CACHE)
    os.environ[machine.CACHE] = str(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield folder
    jax.config.update("jax_compilation_cache_dir", None)
    if old is None:
        del os.environ[machine.CACHE]
    else:
        os.environ[machine.CACHE] = old


@pytest.fixture(scope="module")
def quick_compilation():
    """Loops, players and inspectors built meanwhile take half as long to compile and longer to run."""
    # Not before the devices are configured.
    import tiny

    from dreamer.inspection import Inspector
    from dreamer.loops.fused import CompiledLoop
    from dreamer.loops.host import HostLoop
    from dreamer.player import Player

    def quickly(build):
        def init(self, *args, **options):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(jax, "jit", tiny.jit)
                build(self, *args, **options)

        return init

    with pytest.MonkeyPatch.context() as patch:
        for kind in (HostLoop, Inspector, Player):
            patch.setattr(kind, "__init__", quickly(kind.__init__))
        patch.setattr(CompiledLoop, "__init__", partialmethod(CompiledLoop.__init__, jit=tiny.jit))
        yield
