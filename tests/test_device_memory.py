"""What lives on each device of a mesh, from shapes; what cannot fit is refused with what would."""

import dataclasses

import pytest

from dreamer.config import AgentConfig, Config, LoopConfig, ReplayConfig
from dreamer.schema import ConfigError
from experiments import device_memory
from experiments.bench.bench import ACT, OBS
from experiments.device_memory import GIB, Task
from experiments.presets.sizes import SIZES

TASK = Task({"vector": OBS["vector"]}, ACT, on_device=False)


def config(mesh="", size="12m", **loop):
    cfg = Config("none:none", 10**9, agent=SIZES[size](AgentConfig()), loop=LoopConfig(mesh=mesh, **loop))
    return dataclasses.replace(cfg, replay=ReplayConfig(capacity=100_000))


def test_measure_fsdp_divides_what_data_repeats():
    alone, data, fsdp = (device_memory.measure(config(m), TASK) for m in ("", "data=8", "data=1,fsdp=8"))
    kept = ("parameters", "slow copies", "optimiser", "gradients")
    assert all(data.parts[name] == alone.parts[name] for name in kept)
    assert data.parts[device_memory.FEATURES] == alone.parts[device_memory.FEATURES] // 8
    assert data.split == [] and data.gathered == 0
    assert alone.parts["parameters"] == alone.parts["gradients"] == 4 * alone.parameters
    assert alone.parts["optimiser"] == 2 * alone.parts["parameters"] + 4  # and a counter
    for name in ("parameters", "optimiser", "gradients"):
        assert 1 / 8 < fsdp.parts[name] / alone.parts[name] < 0.35  # small parameters are whole
    assert fsdp.gathered > 0.6 * alone.parts["parameters"]
    assert all(row.nbytes * 8 >= 4 * 2**18 for row in fsdp.split)


def test_measure_replay_counts_where_it_is_on_the_devices():
    on_device = TASK._replace(on_device=True)
    alone, data = (device_memory.measure(config(mesh), on_device) for mesh in ("", "data=8"))
    assert (
        data.parts["replay"] == alone.parts["replay"] // 8
        and "replay" not in device_memory.measure(config(), TASK).parts
    )
    with pytest.raises(ConfigError, match="8 devices, which cannot share 12 environments"):
        device_memory.measure(config("data=8", num_envs=12), on_device)


def test_measure_features_are_of_one_part():
    whole, part = (device_memory.measure(config(accumulate=n), TASK) for n in (1, 4))
    assert part.parts[device_memory.FEATURES] == whole.parts[device_memory.FEATURES] // 4


@pytest.mark.parametrize(
    ("mesh", "size", "on_device", "gib", "way"),
    [
        ("data=8", "50m", False, 0.4, r"--loop\.mesh data=4,fsdp=2 \("),
        ("", "12m", False, 0.1, r"--loop\.mesh data=1,fsdp=4 \("),
        ("", "12m", False, 0.02, r"--size tiny \("),
        ("", "12m", True, 0.4, r"--replay\.capacity \d+$"),
        ("", "tiny", False, 1e-4, "a device with more memory"),
    ],
)
def test_check_too_little_memory_raises_with_what_would_fit(mesh, size, on_device, gib, way):
    with pytest.raises(ConfigError, match=rf"{size}.* needs at least .* available; what would fit: {way}"):
        device_memory.check(config(mesh, size), TASK._replace(on_device=on_device), size, int(gib * GIB))


def test_check_enough_memory_is_accepted_and_listed():
    cfg = config("data=1,fsdp=8")
    need = device_memory.check(cfg, TASK, "12m", GIB)
    assert device_memory.check(cfg, TASK, "12m", None) == need
    placed = device_memory.report(need, cfg, GIB)
    text = "\n".join(f"{name} {line}" for name, line in device_memory.lines(placed))
    assert "at least" in text and "of 1.00 GiB on each device" in text
    assert f"split {len(need.split)} parameters; {need.whole} are whole" in text
    assert "rssm.prior_out.kernel" not in text and "along -,-,fsdp" in text
    assert placed["per_device_bytes"] == sum(placed["per_device"].values())
