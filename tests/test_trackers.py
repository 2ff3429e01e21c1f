"""What a run logs arrives where it was sent, in the same place after a resume."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from dreamer import schema, trackers
from dreamer.config import Config, LogConfig
from dreamer.logger import LoggerError
from dreamer.trackers import Mlflow, Wandb, allowed

ROOT = Path(__file__).parents[1]

SESSION = """
import json, sys
from pathlib import Path
from dreamer.logger import Logger

options, first, last = json.loads(sys.argv[1]), *map(int, sys.argv[2:])
config = {"seed": 3, "steps": last, "agent.optim.lr": 1e-3}
with Logger(Path("my-run"), total_steps=100, tensorboard=False, config=config, **options) as log:
    log.rewind(first)
    for step in range(first, last, 10):
        log.tick(step, step // 5)
        log.metrics({"loss/dyn": step / 4})
    log.episode({"return": 2.5, "length": 7, "success": True})
"""
"""Two sessions of it, 0 to 50 and 30 to 80, are a run that was resumed from a checkpoint at 30."""


def sessions(folder: Path, options: dict, **environ: str) -> None:
    for first, last in ((0, 50), (30, 80)):
        call(folder, SESSION, json.dumps(options), str(first), str(last), **environ)


def call(folder: Path, code: str, *words: str, **environ: str) -> str:
    """Run a program in a folder, and give its standard output."""
    path = {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, **path, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "failed and gets nothing more" not in done.stderr, done.stderr
    return done.stdout


MLFLOW_CONTENT = """
import json
from mlflow.tracking import MlflowClient

client = MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("worlds").experiment_id])
history = [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, "loss/dyn")]
print(json.dumps([run.info.run_name, run.info.status, run.data.params, run.data.metrics, history]))
"""


@pytest.mark.skipif(
    not all(map(find_spec, ("mlflow", "alembic"))), reason="the extra mlflow is not installed"
)
def test_mlflow_resumed_run_continues_in_local_database(tmp_path):
    place = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/runs.db"}
    sessions(tmp_path, {"mlflow": "worlds"}, **place)
    name, status, params, metrics, history = json.loads(call(tmp_path, MLFLOW_CONTENT, **place))
    assert (name, status) == ("my-run", "FINISHED")
    assert params == {"seed": "3", "steps": "50", "agent.optim.lr": "0.001"}
    assert sorted(history) == sorted([s, s / 4] for s in [*range(0, 50, 10), *range(30, 80, 10)])
    assert metrics["loss/dyn"] == 70 / 4 and metrics["updates"] == 14
    assert {k: v for k, v in metrics.items() if k.startswith("episode")} == {
        "episode/return": 2.5,
        "episode/length": 7.0,
        "episode/success": 1.0,
    }


def wandb_records(path: Path) -> list:
    """The records of a `.wandb` file: 7 bytes, then blocks of 32 KiB as LevelDB's log has them."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts, records = path.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # no room for another header in this block
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not find_spec("wandb"), reason="the extra wandb is not installed")
def test_wandb_offline_sessions_are_kept_in_the_folder_under_one_id(tmp_path):
    sessions(tmp_path, {"wandb": "worlds", "wandb_offline": True})
    run_id = (tmp_path / "my-run" / "wandb_id").read_text()
    files = sorted((tmp_path / "my-run" / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert len(files) == 2
    seen = []
    for path in files:
        records = wandb_records(path)
        (run,) = [r.run for r in records if r.HasField("run")]
        assert (run.run_id, run.project, run.display_name) == (run_id, "worlds", "my-run")
        assert {"agent.optim.lr": "0.001"}.items() <= {c.key: c.value_json for c in run.config.update}.items()
        for record in records:
            row = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            seen += [(row["env_steps"], row["loss/dyn"])] if "loss/dyn" in row else []
    assert seen == [(s, s / 4) for s in [*range(0, 50, 10), *range(30, 80, 10)]]


# Without the packages.


class Server:
    """What the tests need of an MLflow server, which may fail."""

    def __init__(self):
        self.runs, self.requests, self.failing = {}, [], ()

    def __getattr__(self, name):
        def request(*args, **kwargs):
            if name in self.failing:
                raise OSError("the network\nis gone")
            self.requests.append(name)
            return getattr(self, f"_{name}")(*args, **kwargs)

        return request

    def _get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=name)

    def _create_run(self, experiment, run_name):
        run = f"{experiment}-{len(self.runs)}"
        self.runs[run] = SimpleNamespace(status="RUNNING", stage="active", metrics=[], params=[])
        return SimpleNamespace(info=SimpleNamespace(run_id=run))

    def _get_run(self, run):
        if run not in self.runs:
            raise Missing
        return SimpleNamespace(info=SimpleNamespace(lifecycle_stage=self.runs[run].stage))

    def _update_run(self, run, status):
        self.runs[run].status = status

    def _set_terminated(self, run):
        self.runs[run].status = "FINISHED"

    def _log_batch(self, run, metrics=(), params=()):
        assert len(metrics) <= 1000 and len(params) <= 100, "more than a server takes"
        self.runs[run].metrics += metrics
        self.runs[run].params += params


class Missing(Exception):
    error_code = "RESOURCE_DOES_NOT_EXIST"


@pytest.fixture
def server(monkeypatch):
    """Behind a package that has the names of MLflow."""
    server = Server()
    entry = lambda *values: values
    parts = {
        "mlflow": {},
        "mlflow.entities": {"Metric": entry, "Param": entry},
        "mlflow.tracking": {"MlflowClient": lambda: server},
        "mlflow.exceptions": {"MlflowException": Missing},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for variable in trackers.PATIENCE:
        monkeypatch.setenv(variable, "1")
    return server


CLOCKS = {"env_steps": 7, "updates": 2, "seconds": 0.5}


def test_mlflow_second_session_continues_the_run_of_the_first(server, tmp_path):
    for number in (1.0, 2.0):
        tracker = Mlflow(tmp_path, "worlds", {"seed": 0})
        assert server.runs["worlds-0"].status == "RUNNING"
        tracker.write({"x": number}, CLOCKS)
        tracker.close()
    (run,) = server.runs.values()
    assert [(m[0], m[1], m[3]) for m in run.metrics if m[0] == "x"] == [("x", 1.0, 7), ("x", 2.0, 7)]
    assert (run.status, run.params) == ("FINISHED", [("seed", "0")])


@pytest.mark.parametrize("state", ["unknown", "deleted"])
def test_mlflow_run_that_is_gone_is_replaced_by_another(server, tmp_path, state):
    Mlflow(tmp_path, "worlds", {}).close()
    if state == "unknown":
        server.runs["other"] = server.runs.pop("worlds-0")
    else:
        server.runs["worlds-0"].stage = "deleted"
    Mlflow(tmp_path, "worlds", {}).close()
    assert (tmp_path / "mlflow_run").read_text() == "worlds-1"


def test_mlflow_unreachable_server_at_resume_keeps_the_id(server, tmp_path):
    Mlflow(tmp_path, "worlds", {}).close()
    server.failing = ("get_run",)
    with pytest.raises(OSError):
        Mlflow(tmp_path, "worlds", {})
    assert (tmp_path / "mlflow_run").read_text() == "worlds-0" and len(server.runs) == 1


def test_mlflow_many_numbers_are_sent_in_few_requests(server, tmp_path):
    tracker = Mlflow(tmp_path, "worlds", {str(i): i for i in range(250)})
    assert server.requests.count("log_batch") == 3
    for _ in range(400):
        tracker.write({"a": 0.0}, CLOCKS)
    assert server.requests.count("log_batch") == 3, "training does not wait for each of them"
    tracker.close()
    assert server.requests.count("log_batch") == 5
    assert len(server.runs["worlds-0"].metrics) == 3 * 400


@pytest.mark.parametrize("failing", ["create_run", "log_batch", "set_terminated"])
def test_logger_failing_mlflow_is_disabled_with_one_message(server, tmp_path, capsys, monkeypatch, failing):
    from dreamer.logger import Logger, read_rows

    monkeypatch.setattr(trackers, "SEND_SECONDS", -1)
    server.failing = (failing,)
    with Logger(tmp_path, total_steps=10, tensorboard=False, mlflow="worlds") as log:
        log.metrics({"x": 1})
        log.metrics({"x": 2})
    told = "MLflow failed and gets nothing more of this run: the network is gone"
    assert capsys.readouterr().err.count(told) == 1
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 2


@pytest.mark.parametrize(("kind", "package"), [(Mlflow, "mlflow"), (Wandb, "wandb")])
def test_tracker_without_its_package_raises_with_install_command(tmp_path, monkeypatch, kind, package):
    for name in (package, f"{package}.entities", f"{package}.tracking"):
        monkeypatch.setitem(sys.modules, name, None)
    options = {"offline": True} if kind is Wandb else {}
    with pytest.raises(LoggerError, match=rf"pip install 'dreamer-toolkit\[{package}\]'"):
        kind(tmp_path, "worlds", {}, **options)


@pytest.mark.parametrize(("is_offline", "mode"), [(True, "offline"), (False, None)])
def test_wandb_mode_is_offline_or_left_to_wandb(tmp_path, monkeypatch, is_offline, mode):
    calls = []
    run = SimpleNamespace(define_metric=lambda *_, **__: None)
    init = lambda **options: calls.append(options) or run
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for _ in range(2):
        Wandb(tmp_path, "worlds", {"seed": 1}, offline=is_offline)
    first, second = calls
    assert first == second and first["mode"] == mode and first["config"] == {"seed": 1}


def test_run_folder_passes_trackers_and_configuration_to_the_log(tmp_path, monkeypatch):
    from dreamer import logger
    from dreamer.loops.clocks import Progress
    from experiments.training.folder import RunFolder

    asked = []
    for name in ("Mlflow", "Wandb"):
        monkeypatch.setattr(logger, name, lambda *args, name=name, **kw: asked.append((name, *args, kw)))
    log = LogConfig(tensorboard=False, wandb=True, wandb_project="a", wandb_offline=True, mlflow=True)
    cfg = Config(task="probe:chosen", steps=100, log=log)
    monkeypatch.setattr(logger.Logger, "_all", lambda *_: None)
    folder = RunFolder(tmp_path, cfg)
    folder.open_log(Progress(), is_resumed=False)
    values = dict(schema.values(cfg))
    assert asked == [
        ("Wandb", tmp_path, "a", values, {"offline": True}),
        ("Mlflow", tmp_path, "dreamer", values, {}),
    ]


@pytest.mark.parametrize(
    ("name", "sent"),
    [("eval/return_mean", "eval/return_mean"), ("score/a:b (c)", "score/a_b _c_"), ("é", "_")],
)
def test_allowed_names_are_what_mlflow_takes(name, sent):
    assert allowed(name) == sent
