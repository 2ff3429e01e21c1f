"""The pages work in a browser: by mouse, by keyboard, on a telephone, without a word in the console."""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'test')")

from test_play import begin  # noqa: E402
from test_report import ROOM, SMALL, reported, untrained  # noqa: E402

from envs.draw import MOVES  # noqa: E402
from experiments import serve  # noqa: E402
from experiments.cli import main  # noqa: E402
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
