"""Numbers beside what is healthy."""

import math

from experiments.report.meanings import MEANINGS, grade


def test_grade_values_at_the_limits_follow_the_healthy_range():
    numbers = dict.fromkeys(MEANINGS) | {"reward_skill": 0.5, "value_skill": 0.49, "cont_error": 0.2501}
    graded = {g.name: g.ok for g in grade(numbers | {"surprise": 3.0})}
    assert list(graded) == list(MEANINGS)
    assert graded["reward_skill"] is True and graded["value_skill"] is False
    assert graded["cont_error"] is False
    assert graded["surprise"] is None  # no limit
    assert graded["dream_skill"] is None  # no number


def test_meanings_every_entry_has_title_sentence_and_limits_in_words():
    for name, meaning in MEANINGS.items():
        assert meaning.title and meaning.sentence.endswith(".") and meaning.healthy, name
        for limit in (meaning.low, meaning.high):
            assert not math.isfinite(limit) or limit == 0 or f"{limit:g}" in meaning.healthy, name
