"""Train both sides, seed by seed, and compare them. A run that has finished is not repeated."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dreamer import atomic
from experiments.parity import outcome, picture
from experiments.parity.settings import DIFFERENCES, Settings, our_flags, reference_flags
from experiments.results_table import machine

FINISHED = "finished.json"
PACKAGES = ("jax", "jaxlib", "numpy", "optax", "ninjax", "elements", "portal", "gymnasium")
VERSIONS = (
    "import json, sys; from importlib.metadata import version; "
    f"print(json.dumps({{p: version(p) for p in {PACKAGES!r}}}))"
)


@dataclass(frozen=True)
class Options:
    """Where both sides are, and how many seeds of each to train."""

    settings: Settings
    """What both are trained with."""
    reference: Path = Path("dreamerv3")
    """Folder of danijar/dreamerv3, as published."""
    python: Path = Path("python")
    """The Python that has its requirements."""
    out: Path = Path("parity")
    """Where runs and results go."""
    seeds: int = 5
    """Seeds of each side, from 0 on."""


def train(name: str, command: list[str], folder: Path, env: dict[str, str]) -> dict[str, Any]:
    """Run one training, unless it has finished; returns its command and what it took.

    Raises:
      SystemExit: it failed, or the folder was trained with another command.
    """
    mark = folder / FINISHED
    if mark.exists():
        record = json.loads(mark.read_text())
        if record["command"] != command:
            sys.exit(f"{folder} was trained with other settings; choose another --out")
        return record
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted run has no equal continuation on both sides
    folder.parent.mkdir(parents=True, exist_ok=True)
    began, cpu = time.monotonic(), _children_cpu()
    print(f"{name}: {' '.join(command)}", flush=True)
    with open(folder.with_suffix(".log"), "w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, env=os.environ | env).returncode
    if code:
        sys.exit(f"{name} failed with exit status {code}: see {folder.with_suffix('.log')}")
    took = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(_children_cpu() - cpu, 1)}
    record = {"command": command, **took}
    atomic.write(mark, json.dumps(record) + "\n")
    print(f"{name}: {took}", flush=True)
    return record


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def source_digest(reference: Path) -> str:
    """SHA-256 over the reference's Python files and configurations, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(p for end in ("*.py", "*.yaml") for p in reference.rglob(end)):
        digest.update(str(path.relative_to(reference)).encode() + path.read_bytes())
    return digest.hexdigest()


def compare(options: Options) -> dict[str, Any]:
    """Train what is missing and compare; returns what goes into `parity.json`."""
    settings = options.settings
    launch = [str(options.python), str(Path(__file__).with_name("launch.py")), str(options.reference)]
    ours = [sys.executable, "-m", "dreamer", "train", "dreamerv3"]
    cache = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(options.out.absolute() / "compiled")}
    episodes: dict[str, list[list[outcome.Episode]]] = {"reference": [], "ours": []}
    runs: dict[str, list[dict[str, Any]]] = {"reference": [], "ours": []}
    for seed in range(options.seeds):
        folders = {side: options.out.absolute() / side / f"seed{seed}" for side in runs}
        theirs = launch + reference_flags(settings, seed, folders["reference"])
        mine = ours + our_flags(settings, seed, folders["ours"])
        runs["reference"].append(train(f"reference, seed {seed}", theirs, folders["reference"], cache))
        runs["ours"].append(train(f"ours, seed {seed}", mine, folders["ours"], cache))
        episodes["reference"].append(outcome.reference_episodes(folders["reference"]))
        episodes["ours"].append(outcome.our_episodes(folders["ours"], settings.num_envs))
    sides = {side: outcome.of_side(ended, settings.steps) for side, ended in episodes.items()}
    costs = {side: [{k: run[k] for k in ("seconds", "cpu_seconds")} for run in runs[side]] for side in runs}
    return {
        "settings": asdict(settings),
        "difference": outcome.difference(sides["ours"]["last_half"], sides["reference"]["last_half"]),
        **{side: sides[side] | {"cost": costs[side], "command": runs[side][0]["command"]} for side in sides},
        "differences": DIFFERENCES,
        "reference_sources_sha256": source_digest(options.reference),
        "reference_versions": json.loads(
            subprocess.run([str(options.python), "-c", VERSIONS], capture_output=True, check=True).stdout
        ),
        "machine": machine(),
    }


def main() -> None:
    import tyro

    options = tyro.cli(Options, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    try:
        content = compare(options)
    except outcome.RunError as error:
        sys.exit(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    atomic.write(options.out / "parity.json", json.dumps(content, indent=1) + "\n")
    picture.draw(content, options.out / "parity.png")
    print(json.dumps(content["difference"]))


if __name__ == "__main__":
    main()
