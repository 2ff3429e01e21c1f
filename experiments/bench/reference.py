"""What runs in the reference's Python: one update of its agent for every line of its standard input.

python reference.py DREAMERV3 JOB        JOB is the JSON of `against.Job`

The agent is that of danijar/dreamerv3 (e3f0224), its files unchanged, with the published settings of the size
and activations of the type of ours; `jax.jit` takes its arguments as in 2024 (`parity/launch.py`). It learns
from noise in the shapes of ours. Its profiler, its copies for acting and its reports are switched off.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "parity")]

OBS = {"vector": ((8,), np.float32), "image": ((64, 64, 3), np.uint8)}
ACTIONS = 6


def spaces(obs: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spaces of our benchmark in the reference's words."""
    space = importlib.import_module("elements").Space
    shape, dtype = OBS[obs]
    flags = {key: space(bool) for key in ("is_first", "is_last", "is_terminal")}
    seen = {obs: space(dtype, shape), "reward": space(np.float32), **flags}
    return seen, {"action": space(np.int32, (), 0, ACTIONS), "reset": space(bool)}


def updates(reference: str, job: dict[str, Any]) -> Callable[[], None]:
    """A compiled update of the reference's agent, awaited in every call."""
    jax: Any = importlib.import_module("jax")
    jax.jit = importlib.import_module("launch").by_position(jax.jit)
    sys.path.insert(0, reference)
    program: Any = importlib.import_module("dreamerv3.main")
    seen, acts = spaces(job["obs"])
    program.make_env = lambda *_, **__: SimpleNamespace(obs_space=seen, act_space=acts, close=lambda: None)
    agent = program.make_agent(settings(program, job))
    batch, length = job["batch"], job["length"] + agent.config.replay_context
    device = lambda tree: importlib.import_module("embodied.jax.internal").device_put(
        tree, agent.train_sharded
    )
    rng = np.random.default_rng(0)
    data = device({key: noise(rng, space, (batch, length)) for key, space in agent.spaces.items()})
    carry = agent.init_train(batch)
    seeds = [agent._seeds(number, agent.train_mirrored) for number in range(128)]
    calls = 0

    def update() -> None:
        nonlocal carry, calls
        carry, *_ = agent.train(carry, {**data, "seed": seeds[calls % len(seeds)]})
        calls += 1
        jax.block_until_ready(agent.params)

    return update


def settings(program: Any, job: dict[str, Any]) -> Any:
    """The reference's configuration of one job."""
    elements, yaml = importlib.import_module("elements"), importlib.import_module("ruamel.yaml")
    text = (Path(program.__file__).parent / "configs.yaml").read_text()
    configs = yaml.YAML(typ="safe").load(text)
    defaults = configs["defaults"]
    defaults["jax"] |= {
        "platform": "",  # that of its JAX
        "prealloc": False,
        "compute_dtype": job["dtype"],
        "profiler": False,
        "precompile": False,
        "enable_policy": False,
    }
    config = elements.Config(defaults).update(configs[f"size{job['size']}"])
    return config.update(logdir=job["folder"], batch_size=job["batch"], batch_length=job["length"])


def noise(rng: np.random.Generator, space: Any, shape: tuple[int, ...]) -> np.ndarray:
    """[*shape, ...] of a space of the reference; flags are False, and so is what it counts with."""
    shape = (*shape, *space.shape)
    if space.dtype == np.uint8 and len(space.shape) == 3:
        return rng.integers(0, 256, shape).astype(space.dtype)
    if space.dtype == np.int32 and space.shape == () and int(np.max(space.high)) == ACTIONS:
        return rng.integers(0, ACTIONS, shape).astype(space.dtype)
    if np.issubdtype(space.dtype, np.floating):
        return rng.normal(size=shape).astype(space.dtype)
    return np.zeros(shape, space.dtype)


if __name__ == "__main__":
    turns: Any = importlib.import_module("turns")
    turns.serve(lambda: updates(sys.argv[1], json.loads(sys.argv[2])))
