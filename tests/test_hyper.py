"""Every number of the configuration is either traced, in its own place, or fixes structure."""

import numpy as np
import pytest

from dreamer import schema
from dreamer.config import AgentConfig
from dreamer.hyper import Hyper

STRUCTURE = {
    *("behavior.imag_length", "behavior.imag_last", "behavior.discount_in_cont", "behavior.slow_target"),
    *("behavior.replay_value", "behavior.replay_value_grad", "loss.reward_grad", "optim.schedule"),
}
TRACED = [
    path
    for path in schema.paths(AgentConfig)
    if path.startswith(("behavior.", "loss.", "optim.")) and path not in STRUCTURE
]

OTHER = {"behavior.horizon": 2.5, "behavior.slow_every": 2, "optim.warmup": 7, "optim.anneal": 7}


@pytest.mark.parametrize("path", TRACED)
def test_a_number_reaches_its_own_place_and_no_other(path):
    cfg = AgentConfig()
    other = schema.replace_path(cfg, path, OTHER.get(path, 0.625))
    before, after = Hyper.of(cfg), Hyper.of(other)
    changed = [name for name in Hyper._fields if getattr(before, name) != getattr(after, name)]
    assert len(changed) == 1
    section, name = path.split(".")
    assert name in changed[0]
    assert getattr(after, changed[0]) == np.float32(getattr(getattr(other, section), name))


def test_every_number_comes_from_a_field():
    assert len(TRACED) == len(Hyper._fields)


def test_all_reconstructions_share_a_scale():
    hyper = Hyper.of(schema.replace_path(AgentConfig(), "loss.rec", 0.5))
    assert hyper.scale("rec/image") == hyper.scale("rec/vector") == 0.5
    assert hyper.scale("replay_value") == np.float32(0.3)
