"""Memory: a lower bound of what a configuration needs, computed before anything is built.

It is a lower bound, so that nothing that works is refused: the parameters that do not depend on the task,
one gradient of them and the optimiser state, the dreams of a batch, and minimal copies of an environment.
The exact need of the replay is in `dreamer.replay.layout`.
"""

from __future__ import annotations

import math
import resource
import sys

from dreamer.config import AgentConfig, Config, HeadConfig, PopulationConfig
from dreamer.processes import current
from dreamer.schema import ConfigError

PER_PARAMETER = 4 * 4
"""Bytes: the parameter, its gradient, and two numbers of the optimiser, float32 each."""
PER_FEATURE = 2
"""Bytes of a feature in bfloat16, the smallest."""
COPY, PROCESS = 8 * 2**10, 2**24
"""Bytes of a small environment on the host, and of a process for one."""


def check(cfg: Config, *, on_device: bool) -> None:
    """Refuse a run that this machine cannot hold, or this process's share of one.

    Args:
      on_device: whether its task is compiled in, with no environments on the host.

    Raises:
      ConfigError: with the bytes that it needs, and for what.
    """
    loop, count, shares = cfg.loop, members(cfg.population), current().count
    parts = learner(cfg.agent, loop.batch_size, loop.batch_length)
    parts["loop.num_envs"] = loop.num_envs * features(cfg.agent) * PER_FEATURE
    many = f"population of {count:,} members" if count > 1 else "configuration"
    each = {name: size * count // shares for name, size in parts.items()}
    _check(each, _device_memory(), f"this {many}")
    if not on_device:
        check_copies(loop.num_envs // shares, cfg.env.parallel, "loop.num_envs")
        _check({"replay.capacity": replay(cfg) // shares}, _host_memory(), "this configuration")


def check_copies(count: int, parallel: bool, field: str) -> None:
    """Refuse more copies of an environment on the host than memory allows; raises as `check`."""
    _check(
        {field: count * (PROCESS if parallel else COPY)}, _host_memory(), f"a run with {count:,} environments"
    )


def members(population: PopulationConfig) -> int:
    """How many agents are trained together."""
    return population.seeds * math.prod(map(len, population.grid().values()))


def features(agent: AgentConfig) -> int:
    """F, the width of what the heads read."""
    return agent.rssm.deter + agent.rssm.stoch * agent.rssm.classes


def learner(agent: AgentConfig, batch: int, length: int) -> dict[str, int]:
    """{what: bytes at least} of learning from batches of so many sequences of so many steps."""
    parts = {f"agent.{name}": count * PER_PARAMETER for name, count in parameters(agent).items()}
    starts = batch * min(agent.behavior.imag_last or length, length)
    steps = {
        "batches (agent.rssm, loop.batch_size, loop.batch_length)": batch * length,
        "dreams (agent.behavior.imag_length, agent.rssm, loop.batch_size)": starts
        * agent.behavior.imag_length,
    }
    return parts | {name: count * features(agent) * PER_FEATURE for name, count in steps.items()}


def parameters(agent: AgentConfig) -> dict[str, int]:
    """{module: parameters at least}, of kernels alone and without what the task decides."""
    rssm, stoch = agent.rssm, agent.rssm.stoch * agent.rssm.classes
    deter, hidden, block = rssm.deter, rssm.hidden, rssm.deter // rssm.blocks
    core = deter * (block + 3 * hidden) + (rssm.core_layers - 1) * deter * block + 3 * deter * block
    outer = sum(_mlp(deter, hidden, n) for n in (rssm.prior_layers, rssm.post_layers))
    width = features(agent)
    heads = {
        "reward": (agent.reward, agent.reward.bins),
        "value": (agent.value, agent.value.bins),
        "cont": (agent.cont, 1),
        "policy": (agent.policy, 1),
    }
    return {
        "rssm": (deter + stoch) * hidden + core + outer + hidden * stoch,
        "encoder": _deeper(agent.encoder.units, agent.encoder.layers),
        **({"decoder": _mlp(width, agent.decoder.units, agent.decoder.layers)} if _decodes(agent) else {}),
        **{name: _head(width, cfg, out) for name, (cfg, out) in heads.items()},
    }


def _decodes(agent: AgentConfig) -> bool:
    """Whether it surely has a decoder; an objective from elsewhere may have one of its own kind."""
    return agent.probe_decoder or "reconstruction" in agent.objective.split("+")


def _head(width: int, cfg: HeadConfig, out: int) -> int:
    return _mlp(width, cfg.units, cfg.layers) + out * (cfg.units if cfg.layers else width)


def _mlp(width: int, units: int, layers: int) -> int:
    return width * units + _deeper(units, layers) if layers else 0


def _deeper(units: int, layers: int) -> int:
    return max(layers - 1, 0) * units**2


def replay(cfg: Config) -> int:
    """Bytes at least of the replay when the run is over: the latent of every step that it can fill."""
    from dreamer import rssm
    from dreamer.replay.layout import columns

    rows, entries = min(cfg.replay.capacity, 2 * cfg.steps), rssm.entries(cfg.agent.rssm)
    stored = columns({}, {}, entries)
    return rows * sum(stored[name].nbytes for name in entries)


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def _host_memory() -> int | None:
    from dreamer.replay.host import available_memory

    return available_memory()


def _device_memory() -> int | None:
    """Bytes of all devices together."""
    import jax

    from dreamer.replay.device import available_memory

    available = available_memory()
    alone = available is None or jax.default_backend() == "cpu"
    return available if alone else available * jax.local_device_count()


def _check(parts: dict[str, int], available: int | None, what: str) -> None:
    needed = sum(parts.values())
    if available is None or needed <= available:
        return
    largest = max(parts, key=lambda name: parts[name])
    raise ConfigError(
        f"{what} needs at least {needed:,} bytes ({needed / 2**30:,.1f} GiB) of memory, most of it for "
        f"{largest}, but {available / 2**30:,.1f} GiB are available: make that smaller"
    )
