"""Where the numbers of a run also go: TensorBoard, Weights & Biases, MLflow.

A tracker may raise anything; the log then drops it, and the files of the run have every number all the same.
Its packages are imported when a run asks for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

FLUSH_SECONDS = 30.0
"""Seconds between two flushes of TensorBoard events."""

SEND_SECONDS = 5.0
"""Seconds between two requests to MLflow."""

MOST = 1000
"""Most metrics in one request to MLflow."""

MOST_PARAMETERS = 100
"""Most parameters in one request to MLflow."""

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""How long MLflow waits for its server, where the user says nothing else: training waits with it."""


class LoggerError(ValueError):
    """Something cannot be logged; the message says what."""


class Tracker(Protocol):
    """Gets the numbers of a run."""

    name: ClassVar[str]

    def rewind(self, env_steps: int) -> None:
        """Take note that what was written after `env_steps` no longer counts."""
        ...

    def write(self, numbers: Mapping[str, float], clocks: Mapping[str, Any]) -> None:
        """Add numbers measured at the present `env_steps`, `updates` and `seconds`."""
        ...

    def close(self) -> None:
        """Write what is left and end this session."""
        ...

    def abandon(self) -> None:
        """Release what it holds, after it failed, without waiting for anything."""
        ...


class TensorBoard:
    """Event files, created with the first number and written in the caller's thread: a writer thread that
    fails would leave a queue that is never emptied."""

    name: ClassVar[str] = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._purge: int | None = None
        self._flushed = 0.0

    def rewind(self, env_steps: int) -> None:
        """Have TensorBoard hide what was written after `env_steps`."""
        self.close()
        self._purge = env_steps + 1

    def write(self, numbers: Mapping[str, float], clocks: Mapping[str, Any]) -> None:
        """Add numbers measured at the present `env_steps`."""
        from tensorboardX.summary import scalar

        if self._writer is None:
            self._begin()
        for key, value in numbers.items():
            self._add(step=clocks["env_steps"], summary=scalar(key, value))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Close the file; more numbers begin another one."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    abandon = close

    def _flush(self) -> None:
        self._writer.flush()

    def _begin(self) -> None:
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import RecordWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{secrets.token_hex(4)}"
        self._writer, self._flushed = RecordWriter(str(self._folder / name)), time.monotonic()
        self._add(file_version="brain.Event:2")
        if self._purge is not None:
            log: Any = event_pb2.SessionLog  # pyrefly: ignore[missing-attribute]
            self._add(step=self._purge, session_log=log(status=log.START))

    def _add(self, **fields: Any) -> None:
        from tensorboardX.proto import event_pb2

        event: Any = event_pb2.Event  # pyrefly: ignore[missing-attribute]
        self._writer.write(event(wall_time=time.time(), **fields).SerializeToString())


class Wandb:
    """A run of Weights & Biases that a resumed run continues: its id is kept in the folder.

    Offline, every session is a folder `wandb/offline-run-TIME-ID` of the same id, and `wandb sync` of all of
    them makes one run.

    Args:
      folder: of the run.
      project: that its run belongs to.
      config: {dotted path: value} shown as its configuration.
      offline: keep everything in the folder; otherwise W&B decides, also by WANDB_MODE.

    Raises:
      LoggerError: it is not installed.
    """

    name: ClassVar[str] = "Weights & Biases"

    def __init__(self, folder: Path, project: str, config: Mapping[str, Any], *, offline: bool) -> None:
        try:
            import wandb
        except ImportError:
            raise LoggerError(_missing(self.name, "wandb")) from None
        path = folder / "wandb_id"
        if not path.exists():
            path.write_text(secrets.token_hex(8))
        self._run: Any = wandb.init(
            project=project,
            name=folder.name,
            id=path.read_text(),
            resume="allow",
            dir=str(folder),
            config=dict(config),
            allow_val_change=True,  # steps and settings of evaluations may be others after a resume
            mode="offline" if offline else None,
        )
        self._run.define_metric("*", step_metric="env_steps")

    def rewind(self, env_steps: int) -> None:
        """Do nothing: it shows numbers over `env_steps`, the newest ones last."""

    def write(self, numbers: Mapping[str, float], clocks: Mapping[str, Any]) -> None:
        """Add numbers; W&B sends them in a process of its own."""
        self._run.log({**clocks, **numbers})

    def close(self) -> None:
        """Wait until everything is sent, or written where it is offline."""
        self._run.finish()

    def abandon(self) -> None:
        """Do nothing: finishing may take as long as the call that failed."""


class Mlflow:
    """A run of MLflow that a resumed run continues: its id is kept in the folder.

    It is where MLFLOW_TRACKING_URI says, else where MLflow itself keeps runs (`mlflow.db` in the working
    directory, or an existing `mlruns`). Numbers are sent together every few seconds, with `env_steps` as
    their step. Parameters are those of the first session, because MLflow changes none.

    Args:
      folder: of the run.
      experiment: that its run belongs to; made if absent.
      config: {dotted path: value} logged as its parameters.

    Raises:
      LoggerError: it is not installed.
    """

    name: ClassVar[str] = "MLflow"

    def __init__(self, folder: Path, experiment: str, config: Mapping[str, Any]) -> None:
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        try:
            from mlflow.entities import Metric
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise LoggerError(_missing(self.name, "mlflow")) from None
        self._metric = Metric
        self._client: Any = MlflowClient()
        self._waiting: list[Any] = []
        self._sent = time.monotonic()
        self._run = self._resumed(folder) or self._begun(folder, experiment, config)

    def rewind(self, env_steps: int) -> None:
        """Do nothing: MLflow deletes no number; of one step it shows the newest one."""

    def write(self, numbers: Mapping[str, float], clocks: Mapping[str, Any]) -> None:
        """Add numbers; they are sent with the next request."""
        now, step = int(1000 * time.time()), clocks["env_steps"]
        values = {**numbers, "updates": clocks["updates"], "seconds": clocks["seconds"]}
        self._waiting += [self._metric(allowed(k), float(v), now, step) for k, v in values.items()]
        if time.monotonic() - self._sent > SEND_SECONDS:
            self._send()

    def close(self) -> None:
        """Send what is left and mark the run as finished, until it is resumed."""
        self._send()
        self._client.set_terminated(self._run)

    def abandon(self) -> None:
        """Do nothing: another request may take as long as the one that failed."""

    def _resumed(self, folder: Path) -> str | None:
        """The run of earlier sessions, running again; None if there is none at this place."""
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(FileNotFoundError):
            run = (folder / "mlflow_run").read_text()
            try:
                if self._client.get_run(run).info.lifecycle_stage == "active":
                    self._client.update_run(run, status="RUNNING")
                    return run
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        return None

    def _begun(self, folder: Path, experiment: str, config: Mapping[str, Any]) -> str:
        """A new run with its parameters."""
        from mlflow.entities import Param

        run = self._client.create_run(self._experiment(experiment), run_name=folder.name).info.run_id
        (folder / "mlflow_run").write_text(run)
        parameters = [Param(allowed(path), str(value)) for path, value in config.items()]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(run, params=parameters[start : start + MOST_PARAMETERS])
        return run

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        if known := self._client.get_experiment_by_name(name):
            return known.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:  # another run has just made it
            if known := self._client.get_experiment_by_name(name):
                return known.experiment_id
            raise

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST):
            self._client.log_batch(self._run, metrics=waiting[start : start + MOST])
        self._sent = time.monotonic()


def allowed(name: str) -> str:
    """A name as MLflow takes it: letters, digits, and `_-. /`."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def _missing(tracker: str, extra: str) -> str:
    return f"{tracker} is not installed: pip install 'dreamer-toolkit[{extra}]'"
