import json
import threading

import pytest

from dreamer.schema import ConfigError
from experiments.llm import cache
from experiments.llm.cache import Cache
from experiments.llm.wire import Reply, Usage

REPLY = Reply(
    "gö", "hm", "stop", Usage(3, 2, 1, None, 1), None, "m", "id", "fp", "schema", 0.25, ("timeout",)
)
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_what_is_put_in_comes_out_marked(tmp_path):
    with Cache(tmp_path / "a" / "cache.sqlite") as made:
        assert made.get("k") is None
        made.put("k", BODY, REPLY)
        assert made.get("k") == REPLY._replace(replayed=True)


def test_it_is_there_for_the_next_process(tmp_path):
    with Cache(tmp_path / "c") as made:
        made.put("k", BODY, REPLY)
    with Cache(tmp_path / "c", replay_only=True) as made:
        assert made.get("k") is not None


def test_it_is_found_by_every_key(tmp_path):
    with Cache(tmp_path / "c") as made:
        made.put("k", BODY, REPLY, "l", "m")
        assert made.get("k") == made.get("l") == made.get("m") != made.get("n")


def test_the_first_reply_stays(tmp_path):
    with Cache(tmp_path / "c") as made:
        made.put("k", BODY, REPLY)
        made.put("k", BODY, REPLY._replace(content="other"))
        assert made.get("k").content == "gö"


def test_a_reply_survives_json():
    for reply in (REPLY, Reply(None), REPLY._replace(usage=None, usd=0.1)):
        assert cache.reply_from(json.loads(json.dumps(cache.reply_to(reply)))) == reply


def test_equal_requests_have_equal_keys():
    turned = dict(reversed(BODY.items()))
    assert cache.key("h", BODY, "0") == cache.key("h", turned, "0")


@pytest.mark.parametrize(
    "other",
    [("i", BODY, "0"), ("h", BODY | {"model": "n"}, "0"), ("h", BODY, "1"), ("h", BODY | {"seed": 1}, "0")],
)
def test_other_requests_have_other_keys(other):
    assert cache.key(*other) != cache.key("h", BODY, "0")


def test_threads_share_one_cache(tmp_path):
    with Cache(tmp_path / "c") as made:
        threads = [
            threading.Thread(target=lambda i=i: made.put(str(i), BODY, REPLY._replace(content=str(i))))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [made.get(str(i)).content for i in range(8)] == [str(i) for i in range(8)]


def test_what_cannot_be_a_cache_is_one_sentence(tmp_path):
    (tmp_path / "text").write_text("no database, but longer than the header of one. " * 20)
    with pytest.raises(ConfigError, match="cannot be used"):
        Cache(tmp_path / "text")
    with pytest.raises(ConfigError, match="replay"):
        Cache(tmp_path / "none", replay_only=True)
