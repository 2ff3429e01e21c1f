"""A session of play: the same actions in the world and in the dream, step by step, with rewind.

A `Moment` is the state of both after an action. The moments since the start of the episode are a line;
rewinding and acting differently starts another line, and the old one is kept. Costs that are switched on or
off count from the present moment on: there, and wherever one rewinds to, the agent decides once more.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.agent import Carry
from dreamer.inspection import Inspector
from dreamer.records import Latent
from envs.api import Step, VectorEnv
from envs.check import difference
from envs.draw import action_names, is_drawable, picture
from experiments.decoding import caption, nothing_decodes
from experiments.play.adviser import Adviser, Choice
from experiments.serve import Refused

TILE = 28
"""Pixels of a cell of a grid."""
LONGEST = 2000
"""Moments of a line."""
LARGEST_BOARD = 256
"""Entries of the largest array that is shown in full."""


@dataclass(frozen=True)
class Moment:
    """The world and the dream after one action."""

    action: dict[str, np.ndarray] | None
    """{key: [1, ...]} that led here; None at the start."""
    step: Step
    """[1] step of the world; the last of an episode is repeated while the dream continues."""
    over: bool
    """Whether the episode of the world ended at or before this moment."""
    carry: Carry[Any]
    """[1] memory of the agent after the observation."""
    choice: dict[str, np.ndarray]
    """{key: [1, ...]} what the agent would do: in the world, and after its end in the dream."""
    on: tuple[bool, ...]
    """Which costs counted for that."""
    critic: float
    """Value of the state of the world."""
    dream: Latent
    """[1] latent of the dream."""
    dreamt: dict[str, Any]
    """Decoded observation and head outputs of the dream."""
    awake: bool
    """Whether the dream was synchronized with the observation here."""
    world_return: float
    dream_return: float


class Session:
    """An agent, its world, and a person between them.

    Args:
      env: a single copy.
      adviser: suggests the actions; its player has the world model.
    """

    def __init__(self, env: VectorEnv, adviser: Adviser, seed: int):
        player = adviser.player
        self._env, self._adviser, self._agent = env, adviser, player.agent
        self._inspector = Inspector(player.agent, player.everything, player.numbers)
        self._on = (True,) * len(adviser.terms)
        self._spaces = env.obs_space
        self._names = action_names(env.task, env.act_space)
        self._act_key = next(iter(env.act_space)) if len(env.act_space) == 1 else None
        self.new(seed)

    def new(self, seed: int) -> None:
        """Begin an episode, in both."""
        self.seed = seed
        self._note = ""
        self._lines: list[list[Moment]] = []
        step = self._env.reset([seed])
        choice, carry = self._asked([], None, step, None)
        self._line = [self._moment(None, step, False, carry, choice, carry.latent, 0.0, 0.0)]
        self._world_at: Moment | None = self._line[0]

    def act(self, choice: int | None) -> None:
        """Take one action in both; None lets the agent choose.

        Raises:
          Refused: there is no such action, or the line has its maximum length.
        """
        now = self._line[-1]
        if len(self._line) >= LONGEST:
            raise Refused(f"a line has at most {LONGEST} moments; begin a new episode")
        action = now.choice if choice is None else self._action(choice)
        self._line = [*self._line, self._next(now, action)]
        self._world_at = self._line[-1]

    def _action(self, choice: int) -> dict[str, np.ndarray]:
        if self._names is None or self._act_key is None:
            raise Refused("the actions of this task are no single choice: let the agent act")
        if not 0 <= choice < len(self._names):
            raise Refused(f"the action must be 0 to {len(self._names) - 1}, but it is {choice}")
        space = self._env.act_space[self._act_key]
        return {self._act_key: np.full((1, *space.shape), choice, space.dtype)}

    def rewind(self, t: int) -> None:
        """Go back to moment `t` of the line; acting from there starts another line.

        Raises:
          Refused: there is no such moment.
        """
        if not 0 <= t < len(self._line):
            raise Refused(f"the line has moments 0 to {len(self._line) - 1}, but not {t}")
        self._go_to(self._line[: t + 1])

    def open(self, index: int) -> None:
        """Switch to another line; the current one is kept.

        Raises:
          Refused: there is no such line.
        """
        if not 0 <= index < len(self._lines):
            raise Refused(f"there are {len(self._lines)} other lines, but no line {index}")
        self._go_to(self._lines[index])

    def _go_to(self, line: list[Moment]) -> None:
        """Make `line` the current one and keep the others, except prefixes of other lines."""
        # Every dream is made once: a moment at which only the costs were switched is still the same.
        begins = lambda a, b: len(a) <= len(b) and b[len(a) - 1].dreamt is a[-1].dreamt
        every = [*self._lines, self._line]
        longer = lambda a: any(len(a) < len(b) and begins(a, b) for b in every)
        self._line, self._lines = line, [a for a in every if not begins(a, line) and not longer(a)]
        if line[-1].on != self._on:
            self._decide()

    def wake(self) -> None:
        """Synchronize the dream: it continues from the posterior of the agent."""
        latent = self._line[-1].carry.latent
        self._amend(dream=latent, dreamt=self._shown_by(latent), awake=True)
        if self._line[-1].over:  # there the agent acts in the dream
            self._decide()

    def switch(self, index: int, on: bool) -> None:
        """Have a cost count from this moment on, or no longer.

        Raises:
          Refused: there is no such cost, or the actor does not plan.
        """
        if not 0 <= index < len(self._on):
            raise Refused(f"there are {len(self._on)} costs, but no cost {index}")
        if not self._adviser.plans:
            raise Refused(
                f"the actor {self._adviser.name} does not plan: costs change nothing in what it does"
            )
        self._on = (*self._on[:index], on, *self._on[index + 1 :])
        self._decide()

    def _decide(self) -> None:
        """Ask the agent once more at the end of the line."""
        now = self._line[-1]
        choice, carry = self._asked(self._line[:-1], now.action, now.step, now.dream)
        self._amend(choice=choice, carry=carry, on=self._on)

    def _amend(self, **changes: Any) -> None:
        """Change the last moment of the line, and of no other line."""
        now = self._line[-1]
        amended = dataclasses.replace(now, **changes)
        if self._world_at is now:
            self._world_at = amended
        self._line = [*self._line[:-1], amended]

    def _asked(
        self, line: list[Moment], action: dict[str, np.ndarray] | None, step: Step, dream: Latent | None
    ) -> Choice:
        """What the agent would do after a line and one more action, where world and dream are here now."""
        adviser, t = self._adviser, len(line)
        if not line:
            return adviser.act(adviser.player.init(1), step, self._on, key=0)
        before = line[-1].carry
        carry = before._replace(action=jax.tree.map(jnp.asarray, action))
        if not step.is_last[0]:
            return adviser.act(carry, step, self._on, key=t)
        if not line[-1].over:  # it sees how the episode ends, but decides only once
            _, carry = adviser.act(carry, step, self._on, key=t)
        assert dream is not None
        return adviser.dream(carry._replace(memory=before.memory), dream, self._on, key=t)

    def _next(self, now: Moment, action: dict[str, np.ndarray]) -> Moment:
        step, won = now.step, now.world_return
        if not now.over:
            self._bring_world_to(now)
            self._world_at = None
            step = self._env.step(action)
            won += float(step.reward[0])
        one = {k: v[:, None] for k, v in action.items()}
        reached, _ = self._inspector.forecast(now.dream, one, key=len(self._line))
        dream = jax.tree.map(lambda x: x[:, 0], reached)
        choice, carry = self._asked(self._line, action, step, dream)
        return self._moment(action, step, bool(step.is_last[0]), carry, choice, dream, won, now.dream_return)

    def _moment(
        self,
        action: dict[str, np.ndarray] | None,
        step: Step,
        over: bool,
        carry: Carry[Any],
        choice: dict[str, np.ndarray],
        dream: Latent,
        won: float,
        promised: float,
    ) -> Moment:
        """A moment from the states of both; the reward of the dream is added to its return."""
        critic = float(self._inspector.decode(carry.latent).heads.value[0])
        dreamt, awake = self._shown_by(dream), action is None
        promised += 0.0 if awake else dreamt["reward"]
        return Moment(
            action, step, over, carry, choice, self._on, critic, dream, dreamt, awake, won, promised
        )

    def _shown_by(self, latent: Latent) -> dict[str, Any]:
        """Decoded observation and head outputs of one latent, as numbers."""
        shown = jax.device_get(self._inspector.decode(latent))
        heads = {k: float(getattr(shown.heads, k)[0]) for k in ("reward", "cont", "value")}
        return heads | {"obs": shown.obs and {k: v[0] for k, v in shown.obs.items()}}

    def _bring_world_to(self, now: Moment) -> None:
        """Bring the world to the end of the line: the same seed and actions lead there again.

        Raises:
          Refused: they do not, and the episode ends on the way.
        """
        if self._world_at is now:
            return
        self._world_at = None
        self._compare(0, self._env.reset([self.seed]))
        for t, moment in enumerate(self._line[1:], start=1):
            assert moment.action is not None
            step = self._env.step(moment.action)
            self._compare(t, step)
            if step.is_last[0]:
                raise Refused(f"{self._note} It ended on the way: begin a new episode.")

    def _compare(self, t: int, step: Step) -> None:
        """Note where the world is first not what it was at moment `t` of the line."""
        differs = difference(self._line[t].step, step)
        if differs and not self._note:
            self._note = (
                f"Played again from its seed the world went another way ({differs} differs after {t} steps): "
                "it is not a function of its seed and actions, so there is no way back to what it was."
            )

    def state(self) -> dict[str, Any]:
        """Everything the page shows."""
        now = self._line[-1]
        names = self._names
        dreamt = now.dreamt
        return {
            "task": self._env.task,
            "seed": self.seed,
            "t": len(self._line) - 1,
            "actions": list(names or ()),
            "lines": [len(line) - 1 for line in self._lines],
            "note": self._note,
            "last": None if now.action is None else self._action_text(now.action),
            "actor": self._adviser.name,
            "choice": self._action_text(now.choice),
            "wishes": self._wishes(now),
            "world": {
                **self._shown({k: v[0] for k, v in now.step.obs.items()}),
                "over": now.over,
                "reward": round(float(now.step.reward[0]), 4),
                "return": round(now.world_return, 4),
                "critic": round(now.critic, 4),
            },
            "dream": {
                **self._shown(dreamt["obs"]),
                "title": caption(self._agent, "Dream"),
                "awake": now.awake,
                "reward": round(dreamt["reward"], 4),
                "return": round(now.dream_return, 4),
                "cont": round(dreamt["cont"], 4),
                "critic": round(dreamt["value"], 4),
            },
        }

    def _wishes(self, now: Moment) -> dict[str, Any]:
        """The costs, what they say at a moment, and how much the reward counts beside them."""
        adviser = self._adviser
        paid = adviser.paid(now.carry, now.step, now.dream)
        return {
            "plans": adviser.plans,
            "reward_weight": adviser.reward_weight if any(self._on) else 1.0,
            "costs": [
                {
                    "name": text.rpartition("=")[0] or text,
                    "weight": weight,
                    "on": on,
                    "world": _number(world),
                    "dream": _number(dream),
                }
                for (text, (_, weight)), on, (world, dream) in zip(
                    adviser.terms.items(), self._on, paid, strict=True
                )
            ],
        }

    def _action_text(self, action: dict[str, np.ndarray]) -> str:
        if self._names is not None and self._act_key is not None:
            return self._names[int(action[self._act_key][0])]
        return ", ".join(np.array2string(v[0], precision=2) for v in action.values())

    def _shown(self, obs: dict[str, Any] | None) -> dict[str, Any]:
        if obs is None:
            return {"values": {nothing_decodes(self._agent.cfg.objective, "its dreams cannot be shown"): []}}
        spaces = {k: s for k, s in self._spaces.items() if k in obs and not k.startswith("log/")}
        if is_drawable(spaces):
            return {"frame": _png(picture(obs, spaces, tile=TILE))}
        return {"values": {k: _lines(np.asarray(obs[k])) for k in spaces}}


def _number(x: float) -> float | None:
    """A number as JSON can say it."""
    return round(x, 4) if math.isfinite(x) else None


def _lines(x: np.ndarray) -> list[str]:
    """Numbers as text: a small board by rows, otherwise the first entries, one per line."""
    if x.ndim == 2 and x.size <= LARGEST_BOARD:
        return [" ".join(f"{v:g}" for v in row) for row in x.astype(float)]
    return [f"{round(float(v), 3):g}" for v in x.ravel()[:12]]


def _png(image: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
