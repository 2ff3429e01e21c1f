"""What a run writes is valid at every moment."""

import errno
import io
import json
import mmap
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from dreamer import trackers
from dreamer.logger import Logger, LoggerError, Recent, last_rows, memory_used, read_rows


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def quiet(folder, clock, **kwargs):
    console = Console(file=io.StringIO(), width=80)
    kwargs = {"total_steps": 1000, "tensorboard": False, "console": console, **kwargs}
    return Logger(folder, clock=clock, **kwargs)


def shown(log):
    return log._console.file.getvalue().splitlines()


def test_logger_metrics_rows_are_json_with_step_update_and_second(tmp_path, clock):
    with quiet(tmp_path, clock, seconds=50.0) as log:
        log.metrics({"loss/dyn": np.float32(0.5)})
        clock.now += 2.5
        log.tick(80, 7)
        log.metrics({"a": np.nan, "b": -np.inf, "c": np.array(3), "d": np.bool_(True), "e": None})
        assert log.seconds == 52.5
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"env_steps": 0, "updates": 0, "seconds": 50.0, "loss/dyn": 0.5},
        {"env_steps": 80, "updates": 7, "seconds": 52.5}
        | {"a": None, "b": None, "c": 3, "d": True, "e": None},
    ]


def test_logger_longest_episode_survives_rewind_after_a_restart(tmp_path, clock):
    with quiet(tmp_path, clock) as log:
        assert log.longest_episode == 0
        for steps, length, kind in ((10, 9, "train"), (20, 4, "train"), (30, 50, "eval"), (40, 12, "train")):
            log.tick(steps, 0)
            log.episode({"return": 0.0, "length": length, "kind": kind})
        assert log.longest_episode == 12
    with quiet(tmp_path, clock) as log:
        log.rewind(30)
        assert log.longest_episode == 9


def test_logger_episode_row_has_the_required_and_extra_fields(tmp_path, clock):
    with quiet(tmp_path, clock) as log:
        log.tick(10, 2)
        log.episode({"return": np.float64(1.5), "length": np.int64(9)})
        log.episode({"return": 0, "length": 3, "success": np.True_, "kind": "eval", "seed": 4})
        log.episode({"return": 1, "length": 1, "success": False, "env_steps": 9, "updates": 1})
        with pytest.raises(LoggerError, match="needs return and length, but has length"):
            log.episode({"length": 3})
    at = {"env_steps": 10, "updates": 2}
    assert read_rows(tmp_path / "episodes.jsonl") == [
        {**at, "return": 1.5, "length": 9, "success": None},
        {**at, "return": 0, "length": 3, "success": True, "kind": "eval", "seed": 4},
        {"env_steps": 9, "updates": 1, "return": 1, "length": 1, "success": False},
    ]


def test_logger_metrics_value_that_is_no_number_raises_naming_it(tmp_path, clock):
    with (
        quiet(tmp_path, clock) as log,
        pytest.raises(LoggerError, match="grad is not one number but ndarray"),
    ):
        log.metrics({"grad": np.zeros(3)})
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_logger_metrics_row_is_on_disk_when_the_call_returns(tmp_path, clock):
    with quiet(tmp_path, clock) as log:
        for step in range(3):
            log.tick(step, 0)
            log.metrics({})
            assert len(read_rows(tmp_path / "metrics.jsonl")) == step + 1


def test_logger_rewind_by_env_steps_drops_exactly_the_later_rows(tmp_path, clock):
    with quiet(tmp_path, clock) as log:
        for step in range(0, 100, 10):
            log.tick(step, step)
            log.metrics({"x": step})
            log.episode({"return": float(step), "length": 1, "success": step >= 50})
    before = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"env_steps": 40, "tor')
    with quiet(tmp_path, clock, seconds=9.0) as log:
        log.rewind(60)
        assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(before[:7])
        status = log.status()
        assert status.returns == (0, 10, 20, 30, 40, 50, 60) and sum(status.successes) == 2
        log.tick(70, 70)
        log.metrics({"x": 1})
    assert [row["env_steps"] for row in read_rows(tmp_path / "metrics.jsonl")] == list(range(0, 80, 10))
    assert not list(tmp_path.glob(".*"))


def test_logger_rewind_by_updates_at_equal_env_steps_drops_the_later_rows(tmp_path, clock):
    with quiet(tmp_path, clock) as log:
        for updates in range(5):
            log.tick(40, updates)
            log.metrics({"x": updates})
            log.episode({"return": 1.0, "length": 1})
    with quiet(tmp_path, clock) as log:
        assert log.rewind(40, 2) == 4
        assert (log.env_steps, log.updates) == (40, 2)
    for name in ("metrics", "episodes"):
        assert [row["updates"] for row in read_rows(tmp_path / f"{name}.jsonl")] == [0, 1, 2]


def test_recent_episodes_of_different_length_are_weighted_by_start():
    """A success takes 10 steps, a failure 100, and every other episode that begins succeeds."""
    recent, now = Recent(), 0
    running: list[tuple[int, int, bool]] = []  # end, began, success
    shares, by_end = [], []
    for now in range(6000):
        if now % 10 == 0:
            success = (now // 10) % 2 == 0
            running.append((now + (10 if success else 100), now, success))
        for ended in [episode for episode in running if episode[0] == now]:
            running.remove(ended)
            recent.add({"env_steps": now, "began": ended[1], "return": 0.0, "success": ended[2]})
            by_end.append(ended[2])
        recent.settle(min(began for _, began, _ in running))
        shares += [np.mean(recent.successes)] if len(recent.successes) == 100 else []
    assert set(shares) == {0.5}
    assert all(by_end[:5]), "what the first ones to end would say"


def test_means_over_the_run_count_episodes_where_they_began(tmp_path):
    """Of two copies one succeeds at once and again, and the other fails after half of the run."""
    with quiet(tmp_path, Clock()) as log:
        total = log._total_steps
        for end, began, success, running in (
            (total // 10, 0, True, 0),
            (total // 5, total // 10, True, 0),
            (total // 2, 0, False, total // 5),
        ):
            log.tick(end, 0, running)
            log.episode({"return": 0.0, "length": 1, "success": success, "began": began})
        log.tick(total // 2, 0, total // 2)
        means = log.status().success_means
    assert means[0] == 0.5 and [mean for mean in means[1:] if mean is not None] == [1.0]


def test_recent_episode_that_never_ends_holds_back_a_bounded_number():
    recent = Recent()
    recent.settle(5)
    for i in range(150):
        recent.add({"env_steps": 100 + i, "began": 50 + i, "return": float(i)})
    assert list(recent.returns) == [float(i) for i in range(50)]


@pytest.mark.parametrize(
    "row",
    [
        '{"return": 1}',
        '{"env_steps": null, "return": 1}',
        '{"env_steps": "x"}',
        '{"env_steps": 7}',
        "[7]",
        "7",
    ],
)
def test_logger_rewind_rows_with_missing_fields_are_ignored(tmp_path, clock, row):
    path = tmp_path / "episodes.jsonl"
    whole = '{"env_steps": 5, "return": 2.0, "length": 3, "success": null}'
    path.write_text(f"{row}\n{whole}\n" + whole.replace("5", "50", 1) + "\n")
    with quiet(tmp_path, clock) as log:
        assert log.rewind(10) == 1
        assert (log.longest_episode, log.status().returns) == (3, (2.0,))
    assert read_rows(path, "env_steps", "return") == [
        {"env_steps": 5, "return": 2.0, "length": 3, "success": None}
    ]


def test_read_rows_truncated_line_is_skipped_and_the_next_row_is_kept(tmp_path, clock):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"env_steps": 1}\n{"env_steps": 2, "lo')
    assert read_rows(path) == [{"env_steps": 1}]
    with quiet(tmp_path, clock) as log:
        log.tick(3, 0)
        log.metrics({})
    assert [row["env_steps"] for row in read_rows(path)] == [1, 3]
    assert path.read_bytes().count(b"\n") == 2
    assert read_rows(tmp_path / "absent.jsonl") == []


def test_logger_status_speeds_are_averages_of_the_last_30_seconds(tmp_path, clock):
    log = quiet(tmp_path, clock)
    for second in range(100):
        clock.now = 100.0 + second
        speed = 1 if second < 50 else 5
        log.tick(log.env_steps + speed, log.updates + 2 * speed)
    status = log.status()
    assert status.steps_per_second == pytest.approx(5.0)
    assert status.updates_per_second == pytest.approx(10.0)
    assert status.eta == pytest.approx((1000 - 300) / 5)
    log.close()


def test_logger_without_a_terminal_prints_plain_lines_periodically(tmp_path, clock):
    with quiet(tmp_path, clock, total_steps=100, every=10.0) as log:
        for second in range(25):
            clock.now = 100.0 + second
            log.tick(second, 2 * second)
        log.notice("saved [bold]a checkpoint[/bold] " + "x" * 100)
        log.episode({"return": 1.0, "length": 2, "success": True})
    lines = shown(log)
    assert len(lines) == 4, "at 10 s, at 20 s, the notice, the end"
    assert lines[0] == "10/100 steps (10%) | 20 updates | 1 steps/s | 2.0 updates/s" + (
        " | 0:10 elapsed | 1:30 left"
    )
    assert lines[2] == "saved [bold]a checkpoint[/bold] " + "x" * 100
    assert "return 1 | success 100%" in lines[3]
    log.close()
    assert len(shown(log)) == 4


def test_logger_last_line_stands_before_what_is_said_of_the_end(tmp_path, clock):
    with quiet(tmp_path, clock, total_steps=100) as log:
        log.tick(30, 3)
        log.show()
        log.notice("solved")
        log.show()
    lines = shown(log)
    assert [line.split("/")[0] for line in lines] == ["30", "solved"]


def test_logger_resumed_run_that_is_over_has_no_line_of_progress(tmp_path, clock):
    with quiet(tmp_path, clock) as log:
        log.rewind(30, 3)
        log.tick(30, 3)
        log.notice("solved")
    assert shown(log) == ["solved"]


def test_logger_progress_is_printed_to_stderr_only(tmp_path, capsys):
    with Logger(tmp_path, total_steps=10, tensorboard=False) as log:
        log.tick(5, 1)
        log.notice("hello")
    out, err = capsys.readouterr()
    assert out == "" and "hello\n" in err and "5/10 steps (50%)" in err


def test_logger_exception_in_a_terminal_restores_the_cursor(tmp_path, clock, monkeypatch):
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with pytest.raises(KeyboardInterrupt), quiet(tmp_path, clock, console=console) as log:
        log.tick(500, 3)
        log.notice("a notice")
        raise KeyboardInterrupt
    text = console.file.getvalue()
    assert "500" in text and "a notice\n" in text
    assert text.index("\x1b[?25l") < text.rindex("\x1b[?25h"), "the cursor is hidden, then shown"

    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with quiet(tmp_path, clock, console=console):
        pass
    assert "\x1b[?25l" not in console.file.getvalue()


def tensorboard_scalars(folder):
    """(tag, step, value) of every event file, read as the TFRecord format says."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            content = content[16 + length :]
    return found


def test_logger_tensorboard_events_hold_every_scalar(tmp_path, clock):
    with quiet(tmp_path, clock, tensorboard=True) as log:
        assert not (tmp_path / "tensorboard").exists(), "nothing to say yet"
        log.tick(10, 1)
        log.metrics({"loss/dyn": 0.5, "bad": np.nan})
        log.episode({"return": 2.0, "length": 4, "success": True})
        log.episode({"return": 3.0, "length": 5, "kind": "eval"})
        log.rewind(5)
        log.tick(6, 2)
        log.metrics({"loss/dyn": 0.25})
    scalars = tensorboard_scalars(tmp_path / "tensorboard")
    assert set(scalars) == {
        ("loss/dyn", 10, 0.5),
        ("episode/return", 10, 2.0),
        ("episode/length", 10, 4.0),
        ("episode/success", 10, 1.0),
        ("eval/return", 10, 3.0),
        ("eval/length", 10, 5.0),
        ("loss/dyn", 6, 0.25),
    }


class Full:
    """A file on a full disk, which takes a part of what is written."""

    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115
        self.fileno, self.close = self.file.fileno, self.file.close

    def write(self, data):
        return self.file.write(data[:5])


def test_logger_full_disk_raises_naming_the_file_and_keeps_it_intact(tmp_path, clock):
    with quiet(tmp_path, clock) as log:
        log.metrics({"x": 1})
        log._metrics.close()
        log._metrics._file = Full(tmp_path / "metrics.jsonl")
        with pytest.raises(LoggerError, match=r"metrics.jsonl cannot be written \(No space left on device\)"):
            log.metrics({"x": 2})
        log._metrics.close()
        log.metrics({"x": 3})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["x"] for line in lines] == [1, 3]


@pytest.mark.parametrize("method", ["write", "flush", "close"])
def test_logger_failing_tensorboard_is_disabled_with_one_message(tmp_path, clock, monkeypatch, method):
    from tensorboardX.record_writer import RecordWriter

    does = getattr(RecordWriter, method)

    def fail(*given):
        does(*given)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, method, fail)
    monkeypatch.setattr(trackers, "FLUSH_SECONDS", -1)
    with quiet(tmp_path, clock, tensorboard=True) as log:
        for x in range(100):
            log.metrics({"x": x})
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 100
    told = [line for line in shown(log) if "TensorBoard" in line]
    assert len(told) == 1 and "No space left" in "".join(shown(log))


@pytest.mark.parametrize("method", ["init", "define_metric", "log", "finish"])
def test_logger_failing_wandb_is_disabled_with_one_message(tmp_path, clock, monkeypatch, method):
    def fail(*_, **__):
        raise RuntimeError("the network\nis gone")

    nothing = lambda *_, **__: None
    run = SimpleNamespace(**{"define_metric": nothing, "log": nothing, "finish": nothing, method: fail})
    wandb = SimpleNamespace(init=fail if method == "init" else lambda **_: run)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with quiet(tmp_path, clock, wandb="project") as log:
        log.metrics({"x": 1})
        log.metrics({"x": 2})
    told = "Weights & Biases failed and gets nothing more of this run: the network is gone"
    assert " ".join(shown(log)).count(told) == 1


def test_logger_closed_terminal_does_not_stop_logging(tmp_path, clock):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with quiet(tmp_path, clock, console=Console(file=Gone())) as log:
        log.notice("hello")
        log.metrics({"x": 1})
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 1


def test_logger_missing_wandb_raises_with_install_command(tmp_path, clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(LoggerError, match=r"pip install 'dreamer-toolkit\[wandb\]'"):
        quiet(tmp_path, clock, wandb="project")


def test_memory_used_allocated_block_is_counted():
    before = memory_used()
    block = mmap.mmap(-1, 50_000_000)  # not from what was freed before
    np.frombuffer(block, np.uint8)[:] = 1
    assert memory_used() - before > 40_000_000
    assert len(block) == 50_000_000


def test_logger_episode_with_what_a_task_says_keeps_it_in_the_row(tmp_path):
    with Logger(tmp_path, total_steps=10, tensorboard=False) as logger:
        logger.episode({"return": 1.0, "length": 3, "log": {"score": 2.0, "achievements": [1, 0]}})
        logger.episode({"return": 1.0, "length": 3, "log": {}})
    first, second = read_rows(tmp_path / "episodes.jsonl")
    assert first["log"] == {"score": 2.0, "achievements": [1, 0]} and "log" not in second


def test_last_rows_are_the_whole_ones_at_the_end(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 10}\n{"n": 20}\n{"x": 30}\n{"n": 4')
    assert last_rows(path) == [{"n": 10}, {"n": 20}, {"x": 30}]
    assert last_rows(path, "n", size=30) == [{"n": 20}]  # begins in the first row
    assert last_rows(tmp_path / "none") == []
