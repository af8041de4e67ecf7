"""A bounded pool of threads for deliveries that a request does not wait for."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

from flask import Flask

from .errors import DeliveryFailed

logger = logging.getLogger("flask_otp")

_WORKERS = 4
_WAITING = 256


class Background:
    """Runs jobs in an app context. What still waits when the interpreter ends is done first."""

    def __init__(self, app: Flask, workers: int = _WORKERS, waiting: int = _WAITING) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="flask_otp")
        self._room = BoundedSemaphore(workers + waiting)

    def run(self, job: Callable[[], None], *, inline_when_full: bool) -> bool:
        """Do the job soon. When too many are waiting, do it at once in this thread, or else answer ``False``."""
        if not self._room.acquire(blocking=False):
            if inline_when_full:
                _finish(job)
            return inline_when_full
        try:
            self._pool.submit(self._run_and_release, job)
        except RuntimeError:  # the interpreter is going down and takes no more
            self._room.release()
            _finish(job)
        return True

    def _run_and_release(self, job: Callable[[], None]) -> None:
        try:
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
