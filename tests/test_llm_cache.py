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


def test_cache_stored_reply_is_returned_marked_as_replayed(tmp_path):
    with Cache(tmp_path / "a" / "cache.sqlite") as made:
        assert made.get("k") is None
        made.put("k", BODY, REPLY)
        assert made.get("k") == REPLY._replace(replayed=True)


def test_cache_reopened_read_only_returns_stored_reply(tmp_path):
    with Cache(tmp_path / "c") as made:
        made.put("k", BODY, REPLY)
    with Cache(tmp_path / "c", replay_only=True) as made:
        assert made.get("k") is not None


def test_cache_several_keys_return_same_reply(tmp_path):
    with Cache(tmp_path / "c") as made:
        made.put("k", BODY, REPLY, "l", "m")
        assert made.get("k") == made.get("l") == made.get("m") != made.get("n")


def test_cache_second_put_keeps_first_reply(tmp_path):
    with Cache(tmp_path / "c") as made:
        made.put("k", BODY, REPLY)
        made.put("k", BODY, REPLY._replace(content="other"))
        assert made.get("k").content == "gö"


def test_reply_to_json_and_back_is_equal():
    for reply in (REPLY, Reply(None), REPLY._replace(usage=None, usd=0.1)):
        assert cache.reply_from(json.loads(json.dumps(cache.reply_to(reply)))) == reply


def test_key_reordered_body_is_equal():
    turned = dict(reversed(BODY.items()))
    assert cache.key("h", BODY, "0") == cache.key("h", turned, "0")


@pytest.mark.parametrize(
    "other",
    [("i", BODY, "0"), ("h", BODY | {"model": "n"}, "0"), ("h", BODY, "1"), ("h", BODY | {"seed": 1}, "0")],
)
def test_key_other_request_differs(other):
    assert cache.key(*other) != cache.key("h", BODY, "0")


def test_cache_shared_by_threads_stores_all_replies(tmp_path):
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


def test_cache_invalid_file_raises_config_error(tmp_path):
    (tmp_path / "text").write_text("no database, but longer than the header of one. " * 20)
    with pytest.raises(ConfigError, match="cannot be used"):
        Cache(tmp_path / "text")
    with pytest.raises(ConfigError, match="replay"):
        Cache(tmp_path / "none", replay_only=True)
