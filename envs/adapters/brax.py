"""brax:<name>: the robots of Brax as pure functions, with the physics that is Brax's default (`generalized`).

The observation is `vector`, float32. Actions are [-1, 1], which Brax maps to the range of each actuator. An
episode ends where a robot has fallen; after 1,000 steps it ends without being terminal, and those that cannot
fall (halfcheetah, humanoidstandup, pusher, reacher) end in no other way. No task tells a success.

With that physics `ant` and `halfcheetah` are other tasks than MuJoCo's (Brax 0.14.2, Gymnasium 1.4): an ant
that does nothing sinks into the floor, and its episode ends after about 45 steps, where Gymnasium's stands
(as Brax's does in `spring`) and earns 297 in 300 steps; a halfcheetah that does nothing creeps forward and
earns about 50 in 1,000 steps. Their curves do not belong beside MuJoCo's (`note`, PORTS.md). hopper and
walker2d agree with MuJoCo's: random episodes are as long within 7%.

On a CPU `spring`, the fastest physics, makes 2.6 times as many steps of ant, but it is another ant.

Its authors no longer maintain Brax. They say so in a warning, which is not shown every time.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from envs.adapters import UnknownTask, suggestion
from envs.adapters.device import concrete, restart, transition
from envs.api import JaxEnv, Space, Spaces, Step
from envs.arguments import NONE, check_names, making, parameters_of

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps")
BACKEND = "generalized"
"""The physics that Brax takes by default."""
MAX_STEPS = 1000
"""The time limit that Brax puts around its tasks; they have none of their own."""

# Importing Brax takes seconds, and so the names stand here.
TASKS = (
    *("ant", "halfcheetah", "hopper", "humanoid", "humanoidstandup", "inverted_pendulum"),
    *("inverted_double_pendulum", "pusher", "reacher", "walker2d"),
)
LEFT_OUT = {
    "fast": "it has no physics and only tests Brax",
    "swimmer": "Brax 0.14.2 computes its water with a function that JAX has removed",
}
"""Other names of Brax, and why they are no tasks."""
OTHERWISE = {
    "ant": "one that does nothing sinks into the floor, which ends its episode after about 45 steps",
    "halfcheetah": "one that does nothing creeps forward and earns about 50 in 1,000 steps",
}
"""What robots of Brax 0.14.2 do in its default physics that MuJoCo's do not."""


def ids() -> list[str]:
    """The robots that move."""
    return list(TASKS)


def canonical(name: str) -> str:
    """The name itself, if there is such a task.

    Raises:
      UnknownTask: with close matches.
    """
    if name in LEFT_OUT:
        raise UnknownTask(f"brax:{name} is left out: {LEFT_OUT[name]}")
    if name not in TASKS:
        raise UnknownTask(f"Brax has no task '{name}'{suggestion(name, TASKS)}")
    return name


def note(name: str) -> str:
    """That these robots are not MuJoCo's of the same name, where that is so."""
    why = OTHERWISE.get(name)
    if why is None:
        return ""
    others = f"brax:{name} is not MuJoCo's {name}, so their scores do not compare"
    return f"{others}: in Brax's default physics {why}."


def make_jax(
    name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int = MAX_STEPS
) -> JaxEnv:
    """One world.

    Args:
      kwargs: arguments of the robot, as `backend` (its physics).

    Raises:
      UnknownTask: for an argument that the robot does not take.
      EnvError: it cannot be built.
    """
    return Brax(canonical(name), max_episode_steps, kwargs)


def made_of(name: str, kwargs: Mapping[str, Any]) -> dict[str, str]:
    """The physics: a robot is another one in each."""
    return {"brax backend": str(kwargs.get("backend", BACKEND))}


def load() -> ModuleType:
    """The module `brax.envs`."""
    with quiet():
        return importlib.import_module("brax.envs")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Where Brax is imported and builds a robot, neither it nor MuJoCo has anything to say that helps."""
    mujoco = importlib.import_module("mujoco")
    listener = mujoco.get_mju_user_warning()
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Brax System", UserWarning)
        warnings.filterwarnings("ignore", "JAXopt is no longer", DeprecationWarning)
        # Without a listener MuJoCo writes MUJOCO_LOG.TXT into the working directory.
        mujoco.set_mju_user_warning(lambda text: None)
        try:
            yield
        finally:
            mujoco.set_mju_user_warning(listener)


class BraxState(NamedTuple):
    """A robot and its clock."""

    robot: Any
    """Brax's state."""
    steps: Array
    """[] int32, actions taken."""


class Brax:
    """A `JaxEnv` of one robot.

    Args:
      max_steps: the time limit.
      kwargs: arguments of the robot.
    """

    def __init__(self, name: str, max_steps: int = MAX_STEPS, kwargs: Mapping[str, Any] = NONE):
        self.task, self.max_steps = f"brax:{name}", max_steps
        robot = load()._envs[name]
        check_names(self.task, kwargs, parameters_of(robot))
        with quiet(), making(self.task):
            self._env = robot(**kwargs)
        shown = jax.eval_shape(self._env.reset, jax.random.key(0)).obs
        self.obs_space: Spaces = {"vector": Space(tuple(shown.shape), "float32")}
        self.act_space: Spaces = {"action": Space((self._env.action_size,), "float32")}

    def reset(self, *, key: Array) -> tuple[BraxState, Step]:
        """A robot near its first pose, and its first step."""
        robot = concrete(self._env.reset(key))
        return BraxState(robot, jnp.zeros((), jnp.int32)), restart(_observe(robot))

    def step(self, state: BraxState, action: dict[str, Array], *, key: Array) -> tuple[BraxState, Step]:
        """What the action leads to; chance plays no part, so the key is not used."""
        del key
        act = jnp.clip(jnp.asarray(action["action"], jnp.float32), -1, 1)
        # Brax writes its metrics into the state that it is given, and so that is a copy.
        robot = concrete(self._env.step(concrete(state.robot), act))
        steps = state.steps + 1
        fallen, limit = robot.done > 0, steps >= self.max_steps
        return BraxState(robot, steps), transition(_observe(robot), robot.reward, fallen, limit)


def _observe(robot: Any) -> dict[str, Array]:
    return {"vector": jnp.asarray(robot.obs, jnp.float32)}
