"""A comparison plays its tasks as the Dreamers in it were trained on them."""

import re

import pytest

from dreamer import schema
from dreamer.config import Config, EnvConfig
from dreamer.schema import ConfigError
from experiments.compare.contestants import RandomPlayer, Scripted
from experiments.compare.worlds import Worlds, worlds_of

TASK, FULL = "minigrid:DoorKey-5x5", "minigrid:MiniGrid-DoorKey-5x5-v0"


def trained(folder, task=FULL, **env):
    folder.mkdir()
    (folder / "config.toml").write_text(schema.dump_toml(Config(task, 100, env=EnvConfig(**env))))
    return folder


def test_everybody_plays_what_a_run_was_trained_on(tmp_path):
    run = trained(tmp_path / "a", kwargs={"size": 6}, max_episode_steps=9, obs="rgb")
    worlds = worlds_of({"run:a": run}, [TASK, "minigrid:Empty-5x5"])
    assert worlds.of(TASK) == {"kwargs": {"size": 6}, "max_episode_steps": 9}
    assert worlds.of("minigrid:Empty-5x5") == {}
    for player in (RandomPlayer("random", worlds), Scripted("scripted", worlds)):
        assert player.identity(TASK) == worlds.of(TASK)
        env = player.seat(TASK).make_env()
        assert env.worlds()[0].unwrapped.width == 6 and env.worlds()[0].unwrapped.max_steps == 9
    assert RandomPlayer("random").identity(TASK) == {}


def test_runs_with_the_task_s_own_rules_change_nothing(tmp_path):
    runs = {name: trained(tmp_path / name, obs=obs) for name, obs in (("a", ""), ("b", "rgb"))}
    assert worlds_of(runs, [TASK]) == Worlds()


def test_runs_of_other_rules_are_not_compared(tmp_path):
    runs = {"a": trained(tmp_path / "a", max_episode_steps=9), "b": trained(tmp_path / "b")}
    sentence = f"a and b were trained on {FULL} with other rules: max_episode_steps was 9 and none; compare"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        worlds_of(runs, [TASK])
    assert worlds_of(runs, ["minigrid:Empty-5x5"]) == Worlds()


def test_who_is_not_there_says_so_when_it_is_to_play(tmp_path):
    assert worlds_of({"run:absent": tmp_path / "absent"}, [TASK]) == Worlds()
