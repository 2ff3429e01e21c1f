"""Recurrent PPO: its equations, its networks, its folder, and that it learns what only a memory can."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from dreamer.schema import ConfigError
from envs.api import Space, Step
from envs.rollout import rollout
from experiments import lock
from experiments.baselines.ppo import folder as files
from experiments.baselines.ppo import presets
from experiments.baselines.ppo.agent import Agent, Outcome, Part, Rollout, Slot, clipped_objective, gae
from experiments.baselines.ppo.player import load
from experiments.baselines.ppo.presets import PPOConfig
from experiments.baselines.ppo.train import Tally, ended, train

TINY = PPOConfig(steps=64, num_envs=4, slots=8, minibatches=2, epochs=2, units=8, memory=6)
OBS = {
    "cell": Space((2,), "int32", 3),
    "speed": Space((2,), "float32"),
    "image": Space((9, 8, 3), "uint8"),
    "log/success": Space((), "float32"),
}
ACT = {"move": Space((), "int32", 3), "push": Space((2,), "float32"), "say": Space((2,), "int32", 4)}

REWARD, VALUE = jnp.array([9.0, 1.0, 0.0, 2.0]), jnp.array([0.5, 1.0, -1.0, 4.0])
"""The first reward arrived before the first action."""


def close(x, y, **how):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6, **how)


def flat(x: float) -> jax.Array:
    return jnp.full(4, x)


# --- Equations ------------------------------------------------------------------------------------


def test_gae_three_steps_match_hand_computation():
    gamma, lam = 0.5, 0.8
    deltas = [1 + gamma * 1 - 0.5, 0 + gamma * -1 - 1, 2 + gamma * 4 - -1]
    last = deltas[2]
    middle = deltas[1] + gamma * lam * last
    close(gae(REWARD, flat(gamma), VALUE, flat(lam)), [deltas[0] + gamma * lam * middle, middle, last])


def test_gae_lambda_0_is_the_one_step_error():
    close(gae(REWARD, flat(0.5), VALUE, flat(0.0)), REWARD[1:] + 0.5 * VALUE[1:] - VALUE[:-1])


def test_gae_lambda_1_is_the_discounted_return_minus_the_value():
    returns = [1 + 0.5 * (0 + 0.5 * (2 + 0.5 * 4)), 0 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4]
    close(gae(REWARD, flat(0.5), VALUE, flat(1.0)), jnp.array(returns) - VALUE[:-1])


def test_gae_discount_0_is_the_reward_minus_the_value():
    close(gae(REWARD, flat(0.0), VALUE, flat(0.9)), REWARD[1:] - VALUE[:-1])


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "moves"),
    [
        (1.0, 2.0, 2.0, True),
        (1.1, 2.0, 2.2, True),
        (1.5, 2.0, 2.4, False),  # more of a good action than allowed earns nothing
        (0.5, 2.0, 1.0, True),  # less of it does cost
        (0.5, -2.0, -1.6, False),
        (1.5, -2.0, -3.0, True),
    ],
)
def test_clipped_objective_ratios_match_hand_computation(ratio, advantage, expected, moves):
    value, slope = jax.value_and_grad(clipped_objective)(jnp.array(ratio), jnp.array(advantage), 0.2)
    close(value, expected)
    assert (slope != 0) == moves


# --- Networks -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent() -> Agent:
    return Agent(OBS, ACT, TINY)


@pytest.fixture(scope="module")
def params(agent):
    return agent.init(0).params


@pytest.fixture(scope="module")
def unroll(agent):
    return jax.jit(agent.unroll)


def observed(*lead: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "cell": rng.integers(-1, 3, (*lead, 2), np.int32),
        "speed": rng.normal(0, 10, (*lead, 2)).astype(np.float32),
        "image": rng.integers(0, 256, (*lead, 9, 8, 3), np.uint8),
    }


def firsts(T: int, B: int) -> np.ndarray:
    first = np.zeros((T, B), bool)
    first[0, 0] = first[2, 1] = first[3, 0] = True
    return first


def test_unroll_sequence_equals_single_steps(unroll, params):
    T, B = 5, 2
    obs, first = observed(T, B), firsts(T, B)
    memory = start = jnp.asarray(np.random.default_rng(1).normal(size=(B, TINY.memory)), jnp.float32)
    end, _, values = unroll(params, start, obs, first)
    for t in range(T):
        one = {k: v[t : t + 1] for k, v in obs.items()}
        memory, _, value = unroll(params, memory, one, first[t : t + 1])
        close(value[0], values[t])
    close(memory, end)


def test_unroll_first_step_resets_memory_and_copies_are_independent(unroll, params):
    obs, first = observed(5, 2), firsts(5, 2)
    at = lambda obs, memory: unroll(params, memory, obs, first)[2]
    before = at(obs, jnp.zeros((2, TINY.memory)))
    other = {k: v.copy() for k, v in obs.items()}
    other["speed"][1, 1] += 5  # the episode of copy 1 that ends at slot 1
    after = at(other, jnp.array([[9.0], [0.0]]) * jnp.ones((2, TINY.memory)))
    close(before[:, 0], after[:, 0])
    close(before[2:, 1], after[2:, 1])
    assert before[1, 1] != after[1, 1]


def test_unroll_missing_observation_counts_as_zero(agent, unroll, params):
    obs, first = observed(1, 2), np.ones((1, 2), bool)
    speed = np.zeros((1, 2, 2), np.float32)
    value = lambda speed: unroll(params, agent.memory(2), obs | {"speed": speed}, first)[2]
    close(value(np.full_like(speed, -np.inf)), value(speed))


def test_act_actions_fit_their_spaces_and_have_their_log_probability(agent, unroll, params):
    obs, first = observed(2), np.ones(2, bool)
    act = jax.jit(agent.act, static_argnames="greedy")
    choose = lambda seed, greedy: act(
        params, agent.memory(2), obs, first, key=jax.random.key(seed), greedy=greedy
    )
    _, action, logp, _ = choose(1, False)
    _, again, _, _ = choose(1, False)
    _, best, most, _ = choose(2, True)
    _, same, _, _ = choose(3, True)
    for name, space in ACT.items():
        assert action[name].shape == (2, *space.shape) and action[name].dtype == space.dtype
        np.testing.assert_array_equal(action[name], again[name])
        np.testing.assert_array_equal(best[name], same[name])
    one = {k: v[None] for k, v in obs.items()}
    dists = unroll(params, agent.memory(2), one, first[None])[1]
    close(logp, sum(dists[k].log_prob(action[k][None]) for k in ACT)[0])
    assert (most >= logp).all()


# --- Losses ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def part(agent, params) -> Part:
    T, B = 8, 4
    rng = np.random.default_rng(5)
    number = lambda: jnp.asarray(rng.normal(size=(T, B)), jnp.float32)
    action = {
        "move": rng.integers(0, 3, (T, B)),
        "push": rng.normal(size=(T, B, 2)).astype(np.float32),
        "say": rng.integers(0, 4, (T, B, 2)),
    }
    last = np.zeros((T, B), bool)
    last[3, 1] = True
    outcome = Outcome(number(), jnp.asarray(last), jnp.asarray(last), number())
    first = np.roll(last, 1, 0)
    slots = Slot(observed(T, B), jnp.asarray(first), outcome, number(), action, number() - 8)
    return Part(agent.memory(B), slots, number(), number(), ~outcome.is_last)


@pytest.fixture(scope="module")
def moved(agent, params, part) -> dict[str, set[str]]:
    """The modules that each loss moves."""
    slopes = jax.jit(jax.jacrev(agent.losses))(params, part)
    nonzero = lambda tree: any(np.abs(x).max() > 0 for x in jax.tree.leaves(tree))
    return {loss: {k for k, tree in slope.items() if nonzero(tree)} for loss, slope in slopes.items()}


@pytest.mark.parametrize(
    ("loss", "still"),
    [("loss/policy", {"value"}), ("loss/entropy", {"value"}), ("loss/value", {"policy"})],
)
def test_loss_each_term_has_gradients_in_its_own_modules(params, moved, loss, still):
    assert moved[loss] == set(params) - still


@pytest.fixture(scope="module")
def losses(agent):
    return jax.jit(agent.losses)


def test_loss_invalid_slots_are_ignored(losses, params, part):
    where = part.valid
    spoilt = part._replace(
        advantage=jnp.where(where, part.advantage, 1e6), target=jnp.where(where, part.target, 1e6)
    )
    jax.tree.map(close, losses(params, part), losses(params, spoilt))


def test_loss_minibatch_equals_the_objective_of_the_paper(losses, unroll, params, part):
    told, slots = losses(params, part), part.slots
    _, dists, value = unroll(params, part.memory, slots.obs, slots.is_first)
    ratio = jnp.exp(sum(dists[k].log_prob(slots.action[k]) for k in ACT) - slots.logp)
    chosen = clipped_objective(ratio, part.advantage, TINY.clip)[part.valid]
    close(told["loss/policy"], -chosen.mean())
    close(told["loss/value"], 0.5 * jnp.square(value - part.target)[part.valid].mean())


def test_prepare_time_limit_bootstraps_and_termination_does_not(agent):
    learner = agent.init(0)
    cfg = replace(TINY, lam=1.0, discount=0.5, num_envs=2, slots=3)
    agent = Agent(OBS, ACT, cfg)
    no, number = jnp.zeros((3, 2), bool), jnp.zeros((3, 2))
    last = no.at[2].set(True)
    terminal = no.at[2, 1].set(True)
    reward = jnp.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    outcome = Outcome(reward, last, terminal, number.at[2].set(8.0))
    slots = Slot(observed(3, 2), no.at[0].set(True), outcome, number, {}, number)
    closing = Outcome(*(x[0] for x in (number + 99, no, no, number + 99)))
    _, part, _ = jax.jit(agent.prepare)(learner, Rollout(agent.memory(2), slots, closing))
    # The range of these returns is small, so the targets are the returns themselves.
    close(part.target[:2, 0], [1 + 0.5 * (2 + 0.5 * 8), 2 + 0.5 * 8])
    close(part.target[:2, 1], [1 + 0.5 * 2, 2])
    assert not part.valid[2].any() and part.valid[:2].all()


def test_ended_episodes_are_summed_over_iterations():
    last, first = np.zeros((3, 2), bool), np.zeros((3, 2), bool)
    last[1, 0] = first[2, 0] = True
    reward = np.array([[1.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    success = np.array([[np.nan] * 2, [1.0, np.nan], [np.nan] * 2])
    slots = Slot({}, first, Outcome(reward, last, last, reward), success, {}, reward)
    tally, rows = ended(Tally(np.array([10.0, 20.0]), np.array([5, 6])), slots, before=100)
    assert rows == [{"env_steps": 104, "began": 90, "return": 13.0, "length": 7, "success": True}]
    np.testing.assert_array_equal(tally.returns, [0, 23])
    np.testing.assert_array_equal(tally.lengths, [0, 9])


# --- The folder -----------------------------------------------------------------------------------


def quiet(text: str) -> None:
    pass


def after(iterations: int):
    """Says stop after so many iterations."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= iterations


def rows(path):
    """Without the wall-clock."""
    return [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, compilation_cache):
    """A run on the device that nobody disturbed, and how it stands."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    return folder, train("grid:Catch", folder, TINY, say=quiet, steps=96)


def test_train_finished_run_leaves_its_files(straight):
    folder, result = straight
    assert result.finished and result.env_steps == 96 and result.updates == 3 * 4
    found = {p.name for p in folder.iterdir()}
    assert found == {"ppo.json", "metrics.jsonl", "episodes.jsonl", "agent.safetensors"}
    metrics = rows(folder / "metrics.jsonl")
    assert [row["env_steps"] for row in metrics] == [32, 64, 96]
    assert {"loss/policy", "loss/value", "loss/entropy", "kl", "clipped", "explained_variance"} <= set(
        metrics[0]
    )
    assert all(name.startswith("params.") for name in files.read(folder)[0])


def test_train_interrupted_run_resumes_to_the_same_result(straight, tmp_path):
    whole, _ = straight
    part = train("grid:Catch", tmp_path / "run", TINY, say=quiet, steps=96, stop=after(1))
    assert not part.finished and part.env_steps == 32
    said = []
    result = train("grid:Catch", tmp_path / "run", TINY, say=said.append, steps=96)
    assert result.finished and "resuming after 32 steps" in said[0]
    one, other = files.read(whole)[0], files.read(tmp_path / "run")[0]
    assert all(np.array_equal(one[k], other[k]) for k in one)
    for name in ("metrics.jsonl", "episodes.jsonl"):
        assert rows(whole / name) == rows(tmp_path / "run" / name)


def test_train_finished_run_returns_immediately(straight):
    folder, result = straight
    before = (folder / "agent.safetensors").stat().st_mtime_ns
    assert train("grid:Catch", folder, TINY, say=quiet, steps=96) == result
    assert (folder / "agent.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 128}, {"task": "grid:DoorKey-5x5"}])
def test_train_different_configuration_in_the_folder_is_refused(straight, change):
    folder, _ = straight
    asked = {"task": "grid:Catch", "steps": 96, "seed": 0} | change
    with pytest.raises(ConfigError, match=f"another PPO run: {next(iter(change))} was"):
        train(asked.pop("task"), folder, TINY, say=quiet, **asked)


def test_train_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no folder of a PPO run"):
        train("grid:Catch", tmp_path, TINY, say=quiet)
    with pytest.raises(ConfigError, match="no folder of a PPO run"):
        load(tmp_path / "nowhere")


def test_load_damaged_agent_raises_config_error(straight, tmp_path):
    folder, _ = straight
    (tmp_path / "ppo.json").write_bytes((folder / "ppo.json").read_bytes())
    with pytest.raises(ConfigError, match="not saved anything yet"):
        load(tmp_path)
    (tmp_path / "agent.safetensors").write_bytes((folder / "agent.safetensors").read_bytes()[:200])
    with pytest.raises(ConfigError, match="damaged"):
        load(tmp_path)


def test_train_second_trainer_in_the_folder_is_refused(tmp_path):
    with lock.held(tmp_path, what="PPO trainer"), pytest.raises(ConfigError, match="in use: a PPO trainer"):
        train("probe:remembered", tmp_path, LEARNS, say=quiet)
    train("probe:remembered", tmp_path, LEARNS, say=quiet, stop=after(1))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(lock.NAME)) == []


def test_save_fortran_ordered_array_is_read_back_equal(tmp_path):
    """safetensors 0.8 writes an array as it lies in memory, and says nothing of its order."""
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    files.save(tmp_path, {"kernel": np.asfortranarray(kernel)}, (), {"finished": True})
    arrays, _ = files.read(tmp_path)
    np.testing.assert_array_equal(*arrays.values(), kernel)


# --- Playing --------------------------------------------------------------------------------------


def test_load_trained_agent_acts_like_the_trainer(straight):
    folder, result = straight
    player = load(folder, greedy=True)
    assert (player.env_steps, player.seconds, player.finished) == (96, result.seconds, True)
    assert player.num_params == sum(v.size for v in files.read(folder)[0].values())
    env = envs.make("grid:Catch", 3)
    step = env.reset([1, 2, 3])
    agent = Agent(env.obs_space, env.act_space, player.config)
    seen = {k: step.obs[k] for k in player.obs_space}
    expected = agent.act(
        player.params, agent.memory(3), seen, step.is_first, key=jax.random.key(7), greedy=True
    )
    action, memory = player.act(player.init(3), step, key=7)
    np.testing.assert_array_equal(action["action"], expected[1]["action"])
    close(memory, expected[0])
    env.close()


def test_player_act_in_another_world_raises_one_sentence(straight):
    player = load(straight[0])
    flags = [np.ones(1, bool)] * 3
    with pytest.raises(
        ConfigError, match=r"PPO of grid:Catch reads 'board' \[10, 5\], but this world lacks it"
    ):
        player.act(player.init(1), Step({}, np.zeros(1, np.float32), *flags), key=0)


class Forgetful:
    """A player to whom every step is the first one."""

    def __init__(self, player):
        self.player, self.init = player, player.init

    def act(self, carry, step, *, key):
        return self.player.act(carry, step._replace(is_first=np.ones_like(step.is_first)), key=key)


LEARNS = PPOConfig(
    steps=12_000,
    num_envs=16,
    slots=15,
    minibatches=2,
    epochs=8,
    lr=5e-3,
    discount=0.9,
    units=16,
    memory=16,
)


def test_train_remembered_probe_learns_what_needs_memory(tmp_path, compilation_cache):
    go = lambda **how: train("probe:remembered", tmp_path, LEARNS, say=quiet, **how)
    assert go(stop=after(10)).env_steps == 2400
    arrays, counters = files.read(tmp_path)
    begun = next(v for v in arrays.values() if v.dtype == np.int64 and v.shape == (LEARNS.num_envs,))
    assert counters["iterations"] == 10 and begun.min() > 30  # what the environments go on from
    assert go().finished
    steps = [row["env_steps"] for row in rows(tmp_path / "metrics.jsonl")]
    assert steps == list(range(240, 12_001, 240))
    assert set(rows(tmp_path / "episodes.jsonl")[0]) == {
        "env_steps",
        "updates",
        "began",
        "return",
        "length",
        "success",
    }

    player, env = load(tmp_path), envs.make("probe:remembered", 20)
    mean = lambda who: np.mean([e.return_ for e in rollout(who, env, range(100))])
    assert mean(player) > 0.9
    assert mean(Forgetful(player)) < 0.7  # 1/2 is what one gets without
    env.close()


def test_train_continuous_probe_learns_the_action(tmp_path, compilation_cache):
    train("probe:continuous", tmp_path, replace(LEARNS, slots=16), say=quiet)
    env = envs.make("probe:continuous", 20)
    assert np.mean([e.return_ for e in rollout(load(tmp_path, greedy=True), env, range(100))]) > 0.9
    env.close()


# --- Presets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_named_every_preset_is_consistent(name):
    cfg = presets.named(name)
    assert cfg.num_envs % cfg.minibatches == 0 and cfg.iterations * cfg.slots * cfg.num_envs >= cfg.steps


def test_presets_invalid_name_or_field_raises_one_sentence():
    with pytest.raises(ConfigError, match="no PPO preset 'gird'; did you mean grid"):
        presets.named("gird")
    with pytest.raises(ConfigError, match="minibatches must divide the 4 of num_envs, but it is 3"):
        replace(TINY, minibatches=3)


def test_presets_suited_task_of_each_suite_has_a_preset():
    assert presets.suited("minigrid:DoorKey-5x5") == "grid"
    assert presets.suited("gymnasium:CartPole-v1") == "classic"
