"""dmc:<domain>-<task>: the 51 tasks of the DeepMind Control Suite.

    obs="proprio"    every observation of dm_control under its name, float32: `position` [8], `velocity` [9];
                     a lone number has the shape [1]
    obs="image"      `image`, uint8 [64, 64, 3], of camera 0 (quadruped: 2)
    obs="both"       all of these

Names are written with hyphens: `dmc:walker-walk`, `dmc:ball-in-cup-catch`; `dmc:cup_catch` is understood.
Arguments are `action_repeat` (1; rewards are summed), and `size` and `camera` of images. An episode has 1,000
steps of the world, and its end there is no terminal one; those of lqr end only when it is solved.

The episode of a seed is the first one of `suite.load(..., task_kwargs={"random": seed})`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs import engine, opengl
from envs.adapters import UnknownTask, suggestion
from envs.arguments import NONE, Wrap, check_names, wrapped
from envs.dm import Begin, Observe, World, control, loading

OBS = ("proprio", "image", "both")
TAKES = ("kwargs", "max_episode_steps", "wrappers", "engine")

DOMAINS = {
    "acrobot": "swingup swingup_sparse",
    "ball_in_cup": "catch",
    "cartpole": "balance balance_sparse swingup swingup_sparse two_poles three_poles",
    "cheetah": "run",
    "dog": "stand walk trot run fetch",
    "finger": "spin turn_easy turn_hard",
    "fish": "upright swim",
    "hopper": "stand hop",
    "humanoid": "stand walk run run_pure_state",
    "humanoid_CMU": "stand walk run",
    "lqr": "lqr_2_1 lqr_6_2",
    "manipulator": "bring_ball bring_peg insert_ball insert_peg",
    "pendulum": "swingup",
    "point_mass": "easy hard",
    "quadruped": "walk run escape fetch",
    "reacher": "easy hard",
    "stacker": "stack_2 stack_4",
    "swimmer": "swimmer6 swimmer15",
    "walker": "stand walk run",
}
"""Domains of dm_control 1.0.50 and their tasks."""


def _hyphened(name: str) -> str:
    return name.lower().replace("_", "-")


TASKS = {_hyphened(f"{d}-{t}"): (d, t) for d, tasks in DOMAINS.items() for t in tasks.split()}
"""Domain and task of every name."""
ALIASES = {"cup": "ball-in-cup", "pointmass": "point-mass", "humanoidcmu": "humanoid-cmu"}
"""Other names of domains."""

IMAGE = {"size": 64, "camera": 0}
"""Arguments of images. The cameras are those of DreamerV3 (danijar/dreamerv3, embodied/envs/dmc.py)."""
CAMERAS = {"quadruped": 2}
UNLIMITED = 1e10
"""What MuJoCo says of the bounds of a control that has none."""
REBUILT = ("lqr",)
"""Domains where the model itself is drawn, and so is loaded for every episode."""


def ids() -> list[str]:
    """The name of every task."""
    return list(TASKS)


def canonical(name: str) -> str:
    """The name with hyphens and its full domain: `cup_catch` is `ball-in-cup-catch`.

    Raises:
      UnknownTask: with close matches.
    """
    full = _hyphened(name)
    for short, domain in ALIASES.items():
        if full.startswith(f"{short}-"):
            full = domain + full.removeprefix(short)
    if full not in TASKS:
        tasks = [task for task, (domain, _) in TASKS.items() if full == _hyphened(domain)]
        known = f"; its tasks are {', '.join(tasks)}" if tasks else suggestion(full, list(TASKS))
        raise UnknownTask(f"the DeepMind Control Suite has no task '{name}'{known}")
    return full


def note(name: str) -> str:
    """That lqr is another system with every seed, and has bounds here."""
    if not name.startswith("lqr"):
        return ""
    return (
        "The system of lqr is drawn with the seed of every episode, in dm_control when a task is loaded; its "
        "controls, which have no bounds there, lie in [-1, 1]."
    )


def make(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
) -> gymnasium.Env:
    """One world.

    Args:
      kwargs: `action_repeat`, and `size` and `camera` of images.
      max_episode_steps: its time limit in steps of the agent, inside of the wrappers (0: 1,000 steps of the
        world).
      wrappers: what goes around it, the first one innermost.

    Raises:
      MissingExtra: MuJoCo or OpenGL is missing, or of a version that dm_control does not work with.
      UnknownTask: for an argument or a wrapper that is not there.
      EnvError: if building it raises something else.
    """
    name = canonical(name)
    task, (domain, _) = f"dmc:{name}", TASKS[name]
    taken = _arguments(task, obs, IMAGE | {"camera": CAMERAS.get(domain, 0)}, kwargs)
    with loading(task):
        begin = _begin(name, unlimited=bool(max_episode_steps))
        world = begin(0)
        first = world.reset().observation  # where OpenGL is needed and missing, that shows here
    observe = _observe(obs, taken["size"], taken["camera"])
    if obs != "proprio":
        _check_camera(task, world.physics, taken)
    with opengl.drawing(task):
        seen = gym.Dict({key: _box(array) for key, array in observe(world, first).items()})
    env = World(
        task,
        begin,
        observe,
        (seen, _actions(world.action_spec())),
        action_repeat=taken["action_repeat"],
        max_episode_steps=max_episode_steps,
        limit=world._step_limit,
    )
    return wrapped(task, env, wrappers)


def pool(
    name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int = 0
) -> engine.Recipe:
    """What EnvPool makes of a task, observed as dm_control shows it; its start states are others.

    Raises:
      UnknownTask, MissingExtra: as `make`, and for what EnvPool does not have.
    """
    name = canonical(name)
    task, (domain, _) = f"dmc:{name}", TASKS[name]
    if obs != "proprio":
        raise UnknownTask(f"EnvPool shows no images of {task}: leave out engine, or take --env.obs proprio")
    if domain in REBUILT:
        raise UnknownTask(f"the systems of {task} were not compared with EnvPool's: leave out engine")
    repeat = _arguments(task, obs, IMAGE, kwargs)["action_repeat"]
    original = make(name, obs)
    seen, action = original.observation_space, original.action_space
    limit = original.spec.max_episode_steps  # pyrefly: ignore
    original.close()
    # EnvPool shows for all tasks of a domain what one of them shows; its `frame_skip` is not action_repeat,
    # but how many steps of the physics a step of the world has.
    keys = list(seen.spaces)  # pyrefly: ignore
    read = lambda raw, _: {key: np.atleast_1d(np.asarray(raw[key], np.float32)) for key in keys}
    options = {"max_episode_steps": max_episode_steps * repeat or limit}
    named = "".join(part[:1].upper() + part[1:] for part in "_".join(TASKS[name]).split("_")) + "-v1"
    engine.described(named, options)
    return engine.Recipe(named, options, seen, action, read, repeat=repeat)


def _arguments(task: str, obs: str, image: Mapping[str, int], given: Mapping[str, Any]) -> dict[str, int]:
    """All arguments, checked."""
    check_names(task, given, ["action_repeat", *image])
    for name, value in given.items():
        least = 0 if name == "camera" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UnknownTask(f"{task} takes a whole number of at least {least} for '{name}', not {value!r}")
        if obs == "proprio" and name in image:
            raise UnknownTask(f"'{name}' is of images, and {task} shows none: add --env.obs image, or both")
    return {"action_repeat": 1, **image, **given}


def _begin(name: str, *, unlimited: bool) -> Begin:
    """A function from a seed to the world, loaded once where that makes no difference.

    Args:
      unlimited: without a time limit.
    """
    suite = control("dm_control.suite")
    domain, task = TASKS[name]
    limit = {"time_limit": float("inf")} if unlimited else {}
    load = lambda seed: suite.load(domain, task, task_kwargs={"random": seed, **limit})
    if domain in REBUILT:
        return load
    world = load(0)

    def begin(seed: int) -> Any:
        world.task.random.seed(seed)
        return world

    return begin


def _observe(obs: str, size: int, camera: int) -> Observe:
    def numbers(world: Any, seen: Mapping[str, Any]) -> dict[str, np.ndarray]:
        arrays = {key: np.atleast_1d(np.asarray(value, np.float32)) for key, value in seen.items()}
        return {key: array for key, array in arrays.items() if array.size}

    def image(world: Any, seen: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"image": world.physics.render(size, size, camera_id=camera)}

    both: Observe = lambda world, seen: numbers(world, seen) | image(world, seen)
    return {"proprio": numbers, "image": image, "both": both}[obs]


def _check_camera(task: str, physics: Any, taken: Mapping[str, int]) -> None:
    """Raise an UnknownTask for a camera or a size that the model does not have."""
    cameras, shown = physics.model.ncam, physics.model.vis.global_
    if taken["camera"] >= cameras:
        raise UnknownTask(f"{task} has the cameras 0 to {cameras - 1}, not {taken['camera']}")
    if taken["size"] > (largest := min(shown.offwidth, shown.offheight)):
        raise UnknownTask(f"{task} draws images of up to {largest} pixels, not {taken['size']}")


def _box(array: np.ndarray) -> gym.Box:
    if array.dtype == np.uint8:
        return gym.Box(0, 255, array.shape, np.uint8)
    return gym.Box(-np.inf, np.inf, array.shape, np.float32)


def _actions(spec: Any) -> gym.Box:
    """The bounds of the controls; those that are none are infinite."""
    low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
    low, high = np.where(low <= -UNLIMITED, -np.inf, low), np.where(high >= UNLIMITED, np.inf, high)
    return gym.Box(low, high, dtype=np.float64)
