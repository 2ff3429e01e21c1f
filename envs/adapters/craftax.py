"""craftax:Craftax and craftax:Craftax-Classic: open worlds of survival as pure functions.

    obs="symbolic"   `vector`, float32: [1345] in Classic, [8268] in Craftax
    obs="pixels"     `image`, uint8: [63, 63, 3] in Classic, [130, 110, 3] in Craftax
    either           `log/achievements`, uint8, for people: [22] in Classic, [67] in Craftax, 1 for those of
                     `achievements(name)` unlocked so far in this episode

An episode ends by death, in Craftax also by victory; after 10,000 steps it ends without being terminal.
Neither game has a success.

Craftax-Classic has the actions and achievements of Crafter but is another game, easier in some respects, and
so their scores do not compare (`note`, PORTS.md).

A new world costs as much as 15 steps, so `envs.wrappers.Batched` makes one only where an episode begins, and
every episode has a world of its own: with 256 copies of Classic and random actions that takes a fifth of the
time (9,900 steps/s on two busy cores). Building an environment of pixels for the first time takes a minute,
in which Craftax writes its textures into its own package folder.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from envs.adapters import listed
from envs.adapters.device import concrete, restart, transition
from envs.api import LOG_PREFIX, JaxEnv, Space, Spaces, Step
from envs.arguments import NONE, replaced

OBS = ("symbolic", "pixels")
TAKES = ("kwargs", "max_episode_steps")
TASKS = ("Craftax-Classic", "Craftax")
ACHIEVED = LOG_PREFIX + "achievements"

CLASSIC = (
    *("collect_wood", "place_table", "eat_cow", "collect_sapling", "collect_drink", "make_wood_pickaxe"),
    *("make_wood_sword", "place_plant", "defeat_zombie", "collect_stone", "place_stone", "eat_plant"),
    *(
        "defeat_skeleton",
        "make_stone_pickaxe",
        "make_stone_sword",
        "wake_up",
        "place_furnace",
        "collect_coal",
    ),
    *("collect_iron", "collect_diamond", "make_iron_pickaxe", "make_iron_sword"),
)
"""Achievements of Craftax-Classic, in the package's order (`Achievement` of craftax 1.6.1)."""
CRAFTAX = (
    *CLASSIC,
    *("make_arrow", "make_torch", "place_torch", "make_diamond_sword", "make_iron_armour"),
    *("make_diamond_armour", "enter_gnomish_mines", "enter_dungeon", "enter_sewers", "enter_vault"),
    *("enter_troll_mines", "enter_fire_realm", "enter_ice_realm", "enter_graveyard", "defeat_gnome_warrior"),
    *("defeat_gnome_archer", "defeat_orc_solider", "defeat_orc_mage", "defeat_lizard", "defeat_kobold"),
    *("defeat_troll", "defeat_deep_thing", "defeat_pigman", "defeat_fire_elemental", "defeat_frost_troll"),
    *("defeat_ice_elemental", "damage_necromancer", "defeat_necromancer", "eat_bat", "eat_snail", "find_bow"),
    *("fire_bow", "collect_sapphire", "learn_fireball", "cast_fireball", "learn_iceball", "cast_iceball"),
    *("collect_ruby", "make_diamond_pickaxe", "open_chest", "drink_potion", "enchant_sword"),
    *("enchant_armour", "defeat_knight", "defeat_archer"),
)
"""Achievements of Craftax, likewise; the first 22 are those of Classic."""


def ids() -> list[str]:
    """The two games."""
    return list(TASKS)


def canonical(name: str) -> str:
    """The name itself, if there is such a task.

    Raises:
      UnknownTask: with close matches.
    """
    return listed("craftax", name, TASKS)


def achievements(name: str) -> tuple[str, ...]:
    """The names of the entries of `log/achievements` of a game; they need no package."""
    return CLASSIC if name == "Craftax-Classic" else CRAFTAX


def note(name: str) -> str:
    """That Craftax-Classic is not Crafter, whose scores are often put beside it."""
    if name != "Craftax-Classic":
        return ""
    return (
        "Craftax-Classic is not Crafter, so their scores do not compare: in Craftax a zombie's blow also "
        "unlocks wake_up, every achievement of a step counts (in Crafter one), and zombies differ."
    )


def make_jax(
    name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int | None = None
) -> JaxEnv:
    """One world.

    Args:
      kwargs: parameters of the game, as `day_length`.

    Raises:
      UnknownTask: for a parameter that the game does not have.
    """
    return Craftax(canonical(name), pixels=obs == "pixels", max_steps=max_episode_steps, kwargs=kwargs)


class Craftax:
    """A `JaxEnv` of either game.

    Args:
      max_steps: the time limit (None: that of the game).
      kwargs: parameters of the game.
    """

    def __init__(
        self, name: str, *, pixels: bool, max_steps: int | None = None, kwargs: Mapping[str, Any] = NONE
    ):
        from craftax.craftax_env import make_craftax_env_from_name  # pyrefly: ignore

        kind = "Pixels" if pixels else "Symbolic"
        # Craftax tells how its textures get on; standard output belongs to results.
        with contextlib.redirect_stdout(sys.stderr):
            self._env = make_craftax_env_from_name(f"{name}-{kind}-v1", auto_reset=False)
        self._params = self._env.default_params
        self.task = f"craftax:{name}"
        self._params = replaced(self.task, self._params, kwargs, limit="max_timesteps")
        if max_steps is not None:
            self._params = self._params.replace(max_timesteps=max_steps)
        shape = tuple(self._env.observation_space(self._params).shape)
        self._pixels = pixels
        self.obs_space: Spaces = (
            {"image": Space(shape, "uint8")} if pixels else {"vector": Space(shape, "float32")}
        )
        self.obs_space = {**self.obs_space, ACHIEVED: Space((len(achievements(name)),), "uint8")}
        actions = self._env.action_space(self._params).n
        self.act_space: Spaces = {"action": Space((), "int32", int(actions))}

    def reset(self, *, key: Array) -> tuple[Any, Step]:
        """A world chosen at random, and its first step."""
        raw, state = self._env.reset_env(key, self._params)
        return _without_key(state), restart(self._observe(raw, state))

    def step(self, state: Any, action: dict[str, Array], *, key: Array) -> tuple[Any, Step]:
        """What the action leads to."""
        act = jnp.asarray(action["action"], jnp.int32)
        raw, state, reward, done, _ = self._env.step_env(key, state, act, self._params)
        # `done` and the discount say the same of death and time limit. Whether the player lives does not
        # depend on the clock, so an episode that would be over with a fresh one is over for good.
        terminal = self._env.is_terminal(state.replace(timestep=0), self._params)
        return _without_key(state), transition(self._observe(raw, state), reward, terminal, done)

    def _observe(self, raw: Array, state: Any) -> dict[str, Array]:
        unlocked = {ACHIEVED: jnp.asarray(state.achievements, jnp.uint8)}
        if not self._pixels:
            return {"vector": jnp.asarray(raw, jnp.float32), **unlocked}
        return {"image": jnp.clip(jnp.round(raw * 255), 0, 255).astype(jnp.uint8), **unlocked}


def _without_key(state: Any) -> Any:
    """A state without the key for the noise of the night, which has been drawn when a step is returned."""
    return concrete(state.replace(state_rng=None))
