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


def test_worlds_of_a_run_applies_its_rules_to_every_player(tmp_path):
    run = trained(tmp_path / "a", kwargs={"size": 6}, max_episode_steps=9, obs="rgb")
    worlds = worlds_of({"run:a": run}, [TASK, "minigrid:Empty-5x5"])
    assert worlds.of(TASK) == {"kwargs": {"size": 6}, "max_episode_steps": 9}
    assert worlds.of("minigrid:Empty-5x5") == {}
    for player in (RandomPlayer("random", worlds), Scripted("scripted", worlds)):
        assert player.identity(TASK) == worlds.of(TASK)
        env = player.seat(TASK).make_env()
        assert env.worlds()[0].unwrapped.width == 6 and env.worlds()[0].unwrapped.max_steps == 9
    assert RandomPlayer("random").identity(TASK) == {}


def test_worlds_of_runs_with_default_rules_is_empty(tmp_path):
    runs = {name: trained(tmp_path / name, obs=obs) for name, obs in (("a", ""), ("b", "rgb"))}
    assert worlds_of(runs, [TASK]) == Worlds()


def test_worlds_of_runs_with_different_rules_are_refused(tmp_path):
    runs = {"a": trained(tmp_path / "a", max_episode_steps=9), "b": trained(tmp_path / "b")}
    sentence = f"a and b were trained on {FULL} with other rules: max_episode_steps was 9 and none; compare"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        worlds_of(runs, [TASK])
    assert worlds_of(runs, ["minigrid:Empty-5x5"]) == Worlds()


def test_worlds_of_missing_run_is_empty(tmp_path):
    assert worlds_of({"run:absent": tmp_path / "absent"}, [TASK]) == Worlds()
