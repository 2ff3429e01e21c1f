"""pinpad: the rules, layouts and pictures of Visual Pin Pad."""

from collections import deque

import numpy as np
import pytest

import envs
from envs import pinpad
from envs.adapters import UnknownTask
from envs.api import Space

STAY, DOWN, UP, RIGHT, LEFT = range(5)
TASKS = list(pinpad.LAYOUTS)


def walk(env, pad):
    """Go to a pad by a shortest way over no other pad; returns the rewards on it."""
    (start, rewards), room = (env.place, []), env.room
    ways, waiting = {start: []}, deque([start])
    while waiting:
        x, y = waiting.popleft()
        if room[y, x] == pad and (x, y) != start:
            break
        for action, (right, down) in enumerate(pinpad.MOVES):
            cell = x + right, y + down
            if cell not in ways and room[cell[1], cell[0]] in (pinpad.FLOOR, pad, room[start[1], start[0]]):
                ways[cell] = [*ways[x, y], action]
                waiting.append(cell)
    for action in ways[x, y]:
        rewards.append(env.step(action)[1])
    assert room[env.place[1], env.place[0]] == pad
    return rewards


@pytest.fixture
def env():
    env = pinpad.PinPad("three")
    env.reset(seed=0)
    env.place = (7, 6)  # on the floor
    return env


@pytest.mark.parametrize(
    ("task", "cells"),
    [
        ("three", [16] * 3),
        ("four", [16] * 4),
        ("five", [12] * 5),
        ("six", [9, 9, 8, 9, 9, 8]),
        ("seven", [8, 8, 8, 8, 8, 8, 8]),
        ("eight", [8] * 8),
    ],
)
def test_layout_has_the_pads_of_its_name_inside_the_walls(task, cells):
    room = pinpad.layout(task)
    assert room.shape == (14, 16)
    assert [int((room == pad).sum()) for pad in range(1, room.max() + 1)] == cells
    border = np.ones_like(room, bool)
    border[1:-1, 1:-1] = False
    np.testing.assert_array_equal(room == pinpad.WALL, border)


def test_layout_of_three_is_the_published_one():
    top, bottom = "#1111      3333#", "#     2222     #"
    rows = ["#" * 16, *[top] * 4, *["#" + " " * 14 + "#"] * 4, *[bottom] * 4, "#" * 16]
    signs = {pinpad.WALL: "#", pinpad.FLOOR: " "}
    assert ["".join(signs.get(int(c), str(c)) for c in row) for row in pinpad.layout("three")] == rows


@pytest.mark.parametrize("task", TASKS)
def test_pinpad_pads_in_order_pay_ten_at_the_last_one(task):
    env = pinpad.PinPad(task)
    env.reset(seed=1)
    env.place = next((int(x), int(y)) for y, x in np.argwhere(env.room == pinpad.FLOOR))
    rewards = [walk(env, pad) for pad in range(1, env.pads + 1)]
    assert rewards[-1][-1] == 10 and sum(map(sum, rewards)) == 10
    assert list(env.history) == list(range(1, env.pads + 1))


@pytest.mark.parametrize("order", [(1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1), (1, 2, 1)])
def test_pinpad_wrong_order_pays_nothing(env, order):
    assert not any(sum(walk(env, pad)) for pad in order)
    assert list(env.history) == list(order)


def test_pinpad_only_the_last_pads_count_and_staying_on_one_counts_once(env):
    for pad in (3, 2, 1):
        walk(env, pad)
    assert not env.step(STAY)[1] and list(env.history) == [3, 2, 1]
    assert not sum(walk(env, 2)) and list(env.history) == [2, 1, 2]
    assert walk(env, 3)[-1] == 10 and list(env.history) == [1, 2, 3]


def test_pinpad_after_the_reward_ten_steps_pass_then_the_square_starts_again(env):
    for pad in (1, 2, 3):
        walk(env, pad)
    place, starts = env.place, []
    for _ in range(9):
        obs, reward, *_ = env.step(STAY)
        assert reward == 0 and env.place == place and list(env.history) == [1, 2, 3]
        assert tuple(obs["image"][5 * 4, 7 * 4]) == pinpad.GREEN
    assert not env.step(STAY)[1] and set(env.history) <= {env.room[env.place[1], env.place[0]]}
    assert tuple(env._see()["image"][5 * 4, 7 * 4]) in (pinpad.WHITE, pinpad.BLACK)
    for seed in range(400):
        env.reset(seed=seed)
        starts.append(env.place)
    assert len(set(starts)) > 100 and all(env.room[y, x] != pinpad.WALL for x, y in starts)


def test_pinpad_walls_stop_the_square(env):
    moved = {STAY: (7, 6), DOWN: (7, 7), UP: (7, 5), RIGHT: (8, 6), LEFT: (6, 6)}
    for action, place in moved.items():
        env.place = (7, 6)
        env.step(action)
        assert env.place == place
    corners = {(1, 5): LEFT, (14, 5): RIGHT, (7, 1): UP, (5, 12): DOWN}
    for place, action in corners.items():
        env.place = place
        env.step(action)
        assert env.place == place


def test_pinpad_image_shows_square_pads_and_history(env):
    walk(env, 2)
    walk(env, 1)
    obs, *_ = env.step(STAY)
    image = obs["image"]
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    cells = image[::4, ::4]
    np.testing.assert_array_equal(image, cells.repeat(4, 0).repeat(4, 1))
    x, y = env.place
    assert not cells[y, x].any() and (cells.reshape(-1, 3).max(1) == 0).sum() == 1
    on = [(a, b) for a in range(1, 5) for b in range(1, 5) if (a, b) != (x, y)]
    assert all(tuple(cells[b, a]) == (255, 0, 0) for a, b in on)  # the pad it is on
    assert tuple(cells[10, 7]) == (229, 255, 229) and tuple(cells[2, 12]) == (229, 229, 255)
    bottom = [tuple(cell) for cell in cells[14]]
    assert bottom[1] == (0, 255, 0) and bottom[3] == (255, 0, 0)
    assert {*bottom[4:], *map(tuple, cells[15]), *map(tuple, cells[0])} == {pinpad.GREY}


def test_pinpad_limit_is_no_terminal():
    env = envs.make("pinpad:four", max_episode_steps=3)
    env.reset([0])
    stay = {"action": np.zeros(1, int)}
    steps = [env.step(stay) for _ in range(3)]
    assert [bool(s.is_last[0]) for s in steps] == [False, False, True]
    assert not any(s.is_terminal[0] for s in steps)
    assert pinpad.make("three", "").max_steps == 10_000


def test_pinpad_seed_decides_every_start():
    def played(seed):
        env = pinpad.PinPad("three")
        env.reset(seed=seed)
        places = [env.place]
        for pad in (1, 2, 3):
            walk(env, pad)
        for _ in range(11):
            env.step(STAY)
        return [*places, env.place]

    assert played(3) == played(3)
    assert len({tuple(played(seed)) for seed in range(5)}) == 5


def test_pinpad_checked_passes_environment_contract():
    env = envs.make("pinpad:three")
    assert env.obs_space["image"] == Space((64, 64, 3), "uint8") and env.act_space["action"].classes == 5
    findings = envs.check("pinpad:three", steps=60, max_episode_steps=25)
    assert not [f for f in findings if f.status == "fail"], findings


@pytest.mark.parametrize(
    ("task", "hint"), [("pinpad:tree", "did you mean three"), ("pinpad:9", "there are three, four")]
)
def test_pinpad_unknown_task_raises_with_a_suggestion(task, hint):
    with pytest.raises(UnknownTask, match=hint):
        envs.make(task)
