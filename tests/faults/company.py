"""Two at once in one place: the second is told who is there, and neither disturbs the other."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .ground import Ended, Ground, Trial, files, logged, until


def trainers(ground: Ground, count: int) -> Iterator[Trial]:
    """Two trainers in one folder, in both loops; after the first was killed the next one goes on."""
    for task in ("probe:chosen", "grid:Catch")[:count]:
        run = ground.place("two")
        first = ground.start(*ground.train(run, task=task, steps=10**7))
        until(lambda r=run: logged(r)["updates"] > 1)
        before = (run / "config.toml").read_bytes()
        second = ground.call(*ground.train(run, task=task, steps=10**7), seconds=60)
        why = second.refused(str(first.process.pid))
        why = why or ("the first was disturbed" if first.is_over else "")
        why = why or ("" if (run / "config.toml").read_bytes() == before else "config.toml was written")
        first.kill()
        steps = logged(run)["env_steps"] + 400
        third = ground.call(*ground.train(run, task=task, steps=steps))
        yield Trial(task, why or (third.went_well() and f"after a kill: {third.last}"))


def comparisons(ground: Ground, count: int) -> Iterator[Trial]:
    """Two comparisons in one folder: the second is refused, the first has all its episodes."""
    for _ in range(count):
        out = ground.place("compared")
        words = ["compare", "--task", "minigrid:Empty-5x5", "--agents", "random", "--out", out]
        first = ground.start(*words, "--episodes", 300)
        until(lambda o=out: o.is_dir() and any("lock" in name for name in files(o)), 60)
        second = ground.call(*words, "--episodes", 300, seconds=60)
        ended = first.wait()
        rows = json.loads((out / "results.json").read_text())["tasks"]["minigrid:Empty-5x5"]
        finished = rows["random"]["finished"]
        why = second.refused(str(first.process.pid)) or ended.went_well()
        yield Trial("comparisons", why or ("" if finished == 300 else f"{finished} of 300 episodes"))


def sweeps(ground: Ground, count: int) -> Iterator[Trial]:
    """Two coordinators on one study: every trial is made once."""
    import test_sweep
    from sweep_driver import pretend

    for _ in range(count):
        folder = ground.place("sweeps")
        folder.mkdir()
        path = test_sweep.write(folder, trials=12)
        test_sweep.run(path, folder / "alone", pretend)
        both = [test_sweep.start(path, folder / "both", "processes", 2) for _ in range(2)]
        why = ""
        try:
            for process in both:
                test_sweep.finish(process)
            test_sweep.check_whole(folder / "both", 12, folder / "alone")
        except AssertionError as error:
            why = str(error)[:200]
        yield Trial("sweeps", why)


def changes(ground: Ground, count: int) -> Iterator[Trial]:
    """What cannot be changed in place is refused, forced or not, and nothing is written."""
    run = ground.finished(task="probe:chosen", steps=400)
    for name, value in list(
        {
            "loop.num_envs": 8,
            "agent.rssm.deter": 32,
            "agent.rssm.stoch": 8,
            "task": "gymnasium:CartPole-v1",
            "replay.capacity": 0,
            "no.such": 1,
        }.items()
    )[:count]:
        before = files(run)
        ended = ground.call("train", "--run", run, "--steps", 440, f"--{name}", value, "--force", name)
        why = ended.refused()
        yield Trial(name, why or ("" if files(run) == before else "something was written"))
    ended = ground.call("train", "--run", run, "--steps", 440)
    yield Trial("the plain command afterwards", ended.went_well())


def histories(ground: Ground, count: int) -> Iterator[Trial]:
    """A history without a checkpoint is refused, each time the same, and stays."""
    for kind in ("deleted", "emptied", "shortened")[:count]:
        run = ground.finished(task="probe:chosen", steps=400)
        for manifest in run.glob("checkpoints/step-*/manifest.json"):
            if kind == "deleted":
                manifest.unlink()
            elif kind == "emptied":
                manifest.write_bytes(b"")
            else:
                largest = max(
                    (p for p in manifest.parent.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
                )
                largest.write_bytes(largest.read_bytes()[:-1])
        before = len((run / "episodes.jsonl").read_bytes())
        twice: list[Ended] = [ground.call("train", "--run", run, "--steps", 440) for _ in range(2)]
        why = next(filter(None, (ended.refused("--fresh") for ended in twice)), "")
        kept = len((run / "episodes.jsonl").read_bytes()) == before
        fresh = ground.call("train", "--run", run, "--steps", 440, "--fresh")
        why = why or ("" if kept else "episodes are gone") or fresh.went_well()
        yield Trial(
            kind, why or ("" if list(run.parent.glob(f"{run.name}.before-*")) else "nothing was kept")
        )


def records(ground: Ground, count: int) -> Iterator[Trial]:
    """A damaged file beside the checkpoints stops neither training nor a report."""
    contents = {
        "empty": b"",
        "cut": b'{"run": ',
        "other bytes": b"\xff\xfe\x00",
        "a list": b"[]",
        "no field": b"{}",
    }
    names = ("result.json", "environment.json", "metrics.jsonl", "episodes.jsonl", "card.json")
    for name, (what, content) in [(n, c) for n in names for c in contents.items()][:count]:
        run = ground.finished(task="probe:chosen", steps=400)
        (run / name).write_bytes(content)
        looked = ground.call("report", run, "--episodes", 2)
        trained = ground.call("train", "--run", run, "--steps", 440)
        yield Trial(f"{name} {what}", looked.went_well() or trained.went_well())
