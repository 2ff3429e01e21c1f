"""atari:<Game>: the games of the Arcade Learning Environment, by the protocol of 200 million frames.

    image        [96, 96, 1] grey: the larger of the last two frames at every pixel and colour, resized
                 (PIL, bilinear), then 0.299 R + 0.587 G + 0.114 B, rounded down
    log/score    the return of the whole game so far, over all its lives; NaN in the last step of an
                 episode that a lost life ends, as the game is not over there

Every action is played for four frames, of which each repeats the action before it with probability 0.25;
all actions of the console are allowed (18; 9 in Skiing and LostLuggage), rewards are not clipped. A game
starts with 0 to 30 frames without action and is truncated 108,000 frames after them. `atari100k` is the
same with another `Protocol`, and `env.kwargs` changes either: {"size": 64, "grey": true, "sticky": 0.25,
"repeat": 4, "noops": 30, "all_actions": false}.

In training a lost life can end an episode (`lives`), if it leaves others and the game is not over:

    "game"                      it does not
    "terminal-and-go-on"        it does, terminally, and the next episode is the rest of the same game: its
                                first observation is the frame in which the life was lost, as no frame is
                                played in between. So the rewards of its episodes sum to the score of the
                                game, whose limit counts the frames of all of them.
    "terminal-and-restart"      it does, terminally, and the next episode is a new game

Protocols: danijar/dreamerv3 e3f0224 (embodied/envs/atari.py, configs.yaml), but for two things. A limit of
frames is no death. If a game ends within the four frames, its last two are shown, not what was seen before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium import spaces as gym
from gymnasium.envs.registration import EnvSpec

from envs import engine
from envs.adapters import MissingExtra, UnknownTask, suggestion
from envs.api import LOG_PREFIX
from envs.arguments import NONE, Wrap, check_names, wrapped

if TYPE_CHECKING:
    from ale_py import ALEInterface

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps", "wrappers", "lives", "engine")
Lives = Literal["game", "terminal-and-go-on", "terminal-and-restart"]
MAX_FRAMES = 108_000
"""Frames after which a game is cut short: half an hour."""
SCORE = LOG_PREFIX + "score"
GREY = (0.299, 0.587, 1 - (0.299 + 0.587))
"""Weights of red, green and blue."""
SCREEN = 210, 160
"""Height and width in most games."""
NOOP = 0
SEED = 0
"""Of the emulator, for which all chance is drawn outside it."""
OTHER_NAMES = re.compile(r"^ALE/|(-ram|ramNoFrameskip|NoFrameskip|Deterministic)?-v\d+$")
"""What names have around that of the game elsewhere."""


@dataclass(frozen=True)
class Protocol:
    """How a game is played and seen."""

    suite: str
    size: int
    """Height and width of the image."""
    grey: bool
    sticky: float
    """Probability that a frame repeats the action of the one before."""
    all_actions: bool
    """All actions of the console, also those that the game does not use."""
    repeat: int = 4
    """Frames for which an action is played."""
    noops: int = 30
    """Most frames without action at the start of a game."""

    def __str__(self) -> str:
        sticky = f"sticky actions {self.sticky}" if self.sticky else "no sticky actions"
        return (
            f"{self.size}x{self.size} {'grey' if self.grey else 'colour'}, {sticky}, "
            f"{'all actions of the console' if self.all_actions else 'the actions that the game uses'}, "
            f"each for {self.repeat} frames, up to {self.noops} frames without action at the start, "
            f"at most {MAX_FRAMES:,} frames"
        )


ATARI = Protocol("atari", size=96, grey=True, sticky=0.25, all_actions=True)
"""Of 200 million frames."""
ATARI100K = Protocol("atari100k", size=64, grey=False, sticky=0.0, all_actions=False)
"""Of 400,000 frames."""
RANGES: dict[str, tuple[float, float]] = {
    "size": (16, 1024),
    "grey": (0, 1),
    "sticky": (0, 1),
    "all_actions": (0, 1),
    "repeat": (1, 1000),
    "noops": (0, 1000),
}
"""Least and largest value of every argument."""


def ids() -> list[str]:
    """The names of the 104 games that ALE registers with Gymnasium."""
    return sorted(_games())


def canonical(name: str) -> str:
    """The name of a game as ALE writes it: `ms_pacman`, `mspacman` and `MsPacman` are `MsPacman`.

    Raises:
      UnknownTask: with close matches.
    """
    plain = lambda text: text.lower().replace("_", "").replace("-", "").replace(" ", "")
    games = {plain(game): game for game in ids()}
    if plain(name) in games:
        return games[plain(name)]
    raise UnknownTask(f"ALE has no game '{name}'{suggestion(plain(OTHER_NAMES.sub('', name)), games)}")


def note(name: str, protocol: Protocol = ATARI) -> str:
    """The protocol in a sentence."""
    return (
        f"{protocol.suite} means, unless env.kwargs says otherwise: {protocol}; rewards are not clipped, "
        "and scores are of whole games, whatever a lost life means in training (env.lives)."
    )


def make(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
    lives: Lives = "game",
    protocol: Protocol = ATARI,
) -> gymnasium.Env:
    """One game.

    Args:
      kwargs: fields of the protocol that are to be otherwise.
      max_episode_steps: actions after which a game is truncated (0: after the protocol's frames).
      wrappers: what goes around it, the first one innermost.
      lives: what a lost life means.

    Raises:
      UnknownTask: for an argument or a wrapper that is not there, or a wrong value.
      MissingExtra: the file of the game is missing or another one.
    """
    name = canonical(name)
    task = f"{protocol.suite}:{name}"
    protocol = dataclasses.replace(protocol, **_checked(task, kwargs))
    if lives not in get_args(Lives):
        raise UnknownTask(f"lives is {lives!r}; it takes {', '.join(get_args(Lives))}")
    frames = max_episode_steps * protocol.repeat or MAX_FRAMES
    return wrapped(task, Game(task, emulator(task), protocol, lives, frames), wrappers)


def pool(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    protocol: Protocol = ATARI,
) -> engine.Recipe:
    """What EnvPool makes of a game: its frames, which are then resized as always.

    Its games start after 1 to `noops` frames without action, and take chance from ALE.

    Raises:
      UnknownTask, MissingExtra: as `make`, and for what EnvPool does not have.
    """
    name = canonical(name)
    task = f"{protocol.suite}:{name}"
    protocol = dataclasses.replace(protocol, **_checked(task, kwargs))
    if not protocol.noops:
        raise UnknownTask(
            f"{task} starts after at least one frame in EnvPool: set 'noops' to 1, or leave out engine"
        )
    height, width = emulator(task).getScreenDims()
    if (height, width) != SCREEN:
        raise UnknownTask(
            f"EnvPool is right only for screens of 210x160, but that of {task} is {height}x{width}: "
            "leave out engine"
        )
    options = {
        "img_height": height,  # as it is, for EnvPool would resize it otherwise than PIL
        "img_width": width,
        "gray_scale": False,
        "stack_num": 1,
        "frame_skip": protocol.repeat,
        "noop_max": protocol.noops,
        "use_fire_reset": False,
        "full_action_space": protocol.all_actions,
        "repeat_action_probability": float(protocol.sticky),
        "max_episode_steps": max_episode_steps or -(-MAX_FRAMES // protocol.repeat),
    }
    observe = lambda screen, score: observation(screen.transpose(1, 2, 0), score, protocol)
    action = engine.described(f"{name}-v5", options).action
    return engine.Recipe(f"{name}-v5", options, observation_space(protocol), action, observe)


def _checked(task: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments, if all are fields of a protocol and their values possible."""
    check_names(task, given, list(RANGES))
    for name, value in given.items():
        low, high = RANGES[name]
        kind = type(getattr(ATARI, name))
        kinds = (int, float) if kind is float else (kind,)
        is_kind = isinstance(value, kinds) and isinstance(value, bool) == (kind is bool)
        if not (is_kind and low <= value <= high):
            what = "a number" if kind is float else "a whole number"
            allowed = "true or false" if kind is bool else f"{what} of {low:g} to {high:g}"
            raise UnknownTask(f"{task} takes for '{name}' {allowed}, but it is {value!r}")
    return given


class Game(gymnasium.Env):
    """A game by a protocol, which observes `image` and `log/score`."""

    def __init__(self, task: str, ale: ALEInterface, protocol: Protocol, lives: Lives, max_frames: int):
        """Take over the emulator of a game, as it is after loading.

        Args:
          task: its full name.
          lives: what a lost life means.
          max_frames: after which a game is truncated.
        """
        self.spec = EnvSpec(task, max_episode_steps=-(-max_frames // protocol.repeat))
        self.ale, self.protocol = ale, protocol
        self._ends, self._goes = lives != "game", lives == "terminal-and-go-on"
        self._max_frames = max_frames
        self._loaded = ale.cloneSystemState()
        actions = ale.getLegalActionSet() if protocol.all_actions else ale.getMinimalActionSet()
        self._actions = [action.value for action in actions]
        self.action_space = gym.Discrete(len(self._actions))
        self.observation_space = observation_space(protocol)
        screen = np.zeros((*ale.getScreenDims(), 3), np.uint8)
        self._screens = [screen, screen.copy()]
        self._go_on = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start a game; after a lost life of "terminal-and-go-on" play no frame, and observe the last one."""
        super().reset(seed=seed)
        if not self._go_on:
            self._start()
        self._go_on = False
        self.ale.getScreenRGB(self._screens[0])
        self._screens[1][:] = self._screens[0]
        return self._observation(self._score), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play an action for some frames, fewer where the episode ends in one."""
        reward, over, lost, limit = 0.0, False, False, False
        for _ in range(self.protocol.repeat):
            reward += self._frame(self._actions[int(action)])
            over, limit = self.ale.game_over(), self._frames >= self._max_frames
            lost = self._loses_life() and self._ends and not over
            if over or limit or lost:
                break
        self._score += reward
        self._go_on = lost and not limit and self._goes
        score = np.nan if lost and not limit else self._score
        return self._observation(score), reward, over or lost, limit, {}

    def _start(self) -> None:
        """Bring the emulator to the start of a game, of which only the number of no-ops is chance."""
        # After some games more than `reset_game` clears is left of what was played.
        self.ale.restoreSystemState(self._loaded)
        self.ale.reset_game()
        for _ in range(self.np_random.integers(self.protocol.noops + 1)):
            self.ale.act(NOOP)
            if self.ale.game_over():
                self.ale.reset_game()
        self._score, self._frames, self._held, self._lives = 0.0, 0, NOOP, self.ale.lives()

    def _frame(self, action: int) -> float:
        """Play one frame, with the action or the one before it; the reward."""
        if self.np_random.random() >= self.protocol.sticky:
            self._held = action
        reward = self.ale.act(self._held)
        self._frames += 1
        self._screens.reverse()
        self.ale.getScreenRGB(self._screens[0])
        return reward

    def _loses_life(self) -> bool:
        """Whether a life was lost in this frame that leaves others; after the last the game itself ends."""
        before, self._lives = self._lives, self.ale.lives()
        return 0 < self._lives < before

    def _observation(self, score: float) -> dict[str, Any]:
        return observation(np.maximum(*self._screens), score, self.protocol)


def observation_space(protocol: Protocol) -> gym.Dict:
    """Of `image` and `log/score`."""
    shape = (protocol.size, protocol.size, 1 if protocol.grey else 3)
    return gym.Dict(
        {"image": gym.Box(0, 255, shape, np.uint8), SCORE: gym.Box(-np.inf, np.inf, (), np.float32)}
    )


def observation(screen: np.ndarray, score: float, protocol: Protocol) -> dict[str, Any]:
    """What is seen of a screen [height, width, 3], and the score."""
    image = resized(screen, protocol.size)
    return {"image": grey(image) if protocol.grey else image, SCORE: np.float32(score)}


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """An image [h, w, 3] as [size, size, 3], by the bilinear filter of PIL."""
    from PIL import Image

    return np.array(
        Image.fromarray(np.ascontiguousarray(image)).resize((size, size), Image.Resampling.BILINEAR)
    )


def grey(image: np.ndarray) -> np.ndarray:
    """The luminance [h, w, 1] of an image [h, w, 3], rounded down: 0.299 R + 0.587 G + 0.114 B."""
    red, green, blue = (image[..., i] * weight for i, weight in enumerate(GREY))
    return (red + green + blue).astype(np.uint8)[..., None]


def emulator(task: str) -> ALEInterface:
    """The emulator with the game of a task, in which nothing is left to chance.

    Raises:
      MissingExtra: the file of the game is missing or another one.
    """
    import ale_py
    from ale_py import roms

    file = _games()[task.partition(":")[2]]
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", SEED)
    ale.setFloat("repeat_action_probability", 0.0)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints where ALE_ROMS_DIR is
            ale.loadROM(roms.get_rom_path(file))  # pyrefly: ignore
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise MissingExtra(
            f"the file of the game {task} cannot be read ({reason}): it is in the package ale-py; "
            "unset ALE_ROMS_DIR, or pip install --force-reinstall --no-deps ale-py"
        ) from None
    return ale


def _games() -> dict[str, str]:
    """Of every game of one player its name and what ALE calls its file."""
    import ale_py

    gymnasium.register_envs(ale_py)
    registered = {name: spec for name, spec in gymnasium.registry.items() if name.startswith("ALE/")}
    return {name[4:].partition("-")[0]: spec.kwargs["game"] for name, spec in registered.items()}
