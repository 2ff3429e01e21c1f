"""The protocols of published benchmarks: steps, train ratio, size and number of environments by suite.

Protocols and scores without another source are those of danijar/dreamerv3 e3f0224 (its configurations and
score files; Hafner et al. 2025), and their scores are returns of training episodes. Every name has a `-small`
variant with a small agent and few steps: it learns something on a laptop and is not comparable.

Hours are updates times seconds of an update on 2 CPU cores: 0.41 s at 1m for vectors, 2.1 s for images (LOG
of 2026-11-30). Sizes of 200m were not measured, nor was any accelerator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dreamer.config import Config, EnvConfig, OptimConfig
from experiments.presets.base import dreamerv3, laptop
from experiments.presets.sizes import SIZES


def _protocol(task: str, steps: int, *, size: str, num_envs: int, ratio: float, obs: str = "") -> Config:
    """A published protocol: 16 sequences of 64 steps, a replay of 5,000,000."""
    base = dreamerv3()
    return replace(
        base,
        task=task,
        steps=steps,
        agent=SIZES[size](base.agent),
        env=EnvConfig(obs=obs),
        loop=replace(base.loop, num_envs=num_envs, train_ratio=ratio),
    )


def _laptop(protocol: Config, steps: int, *, ratio: float, num_envs: int = 8) -> Config:
    """The same task for a laptop: the agent of the quickstart, with its learning rate and short sequences."""
    base = laptop()
    loop = replace(base.loop, num_envs=num_envs, train_ratio=ratio, prefill=2_000)
    return replace(base, task=protocol.task, steps=steps, env=protocol.env, loop=loop)


def dmc_proprio() -> Config:
    """DeepMind control from joint angles and velocities, by the published protocol.

    Command: dreamer train dmc-proprio --task dmc:walker-walk. Published at 500,000 steps, 18 tasks: mean
    753.5, median 870.6. One update a step: 500,000 steps are 57 hours on 2 CPU cores.
    """
    return _protocol("dmc:walker-walk", 1_100_000, size="1m", num_envs=16, ratio=1024)


def dmc_proprio_small() -> Config:
    """DeepMind control from joint angles and velocities on a laptop: an eighth of the updates, a higher rate.

    Command: dreamer train dmc-proprio-small --task dmc:cartpole-balance. The published size at train ratio
    128: 30,000 steps are 3,600 updates, 25 minutes on 2 CPU cores.
    """
    base = dmc_proprio()
    agent = replace(base.agent, optim=OptimConfig(lr=4e-4, warmup=100))
    loop = replace(base.loop, num_envs=8, train_ratio=128)
    return replace(base, steps=30_000, agent=agent, loop=loop, eval=replace(base.eval, episodes=20))


def dmc_vision() -> Config:
    """DeepMind control from pixels, by the published protocol.

    Command: dreamer train dmc-vision --task dmc:walker-walk. Published at 1,000,000 steps, 20 tasks: mean
    784.8, median 853.6. 275,000 updates at size 200m: for a large GPU.
    """
    return _protocol("dmc:walker-walk", 1_100_000, size="200m", num_envs=16, ratio=256, obs="image")


def dmc_vision_small() -> Config:
    """DeepMind control from pixels with the quickstart's agent.

    Command: dreamer train dmc-vision-small --task dmc:cartpole-balance. Rendering takes most of the time
    where no GPU does it.
    """
    return _laptop(dmc_vision(), 20_000, ratio=32)


def _whole_games(base: Config) -> Config:
    """With evaluations of games as long as they may be: 108,000 frames."""
    return replace(base, eval=replace(base.eval, max_steps=27_000))


def atari100k() -> Config:
    """Atari with 400,000 frames, by the published protocol but for lives.

    Command: dreamer train atari100k --task atari100k:Pong. Published, 26 games: human-normalised mean 1.26,
    median 0.47; Pong -3.6. 27,500 updates at size 200m: for a large GPU. The published runs leave lives alone
    (--env.lives game) and by an oversight have sticky actions (--env.kwargs '{"sticky": 0.25}'); here a lost
    life is terminal and the game continues, and scores are of whole games.
    """
    base = _protocol("atari100k:Pong", 110_000, size="200m", num_envs=1, ratio=256)
    return _whole_games(replace(base, env=EnvConfig(lives="terminal-and-go-on")))


def atari100k_small() -> Config:
    """Atari with 80,000 frames and the quickstart's agent.

    Command: dreamer train atari100k-small --task atari100k:Pong.
    """
    return _whole_games(_laptop(atari100k(), 20_000, ratio=32, num_envs=4))


def atari() -> Config:
    """Atari with 200 million frames, by the published protocol.

    Command: dreamer train atari --task atari:Pong. Published, 57 games: human-normalised mean 34.0,
    median 8.3; Pong 20.5. 1,600,000 updates at size 200m: for a large GPU.
    """
    return _whole_games(_protocol("atari:Pong", 51_000_000, size="200m", num_envs=16, ratio=32))


def atari_small() -> Config:
    """Atari by the rules of the long protocol, with the quickstart's agent.

    Command: dreamer train atari-small --task atari:Pong.
    """
    return _whole_games(_laptop(atari(), 50_000, ratio=16))


def crafter() -> Config:
    """Crafter, by the published protocol.

    Command: dreamer train crafter. Published after 1,000,000 steps: score 14.5 +- 1.6 (%), return 11.7;
    random 1.6. 550,000 updates at size 200m: for a large GPU.
    """
    return _protocol("crafter:reward", 1_100_000, size="200m", num_envs=1, ratio=512)


def crafter_small() -> Config:
    """Crafter with 20,000 steps and the quickstart's agent.

    Command: dreamer train crafter-small.
    """
    return _laptop(crafter(), 20_000, ratio=32, num_envs=4)


def craftax() -> Config:
    """Craftax-Classic on the device, with a million steps; the settings are ours.

    Command: dreamer train craftax. There is no published run of DreamerV3 in this port, only scores carried
    over from Crafter. 62,500 updates at size 12m.
    """
    return _protocol("craftax:Craftax-Classic", 1_000_000, size="12m", num_envs=16, ratio=64)


def craftax_small() -> Config:
    """Craftax-Classic on the device with the quickstart's agent.

    Command: dreamer train craftax-small.
    """
    return _laptop(craftax(), 100_000, ratio=8, num_envs=64)


def procgen() -> Config:
    """Procgen's hard levels, by the published protocol.

    Command: dreamer train procgen --task procgen:coinrun. Published at 50,000,000 steps, 16 games, one seed:
    normalised mean 0.66, median 0.71; coinrun 9.9. 6,900,000 updates at size 200m: for a large GPU. Levels
    have no end, so an evaluation plays others than training. --env.engine envpool steps all copies together.
    """
    return _protocol("procgen:coinrun", 110_000_000, size="200m", num_envs=16, ratio=64)


def procgen_small() -> Config:
    """Procgen's hard levels with the quickstart's agent.

    Command: dreamer train procgen-small --task procgen:coinrun.
    """
    return _laptop(procgen(), 50_000, ratio=16)


def popgym() -> Config:
    """POPGym's tests of memory; the settings are ours.

    Command: dreamer train popgym --task popgym:RepeatPreviousEasy. Published for PPO with 13 memories at
    15,000,000 steps (Morad et al. 2023), for no Dreamer. 937,500 updates at size 12m.
    """
    return _protocol("popgym:RepeatPreviousEasy", 15_000_000, size="12m", num_envs=64, ratio=64)


def popgym_small() -> Config:
    """POPGym's tests of memory with the quickstart's agent.

    Command: dreamer train popgym-small --task popgym:RepeatPreviousEasy.
    """
    return _laptop(popgym(), 50_000, ratio=32, num_envs=16)


def bsuite() -> Config:
    """The behaviour suite, by the published protocol.

    Command: dreamer train bsuite --task bsuite:catch/0. A setting is scored over its own number of episodes:
    give --steps to match, as dreamer benchmark bsuite does. One update a step.
    """
    return _protocol("bsuite:catch/0", 100_000, size="1m", num_envs=1, ratio=1024)


def bsuite_small() -> Config:
    """The behaviour suite with the quickstart's agent.

    Command: dreamer train bsuite-small --task bsuite:catch/0.
    """
    return _laptop(bsuite(), 10_000, ratio=64, num_envs=1)


def minigrid() -> Config:
    """MiniGrid and BabyAI from the symbolic view with the settings of the paper; there are no published runs.

    Command: dreamer train minigrid --task minigrid:FourRooms. 15,600 updates at size 12m.
    """
    return _protocol("minigrid:MiniGrid-FourRooms-v0", 1_000_000, size="12m", num_envs=16, ratio=16)


def minigrid_small() -> Config:
    """MiniGrid and BabyAI from the symbolic view with the quickstart's agent and a fixed number of steps.

    Command: dreamer train minigrid-small --task minigrid:DoorKey-5x5.
    """
    return replace(
        _laptop(minigrid(), 50_000, ratio=32, num_envs=16), task="minigrid:MiniGrid-DoorKey-5x5-v0"
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "dmc-proprio": dmc_proprio,
    "dmc-proprio-small": dmc_proprio_small,
    "dmc-vision": dmc_vision,
    "dmc-vision-small": dmc_vision_small,
    "atari100k": atari100k,
    "atari100k-small": atari100k_small,
    "atari": atari,
    "atari-small": atari_small,
    "crafter": crafter,
    "crafter-small": crafter_small,
    "craftax": craftax,
    "craftax-small": craftax_small,
    "procgen": procgen,
    "procgen-small": procgen_small,
    "popgym": popgym,
    "popgym-small": popgym_small,
    "bsuite": bsuite,
    "bsuite-small": bsuite_small,
    "minigrid": minigrid,
    "minigrid-small": minigrid_small,
}
