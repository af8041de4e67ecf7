"""A bounded pool of threads for deliveries that a request does not wait for."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

from flask import Flask

from ..errors import DeliveryFailed

logger = logging.getLogger("flask_otp")

_WORKERS = 4
_WAITING = 256


class Background:
    """Runs jobs in an app context. What still waits when the interpreter ends is done first."""

    #: Seconds that a discreet job leaves to the request that began it: threads share one interpreter, so that a
    #: delivery would slow the answer down, and only where there is somebody to deliver to.
    PAUSE = 0.1

    def __init__(self, app: Flask, workers: int = _WORKERS, waiting: int = _WAITING, pause: float = PAUSE) -> None:
        self._app = app
        self._pause = pause
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="flask_otp")
        self._room = BoundedSemaphore(workers + waiting)

    def run(self, job: Callable[[], None], *, discreet: bool) -> bool:
        """Do the job soon. When too many are waiting, do it at once in this thread, or else answer ``False``.

        :param discreet: nothing of the job may show in how long the caller takes.
        """
        if not self._room.acquire(blocking=False):
            if not discreet:
                _finish(job)
            return not discreet
        try:
            self._pool.submit(self._run_and_release, job, time.monotonic() + self._pause if discreet else 0)
        except RuntimeError:  # the interpreter is going down and takes no more
            self._room.release()
            _finish(job)
        return True

    def _run_and_release(self, job: Callable[[], None], not_before: float) -> None:
        try:
            time.sleep(max(0, not_before - time.monotonic()))
            with self._app.app_context():
                _finish(job)
        finally:
            self._room.release()


def _finish(job: Callable[[], None]) -> None:
    try:
        with contextlib.suppress(DeliveryFailed):  # told by signal and log already
            job()
    except Exception as error:
        # Its type alone: no word of a message may come into a log.
        logger.error("a background delivery broke off: %s", type(error).__name__)
