"""Values that nobody means, for every field of every command: one sentence, no traceback, nothing built."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator
from unittest import mock

from dreamer import schema
from dreamer.config import Config
from experiments import cli, memory, presets
from experiments.commands import COMMANDS
from experiments.training import run

from .ground import Ground, Trial

VALUES = (
    *(
        "",
        " ",
        "-1",
        "0",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e30",
        "1" * 309,
        "0x10",
        "1_000",
        "٣",
        "１２",
        "1,2",
    ),
    *("true", "none", "[]", "{}", "[[[[]]]]", "a\nb", "../..", "~", "a" * 5000, "=", "--", "é", "1e-400"),
    *(
        "2147483648",
        "9223372036854775808",
        "-9223372036854775809",
        "0.1.2",
        "lr=nan",
        "success=",
        "success=nan",
    ),
)


def fuzzed(ground: Ground, count: int) -> Iterator[Trial]:
    """Random fields and values, two at a time; nothing is trained, played or served."""
    chance = random.Random(0)
    known = {
        name: [*schema.paths(command.options), *(schema.paths(Config) if name == "train" else ())]
        for name, command in COMMANDS.items()
    }
    names = [name for name, fields in known.items() if fields]
    for _ in range(count):
        name = chance.choice(["train", *names])
        words = [name, *(["quickstart"] if name == "train" else [str(ground.folder / "nothing")])]
        for _ in range(chance.choice((1, 1, 2))):
            words += [f"--{chance.choice(known[name])}", chance.choice(VALUES)]
        yield Trial(" ".join(words)[:120], _try(words))


def _try(words: list[str]) -> str:
    """Why a command line was not understood, or refused in one sentence; empty if it was."""
    said = io.StringIO()
    instead = {name: mock.Mock(return_value=0) for name in COMMANDS if name not in ("train",)}
    commands = {
        name: command._replace(call=instead[name]) if name in instead else command
        for name, command in COMMANDS.items()
    }
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said),
        mock.patch.object(cli, "COMMANDS", commands),
        mock.patch.object(run, "train", _checked),
    ):
        try:
            code = cli.main(words)
        except SystemExit as error:
            return f"raised SystemExit {error.code!r}"
        except BaseException as error:
            return f"raised {type(error).__name__}: {error}"[:200]
    text = said.getvalue().strip()
    if code and not text:
        return "refused without a word"
    return "a traceback" if "Traceback" in text else ""


def _checked(cfg: Config, folder, **rest) -> int:
    """Instead of training: what is asked before anything is built."""
    memory.check(cfg, on_device=False)
    return 0


def files(ground: Ground, count: int) -> Iterator[Trial]:
    """The same as a file of settings, damaged at random bytes."""
    chance, whole = random.Random(1), schema.dump_toml(presets.build("quickstart")).encode()
    path = ground.place("damaged").with_suffix(".toml")
    for i in range(count):
        content = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(content))
            if chance.random() < 0.5:
                content[at] = chance.randrange(256)
            else:
                del content[at : at + chance.randrange(20)]
        path.write_bytes(content)
        yield Trial(f"file {i}", _try(["train", "quickstart", "--config", str(path)]))
