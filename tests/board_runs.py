"""Runs that took no time, as training leaves them behind, for the tests of `dreamer board`.

`python -m tests.board_runs` makes two thousand of them and says how long the board takes to show them.
"""

import argparse
import contextlib
import itertools
import json
import math
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dreamer import schema
from dreamer.config import Config
from experiments import presets, serve
from experiments.board.board import Board

LOSSES = ("loss", "loss/cont", "loss/dyn", "loss/policy", "loss/rep", "loss/reward", "loss/value", "value")
LRS = (4e-5, 1e-4, 3e-4, 1e-3)
TASKS = ("grid:DoorKey-5x5", "minigrid:Empty-5x5", "gymnasium:CartPole-v1", "dmc:walker-walk")


def config(seed: int = 0, task: str = "grid:DoorKey-5x5", steps: int = 20_000, **changes) -> Config:
    """A configuration; dots of its fields are written as two underscores."""
    cfg = replace(presets.build("quickstart"), task=task, seed=seed, steps=steps, until="")
    return schema.replace_paths(cfg, {k.replace("__", "."): v for k, v in changes.items()})


def learned(share: float, seed: int) -> float:
    """The success of an agent that learned for a share of its time."""
    return 1 / (1 + math.exp(-12 * (share - 0.3 - 0.04 * (seed % 9))))


def store(folder: Path, cfg: Config, *, ended: float = 1.0, rows: int = 40, result: bool = True) -> Path:
    """A run folder: its configuration, its logs up to a share of its steps, and its result."""
    rng = random.Random(f"{folder.name} {cfg.seed}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(schema.dump_toml(cfg))
    steps = [round(cfg.steps * ended * (i + 1) / rows) for i in range(rows)]
    with (folder / "metrics.jsonl").open("w") as file:
        for i, at in enumerate(steps):
            values = {name: round(3 * math.exp(-at / cfg.steps * 3) + rng.random(), 5) for name in LOSSES}
            row = {"env_steps": at, "updates": at // 4, "seconds": at / 200, **values}
            row |= {f"extra/{n}": rng.random() for n in range(24)}
            row |= {"eval/return_mean": learned(at / cfg.steps, cfg.seed)} if i % 10 == 9 else {}
            file.write(json.dumps(row) + "\n")
    with (folder / "episodes.jsonl").open("w") as file:
        ends = [round(cfg.steps * ended * i / (4 * rows)) for i in range(4 * rows + 1)]
        for began, at in itertools.pairwise(ends):
            success = rng.random() < learned(at / cfg.steps, cfg.seed)
            row = {"env_steps": at, "updates": at // 4, "began": began, "length": at - began}
            file.write(json.dumps({**row, "return": 0.95 * success, "success": success}) + "\n")
    if result:
        mean = learned(ended, cfg.seed)
        content = {"run": str(folder), "task": cfg.task, "env_steps": steps[-1], "updates": steps[-1] // 4}
        content |= {"success_rate": mean, "return_mean": 0.95 * mean, "seconds": steps[-1] / 200}
        (folder / "result.json").write_text(json.dumps(content, indent=1))
        (folder / "report.html").write_text("<!doctype html><title>a report</title><p>a report</p>")
    return folder


def many(root: Path, count: int) -> Path:
    """Folders of so many runs: half of them alone, the others in a sweep and in a benchmark."""
    sweep, benchmark = root / "sweeps" / "lr", root / "benchmarks" / "grid"
    for i in range(count):
        task, seed = TASKS[i // 8 % len(TASKS)], i % 8
        cfg = config(seed, task, agent__optim__lr=LRS[i // 32 % len(LRS)])
        if i % 4 == 1:
            place = sweep / "trials" / f"{i // 4:04d}" / f"seed{seed}"
        elif i % 4 == 3:
            place = benchmark / "runs" / f"task{i // 4}-seed{seed}"
        else:
            place = root / "runs" / f"run{i:04d}-seed{seed}"
        store(place, cfg, ended=1.0 if i % 7 else 0.6, result=bool(i % 7))
    (sweep / "sweep.toml").write_text(f'[sweep]\ntask = "{TASKS[0]}"\ntrials = {count // 4}\n')
    trials = [
        {"number": i, "state": "finished", "score": 0.5, "metric": "success_rate"} for i in range(count // 4)
    ]
    (sweep / "trials.json").write_text(json.dumps(trials))
    (benchmark / "benchmark.toml").write_text(
        f'suite = "grid"\ntasks = ["grid:Catch"]\nseeds = {max(count // 4, 1)}\n'
    )
    return root


@contextlib.contextmanager
def serving(board: Board) -> Iterator[str]:
    """Where a browser finds a board, with its token."""
    server = serve.server(0, {"/": board.page}, board.posts(), find=board.find, token=board.token)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{serve.address(server)}#token={board.token}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def measured(root: Path) -> dict[str, float]:
    """Seconds that the parts of opening a board take, in this process."""
    board, seconds = Board(root), {}

    def timed(name, call):
        began = time.perf_counter()
        value = call()
        seconds[name] = round(time.perf_counter() - began, 3)
        return value

    timed("first look", board._index.look)
    rows = timed("rows as JSON", lambda: json.loads(board.rows({"since": 0}).body))["rows"]
    board._index._due = 0.0
    timed("later look, nothing changed", board._index.look)
    timed("values of a field", lambda: board.field({"name": "lr"}))
    runs = [row["id"] for row in rows if row["kind"] == "run"][:10]
    wanted = {"runs": runs, "curves": ["return", "success", "loss"]}
    timed("curves of ten runs", lambda: board.curves(wanted))
    timed("curves of ten runs again", lambda: board.curves(wanted))
    timed("differences of ten runs", lambda: board.differences({"runs": runs}))
    return {"rows": len(rows), **seconds}


def wait(page, condition: str, seconds: float = 20.0) -> None:
    """Wait for a condition on what a page knows; Playwright's own way would evaluate text in the page."""
    until = time.monotonic() + seconds
    while not page.evaluate(f"() => Boolean({condition})"):
        assert time.monotonic() < until, f"after {seconds:g} s still not: {condition}"
        page.wait_for_timeout(10)


def opened(root: Path, count: int) -> dict[str, float]:
    """Seconds until a browser shows the rows of a board that was just started."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto("about:blank")
        began = time.perf_counter()
        board = Board(root)
        with serving(board) as address:
            board.start()
            page.goto(address)
            wait(page, "shown.length > 0 && document.querySelectorAll('#table tbody tr').length > 0")
            first = time.perf_counter() - began
            wait(page, f"complete && shown.length >= {count}")
            everything = time.perf_counter() - began
            began = time.perf_counter()
            page.fill("#query", "lr=1e-3 seed=0")
            wait(page, "shown.length > 0 && shown.length < 200")
            filtering = time.perf_counter() - began
        browser.close()
    names = ("browser: first rows", "browser: all rows", "browser: filtered by two fields")
    return dict(zip(names, (round(first, 2), round(everything, 2), round(filtering, 2)), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--keep", default="", help="make them here and leave them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.keep or temporary)
        if not (root / "runs").is_dir():
            many(root, options.runs)
        print(json.dumps(measured(root) | opened(root, options.runs), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
