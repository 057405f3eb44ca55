"""Workers: the same accuracies in the same order wherever they are measured, and clear words when workers are lost."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitwright.ir.errors import CompileError
from bitwright.ir.formats.named import fixed
from bitwright.ir.parse import parse
from bitwright.tuner import workers as module
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.command import CommandJudge, load_network
from bitwright.tuner.judge import Judge, SimulationJudge
from bitwright.tuner.workers import Alone, Task, workers

NET = """
platform = "FPGA"
cmd_smallset = cmd_fullset = {command!r}
err_margin = 0.01
layer_name = ["fc"]
layerwise_opt = "BOTH"
wgt_size, act_size, wgt_max_abs, act_max_abs = [4], [2], [1.0], [1.0]
get_result_regex = "Accuracy : (.*)"
"""
WIDTH = "Accuracy : $(grep -o 'FIXED [0-9]*' {config} | head -n 1 | cut -c 7-)"
WIDTHS = [7, 3, 12, 5, 9, 4, 8, 6, 10, 11]

no_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="needs Dask: pip install 'bitwright[cluster]'"
)


def commands(folder: Path, command: str) -> CommandJudge:
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_text(NET.format(command=command))
    return CommandJudge(load_network(folder / "net.py"))


def simulation() -> SimulationJudge:
    """A dense layer whose accuracy on random samples depends on the formats."""
    rng = np.random.default_rng(3)
    weights = ",".join(f"{number:.4f}" for number in rng.normal(size=32))
    graph = parse(f"""
        graph @tiny {{
          input %x : f32[N,8]
          weight %fc.weight = [{weights}] : f32[4,8]
          %fc = dense(%x, %fc.weight) : f32[N,4]
          output %fc
        }}
    """)
    x = rng.normal(size=(200, 8)).astype(np.float32)
    exact = SimulationJudge(graph, x, np.zeros(200, np.int64))
    return SimulationJudge(graph, x, exact.scores(graph, x).argmax(1))


def tasks(full: bool = True) -> list[Task]:
    return [(Candidate({"fc.weight": fixed(width), "fc.input": fixed(width)}), full) for width in WIDTHS]


def measured(judge: Judge, jobs: int = 1, cluster: str | None = None) -> list[float]:
    with workers(judge, jobs, cluster) as found:
        return list(found.measure(tasks()))


# ---- processes


def test_one_job_is_this_process() -> None:
    judge = simulation()
    with workers(judge) as found:
        assert isinstance(found, Alone)
        assert found.judge is judge


def test_processes_simulate_as_one_does() -> None:
    judge = simulation()
    alone = measured(judge)
    assert len(set(alone)) > 3
    assert measured(judge, jobs=2) == alone


def test_processes_run_commands_as_one_does(tmp_path: Path) -> None:
    judge = commands(tmp_path, f"sleep 0.0$(($$ % 10)); echo {WIDTH}")
    assert measured(judge, jobs=2) == measured(judge) == WIDTHS


def test_whoever_shares_a_machine_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    payloads: list[SimulationJudge] = []

    class Executor:
        def __init__(self, *_: object, initargs: tuple[bytes], **__: object) -> None:
            payloads.append(module.pickle.loads(*initargs))

        def __enter__(self) -> Executor:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(module, "ProcessPoolExecutor", Executor)
    with workers(simulation(), jobs=2):
        pass
    assert [judge.threads for judge in payloads] == [1]
    assert [judge.simulation.threads for judge in payloads] == [1]


def test_what_a_judge_raises_arrives_as_it_was(tmp_path: Path) -> None:
    judge = commands(tmp_path, "echo no such layer {config} | cut -c -13 >&2; exit 3")
    errors = []
    for jobs in (1, 2):
        with pytest.raises(CompileError) as caught:
            measured(judge, jobs)
        errors.append((caught.value.message, caught.value.help))
    assert errors[0] == errors[1]
    assert 'exit status 3; its last line was "no such layer"' in errors[0][0]


def test_a_killed_process_is_reported(tmp_path: Path) -> None:
    judge = commands(tmp_path, "true {config}; kill -9 $PPID; sleep 5")
    with pytest.raises(CompileError, match="a process of --jobs was killed") as caught:
        measured(judge, jobs=2)
    assert "--jobs" in (caught.value.help or "")


def test_accuracies_come_as_soon_as_they_are_there(tmp_path: Path) -> None:
    """The first is given before the last is measured."""
    judge = commands(tmp_path, f"echo >> started; echo {WIDTH}; sleep 0.2")
    with workers(judge, jobs=2) as found:
        accuracies = found.measure(tasks())
        assert next(accuracies) == WIDTHS[0]
        assert len((tmp_path / "started").read_text()) < len(WIDTHS)
        del accuracies  # what did not begin is not measured any more
    assert len((tmp_path / "started").read_text()) < len(WIDTHS)


@pytest.mark.parametrize(("jobs", "cluster", "option"), [(2, None, "--jobs"), (1, "tcp://127.0.0.1:1", "--cluster")])
def test_commands_that_share_a_file_run_one_at_a_time(
    tmp_path: Path, jobs: int, cluster: str | None, option: str
) -> None:
    judge = commands(tmp_path, "grep -c FIXED config.txt | sed 's/^/Accuracy : /'")
    with pytest.raises(CompileError, match=f"^{option} needs commands that can run at once") as caught:
        measured(judge, jobs, cluster)
    assert "{config}" in (caught.value.help or "")
    assert measured(judge) == [2.0] * len(WIDTHS)


# ---- a cluster


class Dask:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path, count: int, threads: int = 2) -> None:
        self.file = folder / "scheduler.json"
        self.threads = str(threads)
        self.processes = [self.start("scheduler", "--port", "0", "--host", "127.0.0.1")]
        deadline = time.monotonic() + 60
        while not (self.file.exists() and self.file.read_text().strip().endswith("}")):
            assert time.monotonic() < deadline, "no scheduler came up"
            time.sleep(0.05)
        self.address = str(json.loads(self.file.read_text())["address"])
        for _ in range(count):
            self.worker()

    def worker(self) -> None:
        self.processes.append(self.start("worker", "--no-nanny", "--nthreads", self.threads))

    def start(self, what: str, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self.file), "--no-dashboard", *more]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=self.file.parent, stdout=quiet, stderr=quiet)

    def kill(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    found = Dask(tmp_path_factory.mktemp("dask"), 2)
    yield found
    found.kill()


@no_dask
def test_a_cluster_measures_as_one_process_does(dask: Dask, tmp_path: Path) -> None:
    judge = simulation()
    assert measured(judge, cluster=dask.address) == measured(judge)
    failing = commands(tmp_path, "echo >> runs; true {config}; echo wrong >&2; exit 3")
    with pytest.raises(CompileError, match='exit status 3; its last line was "wrong"'):
        measured(failing, cluster=dask.address)


@no_dask
def test_tasks_that_wait_together_begin_in_order(tmp_path: Path) -> None:
    """Dask takes what is submitted within a tenth of a second for equally urgent, and begins anywhere."""
    dask = Dask(tmp_path, 1, threads=1)
    try:
        judge = commands(tmp_path / "net", f"echo {WIDTH} | tee -a begun")
        with workers(judge, cluster=dask.address) as found:
            worker = dask.processes[1]
            worker.send_signal(signal.SIGSTOP)
            threading.Timer(1, worker.send_signal, (signal.SIGCONT,)).start()
            assert list(found.measure(tasks())) == WIDTHS
        begun = (tmp_path / "net" / "begun").read_text().splitlines()
        assert begun == [f"Accuracy : {width}" for width in WIDTHS]
    finally:
        dask.kill()


class Own(CommandJudge):
    """A judge in a module that workers do not have."""


@no_dask
def test_a_judge_that_workers_do_not_know(dask: Dask, tmp_path: Path) -> None:
    judge = commands(tmp_path, f"echo {WIDTH}")
    judge.__class__ = Own
    with pytest.raises(CompileError, match="a worker of the cluster lacks what this has: No module named") as caught:
        measured(judge, cluster=dask.address)
    assert "same version" in (caught.value.help or "")


@no_dask
def test_a_worker_that_dies_changes_nothing(dask: Dask, tmp_path: Path) -> None:
    judge = commands(tmp_path, f"echo $PPID >> workers; sleep 0.2; echo {WIDTH}")
    ran = tmp_path / "workers"
    with workers(judge, cluster=dask.address) as found:
        accuracies = found.measure(tasks())
        first = next(accuracies)
        dask.worker()
        victim = next(one for one in dask.processes if str(one.pid) in ran.read_text().split())
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        assert [first, *accuracies] == WIDTHS
    pids = ran.read_text().split()
    assert len(set(pids)) > 1
    assert len(pids) >= len(WIDTHS)


@no_dask
@pytest.mark.parametrize(
    ("failures", "message"),
    [("0", "workers of the cluster died again and again"), ("9", "the cluster has lost all its workers")],
)
def test_what_no_worker_survives_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: str, message: str
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", failures)
    monkeypatch.setattr(module, "EMPTY_SECONDS", 2)
    dask = Dask(tmp_path, 1)
    try:
        judge = commands(tmp_path / "net", "true {config}; kill -9 $PPID; sleep 5")
        with pytest.raises(CompileError, match=message) as caught:
            measured(judge, cluster=dask.address)
        assert "\n" not in caught.value.message
    finally:
        dask.kill()


@no_dask
def test_a_scheduler_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EMPTY_SECONDS", 2)
    dask = Dask(tmp_path, 1)
    try:
        judge = commands(tmp_path / "net", f"sleep 0.2; echo {WIDTH}")
        with workers(judge, cluster=dask.address) as found:
            accuracies = found.measure(tasks())
            next(accuracies)
            dask.processes[0].kill()
            with pytest.raises(CompileError, match="the cluster"):
                list(accuracies)
    finally:
        dask.kill()


@no_dask
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1"])
def test_there_is_no_scheduler(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 1)
    with pytest.raises(CompileError, match=f"^there is no Dask scheduler at {address}: ") as caught:
        measured(simulation(), cluster=address)
    assert "\n" not in caught.value.message
    assert not half_open()


def half_open() -> list[Any]:
    """Dask's clients that are neither open nor closed: one that is collected as another starts stops that for ever."""
    client = importlib.import_module("distributed").Client
    return [one for one in gc.get_objects() if type(one) is client and one.status not in ("running", "closed")]


@no_dask
def test_a_scheduler_without_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 3)
    dask = Dask(tmp_path, 0)
    try:
        with pytest.raises(CompileError, match="has no workers"):
            measured(simulation(), cluster=dask.address)
    finally:
        dask.kill()


def test_without_dask_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CompileError, match="--cluster needs Dask") as caught:
        measured(simulation(), cluster="tcp://127.0.0.1:8786")
    assert "bitwright[cluster]" in (caught.value.help or "")
