"""jax:<module>:<name>: worlds that a user wrote as pure functions."""

import re

import numpy as np
import pytest

import envs
from envs.rollout import Random, rollout


def test_jax_adapter_user_env_passes_contract_and_is_played():
    failed = [f for f in envs.check("jax:my_jax_env:Counting", elsewhere=False) if f.status == "fail"]
    assert [f.name for f in failed] in ([], ["seeds"])  # every episode starts the same, as it should
    env = envs.make("jax:my_jax_env:Counting", 3)
    episodes = rollout(Random(env.act_space), env, range(5))
    assert {e.length for e in episodes} == {5} and np.ptp([e.return_ for e in episodes]) > 0
    assert envs.is_on_device("jax:my_jax_env:Counting")


@pytest.mark.parametrize(
    ("task", "error", "sentence"),
    [
        ("jax:Counting", envs.UnknownTask, "lacks its module, as in jax:my_pkg.module:MyWorld"),
        ("jax:no_such_module:World", envs.UnknownTask, "there is no module 'no_such_module' here"),
        ("jax:my_jax_env:Count", envs.UnknownTask, "has no 'Count'; did you mean Counting?"),
        ("jax:my_jax_env:NoWorld", envs.EnvError, "is no JaxEnv: it lacks reset, step"),
        ("jax:my_jax_env:Unseen", envs.EnvError, "only observations that are for people (log/count)"),
        ("jax:my_jax_env:broken", envs.EnvError, "cannot be built: it raised RuntimeError: no licence"),
    ],
)
def test_jax_adapter_invalid_env_raises_one_sentence(task, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)) as raised:
        envs.make_jax(task)
    assert "\n" not in str(raised.value)
