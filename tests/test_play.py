"""Playing in the dream: the world stays the world, and every way back leads where it led before."""

import base64
import http.client
import io
import json
import socket
import threading
from functools import cache

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

import envs
from dreamer import costs
from dreamer.actors.charged import Charged
from dreamer.agent import Agent
from dreamer.costs import Sum
from dreamer.player import Player
from envs.api import FIRST_TRAINING_SEED, EnvError
from envs.draw import picture
from experiments import serve
from experiments.cli import main
from experiments.costs.reading import Terms
from experiments.play import adviser as advisers
from experiments.play import session as sessions
from experiments.play.adviser import Adviser
from experiments.play.play import Game
from experiments.play.session import TILE, Session
from experiments.serve import Refused

pytestmark = pytest.mark.usefixtures("compilation_cache")
LEFT, RIGHT, FORWARD, DROP = 0, 1, 2, 4
GOAL = [FORWARD, FORWARD, RIGHT, FORWARD, FORWARD]
"""Where the goal of grid:Empty-5x5 is."""


def restless(agent: Agent):
    """Parameters with which nothing is 0 only because a layer starts there."""
    rng = np.random.default_rng(0)
    shake = lambda p: p + rng.normal(0, 0.3, p.shape).astype(p.dtype)
    return jax.tree.map(shake, jax.jit(agent.init)(jax.random.key(0)).params)


def begin(
    task: str, actor: str = "greedy", terms: Terms | None = None, reward_weight: float = 1.0
) -> Session:
    """A session with an agent to which no observation is like another."""
    env = envs.make(task, 1)
    agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    params = restless(agent)
    player = Player(agent, params, tiny.NUMBERS, actor=actor)
    return Session(env, Adviser(player, actor, terms, reward_weight), 0)


@pytest.fixture(scope="module")
def rooms(compilation_cache):
    return begin("grid:Empty-5x5")


@pytest.fixture(scope="module")
def poles(compilation_cache):
    return begin("gymnasium:CartPole-v1")


@pytest.fixture
def room(rooms):
    """A new episode of a small room."""
    rooms.new(0)
    return rooms


@pytest.fixture
def pole(poles):
    poles.new(0)
    return poles


def play(session: Session, *actions: int | None) -> dict:
    """What the page shows after some actions."""
    for action in actions:
        session.act(action)
    return session.state()


def at(session: Session) -> dict:
    """What the page shows, without the other lines."""
    return {k: v for k, v in session.state().items() if k != "lines"}


by_itself = cache(envs.make)


def by_hand(task: str, seed: int, actions) -> tuple[dict, float, bool]:
    """Observation, return and end of an environment that nobody else steps."""
    env = by_itself(task)
    step, total = env.reset([seed]), 0.0
    for action in actions:
        assert not step.is_last[0]
        step = env.step({"action": np.array([action], np.int32)})
        total += float(step.reward[0])
    return {k: v[0] for k, v in step.obs.items()}, total, bool(step.is_last[0])


def drawn(told: dict) -> np.ndarray:
    """The picture that the page shows."""
    data = told["frame"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def assert_is_world(session: Session, seed: int, actions) -> None:
    """What the page calls the world is the environment after these actions."""
    task = session.state()["task"]
    obs, total, over = by_hand(task, seed, actions)
    world = session.state()["world"]
    assert world["return"] == pytest.approx(total, abs=1e-4) and world["over"] == over
    if "frame" in world:
        np.testing.assert_array_equal(drawn(world), picture(obs, by_itself(task).obs_space, tile=TILE))
    else:
        assert list(map(float, world["values"]["vector"])) == pytest.approx(list(obs["vector"]), abs=1e-3)


# The world.


@pytest.mark.parametrize("actions", [[], [LEFT], [FORWARD, RIGHT, FORWARD], GOAL])
def test_session_act_on_device_world_equals_manual_environment_steps(room, actions):
    play(room, *actions)
    assert_is_world(room, 0, actions)


def test_session_act_on_host_world_equals_manual_environment_steps(pole):
    play(pole, 0, 1, 1, 0, 1)
    assert_is_world(pole, 0, [0, 1, 1, 0, 1])


def test_session_replay_that_differs_is_reported_once(pole, monkeypatch):
    play(pole, 0, 1, 0, 1)
    pole.rewind(2)
    assert play(pole, 0)["note"] == ""
    reset = pole._env.reset
    monkeypatch.setattr(pole._env, "reset", lambda seeds: reset([seeds[0] + 1]))
    pole.rewind(2)
    state = play(pole, 1)
    assert state["note"].startswith(
        "Played again from its seed the world went another way (observation 'vector' differs after 0 steps)"
    )
    pole.rewind(1)
    assert play(pole, 1)["note"] == state["note"] and play(pole, 1)["t"] == 3
    pole.new(0)
    assert pole.state()["note"] == ""


def test_session_replay_that_ends_early_is_refused(pole, monkeypatch):
    play(pole, 0, 1, 0, 1)
    pole.rewind(3)
    step = pole._env.step
    monkeypatch.setattr(pole._env, "step", lambda action: step(action)._replace(is_last=np.ones(1, bool)))
    with pytest.raises(
        Refused, match="is_last differs after 1 steps.*It ended on the way: begin a new episode"
    ):
        pole.act(0)
    assert pole.state()["t"] == 3
    monkeypatch.undo()
    assert play(pole, 0)["t"] == 4


def test_session_new_with_seed_starts_that_episode(pole):
    pole.new(7)
    play(pole, 1)
    assert pole.state()["seed"] == 7
    assert_is_world(pole, 7, [1])


def test_session_act_without_action_takes_the_displayed_choice(room):
    would = room.state()["choice"]
    assert play(room, None)["last"] == would
    assert_is_world(room, 0, [room.state()["actions"].index(would)])


def test_session_act_after_the_end_freezes_world_and_continues_dream(room):
    ended = play(room, *GOAL)
    assert ended["world"]["over"] and ended["world"]["reward"] > 0
    later = play(room, LEFT, FORWARD)
    assert later["world"] == ended["world"] and later["t"] == len(GOAL) + 2
    assert later["dream"]["critic"] != ended["dream"]["critic"]


def test_session_act_after_the_end_without_action_acts_in_the_dream(room):
    play(room, *GOAL)
    for _ in range(3):
        now = room._line[-1]
        chosen = room._inspector.choose(now.dream)["action"]
        np.testing.assert_array_equal(now.choice["action"], chosen)
        assert play(room, None)["last"] == room.state()["actions"][int(chosen[0])]


# The way back.


@pytest.mark.parametrize("t", [0, 2])
def test_session_rewind_and_equal_actions_give_equal_states(room, t):
    states = [at(room)]
    for action in (FORWARD, RIGHT, FORWARD, DROP):
        room.act(action)
        states.append(at(room))
    room.rewind(t)
    assert at(room) == states[t]
    for i, action in enumerate((FORWARD, RIGHT, FORWARD, DROP)[t:]):
        room.act(action)
        assert at(room) == states[t + 1 + i]


def test_session_rewind_and_another_action_keeps_the_old_line(pole):
    old = play(pole, 0, 0, 0, 0)
    pole.rewind(1)
    play(pole, 1, 1)
    assert_is_world(pole, 0, [0, 1, 1])
    assert pole.state()["lines"] == [4]
    pole.open(0)
    assert at(pole) == {k: v for k, v in old.items() if k != "lines"}
    assert pole.state()["lines"] == [3]
    play(pole, 1)
    assert_is_world(pole, 0, [0, 0, 0, 0, 1])


def test_session_ended_line_does_not_end_the_others(room):
    play(room, *GOAL, LEFT)
    room.rewind(2)
    play(room, LEFT)
    assert_is_world(room, 0, [*GOAL[:2], LEFT])
    room.open(0)
    assert play(room, LEFT)["world"]["over"]
    room.open(0)
    play(room, RIGHT)
    assert_is_world(room, 0, [*GOAL[:2], LEFT, RIGHT])


def test_session_rewind_keeps_only_lines_that_would_be_lost(room):
    play(room, LEFT, LEFT, LEFT)
    room.rewind(3)
    assert room.state()["lines"] == []
    for t in (2, 1, 0):
        room.rewind(t)
        assert room.state()["lines"] == [3]
    room.open(0)
    assert room.state()["lines"] == [] and room.state()["t"] == 3


def test_session_new_clears_the_lines(room):
    play(room, LEFT, LEFT)
    room.rewind(0)
    room.new(1)
    assert room.state()["lines"] == [] and room.state()["t"] == 0


# The dream.


def test_session_start_has_the_posterior_in_the_dream(room):
    told = room.state()
    assert told["dream"]["awake"] and told["dream"]["critic"] == told["world"]["critic"]


def test_session_wake_sets_the_dream_to_the_posterior(room):
    told = play(room, FORWARD, RIGHT, FORWARD)
    assert not told["dream"]["awake"] and told["dream"]["critic"] != told["world"]["critic"]
    room.wake()
    woken = room.state()
    assert woken["dream"]["awake"] and woken["dream"]["critic"] == told["world"]["critic"]
    assert woken["world"] == told["world"] and woken["t"] == told["t"]
    play(room, LEFT)
    assert not room.state()["dream"]["awake"]
    assert_is_world(room, 0, [FORWARD, RIGHT, FORWARD, LEFT])


def test_session_act_after_wake_continues_the_dream_from_there(room):
    play(room, FORWARD, RIGHT, FORWARD)
    asleep = play(room, LEFT)["dream"]
    room.rewind(3)
    room.wake()
    awake = play(room, LEFT)["dream"]
    assert awake["critic"] != asleep["critic"] and awake["frame"] != asleep["frame"]


def test_session_wake_after_the_end_is_what_the_agent_acts_in(room):
    play(room, *GOAL, LEFT, FORWARD)
    room.wake()
    now = room._line[-1]
    np.testing.assert_array_equal(now.choice["action"], room._inspector.choose(now.carry.latent)["action"])


def test_session_wake_on_a_new_line_keeps_the_dream_of_the_old_one(room):
    asleep = play(room, FORWARD, RIGHT, FORWARD)["dream"]
    room.rewind(2)
    room.wake()
    room.open(0)
    assert room.state()["dream"] == asleep


def test_session_dream_return_is_the_sum_of_predicted_rewards(room):
    rewards = [play(room, action)["dream"]["reward"] for action in (LEFT, FORWARD, RIGHT)]
    assert room.state()["dream"]["return"] == pytest.approx(sum(rewards), abs=1e-3)


def test_lines_array_without_picture_is_formatted_and_limited():
    assert sessions._lines(np.arange(4).reshape(2, 2)) == ["0 1", "2 3"]
    assert sessions._lines(np.array([0.12345, -2])) == ["0.123", "-2"]
    assert len(sessions._lines(np.zeros((99, 99)))) == 12


# Costs.

CEM = "categorical_cem:horizon=2,samples=16,elites=4,proposals=1,iterations=1"


def place(world, latent, decoded):
    """Where the cart is."""
    return decoded["vector"][:, 0]


def hidden(world, latent, decoded):
    """h_0, in large numbers."""
    return 50.0 * latent.deter[:, 0]


WISHES: Terms = {"wishes.py:place=2": (place, 2.0), "wishes.py:hidden": (hidden, 1.0)}


@pytest.fixture(scope="module")
def planners(compilation_cache):
    """A session of a planner with two costs."""
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        return begin("gymnasium:CartPole-v1", CEM, WISHES, 0.5)


@pytest.fixture
def planner(planners):
    """A new episode, both costs on."""
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        planners._on = (True, True)
        planners.new(0)
        yield planners


def test_session_planner_counts_only_costs_that_are_on(planner):
    player, step = planner._adviser.player, planner._line[0].step
    planner.switch(0, False)
    actor = Charged(player.actor, Sum((WISHES["wishes.py:hidden"],)), player.agent.decoder, 0.5)
    other = Player(player.agent, player.everything, player.numbers, actor=actor)
    action, carry = other.act(player.init(1), step, key=0)
    now = planner._line[-1]
    np.testing.assert_array_equal(now.choice["action"], action["action"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), now.carry, carry)
    wishes = planner.state()["wishes"]
    assert [cost["on"] for cost in wishes["costs"]] == [False, True] and wishes["reward_weight"] == 0.5
    planner.switch(1, False)
    assert planner.state()["wishes"]["reward_weight"] == 1.0


def test_adviser_cost_that_is_off_does_not_count_where_it_is_no_number():
    terms: Terms = {
        "twice": (lambda world, latent, decoded: latent, 2.0),
        "yes": (lambda world, latent, decoded: latent > 1, -1.0),
        "nan": (lambda world, latent, decoded: latent * np.nan, 1.0),
    }
    cost = lambda *on: np.asarray(advisers._counted(terms, np.array(on))(None, np.array([1.0, 3.0]), None))
    np.testing.assert_array_equal(cost(True, True, False), [2, 5])
    np.testing.assert_array_equal(cost(False, False, False), [0, 0])
    assert np.isnan(cost(True, False, True)).all()


def test_session_costs_are_those_of_the_real_and_of_the_dreamt_state(planner):
    state = play(planner, 0, 1, 1)
    costs, now = state["wishes"]["costs"], planner._line[-1]
    assert [(cost["name"], cost["weight"]) for cost in costs] == [
        ("wishes.py:place", 2.0),
        ("wishes.py:hidden", 1.0),
    ]
    assert costs[0]["world"] == pytest.approx(now.step.obs["vector"][0, 0], abs=1e-4)
    assert costs[0]["dream"] == pytest.approx(now.dreamt["obs"]["vector"][0], abs=1e-4)
    assert costs[1]["world"] == pytest.approx(50 * float(now.carry.latent.deter[0, 0]), abs=1e-3)
    assert costs[1]["dream"] == pytest.approx(50 * float(now.dream.deter[0, 0]), abs=1e-3)
    assert costs[1]["dream"] != costs[1]["world"]


def test_session_switch_and_back_changes_nothing(planner):
    before = play(planner, 0, 1)
    carry = planner._line[-1].carry
    planner.switch(1, False)
    off = planner.state()
    same = lambda state: {k: v for k, v in state.items() if k not in ("choice", "wishes")}
    assert same(off) == same(before) and [cost["on"] for cost in off["wishes"]["costs"]] == [True, False]
    planner.switch(1, True)
    assert planner.state() == before
    jax.tree.map(np.testing.assert_array_equal, planner._line[-1].carry, carry)
    assert_is_world(planner, 0, [0, 1])
    play(planner, 0)
    assert_is_world(planner, 0, [0, 1, 0])


def test_session_moment_one_rewinds_to_is_decided_with_the_present_costs(planner):
    play(planner, 0, 1, 0)
    planner.rewind(1)
    with_costs = planner._line[-1]
    planner.switch(0, False)
    planner.switch(1, False)
    without = planner._line[-1].carry
    assert planner.state()["lines"] == [3]
    planner.rewind(0)
    assert planner.state()["lines"] == [3]  # the moment that was switched is no line of its own
    planner.open(0)
    assert planner._line[-1].on == (False, False) and planner._line[1].on == (True, True)
    planner.rewind(1)
    assert planner._line[-1].on == (False, False)
    jax.tree.map(np.testing.assert_array_equal, planner._line[-1].carry, without)
    planner.switch(0, True)
    planner.switch(1, True)
    jax.tree.map(np.testing.assert_array_equal, planner._line[-1].carry, with_costs.carry)
    planner.switch(1, False)
    planner.new(1)
    assert [cost["on"] for cost in planner.state()["wishes"]["costs"]] == [True, False]


def test_session_planner_after_the_end_plans_in_the_dream(planner):
    play(planner, *[0] * 12)
    now = planner._line[-1]
    assert now.over
    player, terms = planner._adviser.player, tuple(WISHES.values())
    world = player.agent.world(player.everything, player.numbers).with_cost(Sum(terms), 0.5)
    is_first, key = np.zeros(1, bool), jax.random.key(len(planner._line) - 1)
    plan = jax.jit(lambda dream, memory: player.actor.act(world, dream, memory, is_first, key=key))
    action, after = plan(now.dream, planner._line[-2].carry.memory)
    np.testing.assert_array_equal(now.choice["action"], action["action"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), now.carry.memory, after)
    play(planner, 1)
    np.testing.assert_array_equal(now.carry.latent.deter, planner._line[-1].carry.latent.deter)


@pytest.fixture(scope="module")
def priced(compilation_cache):
    """A policy with costs, which it does not plan with; one of them is nowhere a number."""
    endless = lambda world, latent, decoded: latent.deter[:, 0] / 0.0
    return begin("gymnasium:CartPole-v1", terms={"ending": (costs.ending, 1.0), "endless": (endless, 1.0)})


def test_session_policy_only_shows_costs(priced, poles):
    wishes = priced.state()["wishes"]
    assert not wishes["plans"] and wishes["costs"][1]["world"] is wishes["costs"][1]["dream"] is None
    assert 0 < wishes["costs"][0]["world"] == wishes["costs"][0]["dream"] < 1
    with pytest.raises(Refused, match="the actor greedy does not plan: costs change nothing"):
        priced.switch(0, False)
    poles.new(0)
    assert poles.state()["wishes"] == {"plans": False, "reward_weight": 1.0, "costs": []}
    assert poles.state()["choice"] == priced.state()["choice"]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"index": 2, "on": True}, "there are 2 costs, but no cost 2"),
        ({"index": 0}, "on must be true or false, but it is None"),
        ({"index": 0, "on": 1}, "on must be true or false, but it is 1"),
        ({"on": False}, "index must be a whole number"),
    ],
)
def test_game_switch_that_cannot_be_is_refused(planner, request_, sentence):
    before = planner.state()
    with pytest.raises(Refused, match=sentence):
        ask(planner, "/switch", **request_)
    assert planner.state() == before
    assert not ask(planner, "/switch", index=0, on=False)["wishes"]["costs"][0]["on"]


# What cannot be.


def ask(session: Session, path: str, **told) -> dict:
    return json.loads(Game(session).posts()[path](told).body)


@pytest.mark.parametrize(
    ("path", "told", "sentence"),
    [
        ("/act", {"action": 7}, "the action must be 0 to 6, but it is 7"),
        (
            "/act",
            {"action": -1},
            "action must be a whole number, 0 or more and below 2147483648, but it is -1",
        ),
        ("/act", {"action": True}, "but it is True"),
        ("/act", {"action": "left"}, "but it is 'left'"),
        ("/rewind", {"t": 2}, "the line has moments 0 to 1, but not 2"),
        ("/rewind", {}, "t must be a whole number"),
        ("/line", {"index": 0}, "there are 0 other lines, but no line 0"),
        ("/line", {"index": 0.0}, "but it is 0.0"),
        ("/new", {"seed": -1}, "but it is -1"),
        ("/new", {"seed": FIRST_TRAINING_SEED}, f"below {FIRST_TRAINING_SEED}, but it is {2**30}"),
    ],
)
def test_game_invalid_request_is_refused_and_changes_nothing(room, path, told, sentence):
    before = play(room, LEFT)
    with pytest.raises(Refused) as refused:
        ask(room, path, **told)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)
    assert room.state() == before


def test_game_every_path_returns_the_new_state(room):
    assert ask(room, "/act", action=LEFT) == room.state()
    assert ask(room, "/act")["t"] == 2
    assert ask(room, "/rewind", t=0)["t"] == 0
    assert ask(room, "/line", index=0)["t"] == 2
    assert ask(room, "/wake")["dream"]["awake"]
    assert ask(room, "/new", seed=5)["seed"] == 5
    assert ask(room, "/new")["seed"] == 6


def test_game_new_after_the_last_evaluation_seed_starts_at_zero(room):
    room.new(FIRST_TRAINING_SEED - 1)
    assert ask(room, "/new")["seed"] == 0


def test_session_act_beyond_the_longest_line_is_refused(room, monkeypatch):
    monkeypatch.setattr(sessions, "LONGEST", 2)
    play(room, LEFT)
    with pytest.raises(Refused, match="at most 2 moments; begin a new episode"):
        room.act(LEFT)


def test_session_act_environment_error_is_refused_and_world_restored(pole, monkeypatch):
    play(pole, 0, 0)

    def fail(action):
        raise EnvError("the pole broke")

    with monkeypatch.context() as patch:
        patch.setattr(pole._env, "step", fail)
        with pytest.raises(Refused, match="the pole broke"):
            ask(pole, "/act", action=1)
    pole._env.step({"action": np.array([0], np.int32)})  # wherever it was left
    play(pole, 1)
    assert_is_world(pole, 0, [0, 0, 1])


def test_session_continuous_actions_are_chosen_by_the_agent_only():
    session = begin("probe:continuous")
    assert session.state()["actions"] == []
    with pytest.raises(Refused, match="no single choice: let the agent act"):
        session.act(0)
    assert play(session, None)["t"] == 1


# The command.


def test_game_server_serves_page_and_paths(room):
    game = Game(room)
    made = serve.server(0, {"/": game.page, "/state": game.state}, game.posts())
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def ask(*request, **headers):
        connection = http.client.HTTPConnection(*made.server_address, timeout=60)
        connection.request(*request, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    page = ask("GET", "/")
    acted = ask("POST", "/act", b'{"action": 2}', **{"Content-Type": "application/json"})
    refused = ask("POST", "/act", b'{"action": 9}', **{"Content-Type": "application/json"})
    seen = ask("GET", "/state")
    made.shutdown()
    made.server_close()
    thread.join()
    assert page[0] == 200 and b"Play in the dream" in page[1]
    assert acted == seen and json.loads(acted[1])["t"] == 1
    assert refused == (400, b'{"error": "the action must be 0 to 6, but it is 9"}')


@pytest.fixture(scope="module")
def run(tmp_path_factory, compilation_cache):
    """A run folder with an agent that has learned nothing."""
    env = envs.make("grid:Empty-5x5", 1)
    agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    state = jax.jit(agent.init)(jax.random.key(0))
    return tiny.store(tmp_path_factory.mktemp("runs") / "room", state, agent, task="grid:Empty-5x5")


def mistake(capsys, *words: str) -> str:
    """The sentence that a command ends with, which is one."""
    assert main(["play", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dreamer: ") and err.count("\n") == 1
    return err


def test_play_command_without_an_agent_prints_one_sentence(tmp_path, capsys):
    assert f"There is no run folder {tmp_path}/none" in mistake(capsys, f"{tmp_path}/none")
    assert f"no checkpoint folder {tmp_path}" in mistake(capsys, str(tmp_path))
    assert "needs the folder of a run" in mistake(capsys)
    assert "seed must be" in mistake(capsys, str(tmp_path), "--seed", str(FIRST_TRAINING_SEED))


def test_play_command_wrong_actor_or_cost_prints_one_sentence(run, capsys):
    for words, sentence in (
        ("--actor mppy", "there is no actor 'mppy'; there are greedy"),
        ("--actor mppi", "plans continuous actions, but 'action' is discrete"),
        ("--actor categorical_cem --actor.depth 3", "has no option 'depth'"),
        ("--cost endin", "did you mean ending"),
        ("--goal none.npz", "--goal none.npz cannot be read"),
        ("--reward-weight 0", "add --cost or --goal"),
    ):
        assert sentence in mistake(capsys, str(run), *words.split())


def test_play_command_port_in_use_prints_one_sentence(run, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} cannot be used" in mistake(capsys, str(run), "--port", str(port))


def test_play_command_with_planner_and_costs_serves(run, capsys, monkeypatch):
    def interrupt(self, poll_interval=0.5):
        raise KeyboardInterrupt

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupt)
    words = f"{run} --port 0 --cost ending=3 --reward-weight 0 --actor categorical_cem --actor.horizon 2"
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        assert main(["play", *words.split()]) == 0
    assert f"in the dreams of {run}" in capsys.readouterr().err


@pytest.mark.parametrize("exported", [False, True])
def test_play_command_run_or_exported_agent_serves_until_interrupted(run, exported, capsys, monkeypatch):
    def interrupt(self, poll_interval=0.5):
        raise KeyboardInterrupt

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupt)
    path = run / "agent.safetensors" if exported else run
    if exported:
        assert main(["export", str(run), "--force"]) == 0
    assert main(["play", str(path), "--port", "0"]) == 0
    err = capsys.readouterr().err
    assert "http://127.0.0.1:" in err and f"grid:Empty-5x5 in the dreams of {path}; Ctrl-C ends" in err
