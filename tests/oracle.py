"""Inspectors for tests: one that knows what was recorded, some that know less, and real ones in a hurry."""

from types import SimpleNamespace

import jax
import numpy as np
import tiny

from dreamer.inspection import Episodes, Forecast, HeadOutputs, Inspector, PosteriorStats
from dreamer.records import Latent
from envs.api import Space
from experiments.report.card import discounted

OBS = {
    "token": Space((2,), "int32", 5),
    "vector": Space((3,), "float32"),
    "image": Space((8, 8, 3), "uint8"),
}
GAMMA = 0.9


def episodes(lengths=(9, 2, 14, 6), spaces=OBS, seed=0, terminal=None) -> Episodes:
    """Random episodes; every other one ends for good unless `terminal` says which do."""
    rng = np.random.default_rng(seed)
    lengths = np.asarray(lengths, np.int32)
    N, T = len(lengths), int(lengths.max())
    valid = np.arange(T) < lengths[:, None]
    blank = lambda x: np.where(valid.reshape(N, T, *[1] * (x.ndim - 2)), x, np.zeros_like(x))
    drawn = {
        k: rng.integers(0, s.classes or 256, (N, T, *s.shape)).astype(s.dtype)
        if s.is_discrete or s.is_image
        else rng.normal(0, 2, (N, T, *s.shape)).astype(s.dtype)
        for k, s in spaces.items()
    }
    ends = np.arange(N) % 2 == 0 if terminal is None else np.asarray(terminal)
    is_terminal = np.zeros((N, T), bool)
    is_terminal[np.arange(N), lengths - 1] = ends
    reward = blank(rng.normal(0, 1, (N, T)).astype(np.float32))
    reward[:, 0] = 0
    return Episodes(
        obs={k: blank(v) for k, v in drawn.items()},
        action={"move": blank(rng.integers(0, 3, (N, T)).astype(np.int32))},
        reward=reward,
        is_terminal=is_terminal,
        length=lengths,
    )


def real(agent, params, numbers=tiny.NUMBERS) -> Inspector:
    """A real one."""
    return Inspector(agent, params, numbers)


def noise(agent, scale=0.3, seed=0):
    """Parameters of an agent that has learnt nothing, without a zero among them."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(agent.init, jax.random.key(0)).params
    return jax.tree.map(lambda p: rng.normal(0, scale, p.shape).astype(p.dtype), shapes)


class Oracle:
    """Knows the episodes by heart; a latent is the index of an episode and of a slot in it."""

    def __init__(self, known: Episodes, spaces=OBS):
        self.known = known
        self.agent = SimpleNamespace(
            obs_space=spaces,
            decoder="objective",
            cfg=SimpleNamespace(objective="oracle", behavior=SimpleNamespace(imag_length=3)),
        )
        N, self.last = known.reward.shape[0], known.reward.shape[1] - 1
        # Beyond a cut nothing is known, and the critic has the last word: it says 1.
        cut = ~known.is_terminal.any(1)
        self.value = discounted(known, np.where(cut, 1.0, 0.0)[:, None] * np.ones((1, self.last + 1)), GAMMA)
        slots = np.stack(np.meshgrid(range(N), range(self.last + 1), indexing="ij"), -1)
        self.latent = Latent(slots.astype(np.float32), np.eye(2, dtype=np.float32)[slots % 2])

    def read(self, episodes, *, key=0):
        none = np.zeros(episodes.reward.shape, np.float32)
        return PosteriorStats(self.latent, self.judge(self.latent), none, none, none)

    def judge(self, latent) -> HeadOutputs:
        at = self.at(latent)
        none = np.zeros(at[0].shape, np.float32)
        return HeadOutputs(
            self.known.reward[at], none, 1.0 - self.known.is_terminal[at], self.value[at], none
        )

    def at(self, latent):
        n, t = np.moveaxis(np.asarray(latent.deter), -1, 0).astype(int)
        return n, np.minimum(t, self.last)

    def decode(self, latent) -> Forecast:
        return Forecast(self.look(latent), self.judge(latent))

    def look(self, latent):
        return {k: self.known.obs[k][self.at(latent)] for k in self.agent.obs_space}

    decode_prior = look

    def forecast(self, latent, action, *, key=0):
        steps = 1 + np.arange(next(iter(action.values())).shape[1])
        deter = latent.deter[:, None] + np.stack([0 * steps, steps], -1)
        reached = Latent(deter, np.repeat(latent.stoch[:, None], len(steps), 1))
        return reached, Forecast(self.dreamt(latent, action, reached), self.judge(reached))

    def dreamt(self, latent, action, reached):
        """What happened, as long as the actions are those that were taken, and else something wrong."""
        n, t = self.at(Latent(reached.deter - np.array([0, 1]), reached.stoch))
        right = np.logical_and.accumulate(self.known.action["move"][n, t] == action["move"], 1)
        found = {}
        for k, v in self.look(reached).items():
            same = right.reshape(*right.shape, *[1] * (v.ndim - 2))
            found[k] = np.where(same, v, wrong(v, self.agent.obs_space[k]))
        return found

    def open_loop_mean(self, latent, action, *, futures=8, key=0):
        _, forecast = self.forecast(latent, action)
        return HeadOutputs(*[x[:, -1] for x in forecast.heads])

    def dream(self, latent, horizon, *, key=0):
        return self.value[self.at(latent)]


def wrong(obs, space):
    """Another observation of the space."""
    return (obs + 1) % space.classes if space.is_discrete else obs + np.ones((), obs.dtype)


class Still(Oracle):
    """Expects that nothing ever changes."""

    def dreamt(self, latent, action, reached):
        look = self.look(latent)
        return {k: np.repeat(v[:, None], reached.deter.shape[1], 1) for k, v in look.items()}


class Deaf(Oracle):
    """Is wrong about everything, whatever the actions are."""

    def dreamt(self, latent, action, reached):
        return {k: wrong(v, self.agent.obs_space[k]) for k, v in self.look(reached).items()}
