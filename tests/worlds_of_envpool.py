"""Worlds of MiniGrid in the state that EnvPool shows of its own, so that both can be played in lockstep."""

import re

import gymnasium
import numpy as np
from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT
from minigrid.core.grid import Grid
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core import verifier
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel

THING = re.compile(
    r"(the|a) ((?P<color>red|green|blue|purple|yellow|grey) )?(?P<type>\w+)"
    r"( (?P<loc>in front of you|behind you|on your left|on your right))?$"
)
LOCATIONS = {
    "in front of you": "front",
    "behind you": "behind",
    "on your left": "left",
    "on your right": "right",
}
JOINED = {
    ", then ": verifier.BeforeInstr,
    " after you ": verifier.AfterInstr,
    " and ": verifier.AndInstr,
}
ACTIONS = {
    "go to ": verifier.GoToInstr,
    "pick up ": verifier.PickupInstr,
    "open ": verifier.OpenInstr,
}


def put_into(env: gymnasium.Env, state, *, strict: bool = False) -> dict:
    """Put an environment of MiniGrid, at the start of an episode, into a state of EnvPool; its observation.

    Args:
      env: of the adapter.
      state: what `debug_states` of EnvPool shows of a copy.
      strict: whether BabyAI's instructions fail at a wrong object.
    """
    world = env.unwrapped
    shape = (state.width, state.height, 3)
    cells = np.reshape(np.array(state.grid, np.uint8), shape)
    assert (world.width, world.height) == shape[:2]
    world.grid, _ = Grid.decode(cells)
    for x, y in np.ndindex(shape[:2]):
        if (thing := world.grid.get(x, y)) is not None:
            thing.init_pos = thing.cur_pos = (x, y)
            inside = np.reshape(state.grid_contains, shape)[x, y]
            if thing.type == "box" and inside.any():
                thing.contains = WorldObj.decode(*inside.tolist())
    world.agent_pos, world.agent_dir = tuple(state.agent_pos), state.agent_dir
    world.carrying, world.step_count, world.mission = None, 0, state.mission
    if state.has_carrying:
        world.carrying = WorldObj.decode(state.carrying_type, state.carrying_color, state.carrying_state)
    if isinstance(world, RoomGridLevel):
        world.instrs = instruction(state.mission, strict)
        put_doors(world)
        world.instrs.reset_verifier(world)
        own = world.room_size**2 * world.num_rows * world.num_cols * world.num_navs_needed(world.instrs)
        assert world.fixed_max_steps or state.max_steps == own
    else:
        aim_at(world, state)
        assert world.max_steps == state.max_steps
    world.max_steps = state.max_steps
    return env._observe(world.gen_obs())


def aim_at(world, state) -> None:
    """Give a world of MiniGrid what decides whether an episode is a success."""
    goal = state.target_pos
    world.success_pos, world.failure_pos = state.success_pos, state.failure_pos
    world.targetType, world.targetColor = IDX_TO_OBJECT[state.target_type], IDX_TO_COLOR[state.target_color]
    world.move_type, world.moveColor = IDX_TO_OBJECT[state.move_type], IDX_TO_COLOR[state.move_color]
    world.target_pos = goal
    if goal[0] >= 0:
        world.obj = world.door = world.grid.get(*goal)
    doors = {thing.color: thing for thing in world.grid.grid if thing is not None and thing.type == "door"}
    world.red_door, world.blue_door = doors.get("red"), doors.get("blue")
    if type(world).__name__ == "UnlockEnv":
        (world.door,) = doors.values()


def put_doors(world: RoomGridLevel) -> None:
    """Give the rooms the doors that are in the grid."""
    for column in range(world.num_cols):
        for row in range(world.num_rows):
            room = world.get_room(column, row)
            places = [place and world.grid.get(*place) for place in room.door_pos]
            room.doors = [thing if thing and thing.type == "door" else None for thing in places]


def instruction(mission: str, strict: bool) -> verifier.Instr:
    """The instruction of BabyAI that a mission says."""
    for words, kind in JOINED.items():
        first, joined, second = mission.partition(words)
        if joined:
            return kind(instruction(first, strict), instruction(second, strict), strict=strict)
    if mission.startswith("put "):
        moved, _, fixed = mission.removeprefix("put ").partition(" next to ")
        return verifier.PutNextInstr(described(moved), described(fixed), strict=strict)
    words, kind = next((words, kind) for words, kind in ACTIONS.items() if mission.startswith(words))
    thing = described(mission.removeprefix(words))
    return kind(thing) if kind is verifier.GoToInstr else kind(thing, strict=strict)


def described(text: str) -> verifier.ObjDesc:
    """The object or objects that a description is of."""
    said = THING.match(text)
    assert said, text
    kind = None if said["type"] == "object" else said["type"]
    return verifier.ObjDesc(kind, said["color"], LOCATIONS.get(said["loc"] or ""))
