"""Training: the outputs of a loop, and after each the hooks that are due."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dreamer.config import Config
from dreamer.processes import ALONE, Processes
from envs.api import EnvError
from envs.watchdog import Interrupted
from experiments import signals
from experiments.training.folder import RunFolder, TrainingStopped
from experiments.training.hooks import Hook

if TYPE_CHECKING:
    from dreamer.loops.clocks import Progress
    from experiments.training.agents import Agents
    from experiments.training.workspace import Workspace

LONG = 1.0
"""Seconds of an evaluation or report above which the run is saved before the next one."""

T = TypeVar("T")


def is_complete(cfg: Config, progress: Progress) -> bool:
    """Whether a run has taken all its steps, or all its updates where those are limited."""
    return progress.env_steps >= cfg.steps or 0 < cfg.loop.updates <= progress.updates


class Trainer(Generic[T]):
    """Trains until all steps are done, `until` is reached or a stop is requested.

    Args:
      agents: what is trained, by which loop.
      folder: of the run.
      workspace: what is compiled for them.
      hooks: called after an output if due, in this order, before the run is saved.
      save_every: seconds between saves.
      finish: returns the result of a finished run.
      is_resumed: whether there is a checkpoint.
      processes: of the run.

    Of several processes all have a trainer, and process 0 decides what is due. Whichever is asked to stop,
    all stop after the same output.
    """

    def __init__(
        self,
        agents: Agents[T],
        folder: RunFolder,
        workspace: Workspace,
        hooks: Sequence[Hook],
        finish: Callable[[], dict[str, Any]],
        *,
        save_every: float,
        is_resumed: bool,
        processes: Processes = ALONE,
    ):
        self.agents, self.folder, self.workspace, self.finish = agents, folder, workspace, finish
        self.loop, self.hooks = agents.loop, [*hooks, Hook("seconds", save_every, self.save)]
        self.stop = signals.Stop()
        """Whether a stop is requested."""
        self.processes = processes
        self._agreed_stop, self._agreed_due = False, set[int]()
        self._is_first_due = not is_resumed
        self._aside_seconds = math.inf
        self._start_hooks()

    def _start_hooks(self) -> None:
        for hook in self.hooks:
            hook.start(self.loop.progress)

    def train(self, stop: signals.Stop) -> dict[str, Any] | None:
        """Train until done (returns the result) or until asked to stop (returns None); saves in both cases.

        Raises:
          Interrupted: asked to stop after everything was saved.
          TrainingStopped: it stopped early.
        """
        self.stop = stop
        with self.opened(), stop.held(), self.guarded():
            with contextlib.suppress(Interrupted):
                self._train()
            self.end()
            self._agree()
            if self.is_stopping:
                return None
            if self.processes.are_several:
                return self._finish_together()
            with stop.released():
                return self.finish()

    def _train(self) -> None:
        self._agree()
        if self.is_over:
            return
        for output in self.agents.outputs():
            self.collect(output)
            self._agree()
            if self.is_over:
                return
            self.between()
            if self.is_over:
                return

    @property
    def is_over(self) -> bool:
        return self.done or self.is_stopping

    @property
    def is_stopping(self) -> bool:
        """Whether a stop is requested, of several processes whether all know."""
        return self._agreed_stop if self.processes.are_several else bool(self.stop)

    def _agree(self) -> None:
        """Have all processes know of a request to stop, and of the hooks that are due for process 0."""
        if self.processes.are_several:
            progress = self.loop.progress
            due = [i for i, hook in enumerate(self.hooks) if hook.is_due(progress)]
            answers: list[Any] = self.processes.gather([self.stop.signal, due])
            self._heed([signal for signal, _ in answers])
            self._agreed_due = set(answers[0][1])

    def _heed(self, signals: Sequence[int | None]) -> None:
        """Stop if any process was asked to."""
        if asked := [signal for signal in signals if signal is not None]:
            self.stop.signal, self._agreed_stop = self.stop.signal or asked[0], True

    def _is_due(self, hook: Hook) -> bool:
        if self.processes.are_several:
            return self.hooks.index(hook) in self._agreed_due
        return hook.is_due(self.loop.progress)

    def _finish_together(self) -> dict[str, Any]:
        """The result in process 0, for which the others wait."""
        self.loop.gather_params()
        result = {}
        try:
            if self.processes.is_first:
                with self.stop.released():
                    result = self.finish()
        except Interrupted:
            self._settle()
            raise
        self._settle()
        return result

    def _settle(self) -> None:
        """After what only process 0 does: all know of a request to stop and whether `until` is reached."""
        message = [self.stop.signal, self.agents.meta.get("solved")]
        answers: list[Any] = self.processes.gather(message)
        self._heed([signal for signal, _ in answers])
        self.agents.follow(answers[0][1])

    @property
    def done(self) -> bool:
        """Whether all steps or updates are taken, or `until` is reached."""
        return self.agents.is_solved or is_complete(self.folder.cfg, self.loop.progress)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Within it the run can be logged."""
        with contextlib.ExitStack() as stack:
            for logger in self.agents.loggers:
                stack.enter_context(logger)
            yield

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Around training: an error ends the run with a message about what is safe.

        Raises:
          TrainingStopped: a loss is not finite, the environment failed, or a row cannot be logged.
        """
        from dreamer.logger import LoggerError
        from dreamer.loops.outputs import Diverged
        from dreamer.processes import Elsewhere

        try:
            yield
        except Diverged as error:
            if self.processes.is_first:
                with contextlib.suppress(LoggerError):
                    self.folder.logger.metrics({"diverged": 1.0})
            self.folder.wait()
            last = self.folder.store.steps()
            kept = f"the checkpoint at {last[-1]:,} steps is good" if last else "nothing was saved yet"
            raise TrainingStopped(
                f"{error}; {kept}. A lower agent.optim.lr or larger agent.optim.warmup often helps."
            ) from None
        except LoggerError as error:
            self.processes.fail(str(error))
            raise TrainingStopped(
                f"{error} ({self._saved_now()}; rerun the same command to resume)"
            ) from None
        except EnvError as error:
            self.processes.fail(str(error))
            raise TrainingStopped(f"{error} ({self._saved_now()})") from None
        except Elsewhere as error:
            raise TrainingStopped(f"{error} ({self._saved_now()})") from None

    def _saved_now(self) -> str:
        self.save(wait=True)
        return f"saved at {self.loop.progress.env_steps:,} steps in {self.folder.path}"

    def collect(self, output: T) -> None:
        """Log an output of the loop.

        Raises:
          TrainingStopped: the first checkpoint cannot be written (the same command starts from scratch), or
            no agent can continue.
        """
        self._save_first()
        self.agents.collect(output)
        if why := self.agents.failure:
            self.save(wait=True)
            raise TrainingStopped(why)

    def _save_first(self) -> None:
        """Save before the first row about an update: a log of updates means that there was a checkpoint."""
        if self._is_first_due and self.loop.progress.updates:
            self._is_first_due = False
            self.save(wait=True)

    def between(self) -> None:
        """Run the hooks that are due.

        Raises:
          Interrupted: a stop was requested meanwhile.
        """
        progress = self.loop.progress
        for is_aside, hooks in itertools.groupby(self.hooks, key=lambda hook: hook.is_aside):
            due = [hook for hook in hooks if self._is_due(hook)]
            if due:
                with self._aside() if is_aside else contextlib.nullcontext():
                    for hook in due:
                        hook.run(progress)

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Around hooks that change nothing of the run, so that a signal may interrupt them anywhere.

        A running computation cannot be interrupted (the process is ended instead), so long hooks are preceded
        by a save.
        """
        if self.processes.first(self._aside_seconds > LONG):
            self.save()
            self.folder.wait()
        began = time.monotonic()
        if self.processes.are_several:
            with self._waited_for():
                yield
        else:
            with self.stop.released():
                yield
        self._aside_seconds = time.monotonic() - began

    @contextlib.contextmanager
    def _waited_for(self) -> Iterator[None]:
        """Around what only process 0 does; the others wait for it, and it alone may be interrupted."""
        self.loop.gather_params()
        try:
            with self.stop.released() if self.processes.is_first else contextlib.nullcontext():
                yield
        except Interrupted:
            self._settle()
            raise
        self._settle()

    def end(self) -> None:
        """Log what is left, show how far it came, and save."""
        self.agents.flush()
        self.agents.log()
        for logger in self.agents.loggers:
            logger.show()
        self.save(wait=True)

    def save(self, *, wait: bool = False) -> None:
        """Checkpoint loop and counters; a failure is reported and the run continues."""
        with self.stop.unhurried():
            self.folder.save(self.loop, self.agents.meta, wait=wait)

    def fork_from(self, leader: Trainer[T], cfg: Config) -> None:
        """Continue from a copy of another run of the same program, with other numbers; saves."""
        from dreamer.loops.fused import FusedLoop
        from dreamer.numbers import trace

        assert isinstance(self.loop, FusedLoop) and isinstance(leader.loop, FusedLoop)
        self.agents.log()
        self.loop.fork_from(leader.loop, trace(cfg.agent))
        self._start_hooks()
        self.folder.write_config(cfg)
        self.folder.forget_save()
        at = f"{self.loop.progress.env_steps:,} environment steps"
        self.folder.notice(f"continuing from a copy of {leader.folder.path} at {at}")
        self.save()
