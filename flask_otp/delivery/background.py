"""A bounded pool of threads for deliveries that a request does not wait for."""

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
from .app_contexts import own_app_context
from .environment import forks_later, loses_background

logger = logging.getLogger("flask_otp")

_WORKERS = 4
_WAITING = 256
#: Seconds that a process waits at exit. Supervisors kill after 30 to 90.
_AT_EXIT = 25

#: A job, and when it may start, by the monotonic clock.
_Job = tuple[Callable[[], None], float]


class _Queue:
    """The jobs of one process. Threads start and end with the work, so the interpreter waits for the work.

    ``concurrent.futures`` creates a lock when it is imported. Under gevent this may happen before the locks are
    patched, and one such lock freezes the whole worker.
    """

    def __init__(self) -> None:
        reason = loses_background()
        if reason is not None:
            logger.warning("a background delivery may be lost: %s; see docs/operate/deployment.md", reason)
        self.lock = threading.Condition(threading.Lock())
        self.jobs: deque[_Job] = deque()
        self.threads = 0
        # The interpreter waits for threads, but not for gevent's, and uWSGI does not wait at all.
        atexit.register(_drain, ref(self), os.getpid())

    def wait(self, seconds: float) -> bool:
        """Wait until no jobs are left. Returns ``False`` if some are left after this time."""
        with self.lock:
            return self.lock.wait_for(lambda: not self.threads, seconds)


def _drain(queue_ref: ref[_Queue], pid: int) -> None:
    queue = queue_ref()
    if queue is not None and pid == os.getpid() and not queue.wait(_AT_EXIT):
        logger.error("the process ends and background deliveries are lost: they took too long")


class Background:
    """Runs jobs in an app context. Jobs that still wait when the interpreter ends are run first."""

    #: Seconds by which a discreet job is delayed for its request. Threads share one interpreter, so a delivery would
    #: slow the response down, but only for known identifiers.
    PAUSE = 0.1

    def __init__(self, app: Flask, workers: int = _WORKERS, waiting: int = _WAITING, pause: float = PAUSE) -> None:
        self._app = app
        self._workers = workers
        self._waiting = waiting
        self._pause = pause
        self._queue = PerProcess(_Queue)

    def run(self, job: Callable[[], None], *, discreet: bool) -> bool:
        """Run the job soon. If too many are waiting, run it now in this thread, or return ``False`` for a discreet one.

        Before uWSGI forks, no request is waiting, and the job runs now too: a worker that is forked beside a running
        thread may wait forever, at its start for the interpreter's lock or at its end for the thread.

        :param discreet: the time that the caller takes must reveal nothing about the job.
        """
        if forks_later():
            _finish(job)
            return True
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
        """Wait until this process has no jobs left. Returns ``False`` if some are left after this time."""
        return self._queue.get().wait(seconds)

    def _start(self, queue: _Queue) -> None:
        try:
            threading.Thread(target=self._work, args=(queue,), name="flask_otp-delivery").start()
        except RuntimeError:  # the interpreter is shutting down and starts no threads
            self._work(queue)

    def _work(self, queue: _Queue) -> None:
        """Run jobs until none are left."""
        while True:
            with queue.lock:
                if not queue.jobs:
                    queue.threads -= 1
                    queue.lock.notify_all()
                    return
                job, not_before = queue.jobs.popleft()
            time.sleep(max(0, not_before - time.monotonic()))
            try:
                with own_app_context(self._app):
                    _finish(job)
            except BaseException as error:
                # A gevent timeout or an exit ends only this job. If it ended the thread, the thread would stay counted.
                logger.error("a background delivery failed: %s", type(error).__name__)


def _finish(job: Callable[[], None]) -> None:
    try:
        with contextlib.suppress(DeliveryFailed):  # already reported by signal and log
            job()
    except Exception as error:
        # Only the type: no part of a message may appear in a log.
        logger.error("a background delivery failed: %s", type(error).__name__)
