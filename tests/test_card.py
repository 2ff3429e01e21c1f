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
from experiments.report.meanings import CARD


def measure(inspector, episodes, context=2, horizon=4):
    return card.measure(inspector, episodes, context=context, horizon=horizon, gamma=GAMMA)


# Who knows what.


def test_measure_oracle_has_perfect_scores():
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


def test_measure_constant_predictor_has_zero_skill_and_action_ratio_one():
    known = oracle.episodes()
    numbers = measure(Still(known), known).numbers
    assert numbers["prediction_skill"] == 0
    assert numbers["action_ratio"] == 1


def test_measure_model_ignoring_actions_has_action_ratio_one():
    known = oracle.episodes()
    assert measure(Deaf(known), known).numbers["action_ratio"] == 1


def test_measure_predictions_after_episode_end_are_ignored():
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


def test_measure_returns_cover_every_slot_with_successor():
    known = oracle.episodes()
    for of in measure(Oracle(known), known).returns:
        assert of.shape == ((known.length - 1).sum(),)


def test_measure_constant_reward_has_no_spread_rank():
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


def test_measure_zero_rewards_has_no_reward_and_value_numbers():
    known = oracle.episodes()
    known = known._replace(reward=np.zeros_like(known.reward))
    inspector = Oracle(known)
    inspector.value += 5
    numbers = measure(inspector, known).numbers
    told = ("reward_skill", "value_skill", "dream_skill", "reward_error", "reward_error_far", "spread_rank")
    assert [numbers[name] for name in told] == [None] * 6
    assert numbers["prediction_skill"] == 1


def test_measure_critic_with_constant_offset_has_matching_value_skill():
    """All episodes end for good, so the error is the promise, over the mean squared return."""
    known = oracle.episodes(terminal=[True] * 4)
    inspector = Oracle(known)
    inner = known.valid & np.append(known.valid[:, 1:], np.zeros((4, 1), bool), 1)
    usual = np.square(inspector.value[inner]).mean()
    inspector.value = inspector.value + np.float32(3)
    assert measure(inspector, known).numbers["value_skill"] == pytest.approx(1 - 9 / usual, rel=1e-4)


def test_measure_critic_far_off_beyond_truncation_keeps_its_error():
    """A reward of 1 in all, cut after 3 steps: in the middle a promise of 1000 is 99 too much."""
    known = oracle.episodes((3,), terminal=[False])
    known = known._replace(reward=np.array([[0, 0, 1]], np.float32))
    inspector = Oracle(known)
    inspector.value = np.full((1, 3), 1000, np.float32)
    gaps = [1000 - GAMMA * (1 + GAMMA * 1000), 1000 - (1 + GAMMA * 1000)]
    assert measure(inspector, known).numbers["value_skill"] == pytest.approx(
        1 - np.mean(np.square(gaps)) / np.mean(np.square([GAMMA, 1])), rel=1e-4
    )


def test_measure_rewards_predicted_one_step_late_are_penalized():
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


def test_measure_far_numbers_use_predictions_five_steps_ahead():
    """Episodes of 7 slots: slots 5 and 6 can be told so early, and the last of them is the end."""
    known = oracle.episodes((7, 7), terminal=[True, True])
    made = measure(Oracle(known), known)
    assert made.cont[0].count.sum() == 12 and made.cont[1].count.sum() == 4
    np.testing.assert_array_equal(made.cont[1].happened, [0, 1])


def test_measure_model_never_predicting_end_has_full_cont_error():
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


def test_measure_spread_rank_follows_sign_of_error_correlation():
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


def test_measure_latent_varying_only_by_unimix_is_not_counted_as_used():
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
def test_measure_any_world_and_model_has_finite_or_missing_numbers(world, kind):
    options = WORLDS.get(world, {})
    known = oracle.episodes(**options)
    if world == "nothing changes":
        known = known._replace(obs={k: np.zeros_like(v) for k, v in known.obs.items()})
    made = measure(kind(known, options.get("spaces", oracle.OBS)), known)
    assert made.numbers.keys() == CARD.keys()
    assert all(value is None or np.isfinite(value) for value in made.numbers.values())
    short, constant = world == "one short episode", world == "nothing changes"
    assert (made.numbers["cont_error_far"] is None) == short
    assert (made.numbers["action_ratio"] is None) == (short or constant)
    assert (made.numbers["prediction_skill"] is None) == constant


def test_measure_missing_entries_in_observation_are_no_error():
    known = oracle.episodes(spaces={"token": oracle.OBS["token"]})
    known.obs["token"][..., 1] = -1
    numbers = measure(Oracle(known, {"token": oracle.OBS["token"]}), known).numbers
    assert numbers["prediction_skill"] == 1

    class Filled(Oracle):
        def dreamt(self, latent, action, reached):
            return {"token": np.maximum(super().look(reached)["token"], 0)}

    assert measure(Filled(known, {"token": oracle.OBS["token"]}), known).numbers["prediction_skill"] == 1


def test_measure_real_agent_has_finite_and_reproducible_numbers():
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


def test_cut_several_lengths_returns_consecutive_windows_to_episode_end():
    windows = cut(np.array([10, 2, 3]), context=3, horizon=4)
    assert list(zip(*windows, strict=True)) == [(0, 2, 4), (0, 6, 3), (1, 0, 1), (2, 0, 2)]


def test_cut_random_lengths_covers_slots_after_context_once():
    lengths = np.random.default_rng(0).integers(2, 40, 20)
    windows = cut(lengths, context=5, horizon=6)
    for n, length in enumerate(lengths):
        mine = zip(windows.slot, windows.steps, windows.episode == n, strict=True)
        seen = [slot + i for slot, steps, own in mine if own for i in range(1, steps + 1)]
        assert seen == list(range(min(5, length // 2), length))


def test_cut_more_windows_than_limit_returns_ordered_subset():
    few, all_ = (cut(np.full(50, 20), context=2, horizon=3, most=most) for most in (7, 10**6))
    assert len(few.slot) == 7 and len(all_.slot) == 300
    assert set(zip(*few, strict=True)) < set(zip(*all_, strict=True))
    assert (np.diff(few.episode) >= 0).all()


def test_discounted_known_rewards_matches_hand_computed_values():
    """The reward of a slot came on arriving there, so it is worth something one slot earlier."""
    known = oracle.episodes((3, 2), terminal=[True, False])
    known = known._replace(reward=np.array([[0, 1, 4], [0, 2, 0]], np.float32))
    value = np.array([[9, 9, 9], [9, 8, 9]], np.float32)
    worth = discounted(known, value, 0.5)
    np.testing.assert_allclose(worth, [[1 + 0.5 * 4, 4, 0], [2 + 0.5 * 8, 8, 0]])


def test_reliability_known_values_matches_hand_computed_error():
    """Two kinds of expectation, the rare one by itself."""
    expected = np.array([0.2] * 90 + [0.9] * 10)
    happened = np.array([0.0] * 90 + [1.0] * 5 + [0.0] * 5)
    told = reliability(expected, happened)
    np.testing.assert_allclose(told.expected, [0.2, 0.9])
    np.testing.assert_allclose(told.happened, [0.0, 0.5])
    np.testing.assert_array_equal(told.count, [90, 10])
    assert told.error == pytest.approx((0.9 * 0.2**2 + 0.1 * (0.4**2 - 0.25 / 9)) ** 0.5)


def test_reliability_true_probabilities_has_small_error():
    def error(seed):
        rng = np.random.default_rng(seed)
        chance = rng.uniform(0, 0.04, 4000)
        return reliability(chance, (rng.random(4000) < chance).astype(float)).error / 0.02

    assert np.median([error(seed) for seed in range(40)]) < 0.25


def test_reliability_perfect_predictions_has_zero_error_and_counts_all():
    x = np.random.default_rng(0).normal(size=1000)
    told = reliability(x, x)
    assert told.error == pytest.approx(0, abs=1e-12)
    assert told.count.sum() == 1000 and (np.diff(told.expected) > 0).all()
    assert 10 <= len(told.count) <= 20


def test_reliability_outlier_present_keeps_bins_for_usual_values():
    told = reliability(np.append(np.linspace(0, 0.01, 99), 1.0), np.zeros(100))
    assert told.expected[-1] == 1 and told.count[-1] == 1
    assert (told.count[:-1] <= 10).all()


def test_reliability_equal_predictions_share_one_bin():
    told = reliability(np.full(7, 0.3, np.float32), np.arange(7.0))
    np.testing.assert_allclose([told.expected, told.happened, told.count], [[0.3], [3.0], [7.0]], rtol=1e-6)


def test_reliability_empty_input_has_no_error():
    assert reliability(np.zeros(0), np.zeros(0)).error is None


def test_measure_two_episodes_exchanges_actions_for_action_ratio():
    """Two windows exchange them, so even two show whether actions matter."""
    known = oracle.episodes((3, 3))
    known.action["move"][:] = [[0, 0, 0], [1, 1, 1]]
    assert measure(Oracle(known), known).numbers["action_ratio"] > 1e3
