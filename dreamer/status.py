"""Status of a run at one instant, shown as a plain line, a panel and sparklines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = 28
"""Characters of a sparkline: the whole run, from its first step to its last."""


@dataclass(frozen=True)
class Status:
    """Status of the run at one instant."""

    env_steps: int
    total_steps: int
    updates: int
    seconds: float
    steps_per_second: float
    updates_per_second: float
    returns: tuple[float, ...]
    """Of the most recent episodes."""
    successes: tuple[float, ...]
    """Of the most recent episodes that report it."""
    return_means: tuple[float | None, ...]
    success_means: tuple[float | None, ...]
    """Over the run, for sparklines."""
    losses: tuple[tuple[str, float], ...]
    memory: int
    """Bytes."""
    checkpoint_age: float | None
    """Seconds; None before the first."""

    @property
    def eta(self) -> float | None:
        """Seconds until the last step at the present speed."""
        left = max(self.total_steps - self.env_steps, 0)
        return left / self.steps_per_second if self.steps_per_second else None


def status_line(status: Status) -> str:
    """One plain line."""
    p = status
    parts = [
        f"{p.env_steps:,}/{p.total_steps:,} steps ({_percent(p)})",
        f"{p.updates:,} updates",
        f"{p.steps_per_second:.0f} steps/s",
        f"{p.updates_per_second:.1f} updates/s",
        f"return {_mean(p.returns):.3g}" if p.returns else "",
        f"success {_mean(p.successes):.0%}" if p.successes else "",
        " ".join(f"{name} {value:.3g}" for name, value in p.losses),
        f"{span(p.seconds)} elapsed",
        f"{span(p.eta)} left",
    ]
    return " | ".join(part for part in parts if part)


def status_panel(status: Status, title: str, width: int) -> Any:
    """A box of at most `width` characters; what does not fit is cut, never wrapped."""
    from rich import box
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    p, dot = status, " · "
    bar = max(width - 60, 8)
    done = min(bar * p.env_steps // p.total_steps, bar)
    steps = Text.assemble(
        (f"{p.env_steps:,}", "bold"),
        f" / {p.total_steps:,}  ",
        ("━" * done, "cyan"),
        ("─" * (bar - done), "dim"),
        f" {_percent(p)}  {span(p.eta)} left",
    )
    rows = [
        ("steps", steps),
        (
            "speed",
            f"{p.steps_per_second:,.0f} steps/s{dot}{p.updates_per_second:.1f} updates/s{dot}"
            f"{p.updates:,} updates{dot}{span(p.seconds)} elapsed",
        ),
    ]
    if p.returns:
        known = [mean for mean in p.return_means if mean is not None]
        curve = sparkline(p.return_means, min(known), max(known))
        rows.append(("return", _measured(f"{_mean(p.returns):.3g}", curve, len(p.returns))))
    if p.successes:
        curve = sparkline(p.success_means, 0.0, 1.0)
        rows.append(("success", _measured(f"{_mean(p.successes):.0%}", curve, len(p.successes))))
    if p.losses:
        rows += zip(("losses", ""), _fill(p.losses, width - 15), strict=False)  # two lines at most
    age = "none yet" if p.checkpoint_age is None else f"{span(p.checkpoint_age)} ago"
    rows.append(("memory", f"{p.memory / 1e9:.2f} GB{dot}checkpoint {age}"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=7)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return Panel(table, title=Text(title, "bold"), width=width, box=box.ROUNDED, title_align="left")


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """One character a value between `low` and `high`; a gap where there is None."""
    blocks = "▁▂▃▄▅▆▇█"
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if v is None else blocks[round((v - low) * scale)] for v in values)


class History:
    """Means of a quantity over the run, in `COLUMNS` equal stretches of environment steps."""

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._sum = [0.0] * COLUMNS
        self._count = [0] * COLUMNS

    def add(self, env_steps: int, value: float) -> None:
        """Count `value` into the column of the curve that `env_steps` falls into."""
        column = min(env_steps * COLUMNS // self._total, COLUMNS - 1)
        self._sum[column] += value
        self._count[column] += 1

    def means(self) -> list[float | None]:
        """From the first stretch to the last that has a value; None where one has none."""
        reached = max((i + 1 for i, count in enumerate(self._count) if count), default=0)
        pairs = zip(self._sum[:reached], self._count[:reached], strict=True)
        return [total / count if count else None for total, count in pairs]


def span(seconds: float | None) -> str:
    """Like 0:07, 12:30, 3:05:00."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _measured(mean: str, curve: str, count: int) -> str:
    return f"{mean:<7} {curve:<{COLUMNS}}  last {count} episodes"


def _fill(losses: Sequence[tuple[str, float]], width: int) -> list[str]:
    """Names and values in lines of at most `width` characters, none cut in two."""
    lines = [""]
    for name, value in losses:
        word = f"{name} {value:.3g}"
        if lines[-1] and len(lines[-1]) + 2 + len(word) > width:
            lines.append("")
        lines[-1] += f"{'  ' if lines[-1] else ''}{word}"
    return lines


def _percent(status: Status) -> str:
    return f"{min(status.env_steps / status.total_steps, 1.0):.0%}"
