"""A trained agent outside any loop: one observation or many, and one sentence where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.checkpoint import CheckpointError
from dreamer.ops import dists
from dreamer.player import Player, load
from envs.api import Space, Step, spaces_from, spaces_to


def player(**kwargs):
    return Player(tiny.agent(dists.RANDOM), tiny.state().params, tiny.NUMBERS, **kwargs)


@pytest.fixture(scope="module")
def greedy():
    """Of which the latents have no chance in them either."""
    return Player(tiny.agent(dists.GREEDY), tiny.state().params, tiny.NUMBERS)


@pytest.fixture(scope="module")
def sampling():
    return player(actor="sampled")


def episodes(num, length=3):
    rng = np.random.default_rng(0)
    for t in range(length):
        flag = np.full(num, t == 0)
        yield Step(tiny.observation(rng, num), np.zeros(num, np.float32), flag, ~flag, ~flag)


def test_player_act_batched_and_single_observations_give_equal_actions(greedy):
    many = greedy.init(3)
    single = [greedy.init() for _ in range(3)]
    for step in episodes(3):
        actions, many = greedy.act(many, step)
        for i in range(3):
            action, single[i] = greedy.act(single[i], jax.tree.map(lambda x, i=i: x[i], step))
            for k, space in tiny.ACT.items():
                assert action[k].shape == space.shape and actions[k].shape == (3, *space.shape)
                assert action[k].dtype == actions[k].dtype == space.dtype
                np.testing.assert_allclose(action[k], actions[k][i], rtol=1e-4, atol=1e-5)


def test_player_act_observation_without_flags_equals_a_first_step(greedy):
    (step,) = episodes(3, length=1)
    with_flags, _ = greedy.act(greedy.init(3), step)
    without, _ = greedy.act(greedy.init(3), step.obs)
    jax.tree.map(np.testing.assert_array_equal, with_flags, without)
    one, _ = greedy.act(greedy.init(), jax.tree.map(lambda x: x[0], step.obs))
    np.testing.assert_allclose(one["steer"], without["steer"][0], rtol=1e-4, atol=1e-5)


def test_player_act_carry_matters_until_is_first(greedy):
    first, later, _ = episodes(3)
    _, carry = greedy.act(greedy.init(3), first)
    starts = later._replace(is_first=np.ones(3, bool))
    _, fresh = greedy.act(greedy.init(3), starts)
    _, after = greedy.act(carry, later)
    _, again = greedy.act(carry, starts)
    assert np.abs(after.latent.deter - fresh.latent.deter).max() > 1e-3
    np.testing.assert_array_equal(again.latent.deter, fresh.latent.deter)


def test_player_act_sampled_action_depends_on_the_key_only(sampling):
    (step,) = episodes(3, length=1)
    a, b, c = (sampling.act(sampling.init(3), step, key=key)[0]["steer"] for key in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).all()


def test_player_act_missing_observation_key_raises_naming_it(greedy):
    with pytest.raises(
        ValueError, match=r"^The observation lacks 'token'; this agent reads vector, token\.$"
    ):
        greedy.act(greedy.init(), {"vector": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    ("batch", "shape", "needed"), [(None, (2,), r"\(3,\)"), (None, (1, 3), r"\(3,\)"), (3, (3,), r"\(3, 3\)")]
)
def test_player_act_wrong_observation_shape_raises_naming_it(greedy, batch, shape, needed):
    obs = tiny.observation(np.random.default_rng(0), *([batch] if batch else []))
    obs["vector"] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=rf"^Observation 'vector' has shape .*, but {needed} is needed\.$"):
        greedy.act(greedy.init(batch), obs)


def test_player_parameters_replaced_acts_as_the_other_player(greedy):
    other = Player(tiny.agent(dists.GREEDY), tiny.state(1).params, tiny.NUMBERS)
    (step,) = episodes(3, length=1)
    before = greedy.act(greedy.init(3), step)[0]["steer"]
    mine, greedy.everything = greedy.everything, other.everything
    try:
        exchanged = greedy.act(greedy.init(3), step)[0]["steer"]
    finally:
        greedy.everything = mine
    np.testing.assert_array_equal(exchanged, other.act(other.init(3), step)[0]["steer"])
    assert (exchanged != before).any()


def test_player_parameters_lack_a_module_of_the_actor_raises_naming_it():
    params = {name: tree for name, tree in tiny.state().params.items() if name != "policy"}
    with pytest.raises(ValueError, match=r"needs .*encoder, rssm, policy.*policy is missing"):
        Player(tiny.agent(dists.GREEDY), params, tiny.NUMBERS)
    Player(tiny.agent(dists.GREEDY), params, tiny.NUMBERS, actor="random")


def test_load_greedy_argument_is_deprecated_and_names_an_actor(run):
    for greedy, name in ((True, "greedy"), (False, "sampled")):
        with pytest.warns(DeprecationWarning, match=rf"^load.greedy={greedy}. is now load.actor='{name}'.$"):
            loaded = load(run, greedy=greedy)
        assert loaded.actor == load(run, actor=name).actor


# Where it comes from.


def same(a, b):
    return all(map(np.array_equal, *map(jax.tree.leaves, (a, b))))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with checkpoints at 40 and 80 steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    for i, env_steps in enumerate((40, 80)):
        tiny.store(folder, tiny.state(i), tiny.agent(), env_steps)
    return folder


def test_load_run_folder_returns_the_newest_checkpoint_with_every_module(run):
    loaded = load(run)
    assert same(loaded.everything, tiny.state(1).params)
    assert loaded.config.agent == tiny.CFG and loaded.config.task == "probe:chosen"
    assert loaded.counters == {"env_steps": 80, "updates": 20}


def test_load_checkpoint_folder_returns_that_checkpoint(run):
    loaded = load(run / "checkpoints" / "step-000000000040")
    assert same(loaded.everything, tiny.state(0).params)
    assert loaded.counters == {"env_steps": 40, "updates": 10}


def test_load_current_folder_is_accepted(run, monkeypatch):
    monkeypatch.chdir(run / "checkpoints" / "step-000000000040")
    assert load(".").counters["env_steps"] == 40
    monkeypatch.chdir("..")
    assert load("step-000000000080").counters["env_steps"] == 80


def test_load_two_checkpoints_of_one_step_returns_each(tmp_path):
    for i in range(2):
        tiny.store(tmp_path, tiny.state(i), tiny.agent(), 40)
    first, second = (load(tmp_path / "checkpoints" / f"step-000000000040{end}") for end in ("", "-1"))
    assert same(first.everything, tiny.state(0).params) and same(second.everything, tiny.state(1).params)


def test_load_member_folder_returns_its_part_of_the_population(tmp_path):
    both = jax.tree.map(lambda *x: jnp.stack(x), tiny.state(0), tiny.state(1))
    tiny.store(tmp_path, both, tiny.agent(), population__seeds=2)
    member = tmp_path / "members" / "001"
    member.mkdir(parents=True)
    own = (tmp_path / "config.toml").read_text().replace("seeds = 2", "seeds = 1")
    (member / "config.toml").write_text(own)
    assert same(load(member).everything, tiny.state(1).params)
    for whole in (tmp_path, tmp_path / "checkpoints" / "step-000000000160"):
        with pytest.raises(CheckpointError, match=r"holds a population; take one .*[^s]/members/000\.$"):
            load(whole)


def test_load_folder_that_is_no_run_raises_checkpoint_error(tmp_path, run):
    with pytest.raises(CheckpointError, match="There is no run folder .*nothing and no exported file"):
        load(tmp_path / "nothing")
    with pytest.raises(CheckpointError):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="config.toml is not a file that `dreamer export` wrote"):
        load(run / "config.toml")


def test_spaces_written_and_read_are_equal():
    spaces = tiny.OBS | tiny.ACT | {"image": Space((8, 8, 3), "uint8")}
    assert spaces_from(spaces_to(spaces)) == spaces
