"""Environments that break their contract, and losses that are not finite: one sentence, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator

import faulty_env

from .ground import Ground, Trial, left_behind

TOLD_BY_CHECK = {
    **dict.fromkeys(("IgnoresSeed", "Leaks", "Bounds", "ByAddress", "ByHash", "OldSeed"), "fail"),
    "LimitAsEnd": "is a time limit reported as terminated?",
    "LosesTheEnd": "is the final one lost",
}
"""What a run cannot notice, and what `dreamer envs --check` says of it; of suspicions it is no failure."""


def broken(ground: Ground, count: int) -> Iterator[Trial]:
    """Every class of `faulty_env`: those that a run must notice end it, the odd ones do not."""
    tried = 0
    for kind in (*faulty_env.FAULTS, *faulty_env.ODD):
        if tried == count:
            return
        tried += 1
        task = f"gymnasium:faulty_env:{kind.__name__}-v0"
        dies = kind is faulty_env.Dies
        if kind.__name__ in TOLD_BY_CHECK:
            ended = ground.call("envs", "--check", task)
            why = ended.plain() or ("" if TOLD_BY_CHECK[kind.__name__] in ended.text else "not noticed")
            yield Trial(f"check of {kind.__name__}", why)
            continue
        words = ground.train(ground.place("run"), task=task, env__parallel=dies, steps=240)
        ended = ground.call(*words)
        is_odd = kind in (*faulty_env.ODD, faulty_env.Endless)
        why = ended.went_well() if is_odd else ended.refused("faulty_env")
        yield Trial(kind.__name__, why)


def in_processes(ground: Ground, count: int) -> Iterator[Trial]:
    """The same in processes of their own: no process stays behind."""
    for name in ("Raises", "Exits", "WrongShape", "NaNReward", "Dies", "CannotBeBuilt", "ExitsWhenBuilt")[
        :count
    ]:
        process = ground.start(
            *ground.train(ground.place("run"), task=f"gymnasium:faulty_env:{name}-v0", env__parallel=True)
        )
        why = process.wait().refused("faulty_env")
        yield Trial(name, why or left_behind(process.process.pid))


def hanging(ground: Ground, count: int) -> Iterator[Trial]:
    """An environment that never answers ends its run with `--env.timeout`, saying which copy it was."""
    for parallel in (False, True)[:count]:
        words = ground.train(
            ground.place("run"),
            task="gymnasium:faulty_env:Stuck-v0",
            env__parallel=parallel,
            env__timeout=3.0,
        )
        process = ground.start(*words)
        why = process.wait(90).refused("Stuck-v0", "3")
        yield Trial("in processes" if parallel else "here", why or left_behind(process.process.pid))


def losses(ground: Ground, count: int) -> Iterator[Trial]:
    """A learning rate that destroys every parameter: the run ends, its checkpoint from before is good."""
    for kind in ("probe:chosen", "grid:Catch")[:count]:
        run = ground.finished(task=kind, steps=400)
        words = ground.train(run, task=kind, steps=4000, agent__optim__lr=1e36)
        ended = ground.call(*words, "--force", "agent.optim.lr")
        again = ground.call("eval", run, "--episodes", 2)
        yield Trial(kind, ended.refused("not finite") or again.went_well())
