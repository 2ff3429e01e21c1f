"""A disk that is full at any write: one sentence with the file; with space the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

from .ground import Ended, Ground, Trial

SCRIPT = """
mount -t tmpfs -o size=${1}k tmpfs "$2" || exit 77
"${@:4}" > "$3/first" 2>&1 < /dev/null & wait $!; echo $? > "$3/first.code"
mount -o remount,size=256m "$2" || exit 77
"${@:4}" > "$3/second" 2>&1 < /dev/null; echo $? > "$3/second.code"
"""
LIMIT = 240


def full(ground: Ground, count: int) -> Iterator[Trial]:
    """A file system of its own in memory, from 8 KB on and larger each time, with TensorBoard on.

    Where it is large enough for all that is written the run ends well at once.
    """
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*own, "true"], capture_output=True, check=False).returncode
    ):
        print("disk: this system lets nobody mount a file system of their own", file=sys.stderr)
        return
    for i in range(count):
        size = int(8 * 1.6**i)
        disk, said = ground.place("disk"), ground.place("said")
        disk.mkdir()
        said.mkdir()
        words = ground.train(disk / "run", steps=400, log__tensorboard=True)
        command = [sys.executable, "-m", "experiments.cli", *words]
        script = ["bash", "-c", SCRIPT, "bash", str(size), str(disk), str(said), *command]
        try:
            code = subprocess.run(
                [*own, *script], env=ground.environment, cwd=ground.folder, timeout=LIMIT, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            yield Trial(f"{size} KB", f"hangs: {[p.name for p in said.iterdir()]}")
            continue
        if code == 77:
            print("disk: this system lets nobody mount a file system in memory", file=sys.stderr)
            return
        first, second = (
            Ended(int((said / f"{name}.code").read_text()), (said / name).read_text(errors="replace"), 0.0)
            for name in ("first", "second")
        )
        why = first.refused("No space left") if first.code else first.went_well()
        if "needs" in first.text and "are free" in first.text:
            why = first.plain()
        after = second.went_well()
        yield Trial(f"{size} KB, exit code {first.code}", why or (after and f"with space again: {after}"))
