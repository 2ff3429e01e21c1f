"""Former names of the leaves of a checkpoint, so that old checkpoints load under the present names.

Every change of the state's tree is one function here, named after the change, and one version of the format.
"""

from collections.abc import Callable


def slow_and_stats(name: str) -> str:
    """Format 3: slow copies by module and running statistics by name, where there were one of each."""
    for old, new in (("slow_value/", "slow/value/"), ("returns/", "stats/returns/")):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


MIGRATIONS: dict[int, Callable[[str], str]] = {2: slow_and_stats}
"""{the last version of the format with the old names: from an old path of a leaf to the new one}."""


def renamed(name: str, version: int) -> str:
    """The present path of a leaf in a checkpoint of some version, as `slow/value/out/bias`."""
    for last, migrate in sorted(MIGRATIONS.items()):
        name = migrate(name) if version <= last else name
    return name
