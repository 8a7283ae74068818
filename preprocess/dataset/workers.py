"""Processes that work on items one at a time; one that dies takes only its own item with it."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from flame.errors import InputError
from preprocess.dataset.plan import Item

_TRIES = 2

Work = Callable[[Item], None]


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    item: Item


def run_workers(
    make_work: Callable[[], Work], items: Sequence[Item], *, num_workers: int
) -> Iterator[tuple[Item, str | None]]:
    """Works on all items; gives each when it is done, with the reason where no process survived it.

    Args:
        make_work: called once in each process; can be pickled. What it makes must not raise for a bad item: if it
            does, that counts as a death.

    Raises:
        InputError: as `make_work` does.
    """
    waiting = [(item, 1) for item in reversed(items)]
    tries: dict[str, int] = {}
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < num_workers:
                workers.append(_start(make_work, _take(waiting, tries)))
            for pipe in wait([worker.pipe for worker in workers]):
                worker = next(worker for worker in workers if worker.pipe is pipe)
                try:
                    failure = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    workers.remove(worker)
                    worker.process.join()
                    worker.pipe.close()
                    if tries[worker.item.key] < _TRIES:
                        waiting.append((worker.item, tries[worker.item.key] + 1))
                    else:
                        yield worker.item, f"its process died {_TRIES} times (exit code {worker.process.exitcode})"
                    continue
                if isinstance(failure, InputError):
                    raise failure
                yield worker.item, failure
                if waiting:
                    worker.item = _take(waiting, tries)
                    worker.pipe.send(worker.item)
                else:
                    workers.remove(worker)
                    worker.pipe.close()
                    worker.process.join()
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


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
    try:
        ours.send(item)
    except BrokenPipeError:
        pass  # it died at once; reading says so
    return worker


def _serve(make_work: Callable[[], Work], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    try:
        work = make_work()
    except InputError as error:  # such as a head model that is missing: no item is to blame
        pipe.send(error)
        return
    while True:
        try:
            item = pipe.recv()
        except EOFError:  # the parent is done, or gone
            return
        work(item)
        try:
            pipe.send(None)
        except BrokenPipeError:
            return
