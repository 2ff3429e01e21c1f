"""What no memory holds is refused with its bytes, and what fits never is."""

import jax
import pytest

from dreamer import schema
from dreamer.config import Config, PopulationConfig
from dreamer.schema import ConfigError
from experiments import memory, presets
from experiments.presets.sizes import SIZES

CFG = presets.build("quickstart")
GIB = 2**30


@pytest.fixture(autouse=True)
def sixteen(monkeypatch):
    """A machine of 16 GiB."""
    monkeypatch.setattr(memory, "_host_memory", lambda: 16 * GIB)
    monkeypatch.setattr(memory, "_device_memory", lambda: 16 * GIB)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"agent.rssm.deter": 10**7}, "agent.rssm"),
        ({"agent.rssm.hidden": 10**9}, "agent.rssm"),
        ({"agent.rssm.stoch": 10**12}, "dreams .*agent.rssm"),
        ({"agent.value.units": 10**15, "agent.value.layers": 1000}, "agent.value"),
        ({"agent.reward.bins": 2**53}, "agent.reward"),
        ({"agent.decoder.units": 10**6}, "agent.decoder"),
        ({"agent.behavior.imag_length": 10**9}, "dreams .agent.behavior.imag_length"),
        ({"loop.batch_size": 10**9}, "dreams .agent.behavior.imag_length"),
        ({"loop.num_envs": 10**7, "replay.capacity": 2**53}, "loop.num_envs"),
        ({"replay.capacity": 2**53, "steps": 2**53}, "replay.capacity"),
        ({"population.seeds": 2**53}, "agent"),
    ],
)
def test_check_oversized_config_raises_with_bytes_and_field(changes, field):
    cfg = schema.replace_paths(CFG, changes)
    with pytest.raises(ConfigError, match=r"needs at least [\d,]{11,} bytes .* most of it for " + field):
        memory.check(cfg, on_device=False)


def test_check_copies_in_processes_need_more_memory():
    memory.check_copies(2000, False, "loop.num_envs")
    with pytest.raises(ConfigError, match="a run with 2,000 environments needs at least"):
        memory.check_copies(2000, True, "loop.num_envs")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_check_every_preset_passes(name):
    cfg = presets.build(name)
    memory.check(cfg, on_device=True)


def test_parameters_estimate_is_a_lower_bound_of_the_real_count():
    from dreamer.agent import Agent
    from envs.api import Space

    obs, act = {"x": Space((1,), "float32")}, {"action": Space((), "int32", 2)}
    for size in ("1m", "25m"):
        cfg = SIZES[size](CFG.agent)
        params = jax.eval_shape(Agent(obs, act, cfg).init, jax.random.key(0)).params
        for module, least in memory.parameters(cfg).items():
            built = {"decoder": "objective"}.get(module, module)
            found = sum(x.size for x in jax.tree.leaves(params[built]))
            assert 0.5 * found < least <= found


def test_members_huge_population_is_counted_without_enumeration():
    assert memory.members(PopulationConfig(seeds=10**9, vary=("lr=1e-3,1e-4", "lam=0.9,1"))) == 4 * 10**9
    memory.check(Config(task="probe:chosen", steps=10), on_device=False)
