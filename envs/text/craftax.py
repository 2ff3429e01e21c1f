"""craftax:Craftax-Classic and craftax:Craftax in words: the view, the player's state and belongings.

Both show one vector: first every cell of the view, row by row from north to south, as one of the blocks, one
of the items, any of the creatures and (in Craftax) whether it is lit; then numbers of the player and world.

Source of the rules and of the vector: Craftax 1.6 (Matthews et al. 2024).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from envs.api import UnsupportedSpace, VectorEnv
from envs.text.layout import rows
from envs.text.world import Teller, Text, choice, joined, listed

VERSION = "craftax-1"

FACES = {"west": (0, -1), "east": (0, 1), "north": (-1, 0), "south": (1, 0)}
"""Directions in the order of the vector: the neighbour in rows and columns."""
COMMON = ("grass", "sand", "path", "fire grass", "ice grass", "gravel", "edge of the world")
"""Blocks of which the nearest is not worth a word."""
ALWAYS = ("Vitals", "Light level")
"""Headings under which a number is told even if it is 0."""


class Part(NamedTuple):
    """One number of the player or the world."""

    name: str
    scale: float = 10.0
    """What it is multiplied with to be told."""
    rooted: bool = False
    """Whether the vector holds the square root of it."""
    measured: bool = False
    """Whether it may lie between whole numbers."""
    flag: bool = False
    """Whether it is 0 or 1 and its name says it all."""


@dataclass(frozen=True)
class Game:
    """How one of the two games writes its vector, and what it is about."""

    view: tuple[int, int]
    """Rows and columns; the player stands in the middle."""
    blocks: tuple[str, ...]
    items: tuple[str, ...]
    creatures: tuple[str, ...]
    darkness: bool
    """Whether every cell says if it is lit; of those that are not nothing is seen."""
    numbers: Mapping[str, tuple[Part, ...]]
    """After the cells, in order, under the heading they are told with; "facing" is four numbers."""
    actions: Mapping[str, str]
    rules: str

    @property
    def depth(self) -> int:
        """Numbers of a cell."""
        return len(self.blocks) + len(self.items) + len(self.creatures) + self.darkness


def parts(
    names: str, scale: float = 10.0, *, rooted: bool = False, measured: bool = False
) -> tuple[Part, ...]:
    """Parts of one kind, from their names with commas between."""
    return tuple(Part(name.strip(), scale, rooted, measured) for name in names.split(","))


def flags(names: str) -> tuple[Part, ...]:
    """Parts that are or are not, from their names with commas between."""
    return tuple(Part(name.strip(), 1.0, flag=True) for name in names.split(","))


BLOCKS = (
    *("invalid", "edge of the world", "grass", "water", "stone", "tree", "wood", "path", "coal", "iron"),
    *("diamond", "crafting table", "furnace", "sand", "lava", "plant", "ripe plant"),
)
DEEP_BLOCKS = (
    *("wall", "darkness", "mossy wall", "stalagmite", "sapphire", "ruby", "chest", "fountain", "fire grass"),
    *("ice grass", "gravel", "fire tree", "ice shrub", "fire enchantment table", "ice enchantment table"),
    *("necromancer", "grave", "second kind of grave", "third kind of grave", "vulnerable necromancer"),
)
MELEE = (*("zombie", "gnome warrior", "orc soldier", "lizard", "knight", "troll", "pigman", "frost troll"),)
PASSIVE = ("cow", "bat", "snail", *(f"peaceful creature {i}" for i in range(3, 8)))
RANGED = (
    *("skeleton", "gnome archer", "orc mage", "kobold", "archer", "deep thing", "fire elemental"),
    "ice elemental",
)
PROJECTILES = (
    *("arrow", "dagger", "fireball", "iceball", "second kind of arrow", "slimeball"),
    *("second kind of fireball", "second kind of iceball"),
)

MOVES = {
    "noop": "do nothing.",
    "move west": "face west and walk one step, if nothing is in the way.",
    "move east": "the same to the east.",
    "move north": "the same to the north.",
    "move south": "the same to the south.",
    "interact": "use what you face: gather or mine it, drink water, eat, or attack a creature.",
    "sleep": "sleep until you are rested or attacked; it restores energy.",
    "place stone": "needs 1 stone; on free ground or water.",
    "place table": "a crafting table; needs 2 wood.",
    "place furnace": "needs 1 stone.",
    "place plant": "plant 1 sapling on grass.",
    "make wood pickaxe": "needs a crafting table nearby and 1 wood.",
    "make stone pickaxe": "needs a crafting table nearby, 1 wood and 1 stone.",
    "make iron pickaxe": "needs a crafting table and a furnace nearby, 1 wood, 1 stone, 1 coal and 1 iron.",
    "make wood sword": "needs a crafting table nearby and 1 wood.",
    "make stone sword": "needs a crafting table nearby, 1 wood and 1 stone.",
    "make iron sword": "needs a crafting table and a furnace nearby, 1 wood, 1 stone, 1 coal and 1 iron.",
}
DEEP_MOVES = {
    "rest": "do nothing until your health is restored or you are attacked.",
    "descend": "needs a ladder down under you, which opens after 8 creatures of the floor are defeated.",
    "ascend": "needs a ladder up under you.",
    "make diamond pickaxe": "needs a crafting table nearby, 1 wood and 3 diamond.",
    "make diamond sword": "needs a crafting table nearby, 1 wood and 2 diamond.",
    "make iron armour": "one piece; needs a crafting table and a furnace nearby, 3 iron and 3 coal.",
    "make diamond armour": "one piece; needs a crafting table nearby and 3 diamond.",
    "shoot arrow": "needs a bow and an arrow.",
    "make arrow": "needs a crafting table nearby, 1 wood and 1 stone.",
    "cast fireball": "needs that spell and 2 mana.",
    "cast iceball": "needs that spell and 2 mana.",
    "place torch": "needs a torch; it lights dark places.",
    **{
        f"drink {color} potion": "what it does is different in every world."
        for color in ("red", "green", "blue", "pink", "cyan", "yellow")
    },
    "read book": "learn a spell from a book.",
    "enchant sword": "needs an enchantment table ahead, 9 mana, and a ruby (fire) or sapphire (ice).",
    "enchant armour": "as with a sword.",
    "make torch": "needs a crafting table nearby, 1 wood and 1 coal.",
    "level up dexterity": "needs 1 experience.",
    "level up strength": "needs 1 experience.",
    "level up intelligence": "needs 1 experience.",
    "enchant bow": "as with a sword.",
}

WORLD = """\
You are the player in a world of square cells. You see a part of it, with yourself in the middle, and what \
you see is told relative to you: "2 north and 1 west" is two cells north and one west of you. You act on \
the cell that you face. "Nearest" names the nearest block of every kind but the common ones. The layout \
tells the cells row by row from north to south; "0" is your own row or column.
Eat, drink and sleep to stay alive: when health is gone the episode ends. Lava kills. Stone and coal need \
a wood pickaxe, iron a stone one and diamond an iron one. "Nearby" is one of the eight cells around you."""
CLASSIC = Game(
    view=(7, 9),
    blocks=BLOCKS,
    items=(),
    creatures=("zombie", "cow", "skeleton", "arrow"),
    darkness=False,
    numbers={
        "Carried": parts(
            "wood, stone, coal, iron, diamond, sapling, wood pickaxe, stone pickaxe, iron pickaxe,"
            " wood sword, stone sword, iron sword"
        ),
        "Vitals": parts("health, food, drink, energy"),
        "facing": (),
        "Light level": (Part("of 1", 1.0, measured=True),),
        "State": flags("asleep"),
    },
    actions=MOVES,
    rules=f"{WORLD}\nThe goal is to do, at least once, as many of these as you can: collect wood, stone,"
    " coal, iron, diamond, a sapling and drink; place a table, a furnace, stone and a plant; make the three"
    " pickaxes and the three swords; eat a cow and a ripe plant; defeat a zombie and a skeleton; wake up"
    " rested.",
)
CRAFTAX = Game(
    view=(9, 11),
    blocks=(*BLOCKS, *DEEP_BLOCKS),
    items=("nothing", "torch", "ladder down", "ladder up", "blocked ladder down"),
    creatures=(
        *(*MELEE, *PASSIVE, *RANGED),
        *(f"hostile {name}" for name in PROJECTILES),
        *(f"own {name}" for name in PROJECTILES),
    ),
    darkness=True,
    numbers={
        "Carried": (
            *parts("wood, stone, coal, iron, diamond, sapphire, ruby, sapling, torch, arrow", rooted=True),
            *(Part("book", 2.0), Part("grade of pickaxe", 4.0), Part("grade of sword", 4.0)),
            *parts("kind of sword enchantment, kind of bow enchantment, bow", 1.0),
            *parts(
                "red potion, green potion, blue potion, pink potion, cyan potion, yellow potion", rooted=True
            ),
        ),
        "Vitals": parts(
            "health, food, drink, energy, mana, experience, dexterity, strength, intelligence", measured=True
        ),
        "facing": (),
        "Worn": (
            *parts("grade of helmet, grade of chestplate, grade of leggings, grade of boots", 2.0),
            *parts(
                "kind of helmet enchantment, kind of chestplate enchantment, kind of leggings enchantment,"
                " kind of boots enchantment",
                1.0,
            ),
        ),
        "Light level": (Part("of 1", 1.0, measured=True),),
        "State": (
            *flags("asleep, resting, master of fireballs, master of iceballs"),
            Part("floors below the surface"),
            *flags("free to descend from this floor, able to harm the necromancer"),
        ),
    },
    actions={**MOVES, **DEEP_MOVES},
    rules=f"{WORLD} Sapphire and ruby need a diamond pickaxe. Grades count from 1: wood, stone, iron,"
    " diamond for pickaxes and swords; iron, diamond for armour. Enchantments are 1 for fire and 2 for ice."
    " Cells that the layout leaves out are dark.\nThe goal is to do, at least once, as many different things"
    " as you can: gather every material, make every tool, eat and drink, defeat every kind of creature, use"
    " potions, books, spells and enchantments, and reach deeper floors, down to the necromancer in the"
    " graveyard.",
)
GAMES = {"Craftax-Classic": CLASSIC, "Craftax": CRAFTAX}


def craftax(env: VectorEnv) -> Teller:
    """The text world of either game.

    Raises:
      UnsupportedSpace: it shows pixels.
    """
    if "vector" not in env.obs_space:
        raise UnsupportedSpace(f"{env.task} cannot be told in words as an image: make it with obs='symbolic'")
    game = GAMES[env.task.partition(":")[2]]
    key, _ = choice(env.task, env.act_space)
    names = tuple(game.actions)
    extent = " by ".join(map(str, game.view))
    return Teller(
        version=VERSION,
        privileged=False,
        sees=f"the {extent} cells in its view in words, its state and belongings, and the rules",
        actions=names,
        default="noop",
        rules=f"{game.rules}\n{listed(game.actions, names)}",
        key=key,
        names=names,
        describe=functools.partial(tell, game),
    )


def tell(game: Game, obs: Mapping[str, np.ndarray]) -> Text:
    """What a player sees, has and is."""
    vector = np.asarray(obs["vector"], np.float32)
    height, width = game.view
    size = height * width * game.depth
    view, tail = vector[:size].reshape(height, width, game.depth) > 0, vector[size:]
    player = (height // 2, width // 2)
    ends = np.cumsum([len(game.blocks), len(game.items), len(game.creatures)])
    # Whether a cell is lit, the last number, is the same as whether it shows a block.
    blocks, items, creatures, _ = np.split(view, ends, -1)
    ground = [[_one(game.blocks, cell) for cell in row] for row in blocks]
    things = [*_found(game.items[1:], items[..., 1:], player), *_found(game.creatures, creatures, player)]
    facing, sentences = _numbers(game, tail)
    dy, dx = FACES[facing]
    lasting = [f"You face {facing}, where there is {ground[player[0] + dy][player[1] + dx] or 'darkness'}."]
    if nearest := _nearest(ground, player):
        lasting.append(f"Nearest: {'; '.join(nearest)}.")
    lasting.append(f"You see {'; '.join(things)}." if things else "You see no creatures or items.")
    layout = rows(
        ground,
        lambda a, b: _span(_away(a - player[0], "north", "south"), _away(b - player[0], "north", "south")),
        lambda a, b: _span(_away(a - player[1], "west", "east"), _away(b - player[1], "west", "east")),
    )
    return Text(" ".join(lasting), f"{' '.join(sentences)}\nLayout:\n{layout}")


def _numbers(game: Game, tail: np.ndarray) -> tuple[str, list[str]]:
    """Where the player faces, and a sentence for every group of numbers."""
    facing, sentences, start = "", [], 0
    for heading, group in game.numbers.items():
        values = tail[start : start + (len(group) or len(FACES))]
        start += len(values)
        if not group:
            facing = _one(tuple(FACES), values > 0)
            continue
        entries = [
            part.name if part.flag else f"{_amount(part, value)} {part.name}"
            for part, value in zip(group, values, strict=True)
            if value or heading in ALWAYS
        ]
        sentences.append(f"{heading}: {', '.join(entries) or 'none'}.")
    return facing, sentences


def _amount(part: Part, value: np.float32) -> str:
    """The number that the game wrote as this value: whole, or the shortest that says it."""
    if not part.measured:
        amount = float(value) * part.scale
        return str(round(amount**2 if part.rooted else amount))
    if part.scale == 1:
        return str(value)
    # How a compiler divides by the scale decides over the last bits.
    near = 2 * np.spacing(value)
    amount = float(value) * part.scale
    shorter = (round(amount, digits) for digits in range(8))
    short = next((n for n in shorter if abs(np.float32(n / part.scale) - value) <= near), amount)
    return f"{short:g}" if float(f"{short:g}") == short else str(short)


def _one(names: tuple[str, ...], cell: np.ndarray) -> str:
    """The name that is marked, "" if none is."""
    marked = np.flatnonzero(cell)
    return names[marked[0]] if marked.size else ""


def _found(names: tuple[str, ...], marks: np.ndarray, player: tuple[int, int]) -> list[str]:
    return [f"{names[kind]} {_place(y - player[0], x - player[1])}" for y, x, kind in np.argwhere(marks)]


def _nearest(ground: list[list[str]], player: tuple[int, int]) -> list[str]:
    """The nearest block of every kind but the common ones, the nearest kinds first."""
    best: dict[str, tuple[int, int, int]] = {}
    for y, row in enumerate(ground):
        for x, name in enumerate(row):
            away = (abs(y - player[0]) + abs(x - player[1]), y - player[0], x - player[1])
            if name and name not in COMMON and away < best.get(name, (len(ground) + len(row), 0, 0)):
                best[name] = away
    kinds = sorted(best.items(), key=lambda kind: kind[1])
    return [f"{name} {_place(dy, dx)}" for name, (_, dy, dx) in kinds]


def _place(dy: int, dx: int) -> str:
    ways = [_away(dy, "north", "south"), _away(dx, "west", "east")]
    return joined([way for way in ways if way != "0"] or ["here"])


def _away(n: int, before: str, after: str) -> str:
    return f"{abs(n)} {before if n < 0 else after}" if n else "0"


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"
