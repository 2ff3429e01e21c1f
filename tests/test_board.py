"""The board answers who has its address, serves reports below its folder, and says what is wrong."""

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from urllib.parse import unquote

import pytest
from board_runs import config, many, serving, store

from experiments import cli, serve
from experiments.board import board as module
from experiments.board.board import Board
from experiments.serve import Refused

REPORT = "<!doctype html><p>a report</p>"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = many(tmp_path_factory.mktemp("root"), 8)
    (root.parent / "report.html").write_text("secret")
    (root / "runs" / "a b&c").mkdir()
    store(root / "runs" / "a b&c", config(5, agent__optim__lr=0.25))
    (root / "runs" / "a b&c" / "report.html").write_text(REPORT)
    return root


@pytest.fixture
def board(root):
    return Board(root)


def rows(board) -> dict:
    return {row["id"]: row for row in json.loads(board.rows({"since": 0}).body)["rows"]}


def test_rows_are_those_below_the_folder_and_later_only_news(board, root):
    found = rows(board)
    assert len(found) == 11 and found["runs/a b&c"]["task"] == "grid:DoorKey-5x5"
    answer = json.loads(board.rows({"since": 0}).body)
    assert (answer["name"], answer["root"], answer["complete"]) == (root.name, str(root), True)
    later = json.loads(board.rows({"since": answer["version"]}).body)
    assert later["rows"] == [] == later["gone"] and later["version"] == answer["version"]


def test_start_looks_before_anyone_asks(board):
    board.start()
    until = time.monotonic() + 20
    while not board._index.is_complete and time.monotonic() < until:
        time.sleep(0.01)
    assert len(board._index.rows()) == 11


def test_field_has_the_values_of_all_runs(board):
    rows(board)
    answer = json.loads(board.field({"name": "lr"}).body)
    assert answer["path"] == "agent.optim.lr" and answer["values"]["runs/a b&c"] == 0.25
    answer = json.loads(board.field({"name": "optim.lrr"}).body)
    assert answer == {"error": "no configuration here has a field optim.lrr; did you mean agent.optim.lr?"}


def test_curves_and_differences_are_of_the_runs_that_are_there(board):
    ids = ["runs/a b&c", "runs/run0000-seed0", "../a", "none"]
    rows(board)
    answer = json.loads(board.curves({"runs": ids, "curves": ["return", "loss"]}).body)
    assert answer["curves"].keys() == answer["names"].keys() == set(ids[:2])
    assert answer["curves"][ids[0]].keys() == {"return", "loss"}
    answer = json.loads(board.differences({"runs": ids}).body)
    assert answer["runs"] == ids[:2] and answer["fields"] > 100
    assert {"path": "seed", "values": [5, 0]} in answer["differences"]
    assert all(difference["path"] != "loop.num_envs" for difference in answer["differences"])


@pytest.mark.parametrize(
    ("path", "request_", "why"),
    [
        ("/rows", {"since": "0"}, "since must be"),
        ("/field", {}, "name must be"),
        ("/curves", {"runs": "a"}, "runs must be at most 30 ids"),
        ("/curves", {"runs": ["a"] * 31}, "runs must be at most 30 ids"),
        ("/curves", {"runs": [], "curves": ["a"] * 25}, "curves must be at most 24"),
        ("/curves", {"runs": [], "over": "hours"}, "over env_steps, updates, seconds"),
        ("/differences", {}, "runs must be"),
    ],
)
def test_posts_invalid_request_is_refused(board, path, request_, why):
    with pytest.raises(Refused, match=why):
        board.posts()[path](request_)


def test_find_report_by_its_address_only(board):
    address = rows(board)["runs/a b&c"]["page"]
    assert unquote(address).endswith("/runs/a b&c/report.html")
    reply = board.find(address)
    assert (
        reply is not None
        and reply.body == REPORT.encode()
        and reply.policy.startswith("sandbox allow-scripts;")
    )
    assert "allow-same-origin" not in reply.policy and "connect-src" not in reply.policy
    signature = address.split("/")[2]
    for other in ("runs/run0000-seed0/report.html", "runs/a b&c/config.toml", "../report.html", ""):
        assert board.find(f"/page/{signature}/{other}") is None
    assert board.find(address.replace(signature, "0" * 32)) is None
    assert board.find("/page/") is None and board.find("/other") is None and board.find("/page/é/x") is None


def test_find_signed_path_outside_or_of_another_kind_is_not_served(board, root):
    (root / "runs" / "link").symlink_to(root.parent)
    try:
        for path in (
            "../report.html",
            "runs/link/report.html",
            "runs/a b&c/config.toml",
            "runs/none/report.html",
        ):
            assert board.find(f"/page/{board._signature(path)}/{path}") is None
    finally:
        (root / "runs" / "link").unlink()


def test_page_policy_allows_its_script_and_no_other(board):
    reply = board.page()
    assert re.search(r"script-src 'sha256-[\w+/=]{44}';", reply.policy) and "unsafe" not in reply.policy
    assert "default-src 'none'" in reply.policy and "frame-ancestors 'none'" in reply.policy
    assert board.token not in reply.body.decode()
    assert (
        not re.search(r'(src|href)="(?!data:)', reply.body.decode())
        and "innerHTML" not in reply.body.decode()
    )


def test_two_boards_have_different_tokens_and_addresses(root):
    one, two = Board(root), Board(root)
    assert one.token != two.token and len(one.token) >= 32
    assert two.find(rows(one)["runs/a b&c"]["page"]) is None


def test_served_board_needs_its_token(board):
    with serving(board) as address:
        port = int(re.search(r":(\d+)/#token=", address)[1])

        def ask(**headers):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/rows", b"{}", {"Content-Type": "application/json", **headers})
            answer = json.loads(connection.getresponse().read())
            connection.close()
            return answer

        assert ask() == {"error": "this page needs the whole address that was printed where it was started"}
        right = {"Authorization": f"Bearer {address.partition('token=')[2]}"}
        assert len(ask(**right)["rows"]) == 11
        assert ask(**right, Origin="http://evil.example") == {"error": "this page answers no other one"}
        assert ask(**right, Host="evil.example") == {"error": "this page is only at 127.0.0.1 or localhost"}


def test_board_json_prints_the_table(root, capsys):
    assert cli.main(["board", str(root), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["folder"] == str(root) and len(table["rows"]) == 11
    assert [row["id"] for row in table["rows"]] == sorted(row["id"] for row in table["rows"])


def test_board_empty_folder_has_no_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["board", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(tmp_path), "rows": []}


@pytest.mark.parametrize(("name", "why"), [("none", "none is not there"), ("file", "file is no folder")])
def test_board_of_no_folder_is_one_sentence(tmp_path, monkeypatch, capsys, name, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert cli.main(["board", name]) == cli.MISTAKE
    assert (
        capsys.readouterr().err == f"dreamer: {why}: name one that runs lie below, as in dreamer board runs\n"
    )


@pytest.fixture
def begun(root, monkeypatch, capsys):
    """A board that is served until the test is over: what it printed, and what was opened."""
    opened, servers, made = [], [], serve.server
    monkeypatch.setattr(serve, "server", lambda *a, **k: servers.append(made(*a, **k)) or servers[0])
    monkeypatch.setattr(module.webbrowser, "open", lambda address: opened.append(address))

    def begin(opens=0, **options):
        options = {"port": 0, "open": True, "json": False} | options
        thread = threading.Thread(target=lambda: module.board(str(root), **options))
        thread.start()
        while not servers:
            thread.join(0.01)
        servers[0].shutdown()
        thread.join()
        until = time.monotonic() + 20
        while len(opened) < opens and time.monotonic() < until:
            time.sleep(0.01)
        return capsys.readouterr().err, opened

    return begin


def test_board_prints_its_address_and_opens_nothing_where_there_is_no_screen(begun, root, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    printed, opened = begun()
    line = rf"http://127\.0\.0\.1:\d+/#token=[\w-]{{32}} shows what lies below {root}; Ctrl-C ends\n"
    assert re.fullmatch(line, printed) and opened == []


def test_board_opens_a_file_that_does_not_show_the_token(begun, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    printed, opened = begun(opens=1)
    (address,) = opened
    assert address.startswith("file:///") and printed.split()[0].partition("token=")[2] not in address


def test_board_no_open_opens_nothing(begun, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    assert begun(open=False)[1] == []


def test_board_does_not_load_jax(root):
    code = "import sys; from experiments.board.board import board; "
    code += f"board({str(root)!r}, port=0, open=False, json=True); "
    code += "assert not {'jax', 'flax', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
