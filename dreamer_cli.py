"""Entry point of the command `dreamer`, under a name that no other package has.

A user's folder may be called envs, experiments or even dreamer, and precede ours on the path. This file
makes sure that ours are imported from beside it. `python dreamer_cli.py MODULE ARGUMENTS ...` runs one of our
modules, which is how our processes start others.
"""

import runpy
import sys
from pathlib import Path


def find() -> None:
    """Import our packages from beside this file, for all later imports too."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    try:
        import experiments  # noqa: F401  which claims the names of all three
    finally:
        del sys.path[0]


def main() -> int:
    """Run the command line of this process and return its exit code."""
    find()
    from experiments.cli import main

    return main()


if __name__ == "__main__":
    find()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
