"""The pages work in a real browser: nothing is missing, every control does what it says."""

import shutil
import threading

import jax
import pytest
import tiny

import dreamer
import envs
from dreamer.agent import Agent
from experiments import cli, serve
from experiments.play.play import Game
from experiments.play.session import Session

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Playwright's own pipes
]
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
TASK = "grid:Empty-5x5"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with an agent that has learned nothing."""
    env = envs.make(TASK, 1)
    agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    env.close()
    folder = tmp_path_factory.mktemp("runs") / "one"
    few = {"report__episodes": 3, "report__max_steps": 12, "report__context": 2, "report__horizon": 3}
    tiny.store(folder, tiny.jit(agent.init)(jax.random.key(0)), agent, task=TASK, preset="quickstart", **few)
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield made
        made.close()


@pytest.fixture
def page(browser):
    """A page whose console stays empty."""
    made, said = browser.new_page(viewport={"width": 390, "height": 800}), []
    made.on("console", lambda message: said.append(message.text) if message.type != "log" else None)
    made.on("pageerror", lambda error: said.append(str(error)))
    yield made
    made.close()
    assert not said


@pytest.fixture(scope="module")
def report(run):
    assert cli.main(["report", str(run)]) == 0
    return (run / "report.html").as_uri()


def test_a_report_fits_a_phone(page, report):
    page.goto(report)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#card tr[data-name]").count() > 10


def test_an_episode_can_be_stepped_through(page, report):
    page.goto(report)
    slider, told = page.locator("#player input[type=range]"), page.locator("#player p", has_text="step ")
    last = int(slider.get_attribute("max"))
    slider.evaluate("s => { s.value = 0; s.oninput(); }")
    assert told.inner_text().startswith("step 0 ")
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "1"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "0"
    slider.evaluate(f"s => {{ s.value = {last}; s.oninput(); }}")
    assert "the end" in told.inner_text()
    before = page.locator("#player .frame").first.evaluate("f => f.style.backgroundPosition")
    page.locator("#player .play").click()  # from the end it begins again
    page.wait_for_function("+document.querySelector('#player input').value >= 2")
    page.locator("#player .play").click()
    assert page.locator("#player .frame").first.evaluate("f => f.style.backgroundPosition") != before


def test_every_episode_can_be_chosen_and_predictions_move(page, report):
    page.goto(report)
    buttons = page.locator("#player [role=group] button")
    for i in range(buttons.count()):
        buttons.nth(i).click()
        assert buttons.nth(i).get_attribute("aria-pressed") == "true"
    note = page.locator("#clips small").first
    seen = note.inner_text()
    page.wait_for_function("old => document.querySelector('#clips small').textContent !== old", arg=seen)


@pytest.fixture
def game(run):
    """The address of a game, and what ends it."""
    env = envs.make(TASK, 1)
    made = Game(Session(env, dreamer.load(run), seed=3))
    server = serve.server(0, {"/": made.page, "/state": made.state}, made.posts())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def end():
        server.shutdown()
        server.server_close()
        thread.join()

    yield serve.address(server), end
    if thread.is_alive():
        end()
    env.close()


def test_a_dream_is_played_with_the_keyboard(page, game):
    page.goto(game[0])
    after = lambda t: page.wait_for_function(f"state !== null && state.t === {t} && !busy")
    after(0)
    for t, key in enumerate(("ArrowRight", "ArrowUp", "a"), start=1):
        page.keyboard.press(key)
        after(t)
    assert page.evaluate("state.last") in page.evaluate("state.actions")
    page.keyboard.press("Backspace")
    after(2)
    page.keyboard.press("ArrowLeft")
    after(3)
    assert page.evaluate("state.lines") == [3]
    page.get_by_role("button", name="other line").click()
    after(3)
    page.keyboard.press("w")
    page.wait_for_function("state.dream.awake")
    page.keyboard.press("n")
    after(0)
    assert page.evaluate("state.seed") == 4
    page.keyboard.press("h")
    page.wait_for_function("state.t >= 3")
    page.keyboard.press("h")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_server_that_is_gone_is_said_so(browser, game):
    page = browser.new_page()
    page.goto(game[0])
    page.wait_for_function("state !== null")
    game[1]()
    page.keyboard.press("a")
    page.wait_for_function("document.getElementById('error').textContent.includes('does not answer')")
    page.close()
