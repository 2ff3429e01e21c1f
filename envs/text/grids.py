"""Symbolic grids in words: minigrid:* and grid:* as their agent sees them, or whole.

An agent's view is [7, 7] cells of object, color and state, the first axis to its right, the second
towards it; it stands in the middle of the last row, where the view shows what it carries.

Source of the rules: MiniGrid (Chevalier-Boisvert et al. 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from envs.api import LOG_PREFIX, Spaces, UnsupportedSpace, VectorEnv
from envs.text.layout import rows
from envs.text.world import PRIVILEGED, Teller, Text, choice, joined, listed

VERSION = "minigrid-1"

OBJECTS = (
    *("hidden cell", "free cell", "wall", "floor tile", "door", "key", "ball", "box", "goal"),
    *("lava", "agent"),
)
COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
STATES = ("open", "closed", "locked")
DOOR = OBJECTS.index("door")
PLAIN = {"hidden cell": "red", "free cell": "red", "wall": "grey", "lava": "red"}
"""The color that needs no word; the first two have none, which MiniGrid writes as red."""
GROUND = {"hidden cell": "", "free cell": "floor", "wall": "wall", "lava": "lava"}
"""Cells that the layout tells in full; a door is one in a wall, all else stands on floor."""
DIRECTIONS = ("east", "south", "west", "north")
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))

ACTIONS = {
    "turn left": "turn to your left, on the spot.",
    "turn right": "turn to your right, on the spot.",
    "go forward": "walk one step ahead; walls, closed doors and things are in the way.",
    "pick up": "take the key, ball or box directly ahead; you can carry one thing.",
    "drop": "put what you carry on the free cell directly ahead.",
    "toggle": "open or close the door directly ahead (a locked one opens only while you carry the key of its"
    " color), or open the box directly ahead.",
    "done": "say that the goal is reached; where the goal asks for no such word it does nothing.",
}
DECLARED = ("GoToDoor", "GoToObject")
"""Tasks that end when the agent says that it is done; in all others that action does nothing."""

MISSIONS = (
    ("DistShift", "get to the green goal square"),
    ("DoorKey", "use the key to open the door and then get to the goal"),
    ("Dynamic-Obstacles", "get to the green goal square"),
    ("Empty", "get to the green goal square"),
    ("FourRooms", "reach the goal"),
    ("Lava", "avoid the lava and get to the green goal square"),
    ("Memory", "go to the matching object at the end of the hallway"),
    ("MultiRoom", "traverse the rooms to get to the goal"),
    ("ObstructedMaze", "pick up the blue ball"),
    ("RedBlueDoors", "open the red door then the blue door"),
    ("SimpleCrossing", "find the opening and get to the green goal square"),
    ("Unlock-", "open the door"),
    ("WFC", "traverse the maze to get to the goal"),
)
"""Missions that never change, by how the names of their tasks begin; the observation does not hold them."""

HINTS = (
    (
        "BabyAI-",
        'You have gone to a thing when it is directly ahead of you; "next to" means side by side.'
        ' "On your left" and the like are meant as seen from where you start.',
    ),
    (
        "Memory",
        "One object lies in the first room. Two lie at the end of the hallway, of which one is the same: step"
        " beside that one. Stepping beside the other one ends the episode in failure.",
    ),
    ("Dynamic-Obstacles", "The blue balls move, and walking into one ends the episode in failure."),
    ("RedBlueDoors", "Opening the blue door first ends the episode in failure."),
    ("Fetch", "Picking up another thing ends the episode in failure."),
    ("PutNear", "The episode ends when you drop a thing or pick up a wrong one."),
    ("GoToDoor", "Stand beside that door, then say done; done elsewhere, or toggle, ends in failure."),
    ("GoToObject", "Stand beside that object, then say done; done elsewhere, or toggle, ends in failure."),
)
"""What a task ends with and its mission leaves open, by how its name begins."""

WORLD = """\
You are an agent in a world of square cells and see a part of it.
You face one of the directions north, east, south and west. What you see is told relative to where you \
stand and face: "2 steps ahead and 1 step left" is two cells in front of you and one to your left. You act \
on the cell directly ahead, 1 step ahead of you. After "Ahead", "Left" and "Right" stands how many cells \
are free in a straight line from you, and what comes then.
The layout tells the cells row by row, "0 ahead" being your own row; within a row "0" is straight ahead of \
you. Cells that it leaves out are hidden. Things stand on floor."""
WHOLE_WORLD = """\
You are an agent in a world of square cells and are told all of it.
A cell has the coordinates x, which grows to the east, and y, which grows to the south. You face one of \
the directions north, east, south and west, and act on the cell directly in front of you. The layout tells \
the cells row by row. Things stand on floor."""


def grid(env: VectorEnv, *, privileged: bool) -> Teller:
    """The text world of a task whose observation is a symbolic grid.

    Raises:
      UnsupportedSpace: the whole world is asked for and not observed.
    """
    if privileged and LOG_PREFIX + "object" not in env.obs_space:
        raise UnsupportedSpace(
            f"the privileged text of {env.task} needs the whole grid: make it with obs='privileged'"
        )
    key, count = choice(env.task, env.act_space)
    if count > len(ACTIONS):
        raise UnsupportedSpace(
            f"{env.task} has {count} actions, and the words for grids are {', '.join(ACTIONS)}"
        )
    names = tuple(ACTIONS)[:count]
    name = env.task.partition(":")[2].removeprefix("MiniGrid-")
    declared = name.startswith(DECLARED)
    offered = names if declared else tuple(n for n in names if n != "done")
    extent = " by ".join(map(str, env.obs_space["object"].shape))
    view = "the whole grid" if privileged else f"the {extent} cells in its view"
    return Teller(
        version=VERSION + PRIVILEGED * privileged,
        privileged=privileged,
        sees=f"{view} in words, with its facing direction, what it carries, the mission and the rules",
        actions=offered,
        # What changes least: dropping nothing where "done" ends the episode, turning where one can only move.
        default="drop" if declared else "done" if "done" in names else "turn left",
        rules=rules(name, env.obs_space, offered, privileged=privileged),
        key=key,
        names=names,
        describe=whole if privileged else view_of,
    )


def rules(name: str, spaces: Spaces, actions: Sequence[str], *, privileged: bool) -> str:
    """What a player is told before the first step."""
    fixed = next((m for start, m in MISSIONS if name.startswith(start)), "")
    if "mission" in spaces:
        goal = "Your mission is told with every observation."
    else:
        goal = f"Your mission: {fixed}." if fixed else "There is no mission."
    hints = [hint for start, hint in HINTS if name.startswith(start)]
    world = WHOLE_WORLD if privileged else WORLD
    dangers = "Walking onto a goal ends the episode, and walking into lava ends it in failure."
    return "\n".join([world, dangers, " ".join([goal, *hints]), listed(ACTIONS, actions)])


def named(cell: Sequence[int]) -> str:
    """One cell (object, color, state) in words that no other cell has: "locked yellow door"."""
    kind, color, state = map(int, cell)
    words = [STATES[state]] if kind == DOOR or state else []
    if COLORS[color] != PLAIN.get(OBJECTS[kind]):
        words.append(COLORS[color])
    return " ".join([*words, OBJECTS[kind]])


Names = list[list[str]]
"""[height][width] of what each cell of a grid is."""


def view_of(obs: Mapping[str, np.ndarray]) -> Text:
    """What an agent sees, relative to itself."""
    cells = _names(obs)[::-1]
    center = len(cells[0]) // 2
    carried, cells[0][center] = cells[0][center], "free cell"
    things = [(ahead, column - center, name) for ahead, column, name in _things(cells)]
    things.sort(key=lambda thing: (thing[0] + abs(thing[1]), thing))
    ways = {
        "Ahead": [row[center] for row in cells[1:]],
        "Left": cells[0][:center][::-1],
        "Right": cells[0][center + 1 :],
    }
    lasting = [
        f"You face {_facing(obs)} and carry {_carried(carried)}.",
        *(f"{name}: {_way(way)}." for name, way in ways.items()),
        _told("You see", [f"{_a(name)} {_where(ahead, right)}" for ahead, right, name in things]),
    ]
    layout = rows(
        _ground(cells), lambda a, b: f"{_span(a, b)} ahead", lambda a, b: _side(a - center, b - center)
    )
    return Text(" ".join(lasting), f"{_mission(obs)}Layout:\n{layout}")


def whole(obs: Mapping[str, np.ndarray]) -> Text:
    """The whole world, with the coordinates of everything (privileged)."""
    cells, view = _names(obs, LOG_PREFIX), _names(obs)
    x, y = map(int, obs[LOG_PREFIX + "position"])
    dx, dy = STEPS[int(obs["direction"])]
    carried = _carried(view[-1][len(view[-1]) // 2])
    lasting = (
        f"You are at {_at(x, y)}, face {_facing(obs)} and carry {carried}. "
        f"In front of you, at {_at(x + dx, y + dy)}: {_a(cells[y + dy][x + dx])}."
    )
    things = _told(
        "The world has", [f"{_a(name)} at {_at(column, row)}" for row, column, name in _things(cells)]
    )
    layout = rows(_ground(cells), lambda a, b: f"y {_span(a, b)}", lambda a, b: f"x {_span(a, b)}")
    return Text(lasting, f"{things}\n{_mission(obs)}Layout:\n{layout}")


def _names(obs: Mapping[str, np.ndarray], prefix: str = "") -> Names:
    parts = [np.asarray(obs[prefix + key]).T.tolist() for key in ("object", "color", "state")]
    return [[named(cell) for cell in zip(*row, strict=True)] for row in zip(*parts, strict=True)]


def _things(cells: Names) -> list[tuple[int, int, str]]:
    """Row, column and name of every cell that the layout does not tell in full."""
    return [(j, i, name) for j, row in enumerate(cells) for i, name in enumerate(row) if name not in GROUND]


def _ground(cells: Names) -> Names:
    ground = lambda name: GROUND.get(name, "door" if name.endswith("door") else "floor")
    return [[ground(name) for name in row] for row in cells]


def _told(start: str, things: Sequence[str]) -> str:
    return f"{start} {'; '.join(things)}." if things else f"{start} no things."


def _mission(obs: Mapping[str, np.ndarray]) -> str:
    return f"Mission: {decoded(obs['mission'])}.\n" if "mission" in obs else ""


def decoded(mission: np.ndarray) -> str:
    """The words of a mission, from their indices."""
    from envs.adapters.minigrid import PADDING, VOCABULARY

    return " ".join(VOCABULARY[int(token)] for token in mission if token != PADDING)


def _way(names: Sequence[str]) -> str:
    """How far one can go in a line of cells, and what is there."""
    free = next((i for i, name in enumerate(names) if name != "free cell"), len(names))
    stop = "the end of your view" if free == len(names) else _a(names[free])
    return f"{free} free step{'s' * (free > 1)}, then {stop}" if free else stop


def _where(ahead: int, right: int) -> str:
    parts = [f"{_steps(ahead)} ahead"] if ahead else []
    if right:
        parts.append(f"{_steps(abs(right))} {'right' if right > 0 else 'left'}")
    return joined(parts)


def _side(first: int, last: int) -> str:
    """Columns relative to the agent: "3 left to 1 right"."""
    name = lambda n: f"{abs(n)} {'right' if n > 0 else 'left'}" if n else "0"
    return _span(name(first), name(last))


def _span(first: object, last: object) -> str:
    return f"{first}" if first == last else f"{first} to {last}"


def _steps(n: int) -> str:
    return f"{n} step{'s' * (n > 1)}"


def _at(x: int, y: int) -> str:
    return f"x {x}, y {y}"


def _facing(obs: Mapping[str, np.ndarray]) -> str:
    return DIRECTIONS[int(obs["direction"])]


def _carried(name: str) -> str:
    return "nothing" if name == "free cell" else _a(name)


def _a(name: str) -> str:
    return name if name == "lava" else f"{'an' if name[0] in 'ao' else 'a'} {name}"
