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


def train(
    name: str, program: list[str], flags: list[str], folder: Path, env: dict[str, str]
) -> dict[str, Any]:
    """Run one training, unless it has finished; returns its flags and what it took.

    Raises:
      SystemExit: it failed, or the folder was trained with other flags.
    """
    mark = folder / FINISHED
    if mark.exists():
        record = json.loads(mark.read_text())
        if record["flags"] != flags:
            sys.exit(f"{folder} was trained with other settings; choose another --out")
        return record
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted run has no equal continuation on both sides
    folder.parent.mkdir(parents=True, exist_ok=True)
    began, cpu = time.monotonic(), _children_cpu()
    command = [*program, *flags]
    print(f"{name}: {' '.join(command)}", flush=True)
    with open(folder.with_suffix(".log"), "w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, env=os.environ | env).returncode
    if code:
        sys.exit(f"{name} failed with exit status {code}: see {folder.with_suffix('.log')}")
    took = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(_children_cpu() - cpu, 1)}
    record = {"flags": flags, **took}
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


def programs(options: Options) -> dict[str, list[str]]:
    """What starts each side, before its flags.

    Raises:
      SystemExit: the reference or its Python is not where it should be.
    """
    reference, python = options.reference.absolute(), options.python.absolute()
    if not (reference / "dreamerv3" / "main.py").exists():
        sys.exit(f"--reference must be danijar/dreamerv3, but {reference} has no dreamerv3/main.py")
    if not python.exists():
        sys.exit(f"--python must be one with the reference's requirements, but {python} is missing")
    launch = Path(__file__).with_name("launch.py")
    return {
        "reference": [str(python), str(launch), str(reference)],
        "ours": [sys.executable, "-m", "dreamer", "train", "dreamerv3"],
    }


def train_both(options: Options) -> dict[str, list[dict[str, Any]]]:
    """Train what is missing; returns what each run took, by side and seed."""
    out = options.out.absolute()
    cache = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(out / "compiled")}
    flags = {"reference": reference_flags, "ours": our_flags}
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in flags}
    for seed in range(options.seeds):
        for side, program in programs(options).items():
            folder = out / side / f"seed{seed}"
            given = flags[side](options.settings, seed, folder)
            runs[side].append(train(f"{side}, seed {seed}", program, given, folder, cache))
    return runs


def compare(options: Options, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What goes into `parity.json`."""
    settings, seeds = options.settings, range(options.seeds)
    episodes = {
        "reference": [outcome.reference_episodes(options.out / "reference" / f"seed{n}") for n in seeds],
        "ours": [outcome.our_episodes(options.out / "ours" / f"seed{n}", settings.num_envs) for n in seeds],
    }
    sides = {side: outcome.of_side(ended, settings.steps) for side, ended in episodes.items()}
    costs = {side: [{k: run[k] for k in ("seconds", "cpu_seconds")} for run in runs[side]] for side in runs}
    versions = subprocess.run([str(options.python), "-c", VERSIONS], capture_output=True, check=True).stdout
    return {
        "settings": asdict(settings),
        "difference": outcome.difference(sides["ours"]["last_half"], sides["reference"]["last_half"]),
        **{side: sides[side] | {"cost": costs[side], "flags": runs[side][0]["flags"]} for side in sides},
        "differences": DIFFERENCES,
        "reference_sources_sha256": source_digest(options.reference),
        "reference_versions": json.loads(versions),
        "machine": machine(),
    }


def main() -> None:
    import tyro

    options = tyro.cli(Options, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    try:
        content = compare(options, train_both(options))
    except outcome.RunError as error:
        sys.exit(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    atomic.write(options.out / "parity.json", json.dumps(content, indent=1) + "\n")
    picture.draw(content, options.out / "parity.png")
    print(json.dumps(content["difference"]))


if __name__ == "__main__":
    main()
