"""What plays while a run goes on."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny

import envs
from dreamer import schema
from envs.rollout import Random
from experiments.training import result
from experiments.training.agents import OneAgent
from experiments.training.evaluator import Evaluator
from experiments.training.goal import Until
from experiments.training.population import Member, Population


def change(**fields):
    return schema.replace_paths(tiny.RUN, {k.replace("__", "."): v for k, v in fields.items()})


@pytest.mark.parametrize("kind", [OneAgent, Population])
def test_evaluator_endless_env_is_truncated_at_limit_of_run(kind):
    """Nobody is trained: only what an evaluation reads is there."""
    env = envs.make("gymnasium:faulty_env:Endless-v0", 2)
    player, notices = Random(env.act_space), []
    logger = SimpleNamespace(longest_episode=3000, metrics=lambda row: None)
    folder = SimpleNamespace(cfg=change(eval__max_steps=0), path="run", logger=logger, notice=notices.append)
    program = SimpleNamespace(player=lambda *_, **__: player, evaluation_world=lambda episodes: env)
    nothing, progress = np.zeros(1), SimpleNamespace(env_steps=200, updates=1)
    state = SimpleNamespace(params=nothing)
    loop = SimpleNamespace(state=state, numbers=nothing, progress=progress, rest=lambda members: None)
    loop.gather_params = lambda: state.params
    evaluator = Evaluator(folder, program, Until(folder.cfg))
    assert evaluator.step_limit == 30_000
    folder.cfg = change(eval__max_steps=20, eval__during=3)
    parts = folder, program, loop, evaluator
    agents = OneAgent(*parts) if kind is OneAgent else Population([Member(tiny.RUN, "run", logger)], *parts)
    found = agents.evaluate(3)
    assert (found["truncated_by_limit"], found["step_limit"], found["length_mean"]) == (3, 20, 20)
    result.evaluate_meanwhile(agents, folder)
    assert notices == ["evaluation at 200 steps: 3 episodes, 3 of them cut short after 20 steps"]
