"""`dreamer play`: a page on localhost where a person plays in an agent's world model."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import envs
from envs.api import FIRST_TRAINING_SEED, EnvError
from experiments import machine, serve, surroundings
from experiments.agreement import agree, spaces
from experiments.costs import reading
from experiments.costs.options import CostOptions
from experiments.play.adviser import Adviser
from experiments.play.session import Session
from experiments.serve import Refused, Reply

PAGE = Path(__file__).with_name("play.html")


class Game:
    """The paths of the server: each changes the session and returns its state."""

    def __init__(self, session: Session):
        self._session = session
        self._lock = threading.Lock()

    def page(self) -> Reply:
        return Reply.html(PAGE.read_text())

    def state(self) -> Reply:
        with self._lock:
            return Reply.json(self._session.state())

    def posts(self) -> dict[str, Callable[[dict[str, Any]], Reply]]:
        """{path: what it does}."""
        session = self._session
        verbs: dict[str, Callable[[dict[str, Any]], None]] = {
            "/act": lambda request: session.act(_whole(request, "action") if "action" in request else None),
            "/rewind": lambda request: session.rewind(_whole(request, "t")),
            "/line": lambda request: session.open(_whole(request, "index")),
            "/wake": lambda request: session.wake(),
            "/switch": lambda request: session.switch(_whole(request, "index"), _yes(request, "on")),
            "/new": lambda request: session.new(
                _whole(request, "seed", FIRST_TRAINING_SEED)
                if "seed" in request
                else (session.seed + 1) % FIRST_TRAINING_SEED
            ),
        }

        def path(verb: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], Reply]:
            def answer(request: dict[str, Any]) -> Reply:
                with self._lock:
                    try:
                        verb(request)
                    except EnvError as error:
                        raise Refused(str(error)) from None
                    return Reply.json(session.state())

            return answer

        return {name: path(verb) for name, verb in verbs.items()}


def _whole(request: dict[str, Any], name: str, below: int = 2**31) -> int:
    """An integer field of a request."""
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise Refused(f"{name} must be a whole number, 0 or more and below {below}, but it is {value!r}")
    return value


def _yes(request: dict[str, Any], name: str) -> bool:
    """A field of a request that is true or false."""
    value = request.get(name)
    if not isinstance(value, bool):
        raise Refused(f"{name} must be true or false, but it is {value!r}")
    return value


def play(
    run: Path, *, seed: int, port: int, actor: str = "greedy", wanted: CostOptions = CostOptions()
) -> int:
    """Serve until Ctrl-C; the exit code.

    Args:
      actor: its name; what the page suggests, and does where the agent is to act.
      wanted: costs and a goal, which the page shows and switches; a planner plans with them.

    Raises:
      CheckpointError: there is no agent in the folder.
      ConfigError: there is no such actor, a cost cannot be used, the port is in use, or the task has other
        spaces than the agent was trained with.
    """
    import dreamer

    machine.prepare()
    player = dreamer.load(run, actor=actor)
    adviser = Adviser(player, actor, reading.read(wanted, player), wanted.reward_weight)
    serve.check(port)  # before the compilation, which takes a while
    cfg = player.config
    assert cfg is not None
    env = envs.make(cfg.task, 1, **cfg.env.world)
    surroundings.notice(run, cfg)
    try:
        agree(str(run), cfg.task, spaces(player.agent), env)
        game = Game(Session(env, adviser, seed))
        server = serve.server(port, {"/": game.page, "/state": game.state}, game.posts())
        print(
            f"{serve.address(server)} plays {cfg.task} in the dreams of {run}; Ctrl-C ends", file=sys.stderr
        )
        serve.until_interrupted(server)
    finally:
        env.close()
    return 0
