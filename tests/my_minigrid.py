"""MiniGrid worlds as a user would write them."""

import gymnasium
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal
from minigrid.envs import DoorKeyEnv
from minigrid.envs.babyai import GoToObj
from minigrid.minigrid_env import MiniGridEnv


class Maze(MiniGridEnv):
    """An empty room; its mission is always the same."""

    mission_space = MissionSpace(lambda: "find the exit")

    def __init__(self, size=6, **more):
        super().__init__(mission_space=self.mission_space, grid_size=size, max_steps=50, **more)

    def _gen_grid(self, width, height):
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.put_obj(Goal(), width - 2, height - 2)
        self.place_agent()
        self.mission = self.say()

    def say(self):
        return "find the exit"


class Told(Maze):
    """Declares its missions."""

    mission_space = MissionSpace(
        lambda c, thing: f"get the {c} {thing}", [["red", "pale"], ["ball", "old oak"]]
    )

    def say(self):
        return self.mission_space.sample()


class Secretive(Maze):
    """Declares one mission and says others."""

    def say(self):
        return ["go left", "go to the next room"][int(self.np_random.integers(2))]


class Rambling(Maze):
    """Now and then says more than is heard when a few episodes are begun."""

    def say(self):
        return "go " * int(self.np_random.integers(1, 30))


class MyDoorKey(DoorKeyEnv):
    """Another one of MiniGrid's own."""


class MyLevel(GoToObj):
    """A level of BabyAI's kind."""


def wrapped_away(**arguments):
    from minigrid.wrappers import ImgObsWrapper

    return ImgObsWrapper(Maze(**arguments))


for env in (Maze, Told, Secretive, Rambling, MyDoorKey, MyLevel):
    gymnasium.register(f"My{env.__name__.removeprefix('My')}-v0", entry_point=f"my_minigrid:{env.__name__}")
gymnasium.register("MiniGrid-Mine-v0", entry_point=Maze, max_episode_steps=7)
gymnasium.register("WrappedAway-v0", entry_point=wrapped_away)
