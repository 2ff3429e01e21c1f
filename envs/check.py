"""check: whether an environment, ours or a user's, keeps the contract that agents rely on.

The environment is played with random actions and then again in ways that must not matter: with the
same seeds, with the same seed in every copy, with other actions where actions are ignored, in another
process. Each invariant is a function from what was recorded to one `Finding`.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from envs.api import LOG_PREFIX, SUCCESS, EnvError, Spaces, Step, UnsupportedSpace, VectorEnv
from envs.make import is_on_device, make
from envs.rollout import Random

NUM_ENVS = 4
FIRST_SEED = 1000
SUSPICIOUS_LENGTH = 10
"""Episodes that all terminate after the same number of steps, this many, look like a time limit."""
ROUNDING = 1e-5
"""How far numbers of 32 bits may lie beyond a bound, as a part of it."""
DECIDES = "something besides the seed decides (a clock, other chance, an address, a hash, the order of a set)"
PATIENCE = 60.0
"""Seconds that another process may take at least."""

Status = Literal["pass", "fail", "note"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    """The invariant."""
    status: Status
    """pass, fail, or note: not wrong, but worth knowing."""
    message: str
    """One sentence: what was found."""

    def __str__(self) -> str:
        return f"{self.status:4}  {self.name}: {self.message}"


@dataclass(frozen=True)
class Recording:
    """One play of an environment."""

    obs_space: Spaces
    """What the environment declared."""
    steps: list[Step]
    """Every slot, as it was when it arrived."""
    kept: list[Step]
    """The same objects that the environment returned, looked at after the play."""


def check(
    task_or_env: str | VectorEnv, steps: int = 300, *, elsewhere: bool = True, **world: Any
) -> list[Finding]:
    """Play an environment and say which of its promises it keeps.

    Args:
      task_or_env: a task for `envs.make`, or a vector environment, which stays open.
      steps: slots to play in every copy; enough for an episode to end.
      elsewhere: play a task that may be third-party code in another process too.
      world: other keywords of `envs.make`.

    Returns:
      One finding per invariant. Playing is the first; where it fails nothing else can be checked.

    Raises:
      UnknownTask, MissingExtra: if the task cannot be made at all.
    """
    if not isinstance(task_or_env, str):
        return _check(task_or_env, steps)
    how: dict[str, Any] = {"task": task_or_env, "num_envs": NUM_ENVS, **world}
    scattered = _scattered(0)
    try:
        env = make(**how)
    except (UnsupportedSpace, EnvError) as error:
        return [Finding("building", "fail", str(error))]
    try:
        return _check(env, steps, how if elsewhere else None)
    finally:
        env.close()
        del scattered


def _check(env: VectorEnv, steps: int, how: dict[str, Any] | None = None) -> list[Finding]:
    """All findings, also that of another process where it is known `how` to make the environment."""
    actions = _actions(env, steps)
    seeds = np.arange(env.num_envs) + FIRST_SEED
    began = time.perf_counter()
    try:
        first = _play(env, actions, seeds)
        seconds = time.perf_counter() - began
        scattered = _scattered(1)  # an environment that goes by addresses will find others
        again = _play(env, actions, seeds)
        other = _play(env, actions, seeds, ignored=_actions(env, steps, key=1))
        equal = [{k: np.repeat(v[:1], env.num_envs, 0) for k, v in a.items()} for a in actions]
        same = _play(env, equal, np.full(env.num_envs, FIRST_SEED))
    except Exception as error:  # whatever a user's environment may raise
        what = str(error) if isinstance(error, EnvError) else f"{type(error).__name__}: {error}"
        return [Finding("playing", "fail", what)]
    del scattered
    played = env.num_envs * steps - int(sum(s.is_first.sum() for s in first.steps[1:]))
    speed = f"{played} steps in {env.num_envs} copies, {played / seconds:.0f} per second"
    findings = [Finding("playing", "pass", speed), declared(first)]
    if findings[-1].status == "fail":
        return findings
    findings += [
        *(f(first) for f in (values, flags, first_reward, own_memory)),
        bounds(first, *_bounds(env, how or {})),
        _equal("deterministic", first, again, "the same seeds and actions give the same stream", DECIDES),
        _equal("ignored action", first, other, "the action after an episode's end has no effect"),
        alike(same),
        *(f(first) for f in (seeds_matter, final_observation)),
        endings(first, time_limit(env)),
        success(first),
        images(first, getattr(env, "notices", ())),
    ]
    if how and may_be_third_party(env.task) and not any(finding.status == "fail" for finding in findings):
        findings.append(_elsewhere(how, first, actions, seeds, max(PATIENCE, 20 * seconds)))
    return findings


def may_be_third_party(task: str) -> bool:
    """Whether a task may be third-party code; the other suites are pure functions of their arrays."""
    return not is_on_device(task) or task.startswith("jax:")


def _actions(env: VectorEnv, steps: int, key: int = 0) -> list[dict[str, np.ndarray]]:
    """Random actions, after one slot each of the lowest and the highest."""
    policy = Random(env.act_space)
    blank = np.zeros(env.num_envs)
    slot = Step({}, blank, blank, blank, blank)
    actions = [policy.act(None, slot, key=(key, t))[0] for t in range(steps)]
    for name, space in env.act_space.items():
        low, high = (0, space.classes - 1) if space.classes is not None else (-1, 1)
        for action, extreme in zip(actions, (low, high), strict=False):
            action[name] = np.full_like(action[name], extreme)
    return actions


def _play(
    env: VectorEnv,
    actions: list[dict[str, np.ndarray]],
    seeds: np.ndarray,
    ignored: list[dict[str, np.ndarray]] | None = None,
) -> Recording:
    """Play given actions; the e-th episode of a copy has the e-th seed after its first.

    Args:
      ignored: other actions for the copies whose episode has just ended.
    """
    kept = [env.reset(seeds.tolist())]
    steps = [_copied(kept[0])]
    for t, action in enumerate(actions):
        last = np.asarray(steps[-1].is_last, bool)
        seeds = seeds + last * env.num_envs
        if ignored is not None:
            action = {k: np.array(v) for k, v in action.items()}
            for k, v in action.items():
                v[last] = ignored[t][k][last]
        kept.append(env.step(action, seeds.tolist()))
        steps.append(_copied(kept[-1]))
    return Recording(env.obs_space, steps, kept)


def _copied(step: Step) -> Step:
    return Step({k: np.array(v) for k, v in step.obs.items()}, *(np.array(x) for x in step[1:]))


# One function per invariant.


def declared(play: Recording) -> Finding:
    """Keys, shapes and dtypes are those of the declared spaces, in every slot."""
    num_envs = len(play.steps[0].reward)
    for t, step in enumerate(play.steps):
        if step.obs.keys() != play.obs_space.keys():
            got, expected = sorted(step.obs), sorted(play.obs_space)
            return Finding("declared", "fail", f"slot {t} has the keys {got}, expected {expected}")
        for key, space in play.obs_space.items():
            array, shape = step.obs[key], (num_envs, *space.shape)
            if array.shape != shape or array.dtype != space.dtype:
                what = f"'{key}' in slot {t} is {array.dtype}{list(array.shape)}"
                return Finding("declared", "fail", f"{what}, expected {space.dtype}{list(shape)}")
        for name, dtype in zip(Step._fields[1:], ("float32", "bool", "bool", "bool"), strict=True):
            array = getattr(step, name)
            if array.shape != (num_envs,) or array.dtype != dtype:
                what = f"{name} in slot {t} is {array.dtype}{list(array.shape)}"
                return Finding("declared", "fail", f"{what}, expected {dtype}[{num_envs}]")
    keys = ", ".join(f"{k} {s.dtype}{list(s.shape)}" for k, s in play.obs_space.items())
    return Finding("declared", "pass", f"shapes and dtypes are constant: {keys}")


def values(play: Recording) -> Finding:
    """Numbers are finite and classes exist."""
    for t, step in enumerate(play.steps):
        if not np.isfinite(step.reward).all():
            return Finding("values", "fail", f"the reward in slot {t} is {step.reward}")
        for key, space in play.obs_space.items():
            array = step.obs[key]
            if key.startswith(LOG_PREFIX):
                continue
            if space.classes is not None and (array.max() >= space.classes or array.min() < -1):
                what = f"'{key}' in slot {t} contains {array.min()} to {array.max()}"
                return Finding("values", "fail", f"{what}, expected 0 to {space.classes - 1}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return Finding("values", "fail", f"'{key}' in slot {t} is not finite")
    return Finding("values", "pass", "all numbers are finite, all classes exist")


def bounds(play: Recording, low: Mapping[str, Any], high: Mapping[str, Any]) -> Finding:
    """Numbers lie within the bounds of their Box; a bound that is NaN or infinite is none.

    Args:
      low, high: {key: bounds}, empty where none are declared.
    """
    for key in low:
        rounding = ROUNDING if play.obs_space[key].dtype.startswith("float") else 0.0
        for t, step in enumerate(play.steps):
            value = step.obs[key].astype(float)
            for bound, beyond, side in ((low[key], np.less, "below"), (high[key], np.greater, "above")):
                bound = np.broadcast_to(np.asarray(bound, float), value.shape)
                slack = rounding * np.maximum(1.0, np.abs(np.where(np.isfinite(bound), bound, 0.0)))
                wrong = beyond(value, bound) & (np.abs(value - bound) > slack)
                if wrong.any():
                    what = f"'{key}' in slot {t} contains {value[wrong][0]:g}"
                    limit = f"{side} its declared bound of {bound[wrong][0]:g}"
                    return Finding("bounds", "fail", f"{what}, {limit}")
    if not low:
        return Finding("bounds", "note", "no bounds are declared")
    return Finding("bounds", "pass", "all observations lie within their declared bounds")


def flags(play: Recording) -> Finding:
    """is_first[0]; is_first[t+1] == is_last[t]; never both at once; is_terminal implies is_last."""
    steps = play.steps
    first, last, terminal = (
        np.stack([getattr(s, name) for s in steps]) for name in ("is_first", "is_last", "is_terminal")
    )
    rules = (
        (~first[0], "the first slot lacks is_first"),
        (first[1:] != last[:-1], "is_first is not the is_last of the slot before"),
        (first & last, "is_first and is_last coincide"),
        (terminal & ~last, "is_terminal without is_last"),
    )
    for broken, what in rules:
        if broken.any():
            return Finding("flags", "fail", f"{what}, {broken.sum()} times")
    return Finding("flags", "pass", "every episode starts after the end of the one before")


def first_reward(play: Recording) -> Finding:
    """The reward is 0 where an episode starts."""
    wrong = sum(int((s.reward[s.is_first] != 0).sum()) for s in play.steps)
    if wrong:
        return Finding("first reward", "fail", f"{wrong} episodes start with a reward that is not 0")
    return Finding("first reward", "pass", "episodes start with reward 0")


def own_memory(play: Recording) -> Finding:
    """What was returned is not overwritten later: a loop may still be copying it."""
    for t, (then, now) in enumerate(zip(play.steps, play.kept, strict=True)):
        key = difference(then, now)
        if key:
            return Finding("own memory", "fail", f"{key} of slot {t} was overwritten later")
    return Finding("own memory", "pass", "returned arrays are not written again")


def alike(same: Recording) -> Finding:
    """Copies with the same seeds and actions are the same: only the seed decides."""
    if len(same.steps[0].reward) == 1:
        return Finding("copies", "note", "there is one copy, nothing to compare")
    for t, step in enumerate(same.steps):
        arrays = {**step.obs, **{name: getattr(step, name) for name in Step._fields[1:]}}
        for key, array in arrays.items():
            if not np.array_equal(array, np.repeat(array[:1], len(array), 0), equal_nan=_nan(array)):
                what = f"copies with the same seed and actions differ in '{key}' at slot {t}"
                return Finding("copies", "fail", f"{what}: {DECIDES}")
    return Finding("copies", "pass", "copies with the same seed and actions are the same")


def seeds_matter(play: Recording) -> Finding:
    """Different seeds give different first observations (not every task has to)."""
    firsts = [
        b"".join(v[i].tobytes() for k, v in step.obs.items() if not k.startswith(LOG_PREFIX))
        for step in play.steps
        for i in np.flatnonzero(step.is_first)
    ]
    if len(firsts) > 1 and len(set(firsts)) == 1:
        return Finding("seeds", "note", "every episode starts with the same observation")
    return Finding("seeds", "pass", f"{len(set(firsts))} different starts in {len(firsts)} episodes")


def final_observation(play: Recording) -> Finding:
    """The last slot shows where the episode ended, not where the next one starts."""
    ends = [
        all(np.array_equal(a.obs[k][i], b.obs[k][i]) for k in a.obs if not k.startswith(LOG_PREFIX))
        for a, b in zip(play.steps, play.steps[1:], strict=False)
        for i in np.flatnonzero(a.is_last)
    ]
    if not ends:
        return Finding("final observation", "note", "no episode ended, nothing to compare")
    if all(ends):
        what = "every last observation equals the first of the next episode; is the final one lost?"
        return Finding("final observation", "note", what)
    return Finding("final observation", "pass", "it differs from the first of the next episode")


def endings(play: Recording, limit: int | None = None) -> Finding:
    """How episodes end: some should, and a time limit must not be terminal.

    Args:
      limit: steps after which the task itself ends an episode, where that is known.
    """
    lengths, terminals = [], []
    start = np.zeros(len(play.steps[0].reward), int)
    for t, step in enumerate(play.steps):
        start = np.where(step.is_first, t, start)
        lengths += (t - start)[step.is_last].tolist()
        terminals += step.is_terminal[step.is_last].tolist()
    if not lengths:
        what = f"no episode ended in {len(play.steps) - 1} steps"
        return Finding("endings", "note", f"{what}; {unending(limit)}")
    limits = len(terminals) - sum(terminals)
    what = f"{len(lengths)} episodes of {min(lengths)} to {max(lengths)} steps, {limits} at a limit"
    if not limits and len(lengths) > 2 and min(lengths) == max(lengths) >= SUSPICIOUS_LENGTH:
        what += "; all terminate at the same step: is a time limit reported as terminated?"
        return Finding("endings", "note", what)
    return Finding("endings", "pass", what)


def unending(limit: int | None) -> str:
    """What it means that no episode ended, given the time limit of the task."""
    if limit is not None:
        return f"its time limit is {limit:,} steps"
    return (
        "it declares no time limit, so episodes may never end, and evaluations cut them short "
        "(eval.max_steps); give it one with max_episode_steps"
    )


def time_limit(env: VectorEnv) -> int | None:
    """Steps after which a task itself ends an episode, None where that is not known."""
    world = _world(env)
    limit = getattr(getattr(world, "spec", None), "max_episode_steps", None)
    if limit is None and env.task.startswith("minigrid:"):
        limit = getattr(getattr(world, "unwrapped", None), "max_steps", None)
    return limit


def first_end(env: VectorEnv, steps: int = 1000, seconds: float = 5.0) -> tuple[int, bool]:
    """Play at random until an episode ends: the steps played in every copy, and whether one ended.

    Args:
      steps, seconds: after which it is given up.

    Raises:
      EnvError: the environment broke its contract.
    """
    began, played = time.perf_counter(), 0
    env.reset([FIRST_SEED + i for i in range(env.num_envs)])
    for action in _actions(env, steps):
        step, played = env.step(action), played + 1
        if step.is_last.any():
            return played, True
        if time.perf_counter() - began > seconds:
            break
    return played, False


def _world(env: VectorEnv) -> Any:
    """The Gymnasium environment of the first copy, None if it is something else."""
    try:
        world = env.worlds()[0]  # pyrefly: ignore
    except (AttributeError, EnvError):
        return None
    return world if hasattr(world, "observation_space") else None


def _bounds(env: VectorEnv, how: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """{key: bounds} below and above of what an environment declares, in the form of its observations."""
    from envs.spaces import flatten_observation

    world, low, high = _world(env), {}, {}
    if world is not None:
        readings = {name: how.get(name, ()) for name in ("pixels", "categories")}
        _, read = flatten_observation(world.observation_space, **readings)
        read(_extreme(world.observation_space, False), low)
        read(_extreme(world.observation_space, True), high)
    return low, high


def _extreme(space: Any, highest: bool) -> Any:
    """The lowest or the highest observation of a space."""
    from gymnasium import spaces as gym

    if isinstance(space, gym.Dict):
        return {key: _extreme(part, highest) for key, part in space.items()}
    if isinstance(space, gym.Tuple):
        return tuple(_extreme(part, highest) for part in space)
    if isinstance(space, gym.Box):
        return space.high if highest else space.low
    if isinstance(space, gym.MultiBinary):
        return np.full(space.shape, highest, space.dtype)
    count = space.n if isinstance(space, gym.Discrete) else space.nvec
    return np.asarray(space.start + (count - 1 if highest else 0 * count), space.dtype)


def success(play: Recording) -> Finding:
    """Whether the task says if it was solved."""
    successes = [s.obs.get(SUCCESS, np.array(np.nan)) for s in play.steps]
    if np.isnan(np.stack(successes)).all():
        return Finding("success", "note", "the task does not say if it was solved (info['success'])")
    return Finding("success", "pass", "the task says if it was solved")


def images(play: Recording, notices: Sequence[str] = ()) -> Finding:
    """How arrays are read that do not say what they are.

    Args:
      notices: what the environment says about that.
    """
    if notices:
        return Finding("images", "note", "; and ".join(notices))
    for key, space in play.obs_space.items():
        if space.classes is None and len(space.shape) == 3 and not space.is_image:
            what = f"'{key}' is {space.dtype}{list(space.shape)} and is read as {space.size} numbers"
            return Finding("images", "note", f"{what}; an image would have to be uint8")
    return Finding("images", "pass", "every array of rank 3 is an image or categorical")


def _equal(name: str, a: Recording, b: Recording, promise: str, cause: str = "") -> Finding:
    for t, (one, two) in enumerate(zip(a.steps, b.steps, strict=True)):
        key = difference(one, two)
        if key:
            what = f"{key} differs at slot {t}, where it should hold that {promise}"
            return Finding(name, "fail", ": ".join(filter(None, (what, cause))))
    return Finding(name, "pass", promise)


def difference(a: Step, b: Step) -> str:
    """The name of the first array in which two steps differ, empty if there is none."""
    for name, one, two in _pairs(a, b):
        if not np.array_equal(one, two, equal_nan=_nan(one)):
            return name
    return ""


def _pairs(a: Step, b: Step) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for key in a.obs:
        yield f"observation '{key}'", a.obs[key], b.obs[key]
    for name in Step._fields[1:]:
        yield name, getattr(a, name), getattr(b, name)


def _nan(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


# In another process.


def _elsewhere(
    how: dict[str, Any],
    first: Recording,
    actions: list[dict[str, np.ndarray]],
    seeds: np.ndarray,
    seconds: float,
) -> Finding:
    """Another process gives the same stream: neither hashes nor addresses nor what was drawn before decide.

    Args:
      how: the arguments of `make`.
      seconds: that it may take.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, response = Path(folder, "request"), Path(folder, "response")
        request.write_bytes(pickle.dumps((how, actions, seeds)))
        try:
            _run_elsewhere([str(request), str(response)], seconds)
            steps = pickle.loads(response.read_bytes())
        except (OSError, subprocess.SubprocessError) as error:
            lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            return Finding("processes", "note", f"another process could not play it: {lines[-1]}")
    promise = "the same seeds and actions give the same stream in another process"
    return _equal("processes", first, Recording(first.obs_space, steps, steps), promise, DECIDES)


def _run_elsewhere(words: list[str], seconds: float) -> None:
    """Play in a Python of its own, with other hashes and other addresses but the same modules."""
    hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    ours = str(Path(__file__).parent.parent)  # first: a user's own module may be called envs, too
    path = os.pathsep.join([ours, *(place or os.getcwd() for place in sys.path)])
    surroundings = {"PYTHONPATH": path, "PYTHONHASHSEED": hashes, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-c", "from envs.check import play_there; play_there()", *words]
    subprocess.run(
        command,
        env={**os.environ, **surroundings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=True,
    )


def play_there() -> None:
    """What the other process does: play what the first file on its command line asks for, into the second."""
    request, response = map(Path, sys.argv[1:])
    how, actions, seeds = pickle.loads(request.read_bytes())
    scattered = _scattered(2)
    env = make(**how)
    response.write_bytes(pickle.dumps(_play(env, actions, seeds).steps))
    env.close()
    del scattered


def _scattered(seed: int) -> list[bytes]:
    """Memory with gaps of every size in random order: while it is kept, new objects lie in another order."""
    blocks = [bytes(size) for size in range(8, 480, 16) for _ in range(400)]
    random.Random(seed).shuffle(blocks)
    kept = blocks[::2]
    blocks.clear()  # what is not kept is let go in that order
    return kept
