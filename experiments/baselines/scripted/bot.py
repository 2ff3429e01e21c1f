"""Bot: BabyAI's own bot as a policy.

It plans by subgoals from the parsed mission and remembers what it has looked at. Of BabyAI's 96 ids in
MiniGrid 3.2 it always fails on the four that are refused here, ends most episodes of OpenDoorsOrderN*Debug
with the wrong door (opening one ends the episode), and plans without end in a quarter of the worlds of
UnlockToUnlock (`GaveUp`). On all others it solved every episode that was tried, 2 to 12 of each.

Reference: Chevalier-Boisvert et al. (2019), BabyAI.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.putnext import PutNext
from minigrid.envs.babyai.unlock import KeyInBox
from minigrid.utils.baby_ai_bot import BabyAIBot

from envs.api import Step
from envs.vector import HostVector
from experiments.baselines.scripted.player import GaveUp

MOST_SUBGOALS = 100
"""A bot that sets itself more of them before one action goes in circles (fewer than 10 are usual)."""


class Subgoals(list):
    """The bot's stack, which ends a planning that would not end."""

    left = MOST_SUBGOALS

    def append(self, subgoal: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise RecursionError("its plan goes in circles")
        super().append(subgoal)


class Mind(NamedTuple):
    """The memory of one copy."""

    bot: BabyAIBot
    last: int | None
    """The action it took before, None at the start of an episode."""


class Bot:
    """A `Policy` of one `BabyAIBot` per copy, new with every episode."""

    privileged = True
    sees = "what it has looked at so far, with exact positions, and the objects that the mission means"

    def __init__(self, env: HostVector):
        self._env = env

    def init(self, batch: int) -> Any:
        """No mind yet: it is made from the world that it meets."""
        return (None,) * batch

    def act(self, carry: Any, step: Step, *, key: Any) -> tuple[dict[str, np.ndarray], Any]:
        """What each bot suggests after seeing where its last action led.

        Raises:
          GaveUp: it failed in one of the worlds.
        """
        del key
        minds = list(carry)
        for i, world in enumerate(self._env.worlds()):
            if not step.is_last[i]:
                fresh = step.is_first[i] or minds[i] is None
                minds[i] = self._think(world.unwrapped, None if fresh else minds[i])
        action = [0 if last else mind.last for mind, last in zip(minds, step.is_last, strict=True)]
        return {"action": np.array(action, np.int32)}, tuple(minds)

    def _think(self, world: Any, mind: Mind | None) -> Mind:
        try:
            bot, last = mind or Mind(BabyAIBot(world), None)
            bot.stack = Subgoals(bot.stack)
            chosen = bot.replan(last)
            if chosen is None:
                raise ValueError("it has nothing left to do")
            return Mind(bot, int(chosen))
        except Exception as error:  # the bot asserts what it believes, and is sometimes wrong
            why = " ".join(str(error).split()) or f"a {type(error).__name__}"
            step = world.step_count
            raise GaveUp(f"{self._env.task}: the BabyAI bot gave up at step {step}: {why}") from error


def player(env: HostVector) -> Bot | None:
    """The bot, None if it cannot play a task."""
    world = env.worlds()[0].unwrapped
    beyond = isinstance(world, KeyInBox) or (isinstance(world, PutNext) and world.start_carrying)
    return Bot(env) if isinstance(world, RoomGridLevel) and not beyond else None
