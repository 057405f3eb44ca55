"""Where accuracies are measured: in this process, in several, or on a Dask cluster.

All give the accuracies in the order of the tasks, so that a search does not depend on who was first. Whoever shares a
machine with others has one onnxruntime thread.
"""

from __future__ import annotations

import asyncio
import importlib
import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, Protocol

from bitwright.ir.errors import CompileError
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.judge import Judge, SimulationJudge

Task = tuple[Candidate, bool]
"""A candidate, and whether it is measured on the full set."""

CONNECT_SECONDS = 60
EMPTY_SECONDS = 60
"""How long a cluster may be without a worker."""


class Workers(Protocol):
    """Measures several candidates."""

    def measure(self, tasks: Sequence[Task]) -> Iterator[float]:
        """The accuracies in order, each as soon as it and those before it are there.

        Raises the CompileError that a judge raised, and one of its own if workers are lost.
        """


class Alone:
    """This process, one candidate after the other."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def measure(self, tasks: Sequence[Task]) -> Iterator[float]:
        for candidate, full in tasks:
            yield self.judge.accuracy(candidate, full)


class Processes:
    """Processes on this machine, each with a copy of the judge."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self.executor = executor

    def measure(self, tasks: Sequence[Task]) -> Iterator[float]:
        try:
            yield from self.executor.map(_measure_here, tasks)
        except BrokenProcessPool as error:
            raise CompileError(
                "a process of --jobs was killed, or did not start",
                help="memory may have run out: give fewer --jobs; what was measured is kept",
            ) from error


class Cluster:
    """The workers of a Dask cluster; a task whose worker dies is run by another, Dask's allowed-failures times."""

    def __init__(self, client: Any, judge: Judge) -> None:
        self.client = client
        config = importlib.import_module("dask").config
        # A task, rather than scattered data: those are lost with the workers that have them, while a task is repeated.
        with config.set({"distributed.admin.large-graph-warning-threshold": "10GB"}):
            self.payload = client.submit(bytes, pickle.dumps(judge), pure=False)

    def measure(self, tasks: Sequence[Task]) -> Iterator[float]:
        distributed = importlib.import_module("distributed")
        try:
            # What is submitted within a tenth of a second is equally urgent to Dask, which then begins anywhere.
            futures = [
                self.client.submit(_measure_there, self.payload, task, pure=False, priority=-number)
                for number, task in enumerate(tasks)
            ]
            for future in futures:
                yield self._result(future)
        except distributed.scheduler.KilledWorker as error:
            raise CompileError(f"workers of the cluster died again and again: {error}", help=_KEPT) from error
        except (CancelledError, OSError) as error:
            raise CompileError(f"the cluster is gone: {error}", help=_KEPT) from error
        except ImportError as error:
            raise CompileError(f"a worker of the cluster lacks what this has: {error}", help=_SAME) from error

    def _result(self, future: Any) -> float:
        """What the future gives, as long as there are workers that it could come from."""
        empty = 0
        while empty < 4:
            try:
                return float(future.result(timeout=EMPTY_SECONDS / 4))
            except TimeoutError:
                empty = 0 if self.client.scheduler_info()["workers"] else empty + 1
        raise CompileError("the cluster has lost all its workers", help=_KEPT)


_KEPT = "what was measured is kept: --resume goes on from there"
_SAME = "install the same version of bitwright for all workers"


@contextmanager
def workers(judge: Judge, jobs: int = 1, cluster: str | None = None) -> Iterator[Workers]:
    """Workers for the time of a search. cluster: the address of a Dask scheduler, such as tcp://host:8786.

    Raises CompileError if there is no such cluster, if its client is not installed, or if the judge measures one
    candidate at a time.
    """
    if jobs <= 1 and cluster is None:
        yield Alone(judge)
        return
    if not getattr(judge, "parallel", True):
        raise CompileError(
            f"{'--jobs' if cluster is None else '--cluster'} needs commands that can run at once",
            help="write {config} in cmd_smallset and cmd_fullset where the program takes its configuration file",
        )
    if isinstance(judge, SimulationJudge):
        judge = replace(judge, threads=1)
    if cluster is None:
        payload = pickle.dumps(judge)
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_take, initargs=(payload,)) as executor:
            yield Processes(executor)
        return
    with _client(cluster) as client:
        yield Cluster(client, judge)


def _client(address: str) -> Any:
    """A client of the scheduler, which has workers."""
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise CompileError("--cluster needs Dask", help="pip install 'bitwright[cluster]'") from error
    try:
        _knock(distributed, address)
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        said = (str(error).splitlines() or [""])[0]
        raise CompileError(
            f"there is no Dask scheduler at {address}: {said}", help="start one with `dask scheduler`"
        ) from error
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        client.close()
        raise CompileError(
            f"the Dask scheduler at {address} has no workers", help=f"start some with `dask worker {address}`"
        ) from error
    return client


def _knock(distributed: Any, address: str) -> None:
    """Connects to an address once, without a client.

    A client that is refused is left half open, and whenever it is collected as garbage it takes the lock under which
    the next client starts, even in the midst of that start, which then stands still for ever.
    Raises OSError if nobody answers, ValueError for what is no address.
    """

    async def connect() -> None:
        comm = await distributed.comm.connect(address, timeout=CONNECT_SECONDS)
        await comm.close()

    # In a thread of its own, as a notebook's has a running event loop already.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, connect()).result()


_judge: Judge | None = None


def _take(payload: bytes) -> None:
    global _judge
    _judge = pickle.loads(payload)


def _measure_here(task: Task) -> float:
    assert _judge is not None
    return _judge.accuracy(*task)


class _Own(threading.local):
    """The judge of a thread: a worker may have several, and judges are no place for two at once."""

    payload: bytes | None = None
    judge: Judge


_own = _Own()


def _measure_there(payload: bytes, task: Task) -> float:
    if _own.payload != payload:
        _own.judge = pickle.loads(payload)
        _own.payload = payload
    return _own.judge.accuracy(*task)
