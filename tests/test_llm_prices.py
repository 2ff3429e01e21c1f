import datetime

import pytest

from dreamer.schema import ConfigError
from experiments.llm import prices
from experiments.llm.prices import Price
from experiments.llm.wire import Usage

OPENAI = "api.openai.com"


def own(tmp_path, text):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    return path


def test_price_usd_all_token_kinds_matches_hand_computation():
    price = Price(input=2.0, output=10.0, cached=0.5, written=4.0)
    usage = Usage(input=1000, output=100, cached=600, written=300, reasoning=50)
    # 100 fresh * 2 + 600 cached * 0.5 + 300 written * 4 + 100 out * 10, per million
    assert price.usd(usage) == pytest.approx((200 + 300 + 1200 + 1000) / 1e6)


def test_price_usd_without_cached_price_charges_the_input_price():
    assert Price(input=2.0, output=0.0).usd(Usage(1000, 5, cached=400)) == pytest.approx(2e-3)


def test_price_usd_above_the_size_limit_is_none():
    price = Price(input=1.0, output=1.0, up_to=100)
    assert price.usd(Usage(100, 1)) is not None and price.usd(Usage(101, 1)) is None


def test_load_default_table_has_a_date_source_and_host_per_model():
    table = prices.load()
    assert table
    for price in table.values():
        assert datetime.date.fromisoformat(price.date) and price.source and price.host
        assert 0 < price.input < price.output and (price.cached or 0) < price.input


def test_price_dated_snapshot_equals_the_price_of_its_alias():
    table = prices.load()
    assert prices.price(table, "gpt-4o-mini-2024-07-18", OPENAI) == table["gpt-4o-mini"]
    assert prices.price(table, "claude-haiku-4-5-20251001", "api.anthropic.com") == table["claude-haiku-4-5"]


@pytest.mark.parametrize("model", ["gpt-9", "gpt-4o-mini-turbo", "my-gpt-4o", ""])
def test_price_unknown_model_is_none(model):
    assert prices.price(prices.load(), model, OPENAI) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "proxy.example.org"])
def test_price_list_price_at_another_host_is_none(host):
    assert prices.price(prices.load(), "gpt-4o", host) is None


def test_load_user_price_file_overrides_the_default_table(tmp_path):
    models = '"gpt-4o" = { input = 1, output = 2 }\n"mine" = { input = 0, output = 0 }'
    text = f'date = "2030-01-02"\n[models]\n{models}'
    table = prices.load(own(tmp_path, text))
    assert prices.price(table, "gpt-4o", "127.0.0.1") == Price(1, 2, date="2030-01-02", source="prices.toml")
    assert prices.price(table, "mine", "anywhere") is not None
    assert prices.price(table, "gpt-4.1", OPENAI) == prices.load()["gpt-4.1"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("not toml", "is not valid TOML"),
        ('date = "2030-01-02"', "needs date"),
        ("[models]", "needs date"),
        ('date = "2030-01-02"\n[models]\nm = { input = 1 }', "must be like"),
        ('date = "2030-01-02"\n[models]\nm = { input = 1, output = "x" }', "output cannot be 'x'"),
        ('date = "2030-01-02"\n[models]\nm = { input = 1, output = -1 }', "output cannot be -1"),
        ('date = "2030-01-02"\n[models]\nm = { input = 1, output = 2, cache = 3 }', "cache is not among"),
        ('date = "2030-01-02"\n[models]\nm = 3', "must be like"),
    ],
)
def test_load_invalid_price_file_raises_config_error(tmp_path, text, wrong):
    with pytest.raises(ConfigError, match=wrong):
        prices.load(own(tmp_path, text))


def test_load_missing_price_file_raises_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        prices.load(tmp_path / "none.toml")
