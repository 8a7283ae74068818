"""Runs processes that work on items one at a time; if one dies, only its own item is lost."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from flame.errors import InputError
from preprocess.dataset.building.plan import Item

_TRIES = 2
_READY, _DONE, _DIED = "ready", "done", "died"
_SECONDS_TO_DIE = 10.0
"""A process that hangs in the kernel, for example on a lost file system, survives a kill: after this it is left."""

Work = Callable[[Item], None]


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    item: Item
    deadline: float = math.inf
    """Of the item, as `time.monotonic`; infinite while the models are loaded."""


def run_workers(
    make_work: Callable[[], Work], items: Sequence[Item], *, num_workers: int, item_seconds: float = math.inf
) -> Iterator[tuple[Item, str | None]]:
    """Works on all items; yields each when it is done, with a reason if it was given up.

    Args:
        make_work: called once in each process; can be pickled. The function it returns must not raise for a bad item:
            an exception counts as the death of its process.
        items: what to work on.
        num_workers: number of processes.
        item_seconds: time after which a process is ended and its item given up.

    Raises:
        InputError: `make_work` raised it.
    """
    waiting = [(item, 1) for item in reversed(items)]
    tries: dict[str, int] = {}
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < num_workers:
                workers.append(_start(make_work, _take(waiting, tries)))
            heard = _wait(workers)
            for worker in [worker for worker in workers if worker.pipe in heard]:
                message = _receive(worker)
                if message == _DIED:
                    workers.remove(worker)
                    _end(worker)
                    if tries[worker.item.key] < _TRIES:
                        waiting.append((worker.item, tries[worker.item.key] + 1))
                    else:
                        yield worker.item, f"its process died {_TRIES} times (exit code {worker.process.exitcode})"
                    continue
                if message == _DONE:
                    yield worker.item, None
                    if not waiting:
                        workers.remove(worker)
                        _end(worker)
                        continue
                    worker.item = _take(waiting, tries)
                    worker.pipe.send(worker.item)
                worker.deadline = time.monotonic() + item_seconds
            for worker in [worker for worker in workers if _is_late(worker)]:
                workers.remove(worker)
                _kill(worker)
                yield worker.item, f"given up after {item_seconds:g} seconds"
    finally:
        for worker in workers:
            _kill(worker)


def _wait(workers: list[_Worker]) -> list[Any]:
    """Returns the pipes that hold a message, or none when the first deadline has come."""
    remaining = min(worker.deadline for worker in workers) - time.monotonic()
    return wait([worker.pipe for worker in workers], None if remaining == math.inf else max(remaining, 0))


def _is_late(worker: _Worker) -> bool:
    # a message that came while others were served still counts
    return worker.deadline <= time.monotonic() and not worker.pipe.poll()


def _receive(worker: _Worker) -> str:
    """Returns the message of a process, and raises the error of `make_work` if the process has sent that."""
    try:
        message = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        return _DIED
    if isinstance(message, InputError):
        raise message
    return message


def _kill(worker: _Worker) -> None:
    worker.process.kill()
    _end(worker)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join(_SECONDS_TO_DIE)


def _take(waiting: list[tuple[Item, int]], tries: dict[str, int]) -> Item:
    item, tries_of_item = waiting.pop()
    tries[item.key] = tries_of_item
    return item


def _start(make_work: Callable[[], Work], item: Item) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # read when the libraries of the new process are loaded: one thread each, and the same sums in every run
    limits = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        process = context.Process(target=_serve, args=(make_work, theirs), daemon=True)
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    theirs.close()
    worker = _Worker(process, ours, item)
    with contextlib.suppress(BrokenPipeError):  # it died at once, which reading from the pipe shows
        ours.send(item)
    return worker


def _serve(make_work: Callable[[], Work], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work = make_work()
    except InputError as error:  # for example, the head model is missing: no item is to blame
        pipe.send(error)
        return
    try:
        pipe.send(_READY)
        while True:
            work(pipe.recv())
            pipe.send(_DONE)
    except (EOFError, ConnectionResetError, BrokenPipeError):  # the parent has finished or died
        return


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, however that ended: half an item is no use to anyone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
