import pytest

from dreamer.schema import ConfigError
from experiments.llm.transcript import COUNTED, Transcript, call, read, tally
from experiments.llm.wire import Reply, Usage

ODD = "a dör \u2028 and half a \ud83d"
FINE = dict.fromkeys(COUNTED, False)
REPLY = Reply("go", usage=Usage(10, 2, 4, None, 1), usd=0.25, model="m-1", latency=0.5)


def line(*replies, rung="json", **flaws):
    return {"step": 0, "calls": [call(reply) for reply in replies], "rung": rung} | FINE | flaws


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "task" / "llm" / "7.jsonl"
    with Transcript(path) as transcript:
        transcript.write({"step": 0, "text": ODD})
        assert read(path).result is None  # on the disk before the episode is over
        transcript.finish({"return": 1.0})
        assert transcript.lines[-1] == {"result": {"return": 1.0}}
    lines, result, error = read(path)
    assert lines == ({"step": 0, "text": ODD},) and result == {"return": 1.0} and error is None


def test_words_are_readable_in_the_file(tmp_path):
    with Transcript(tmp_path / "t") as transcript:
        transcript.write({"text": "eine Tür"})
    assert "eine Tür" in (tmp_path / "t").read_text(encoding="utf-8")


def test_no_file_is_an_unfinished_episode(tmp_path):
    assert read(tmp_path / "none") == ((), None, None)


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / "t"
    with Transcript(path) as transcript:
        transcript.write({"step": 0})
        transcript.finish({"return": 1.0})
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        result = read(path).result
        assert result is None or end == len(whole) - 1  # all but the newline


def test_why_an_episode_is_not_finished_is_kept(tmp_path):
    with Transcript(tmp_path / "t") as transcript:
        transcript.write({"step": 0})
        transcript.fail("no connection")
    assert read(tmp_path / "t") == (({"step": 0},), None, "no connection")


def test_starting_again_replaces_it(tmp_path):
    for text in ("old", "new"):
        with Transcript(tmp_path / "t") as transcript:
            transcript.write({"step": 0, "text": text})
    assert [one["text"] for one in read(tmp_path / "t").lines] == ["new"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        Transcript(tmp_path / "file" / "t")


def test_a_tally_by_hand():
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


def test_one_call_without_usage_makes_the_sums_unknown():
    told = tally([line(REPLY), line(REPLY._replace(usage=None, usd=None))])
    assert told.input is told.output is told.usd is None
    assert told.cached == 4 and told.reasoning == 1  # lower bounds


def test_what_no_call_tells_is_unknown_and_not_0():
    told = tally([line(REPLY._replace(usage=Usage(1, 1), usd=None))])
    assert (told.input, told.cached, told.reasoning, told.usd) == (1, None, None, None)


def test_many_small_prices_add_up_exactly():
    assert tally([line(REPLY._replace(usd=0.1))] * 10).usd == 1.0


def test_without_calls_nothing_was_used():
    told = tally([{"step": 0, "action": "x"}])
    assert (told.calls, told.input, told.usd, told.decisions) == (0, 0, 0.0, 0)
