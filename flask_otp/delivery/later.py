"""Delayed jobs of this process. They wait in memory and are lost when the process ends."""

from __future__ import annotations

import atexit
import heapq
import itertools
import logging
import os
import threading
from collections.abc import Callable
from weakref import ref

from ..processes import PerProcess
from .background import Background
from .environment import loses_background

logger = logging.getLogger("flask_otp")

_Job = Callable[[], None]


class _Waiting:
    """The jobs of one process. Its thread starts with the first job and ends with the last."""

    def __init__(self) -> None:
        self.lock = threading.Condition(threading.Lock())
        #: Due time, a number to order jobs with the same time, and the job.
        self.jobs: list[tuple[float, int, _Job]] = []
        self.numbers = itertools.count()
        self.has_thread = False
        atexit.register(_drop, ref(self), os.getpid())


class Later:
    """Passes jobs to the background threads when they are due.

    :param clock: returns seconds since 1970.
    """

    #: Maximum waiting jobs of one process.
    MAX_WAITING = 10_000

    def __init__(self, background: Background, clock: Callable[[], float]) -> None:
        self._background = background
        self._clock = clock
        self._waiting = PerProcess(_Waiting)
        self._told = PerProcess(_tell_of_losses)

    def put(self, due_at: float, job: _Job) -> bool:
        """Run the job in the background at ``due_at``. Returns ``False``, without running it, if too many are waiting.

        The process does not wait for it at exit.
        """
        self._told.get()
        waiting = self._waiting.get()
        with waiting.lock:
            if len(waiting.jobs) >= self.MAX_WAITING:
                return False
            heapq.heappush(waiting.jobs, (due_at, next(waiting.numbers), job))
            needs_thread, waiting.has_thread = not waiting.has_thread, True
            waiting.lock.notify_all()
        if needs_thread:
            self._start(waiting)
        return True

    def take_due(self) -> list[_Job]:
        """Remove and return the jobs that are due. The caller must run them."""
        return self._take(self._waiting.get())

    def _take(self, waiting: _Waiting) -> list[_Job]:
        due = []
        with waiting.lock:
            while waiting.jobs and waiting.jobs[0][0] <= self._clock():
                due.append(heapq.heappop(waiting.jobs)[2])
        return due

    def _start(self, waiting: _Waiting) -> None:
        # The interpreter does not wait for daemon threads.
        thread = threading.Thread(target=self._watch, args=(waiting,), name="flask_otp-later", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The machine has no room for a thread, or the process is about to end. The next job tries again.
            logger.error("no thread could be started: codes go out late by their next channel, or not at all")
            with waiting.lock:
                waiting.has_thread = False

    def _watch(self, waiting: _Waiting) -> None:
        """Pass on due jobs until none are left."""
        while True:
            for job in self._take(waiting):
                if not self._background.run(job, discreet=True):
                    logger.error("a delivery by the next channel was dropped: too many are waiting in the background")
            with waiting.lock:
                if not waiting.jobs:
                    waiting.has_thread = False
                    return
                # The clock may differ from the lock's clock, so it is read again at each wake-up.
                waiting.lock.wait(max(0.0, waiting.jobs[0][0] - self._clock()))


def _tell_of_losses() -> None:
    reason = loses_background()
    if reason is not None:
        logger.warning("a delivery by the next channel may be lost: %s; see docs/operate/deployment.md", reason)


def _drop(waiting_ref: ref[_Waiting], pid: int) -> None:
    waiting = waiting_ref()
    if waiting is None or pid != os.getpid():
        return
    with waiting.lock:
        dropped = len(waiting.jobs)
        waiting.jobs.clear()
        waiting.lock.notify_all()
    if dropped:
        what = "1 code" if dropped == 1 else f"{dropped} codes"
        logger.warning("the process ends: %s will not go out by the next channel", what)
