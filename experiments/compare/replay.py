"""What an episode looked like: its recorded actions are played again from its seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from envs.api import LOG_PREFIX, Step, VectorEnv
from envs.draw import is_drawable, picture
from envs.rollout import rollout
from experiments.compare.play import Seat, digest
from experiments.compare.transcript import Played
from experiments.llm.transcript import COUNTED as SLIPS

MOST_FRAMES = 200
"""Of an episode; the first ones are shown."""
TILE = 12
"""Pixels of a cell of a grid."""
ASTRAY = (
    "Played again from its seed, this world went another way at step {}: it is not a function of its seed "
    "and actions, and the pictures are not those of the episode."
)
WORDS = 600
"""Characters of a reply that are shown."""


class Again:
    """A `Policy` that does what was done before."""

    def __init__(self, acts: Sequence[Mapping[str, Any]], env: VectorEnv):
        self._acts, self._spaces = acts, env.act_space

    def init(self, batch: int) -> int:
        """The step it is at."""
        return 0

    def act(self, carry: int, step: Step, *, key: Any) -> tuple[dict[str, np.ndarray], int]:
        act = self._acts[min(carry, len(self._acts) - 1)]
        return {k: np.array([act[k]], space.dtype) for k, space in self._spaces.items()}, carry + 1


class Seen(NamedTuple):
    """An episode that was played again."""

    observations: list[dict[str, np.ndarray]]
    """At most `MOST_FRAMES`."""
    env: VectorEnv
    """The (closed) environment they are of."""
    astray: int | None
    """The step from which on it is not what was recorded; None: it is."""


def seen(seat: Seat, played: Played) -> Seen:
    """Do what was done in an episode again, from its seed."""
    env = seat.make_env()
    observations: list[dict[str, np.ndarray]] = []
    differing: list[int] = []

    def keep(step: Step, action: Mapping[str, np.ndarray], index: np.ndarray) -> None:
        if len(observations) < len(played.steps) and _differs(step, played.steps[len(observations)]):
            differing.append(len(observations))
        observations.append({k: np.array(v[0]) for k, v in step.obs.items() if not k.startswith(LOG_PREFIX)})

    acts = [seat.act(line) for line in played.decisions[: MOST_FRAMES - 1]]
    try:
        rollout(Again(acts, env), env, [played.seed], on_step=keep, max_steps=len(acts))
    finally:
        env.close()
    return Seen(observations, env, differing[0] if differing else None)


def _differs(step: Step, line: Mapping[str, Any]) -> bool:
    """Whether a step is not the one that a line of a transcript is about; old ones have no digest."""
    same_reward = math.isclose(float(step.reward[0]), line["reward"], rel_tol=1e-6, abs_tol=1e-9)
    same_end = bool(step.is_last[0]) == line["is_last"]
    return not (same_reward and same_end and line.get("seen") in (None, digest(step.obs)))


def recording(name: str, seat: Seat, played: Played, *, expected: bool = False) -> dict[str, Any]:
    """An episode as the page plays it: frames where there is a picture, and what was said at each step.

    Args:
      expected: with frames of what its world model expected to see, if it has one.
    """
    steps = played.steps[:MOST_FRAMES]
    content: dict[str, Any] = {
        "name": name,
        "outcome": outcome(played),
        "steps": [_step(step) for step in steps],
        "astray": "",
        "caption": "",
    }
    if played.decisions:
        observations, env, astray = seen(seat, played)
        content["seen"] = _sheet(observations, env)
        if astray is not None:
            content["astray"] = ASTRAY.format(astray)
        elif expected and seat.expect is not None:
            frames = seat.expect(observations, played.steps)
            content["caption"] = seat.expect.caption
            content["expected"] = _sheet(frames, env) if frames else None
    return content


def _sheet(observations: Sequence[Mapping[str, np.ndarray]], env: VectorEnv) -> dict[str, Any] | None:
    from experiments.report.stories import sprites

    spaces = {k: env.obs_space[k] for k in observations[0]}
    if not is_drawable(spaces):
        return None
    return sprites([picture(obs, spaces, tile=TILE) for obs in observations])


def outcome(played: Played) -> str:
    """How an episode ended, in a few words."""
    result = played.result
    if result is None:
        return f"errored: {played.error}" if played.error else "not finished"
    kind = {True: "success", False: "failure"}.get(result["success"])
    return ", ".join(filter(None, (kind, f"return {result['return']:.3g}", f"{result['length']} steps")))


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    replies = [call["content"] or "" for call in step.get("calls", ())]
    return {
        "action": step.get("action", "the end"),
        "text": step.get("text", ""),
        "words": [reply[:WORDS] or "(nothing)" for reply in replies],
        "slip": ", ".join(slip for slip in SLIPS if step.get(slip)),
    }


def side_by_side(players: Mapping[str, Sequence[Played]]) -> int | None:
    """The seed that tells most: one where the players differ in success, else the first that all finished."""
    by_seed = [{p.seed: p.result for p in played if p.result is not None} for played in players.values()]
    common = sorted(set.intersection(*(set(x) for x in by_seed))) if by_seed else []
    for seed in common:
        if len({x[seed]["success"] for x in by_seed}) > 1:
            return seed
    return common[0] if common else None


def failures(played: Sequence[Played], most: int = 2) -> list[Played]:
    """Episodes that failed: those with the most steps at which no valid answer came first."""
    failed = [p for p in played if p.result is not None and p.result["success"] is False]
    slips = lambda p: sum(bool(step.get(slip)) for step in p.decisions for slip in SLIPS)
    return sorted(failed, key=lambda p: (-slips(p), p.seed))[:most]
