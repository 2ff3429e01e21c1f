"""How much of what the encoder says is still alive: diagnostics of every objective without a decoder."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

ALIVE = 0.01
"""A token lives while its deviation is above this share of the root mean square of all tokens."""


def diagnostics(tokens: Array) -> dict[str, Array]:
    """{tokens/rank, tokens/live: []} of [..., E] tokens; no gradient passes."""
    rows = jax.lax.stop_gradient(tokens).astype(jnp.float32).reshape(-1, tokens.shape[-1])
    return {"tokens/rank": effective_rank(rows), "tokens/live": live(rows)}


def effective_rank(rows: Array) -> Array:
    """Over how many directions the variance of rows [N, E] is spread: ``tr(S)^2 / tr(S^2)``, 1 to E.

    S is their covariance. The participation ratio needs no eigenvalues; 0 where all rows are equal.
    """
    chex.assert_rank(rows, 2)
    centred = rows - rows.mean(0, keepdims=True)
    gram = centred @ centred.T if rows.shape[0] < rows.shape[1] else centred.T @ centred
    squares = jnp.square(gram).sum()
    return jnp.square(jnp.trace(gram)) / jnp.maximum(squares, jnp.finfo(jnp.float32).tiny)


def live(rows: Array) -> Array:
    """The share of the E columns of [N, E] that are not constant, 0 to 1."""
    chex.assert_rank(rows, 2)
    return (rows.std(0) > ALIVE * jnp.sqrt(jnp.square(rows).mean())).mean()
