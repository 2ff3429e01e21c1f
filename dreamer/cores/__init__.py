"""The seam "what carries the past": `agent.rssm.core` names one of `CORES`.

    h_t = core(h_{t-1}, z_{t-1}, a_{t-1})

Prior, posterior and latent stand around a core in `dreamer.rssm`. A core declares its state; replays, loops
and checkpoints carry whatever that is. Adding one: a file here, a line in the table and its name in
`RSSMConfig.core`.
"""

from typing import Any, Protocol, TypeVar

from jax import Array
from jax.typing import DTypeLike

from dreamer.config import RSSMConfig
from dreamer.cores.gru import GRU
from dreamer.nets.layers import Initializer
from dreamer.records import PackedLatent, State
from envs.api import Spaces

Weights = TypeVar("Weights")
Carry = TypeVar("Carry")


class Core(Protocol[Weights, Carry]):
    """The interface of a core; the static methods follow from the configuration alone, without parameters."""

    def __init__(self, action_width: int, cfg: RSSMConfig, *, init: Initializer): ...

    @staticmethod
    def initial(cfg: RSSMConfig, batch: int, dtype: DTypeLike) -> State:
        """The state before an episode's first step, [batch, ...]; h has the width `cfg.deter`."""
        ...

    @staticmethod
    def entries(cfg: RSSMConfig) -> Spaces:
        """{column: space} of what a replay keeps of a state."""
        ...

    @staticmethod
    def pack(state: State) -> PackedLatent:
        """The `entries` of states, [..., *]."""
        ...

    @staticmethod
    def unpack(packed: PackedLatent, dtype: DTypeLike) -> State:
        """States from their `entries` (and maybe other columns), up to rounding."""
        ...

    def read(self, action: Array) -> Array:
        """[..., A] -> [..., I] what a step takes of the action, computed for many steps at once."""
        ...

    def weights(self) -> Weights:
        """What else a step reads, prepared once for many steps.

        Leaves of two or more axes are kernels, each of which a step uses once, in `cpu.product`.
        """
        ...

    def carry(self, state: State) -> Carry:
        """A state [N, ...] in the form that `step` carries."""
        ...

    def step(self, weights: Weights, carry: Carry, stoch: Array, action: Array) -> Carry:
        """One step from h_{t-1} under z_{t-1} [N, S*C] and what `read` took of a_{t-1} [N, I]."""
        ...

    def state(self, carry: Carry) -> State:
        """The inverse of `carry`."""
        ...


CORES: dict[str, type[Core[Any, Any]]] = {"gru": GRU}
"""{name: class}."""
