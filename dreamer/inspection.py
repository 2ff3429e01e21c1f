"""What a world model expects, how certain it is, and what it imagines; `experiments.report` judges.

    read            follow recorded episodes; at every step, posterior, prior and outputs of the heads
    decode_prior    the observation it expected there before seeing it
    forecast        open loop: continue from a state under given actions, without observations
    open_loop_mean  the same for the heads alone, averaged over several futures
    dream           continue under the policy: the imagined return
    tokens          what the encoder says of observations, as it is or untrained

Everything is in the units of the environment: rewards, continuation probabilities, observations.

Reference: Hafner et al. (2025), World model learning; open-loop prediction as in their video predictions.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dreamer.agent import Agent
from dreamer.numbers import Numbers
from dreamer.ops import dists
from dreamer.ops.returns import lambda_return
from dreamer.ops.transforms import lead, symlog
from dreamer.records import Latent
from dreamer.world import Params


class Episodes(NamedTuple):
    """N whole episodes as they were played, padded to T slots (`envs.api` has the alignment)."""

    obs: dict[str, Any]
    """{key: [N, T, ...]}."""
    action: dict[str, Any]
    """{key: [N, T, ...]} chosen after seeing the observation of the same index."""
    reward: Any
    """[N, T] float32, received on arriving."""
    is_terminal: Any
    """[N, T] bool."""
    length: Any
    """[N] int32 slots that are filled, the final one included."""

    @property
    def valid(self) -> np.ndarray:
        """[N, T] bool, which slots are filled."""
        return np.arange(np.shape(self.reward)[1]) < np.asarray(self.length)[:, None]


class HeadOutputs(NamedTuple):
    """Outputs of the heads for latent states, [...] each."""

    reward: Array
    """The reward expected on arriving there."""
    reward_spread: Array
    """How wrong the model expects to be about it: the mean distance within its distribution over rewards."""
    cont: Array
    """The probability that the episode continues, without the discount."""
    value: Array
    """What the critic expects of what follows, discounted."""
    entropy: Array
    """Of the policy there, in nats (of a density for continuous actions)."""


class PosteriorStats(NamedTuple):
    """Statistics of episodes under the posterior, [N, T, ...]."""

    latent: Latent
    heads: HeadOutputs
    kl: Array
    """[N, T] nats between posterior and prior: how surprising the observation was."""
    posterior_entropy: Array
    """[N, T] nats, summed over the groups."""
    prior_entropy: Array
    """[N, T] nats."""


class Forecast(NamedTuple):
    """What the model expects to happen, [N, H, ...]."""

    obs: dict[str, Array] | None
    """{key: [N, H, ...]}; None of an objective that does not decode."""
    heads: HeadOutputs


class Inspector:
    """Queries the world model and the behaviour of one agent; compiled once for every shape.

    Args:
      params: all modules.
    """

    def __init__(self, agent: Agent, params: Params, numbers: Numbers):
        self.agent, self.params, self.numbers = agent, params, numbers
        self._read = jax.jit(partial(_read, agent))
        self._decode_prior = jax.jit(partial(_decode_prior, agent))
        self._forecast = jax.jit(partial(_forecast, agent))
        self._open_loop_mean = jax.jit(partial(_open_loop_mean, agent), static_argnames="futures")
        self._dream = jax.jit(partial(_dream, agent), static_argnames="horizon")
        self._decode = jax.jit(partial(_decode, agent))
        self._choose = jax.jit(partial(_choose, agent))
        self._tokens = jax.jit(partial(_tokens, agent))
        self._untrained = jax.jit(lambda: agent.init(jax.random.key(0)).params["encoder"])

    def read(self, episodes: Episodes, *, key: int = 0) -> PosteriorStats:
        """Follow episodes with the posterior, from their first slot on."""
        return self._read(self.params, self.numbers, episodes, jax.random.key(key))

    def decode_prior(self, latent: Latent) -> dict[str, Array] | None:
        """The observation that h alone expects: the most likely z, decoded, [..., ...], or None."""
        return self._decode_prior(self.params, self.numbers, latent)

    def decode(self, latent: Latent) -> Forecast:
        """Latents as observations, and outputs of the heads, [..., ...]."""
        return self._decode(self.params, self.numbers, latent)

    def forecast(self, latent: Latent, action: dict[str, Any], *, key: int = 0) -> tuple[Latent, Forecast]:
        """Continue from latents [N] under actions {key: [N, H, ...]}, open loop; index 0 is after one."""
        return self._forecast(self.params, self.numbers, latent, dict(action), jax.random.key(key))

    def open_loop_mean(
        self, latent: Latent, action: dict[str, Any], *, futures: int = 8, key: int = 0
    ) -> HeadOutputs:
        """[N] what the heads expect after all H actions {key: [N, H, ...]}, averaged over `futures` dreams.

        A single dream is one possible future; what the model expects is the mean over them.
        """
        return self._open_loop_mean(
            self.params, self.numbers, latent, dict(action), jax.random.key(key), futures=futures
        )

    def dream(self, latent: Latent, horizon: int, *, key: int = 0) -> Array:
        """[N] lambda-returns imagined from latents [N] under the policy."""
        return self._dream(self.params, self.numbers, latent, jax.random.key(key), horizon=horizon)

    def choose(self, latent: Latent) -> dict[str, Array]:
        """The most likely action {key: [N, ...]} at latents [N], wherever they come from."""
        return self._choose(self.params, self.numbers, latent)

    def tokens(self, obs: dict[str, Any], *, is_trained: bool = True) -> Array:
        """[N, E] what the encoder says of observations {key: [N, ...]}, or one before its first update."""
        encoder = self.params["encoder"] if is_trained else self._untrained()
        return self._tokens(encoder, self.numbers, {k: obs[k] for k in self.agent.obs_space})


def _tokens(agent: Agent, encoder: Params, numbers: Numbers, obs: dict[str, Array]) -> Array:
    return agent.world({"encoder": encoder}, numbers).encoder(obs, 1, agent.dtype)


def _read(agent: Agent, params: Params, numbers: Numbers, episodes: Episodes, key: Array) -> PosteriorStats:
    world = agent.world(params, numbers)
    N, T = episodes.reward.shape
    before = {k: jnp.concatenate([a[:, :1], a[:, :-1]], 1) for k, a in episodes.action.items()}
    is_first = jnp.broadcast_to(jnp.arange(T) == 0, (N, T))
    obs = {k: episodes.obs[k] for k in agent.obs_space}
    seen = world.observe(world.initial(N), obs, before, is_first, key=key)
    posterior, prior = world.posterior(seen), world.prior(seen.latent.deter)
    entropy = lambda logp: dists.categorical_entropy(logp).sum(-1)
    return PosteriorStats(
        seen.latent,
        _read_heads(agent, params, numbers, seen.latent),
        dists.categorical_kl(posterior, prior).sum(-1),
        entropy(posterior),
        entropy(prior),
    )


def _read_heads(agent: Agent, params: Params, numbers: Numbers, latent: Latent) -> HeadOutputs:
    return _read_mixture(agent, params, numbers, jax.tree.map(lambda x: x[None], latent))


def _read_mixture(agent: Agent, params: Params, numbers: Numbers, latent: Latent) -> HeadOutputs:
    """Outputs of the heads for latents [futures, ...], equally likely futures: their mixture, [...]."""
    world, feat = agent.world(params, numbers), latent.feat
    reward = world.reward_head
    logits = jax.nn.logsumexp(jax.nn.log_softmax(reward(feat)), 0)
    mean = reward.mean(logits)
    heads = world.policy_head(feat, numbers.behavior.unimix).values()
    entropy = jnp.stack([head.entropy() for head in heads]).sum(0)
    spread = _mean_distance(reward.bins, jax.nn.softmax(logits), mean)
    goes_on, value = world.survival(feat).mean(0), world.value(feat).mean(0)
    return HeadOutputs(mean, spread, goes_on, value, entropy.mean(0))


def _mean_distance(bins: Array, chances: Array, centre: Array) -> Array:
    """How far numbers with these probabilities [..., C] are from a centre [...] on average, in its units.

    Distances are taken in symlog space and scaled by its slope at the centre: the outermost bins are so large
    that the trace of probability which every bin keeps would outweigh all others.
    """
    centred = lead(symlog(bins), chances) - symlog(centre)[..., None]
    return (chances * jnp.abs(centred)).sum(-1) * (1 + jnp.abs(centre))


def _decode_prior(agent: Agent, params: Params, numbers: Numbers, latent: Latent) -> dict[str, Array] | None:
    world = agent.world(params, numbers)
    return world.decode(world.most_likely(latent))


def _decode(agent: Agent, params: Params, numbers: Numbers, latent: Latent) -> Forecast:
    return Forecast(agent.world(params, numbers).decode(latent), _read_heads(agent, params, numbers, latent))


def _forecast(
    agent: Agent, params: Params, numbers: Numbers, latent: Latent, action: dict[str, Array], key: Array
) -> tuple[Latent, Forecast]:
    reached = agent.world(params, numbers).rollout(latent, action, key=key)
    return reached, _decode(agent, params, numbers, reached)


def _open_loop_mean(
    agent: Agent,
    params: Params,
    numbers: Numbers,
    latent: Latent,
    action: dict[str, Array],
    key: Array,
    *,
    futures: int,
) -> HeadOutputs:
    world = agent.world(params, numbers)
    end = lambda key: jax.tree.map(lambda x: x[:, -1], world.rollout(latent, action, key=key))
    return _read_mixture(agent, params, numbers, jax.lax.map(end, jax.random.split(key, futures)))


def _choose(agent: Agent, params: Params, numbers: Numbers, latent: Latent) -> dict[str, Array]:
    return agent.world(params, numbers).choose(latent.feat, jax.random.key(0), dists.GREEDY)


def _dream(
    agent: Agent, params: Params, numbers: Numbers, latent: Latent, key: Array, *, horizon: int
) -> Array:
    world = agent.world(params, numbers)
    feat = world.imagine(latent, world.choose, horizon, key=key).feat.swapaxes(0, 1)
    discount = world.discount(feat)
    lam = jnp.full(discount.shape, numbers.behavior.lam)
    return lambda_return(world.reward(feat), discount, world.value(feat), lam)[:, 0]
