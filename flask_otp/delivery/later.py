"""Jobs of this process that are due at a later time. They wait in memory, and are lost with the process."""

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
    """The jobs of one process. Its thread comes with the first of them, and ends with the last."""

    def __init__(self) -> None:
        self.lock = threading.Condition(threading.Lock())
        #: When each is due, a number that tells two of one moment apart, and the job.
        self.jobs: list[tuple[float, int, _Job]] = []
        self.numbers = itertools.count()
        self.has_thread = False


class Later:
    """Gives jobs to the background when they are due.

    :param clock: seconds since 1970.
    """

    #: Jobs that may wait in one process.
    MAX_WAITING = 10_000

    def __init__(self, background: Background, clock: Callable[[], float]) -> None:
        self._background = background
        self._clock = clock
        self._waiting = PerProcess(_Waiting)
        self._told = PerProcess(_tell_of_losses)

    def put(self, due_at: float, job: _Job) -> bool:
        """Do the job in the background when the clock says ``due_at``. False: too many wait, and it will not be done.

        The end of the process does not wait for it.
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
        """The jobs that are due by now. They wait no longer, and whoever takes them must do them."""
        return self._take(self._waiting.get())

    def _take(self, waiting: _Waiting) -> list[_Job]:
        due = []
        with waiting.lock:
            while waiting.jobs and waiting.jobs[0][0] <= self._clock():
                due.append(heapq.heappop(waiting.jobs)[2])
        return due

    def _start(self, waiting: _Waiting) -> None:
        # The interpreter does not wait for a daemon.
        thread = threading.Thread(target=self._watch, args=(waiting,), name="flask_otp-later", daemon=True)
        atexit.register(_drop, ref(waiting), os.getpid())
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending and starts no thread
            _drop(ref(waiting), os.getpid())

    def _watch(self, waiting: _Waiting) -> None:
        """Hand over what is due until there is nothing left."""
        while True:
            for job in self._take(waiting):
                if not self._background.run(job, discreet=True):
                    logger.error("a delivery by the next channel was dropped: too many wait in the background")
            with waiting.lock:
                if not waiting.jobs:
                    waiting.has_thread = False
                    return
                # The clock may be another one than the lock's: it is asked again whenever the lock wakes up.
                waiting.lock.wait(max(0.0, waiting.jobs[0][0] - self._clock()))


def _tell_of_losses() -> None:
    reason = loses_background()
    if reason is not None:
        logger.warning("a delivery by the next channel may be lost: %s; see docs/deployment.md", reason)


def _drop(waiting_ref: ref[_Waiting], pid: int) -> None:
    waiting = waiting_ref()
    if waiting is None or pid != os.getpid():
        return
    with waiting.lock:
        dropped = len(waiting.jobs)
        waiting.jobs.clear()
        waiting.lock.notify_all()
    if dropped:
        logger.warning("the process ends: %d codes will not go out by their next channel", dropped)
