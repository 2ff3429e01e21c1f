"""How much of a preset is luck: train it with many seeds, as it is and disturbed.

python -m experiments.chance OUT --seeds 20 [--disturb] [--members] [what follows `dreamer train`]

Every seed is a run in OUT/<seed>. `--disturb` flips the last bit of every parameter at the start, which does
to a run what another processor or compiler does: the same seed takes a different course. `--members` trains
all of them as one population in OUT instead (JAX environments). Finished runs are skipped, so the same
command resumes after an interruption. At the end it prints how many reached 95 of 100, the median and the
slowest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from experiments import machine

ENOUGH = 0.95


def disturbed(params: Any) -> Any:
    """The same parameters with the last bit of each number flipped: a relative change of about 1e-7."""
    flip = lambda x: jax.lax.bitcast_convert_type(
        jax.lax.bitcast_convert_type(x, jnp.uint32) ^ jnp.uint32(1), jnp.float32
    )
    return jax.tree.map(flip, params)


@contextlib.contextmanager
def disturbance() -> Iterator[None]:
    """Within it every agent starts from disturbed parameters."""
    from dreamer.agent import Agent

    init = Agent.init

    def start(self: Agent, key: jax.Array) -> Any:
        state = init(self, key)
        params = disturbed(state.params)
        return state._replace(
            params=params, slow={**state.slow, "value": jax.tree.map(jnp.copy, params["value"])}
        )

    with mock.patch.object(Agent, "init", start):
        yield


def summary(results: Sequence[dict[str, Any]]) -> str:
    """A summary of many runs of one preset."""
    rates = np.array([result["success_rate"] for result in results])
    sampled = np.array([result["sampled"]["success_rate"] for result in results])
    lines = [
        f"{(rates >= ENOUGH).sum()} of {len(rates)} reach {ENOUGH:.0%} (sampled {(sampled >= ENOUGH).sum()})"
    ]
    ends = [result.get("solved_at") or result for result in results]
    for key, unit in (("env_steps", "steps"), ("updates", "updates"), ("seconds", "s")):
        values = [end[key] for end in ends]
        lines.append(f"median {np.median(values):,.0f} {unit}, slowest {max(values):,.0f}")
    return "; ".join(lines)


def results(folder: Path) -> list[dict[str, Any]]:
    """The results of all finished runs in OUT."""
    paths = sorted(folder.glob("members/*/result.json")) or sorted(folder.glob("*/result.json"))
    return [json.loads(path.read_text()) for path in paths]


def main(words: Sequence[str]) -> int:
    """Train the missing runs, then print a summary."""
    parser = argparse.ArgumentParser(prog="python -m experiments.chance", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--disturb", action="store_true")
    parser.add_argument("--members", action="store_true")
    asked, rest = parser.parse_known_args(words)
    from experiments import cli, presets

    if not {"--task", *presets.PRESETS} & {word.partition("=")[0] for word in rest}:
        rest = ["quickstart", *rest]
    report = [] if "--report.episodes" in rest else ["--report.episodes", "0"]
    with disturbance() if asked.disturb else contextlib.nullcontext():
        if asked.members:
            runs = [["--seeds", str(asked.seeds), "--run", str(asked.out)]]
        else:
            new = [i for i in range(asked.seeds) if not (asked.out / f"{i:02d}" / "result.json").exists()]
            runs = [["--seed", str(i), "--run", str(asked.out / f"{i:02d}")] for i in new]
        for run in runs:
            if code := cli.main(["train", *rest, *report, *run]):
                return code
            jax.clear_caches()
    print(summary(results(asked.out)))
    return 0


if __name__ == "__main__":
    machine.begin()  # with large pages, as the console script
    sys.exit(main(sys.argv[1:]))
