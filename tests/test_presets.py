"""Presets build, sizes have the published number of parameters, and every field is read by something."""

import ast
import inspect
import math
from pathlib import Path

import jax
import pytest

import dreamer
import envs
import experiments
from dreamer import schema
from dreamer.agent import Agent
from dreamer.config import TRACED, AgentConfig, Config, EnvConfig
from envs.api import Space
from experiments import presets
from experiments.presets.sizes import SIZES


def parameters(size: str, obs: dict[str, Space], act: Space) -> dict[str, int]:
    """Number of parameters of every module."""
    agent = Agent(obs, {"action": act}, SIZES[size](AgentConfig()))
    params = jax.eval_shape(agent.init, jax.random.key(0)).params
    return {k: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(v)) for k, v in params.items()}


def image(side: int, channels: int) -> dict[str, Space]:
    return {"image": Space((side, side, channels), "uint8")}


def vector(size: int) -> dict[str, Space]:
    return {"vector": Space((size,), "float32")}


def discrete(classes: int) -> Space:
    return Space((), "int32", classes)


PUBLISHED = {  # Crafter (64x64x3, 17 actions) and Atari (96x96x1, 18 actions)
    "1m": (687_875, 769_762),
    "12m": (10_498_259, 11_808_850),
    "25m": (23_495_475, 26_444_402),
    "50m": (41_658_259, 46_900_882),
    "100m": (93_480_531, 105_276_626),
    "200m": (165_965_075, 186_936_082),
    "400m": (372_920_979, 420_106_130),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_number_of_parameters_equals_the_published_one(size):
    crafter, atari = PUBLISHED[size]
    assert sum(parameters(size, image(64, 3), discrete(17)).values()) == crafter
    assert sum(parameters(size, image(96, 1), discrete(18)).values()) == atari


def test_agent_parameters_per_module_have_known_counts():
    assert parameters("1m", vector(24), Space((6,), "float32")) == {
        "encoder": 10_112,
        "rssm": 364_416,
        "objective": 51_096,
        "reward": 57_663,
        "cont": 41_153,
        "policy": 50_316,
        "value": 66_111,
    }
    assert parameters("12m", image(64, 3), discrete(17)) == {
        "encoder": 220_416,
        "rssm": 5_982_464,
        "objective": 1_272_003,
        "reward": 721_407,
        "cont": 656_129,
        "policy": 792_337,
        "value": 853_503,
    }


def test_agent_parameters_of_small_observations_have_known_counts():
    assert sum(parameters("1m", vector(4), discrete(2)).values()) == 637_381
    assert sum(parameters("1m", image(64, 3), discrete(7)).values()) == 686_585


@pytest.mark.parametrize("size", SIZES)
def test_sizes_applied_after_another_size_override_it(size):
    for other in SIZES.values():
        assert SIZES[size](other(AgentConfig())) == SIZES[size](AgentConfig())


@pytest.mark.parametrize("name", presets.PRESETS)
def test_build_every_preset_has_name_description_and_command(name):
    cfg = presets.build(name)
    assert cfg.preset == name
    assert presets.describe(name).endswith(".")
    command = {"quickstart": "dreamer train", "small": "dreamer train --task"}.get(
        name, f"dreamer train {name}"
    )
    assert command in presets.PRESETS[name].__doc__


def test_build_dreamerv3_preset_has_the_values_of_the_paper():
    cfg = presets.build("dreamerv3")
    assert cfg.agent == AgentConfig() == SIZES["1m"](AgentConfig())
    behavior, optim, loop = cfg.agent.behavior, cfg.agent.optim, cfg.loop
    assert (behavior.imag_length, behavior.horizon, behavior.lam, behavior.entropy) == (15, 333, 0.95, 3e-4)
    assert (optim.lr, optim.warmup, optim.agc, optim.eps) == (4e-5, 1000, 0.3, 1e-20)
    assert (loop.batch_size, loop.batch_length, loop.train_ratio, loop.num_envs) == (16, 64, 32, 16)
    assert cfg.replay.capacity == 5_000_000


@pytest.mark.parametrize(
    ("name", "steps", "ratio", "num_envs", "size"),
    [
        ("atari", 51_000_000, 32, 16, "200m"),
        ("atari100k", 110_000, 256, 1, "200m"),
        ("dmc-proprio", 1_100_000, 1024, 16, "1m"),
        ("dmc-vision", 1_100_000, 256, 16, "200m"),
        ("crafter", 1_100_000, 512, 1, "200m"),
        ("bsuite", 100_000, 1024, 1, "1m"),
    ],
)
def test_build_benchmark_preset_has_the_published_protocol(name, steps, ratio, num_envs, size):
    """As configured by danijar/dreamerv3 e3f0224."""
    cfg = presets.build(name)
    assert (cfg.steps, cfg.loop.train_ratio, cfg.loop.num_envs) == (steps, ratio, num_envs)
    assert cfg.agent == SIZES[size](AgentConfig())
    assert (cfg.loop.batch_size, cfg.loop.batch_length, cfg.replay.capacity) == (16, 64, 5_000_000)


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if name.endswith("-small")])
def test_build_small_preset_is_of_the_task_of_its_protocol(name):
    cfg, protocol = presets.build(name), presets.build(name.removesuffix("-small"))
    assert cfg.task.partition(":")[0] == protocol.task.partition(":")[0] and cfg.env == protocol.env
    updates = cfg.steps * cfg.loop.train_ratio / (cfg.loop.batch_size * cfg.loop.batch_length)
    assert updates < 10_000 and cfg.steps < protocol.steps


def attributes_read() -> set[str]:
    """Names that some module reads as an attribute, apart from where fields are declared and set."""
    read = set()
    for package in (dreamer, experiments):
        folder = Path(package.__file__).parent
        for path in folder.rglob("*.py"):
            if path == folder / "config.py" or "presets" in path.parts:
                continue
            nodes = ast.walk(ast.parse(path.read_text()))
            read |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    read |= {field.rpartition(".")[2] for field in TRACED.values()}
    read |= {*EnvConfig().world, *EnvConfig().training} & set(
        inspect.signature(envs.make).parameters
    )  # handed on by name
    return read | {"vary", "factors"}  # by `grid` and `rate_factors` next to them


def test_config_every_field_is_read_somewhere():
    read = attributes_read()
    assert "a_field_that_nobody_has" not in read
    unread = [path for path in schema.paths(Config) if path.rpartition(".")[2] not in read]
    assert not unread
