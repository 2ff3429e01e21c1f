"""How many operations the products and convolutions of a function take, loops counted in full.

XLA's cost analysis counts the body of a loop once, however often it runs. Here the function is traced to its
jaxpr, what does not reach a result is removed, and the jaxpr is walked: the body of a scan counts as often as
it runs.

    product [M, K] x [K, N]        2 M K N
    convolution                    2 x outputs x taps of the kernel x input channels of a group
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

PARTS = ("encoder", "observe", "predict", "objective", "imagine", "behavior")
"""Named scopes of an update: replayed steps are encoded and followed, the model predicts them (prior, reward,
end) and the representation what it must, the agent dreams, and actor and critic learn from the dreams."""
OTHER = "other"
"""The part of what stands in none of them."""


def count(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Counter[str]:
    """Operations of one call, {part: a number}; a part is an innermost scope of `PARTS`, or `OTHER`.

    What a gradient adds counts for the part whose gradient it is. A loop with an unknown number of
    rounds (`while`) counts once, and of branches the most expensive one counts. Convolutions count the zeros
    that pad their input, but not those between its elements (`lhs_dilation`).

    Args:
      args, kwargs: arrays or shapes (`jax.ShapeDtypeStruct`).
    """
    import jax
    from jax.interpreters import partial_eval

    closed = jax.jit(function).trace(*args, **kwargs).jaxpr
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return _walk(jaxpr, "")


def _walk(jaxpr: Any, scope: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for eqn in jaxpr.eqns:
        here = f"{scope}/{eqn.source_info.name_stack}"
        name = eqn.primitive.name
        if name == "dot_general":
            total[part(here)] += _product(eqn)
        elif name == "conv_general_dilated":
            total[part(here)] += _convolution(eqn)
        elif name == "cond":
            total += max((_walk(b.jaxpr, here) for b in eqn.params["branches"]), key=Counter.total)
        else:
            times = eqn.params["length"] if name == "scan" else 1
            for inner in _bodies(eqn):
                for name, operations in _walk(inner, here).items():
                    total[name] += times * operations
    return total


def _bodies(eqn: Any) -> Iterator[Any]:
    """The jaxprs that an equation calls."""
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(one, "jaxpr", one)  # closed or open
            if hasattr(inner, "eqns"):
                yield inner


def part(stack: str) -> str:
    """The innermost of `PARTS` in a stack of scopes: "/transpose(jvp(observe))/encoder" -> "encoder"."""
    scopes = [name for name in re.findall(r"\w+", stack) if name in PARTS]
    return scopes[-1] if scopes else OTHER


def _product(eqn: Any) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left, out = eqn.invars[0].aval, eqn.outvars[0].aval
    return 2 * math.prod(out.shape) * math.prod(left.shape[axis] for axis in contracted)


def _convolution(eqn: Any) -> int:
    kernel, out = eqn.invars[1].aval, eqn.outvars[0].aval
    _, channels, *spatial = eqn.params["dimension_numbers"].rhs_spec
    taps = math.prod(kernel.shape[axis] for axis in spatial)
    dilation = math.prod(eqn.params["lhs_dilation"])
    return 2 * math.prod(out.shape) * taps * kernel.shape[channels] // dilation
