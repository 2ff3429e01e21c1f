"""The files of a PPO run.

ppo.json            task, seed, configuration, spaces: what makes it another run if it changes
metrics.jsonl       env_steps, updates, seconds, losses; a row an iteration
episodes.jsonl      env_steps, return, length, success
agent.safetensors   the parameters, and until the run is finished all that is needed to resume
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from dreamer import atomic, schema
from dreamer.schema import ConfigError
from envs.api import Spaces, spaces_from, spaces_to
from experiments import lock
from experiments.baselines.ppo.agent import Agent
from experiments.baselines.ppo.presets import PPOConfig

FORMAT = "dreamer-ppo-1"
MANIFEST, AGENT = "ppo.json", "agent.safetensors"
PARAMS = "params."


class Counters(TypedDict):
    """How far a run is."""

    iterations: int
    env_steps: int
    updates: int
    seconds: float
    """Wall-clock of all its sessions."""
    finished: bool


def open_folder(folder: Path, task: str, seed: int, cfg: PPOConfig) -> None:
    """Make a folder for a run, or see that it holds this one.

    Raises:
      ConfigError: it is something else, or a run with another task, seed or configuration.
    """
    if not folder.exists() or (
        folder.is_dir() and all(p.name.startswith(lock.NAME) for p in folder.iterdir())
    ):
        folder.mkdir(parents=True, exist_ok=True)
        return
    record = manifest(folder)
    wanted = {"task": task, "seed": seed, **schema.to_dict(cfg)}
    if other := [f"{k} was {record.get(k)!r}, now {v!r}" for k, v in wanted.items() if record.get(k) != v]:
        raise ConfigError(f"{folder} holds another PPO run: {'; '.join(other)}. Choose another folder.")


def write_manifest(folder: Path, task: str, seed: int, agent: Agent) -> None:
    """Say what the run is."""
    spaces = {"obs_space": spaces_to(agent.obs_space), "act_space": spaces_to(agent.act_space)}
    record = {"format": FORMAT, "task": task, "seed": seed, **schema.to_dict(agent.cfg), **spaces}
    atomic.write(folder / MANIFEST, json.dumps(record, indent=1))


def manifest(folder: Path) -> dict[str, Any]:
    """What the run is.

    Raises:
      ConfigError: there is none.
    """
    try:
        record = json.loads((folder / MANIFEST).read_text("utf-8"))
        if record["format"] == FORMAT:
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"{folder} is no folder of a PPO run: it has no {MANIFEST} of the format {FORMAT}")


def config_of(record: Mapping[str, Any]) -> PPOConfig:
    """The configuration in a manifest."""
    return schema.build(PPOConfig, {k: record[k] for k in schema.paths(PPOConfig) if k in record})


def spaces_of(record: Mapping[str, Any]) -> dict[str, Spaces]:
    """The `observation` and `action` spaces in a manifest."""
    return {"observation": spaces_from(record["obs_space"]), "action": spaces_from(record["act_space"])}


def save(folder: Path, params: Any, rest: Any, counters: Counters) -> None:
    """Write the parameters, of an unfinished run also the rest of its state, whole or not at all."""
    from safetensors.numpy import save as serialized

    arrays = dict(zip(_names(params), jax.tree.leaves(params), strict=True))
    if not counters["finished"]:
        arrays |= {_place(i): _numbers(leaf) for i, leaf in enumerate(jax.tree.leaves(rest))}
    plain = {k: np.ascontiguousarray(v).reshape(np.shape(v)) for k, v in jax.device_get(arrays).items()}
    atomic.write(folder / AGENT, serialized(plain, {"ppo": json.dumps(counters)}))


def read(folder: Path) -> tuple[dict[str, np.ndarray], Counters]:
    """The arrays that were saved, by name, and how far the run was.

    Raises:
      ConfigError: nothing was saved, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / AGENT
    if not path.is_file():
        raise ConfigError(f"{folder} holds a PPO run that has not saved anything yet: train it")
    try:
        with safe_open(path, framework="np") as file:
            counters = json.loads(file.metadata()["ppo"])
            return {name: file.get_tensor(name) for name in file.keys()}, counters  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged or not what PPO wrote: {error}") from None


def params_from(folder: Path, arrays: Mapping[str, np.ndarray], like: Any) -> Any:
    """The parameters in the structure of others.

    Raises:
      ConfigError: they do not fit.
    """
    return _filled(folder, arrays, dict(zip(_names(like), jax.tree.leaves(like), strict=True)), like)


def rest_from(folder: Path, arrays: Mapping[str, np.ndarray], like: Any) -> Any:
    """The rest of the state in the structure of another; raises as `params_from`."""
    numbers = jax.tree.map(_numbers, like)
    places = {_place(i): leaf for i, leaf in enumerate(jax.tree.leaves(numbers))}
    filled = _filled(folder, arrays, places, numbers)
    return jax.tree.map(lambda old, new: jax.random.wrap_key_data(new) if _is_key(old) else new, like, filled)


def _filled(folder: Path, arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Any], like: Any) -> Any:
    for name, leaf in wanted.items():
        if name not in arrays or arrays[name].shape != np.shape(leaf):
            raise ConfigError(f"{folder / AGENT} does not fit its {MANIFEST}: it lacks '{name}' of its shape")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in wanted])


def _names(params: Any) -> list[str]:
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return [PARAMS + jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def _place(i: int) -> str:
    return f"state.{i:04}"


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _numbers(x: Any) -> Any:
    """A key of chance as the numbers it is."""
    return jax.random.key_data(x) if _is_key(x) else x
