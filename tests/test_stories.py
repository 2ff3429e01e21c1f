"""What a page shows of episodes: every frame in its place, everything as long as the episode."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from oracle import GAMMA, Oracle
from PIL import Image

from envs.api import Space
from envs.rollout import Episode
from experiments.report import card as cards
from experiments.report import stories
from experiments.report.stories import actions_by_value, chosen, clip, episode, setback, sprites

CONTEXT, H = 2, 4
NUMBERS = {"vector": oracle.OBS["vector"]}


# Sheets of frames.


def frames_of(sheet):
    """The frames of a sheet, as a page cuts them out."""
    head, data = sheet["uri"].split(",")
    assert head == "data:image/png;base64"
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    w, h, columns = sheet["width"], sheet["height"], sheet["columns"]
    corners = [(i // columns * h, i % columns * w) for i in range(sheet["count"])]
    return np.stack([image[y : y + h, x : x + w] for y, x in corners])


@pytest.mark.parametrize("count", [1, 2, 20, 21, 47])
@pytest.mark.parametrize("colours", [1, 12, 255, 100_000])
def test_sprites_frames_are_recovered_in_order(count, colours):
    """With few colours from a palette, which holds every one of them; with many as they are."""
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (colours, 3), dtype=np.uint8)
    frames = palette[rng.integers(0, colours, (count, 9, 7))]
    sheet = sprites(list(frames))
    assert (sheet["width"], sheet["height"], sheet["count"]) == (7, 9, count)
    np.testing.assert_array_equal(frames_of(sheet), frames)


# Which episodes, and which slot.


def played(*outcomes, returns=None):
    returns = returns or [0.0] * len(outcomes)
    return [Episode(i, r, 5, s, 0.0, 0.1) for i, (s, r) in enumerate(zip(outcomes, returns, strict=True))]


@pytest.mark.parametrize(
    ("outcomes", "returns", "shown"),
    [
        ([True, False, True, True, True, False], None, [0, 2, 3, 1, 5]),
        ([True, True, None, True, True], None, [0, 1, 3]),
        ([False], None, [0]),
        ([None] * 8, [3, 1, 4, 1, 5, 9, 2, 6], [5, 7, 4, 6, 1, 3]),
        ([None] * 4, [3, 1, 4, 2], [2, 0, 3, 1]),
        ([], [], []),
    ],
)
def test_chosen_episodes_are_successes_and_failures_or_best_and_worst(outcomes, returns, shown):
    assert chosen(played(*outcomes, returns=returns)) == shown


def test_setback_is_the_slot_with_the_largest_drop_of_the_promise():
    """Promised 5, then 4 with a reward of 1; promised 4, then 1 for nothing: slot 2 brought it."""
    reward, value = np.array([0, 1, 0, 2.0]), np.array([5, 4, 1, 1.0])
    assert setback(reward, value, gamma=1.0) == 2
    assert setback(reward, np.zeros(4), gamma=1.0) == 2
    assert setback(np.array([0, 1, 2, -1.0]), np.zeros(4), gamma=1.0) == 3
    assert setback(reward[:1], value[:1], gamma=1.0) == 0


# One episode.


@pytest.fixture(scope="module")
def known():
    return oracle.episodes()


@pytest.fixture(scope="module")
def inspector(known):
    return Oracle(known)


@pytest.fixture(scope="module")
def card(inspector, known):
    return cards.measure(inspector, known, context=CONTEXT, horizon=H, gamma=GAMMA)


def told_of(inspector, known, card, n, success=None, names=None, spaces=oracle.OBS):
    (one,) = played(success)
    return episode(inspector, spaces, known, card, one, n, names, GAMMA)


@pytest.mark.parametrize("n", range(4))
def test_episode_every_series_has_the_episode_length(inspector, known, card, n):
    told = json.loads(json.dumps(told_of(inspector, known, card, n)))
    length = known.length[n]
    assert [len(v) for v in (told["actions"], *told["series"].values())] == [length] * 5
    assert told["seen"]["count"] == told["expected"]["count"] == length
    assert told["first"] == 0


def test_episode_oracle_expectation_equals_the_observation(inspector, known, card):
    told = told_of(inspector, known, card, 2)
    enlarged = known.obs["image"][2].repeat(12, 1).repeat(12, 2)
    np.testing.assert_array_equal(frames_of(told["seen"]), enlarged)
    assert told["expected"] == told["seen"]
    np.testing.assert_allclose(told["series"]["reward"], known.reward[2], atol=1e-4)
    np.testing.assert_allclose(told["series"]["goes on"], [1] * 13 + [0])


def test_episode_too_long_shows_its_end(inspector, known, card, monkeypatch):
    whole = told_of(inspector, known, card, 2)
    monkeypatch.setattr(stories, "MOST_FRAMES", 5)
    told = told_of(inspector, known, card, 2)
    assert told["first"] == 9 and told["actions"] == whole["actions"][-5:]
    assert told["series"] == {k: v[-5:] for k, v in whole["series"].items()}
    for sheet in ("seen", "expected"):
        np.testing.assert_array_equal(frames_of(told[sheet]), frames_of(whole[sheet])[-5:])


def test_episode_success_has_no_setback_and_failure_has_zero_final_value(inspector, known, card):
    """The critic promises 9 everywhere, even where nothing can follow: it is wrong at the end."""
    heads = card.readings.heads
    heads = heads._replace(value=np.full_like(heads.value, 9))
    card = SimpleNamespace(readings=card.readings._replace(heads=heads))
    known = known._replace(reward=np.zeros_like(known.reward))
    assert told_of(inspector, known, card, 2, success=True)["wrong"] is None
    assert told_of(inspector, known, card, 2, success=False)["wrong"] == 13
    assert told_of(inspector, known, card, 3, success=False)["wrong"] == 1  # cut: all news are alike


def test_episode_actions_are_shown_by_name_or_number(inspector, known, card):
    moves = known.action["move"][0, :9]
    told = told_of(inspector, known, card, 0, names=["left", "stay", "right"])
    assert told["actions"] == [["left", "stay", "right"][i] for i in moves]
    assert told_of(inspector, known, card, 0)["actions"] == [str(i) for i in moves]
    steered = known._replace(action={"steer": np.full((4, 14, 2), 0.25), "move": known.action["move"]})
    assert told_of(inspector, steered, card, 0)["actions"][0] == f"[0.25 0.25], {moves[0]}"


def test_episode_and_clip_without_images_show_numbers():
    known = oracle.episodes((5, 3), NUMBERS)
    inspector = Oracle(known, NUMBERS)
    card = cards.measure(inspector, known, context=CONTEXT, horizon=H, gamma=GAMMA)
    told = told_of(inspector, known, card, 0, spaces=NUMBERS)
    assert "seen" not in told and len(json.loads(json.dumps(told))["actions"]) == 5
    names, seen, expected = zip(
        *((row["name"], row["seen"], row["expected"]) for row in told["numbers"]), strict=True
    )
    assert names == tuple(f"vector {i}" for i in range(NUMBERS["vector"].size))
    np.testing.assert_allclose(np.transpose(seen), known.obs["vector"][0, :5], atol=1e-4)
    assert expected == seen  # by an oracle
    windows = cards.cut(known.length, CONTEXT, H)
    made = clip(inspector, NUMBERS, known, card, windows, 0, CONTEXT)
    np.testing.assert_array_equal(made["truth_values"]["vector"], known.obs["vector"][0])
    np.testing.assert_array_equal(made["model_values"]["vector"], known.obs["vector"][0])
    assert "truth" not in made


# Without looking.


def test_clip_oracle_prediction_equals_the_truth(inspector, known, card):
    """In every window; what an oracle predicts differs nowhere."""
    windows = cards.cut(known.length, CONTEXT, H)
    for w, (n, slot, steps) in enumerate(zip(*windows, strict=True)):
        told = clip(inspector, oracle.OBS, known, card, windows, w, CONTEXT)
        truth, model = told.pop("truth_values"), told.pop("model_values")
        told = json.loads(json.dumps(told))
        assert told["context"] == min(CONTEXT, slot + 1)
        shown = slice(slot + 1 - told["context"], slot + steps + 1)
        for k, v in known.obs.items():
            np.testing.assert_array_equal(truth[k], v[n, shown])
            np.testing.assert_array_equal(model[k], v[n, shown])
        assert {told[k]["count"] for k in ("truth", "model", "difference")} == {told["context"] + steps}
        assert told["model"] == told["truth"] and not frames_of(told["difference"]).any()


def test_clip_static_model_shows_differences_after_the_context(inspector, known, card):
    """A model that stands still is right as long as it looks."""
    windows = cards.cut(known.length, CONTEXT, H)
    told = clip(oracle.Still(known), oracle.OBS, known, card, windows, 0, CONTEXT)
    truth, model, gap = (frames_of(told[k]).astype(int) for k in ("truth", "model", "difference"))
    np.testing.assert_array_equal(gap, np.abs(truth - model))
    assert not gap[:CONTEXT].any() and gap[CONTEXT:].any((1, 2, 3)).all()


# What it does where.


def by_value(value, action, names=("a", "b")):
    """Shares for one padded episode whose last action, which had no effect, is not counted."""
    known = oracle.episodes((len(value) + 1,), {"token": Space((), "int32", 5)})
    known = known._replace(reward=np.pad(known.reward, ((0, 0), (0, 1))))
    known.action["move"] = np.array([[*action, 1, 1]])
    heads = SimpleNamespace(value=np.array([[*value, -100.0, -100.0]]))
    return actions_by_value(known, SimpleNamespace(readings=SimpleNamespace(heads=heads)), names)


def test_actions_by_value_quartiles_match_hand_computation():
    shares = by_value([4, 3, 2, 1, 8, 7, 6, 5], [0, 0, 0, 1, 1, 1, 0, 1])
    np.testing.assert_allclose(shares, [[0.5, 1, 0.5, 0], [0.5, 0, 0.5, 1]])


def test_actions_by_value_shares_sum_to_one():
    rng = np.random.default_rng(0)
    shares = by_value(rng.normal(size=103), rng.integers(0, 6, 103), "abcdef")
    assert shares.shape == (6, 4)
    np.testing.assert_allclose(shares.sum(0), 1)


def test_actions_by_value_constant_values_fill_one_column():
    shares = by_value([2.0] * 4, [0, 0, 0, 1])
    np.testing.assert_allclose(shares, [[0.75, 0, 0, 0], [0.25, 0, 0, 0]])
