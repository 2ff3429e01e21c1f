"""Worlds and the policies that act in them: one record, one space, four protocols.

A stream of `Step`s is what an environment gives and what a replay stores. One call of `step` fills one
slot per environment, and the slot after the last step of an episode holds the first observation of
the next one (Gymnasium calls this NEXT_STEP autoreset):

    t          0        1        2        3          4
    obs        o0       o1       o2       o3 final   o0' of the next episode
    reward     0        r1       r2       r3         0
    is_first   true     .        .        .          true
    is_last    .        .        .        true       .
    is_terminal .       .        .        true only if nothing follows (false at a time limit)
    action     a0       a1       a2       ignored    a0'

The reward at t was received on *arriving* at t; the action at t is chosen after seeing t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

LOG_PREFIX = "log/"
"""Observation keys with this prefix are for people (`log/success`); no agent sees them."""
SUCCESS = LOG_PREFIX + "success"
"""Of an episode so far: 1 yes, 0 no, NaN while the task does not say."""
RECORDED = 80
"""Entries up to which what a `log/` key says at the end of an episode is recorded with it: Craftax has 67
achievements, and a picture or grid for people has more than 80."""


DTYPES = frozenset(np.dtype(code).name for code in "?bBhHiIlLqQefd")
"""Of the arrays of a space: truth, whole numbers and floats."""


class EnvError(Exception):
    """An environment broke its contract; the message names the environment, the step and what was wrong."""


class UnsupportedSpace(ValueError):
    """An observation or action space that no agent here can handle; the message names it."""


@dataclass(frozen=True)
class Space:
    """One array of an observation or action: its shape, its dtype and, if it is categorical, its classes.

    A `classes` of n means that every entry is one of 0..n-1 (-1 in a signed dtype: missing). Without classes,
    a uint8 array of rank 3 is an image `[h, w, channels]` and everything else is a vector of numbers.
    Continuous actions lie in [-1, 1]; the adapter maps them to the bounds of the environment and clips.
    """

    shape: tuple[int, ...]
    dtype: str
    classes: int | None = None

    @property
    def is_discrete(self) -> bool:
        """Whether its entries are classes."""
        return self.classes is not None

    @property
    def is_image(self) -> bool:
        """Whether it is a picture [h, w, channels] of 0..255."""
        return self.classes is None and len(self.shape) == 3 and self.dtype == "uint8"

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def num_classes(self) -> int:
        """Classes of a categorical space."""
        assert self.classes is not None, f"{self} is not categorical"
        return self.classes


Spaces = Mapping[str, Space]


def spaces_to(spaces: Spaces) -> dict[str, dict[str, Any]]:
    """Spaces as JSON can say them."""
    return {k: asdict(space) for k, space in spaces.items()}


def spaces_from(spaces: Mapping[str, Mapping[str, Any]]) -> dict[str, Space]:
    """The inverse of `spaces_to`.

    Raises:
      UnsupportedSpace: what was written is no space.
    """
    return {key: _space(key, s["shape"], s["dtype"], s["classes"]) for key, s in spaces.items()}


def _space(key: str, shape: Any, dtype: Any, classes: Any) -> Space:
    whole = lambda x: isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**31
    entries = isinstance(shape, list | tuple) and all(map(whole, shape)) and math.prod(shape) < 2**31
    known = isinstance(dtype, str) and dtype in DTYPES
    if not (entries and known and (classes is None or whole(classes))):
        raise UnsupportedSpace(
            f"'{key[:99]}' is written as shape {str(shape)[:99]}, dtype {str(dtype)[:99]} and classes "
            f"{str(classes)[:99]}, which is no space: a shape is a list of whole numbers"
        )
    return Space(tuple(shape), dtype, classes)


class Step(NamedTuple):
    """What an environment says at one instant; in a vector, arrays have a leading axis of environments."""

    obs: Any
    """Mapping from key to array."""
    reward: Any
    """float32, received on arriving here; 0 where `is_first`."""
    is_first: Any
    """bool: an episode starts here."""
    is_last: Any
    """bool: the episode ends here, for whatever reason."""
    is_terminal: Any
    """bool: it ends and nothing follows, so the value of what comes after is 0."""


class JaxEnv(Protocol):
    """One world as pure functions of arrays, without autoreset, so that it can be batched and compiled."""

    @property
    def task(self) -> str: ...

    @property
    def obs_space(self) -> Spaces: ...

    @property
    def act_space(self) -> Spaces: ...

    def reset(self, *, key: Any) -> tuple[Any, Step]:
        """A state at the start of an episode, and its first step (`is_first`)."""
        ...

    def step(self, state: Any, action: Any, *, key: Any) -> tuple[Any, Step]:
        """The state an action leads to; what happens after `is_last` is undefined.

        Args:
          action: `{key: [...]}`, as in `act_space`.
        """
        ...


class VectorEnv(Protocol):
    """Several copies of an environment, stepped from the host together, with NEXT_STEP autoreset."""

    task: str
    num_envs: int
    obs_space: Spaces
    act_space: Spaces
    episodes: np.ndarray
    """[num_envs] training episodes that each copy has begun: with the seed, all that a resume needs."""

    def reset(self, seeds: Sequence[int] | None = None) -> Step:
        """Start an episode in every copy, in copy i with `seeds[i]` (None: the next training seeds).

        A step that was sent and not received is dropped.
        """
        ...

    def step(self, action: Mapping[str, np.ndarray], seeds: Sequence[int] | None = None) -> Step:
        """Advance every copy by one slot; a copy that was `is_last` ignores its action and starts an episode.

        Args:
          action: `{key: [num_envs, ...]}`.
          seeds: [num_envs] seeds for the copies that start an episode in this call (None: training seeds).

        Raises:
          EnvError: naming the copy, the step and what was wrong.
        """
        ...

    def send(self, action: Mapping[str, np.ndarray], seeds: Sequence[int] | None = None) -> None:
        """Begin a `step`, which copies in processes take while the caller does something else."""
        ...

    def receive(self) -> Step:
        """The result of the step that was sent, with its errors."""
        ...

    def close(self) -> None: ...


class Policy(Protocol):
    """Chooses actions: a Dreamer, a random or scripted player, a language model."""

    def init(self, batch: int) -> Any:
        """The memory with which `batch` fresh episodes start."""
        ...

    def act(self, carry: Any, step: Step, *, key: Any) -> tuple[Mapping[str, np.ndarray], Any]:
        """Choose an action for every copy after seeing `step`; memory of a copy restarts where `is_first`.

        Args:
          key: a seed sequence for sampling: any int; the same int and carry give the same actions.
        """
        ...


def is_recorded(key: str, size: int) -> bool:
    """Whether what a key of so many entries says at the end of an episode belongs to its record."""
    return key.startswith(LOG_PREFIX) and size <= RECORDED


def ended(obs: Mapping[str, Any], copy: int) -> tuple[bool | None, dict[str, Any]]:
    """What a copy's last observation of an episode says to people: success, and {name: number or list}.

    Names lack their prefix; numbers that are not finite say nothing and are left out.
    """
    last = {key: np.asarray(values[copy]) for key, values in obs.items() if key.startswith(LOG_PREFIX)}
    success = float(last.pop(SUCCESS, math.nan))
    recorded = {
        key.removeprefix(LOG_PREFIX): value.tolist()
        for key, value in last.items()
        if is_recorded(key, value.size) and np.isfinite(value).all()
    }
    return None if math.isnan(success) else success > 0, recorded


FIRST_TRAINING_SEED = 2**30


def training_seed(seed: int, copy: int, episode: int, levels: int = 0) -> int:
    """The environment seed of one training episode, in [2^30, 2^31): evaluation seeds lie below 2^30.

    Args:
      levels: how many different seeds there are, the first ones from 2^30 on (0: all of them).
    """
    words = np.random.SeedSequence([seed, copy, episode]).generate_state(1)
    return FIRST_TRAINING_SEED + int(words[0] % (levels or FIRST_TRAINING_SEED))
