"""Which process of a run this is, and that all of them train the same."""

import signal
from pathlib import Path

import pytest
import tiny

from dreamer import processes
from dreamer.schema import ConfigError
from experiments import cluster, signals
from experiments.cluster import Place, place

PLAIN = {"DREAMER_COORDINATOR": "node1:7733", "DREAMER_PROCESSES": "4", "DREAMER_PROCESS": "2"}
SLURM = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[003-005,009]",
}


def test_place_without_variables_is_a_process_alone():
    assert place({}) is None
    assert place({**PLAIN, "DREAMER_PROCESSES": "1", "DREAMER_PROCESS": "0"}) is None


def test_place_reads_plain_variables():
    assert place(PLAIN) == Place(2, 4, "node1", 7733)


def test_place_plain_variables_come_before_those_of_slurm():
    assert place(SLURM | PLAIN) == Place(2, 4, "node1", 7733)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"DREAMER_PROCESS": ""}, "DREAMER_PROCESS is not set"),
        ({"DREAMER_PROCESS": "4"}, "DREAMER_PROCESS must be 0 to 3, as DREAMER_PROCESSES is 4, but it is 4"),
        ({"DREAMER_PROCESS": "-1"}, "DREAMER_PROCESS must have a number, but it is '-1'"),
        ({"DREAMER_PROCESSES": "four"}, "DREAMER_PROCESSES must have a number, but it is 'four'"),
        ({"DREAMER_COORDINATOR": "node1"}, "must be host:port, as node1:7733, but it is node1"),
        ({"DREAMER_COORDINATOR": "node1:99999"}, "must be host:port"),
    ],
)
def test_place_wrong_variables_are_one_sentence(changes, why):
    with pytest.raises(ConfigError, match=why):
        place({**PLAIN, **changes})


def test_place_task_of_a_slurm_step_finds_process_0_on_the_first_node():
    task = place(SLURM)
    assert task is not None
    assert (task.index, task.count, task.host, task.local) == (5, 8, "gpu003", 1)
    assert 61440 <= task.port < 2**16
    other = place({**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    assert other is not None and other.port == task.port


def test_place_single_task_of_slurm_is_a_process_alone():
    assert place({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert place({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}) is None  # a batch script outside of srun


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("n[03-05,9],x", "n03"), ("n[7]", "n7"), ("a-b[1,2]", "a-b1")],
)
def test_first_node_of_a_list_of_slurm(nodes, first):
    assert cluster._first_node(nodes) == first


def about(**changes):
    return {
        "run": "/runs/a",
        "versions": {"jax": "0.10.2"},
        "config": {"loop": {"batch_size": 16}},
        **changes,
    }


def test_check_same_equal_processes_pass():
    cluster.check_same(["process 0 (a)", "process 1 (b)"], [about(), about()])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"run": "/runs/b"}, r"^process 1 \(b\) differs from process 0: run is '/runs/b', there '/runs/a';"),
        ({"versions": {"jax": "0.11"}}, "versions.jax is '0.11', there '0.10.2'"),
        ({"versions": {}}, "versions.jax is None, there '0.10.2'"),
        ({"config": {"loop": {"batch_size": 8}}}, "config.loop.batch_size is 8, there 16"),
        ({"config": {"loop": {"batch_size": 8, "x": 1}}}, "there 16 and 1 more"),
    ],
)
def test_check_same_names_the_process_and_what_differs(changes, why):
    with pytest.raises(ConfigError, match=why):
        cluster.check_same(["process 0 (a)", "process 1 (b)"], [about(), about(**changes)])


def test_join_without_a_place_changes_nothing():
    assert cluster.join(None, Path("run"), tiny.RUN) is processes.ALONE is processes.current()


def test_listen_passes_requests_to_stop_both_ways(monkeypatch):
    class Line:
        pass

    line = Line()
    monkeypatch.setattr(processes, "_current", processes.Processes(1, 2, line))
    stop = signals.Stop()
    cluster.listen(stop)
    assert line.signal() is None
    line.asked(signal.SIGTERM)
    assert stop and line.signal() == signal.SIGTERM
