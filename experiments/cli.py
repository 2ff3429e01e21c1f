"""The console script `dreamer`: parses a command and its options, reports each mistake in one sentence.

Every option is a field of a frozen dataclass, so flags, TOML files and stored runs share their checks and
messages. The commands themselves are in `experiments/commands.py`.
"""

import contextlib
import dataclasses
import io
import json
import os
import platform
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from dreamer import processes, schema
from dreamer.config import Config
from dreamer.schema import ConfigError
from envs import trust
from experiments import machine, presets
from experiments.commands import COMMANDS
from experiments.names import check_known
from experiments.presets.sizes import SIZES

STOPPED, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes: a run stopped early, the command is invalid, the user pressed Ctrl-C."""
ALIASES = {"from": "start.run", "modules": "start.modules"}
"""Short names of fields of the configuration."""
ACTOR_OPTION = "--actor."
"""Beginning of the flags of an actor's options."""
LONGEST, LONGEST_WORD = 8000, 400
"""Characters of a message, and of a word in it."""
NEEDED = {
    "RUN": ("the folder of a run", "runs/quickstart-seed0"),
    "SPEC.toml": ("a file that says what to try", "sweep.toml"),
    "SUITE": ("a suite of tasks", "minigrid --tasks Empty-5x5 DoorKey-5x5"),
    "BENCHMARK": ("the folder of a benchmark", "benchmarks/minigrid"),
    "SWEEP": ("the folder of a sweep", "sweeps/sweep"),
}
"""What each positional argument is, and an example of it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and give its exit code."""
    if argv is None:
        machine.begin()
        return machine.end(_parted(_main(sys.argv[1:])))
    return _main(list(argv))


def _main(words: list[str]) -> int:
    try:
        return _run(words)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, words)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(": ".join(filter(None, (str(error.filename or ""), error.strerror))), MISTAKE, words)
    except Exception as error:
        code = _exit_code(error)
        if code is None and processes.current().are_several:
            return _stumbled(error)
        if code is None:
            raise
        return _fail(str(error), code, words)


def _parted(code: int) -> int:
    """The exit code, once the other processes of a run that several train know that this one is over."""
    if processes.current().are_several:
        from experiments import cluster

        cluster.part(code)
    return code


def _stumbled(error: Exception) -> int:
    """A bug ends all processes of a run; the exit code."""
    from experiments import cluster

    cluster.stumble(error)
    traceback.print_exception(error)  # here, because JAX would wait for the others before the process ends
    return STOPPED


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] in ("-V", "--version", "version"):
        print(_version())
        return 0
    name, rest = _command(words)
    command = COMMANDS[name]
    kinds = {path: f.type for path, f in schema.paths(command.options).items()}
    fields = {path: f.type for path, f in schema.paths(Config).items()} if name == "train" else {}
    if {"-h", "--help"} & set(rest):
        named = [word for word in rest if word in presets.PRESETS]
        return _help(name, presets.build(named[0] if named else "quickstart"))
    rest, after = _until_dashes(rest) if name == "launch" else (rest, [])
    positional, values = parse(rest, kinds | fields, f"dreamer {name}")
    positional += after
    places = command.words.split()
    if len(positional) > len(places) and places[-1:] != ["..."]:
        raise ConfigError(f"dreamer {name} does not take '{positional[len(places)]}'")
    if not positional and places[:1] and places[0] in NEEDED:
        what, example = NEEDED[places[0]]
        raise ConfigError(f"dreamer {name} needs {what}, as in dreamer {name} {example}")
    options = schema.replace_paths(command.options(), {k: v for k, v in values.items() if k in kinds})
    alone = json_alone() if getattr(options, "json", False) else contextlib.nullcontext()
    trusted = getattr(options, "trust", False)
    with alone, trust.guarding(rest, trusted=trusted):
        return command.call(positional, options, {k: v for k, v in values.items() if k not in kinds})


@contextlib.contextmanager
def json_alone() -> Iterator[None]:
    """Within it standard output gets the last line that was printed, if that is JSON, and nothing else.

    Worlds and packages print what they like, from Python, from C and from processes of their own: all that
    goes to standard error.
    """
    stdout, held = sys.stdout, _Held()
    stdout.flush()
    real = os.dup(1) if stdout is sys.__stdout__ else None
    if real is not None:
        os.dup2(2, 1)
    sys.stdout = held
    try:
        yield
    finally:
        sys.stdout = stdout
        if real is not None:
            os.dup2(real, 1)
            os.close(real)
        print(held.line, end="", file=stdout if held.line.startswith("{") else sys.stderr, flush=True)


class _Held(io.TextIOBase):
    """A stream that holds the last line back and passes those before it on to standard error."""

    def __init__(self) -> None:
        self.line = ""

    def write(self, text: str) -> int:
        held = self.line + text
        start = held.rstrip("\n").rfind("\n") + 1
        sys.stderr.write(held[:start])
        self.line = held[start:]
        return len(text)

    def writable(self) -> bool:
        return True


def _until_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before `--`, and what after it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _command(words: list[str]) -> tuple[str, list[str]]:
    """The command, of one word or two, and what follows it."""
    both = " ".join(words[:2])
    if both in COMMANDS:
        return both, words[2:]
    check_known("command", words[0], COMMANDS)
    return words[0], words[1:]


def parse(words: Iterable[str], kinds: Mapping[str, Any], program: str) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into positional words and the values of its flags.

    `--flag value`, `--flag=value`, and for switches `--flag` and `--no-flag`; hyphens and underscores are the
    same, and so are `--env.obs` and `--obs`; lists take words up to the next flag, and grow where their flag
    is there again. Of others the last one wins. `--actor mppi --actor.horizon 5` is `--actor mppi:horizon=5`.

    Args:
      kinds: {dotted path: type} of every flag.

    Raises:
      ConfigError: an unknown flag (with close ones), or one without a value.
    """
    waiting = list(words)
    positional: list[str] = []
    values: dict[str, Any] = {}
    options: list[str] = []
    while waiting:
        word = waiting.pop(0)
        if not _is_flag(word):
            positional.append(word)
            continue
        flag, equals, attached = word.partition("=")
        if flag.startswith(ACTOR_OPTION) and "actor" in kinds:
            given = attached if equals else " ".join(_take(waiting, str))
            if not given:
                raise ConfigError(f"{flag} needs a value")
            options.append(f"{flag.removeprefix(ACTOR_OPTION).replace('-', '_')}={given}")
            continue
        path, negated = _find(flag, kinds, program)
        kind = kinds[path]
        if negated:
            values[path] = False
            continue
        given = [attached] if equals else _take(waiting, kind)
        if not given and kind is not bool:
            raise ConfigError(f"{flag} needs a value")
        value: Any = schema.parse_text(kind, " ".join(given)) if given else True
        values[path] = [*values[path], *value] if schema.is_list(kind) and path in values else value
    if options and not values.get("actor"):
        raise ConfigError(f"{ACTOR_OPTION}{options[0].partition('=')[0]} needs an actor, as in --actor mppi")
    if options:
        values["actor"] += ("," if ":" in values["actor"] else ":") + ",".join(options)
    return positional, values


def _take(waiting: list[str], kind: Any) -> list[str]:
    """Remove and return the words that belong to a flag of this type."""
    free = next((i for i, word in enumerate(waiting) if _is_flag(word)), len(waiting))
    if kind is bool:
        free = min(free, sum(isinstance(schema.parse_text(bool, word), bool) for word in waiting[:1]))
    elif not schema.is_list(kind):
        free = min(free, 1)
    given = waiting[:free]
    del waiting[:free]
    return given


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-[\d.].*", word)


def _find(flag: str, kinds: Mapping[str, Any], program: str) -> tuple[str, bool]:
    """The path that a flag names, and whether it is negated."""
    path = flag.lstrip("-").replace("-", "_")
    if ALIASES.get(path) in kinds:
        return ALIASES[path], False
    section, dot, name = path.rpartition(".")
    positive = section + dot + name.removeprefix("no_")
    for place in ("", "env."):  # the fields of the world also by their bare names
        if place + path in kinds:
            return place + path, False
        if name.startswith("no_") and kinds.get(place + positive) is bool:
            return place + positive, True
    parts = [known for known in kinds if known.startswith(f"{path}.")]
    if parts:
        raise ConfigError(f"{flag} is a section; name one of its fields, as {_flag(parts[0])}")
    close = " or ".join(map(_flag, schema.closest(path, kinds)))
    hint = f"did you mean {close}?" if close else f"see {program} --help"
    if section == "env" and "env." not in close:
        hint += f"; arguments of the environment itself are --env.kwargs '{{\"{name}\": ...}}'"
    raise ConfigError(f"{program} has no option {flag}; {hint}")


def _flag(path: str) -> str:
    return "--" + path.replace("_", "-")


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that the user can fix; None for a bug, which keeps its traceback."""
    if isinstance(error, ConfigError):
        return MISTAKE
    import envs
    from dreamer.checkpoint import CheckpointError
    from dreamer.logger import LoggerError
    from dreamer.replay.layout import ReplayError
    from experiments.training.run import TrainingStopped

    if isinstance(error, TrainingStopped):
        return STOPPED
    unusable = (envs.UnknownTask, envs.MissingExtra, envs.UnsupportedSpace, envs.EnvError)
    expected = (CheckpointError, LoggerError, ReplayError, *unusable)
    return MISTAKE if isinstance(error, expected) else None


def _fail(sentence: str, code: int, words: Sequence[str]) -> int:
    shorten = lambda word: f"{word[:200]}...{word[-100:]}" if len(word) > LONGEST_WORD else word
    sentence = " ".join(map(shorten, sentence.split()))
    if len(sentence) > LONGEST:  # it repeats what was written, and ends with what would be right
        sentence = f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 2 :]}"
    us = processes.current()
    if us.is_first:  # it speaks for all
        print(f"dreamer: {sentence}", file=sys.stderr)
    if us.line is not None:
        us.line.close(code, sentence)
    if "--json" in words:
        print(json.dumps({"error": sentence}))
    return code


def _version() -> str:
    """What a report of a fault should say: versions of ours and of what it stands on."""
    from experiments import surroundings

    source = surroundings.commit()
    versions = {"dreamer-toolkit": "of a checkout", **surroundings.package_versions()}
    ours, *others = (f"{name} {version}" for name, version in versions.items())
    about = [f"{ours} ({source})" if source else ours, f"Python {platform.python_version()}", *others]
    return ", ".join(about)


def _overview() -> str:
    named = {f"{name} {c.words}": c.about for name, c in COMMANDS.items()}
    width = max(map(len, named))
    commands = "\n".join(f"  {command:<{width}}  {about}" for command, about in named.items())
    return f"""usage: dreamer COMMAND [OPTIONS]

Train, look inside and compare world-model agents. `dreamer train` alone is the place to start.

commands:
{commands}

`dreamer COMMAND --help` lists its options, `dreamer --version` what is installed."""


def _help(name: str, preset: Config) -> int:
    import tyro

    command, unnamed = COMMANDS[name], tyro.conf.arg(name="")
    parts: list[Any] = [("options", Annotated[command.options, unnamed], command.options())]
    about = command.about
    if name == "train":
        parts.append(("config", Annotated[Config, unnamed], preset))
        listed = "\n".join(f"  {p:<12} {presets.describe(p)}" for p in presets.PRESETS)
        about += f"\n\npresets (default: quickstart):\n{listed}\n\nsizes: {', '.join(SIZES)}"
        about += f"\n\nThe defaults below are those of the preset {preset.preset}."
    form = dataclasses.make_dataclass(name, parts, frozen=True)
    try:
        tyro.cli(form, prog=f"dreamer {name} {command.words}".strip(), description=about, args=["--help"])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
