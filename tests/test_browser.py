"""The pages work in a browser: by mouse, by keyboard, on a telephone, without a word in the console."""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'test')")

import board_runs  # noqa: E402
import jax  # noqa: E402
from test_plan_report import content as plans  # noqa: E402
from test_plan_report import rows as plan_rows  # noqa: E402
from test_play import CEM, begin  # noqa: E402
from test_report import ROOM, SMALL, reported, untrained  # noqa: E402

from dreamer import costs  # noqa: E402
from envs.draw import MOVES  # noqa: E402
from experiments import serve  # noqa: E402
from experiments.board import board as board_server  # noqa: E402
from experiments.board import index as board_index  # noqa: E402
from experiments.board.board import Board  # noqa: E402
from experiments.cli import main  # noqa: E402
from experiments.costs import summary  # noqa: E402
from experiments.plans import page as plan_page  # noqa: E402
from experiments.play.play import Game  # noqa: E402
from experiments.report import watch  # noqa: E402
from experiments.report.watch import Watch  # noqa: E402

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.usefixtures("compilation_cache"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Playwright's own pipes
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PHONE, DESK = {"width": 390, "height": 800}, {"width": 900, "height": 900}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def tab(browser) -> Iterator:
    """An empty page that must not complain, nor load anything from elsewhere."""
    page, complaints = browser.new_page(viewport=DESK), []
    page.set_default_timeout(20_000)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if _foreign(request.url) else None)
    page.complaints = complaints
    yield page
    page.close()
    assert complaints == []


def _foreign(url: str) -> bool:
    return not url.startswith(("file://", "data:", "http://127.0.0.1:"))


def overflow(page) -> int:
    """Pixels that one could scroll to the side."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


# The report.


@pytest.fixture(scope="module")
def runs(tmp_path_factory, compilation_cache):
    """A reported run and, beside it, its page and one that compares it with itself."""
    folder = untrained(tmp_path_factory.mktemp("runs") / "room")
    reported(folder, lambda: main(["report", str(folder), "--json"]))
    assert main(["report", str(folder), str(folder), "--out", str(folder.parent / "both.html")]) == 0
    return folder


@pytest.fixture
def report(tab, runs):
    tab.goto((runs / "report.html").as_uri())
    return tab


def step(page) -> int:
    """Where the slider of the player is."""
    return int(page.locator("#player input").input_value())


def frame(page) -> str:
    """Which part of its sheet the first frame of the player shows."""
    return page.locator("#player .frame").first.evaluate("frame => frame.style.backgroundPosition")


def test_report_arrow_keys_pressed_step_through_episode(report):
    report.locator("#player input").press("Home")
    report.locator("h1").click()
    first = frame(report)
    report.keyboard.press("ArrowRight")
    assert step(report) == 1 and frame(report) != first
    assert report.get_by_text("step 1 of 8").is_visible()
    report.keyboard.press("ArrowLeft")
    report.keyboard.press("ArrowLeft")
    assert step(report) == 0 and frame(report) == first


def test_report_slider_end_then_arrow_moves_exactly_one_step(report):
    slider = report.locator("#player input")
    slider.press("End")
    assert step(report) == SMALL["report__max_steps"]
    assert report.get_by_text("step 8 of 8: the end").is_visible()
    slider.press("ArrowLeft")
    assert step(report) == 7


def test_report_play_button_pressed_plays_until_end_or_stop(report):
    report.locator("#player input").press("Home")
    button = report.locator("#player button.play")
    button.click()
    assert button.text_content() == "stop"
    report.wait_for_function("document.querySelector('#player input').value > 1")
    button.click()
    assert button.text_content() == "play"
    report.locator("#player input").press("End")
    button.click()
    report.wait_for_function("document.querySelector('#player button.play').textContent === 'play'")
    assert step(report) == 8


def test_report_episode_buttons_clicked_open_other_episode(report):
    buttons = report.locator("#player [role=group] button")
    assert [b.get_attribute("aria-pressed") for b in buttons.all()] == ["true", "false"]
    before = report.locator("#player p").first.text_content()
    buttons.nth(1).click()
    assert [b.get_attribute("aria-pressed") for b in buttons.all()] == ["false", "true"]
    assert report.locator("#player p").first.text_content() != before


def test_report_curve_clicked_jumps_to_step(report):
    box = report.locator("#player canvas").bounding_box()
    report.locator("#player canvas").click(position={"x": box["width"] - 1, "y": 20})
    assert step(report) == 8
    report.locator("#player canvas").click(position={"x": 1, "y": 20})
    assert step(report) == 0


def test_report_curves_loaded_are_drawn_with_legend(report):
    drawn = (
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(x => x)"
    )
    assert report.locator("#player canvas").evaluate(drawn)
    assert report.locator("#player .legend span").count() == 4


def test_report_prediction_clips_loaded_are_animated(report):
    place = "document.querySelector('#clips .frame').style.backgroundPosition"
    seen = report.evaluate(place)
    report.wait_for_function(f"{place} !== {json.dumps(seen)}")
    assert report.locator("#clips small").first.text_content() in (
        "looking",
        *(f"{i} ahead, without looking" for i in range(1, 4)),
    )


@pytest.mark.parametrize("page", ["room/report.html", "both.html"])
def test_page_on_phone_has_no_horizontal_overflow(tab, runs, page):
    tab.set_viewport_size(PHONE)
    tab.goto((runs.parent / page).as_uri())
    assert tab.locator("h1").is_visible() and overflow(tab) == 0


# The comparison.


@pytest.fixture(scope="module")
def compared(runs):
    """A page on which nobody succeeds, so that episodes of the agent stand beside those side by side."""
    out = runs.parent / "compared"
    asked = f"compare --task {ROOM} --agents random run:{runs} --episodes 1 --out {out}"
    assert main(asked.split()) == 0
    return out / "report.html"


@pytest.fixture
def contest(tab, compared):
    tab.goto(compared.as_uri())
    return tab


def moment(page) -> str:
    """Which step of the episodes is shown."""
    return page.locator("#contest .row small").text_content()


def test_contest_arrow_keys_pressed_step_all_players_together(contest):
    frames = contest.locator("#contest .frame")
    assert frames.count() == 2 and moment(contest) == "step 0 of 100"
    where = "all => all.map(one => one.style.backgroundPosition)"
    first = frames.evaluate_all(where)
    contest.keyboard.press("ArrowRight")
    assert moment(contest) == "step 1 of 100"
    assert all(old != new for old, new in zip(first, frames.evaluate_all(where), strict=True))
    contest.keyboard.press("ArrowLeft")
    contest.keyboard.press("ArrowLeft")
    assert moment(contest) == "step 0 of 100" and frames.evaluate_all(where) == first


def test_contest_play_button_plays_until_end_or_new_selection(contest):
    button = contest.locator("#contest button.play")
    button.click()
    assert button.text_content() == "stop"
    contest.wait_for_function("document.querySelector('#contest input').value > 1")
    contest.locator("#contest input").press("End")
    contest.wait_for_function("document.querySelector('#contest button.play').textContent === 'play'")
    button.click()
    assert button.text_content() == "stop" and moment(contest) == "step 0 of 100"
    contest.locator("#contest select").select_option(index=1)
    assert button.text_content() == "play" and moment(contest) == "step 0 of 100"
    assert contest.get_by_text("expected by the model").count() == 1


def test_contest_on_phone_has_no_horizontal_overflow(tab, compared):
    tab.set_viewport_size(PHONE)
    tab.goto(compared.as_uri())
    assert tab.locator("#contest .frame").count() == 2 and overflow(tab) == 0


# Pages that are served.


@contextlib.contextmanager
def serving(get, post=None) -> Iterator[str]:
    """Where a browser finds these paths."""
    made = serve.server(0, get, post)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield serve.address(made)
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def test_watch_page_new_version_reloads_itself(tab, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "RELOAD", watch.RELOAD.replace("2000", "20"))
    saved, path = [], tmp_path / "page.html"

    def make():
        path.write_text(f"<html><link rel='icon' href='data:,'><body>step {saved[-1]}</body></html>")
        return path

    class Store:
        steps = staticmethod(lambda: saved)

    found = Watch(Store(), make, print)  # pyrefly: ignore
    with serving({"/": found.page, "/version": found.version}) as address:
        tab.goto(address)
        assert "Waiting" in tab.content()
        for i in (10, 20):
            saved.append(i)
            found.look()
            tab.get_by_text(f"step {i}").wait_for()
        tab.goto("about:blank")


# Playing.


@pytest.fixture(scope="module")
def session(compilation_cache):
    return begin("grid:Empty-5x5")


@contextlib.contextmanager
def playing(tab, session) -> Iterator[None]:
    """The page of a new episode is open, and its server answers."""
    session.new(0)
    made = Game(session)
    with serving({"/": made.page, "/state": made.state}, made.posts()) as address:
        tab.goto(address)
        tab.wait_for_function("state !== null")
        yield


@pytest.fixture
def game(tab, session):
    with playing(tab, session):
        yield tab
        with contextlib.suppress(sync_api.Error):
            tab.evaluate("hand(false)")
            tab.wait_for_function("!busy")


def until(page, condition: str) -> None:
    """Wait for a condition on what the page knows, and for its last request."""
    page.wait_for_function(f"!busy && ({condition})")


def pressed(page, key: str, condition: str) -> None:
    page.keyboard.press(key)
    until(page, condition)


def test_play_page_keys_pressed_act_in_world_and_model(game):
    world, dream = (game.locator(f"#{side} img") for side in ("world", "dream"))
    before = world.get_attribute("src")
    pressed(game, "ArrowUp", "state.t === 1")
    assert game.locator("#t").text_content() == "after 1: forward"
    assert world.get_attribute("src") != before
    assert all(image.evaluate("image => image.naturalWidth > 0") for image in (world, dream))
    pressed(game, "ArrowLeft", "state.t === 2 && state.last === 'left'")
    pressed(game, "ArrowRight", "state.t === 3 && state.last === 'right'")
    pressed(game, " ", "state.t === 4 && state.last === 'toggle'")
    pressed(game, "a", "state.t === 5")
    pressed(game, "n", "state.t === 0 && state.seed === 1")


def test_play_page_every_action_has_working_button(game):
    names = game.locator("#actions button").evaluate_all("all => all.map(one => one.firstChild.textContent)")
    assert tuple(names) == MOVES
    game.get_by_role("button", name="pick up").click()
    until(game, "state.t === 1 && state.last === 'pick up'")
    game.get_by_role("button", name="let the agent act").click()
    until(game, "state.t === 2")
    game.get_by_role("button", name="new episode").click()
    until(game, "state.t === 0 && state.seed === 1")


def test_play_page_key_after_button_click_still_acts(game):
    game.get_by_role("button", name="let the dream look").click()
    until(game, "state.dream.awake")
    pressed(game, " ", "state.t === 1 && state.last === 'toggle'")


def test_play_page_focused_button_is_pressed_by_keyboard(game):
    game.get_by_role("button", name="new episode").focus()
    pressed(game, " ", "state.t === 0 && state.seed === 1")


def test_play_page_observe_key_updates_model_from_observation(game):
    told = game.locator("#dream dd").last
    pressed(game, "ArrowUp", "state.t === 1")
    assert told.text_content() == "not looked"
    pressed(game, "w", "state.dream.awake")
    assert told.text_content() == "just looked"


def test_play_page_hand_over_runs_agent_until_toggled_off(game):
    button = game.get_by_role("button", name="hand over")
    game.keyboard.press("h")
    game.wait_for_function("state.t >= 3")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    until(game, "timer === null")
    t = game.evaluate("state.t")
    game.wait_for_timeout(400)
    assert game.evaluate("state.t") == t


def test_play_page_backspace_rewinds_and_keeps_other_branches(game):
    for t, key in enumerate(("ArrowUp", "ArrowRight", "ArrowUp"), 1):
        pressed(game, key, f"state.t === {t}")
    end = game.evaluate("state")
    game.keyboard.press("Backspace")
    game.keyboard.press("Backspace")  # before the first is answered
    until(game, "state.t === 1")
    assert game.locator("#lines button").all_text_contents() == ["other line, 3 steps"]
    pressed(game, "ArrowLeft", "state.t === 2")
    game.locator("#lines button").click()
    until(game, "state.t === 3")
    assert {**game.evaluate("state"), "lines": []} == end
    assert game.locator("#lines button").all_text_contents() == ["other line, 2 steps"]
    game.locator("#time").focus()
    pressed(game, "Home", "state.t === 0")
    assert game.locator("#t").text_content() == "the start"
    game.get_by_role("button", name="back").click()
    until(game, "state.t === 0")


def test_play_page_episode_over_is_marked_as_ended(game):
    for t, key in enumerate(("ArrowUp", "ArrowUp", "ArrowRight", "ArrowUp", "ArrowUp"), 1):
        pressed(game, key, f"state.t === {t}")
    assert game.locator("#world").get_attribute("class") == "ended"
    assert game.locator("#world dl").get_by_text("over").is_visible()


def test_play_page_on_phone_shows_both_views_side_by_side(game):
    game.set_viewport_size(PHONE)
    left, right = (game.locator(f"#{side} img").bounding_box() for side in ("world", "dream"))
    assert left["y"] == right["y"] and left["x"] + left["width"] < right["x"]
    assert overflow(game) == 0


@contextlib.contextmanager
def as_users() -> Iterator[None]:
    """JAX is set as for a user, in all threads: planners compile in that of the server."""
    before = jax.config.jax_numpy_rank_promotion, jax.config.jax_debug_key_reuse
    jax.config.update("jax_numpy_rank_promotion", "allow")
    jax.config.update("jax_debug_key_reuse", False)
    yield
    jax.config.update("jax_numpy_rank_promotion", before[0])
    jax.config.update("jax_debug_key_reuse", before[1])


@pytest.fixture(scope="module")
def wishful(compilation_cache):
    """A session of a planner with costs, one with a long name."""
    long = lambda world, latent, decoded: decoded["object"][:, 3, 5] * 1.0
    terms = {"ending=2": (costs.ending, 2.0), f"{'/'.join(['folder'] * 12)}/wishes.py:ahead": (long, 1.0)}
    with as_users():
        session = begin("grid:Empty-5x5", CEM, terms, 0.5)
        session.act(0)  # compiles what a page would wait for
        session.state()
        return session


@pytest.fixture
def costly(tab, wishful):
    """Its page, with all costs on."""
    wishful._on = (True, True)
    with as_users(), playing(tab, wishful):
        yield tab


def test_play_page_costs_are_shown_and_switched(costly):
    boxes, rows = costly.locator("#wishes input"), costly.locator("#wishes tbody tr")
    assert boxes.count() == 2 and all(box.is_checked() for box in boxes.all())
    assert "0.5 times the task's reward" in costly.locator("#wishes p").text_content()
    assert CEM in costly.locator("#actor").text_content()
    pressed(costly, "ArrowUp", "state.t === 1")
    cells = "[...row.children].slice(1).map(cell => cell.textContent)"
    shown = rows.evaluate_all(f"all => all.map(row => {cells})")
    numbers = "state.wishes.costs.map(cost => [cost.weight, cost.world, cost.dream].map(String))"
    assert shown == costly.evaluate(numbers)
    boxes.first.click()
    until(costly, "!state.wishes.costs[0].on")
    assert rows.first.get_attribute("class") == "off" and not boxes.first.is_checked()
    pressed(costly, "ArrowUp", "state.t === 2")  # keys act again after a click
    boxes.nth(1).focus()
    pressed(costly, " ", "!state.wishes.costs[1].on")  # which ticks the box and is no action
    assert costly.evaluate("state.t") == 2
    assert "plans for the task's reward" in costly.locator("#wishes p").text_content()
    pressed(costly, "Backspace", "state.t === 1")
    assert not boxes.first.is_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_play_page_with_costs_has_no_horizontal_overflow(costly, size, scheme):
    costly.set_viewport_size(size)
    costly.emulate_media(color_scheme=scheme)
    assert costly.locator("#wishes tbody tr").count() == 2 and overflow(costly) == 0


def test_play_page_of_policy_says_that_it_does_not_plan(tab, compilation_cache):
    with playing(tab, begin("grid:Empty-5x5", terms={"ending": (costs.ending, 1.0)})):
        assert tab.get_by_text("greedy does not plan: costs change nothing in what it does").is_visible()
        assert tab.locator("#wishes input").is_disabled()


def test_play_page_without_costs_has_no_table_of_them(game):
    assert not game.locator("#wishes").is_visible()
    assert game.locator("#actor").text_content() == "The agent acts as greedy."


def test_play_page_observation_without_picture_shows_numbers(game):
    told = {"values": {"vector": ["0.5", "-2"]}}
    game.evaluate(f"side('world', {json.dumps(told)})")
    assert game.locator("#world pre").text_content() == "vector\n0.5\n-2"
    assert not game.locator("#world img").is_visible() and game.locator("#dream img").is_visible()


def test_play_page_rejected_action_shows_error_until_next_response(game):
    game.evaluate("call('/act', () => ({ action: 9 }))")
    game.get_by_text("the action must be 0 to 6, but it is 9").wait_for()
    pressed(game, "ArrowUp", "state.t === 1")
    assert game.locator("#error").text_content() == ""
    assert [text for text in game.complaints if "400" in text] == game.complaints
    game.complaints.clear()


def test_play_page_server_stopped_shows_message(tab, session):
    with playing(tab, session):
        assert tab.complaints == []
    tab.keyboard.press("h")
    tab.get_by_text("The server does not answer; is dreamer play still running?").wait_for()
    assert tab.get_by_role("button", name="hand over").get_attribute("aria-pressed") == "false"
    assert all("ERR_CONNECTION_REFUSED" in text for text in tab.complaints)
    tab.complaints.clear()


# What planning brings.


def test_plan_report_on_phone_has_no_horizontal_overflow(tab, tmp_path):
    name = "wishes.py:door_open=9"
    paid = summary.summary([{name: {"mean": x, "least": 0, "largest": x}} for x in (0, 0.9)])
    wanted = {"wishes": [name], "reward_weight": 0.5, "files": {}}
    of = lambda steps: plan_rows(*[0, 1] * 6, success=True, steps=steps, costs=paid)
    plan_page.write(plans(wanted, greedy=of(0), **{CEM: of(64)}), tmp_path)
    tab.set_viewport_size(PHONE)
    tab.goto((tmp_path / "plans.html").as_uri())
    assert tab.locator("#paid tr").count() == 3 and overflow(tab) == 0
    assert tab.get_by_text("ever spared", exact=True).count() == 1


# The board.


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Runs in a folder, alone, in a sweep and in a benchmark, one of them damaged."""
    root = board_runs.many(tmp_path_factory.mktemp("board"), 16)
    hostile = board_runs.store(root / "runs" / "<img src=x onerror=alert(1)>", board_runs.config(2))
    (hostile / "result.json").write_text("{")
    (hostile / "report.html").write_text(
        "<!doctype html><link rel='icon' href='data:,'><p id='x'>shown</p>"
        "<script>document.getElementById('x').textContent = window.origin</script>"
    )
    return root


@pytest.fixture
def board(tab, folders):
    with board_runs.serving(Board(folders)) as address:
        tab.goto(address)
        board_runs.wait(tab, "complete && shown.length > 0")
        yield tab
        tab.goto("about:blank")


def listed(page) -> list[str]:
    """The ids of the rows that are shown, in their order."""
    return page.locator("#table tbody tr").evaluate_all("all => all.map(one => one.dataset.id)")


def typed(page, query: str, count: int) -> None:
    page.locator("#query").fill(query)
    board_runs.wait(page, f"view.query === {json.dumps(query)} && shown.length === {count}")


def chosen(page, *runs: str) -> None:
    """Choose runs and wait for their curves."""
    for run in runs:
        page.locator(f"tr[data-id='{run}'] input").check()
    board_runs.wait(page, f"view.chosen.length === {len(runs)} && Object.keys(curves).length === {len(runs)}")
    board_runs.wait(page, "document.querySelectorAll('#plots .curve').length > 0")


RUNS = ("runs/run0000-seed0", "runs/run0002-seed2")


def test_board_filter_words_and_fields_reduce_the_table(board):
    assert len(listed(board)) == 19
    typed(board, "sweeps/", 5)
    typed(board, "seed=0 run0", 2)
    typed(board, "loop.num-envs>1 kind=run lr<1e-3 status=done", 13)
    assert "loop.num_envs" in board.locator("#table thead").text_content()
    typed(board, "seed=99", 0)
    assert board.get_by_text("Nothing matches this filter.").is_visible()


def test_board_unknown_field_says_which_was_meant(board):
    board.locator("#query").fill("optim.lrr=1")
    board.get_by_text("no configuration here has a field optim.lrr; did you mean agent.optim.lr?").wait_for()
    board.locator("#query").press("Escape")
    board_runs.wait(board, "!document.getElementById('error').textContent")


def test_board_column_heads_sort_both_ways(board):
    head = board.get_by_role("button", name="success")
    head.click()
    rates = "shown.map(row => row.success_rate).filter(rate => rate !== null)"
    down = board.evaluate(rates)
    assert down == sorted(down, reverse=True) and len(down) > 3
    head.click()
    assert board.evaluate(rates) == sorted(down)
    assert board.locator("th.success").get_attribute("aria-sort") == "ascending"


def test_board_kind_buttons_show_one_kind(board):
    board.get_by_role("button", name="sweeps 1").click()
    assert listed(board) == ["sweeps/lr"]
    board.get_by_role("button", name="4 trials").click()
    assert len(listed(board)) == 4


def test_board_names_are_text_and_damage_is_said(board):
    row = board.locator("tr", has_text="onerror")
    assert row.locator("td.name img").count() == 0
    assert (
        "<img src=x onerror=alert(1)>" in row.text_content()
        and "result.json is damaged" in row.text_content()
    )


def test_board_chosen_runs_have_curves_and_differences(board):
    chosen(board, *RUNS)
    assert board.locator("#plots figcaption span").all_text_contents() == ["return", "success"]
    assert board.locator("#plots figure").first.locator(".curve:not(.raw)").count() == 2
    assert board.locator("#runs li span").all_text_contents() == ["run0000-seed0", "run0002-seed2"]
    table = board.locator("#differences table")
    table.wait_for()
    assert [row.split("\t") for row in table.inner_text().splitlines()[1:]] == [["seed", "0", "2"]]
    board.locator("#more").select_option("loss")
    board_runs.wait(board, "document.querySelectorAll('#plots figure').length === 3")
    board.get_by_role("button", name="remove the curve return").click()
    board_runs.wait(board, "document.querySelectorAll('#plots figure').length === 2")
    board.get_by_role("button", name="clear").click()
    assert not board.locator("#chosen").is_visible()


def test_board_seeds_of_one_configuration_become_one_line(board):
    chosen(board, *RUNS)
    board.get_by_label("seeds as one").check()
    board_runs.wait(board, "document.querySelectorAll('#plots .within').length === 4")
    plot = board.locator("#plots figure").first
    assert plot.locator(".curve:not(.raw):not(.within)").count() == 1
    plot.locator(".chart").press("End")
    assert plot.locator(".values div span").all_text_contents() == ["2 seeds"]


def test_board_curve_shows_values_to_pointer_and_keyboard(board):
    chosen(board, *RUNS)
    plot = board.locator("#plots figure").first
    plot.locator(".chart").hover(position={"x": 120, "y": 60})
    assert plot.locator(".values").is_visible() and "run0002-seed2" in plot.locator(".values").text_content()
    plot.locator(".chart").press("End")
    assert "19,875 steps" in plot.locator("[aria-live]").text_content()  # when the last episode began
    plot.locator(".chart").press("Escape")
    assert not plot.locator(".values").is_visible()
    board.locator("#over").select_option("seconds")
    board_runs.wait(
        board, "[...document.querySelectorAll('.chart text')].some(text => text.textContent.endsWith(' s'))"
    )


def test_board_keyboard_alone_filters_and_chooses(board):
    board.keyboard.press("/")
    board.keyboard.type("run0000")
    board_runs.wait(board, "shown.length === 1")
    board.keyboard.press("ArrowDown")
    board.keyboard.press(" ")
    board_runs.wait(
        board, "view.chosen.length === 1 && document.querySelectorAll('#plots .curve').length > 0"
    )
    board.keyboard.press("ArrowUp")
    assert board.evaluate("document.activeElement.id") == "query"


def test_board_address_keeps_what_is_shown(board):
    typed(board, "run00", 8)
    chosen(board, *RUNS)
    board.reload()
    board_runs.wait(board, "document.querySelectorAll('#plots .curve').length > 0")
    assert len(listed(board)) == 8 and board.locator("#runs li").count() == 2


def test_board_follows_runs_while_they_train(tab, tmp_path, monkeypatch):
    monkeypatch.setattr(board_index, "EVERY", 0.05)
    monkeypatch.setattr(board_server, "EVERY", 0.05)
    monkeypatch.setattr(board_index, "SHARE", 1.0)
    with board_runs.serving(Board(tmp_path)) as address:
        tab.goto(address)
        tab.get_by_text(
            "There are no runs, sweeps, benchmarks or comparisons below this folder yet"
        ).wait_for()
        folder = board_runs.store(tmp_path / "a", board_runs.config(), ended=0.5, result=False)
        tab.get_by_text("1 entry, 1 training").wait_for()
        chosen(tab, "a")
        last = "curves.a['return'][0].at(-1)"
        assert tab.evaluate(last) == 9_938  # when the last episode began
        with (folder / "episodes.jsonl").open("a") as file:
            row = {"env_steps": 12_345, "began": 10_000, "length": 2_345, "return": 1.0, "success": True}
            file.write(json.dumps(row) + "\n")
        board_runs.wait(tab, f"{last} === 10000")
        shutil.rmtree(folder)
        tab.get_by_text("There are no runs, sweeps").wait_for()
        tab.goto("about:blank")


def test_board_without_its_token_shows_nothing(tab, folders):
    with board_runs.serving(Board(folders)) as address:
        tab.goto(address.partition("#")[0])
        tab.get_by_text("this page needs the whole address").wait_for()
        assert listed(tab) == []
        tab.goto("about:blank")
    tab.complaints[:] = [text for text in tab.complaints if "status of 400" not in text]


def test_board_report_opens_in_a_sandbox(board):
    with board.context.expect_page() as opening:
        board.get_by_role("link", name="report of runs/<img").click()
    report = opening.value
    report.wait_for_load_state()
    assert report.locator("#x").text_content() == "null" and report.evaluate("window.opener") is None
    report.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_board_on_phone_has_no_horizontal_overflow(board, scheme):
    board.set_viewport_size(PHONE)
    board.emulate_media(color_scheme=scheme)
    chosen(board, *RUNS)
    assert board.locator("td.return").first.is_visible() and overflow(board) == 0
    paper = board.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
