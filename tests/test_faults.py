"""The program that makes faults on purpose, in its short form: everything it tries holds."""

import subprocess
import sys
from pathlib import Path

import pytest
from faults import __main__ as faults

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", [name for name, row in faults.ROWS.items() if row.short])
def test_faults_every_row_in_short_form_succeeds(name):
    command = [sys.executable, "-m", "tests.faults", name, "--short"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    row = next(line for line in ended.stdout.splitlines() if line.startswith(f"| {name} |"))
    right, made = row.split("|")[3:5]
    assert int(right) == int(made) > 0


def test_faults_wrong_row_is_reported_and_other_rows_are_kept(tmp_path, monkeypatch, capsys):
    wrong = faults.Row("a fault", lambda ground, count: iter([faults.Trial("one", "lost")] * count), 3, 1)
    fine = faults.Row("another", lambda ground, count: iter([faults.Trial("one")] * count), 2, 1)
    monkeypatch.setattr(faults, "ROWS", {"wrong": wrong, "fine": fine})
    out = tmp_path / "faults.json"
    assert faults.main(["wrong", "--out", str(out)]) == 1
    assert faults.main(["fine", "--out", str(out)]) == 0
    text = out.with_suffix(".md").read_text()
    assert "| wrong | a fault | 0 | 3 |" in text and "| fine | another | 2 | 2 |" in text
    assert "wrong: one: lost" in text
    with pytest.raises(SystemExit):
        faults.main(["nothing"])
    assert "there is no row nothing; there are wrong, fine" in capsys.readouterr().err
