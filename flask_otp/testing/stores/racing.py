"""Runs races: many threads, in this process or in two separate ones, that all start at one barrier."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...stores import Store

#: The name of a verb, and its arguments.
Call = tuple[str, tuple[Any, ...]]

#: Seconds in which all threads must reach the barrier.
_PATIENCE = 60


@dataclass(frozen=True)
class Track:
    """A store to race on.

    :param connect: opens the same store in another process.
    :param two_processes: run each half of the threads in a process of its own.
    """

    store: Store
    connect: Callable[[], Store]
    two_processes: bool

    def run(self, calls: Sequence[Call], threads: int = 50) -> list[Any]:
        """Make all calls at once. Returns the answers in the order of the calls, and raises if a call raised."""
        if not self.two_processes:
            return _run_at_once(self.store, calls, threads)
        # Pickled here, because a process that cannot unpickle its task dies silently.
        connect = pickle.dumps(self.connect)
        halves = [_pair().submit(_run_there, connect, calls[half::2], threads // 2) for half in (0, 1)]
        errors = [error for half in halves if (error := half.exception())]
        if errors:
            # Their barrier may be broken, so the next race gets new ones. Only the failed process knows the cause.
            _pair().shutdown(wait=False)
            _pair.cache_clear()
            raise min(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError))
        answers: list[Any] = [None] * len(calls)
        answers[0::2], answers[1::2] = (half.result() for half in halves)
        return answers


def outcomes(answers: Sequence[Any]) -> Counter[Any]:
    """How often each outcome came."""
    return Counter(answer.outcome for answer in answers)


@cache
def _pair() -> ProcessPoolExecutor:
    """Two processes for all races. They come from a fresh one, so they have nothing of a store except what it pickles.

    A server that has imported this module forks them, where there is one. Otherwise each imports it.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(2, context, _meet_at, (context.Barrier(2),))


_barrier: Any = None


def _meet_at(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _meet() -> None:
    _barrier.wait(_PATIENCE)


def _run_there(connect: bytes, calls: Sequence[Call], threads: int) -> list[Any]:
    """Runs in one of the two processes."""
    try:
        with closing(pickle.loads(connect)()) as store:  # noqa: S301 - our own parent's
            return _run_at_once(store, calls, threads, _meet)
    except BaseException:
        _barrier.abort()  # otherwise the other process would wait for us
        raise


def _run_at_once(
    store: Store, calls: Sequence[Call], threads: int, start: Callable[[], None] | None = None
) -> list[Any]:
    """Spread the calls over threads that all wait for each other, and then for ``start``."""
    answers: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(threads, action=start)

    def work(first: int) -> None:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(_PATIENCE)
            for index in range(first, len(calls), threads):
                verb, args = calls[index]
                try:
                    answers[index] = getattr(store, verb)(*args)
                except Exception as error:
                    answers[index] = error

    workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if barrier.broken:
        raise threading.BrokenBarrierError("the race did not start: not all threads reached the barrier")
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
