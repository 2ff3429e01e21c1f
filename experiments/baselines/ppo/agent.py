"""PPO with a memory: networks, losses and one round of learning as pure functions.

    obs[t] -> encoder -> GRU (empty where is_first) -> policy, value

Letters: T slots, B copies (E: all of them), H the width of the memory. Rollouts are `[T, B, ...]`.

References: Schulman et al. (2017), Proximal policy optimization algorithms; Schulman et al. (2016),
High-dimensional continuous control using generalized advantage estimation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from dreamer.ops import running
from dreamer.ops.dists import GREEDY, RANDOM, BoundedNormal, Categorical
from dreamer.ops.returns import lambda_return
from dreamer.ops.transforms import lead, symlog
from envs.api import LOG_PREFIX, Space, Spaces
from experiments.baselines.ppo.presets import PPOConfig

Params = dict[str, Any]
Obs = Mapping[str, Array]


class Outcome(NamedTuple):
    """What arriving at a slot brought, and what the critic expected from there; [..., B] each."""

    reward: Array
    is_last: Array
    is_terminal: Array
    value: Array
    """In units of the range of the returns."""


class Slot(NamedTuple):
    """One slot of all copies as PPO records it."""

    obs: Obs
    is_first: Array
    outcome: Outcome
    success: Array
    """What the task says of it, NaN where it says nothing."""
    action: dict[str, Array]
    logp: Array
    """Log-probability of the action under the policy that chose it."""


class Rollout(NamedTuple):
    """What one iteration learns from."""

    memory: Array
    """[B, H] before the first slot."""
    slots: Slot
    """[T, B, ...]."""
    closing: Outcome
    """[B] of the slot after the last one, whose value stands for all that is still to come."""


class Learner(NamedTuple):
    """All that learning changes."""

    params: Params
    optimizer: Any
    returns: running.Percentiles
    """The range of the returns; values are learned in units of it."""


def gae(reward: Array, discount: Array, value: Array, lam: Array) -> Array:
    """Generalised advantages: the lambda-return less the value.

        A[t] = sum_k prod_{0 < i <= k} (discount[t+i] lam[t+i]) delta[t+k]
        delta[t] = reward[t+1] + discount[t+1] value[t+1] - value[t]

    Args:
      reward, discount, value, lam: [..., T+1] as `lambda_return` takes them.

    Returns:
      [..., T] one for every step that has a successor.

    Reference: Schulman et al. (2016), equation 16.
    """
    return lambda_return(reward, discount, value, lam) - value[..., :-1]


def clipped_objective(ratio: Array, advantage: Array, clip: float) -> Array:
    """``min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)``: no gain from moving the policy further than that.

    Reference: Schulman et al. (2017), equation 7.
    """
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def mean_where(x: Array, valid: Array) -> Array:
    """Mean over those entries that are valid; 0 if there are none."""
    return jnp.where(valid, x, 0).sum() / jnp.maximum(valid.sum(), 1)


class Agent:
    """Networks and learning of one PPO agent; the object only holds spaces and configuration."""

    def __init__(self, obs_space: Spaces, act_space: Spaces, cfg: PPOConfig):
        self.obs_space = {k: s for k, s in sorted(obs_space.items()) if not k.startswith(LOG_PREFIX)}
        self.act_space = dict(sorted(act_space.items()))
        self.cfg = cfg
        updates = cfg.iterations * cfg.epochs * cfg.minibatches
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(cfg.max_grad_norm),
            optax.adam(optax.linear_schedule(cfg.lr, 0.0, updates), eps=1e-5),
        )

    def init(self, seed: int) -> Learner:
        """A fresh learner. Made by NumPy, because a program that draws every kernel takes long to compile."""
        params = self._params(np.random.default_rng(seed))
        return Learner(params, self._optimizer.init(params), running.init())

    def memory(self, batch: int) -> Array:
        """The memory with which episodes start, [B, H]."""
        return jnp.zeros((batch, self.cfg.memory))

    def _params(self, rng: np.random.Generator) -> Params:
        units, memory = self.cfg.units, self.cfg.memory
        images = {k: s.shape for k, s in self.obs_space.items() if s.is_image}
        width = sum(s.size * (s.classes or 1) for k, s in self.obs_space.items() if k not in images)
        width += sum(_conv_width(shape) for shape in images.values())
        dense = partial(_dense_params, rng)
        policy = {"hidden": dense(memory, units)}
        for name, space in self.act_space.items():
            out = dense(units, space.size * (space.classes or 1), gain=0.01)
            policy[name] = out if space.is_discrete else out | {"log_std": jnp.zeros(space.size)}
        return {
            "image": {k: _conv_params(rng, shape) for k, shape in images.items()},
            "encoder": dense(width, units),
            "gru": {
                "input": dense(units, 3 * memory, gain=1.0),
                "memory": dense(memory, 3 * memory, gain=1.0),
            },
            "policy": policy,
            "value": {"hidden": dense(memory, units), "out": dense(units, 1, gain=1.0)},
        }

    def unroll(
        self, params: Params, memory: Array, obs: Obs, is_first: Array
    ) -> tuple[Array, dict[str, Categorical | BoundedNormal], Array]:
        """Run over T slots.

            h' = z h + (1 - z) n,  n = tanh(x_n + r (W h)_n),  r, z = sigmoid(x + W h)

        Args:
          memory: [B, H] before the first of them.
          obs: {key: [T, B, ...]}.
          is_first: [T, B] where the memory is emptied.

        Returns:
          [B, H] the memory after the last slot, the policy and the value [T, B], in units of the range of
          the returns.

        Reference: Cho et al. (2014) for the GRU.
        """
        x = jax.nn.relu(_dense(params["encoder"], self._features(params, obs)))
        x = _dense(params["gru"]["input"], x)

        def remember(h: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
            x, first = inputs
            h = jnp.where(first[:, None], 0.0, h)
            (xr, xz, xn), (hr, hz, hn) = (
                jnp.split(y, 3, -1) for y in (x, _dense(params["gru"]["memory"], h))
            )
            update = jax.nn.sigmoid(xz + hz)
            h = update * h + (1 - update) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
            return h, h

        memory, h = jax.lax.scan(remember, memory, (x, is_first))
        policy = jax.nn.relu(_dense(params["policy"]["hidden"], h))
        value = jax.nn.relu(_dense(params["value"]["hidden"], h))
        dists = {k: _dist(params["policy"][k], space, policy) for k, space in self.act_space.items()}
        return memory, dists, _dense(params["value"]["out"], value)[..., 0]

    def _features(self, params: Params, obs: Obs) -> Array:
        """[T, B, width]: categories one-hot, numbers squashed, images through their convolutions."""
        parts = []
        for name, space in self.obs_space.items():
            x = obs[name]
            if space.is_image:
                x = _convolved(params["image"][name], x)
            elif space.is_discrete:
                x = jax.nn.one_hot(x.astype(jnp.int32), space.num_classes)  # nothing for -1, what is missing
            else:
                x = symlog(jnp.where(jnp.isfinite(x), x, 0).astype(jnp.float32))
            parts.append(x.reshape(*x.shape[:2], -1))
        return jnp.concatenate(parts, -1)

    def act(
        self, params: Params, memory: Array, obs: Obs, is_first: Array, *, key: Array, greedy: bool
    ) -> tuple[Array, dict[str, Array], Array, Array]:
        """Choose an action for every copy after one slot, [B, ...].

        Returns:
          The memory, the action, its log-probability, and the value in units of the range of the returns.
        """
        one = lambda x: x[None]
        memory, dists, value = self.unroll(params, memory, jax.tree.map(one, obs), one(is_first))
        sampler = GREEDY if greedy else RANDOM
        keys = jax.random.split(key, len(dists))
        action = {k: dist.sample(keys[i], sampler) for i, (k, dist) in enumerate(dists.items())}
        logp = sum(dists[k].log_prob(action[k]) for k in dists)
        action = {k: v[0].astype(self.act_space[k].dtype) for k, v in action.items()}
        return memory, action, jnp.asarray(logp)[0], value[0]

    def losses(self, params: Params, part: Part) -> dict[str, Array]:
        """What is minimised and how the policy moved: means over the slots whose action had an effect."""
        cfg, valid = self.cfg, part.valid
        _, dists, value = self.unroll(params, part.memory, part.slots.obs, part.slots.is_first)
        logp = sum(dists[k].log_prob(part.slots.action[k]) for k in dists)
        entropy = sum(dist.entropy() for dist in dists.values())
        log_ratio = logp - part.slots.logp
        ratio = jnp.exp(log_ratio)
        return {
            "loss/policy": -mean_where(clipped_objective(ratio, part.advantage, cfg.clip), valid),
            "loss/value": mean_where(0.5 * jnp.square(value - part.target), valid),
            "loss/entropy": -mean_where(jnp.asarray(entropy), valid),
            # Schulman (2020), Approximating KL divergence: unbiased, never negative.
            "kl": mean_where(ratio - 1 - log_ratio, valid),
            "clipped": mean_where((jnp.abs(ratio - 1) > cfg.clip).astype(jnp.float32), valid),
        }

    def learn(self, learner: Learner, rollout: Rollout, *, key: Array) -> tuple[Learner, dict[str, Array]]:
        """Some epochs over one rollout; the new learner and means over their updates."""
        cfg = self.cfg
        learner, data, metrics = self.prepare(learner, rollout)
        shuffle = lambda key: jax.random.permutation(key, cfg.num_envs).reshape(cfg.minibatches, -1)
        parts = jax.vmap(shuffle)(jax.random.split(key, cfg.epochs))
        parts = parts.reshape(cfg.epochs * cfg.minibatches, -1)

        def update(learner: Learner, copies: Array) -> tuple[Learner, dict[str, Array]]:
            over_time = jax.tree.map(lambda x: x[:, copies], data._replace(memory=None))
            part = over_time._replace(memory=data.memory[copies])

            def total(params: Params) -> tuple[Array, dict[str, Array]]:
                parts = self.losses(params, part)
                weights = {"loss/policy": 1.0, "loss/value": cfg.value, "loss/entropy": cfg.entropy}
                return jnp.stack([weight * parts[k] for k, weight in weights.items()]).sum(), parts

            grads, metrics = jax.grad(total, has_aux=True)(learner.params)
            changes, optimizer = self._optimizer.update(grads, learner.optimizer, learner.params)
            params: Any = optax.apply_updates(learner.params, changes)
            learner = learner._replace(params=params, optimizer=optimizer)
            return learner, metrics | {"grad_norm": optax.tree.norm(grads)}

        learner, over_updates = jax.lax.scan(update, learner, parts)
        return learner, metrics | {k: v.mean() for k, v in over_updates.items()}

    def prepare(self, learner: Learner, rollout: Rollout) -> tuple[Learner, Part, dict[str, Array]]:
        """Advantages, normalised, and the targets of the value."""
        cfg, slots = self.cfg, rollout.slots
        outcome = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]).T, slots.outcome, rollout.closing)
        value = _scale(learner) * outcome.value
        discount = cfg.discount * (1.0 - outcome.is_terminal)
        # After the last step of an episode another one begins, so nothing is carried back over it; what a
        # time limit cut off is stood for by the value of the last step.
        lam = cfg.lam * (1.0 - outcome.is_last)
        advantage = gae(outcome.reward, discount, value, lam).T
        ret, valid = advantage + value[:, :-1].T, ~slots.outcome.is_last
        seen = jnp.where(valid, ret, mean_where(ret, valid))
        rate, low, high = (jnp.asarray(x) for x in (cfg.scale_rate, 5.0, 95.0))
        learner = learner._replace(
            returns=running.update(learner.returns, seen, rate=rate, low=low, high=high)
        )
        unexplained = mean_where(jnp.square(advantage), valid)
        spread = mean_where(jnp.square(ret - mean_where(ret, valid)), valid)
        centred = advantage - mean_where(advantage, valid)
        advantage = centred / (jnp.sqrt(mean_where(jnp.square(centred), valid)) + 1e-8)
        part = Part(rollout.memory, slots, advantage, ret / _scale(learner), valid)
        return learner, part, {"explained_variance": 1 - unexplained / jnp.maximum(spread, 1e-8)}


class Part(NamedTuple):
    """Some copies of a rollout with what is to be learned from them."""

    memory: Any
    """[B, H]."""
    slots: Slot
    advantage: Array
    target: Array
    """Of the value, in units of the range of the returns."""
    valid: Array
    """Where an action had an effect: not in the last slot of an episode. [T, B] like all but the memory."""


def _scale(learner: Learner) -> Array:
    return running.scale(learner.returns, limit=jnp.ones(()))


def _dist(params: Params, space: Space, x: Array) -> Categorical | BoundedNormal:
    y = _dense(params, x)
    if space.is_discrete:
        logits = y.reshape(*x.shape[:2], *space.shape, space.num_classes)
        return Categorical(jax.nn.log_softmax(logits), len(space.shape))
    std = jnp.broadcast_to(jnp.exp(params["log_std"]), y.shape)
    mean, std = (z.reshape(*x.shape[:2], *space.shape) for z in (y, std))
    return BoundedNormal(mean, std, len(space.shape), 0.0, math.inf)


def _dense_params(rng: np.random.Generator, inputs: int, outputs: int, gain: float = math.sqrt(2)) -> Params:
    return {"kernel": _orthogonal(rng, inputs, outputs, gain), "bias": jnp.zeros(outputs)}


def _orthogonal(rng: np.random.Generator, inputs: int, outputs: int, gain: float) -> Array:
    """A kernel that keeps lengths, times `gain`. Reference: Saxe et al. (2014)."""
    few, many = sorted((inputs, outputs))
    q, r = np.linalg.qr(rng.normal(size=(many, few)))
    q = q * np.sign(np.diag(r))[None]
    return jnp.asarray(gain * (q if inputs == many else q.T), jnp.float32)


def _dense(params: Params, x: Array) -> Array:
    return x @ params["kernel"] + lead(params["bias"], x)


DEPTHS = (16, 32, 32)
"""Channels of the convolutions, each of which halves the image."""


def _conv_params(rng: np.random.Generator, shape: tuple[int, ...]) -> list[Params]:
    params = []
    for inputs, outputs in itertools.pairwise((shape[-1], *DEPTHS)):
        kernel = _orthogonal(rng, 16 * inputs, outputs, math.sqrt(2))
        params.append({"kernel": kernel.reshape(4, 4, inputs, outputs), "bias": jnp.zeros(outputs)})
    return params


def _conv_width(shape: tuple[int, ...]) -> int:
    halves = 2 ** len(DEPTHS)
    return -(-shape[0] // halves) * -(-shape[1] // halves) * DEPTHS[-1]


def _convolved(params: list[Params], x: Array) -> Array:
    """Images [T, B, h, w, c] of 0..255 -> [T, B, width]."""
    y = x.reshape(-1, *x.shape[2:]).astype(jnp.float32) / 255
    for layer in params:
        y = jax.lax.conv_general_dilated(
            y, layer["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = jax.nn.relu(y + lead(layer["bias"], y))
    return y.reshape(*x.shape[:2], -1)
