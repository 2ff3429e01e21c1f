"""An objective as a user would write it, outside of the package, and a class that is none."""

import jax
import jax.numpy as jnp
from flax import nnx

from dreamer.nets.layers import Linear
from dreamer.ops import running
from dreamer.records import ObjectiveLosses


class SlowTokens(nnx.Module):
    """Predict the tokens of an encoder that follows the learned one slowly."""

    def __init__(self, obs_space, act_space, tokens, cfg, *, init):
        self.out = Linear(cfg.rssm.features, tokens, init=init)

    def slow(self, params):
        return {"encoder": params["encoder"]}

    def follow(self, slow, params, numbers):
        return {"encoder": running.mix(slow["encoder"], params["encoder"], numbers.behavior.slow_rate)}

    def loss(self, world, batch, seen, slow, key):
        target = nnx.merge(world.modules.encoder, slow["encoder"])(batch.obs, 2, world.dtype)
        error = jnp.square(self.out(seen.latent.feat) - jax.lax.stop_gradient(target)).sum(-1)
        return ObjectiveLosses({"rec/tokens": error}, {"objective/error": error.mean()})

    def decode(self, latent):
        return None


class SlowTokensAgain(nnx.Module):
    """The same under another name, by composition."""

    def __init__(self, *args, init):
        self.same = SlowTokens(*args, init=init)

    def slow(self, params):
        return self.same.slow(params)

    def follow(self, slow, params, numbers):
        return self.same.follow(slow, params, numbers)

    def loss(self, world, batch, seen, slow, key):
        return self.same.loss(world, batch, seen, slow, key)

    def decode(self, latent):
        return None


class Lossless(nnx.Module):
    """Lacks everything."""
