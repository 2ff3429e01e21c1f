"""Names that a user types."""

import pytest

from experiments.compare.options import CompareOptions
from experiments.names import joined_options


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["run:a@mppi:horizon=3", "samples=64", "run:a"], ["run:a@mppi:horizon=3,samples=64", "run:a"]),
        (["gumbel", "greedy"], ["gumbel", "greedy"]),
        (["mppi:a=1", "b=2", "icem:a=1", "b=2"], ["mppi:a=1,b=2", "icem:a=1,b=2"]),
        (["b=2"], ["b=2"]),
    ],
)
def test_joined_options_puts_together_what_a_comma_separated(words, joined):
    assert joined_options(words) == tuple(joined)
    assert CompareOptions(agents=tuple(words)).agents == tuple(joined)
