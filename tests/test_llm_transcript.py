import pytest

from dreamer.schema import ConfigError
from experiments.llm.transcript import COUNTED, Transcript, call, read, tally
from experiments.llm.wire import Reply, Usage

ODD = "a dör \u2028 and half a \ud83d"
FINE = dict.fromkeys(COUNTED, False)
REPLY = Reply("go", usage=Usage(10, 2, 4, None, 1), usd=0.25, model="m-1", latency=0.5)


def line(*replies, rung="json", **flaws):
    return {"step": 0, "calls": [call(reply) for reply in replies], "rung": rung} | FINE | flaws


def test_read_written_transcript_returns_lines_and_result(tmp_path):
    path = tmp_path / "task" / "llm" / "7.jsonl"
    with Transcript(path) as transcript:
        transcript.write({"step": 0, "text": ODD})
        assert read(path).result is None  # on the disk before the episode is over
        transcript.finish({"return": 1.0})
        assert transcript.lines[-1] == {"result": {"return": 1.0}}
    lines, result, error = read(path)
    assert lines == ({"step": 0, "text": ODD},) and result == {"return": 1.0} and error is None


def test_write_non_ascii_text_is_readable_in_the_file(tmp_path):
    with Transcript(tmp_path / "t") as transcript:
        transcript.write({"text": "eine Tür"})
    assert "eine Tür" in (tmp_path / "t").read_text(encoding="utf-8")


def test_read_missing_file_returns_an_unfinished_episode(tmp_path):
    assert read(tmp_path / "none") == ((), None, None)


def test_read_truncated_file_omits_the_incomplete_line(tmp_path):
    path = tmp_path / "t"
    with Transcript(path) as transcript:
        transcript.write({"step": 0})
        transcript.finish({"return": 1.0})
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        result = read(path).result
        assert result is None or end == len(whole) - 1  # all but the newline


def test_read_failed_episode_returns_the_error(tmp_path):
    with Transcript(tmp_path / "t") as transcript:
        transcript.write({"step": 0})
        transcript.fail("no connection")
    assert read(tmp_path / "t") == (({"step": 0},), None, "no connection")


def test_transcript_reopened_path_replaces_the_old_lines(tmp_path):
    for text in ("old", "new"):
        with Transcript(tmp_path / "t") as transcript:
            transcript.write({"step": 0, "text": text})
    assert [one["text"] for one in read(tmp_path / "t").lines] == ["new"]


def test_transcript_unwritable_path_raises_config_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        Transcript(tmp_path / "file" / "t")


def test_tally_mixed_calls_matches_hand_computation():
    second = REPLY._replace(
        usage=Usage(20, 3, 6, None, 2), usd=0.5, replayed=True, failures=("timeout", "HTTP 500")
    )
    told = tally(
        [
            line(REPLY),
            line(REPLY, second, rung="default", invalid=True, reasked=True, defaulted=True),
            {"step": 2, "is_last": True},
            {"note": None, "calls": [call(second)]},
        ]
    )
    assert (told.decisions, told.calls, told.replayed) == (2, 4, 2)
    assert (told.input, told.output, told.cached, told.reasoning, told.usd) == (60, 10, 20, 6, 1.5)
    assert (told.invalid, told.empty, told.truncated, told.reasked, told.defaulted) == (1, 0, 0, 1, 1)
    assert told.rungs == {"default": 1, "json": 1}
    assert told.failures == {"HTTP 500": 2, "timeout": 2}
    assert told.models == ("m-1",)


def test_tally_one_call_without_usage_has_unknown_sums():
    told = tally([line(REPLY), line(REPLY._replace(usage=None, usd=None))])
    assert told.input is told.output is told.usd is None
    assert told.cached == 4 and told.reasoning == 1  # lower bounds


def test_tally_field_reported_by_no_call_is_none_instead_of_zero():
    told = tally([line(REPLY._replace(usage=Usage(1, 1), usd=None))])
    assert (told.input, told.cached, told.reasoning, told.usd) == (1, None, None, None)


def test_tally_many_small_prices_sums_exactly():
    assert tally([line(REPLY._replace(usd=0.1))] * 10).usd == 1.0


def test_tally_without_calls_is_zero():
    told = tally([{"step": 0, "action": "x"}])
    assert (told.calls, told.input, told.usd, told.decisions) == (0, 0, 0.0, 0)
