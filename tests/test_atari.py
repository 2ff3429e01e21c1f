"""atari and atari100k: frames and rewards of raw ALE, chance, limits and lives."""

import itertools

import numpy as np
import pytest

import envs
from envs.adapters import MissingExtra, UnknownTask, atari, atari100k
from envs.api import ended

ale_py = pytest.importorskip("ale_py")
Image = pytest.importorskip("PIL.Image")

ENDLESS = 10**6


def raw(game):
    """ALE with a game, as it is after loading."""
    from ale_py import roms

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    return ale


def straightforward(game, actions, seed, *, size, weights=None, sticky=0.0, minimal=False):
    """The images, rewards and ends of a game played for four frames an action, from raw ALE."""
    ale, rng = raw(game), np.random.default_rng(seed)
    ale.reset_game()
    for _ in range(rng.integers(31)):
        ale.act(ale_py.Action.NOOP)
    allowed = ale.getMinimalActionSet() if minimal else ale.getLegalActionSet()
    held, frames = ale_py.Action.NOOP, [ale.getScreenRGB()]

    def image():
        pooled = np.stack(frames[-2:]).max(0)
        seen = np.asarray(Image.fromarray(pooled).resize((size, size), Image.Resampling.BILINEAR))
        return seen if weights is None else np.floor((seen * weights).sum(-1)).astype(np.uint8)[..., None]

    stream = [(image(), 0.0, False)]
    for action in actions:
        reward = 0.0
        for _ in range(4):
            held = held if rng.random() < sticky else allowed[action]
            reward += ale.act(held)
            frames.append(ale.getScreenRGB())
            if ale.game_over():
                break
        stream.append((image(), reward, ale.game_over()))
        if ale.game_over():
            break
    return stream


GREY = np.array([0.299, 0.587, 1 - (0.299 + 0.587)])


@pytest.mark.parametrize(
    ("suite", "game", "file", "how"),
    [
        ("atari", "Breakout", "breakout", {"size": 96, "weights": GREY, "sticky": 0.25}),
        ("atari100k", "Breakout", "breakout", {"size": 64, "minimal": True}),
        ("atari", "Seaquest", "seaquest", {"size": 96, "weights": GREY, "sticky": 0.25}),
        ("atari100k", "Pong", "pong", {"size": 64, "minimal": True}),
    ],
)
def test_atari_played_equals_frames_and_rewards_of_raw_ale(suite, game, file, how):
    env = envs.make(f"{suite}:{game}")
    classes = env.act_space["action"].num_classes
    # Of Seaquest more is left of an earlier game than `reset_game` clears.
    for seed in (5, 6, 5):
        actions = np.random.default_rng(seed).integers(classes, size=250)
        expected = straightforward(file, actions, seed, **how)
        env.reset()
        steps = [env.reset([seed]), *(env.step({"action": np.array([a])}) for a in actions)]
        score = 0.0
        for t, (step, (image, reward, over)) in enumerate(zip(steps, expected, strict=False)):
            score += reward
            assert np.array_equal(step.obs["image"][0], image), t
            assert (step.reward[0], step.is_terminal[0], step.is_last[0]) == (reward, over, over), t
            assert step.obs["log/score"][0] == score


def test_grey_every_colour_equals_weighted_sum_rounded_down():
    colours = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), -1).reshape(-1, 52, 3).astype(np.uint8)
    exact = (colours.astype(int) @ [299, 587, 114])[..., None]
    ours = atari.grey(colours).astype(int)
    whole = exact % 1000 == 0  # where rounding of the sum decides
    assert (ours[~whole] == exact[~whole] // 1000).all()
    assert np.isin(exact[whole] // 1000 - ours[whole], (0, 1)).all()
    same = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, -1)
    assert (atari.grey(same)[..., 0] == same[..., 0]).all()


@pytest.mark.parametrize(
    ("task", "shape", "actions"),
    [
        ("atari:Pong", (96, 96, 1), 18),
        ("atari100k:Pong", (64, 64, 3), 6),
        ("atari100k:Breakout", (64, 64, 3), 4),
    ],
)
def test_atari_protocols_give_their_images_and_actions(task, shape, actions):
    env = envs.make(task)
    assert env.obs_space["image"] == envs.Space(shape, "uint8")
    assert env.act_space["action"].classes == actions


@pytest.mark.parametrize("task", ["atari:Pong", "atari100k:Pong"])
def test_check_atari_passes(task):
    findings = envs.check(task, steps=60)
    assert not [f for f in findings if f.status == "fail"], findings
    assert any("27,000 steps" in f.message for f in findings)


class Console:
    """A console without a game: frame n shows n; lives, ends and actions are as a test wants them."""

    def __init__(self, lives=(), over=()):
        self.played, self.games, self.frame = [], 0, 0
        self._lives, self._over = lives, over

    def getScreenDims(self):
        return 4, 4

    def getScreenRGB(self, out):
        out[:] = self.frame % 256

    def getLegalActionSet(self):
        return list(ale_py.Action.__members__.values())[:18]

    getMinimalActionSet = getLegalActionSet

    def cloneSystemState(self):
        return 0

    def restoreSystemState(self, state):
        self.frame = state

    def reset_game(self):
        self.games, self.frame = self.games + 1, 0

    def act(self, action):
        self.played.append(action)
        self.frame += 1
        return 1

    def lives(self):
        return self._lives[min(self.frame, len(self._lives) - 1)] if self._lives else 0

    def game_over(self):
        return self.frame in self._over


PLAIN = atari.Protocol("atari", size=16, grey=False, sticky=0.0, all_actions=True, noops=0)


def game(console, *, lives="game", max_frames=ENDLESS, **protocol):
    return atari.Game("atari:None", console, atari.dataclasses.replace(PLAIN, **protocol), lives, max_frames)


def test_reset_games_start_after_zero_to_thirty_noops():
    console, counts = Console(), set()
    world = game(console, noops=30)
    for seed in range(300):
        world.reset(seed=seed)
        counts.add(console.frame)
    assert counts == set(range(31)) and set(console.played) == {0}


def test_step_sticky_actions_repeat_the_one_before_a_quarter_of_the_time():
    console = Console()
    world = game(console, sticky=0.25)
    world.reset(seed=0)
    asked = [1 + t % 2 for t in range(4000)]
    for action in asked:
        world.step(action)
    stale = np.reshape(console.played, (-1, 4)) != np.array(asked)[:, None]
    # An action arrives at frame k unless k + 1 draws in a row repeat the one before.
    np.testing.assert_allclose(stale.mean(0), 0.25 ** np.arange(1, 5), atol=0.03)


def test_step_without_sticky_actions_plays_the_action_for_every_frame():
    console = Console()
    world = game(console, repeat=3)
    world.reset(seed=0)
    for action in (4, 2):
        world.step(action)
    assert console.played == [4, 4, 4, 2, 2, 2]


@pytest.mark.parametrize(("over", "frames"), [(5, 5), (6, 6), (8, 8)])
def test_step_game_over_within_repeat_shows_its_last_frames_and_is_terminal(over, frames):
    world = game(Console(over=(over,)))
    world.reset(seed=0)
    world.step(0)
    obs, reward, terminated, truncated, _ = world.step(0)
    assert (terminated, truncated, reward) == (True, False, frames - 4)
    assert (obs["image"] == frames).all() and obs["log/score"] == frames


@pytest.mark.parametrize("lives", ["game", "terminal-and-go-on", "terminal-and-restart"])
def test_step_limit_of_frames_truncates_without_termination(lives):
    console = Console(lives=(3,))
    world = game(console, lives=lives, max_frames=6)
    world.reset(seed=0)
    assert world.step(0)[2:4] == (False, False)
    obs, reward, terminated, truncated, _ = world.step(0)
    assert (reward, terminated, truncated, obs["log/score"]) == (2, False, True, 6)
    world.reset(seed=0)
    assert console.games == 2


def test_make_max_episode_steps_truncates_game_after_so_many_actions():
    env = envs.make("atari:Pong", 2, max_episode_steps=3)
    env.reset([0, 1])
    steps = [env.step({"action": np.zeros(2, np.int32)}) for _ in range(3)]
    assert [s.is_last.tolist() for s in steps] == [[False] * 2, [False] * 2, [True] * 2]
    assert not steps[-1].is_terminal.any()


LIVES = [3] * 5 + [2] * 3 + [3] * 2 + [2] * 5 + [1] * 5 + [0] * 5
"""By frame: lives are lost in 5, 10 and 15, won in 8; the last is lost in 20, and the game is over in 24."""


def episodes(mode, frames=0):
    """(frame, terminated, truncated, score) at the end of every episode until a second game begins."""
    console = Console(lives=LIVES, over=(24,))
    world = game(console, lives=mode, max_frames=frames or ENDLESS)
    rows = []
    world.reset(seed=0)
    for _ in range(20):
        obs, _, terminated, truncated, _ = world.step(0)
        if terminated or truncated:
            rows.append((console.frame, terminated, truncated, float(obs["log/score"])))
            first = world.reset(seed=1)[0]
            if console.games == 2:
                break
            assert first["log/score"] == console.frame and (first["image"] == console.frame).all()
    return rows


def test_lives_each_mode_ends_episodes_where_lives_are_lost():
    nan = pytest.approx(np.nan, nan_ok=True)
    assert episodes("game") == [(24, True, False, 24)]
    assert episodes("terminal-and-restart") == [(5, True, False, nan)]
    lost = [(frame, True, False, nan) for frame in (5, 10, 15)]
    assert episodes("terminal-and-go-on") == [*lost, (24, True, False, 24)]


def test_lives_limit_at_lost_life_is_terminal_and_game_is_not_resumed():
    assert episodes("terminal-and-go-on", frames=5) == [(5, True, True, 5)]
    assert episodes("terminal-and-restart", frames=5) == [(5, True, True, 5)]


def played(mode, games):
    """Of Breakout: (lives at the start, lives at the end, score in the record, return) of every episode."""
    env = envs.make("atari:Breakout", lives=mode)
    ale = env.worlds()[0].ale
    rng, rows = np.random.default_rng(0), []
    step = env.reset([1])
    for _ in range(2000):
        if step.is_first[0]:
            start, total = ale.lives(), 0.0
            assert step.reward[0] == 0
        step = env.step({"action": rng.integers(18, size=1)})
        total += step.reward[0]
        if step.is_last[0]:
            assert step.is_terminal[0]
            log = ended(step.obs, 0)[1]
            rows.append((start, ale.lives(), log.get("score"), total))
            if len(rows) == games:
                break
            frame = ale.getEpisodeFrameNumber()
            step = env.step({"action": rng.integers(18, size=1)})
            assert mode == "terminal-and-restart" or start > 1 or ale.lives() == 5
            assert mode != "terminal-and-go-on" or start == 1 or ale.getEpisodeFrameNumber() == frame
    return rows


def test_lives_go_on_breakout_runs_five_to_zero_over_episodes_of_one_game():
    rows = played("terminal-and-go-on", 10)
    assert [row[:2] for row in rows] == [(5, 4), (4, 3), (3, 2), (2, 1), (1, 0)] * 2
    for one in (rows[:5], rows[5:]):
        assert [row[2] for row in one[:4]] == [None] * 4
        assert one[4][2] == sum(row[3] for row in one)
    assert sum(row[3] for row in rows) > 0


def test_lives_restart_breakout_begins_every_episode_with_five():
    rows = played("terminal-and-restart", 4)
    assert [row[:3] for row in rows] == [(5, 4, None)] * 4


def test_lives_game_breakout_plays_all_of_them():
    rows = played("game", 2)
    assert [row[:2] for row in rows] == [(5, 0)] * 2 and all(row[2] == row[3] for row in rows)


@pytest.mark.parametrize("task", ["gymnasium:CartPole-v1", "grid:Catch"])
def test_make_lives_of_suite_without_raises_unknown_task(task):
    with pytest.raises(UnknownTask, match="tasks take no lives; they take"):
        envs.make(task, lives="terminal-and-restart")


def test_make_unknown_lives_raises_with_allowed_values():
    with pytest.raises(UnknownTask, match="lives is 'two'; it takes game, terminal-and-go-on, terminal-and"):
        envs.make("atari:Pong", lives="two")


@pytest.mark.parametrize(
    ("name", "full"),
    [
        *((name, "MsPacman") for name in ("MsPacman", "mspacman", "ms_pacman", "MS_PACMAN")),
        ("battle_zone", "BattleZone"),
        ("james_bond", "Jamesbond"),
        ("tic_tac_toe_3d", "TicTacToe3D"),
        ("up_n_down", "UpNDown"),
    ],
)
def test_canonical_spellings_of_a_game_are_one(name, full):
    assert envs.canonical(f"atari:{name}") == f"atari:{full}"
    assert envs.canonical(f"atari100k:{name}") == f"atari100k:{full}"


def test_ids_every_game_of_one_player_is_found():
    games = atari.ids()
    assert len(games) == 104 and games == atari100k.ids()
    others = {"Combat", "Joust", "MazeCraze", "Warlords"}  # for two players
    assert {game.lower() for game in games} == {
        name.replace("_", "") for name in ale_py.roms.get_all_rom_ids()
    } - {name.lower() for name in others}


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("Pnog", "Pong"),
        ("ms_pakman", "MsPacman"),
        ("ALE/Pong-v5", "Pong"),
        ("PongNoFrameskip-v4", "Pong"),
        ("Breakot", "Breakout"),
    ],
)
@pytest.mark.parametrize("suite", ["atari", "atari100k"])
def test_canonical_wrong_game_suggests_close_ones(suite, name, close):
    with pytest.raises(UnknownTask, match=f"ALE has no game '{name}'; did you mean .*{close}"):
        envs.canonical(f"{suite}:{name}")


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"stickyness": 0.2}, "takes no argument 'stickyness'; did you mean sticky"),
        ({"frames": 3}, "takes no argument 'frames'; it takes size, grey, sticky"),
        ({"size": 64.5}, "atari:Pong takes for 'size' a whole number of 16 to 1024, but it is 64.5"),
        ({"size": 8}, "a whole number of 16 to 1024, but it is 8"),
        ({"sticky": 1.5}, "a number of 0 to 1, but it is 1.5"),
        ({"sticky": True}, "a number of 0 to 1, but it is True"),
        ({"grey": 1}, "takes for 'grey' true or false, but it is 1"),
        ({"repeat": 0}, "a whole number of 1 to 1000, but it is 0"),
        ({"noops": -1}, "a whole number of 0 to 1000, but it is -1"),
        ({"all_actions": "no"}, "true or false, but it is 'no'"),
    ],
)
def test_make_wrong_argument_raises_one_sentence(kwargs, sentence):
    with pytest.raises(UnknownTask, match=sentence):
        envs.make("atari:Pong", kwargs=kwargs)


def test_make_arguments_change_the_protocol():
    env = envs.make(
        "atari:Pong",
        kwargs={
            "size": 64,
            "grey": False,
            "sticky": 0,
            "repeat": 2,
            "noops": 0,
            "all_actions": False,
        },
    )
    assert env.obs_space["image"].shape == (64, 64, 3) and env.act_space["action"].classes == 6
    ale = env.worlds()[0].ale
    env.reset([3])
    frames = [ale.getEpisodeFrameNumber()]
    for _ in range(2):
        env.step({"action": np.zeros(1, np.int32)})
        frames.append(ale.getEpisodeFrameNumber())
    assert frames == [0, 2, 4]


def test_make_missing_package_says_what_to_install(monkeypatch):
    from importlib import util

    there = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "ale_py" else there(name))
    for suite in ("atari", "atari100k"):
        with pytest.raises(MissingExtra, match=r"need ale_py: pip install 'dreamer-toolkit\[atari\]'"):
            envs.make(f"{suite}:Pong")


@pytest.mark.parametrize("content", [None, b"another game"])
def test_make_missing_or_other_file_of_game_raises_missing_extra(content, monkeypatch, tmp_path, capsys):
    if content:
        (tmp_path / "pong.bin").write_bytes(content)
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(MissingExtra, match="file of the game atari:Pong cannot be read .*unset ALE_ROMS_DIR"):
        envs.make("atari:Pong")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("suite", "parts"),
    [
        ("atari", ("96x96 grey", "sticky actions 0.25", "all actions of the console")),
        ("atari100k", ("64x64 colour", "no sticky actions", "actions that the game uses")),
    ],
)
def test_note_names_size_sticky_actions_repeat_and_lives(suite, parts):
    text = envs.note(f"{suite}:Pong")
    assert all(part in text for part in (*parts, "4 frames", "108,000", "whole games", "30 frames"))
    assert text.endswith(".") and "\n" not in text


def test_made_of_names_emulator_and_resizer():
    assert set(envs.made_of("atari:Pong")) == {"ale-py", "pillow"}


def test_copies_with_other_seeds_differ_and_with_same_seed_agree():
    env = envs.make("atari:Breakout", 3)
    env.reset([1, 2, 1])
    rng = np.random.default_rng(0)
    steps = [env.step({"action": np.repeat(rng.integers(18), 3)}) for _ in range(120)]
    images = np.stack([s.obs["image"] for s in steps])
    assert np.array_equal(images[:, 0], images[:, 2])
    assert not all(np.array_equal(a, b) for a, b in itertools.pairwise(images.swapaxes(0, 1)))
