"""`dreamer envs`: which environments there are, and whether one fulfils its contract."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import asdict
from typing import Any

import envs
from dreamer.config import EnvConfig
from envs.make import Suite


def show(*, json: bool) -> int:
    """List the suites, installed or not; the exit code."""
    rows = [_row(suite) for suite in envs.suites()]
    if json:
        print(jsonlib.dumps({"suites": rows}))
        return 0
    for row in rows:
        where = "on the device" if row["on_device"] else "on the host"
        tasks = f"{row['tasks']} tasks" if row["tasks"] else "worlds of your own"
        state = f"{tasks}, {where}" if row["installed"] else f"not installed: {row['install']}"
        print(f"{row['name']:<10} {state}")
        if any(row["obs"]):
            print(f"{'':<10} observations (--env.obs): {', '.join(row['obs'])}")
        print(f"{'':<10} such as {'  '.join(row['examples'])}")
    print("\nYour own: gymnasium:my_package.module:My-v0; try it with dreamer envs --check.", file=sys.stderr)
    return 0


def _row(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "installed": suite.installed,
        "on_device": suite.on_device,
        "install": suite.how,
        "tasks": len(suite.tasks()),
        "obs": list(suite.obs) if suite.installed else [],
        "examples": list(suite.examples),
    }


def check(task: str, cfg: EnvConfig = EnvConfig(), *, json: bool) -> int:
    """Play a task and print the findings; the exit code is 1 if a check fails.

    Args:
      cfg: how the task is made.

    Raises:
      UnknownTask, MissingExtra: the task cannot be made.
    """
    findings = envs.check(task, **{k: v for k, v in cfg.changed.items() if k != "timeout"})
    failed = [finding for finding in findings if finding.status == "fail"]
    if json:
        rows = [asdict(finding) for finding in findings]
        print(jsonlib.dumps({"task": envs.canonical(task), "ok": not failed, "findings": rows}))
    else:
        for finding in findings:
            print(finding)
        what = f"breaks {len(failed)} of its promises" if failed else "keeps its promises"
        print(f"\n{task} {what}.", file=sys.stderr)
    return 1 if failed else 0
