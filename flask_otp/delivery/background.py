"""A bounded number of threads for deliveries that a request does not wait for."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from weakref import ref

from flask import Flask

from ..errors import DeliveryFailed
from ..processes import PerProcess
from .environment import loses_background

logger = logging.getLogger("flask_otp")

_WORKERS = 4
_WAITING = 256
#: Seconds that the end of a process waits. Supervisors kill after 30 to 90.
_AT_EXIT = 25

#: A job, and when it may begin, by the monotonic clock.
_Job = tuple[Callable[[], None], float]


class _Queue:
    """The jobs of one process. Threads come with the work and end with it, so the interpreter waits for the work.

    ``concurrent.futures`` has a lock of its own from when it was imported. Under gevent that may be before the locks
    were changed, and one such lock freezes the whole worker.
    """

    def __init__(self) -> None:
        reason = loses_background()
        if reason is not None:
            logger.warning("a delivery in the background may be lost: %s; see docs/deployment.md", reason)
        self.lock = threading.Condition(threading.Lock())
        self.jobs: deque[_Job] = deque()
        self.threads = 0
        # The interpreter waits for threads, but not for gevent's, and uWSGI does not wait at all.
        atexit.register(_drain, ref(self), os.getpid())

    def wait(self, seconds: float) -> bool:
        """Wait until there is nothing left to do. False: there is, after so long."""
        with self.lock:
            return self.lock.wait_for(lambda: not self.threads, seconds)


def _drain(queue_ref: ref[_Queue], pid: int) -> None:
    queue = queue_ref()
    if queue is not None and pid == os.getpid() and not queue.wait(_AT_EXIT):
        logger.error("the process ends, and deliveries in the background are lost: they took too long")


class Background:
    """Runs jobs in an app context. What still waits when the interpreter ends is done first."""

    #: Seconds that a discreet job leaves to the request that began it: threads share one interpreter, so that a
    #: delivery would slow the answer down, and only where there is somebody to deliver to.
    PAUSE = 0.1

    def __init__(self, app: Flask, workers: int = _WORKERS, waiting: int = _WAITING, pause: float = PAUSE) -> None:
        self._app = app
        self._workers = workers
        self._waiting = waiting
        self._pause = pause
        self._queue = PerProcess(_Queue)

    def run(self, job: Callable[[], None], *, discreet: bool) -> bool:
        """Do the job soon. When too many are waiting, do it at once in this thread, or else answer ``False``.

        :param discreet: nothing of the job may show in how long the caller takes.
        """
        queue = self._queue.get()
        with queue.lock:
            is_full = len(queue.jobs) >= self._waiting + max(0, self._workers - queue.threads)
            if not is_full:
                queue.jobs.append((job, time.monotonic() + self._pause if discreet else 0))
                needs_thread = queue.threads < self._workers
                queue.threads += needs_thread
        if is_full:
            if not discreet:
                _finish(job)
            return not discreet
        if needs_thread:
            self._start(queue)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until this process has nothing left to do. False: it has, after so long."""
        return self._queue.get().wait(seconds)

    def _start(self, queue: _Queue) -> None:
        try:
            threading.Thread(target=self._work, args=(queue,), name="flask_otp-delivery").start()
        except RuntimeError:  # the interpreter is ending and starts no thread
            self._work(queue)

    def _work(self, queue: _Queue) -> None:
        """Do jobs until there are none."""
        while True:
            with queue.lock:
                if not queue.jobs:
                    queue.threads -= 1
                    queue.lock.notify_all()
                    return
                job, not_before = queue.jobs.popleft()
            time.sleep(max(0, not_before - time.monotonic()))
            with self._app.app_context():
                _finish(job)


def _finish(job: Callable[[], None]) -> None:
    try:
        with contextlib.suppress(DeliveryFailed):  # told by signal and log already
            job()
    except Exception as error:
        # Its type alone: no word of a message may come into a log.
        logger.error("a background delivery broke off: %s", type(error).__name__)
