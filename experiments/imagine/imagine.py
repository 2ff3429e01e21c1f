"""`dreamer imagine`: actor and critics learn on in dreams, with a cost, and nothing new is collected."""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from dreamer import atomic, dreaming, export
from dreamer.agent import TrainState
from dreamer.checkpoint import NAME, CheckpointError
from dreamer.config import Config
from dreamer.costs import Sum
from dreamer.numbers import Numbers, trace
from dreamer.player import MEMBERS, Player, load
from dreamer.schema import ConfigError, replace_paths
from experiments import machine, surroundings
from experiments.costs import reading
from experiments.imagine import recorded
from experiments.imagine.options import ImagineOptions

if TYPE_CHECKING:
    from experiments.training.workspace import Workspace

FILE = "imagined.safetensors"
"""The agent, where no file is named."""
SHOWN = ("imagined_reward", "imagined_return", "imagined_cont", "value")
"""Metrics that are logged."""
WORD = 5.0
"""Seconds between two lines of progress."""


def imagine(run: Path, options: ImagineOptions) -> int:
    """Learn in the dreams of a run and write the agent as one file; the exit code.

    Ctrl-C ends the learning early; what was learned until then is written, if anything was.

    Raises:
      CheckpointError: there is no agent in the folder, its replay is damaged, or the file cannot be written.
      ConfigError: a cost cannot be used, the task has other spaces, or there is no replay to dream from.
    """
    folder, name = _place(run)
    file = Path(options.out) if options.out else folder / FILE
    beside = file.with_name(f"{file.name}.json")
    machine.prepare()
    player = load(run)
    cfg = player.config
    assert cfg is not None
    terms = reading.read(options, player)
    _check_writable(file, beside, force=options.force)
    with _opened(cfg) as opened:
        surroundings.notice(run, cfg)
        sample = recorded.sampler(folder, name, opened, cfg)
        learner = Learner(player, terms, options)
        is_whole = learner.learn(sample)
    after = Player(
        player.agent,
        learner.state.params,
        player.numbers,
        config=cfg,
        counters={**player.counters, "imagined_updates": learner.updates},
    )
    export.save(after, file, force=options.force)
    result = {
        "file": str(file),
        "run": str(run),
        "wanted": options.described,
        "updates": learner.updates,
        "complete": is_whole,
        "metrics": learner.metrics,
        "session": surroundings.session(cfg),
    }
    atomic.write(beside, jsonlib.dumps(result, indent=1))
    print(jsonlib.dumps(result) if options.json else _sentence(result))
    return 0


def _check_writable(*files: Path, force: bool) -> None:
    """See, before minutes of learning, that these files can be written.

    Raises:
      CheckpointError: one exists already, or its folder cannot be written.
    """
    for file in files:
        if file.exists() and not (force and file.is_file()):
            raise CheckpointError(f"{file} exists already: name another file with --out, or use --force")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{file} cannot be written: {error.strerror}") from None
        if not os.access(file.parent, os.W_OK):
            raise CheckpointError(f"{file} cannot be written: its folder is not writable")


@contextlib.contextmanager
def _opened(cfg: Config) -> Iterator[Workspace]:
    """The workspace of a run in which nothing is played: one copy of an environment of the host will do."""
    from experiments.training import workspace

    if envs.is_on_device(cfg.task):
        with workspace.opened(cfg) as opened:
            yield opened
        return
    with contextlib.closing(envs.make(cfg.task, 1, **cfg.env.world)) as env:
        yield workspace.Workspace(cfg, env)


def _place(run: Path) -> tuple[Path, str | None]:
    """The folder of a run and the checkpoint in it that is meant, None for the newest.

    Raises:
      ConfigError: it is an exported file or a member of a population, which have no replay of their own.
    """
    if run.is_file():
        raise ConfigError(f"{run} is a file, but dreams start from the replay of a run: name its folder")
    if run.absolute().parent.name == MEMBERS:
        raise ConfigError(
            f"{run} is a member of a population, whose replays are stored together: imagine needs a run of "
            "one agent"
        )
    if NAME.fullmatch(run.name):
        return run.absolute().parent.parent, run.name
    return run, None


class Learner:
    """Actor and critics of an agent while they learn in dreams."""

    def __init__(self, player: Player, terms: reading.Terms, options: ImagineOptions):
        cfg = player.config
        assert cfg is not None
        self.state: TrainState = dreaming.start(player.agent, jax.tree.map(jnp.copy, player.everything))
        self.updates = 0
        self.metrics: list[dict[str, float]] = []
        """What was logged, a row every few seconds."""
        self._options = options
        self._numbers: Numbers = trace(_rates(cfg.agent, options))
        cost = Sum(tuple(terms.values()))
        wish = lambda world: world.with_cost(cost, options.reward_weight) if terms else world
        self._step = dreaming.compiled(player.agent, wish)

    def learn(self, sample: recorded.Sample) -> bool:
        """Update until all is done or Ctrl-C; whether it is all.

        Raises:
          ConfigError: a loss is not finite.
        """
        batches, dreams = jax.random.split(jax.random.key(self._options.seed))
        total, due = self._options.updates, time.monotonic() + WORD
        metrics: Mapping[str, Any] = {}
        try:
            for index in range(total):
                batch = sample(jax.random.fold_in(batches, index))
                state, metrics = self._step(self.state, batch, self._numbers, dreams)
                self.state, self.updates = state, index + 1
                if index in (0, total - 1) or time.monotonic() >= due:
                    self._log(metrics)
                    due = time.monotonic() + WORD
        except KeyboardInterrupt:
            if not self.updates:
                raise
            if not self.metrics or self.metrics[-1]["updates"] < self.updates:
                self._log(metrics)
            print(f"interrupted after {self.updates} of {total} updates", file=sys.stderr)
            return False
        return True

    def _log(self, metrics: Mapping[str, Any]) -> None:
        row = {name: float(metrics[name]) for name in SHOWN} | {"loss": float(metrics["loss"])}
        if not np.isfinite(list(row.values())).all():
            raise ConfigError(
                f"a loss is not finite after {self.updates} updates in dreams: a cost gives no number "
                "somewhere, or --lr is too large; nothing was written"
            )
        self.metrics.append({"updates": self.updates, **row})
        print(
            f"{self.updates:,} of {self._options.updates:,} updates: in dreams a step earns "
            f"{row['imagined_reward']:.4g}, a return is {row['imagined_return']:.4g}",
            file=sys.stderr,
            flush=True,
        )


def _rates(cfg: Any, options: ImagineOptions) -> Any:
    """The configuration of the agent with the rate of learning in dreams, warmed up over a tenth of it."""
    changes: dict[str, Any] = {"optim.warmup": options.updates // 10, "optim.schedule": "const"}
    if options.lr:
        changes["optim.lr"] = options.lr
    return replace_paths(cfg, changes)


def _sentence(result: Mapping[str, Any]) -> str:
    first, last = result["metrics"][0], result["metrics"][-1]
    return (
        f"{result['file']}: after {result['updates']:,} updates in dreams a step there earns "
        f"{last['imagined_reward']:.4g}, at first {first['imagined_reward']:.4g}\n"
        f"In the task: dreamer eval {result['file']}"
    )
