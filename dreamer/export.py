"""One small file with all that acting, imagination and inspection need, and nothing for learning.

It is a safetensors file: the parameters under their dotted paths (`policy.out.action.kernel`), and in its
header, under `dreamer`, what they are as JSON. Those of a probe decoder (`agent.probe_decoder`, module
`probe`) are among them, because it decodes what is imagined and inspected:

    format, version         "dreamer-agent", and a number that grows when the layout changes
    toolkit                 version of dreamer-toolkit that wrote it
    config                  the whole configuration of the run
    obs_space, act_space    what the agent reads and chooses
    counters                env_steps and updates that it has learned from
    sha256                  of all of the above and of the arrays

Without optimiser, slow critic and replay, training cannot resume from it. Reading it executes no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import jax
import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save as serialized

from dreamer import atomic, config, objectives, schema
from dreamer.agent import Agent, Params
from dreamer.checkpoint import CheckpointError
from dreamer.config import Config
from dreamer.schema import ConfigError
from envs.api import spaces_from, spaces_to

FORMAT = "dreamer-agent"
VERSION = 1
HEADER = "dreamer"
"""Key in the header of the file under which its contents are described."""
DTYPES = {"F32": np.dtype("float32"), "BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype("float16")}
"""What parameters may be stored as, by the name that safetensors gives it."""

Dtype = Literal["float32", "bfloat16", "float16"]


class Trained(Protocol):
    """A trained agent, such as a `Player`."""

    @property
    def agent(self) -> Agent:
        """Its structure."""
        ...

    @property
    def everything(self) -> Params:
        """{module: parameters} of every module."""
        ...

    @property
    def config(self) -> Config | None:
        """Of the run that the parameters are from, where there is one."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """`env_steps` and `updates` that it has learned from."""
        ...


class Exported(NamedTuple):
    """What a file holds."""

    agent: Agent
    everything: Params
    """{module: parameters}, float32."""
    config: Config
    counters: dict[str, int]
    """`env_steps` and `updates` that it has learned from."""


def save(player: Trained, path: str | Path, *, dtype: Dtype = "float32", force: bool = False) -> None:
    """Write a trained agent to one file, whole or not at all.

    Args:
      dtype: of the stored parameters; the two of 16 bits make half the file and round.
      force: replace an existing file.

    Raises:
      CheckpointError: there is a file already, it cannot be written, or the agent is not complete.
    """
    path = Path(path)
    if path.exists() and not (force and path.is_file()):
        raise CheckpointError(f"{path} exists already: name another file{_or_force(path)}")
    if player.config is None:
        raise CheckpointError("an agent without the configuration of a run cannot be exported")
    leaves = _flat(player.everything)
    _check(leaves, _flat(_expected(player.agent)), "the agent")
    arrays = {name: _stored(name, array, dtype) for name, array in jax.device_get(leaves).items()}
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "toolkit": _toolkit(),
        "config": schema.to_dict(player.config),
        "obs_space": spaces_to(player.agent.obs_space),
        "act_space": spaces_to(player.agent.act_space),
        "counters": dict(player.counters),
    }
    text = json.dumps({**meta, "sha256": _digest(meta, arrays)})
    _write(path, serialized(arrays, {HEADER: text}))


def read(path: str | Path) -> Exported:
    """The agent in a file that `save` wrote, with parameters in float32.

    Raises:
      CheckpointError: naming the file, if it is of another kind, newer, damaged, or inconsistent.
    """
    path = Path(path)
    meta, stored = _opened(path)
    try:
        arrays = {name: _array(path, name, entry) for name, entry in stored}
        if meta.pop("sha256") != _digest(meta, arrays):
            raise CheckpointError(f"{path} is damaged: it does not have the digest it was written with")
        cfg = _config(path, meta)
        _check_objective(path, cfg)
        agent = Agent(spaces_from(meta["obs_space"]), spaces_from(meta["act_space"]), cfg.agent)
        counters = {name: _count(count) for name, count in meta["counters"].items()}
        expected = _expected(agent)
        wanted = _flat(expected)
    except CheckpointError:
        raise
    except Exception as error:  # the header may come from anywhere and hold anything
        what = "an incomplete" if isinstance(error, KeyError) else "a wrong"
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise CheckpointError(f"{path} has {what} header ({why})") from None
    _check(arrays, wanted, str(path))
    _check_finite(arrays, path)
    leaves = [jax.device_put(arrays[name].astype(np.float32)) for name in wanted]
    return Exported(agent, jax.tree.unflatten(jax.tree.structure(expected), leaves), cfg, counters)


def _opened(path: Path) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """The header, and the arrays as bytes, of a file of a known version."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    try:
        stored = safetensors.deserialize(content)
    except safetensors.SafetensorError:
        if content[8:9] == b"{":  # a header begins here
            raise CheckpointError(f"{path} is damaged or incomplete: copy or export it again") from None
        raise CheckpointError(f"{path} is not a file that `dreamer export` wrote") from None
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        meta = json.loads(header["__metadata__"][HEADER])
        ours, version = meta["format"] == FORMAT, meta["version"]
    except (KeyError, TypeError, ValueError, RecursionError):
        ours, version, meta = False, 0, {}
    if not ours:
        raise CheckpointError(f"{path} is a safetensors file, but not one that `dreamer export` wrote")
    if version != VERSION:
        raise CheckpointError(
            f"{path} has the format {FORMAT} {version}, but this version of dreamer-toolkit reads {FORMAT} "
            f"up to {VERSION}: upgrade it"
        )
    return meta, stored


def _array(path: Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    if entry["dtype"] not in DTYPES:
        known = ", ".join(str(dtype) for dtype in DTYPES.values())
        raise CheckpointError(f"{path} holds {entry['dtype']} at '{name}', but parameters are {known}")
    return np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= schema.LARGEST:
        raise ValueError(f"a counter is {schema.shown(value)}")
    return value


def _check_finite(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuse an agent whose parameters are not finite: its actions would be arbitrary."""
    wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        more = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise CheckpointError(f"{path} holds numbers that are not finite at '{wrong[0]}'{more}")


def _config(path: Path, meta: Mapping[str, Any]) -> Config:
    try:
        return config.from_dict(meta["config"])
    except ConfigError as error:
        raise CheckpointError(
            f"{path} was written by dreamer-toolkit {meta['toolkit']}, this is {_toolkit()}: {error}"
        ) from None


def _check_objective(path: Path, cfg: Config) -> None:
    """See that the objective is known here; one that is a class of a user's is imported."""
    try:
        objectives.check_stored(cfg.agent.objective)
        objectives.named(cfg.agent.objective)
    except (ValueError, ImportError) as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from None


def _expected(agent: Agent) -> Params:
    """The parameters of an agent as abstract arrays."""
    return jax.eval_shape(agent.init, jax.random.key(0)).params


def _flat(params: Params) -> dict[str, Any]:
    """Every parameter by its dotted path."""
    pairs = jax.tree_util.tree_flatten_with_path(params)[0]
    flat = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in pairs}
    if len(flat) < len(pairs):
        raise CheckpointError("two parameters have the same dotted path: rename an observation or action")
    return flat


def _check(params: Mapping[str, Any], wanted: Mapping[str, Any], owner: str) -> None:
    """Refuse arrays that are missing, unexpected or of another shape."""
    for name, leaf in wanted.items():
        if name not in params:
            raise CheckpointError(f"{owner} lacks the parameters '{name}'")
        if params[name].shape != leaf.shape:
            was, now = list(params[name].shape), list(leaf.shape)
            raise CheckpointError(f"{owner} holds the shape {was} at '{name}', but {now} is expected there")
    for name in params:
        if name not in wanted:
            raise CheckpointError(f"{owner} holds '{name}', which is not a parameter of its agent")


def _stored(name: str, array: np.ndarray, dtype: Dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = np.asarray(array, dtype, order="C")
    if np.isinf(rounded).any() and not np.isinf(array).any():
        raise CheckpointError(f"{dtype} cannot hold the largest number of '{name}': take bfloat16 or float32")
    return rounded


def _digest(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.name}{list(array.shape)}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, content)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error.strerror}") from None


def _or_force(path: Path) -> str:
    return ", or use --force" if path.is_file() else ""


def _toolkit() -> str:
    """The installed version of dreamer-toolkit, if it is installed."""
    try:
        return metadata.version("dreamer-toolkit")
    except metadata.PackageNotFoundError:
        return "from a checkout"
