"""What a run shows of itself fits, and says how it stands."""

import io

import pytest
from rich.console import Console

from dreamer.status import COLUMNS, History, Status, span, sparkline, status_line, status_panel

LOSSES = ("image", "reward", "con", "dyn", "rep", "policy", "value", "repval")
STATUS = Status(
    env_steps=61_234,
    total_steps=100_000,
    updates=7_654,
    seconds=3_725.0,
    steps_per_second=412.3,
    updates_per_second=51.54,
    returns=(0.5, 1.0),
    successes=(0.0, 1.0, 1.0),
    return_means=(0.0, None, 0.5, 1.0),
    success_means=(0.0, 1.0),
    losses=tuple((name, -0.0123) for name in LOSSES),
    memory=1_900_000_000,
    checkpoint_age=35.0,
)


def test_sparkline_and_history_values_match_hand_computation():
    assert sparkline([0, None, 0.5, 1], 0, 1) == "▁ ▅█"
    assert sparkline([2, 2], 2, 2) == "▁▁"
    history = History(total_steps=COLUMNS * 10)
    for step, value in [(0, 1.0), (9, 3.0), (25, 5.0), (10**9, 7.0)]:
        history.add(step, value)
    means = history.means()
    assert means[:3] == [2.0, None, 5.0] and means[-1] == 7.0 and len(means) == COLUMNS


def render(status, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(status_panel(status, "minigrid:DoorKey · runs/[x]", width))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100])
def test_status_panel_terminal_widths_fit_without_wrapping(width):
    lines = render(STATUS, width)
    assert all(len(line) == width for line in lines)
    text = "\n".join(lines)
    assert len(lines) == 9 and "…" not in text
    for part in ("61,234 / 100,000", "61%", "1:34 left", "412 steps/s", "51.5 updates/s", "0.75"):
        assert part in text
    for part in ("67%", "▁ ▅█", "1:02:05 elapsed", "repval -0.0123", "1.90 GB", "0:35 ago", "[x]"):
        assert part in text


def test_status_panel_without_data_or_narrow_is_complete():
    start = Status(0, 100, 0, 0.0, 0.0, 0.0, (), (), (), (), (), 0, None)
    assert len(render(start, 80)) == 5 and "none yet" in "".join(render(start, 80))
    assert all(len(line) == 40 for line in render(STATUS, 40))
    assert status_line(start).endswith("| ? left")


def test_span_seconds_are_formatted_as_a_clock():
    assert [span(seconds) for seconds in (None, 6.6, 750, 11_100)] == ["?", "0:07", "12:30", "3:05:00"]
