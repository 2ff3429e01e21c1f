"""Craftax in words: from the words of a step its vector can be put together again."""

import hashlib
import re
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from envs.api import Space, UnsupportedSpace
from envs.text import text_world
from envs.text.craftax import CLASSIC, CRAFTAX, FACES, GAMES

TASKS = tuple(GAMES)
LENGTHS = {"Craftax-Classic": 1345, "Craftax": 8268}


def world_of(task, key="vector"):
    space = Space((LENGTHS[task],), "float32") if key == "vector" else Space((63, 63, 3), "uint8")
    actions = Space((), "int32", {"Craftax-Classic": 17, "Craftax": 43}[task])
    env = SimpleNamespace(
        task=f"craftax:{task}", num_envs=1, obs_space={key: space}, act_space={"a": actions}
    )
    return text_world(env)


def written(game, part, number):
    """How a game writes a number of the player into its vector."""
    if game is CLASSIC and part.scale == 10:
        return np.float32(np.float16(number) / np.float16(10))
    value = np.float32(number)
    return (np.sqrt(value) if part.rooted else value) / np.float32(part.scale)


def coordinate(text, center, before):
    n = int(text.split()[0])
    return center - n if text.endswith(before) else center + n


def vector_of(game, told):
    """The vector that a text tells."""
    (height, width), names = game.view, [*game.blocks, *game.items, *game.creatures]
    cells = np.zeros((height, width, game.depth), np.float32)
    before, _, layout = told.passing.partition("\nLayout:\n")
    for line in layout.splitlines():
        where, _, what = line.rstrip(".").partition(": ")
        ys = [coordinate(part, height // 2, "north") for part in where.split(" to ")]
        for run in what.split(", "):
            name = max((b for b in game.blocks if run.startswith(f"{b} ")), key=len)
            xs = [coordinate(part, width // 2, "west") for part in run[len(name) + 1 :].split(" to ")]
            area = cells[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
            area[..., game.blocks.index(name)] = 1
            if game.items:
                area[..., len(game.blocks)] = 1
            if game.darkness:
                area[..., -1] = 1
    things = re.search(r"You see ([^.]*)\.$", told.lasting)[1]
    for thing in [] if things.startswith("no creatures") else things.split("; "):
        pattern = r"(.*?) (?:here|(?:(\d+ (?:north|south)))?(?: and )?(\d+ (?:west|east))?)$"
        name, y, x = re.match(pattern, thing).groups()
        at = (coordinate(y or "0", height // 2, "north"), coordinate(x or "0", width // 2, "west"))
        if name in game.items:
            cells[at][len(game.blocks)] = 0
        start = len(game.blocks) if name in game.items else len(game.blocks) + len(game.items)
        cells[at][names.index(name, start)] = 1
    tail = []
    for heading, group in game.numbers.items():
        if not group:
            facing = re.match(r"You face (\w+),", told.lasting)[1]
            tail += [np.float32(name == facing) for name in FACES]
            continue
        said = re.search(rf"{heading}: (.*?)\.(?: |$)", before)[1].split(", ")
        amounts = dict(reversed(part.split(" ", 1)) for part in said if part[0].isdigit())
        tail += [
            np.float32(part.name in said)
            if part.flag
            else written(game, part, float(amounts.get(part.name, 0)))
            for part in group
        ]
    return np.concatenate([cells.reshape(-1), np.array(tail, np.float32)])


def told_by(game, told, vector):
    """Whether a text tells a vector, up to how a compiler rounds when it divides by the scale."""
    again, cells = vector_of(game, told), np.prod(game.view) * game.depth
    same = np.array_equal(again[:cells], vector[:cells])
    return same and np.allclose(again[cells:], vector[cells:], rtol=1e-3 if game is CLASSIC else 1e-6, atol=0)


def any_vector(game, rng):
    """A vector with anything that a game may write."""
    height, width = game.view
    cells = np.zeros((height, width, game.depth), np.float32)
    lit = rng.random((height, width)) < (0.7 if game.darkness else 2)
    for y, x in np.argwhere(lit):
        cells[y, x, rng.integers(len(game.blocks))] = 1
        if game.items:
            cells[y, x, len(game.blocks) + rng.integers(len(game.items)) * (rng.random() < 0.1)] = 1
        creatures = cells[y, x, len(game.blocks) + len(game.items) :][: len(game.creatures)]
        creatures[:] = rng.random(len(creatures)) < 0.01
        if game.darkness:
            cells[y, x, -1] = 1
    tail = []
    for group in game.numbers.values():
        for part in group:
            number = rng.integers(2) if part.flag or part.scale == 1 else rng.integers(10)
            if part.measured:
                number = (
                    rng.choice([float(number), rng.random()]) if part.scale == 1 else rng.integers(90) * 0.1
                )
            tail.append(written(game, part, number))
        if not group:
            tail += list(np.eye(4, dtype=np.float32)[rng.integers(4)])
    return np.concatenate([cells.reshape(-1), np.array(tail, np.float32)])


@pytest.mark.parametrize("task", TASKS)
def test_tell_random_vector_can_be_reconstructed(task):
    game, world, rng = GAMES[task], world_of(task), np.random.default_rng(0)
    for _ in range(30):
        vector = any_vector(game, rng)
        assert vector.shape == (LENGTHS[task],)
        assert np.array_equal(vector_of(game, world.tell({"vector": vector})), vector)


@pytest.mark.parametrize(
    ("task", "digest"), [("Craftax-Classic", "0f93a9722ce5"), ("Craftax", "e430c2c9c195")]
)
def test_text_world_changed_text_requires_a_new_version(task, digest):
    world = world_of(task)
    told = world.tell({"vector": any_vector(GAMES[task], np.random.default_rng(3))})
    text = "\n".join([world.rules, *told])
    assert (world.version, hashlib.sha256(text.encode()).hexdigest()[:12]) == ("craftax-1", digest)


def test_tell_view_is_described_in_known_words():
    game = CLASSIC
    cells = np.zeros((*game.view, game.depth), np.float32)
    cells[..., game.blocks.index("grass")] = 1
    cells[0, :, :] = np.eye(game.depth)[game.blocks.index("water")]
    cells[3, 2] = np.eye(game.depth)[game.blocks.index("tree")]
    cells[2, 4, len(game.blocks) + 1] = 1
    carried = np.float16([2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]) / np.float16(10)
    vitals = np.float16([9, 8, 7, 6]) / np.float16(10)
    tail = np.concatenate([carried, vitals, [0, 0, 1, 0], [0.5, 1]]).astype(np.float32)
    told = world_of("Craftax-Classic").tell({"vector": np.concatenate([cells.reshape(-1), tail])})
    assert told.lasting == (
        "You face north, where there is grass. Nearest: tree 2 west; water 3 north. You see cow 1 north."
    )
    assert told.passing == (
        "Carried: 2 wood, 1 sapling, 1 wood pickaxe. Vitals: 9 health, 8 food, 7 drink, 6 energy."
        " Light level: 0.5 of 1. State: asleep.\n"
        "Layout:\n"
        "3 north: water 4 west to 4 east.\n"
        "2 north to 1 north: grass 4 west to 4 east.\n"
        "0: grass 4 west to 3 west, tree 2 west, grass 1 west to 4 east.\n"
        "1 south to 3 south: grass 4 west to 4 east."
    )


@pytest.mark.parametrize("task", TASKS)
def test_rules_contain_every_action(task):
    world = world_of(task)
    assert [int(world.act(name)["a"]) for name in world.actions] == list(range(len(world.actions)))
    assert all(f"- {name}: " in world.rules for name in world.actions)
    assert world.default == "noop" and not world.privileged


def test_text_world_pixels_are_refused():
    with pytest.raises(UnsupportedSpace, match="make it with obs='symbolic'"):
        world_of("Craftax", "image")


# The names in their order, and the vector as the package itself writes it.


def plain(names):
    words = {"out": "edge", "2": "second kind of", "3": "third kind of"}
    return [words.get(n, n.lower().replace("_", " ")) for n in names]


def test_words_blocks_and_actions_are_those_of_the_package():
    pytest.importorskip("craftax")
    from craftax.craftax import constants as deep
    from craftax.craftax_classic import constants as classic

    for game, package in ((CLASSIC, classic), (CRAFTAX, deep)):
        ours = list(game.blocks)
        theirs = plain(b.name for b in package.BlockType)
        others = {
            "out of bounds": "edge of the world",
            "wall moss": "mossy wall",
            "necromancer": "necromancer",
        }
        others |= {"enchantment table fire": "fire enchantment table", "grave2": "second kind of grave"}
        others |= {"enchantment table ice": "ice enchantment table", "grave3": "third kind of grave"}
        others |= {"necromancer vulnerable": "vulnerable necromancer"}
        assert ours == [others.get(name, name) for name in theirs]
        moves = {"left": "move west", "right": "move east", "up": "move north", "down": "move south"}
        moves |= {"do": "interact"}
        colors = ("red", "green", "blue", "pink", "cyan", "yellow")
        moves |= {f"drink potion {color}": f"drink {color} potion" for color in colors}
        assert list(game.actions) == [moves.get(a, a) for a in plain(a.name for a in package.Action)]


class Mobs(NamedTuple):
    """As the package has them, as far as they are seen."""

    position: Any
    type_id: Any
    mask: Any


def mobs(rng, kinds, count, levels, center):
    """Creatures around the player, on every level."""
    import jax.numpy as jnp

    spread = rng.integers(-5, 6, (levels, count, 2)) + center
    kind = rng.integers(kinds, size=(levels, count))
    mask = rng.random((levels, count)) < 0.8
    one = lambda x: jnp.asarray(x if levels > 1 else x[0])
    return Mobs(one(spread), one(kind), one(mask))


def test_tell_vector_of_craftax_classic_can_be_reconstructed():
    pytest.importorskip("craftax")
    import jax
    import jax.numpy as jnp
    from craftax.craftax_classic.renderer import render_craftax_symbolic

    rng = np.random.default_rng(1)
    center = np.array([20, 22])
    mob = {name: mobs(rng, 1, 3, 1, center) for name in ("zombies", "cows", "skeletons", "arrows")}
    carried = [p.name.replace(" ", "_") for p in CLASSIC.numbers["Carried"]]
    vitals = {f"player_{p.name}": int(rng.integers(10)) for p in CLASSIC.numbers["Vitals"]}
    state = SimpleNamespace(
        map=jnp.asarray(rng.integers(17, size=(64, 64))),
        player_position=jnp.asarray(center),
        inventory=SimpleNamespace(**{name: int(rng.integers(10)) for name in carried}),
        player_direction=2,
        light_level=jnp.float32(0.3),
        is_sleeping=True,
        **vitals,
        **mob,
    )
    with jax.numpy_rank_promotion("allow"):
        vector = np.asarray(render_craftax_symbolic(state), np.float32)
    told = world_of("Craftax-Classic").tell({"vector": vector})
    assert told_by(CLASSIC, told, vector)
    assert (
        told.lasting.startswith("You face east") and told.passing.endswith(".") and "asleep" in told.passing
    )
    for name in carried:
        assert f"{getattr(state.inventory, name)} {name.replace('_', ' ')}" in told.passing or not getattr(
            state.inventory, name
        )
    assert all(f"{value} {name.removeprefix('player_')}" in told.passing for name, value in vitals.items())


def test_tell_vector_of_craftax_can_be_reconstructed():
    pytest.importorskip("craftax")
    import jax
    import jax.numpy as jnp
    from craftax.craftax.renderer import render_craftax_symbolic

    rng = np.random.default_rng(2)
    center, levels = np.array([20, 22]), 9
    stock = ("wood", "stone", "coal", "iron", "diamond", "sapphire", "ruby", "sapling", "torches", "arrows")
    kinds = {
        "melee_mobs": 8,
        "passive_mobs": 3,
        "ranged_mobs": 8,
        "mob_projectiles": 8,
        "player_projectiles": 8,
    }
    measured = [p.name for p in CRAFTAX.numbers["Vitals"]]
    vitals = {name: round(float(rng.integers(90)) * 0.1, 1) for name in measured}
    state = SimpleNamespace(
        map=jnp.asarray(rng.integers(37, size=(levels, 48, 48))),
        item_map=jnp.asarray(rng.integers(5, size=(levels, 48, 48)) * (rng.random((levels, 48, 48)) < 0.1)),
        light_map=jnp.asarray(rng.random((levels, 48, 48)) < 0.7, jnp.float32),
        player_level=4,
        player_position=jnp.asarray(center),
        player_direction=1,
        inventory=SimpleNamespace(
            **{name: int(rng.integers(30)) for name in stock},
            **{"books": 1, "pickaxe": 3, "sword": 2, "bow": 1},
            potions=jnp.asarray([0, 1, 2, 3, 4, 5]),
            armour=jnp.asarray([0, 1, 2, 1]),
        ),
        sword_enchantment=1,
        bow_enchantment=2,
        armour_enchantments=jnp.asarray([0, 1, 2, 0]),
        light_level=jnp.float32(0.7123),
        is_sleeping=False,
        is_resting=True,
        learned_spells=jnp.asarray([True, False]),
        monsters_killed=jnp.full(levels, 9),
        boss_timesteps_to_spawn_this_round=3,
        **{f"player_{'xp' if name == 'experience' else name}": value for name, value in vitals.items()},
        **{name: mobs(rng, n, 3, levels, center) for name, n in kinds.items()},
    )
    with jax.numpy_rank_promotion("allow"):
        vector = np.asarray(render_craftax_symbolic(state), np.float32)
    told = world_of("Craftax").tell({"vector": vector})
    assert told_by(CRAFTAX, told, vector)
    assert told.lasting.startswith("You face west")
    wanted = "1 book, 3 grade of pickaxe, 2 grade of sword, 1 kind of sword enchantment, 2 kind of bow"
    assert wanted in told.passing and "1 green potion, 2 blue potion" in told.passing
    assert "resting, master of fireballs, 4 floors below the surface, free to descend" in told.passing
    assert "Worn: 1 grade of chestplate, 2 grade of leggings, 1 grade of boots" in told.passing
    for name, value in vitals.items():
        assert f"{value:g} {name}" in told.passing
