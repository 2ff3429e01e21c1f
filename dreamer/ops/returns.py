"""What a state is worth, computed backwards from what came after it."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def lambda_return(reward: Array, discount: Array, value: Array, lam: Array) -> Array:
    """Blend every n-step return into one, geometrically weighted by `lam`.

    Backwards in time, starting from ``R[T] = value[T]``:

        R[t] = reward[t+1] + discount[t+1] * ((1 - lam[t+1]) * value[t+1] + lam[t+1] * R[t+1])

    Args:
      reward: [..., T+1] received on *arriving* at each step; entry 0 is ignored.
      discount: [..., T+1] discount times the probability that the episode continues.
      value: [..., T+1] estimated value of each step.
      lam: [..., T+1] 0 gives the one-step target, 1 the Monte-Carlo return; 0 at the last step of an
        episode makes the step before it bootstrap there, however the episode ended.

    Returns:
      [..., T] one target for every step that has a successor.

    Reference: Sutton & Barto (2018), section 12.1.
    """
    chex.assert_equal_shape(
        [reward, discount, value, lam], custom_message="reward, discount, value and lam must have one shape"
    )
    bootstrap = reward + discount * (1 - lam) * value
    decay = discount * lam

    def step(ret, inputs):
        bootstrap, decay = inputs
        ret = bootstrap + decay * ret
        return ret, ret

    time_major = [jnp.moveaxis(x[..., 1:], -1, 0) for x in (bootstrap, decay)]
    _, returns = jax.lax.scan(step, value[..., -1], time_major, reverse=True)
    return jnp.moveaxis(returns, 0, -1)
