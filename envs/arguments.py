"""arguments: what a task is made with besides its name, checked before it is made and told when it fails."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gymnasium

from envs.adapters import MissingExtra, UnknownTask, suggestion
from envs.api import EnvError
from envs.modules import attribute, described

NONE: Mapping[str, Any] = MappingProxyType({})
"""No arguments."""
Wrap = Callable[[gymnasium.Env], gymnasium.Env]

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
"""Parameters that can be given by name."""
LIMITS = ("max_episode_steps", "max_steps")
LIMIT = "; a limit of steps is --env.max-episode-steps, not one of the arguments"
"""The hint for those that users often try."""


def check_names(task: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise an UnknownTask with close names unless every argument is a known one."""
    for name in given:
        if name not in known:
            there = f"; it takes {', '.join(known)}" if known else "; it takes none"
            close = suggestion(name, known, cutoff=0.75) or (LIMIT if name in LIMITS else there)
            raise UnknownTask(f"{task} takes no argument '{name}'{close}")


def check_arguments(task: str, make: Callable[..., Any], given: Collection[str]) -> None:
    """See that a task can be made with arguments of these names.

    Args:
      make: the class or function that makes it; what collects others by name (`**more`) takes all.

    Raises:
      UnknownTask: it takes no such argument (with close ones), or one without default is missing.
    """
    try:
        parameters = inspect.signature(make).parameters
    except (ValueError, TypeError):  # it does not say what it takes
        return
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_names(task, given, [p.name for p in parameters.values() if p.kind in NAMED])
    missing = [p.name for p in parameters.values() if p.kind in NAMED and p.default is p.empty]
    missing = [name for name in missing if name not in given]
    if missing:
        example = '{"' + missing[0] + '": ...}'
        raise UnknownTask(f"{task} needs the argument '{missing[0]}': --env.kwargs '{example}'")


@contextlib.contextmanager
def making(task: str, make: Callable[..., Any] | None = None, given: Collection[str] = ()) -> Iterator[None]:
    """Whatever a user's environment raises while it is made becomes one sentence.

    Args:
      make: what makes it, whose arguments are suggested where one of those given was refused.
    """
    try:
        yield
    except (UnknownTask, MissingExtra, EnvError):
        raise
    except ImportError as error:
        raise MissingExtra(f"{task} needs a missing package: {described(error)}") from None
    except (Exception, SystemExit) as error:
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if make is not None and isinstance(error, TypeError) and refused and refused[1] in given:
            check_names(task, [refused[1]], parameters_of(make))
        raise EnvError(f"{task} cannot be built: it raised {described(error)}") from None


def replaced(task: str, params: Any, given: Mapping[str, Any], *, limit: str) -> Any:
    """The parameters of a world of the device, a dataclass, with others in the place of some.

    Args:
      limit: the one that is its time limit, which `max_episode_steps` sets.

    Raises:
      UnknownTask: it has no such parameter, or a table or text is none of its numbers.
    """
    known = [f.name for f in dataclasses.fields(params) if f.name not in (limit, "render_mode")]
    check_names(task, given, known)
    for name, value in given.items():
        old = getattr(params, name)
        if isinstance(old, bool | int | float) and not isinstance(value, bool | int | float):
            raise UnknownTask(f"{task} has a number for '{name}', as {old}, but it is {value!r}")
    return params.replace(**given) if given else params


def parameters_of(make: Callable[..., Any]) -> list[str]:
    """The arguments of a class and of those it may hand others on to."""
    makers = [c.__init__ for c in make.__mro__[:-1]] if isinstance(make, type) else [make]
    parameters: dict[str, None] = {}
    for maker in makers:
        with contextlib.suppress(ValueError, TypeError):
            named = [p.name for p in inspect.signature(maker).parameters.values() if p.kind in NAMED]
            parameters |= dict.fromkeys(name for name in named if name != "self")
    return list(parameters)


def wrapped(task: str, env: gymnasium.Env, wrappers: Sequence[str | Wrap]) -> gymnasium.Env:
    """The environment with every wrapper around it, the first one innermost.

    Args:
      wrappers: callables, or where they are, as my_module:wrap.

    Raises:
      UnknownTask, MissingExtra: there is no such wrapper.
      EnvError: one raised, or gave back something else than an environment.
    """
    for wrapper in wrappers:
        name = wrapper if isinstance(wrapper, str) else getattr(wrapper, "__name__", repr(wrapper))
        wrap = attribute(wrapper) if isinstance(wrapper, str) else wrapper
        with making(f"the wrapper {name} of {task}"):
            outer = wrap(env)
        if not isinstance(outer, gymnasium.Env):
            what = "nothing" if outer is None else f"a {type(outer).__name__}"
            raise EnvError(f"the wrapper {name} of {task} gave back {what}, expected a gymnasium.Env")
        env = outer
    return env
