"""The full agent, loop and all, learns worlds whose best return is known, each in seconds."""

import functools

import jax
import numpy as np
import oracle
import pytest
import tiny

import envs
from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent
from dreamer.config import AgentConfig, LoopConfig
from dreamer.gym import DreamVectorEnv
from dreamer.loops.clocks import Progress
from dreamer.loops.collector import Collector
from dreamer.loops.host import HostLoop
from dreamer.numbers import trace
from dreamer.objectives import OBJECTIVES
from dreamer.player import Player
from dreamer.replay.host import HostReplay
from envs import probes
from envs.rollout import rollout
from experiments.report.card import measure
from experiments.report.recording import record

LOOP = LoopConfig(num_envs=8, train_ratio=16, batch_size=16, batch_length=8, prefill=200)
CFG = tiny.config(
    encoder__units=16,
    decoder__units=16,
    rssm__deter=32,
    rssm__hidden=16,
    policy__units=16,
    value__units=16,
    value__bins=41,
    reward__units=16,
    reward__bins=41,
    optim__lr=4e-3,
    optim__warmup=20,
    behavior__horizon=20.0,
    behavior__slow_rate=0.1,
    loss__free_nats=3.0,  # one nat tells 2.7 targets apart, so the continuous probe would stop at 0.8 to 0.9
)


OPTIMISED = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
}


@pytest.fixture(autouse=True)
def optimised(monkeypatch):
    """Programs as users have them: these run for long, and their rounding decides the course of a seed."""
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=OPTIMISED))


def learn(task: str, steps: int, cfg: AgentConfig = CFG) -> tuple[Player, Player, list[dict[str, float]]]:
    """An agent after a twentieth of the steps that it learns from, the same at the end, and metrics."""
    env = envs.make(task, LOOP.num_envs)
    agent = Agent(env.obs_space, env.act_space, cfg)
    replay = HostReplay(20_000, LOOP.num_envs, env.obs_space, env.act_space, agent.entries)
    hyper = trace(cfg)
    state = jax.jit(agent.init)(jax.random.key(0))
    source = Collector(agent, env, replay, hyper, seed=0, actor=SAMPLED)
    loop = HostLoop(agent, source, replay, LOOP, hyper, state, Progress(), seed=0, actor=SAMPLED)
    metrics, early = [], None
    for output in loop.outputs():
        metrics += output.metrics
        if early is None and loop.progress.env_steps >= LOOP.prefill + steps / 20:
            early = Player(agent, jax.tree.map(np.array, loop.state.params), hyper)
        if loop.progress.env_steps >= steps:
            break
    metrics += loop.flush()
    assert early is not None
    return early, Player(agent, loop.state.params, hyper), metrics


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("constant", 1500),
        ("observed", 3000),
        ("delayed", 3000),
        ("chosen", 2500),
        ("remembered", 8000),
        ("continuous", 4000),
    ],
)
def test_host_loop_probe_task_learns_near_optimal_return(name, steps):
    early, player, metrics = learn(f"probe:{name}", steps)
    env = envs.make(f"probe:{name}", 20)
    episodes = rollout(player, env, range(40))
    probe = probes.PROBES[name]
    mean = np.mean([e.return_ for e in episodes])
    reached = (mean - probe.random_return) / max(probe.optimal_return - probe.random_return, 1e-9)
    if probe.optimal_return > probe.random_return:
        assert reached > 0.8
    losses = [m["loss/reward"] for m in metrics]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:5])
    if name == "delayed":
        report_cards_get_better(early, player, env)
    if name == "chosen":
        dreams_are_like_the_world(player)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["observed", "chosen", "remembered", "continuous"])
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "reconstruction"])
def test_objective_without_a_decoder_learns_a_probe_task(objective, name):
    """`none` too: the secret of these worlds decides a reward, which is enough to represent it."""
    steps = {"observed": 3000, "chosen": 2500, "remembered": 12_000, "continuous": 6000}[name]
    rates = {"cdp__factors": ("encoder=0.1",)}  # its factor of 10 is for learning rates of the paper
    _, player, _ = learn(f"probe:{name}", steps, tiny.change(CFG, objective=objective, **rates))
    probe = probes.PROBES[name]
    mean = np.mean([e.return_ for e in rollout(player, envs.make(f"probe:{name}", 20), range(40))])
    assert mean - probe.random_return > 0.8 * (probe.optimal_return - probe.random_return)


def dreams_are_like_the_world(player: Player) -> None:
    """Of a learned model: an episode is one step, and its reward is the action."""
    dreams = DreamVectorEnv(player, 20, starts=np.zeros((1, 2)), termination="threshold")
    dreams.reset(seed=0)
    actions = np.arange(20) % 2
    obs, reward, terminated, truncated, _ = dreams.step(actions)
    assert terminated.all() and not truncated.any()
    np.testing.assert_allclose(reward, actions, atol=0.3)
    np.testing.assert_allclose(obs[:, 1], 1.0, atol=0.4)  # the time that has passed


def report_cards_get_better(early: Player, late: Player, env) -> None:
    """Of the same episodes: a model that has learned foresees rewards and endings."""
    _, episodes = record(late, env, range(40))
    first, last = (
        measure(
            oracle.real(player.agent, player.everything, player.numbers),
            episodes,
            context=2,
            horizon=3,
            gamma=1 - 1 / CFG.behavior.horizon,
        ).numbers
        for player in (early, late)
    )
    for name in ("cont_error", "reward_error"):
        assert last[name] < first[name], name
    for name in ("reward_skill", "value_skill", "dream_skill"):
        assert last[name] > max(0.5, first[name]), name
