"""The report card: an oracle gets the best marks, ignorance none, and numbers are as by hand."""

import numpy as np
import oracle
import pytest
import tiny
from oracle import GAMMA, Deaf, Oracle, Still

from dreamer.agent import Agent
from envs.api import Space
from experiments.report import card
from experiments.report.card import cut, discounted, reliability
from experiments.report.meanings import MEANINGS


def measure(inspector, episodes, context=2, horizon=4):
    return card.measure(inspector, episodes, context=context, horizon=horizon, gamma=GAMMA)


# Who knows what.


def test_an_oracle_is_right_about_everything():
    known = oracle.episodes()
    made = measure(Oracle(known), known)
    numbers = made.numbers
    assert numbers["prediction_skill"] == numbers["reward_skill"] == 1
    for name in ("value_skill", "dream_skill"):
        assert numbers[name] == pytest.approx(1), name
    for name in ("cont_error", "cont_error_far", "reward_error_far"):
        assert numbers[name] == pytest.approx(0, abs=1e-6), name
    assert numbers["action_ratio"] > 1e3
    for errors in (made.open_loop.error, made.open_loop.still):
        assert errors.keys() == oracle.OBS.keys()
    assert not made.open_loop.reward.any() and not made.open_loop.cont.any()


def test_expecting_that_nothing_changes_has_no_skill_and_no_use_for_actions():
    known = oracle.episodes()
    numbers = measure(Still(known), known).numbers
    assert numbers["prediction_skill"] == 0
    assert numbers["action_ratio"] == 1


def test_a_model_that_ignores_actions_has_a_ratio_of_one():
    known = oracle.episodes()
    assert measure(Deaf(known), known).numbers["action_ratio"] == 1


def test_what_is_predicted_beyond_the_end_of_an_episode_does_not_count():
    known = oracle.episodes()

    class Lost(Oracle):
        def judge(self, latent):
            over = self.over(latent)
            told = super().judge(latent)
            return told._replace(reward=told.reward + over, cont=told.cont - over)

        def look(self, latent):
            over = self.over(latent)
            seen = super().look(latent)
            return {k: v + over.reshape(over.shape + (1,) * (v.ndim - over.ndim)) for k, v in seen.items()}

        def over(self, latent):
            n, t = np.moveaxis(np.asarray(latent.deter), -1, 0).astype(int)
            return (t >= known.length[n]).astype(np.uint8)

    made = measure(Lost(known), known, horizon=20)
    assert made.numbers["prediction_skill"] == 1
    assert not np.nansum(made.open_loop.reward) and not np.nansum(made.open_loop.cont)
    assert np.isnan(made.open_loop.cont[12:]).all()  # no episode goes on for so long


def test_returns_are_of_every_slot_from_which_something_follows():
    known = oracle.episodes()
    for of in measure(Oracle(known), known).returns:
        assert of.shape == ((known.length - 1).sum(),)


def test_a_reward_that_never_changes_says_nothing_about_doubt():
    known = oracle.episodes()
    known = known._replace(reward=np.ones_like(known.reward))

    class Vague(Oracle):
        def judge(self, latent):
            noise = 1e-4 * np.asarray(latent.deter).sum(-1)
            told = super().judge(latent)
            return told._replace(reward=told.reward + noise, reward_spread=noise)

    numbers = measure(Vague(known), known).numbers
    assert numbers["spread_rank"] is None and numbers["reward_skill"] is None
    assert numbers["reward_error"] == pytest.approx(0, abs=0.01)


def test_a_world_without_rewards_says_nothing_about_them():
    known = oracle.episodes()
    known = known._replace(reward=np.zeros_like(known.reward))
    inspector = Oracle(known)
    inspector.value += 5
    numbers = measure(inspector, known).numbers
    told = ("reward_skill", "value_skill", "dream_skill", "reward_error", "reward_error_far", "spread_rank")
    assert [numbers[name] for name in told] == [None] * 6
    assert numbers["prediction_skill"] == 1


def test_a_critic_that_promises_too_much_is_as_wrong_as_it_promises():
    """All episodes end for good, so the error is the promise, over the mean squared return."""
    known = oracle.episodes(terminal=[True] * 4)
    inspector = Oracle(known)
    inner = known.valid & np.append(known.valid[:, 1:], np.zeros((4, 1), bool), 1)
    usual = np.square(inspector.value[inner]).mean()
    inspector.value = inspector.value + np.float32(3)
    assert measure(inspector, known).numbers["value_skill"] == pytest.approx(1 - 9 / usual, rel=1e-4)


def test_what_a_critic_promises_beyond_a_cut_does_not_make_its_error_small():
    """A reward of 1 in all, cut after 3 steps: in the middle a promise of 1000 is 99 too much."""
    known = oracle.episodes((3,), terminal=[False])
    known = known._replace(reward=np.array([[0, 0, 1]], np.float32))
    inspector = Oracle(known)
    inspector.value = np.full((1, 3), 1000, np.float32)
    gaps = [1000 - GAMMA * (1 + GAMMA * 1000), 1000 - (1 + GAMMA * 1000)]
    assert measure(inspector, known).numbers["value_skill"] == pytest.approx(
        1 - np.mean(np.square(gaps)) / np.mean(np.square([GAMMA, 1])), rel=1e-4
    )


def test_rewards_expected_in_the_wrong_places_are_no_good_ones():
    """One in twenty slots is rewarded: among equal numbers they would hide, whatever is expected."""
    known = oracle.episodes((20, 20, 20))
    reward = np.zeros((3, 20), np.float32)
    reward[:, 10] = 1
    known = known._replace(reward=reward)

    class Late(Oracle):
        def judge(self, latent):
            n, t = self.at(latent)
            return super().judge(latent)._replace(reward=reward[n, t - 1])

    right, late = (measure(kind(known), known).numbers for kind in (Oracle, Late))
    assert right["reward_skill"] == 1 and right["reward_error"] == 0
    assert late["reward_skill"] < 0
    # Three are expected where none is; of the 54 others three are rewarded. A reward is 1 in 19.
    p = 3 / 54
    gap = (3 * 1 + 54 * (p**2 - p * (1 - p) / 53)) / 57
    assert late["reward_error"] == pytest.approx(19 * gap**0.5)


def test_the_far_numbers_are_of_what_comes_five_steps_later():
    """Episodes of 7 slots: slots 5 and 6 can be told so early, and the last of them is the end."""
    known = oracle.episodes((7, 7), terminal=[True, True])
    made = measure(Oracle(known), known)
    assert made.cont[0].count.sum() == 12 and made.cont[1].count.sum() == 4
    np.testing.assert_array_equal(made.cont[1].happened, [0, 1])


def test_who_never_expects_an_end_is_wrong_about_all_of_them():
    """Its gap is how often they come, which is the unit, less chance; without any nothing is told."""

    class Careless(Oracle):
        def judge(self, latent):
            told = super().judge(latent)
            return told._replace(cont=np.ones_like(told.cont))

    names = ("cont_error", "cont_error_far")
    known = oracle.episodes((9, 20, 7, 8), terminal=[True, False, True, False])
    numbers = measure(Careless(known), known).numbers
    for name, slots in zip(names, (8 + 19 + 6 + 7, 4 + 15 + 2 + 3), strict=True):
        p = 2 / slots
        assert numbers[name] == pytest.approx((1 - (1 - p) / (p * (slots - 1))) ** 0.5, rel=1e-5)
    known = oracle.episodes(terminal=[False] * 4)
    numbers = measure(Careless(known), known).numbers
    assert [numbers[name] for name in names] == [None] * 2


def test_how_unsure_is_compared_with_how_wrong():
    """Sure where it is right: the ranks agree; the other way round they do not."""
    known = oracle.episodes()

    class Doubtful(Oracle):
        sign = 1

        def judge(self, latent):
            n, t = self.at(latent)
            off = (np.asarray(latent.deter).sum(-1) % 7).astype(np.float32)
            told = super().judge(latent)
            return told._replace(reward=told.reward + off, reward_spread=self.sign * off)

    inspector = Doubtful(known)
    assert measure(inspector, known).numbers["spread_rank"] > 0.99
    inspector.sign = -1
    assert measure(inspector, known).numbers["spread_rank"] < -0.99


def test_a_latent_that_varies_by_chance_alone_is_not_in_use():
    """One in a hundred samples comes from the uniform part, spread over all of 100 classes."""
    known = oracle.episodes((10000,), {"token": oracle.OBS["token"]})
    inspector = Oracle(known, {"token": oracle.OBS["token"]})
    rng = np.random.default_rng(0)
    chosen = np.stack([np.zeros(10000, int), rng.integers(0, 2, 10000)], -1)
    chosen = np.where(rng.random(chosen.shape) < 0.01, rng.integers(0, 100, chosen.shape), chosen)
    stoch = np.eye(100, dtype=np.float32)[chosen][None]
    inspector.latent = inspector.latent._replace(stoch=stoch)
    assert measure(inspector, known).numbers["latents_used"] == 0.5


# Numbers, or none.

WORLDS = {
    "one short episode": dict(lengths=(2,)),
    "categories": dict(spaces={"token": oracle.OBS["token"]}),
    "one category": dict(spaces={"token": Space((), "int32", 5)}),
    "numbers": dict(spaces={"vector": oracle.OBS["vector"]}),
    "images": dict(spaces={"image": oracle.OBS["image"]}),
}


@pytest.mark.parametrize("kind", [Oracle, Still, Deaf])
@pytest.mark.parametrize("world", [*WORLDS, "nothing changes"])
def test_every_number_is_a_number_or_none(world, kind):
    options = WORLDS.get(world, {})
    known = oracle.episodes(**options)
    if world == "nothing changes":
        known = known._replace(obs={k: np.zeros_like(v) for k, v in known.obs.items()})
    made = measure(kind(known, options.get("spaces", oracle.OBS)), known)
    assert made.numbers.keys() == MEANINGS.keys()
    assert all(value is None or np.isfinite(value) for value in made.numbers.values())
    short, constant = world == "one short episode", world == "nothing changes"
    assert (made.numbers["cont_error_far"] is None) == short
    assert (made.numbers["action_ratio"] is None) == (short or constant)
    assert (made.numbers["prediction_skill"] is None) == constant


def test_what_is_missing_is_no_error():
    known = oracle.episodes(spaces={"token": oracle.OBS["token"]})
    known.obs["token"][..., 1] = -1
    numbers = measure(Oracle(known, {"token": oracle.OBS["token"]}), known).numbers
    assert numbers["prediction_skill"] == 1

    class Filled(Oracle):
        def dreamt(self, latent, action, reached):
            return {"token": np.maximum(super().look(reached)["token"], 0)}

    assert measure(Filled(known, {"token": oracle.OBS["token"]}), known).numbers["prediction_skill"] == 1


def test_a_card_of_a_real_agent():
    """On categories, numbers and an image at once; alike for the same key."""
    spaces = tiny.OBS | {"image": Space((8, 8, 3), "uint8")}
    agent = Agent(spaces, {"move": Space((), "int32", 3)}, tiny.CFG)
    inspector = oracle.real(agent, oracle.noise(agent))
    known = oracle.episodes((8, 8), spaces)
    one, again = (measure(inspector, known) for _ in range(2))
    assert one.numbers == again.numbers
    assert all(value is not None and np.isfinite(value) for value in one.numbers.values())
    assert {k: v.shape for k, v in one.open_loop.error.items()} == dict.fromkeys(spaces, (4,))
    assert one.readings.kl.shape == (2, 8) and one.perplexity.shape == (4,)
    assert one.numbers["surprise"] > 0
    assert one.numbers["reward_skill"] <= 0.1  # it has learnt nothing


# The pieces by hand.


def test_windows_follow_each_other_to_the_end_of_every_episode():
    windows = cut(np.array([10, 2, 3]), context=3, horizon=4)
    assert list(zip(*windows, strict=True)) == [(0, 2, 4), (0, 6, 3), (1, 0, 1), (2, 0, 2)]


def test_windows_cover_what_is_not_context_once():
    lengths = np.random.default_rng(0).integers(2, 40, 20)
    windows = cut(lengths, context=5, horizon=6)
    for n, length in enumerate(lengths):
        mine = zip(windows.slot, windows.steps, windows.episode == n, strict=True)
        seen = [slot + i for slot, steps, own in mine if own for i in range(1, steps + 1)]
        assert seen == list(range(min(5, length // 2), length))


def test_of_too_many_windows_some_are_taken():
    few, all_ = (cut(np.full(50, 20), context=2, horizon=3, most=most) for most in (7, 10**6))
    assert len(few.slot) == 7 and len(all_.slot) == 300
    assert set(zip(*few, strict=True)) < set(zip(*all_, strict=True))
    assert (np.diff(few.episode) >= 0).all()


def test_what_a_slot_was_worth_by_hand():
    """The reward of a slot came on arriving there, so it is worth something one slot earlier."""
    known = oracle.episodes((3, 2), terminal=[True, False])
    known = known._replace(reward=np.array([[0, 1, 4], [0, 2, 0]], np.float32))
    value = np.array([[9, 9, 9], [9, 8, 9]], np.float32)
    worth = discounted(known, value, 0.5)
    np.testing.assert_allclose(worth, [[1 + 0.5 * 4, 4, 0], [2 + 0.5 * 8, 8, 0]])


def test_reliability_by_hand():
    """Two kinds of expectation, the rare one by itself."""
    expected = np.array([0.2] * 90 + [0.9] * 10)
    happened = np.array([0.0] * 90 + [1.0] * 5 + [0.0] * 5)
    told = reliability(expected, happened)
    np.testing.assert_allclose(told.expected, [0.2, 0.9])
    np.testing.assert_allclose(told.happened, [0.0, 0.5])
    np.testing.assert_array_equal(told.count, [90, 10])
    assert told.error == pytest.approx((0.9 * 0.2**2 + 0.1 * (0.4**2 - 0.25 / 9)) ** 0.5)


def test_who_knows_the_chances_is_not_blamed_for_chance():
    def error(seed):
        rng = np.random.default_rng(seed)
        chance = rng.uniform(0, 0.04, 4000)
        return reliability(chance, (rng.random(4000) < chance).astype(float)).error / 0.02

    assert np.median([error(seed) for seed in range(40)]) < 0.25


def test_who_expects_what_happens_is_calibrated_and_nothing_gets_lost():
    x = np.random.default_rng(0).normal(size=1000)
    told = reliability(x, x)
    assert told.error == pytest.approx(0, abs=1e-12)
    assert told.count.sum() == 1000 and (np.diff(told.expected) > 0).all()
    assert 10 <= len(told.count) <= 20


def test_what_is_usual_is_told_apart_though_the_range_is_wide():
    told = reliability(np.append(np.linspace(0, 0.01, 99), 1.0), np.zeros(100))
    assert told.expected[-1] == 1 and told.count[-1] == 1
    assert (told.count[:-1] <= 10).all()


def test_equal_expectations_stay_together():
    told = reliability(np.full(7, 0.3, np.float32), np.arange(7.0))
    np.testing.assert_allclose([told.expected, told.happened, told.count], [[0.3], [3.0], [7.0]], rtol=1e-6)


def test_reliability_of_nothing():
    assert reliability(np.zeros(0), np.zeros(0)).error is None


def test_nobody_keeps_the_own_actions():
    """Two windows exchange them, so even two show whether actions matter."""
    known = oracle.episodes((3, 3))
    known.action["move"][:] = [[0, 0, 0], [1, 1, 1]]
    assert measure(Oracle(known), known).numbers["action_ratio"] > 1e3
