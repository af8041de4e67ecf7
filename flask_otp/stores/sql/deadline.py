"""Time-outs for database drivers that have none, or only long ones: psycopg waits for a silent server for ever."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import Any, TypeVar

from ...errors import StoreUnavailable

T = TypeVar("T")

#: The clock is looked at so often in a time-out, but after so many seconds at the latest; and so often in vain.
_LOOKS = 10
_PAUSE = 0.1
_IDLE_LOOKS = 20


class Deadlines:
    """Cuts the connections that have been in use for too long, by one thread that ends when there is nothing to watch.

    :param timeout: seconds for one use.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self.reset()

    def reset(self) -> None:
        """Begin anew: after a fork, the thread is not there any more, and the lock may never be released."""
        self._lock = Lock()
        self._running: dict[object, tuple[float, socket.socket]] = {}
        self._is_watching = False

    def start(self, use: object, descriptor: int) -> None:
        """From now on the connection with this file descriptor is in use."""
        # A descriptor of our own: the driver may close its own at any time, and the number may then be another file's.
        own = socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM)
        self.end(use)
        with self._lock:
            self._running[use] = (time.monotonic() + self._timeout, own)
            if not self._is_watching:
                self._is_watching = True
                Thread(target=self._watch, name="flask_otp deadlines", daemon=True).start()

    def end(self, use: object) -> None:
        """It is in use no more."""
        with self._lock:
            _, own = self._running.pop(use, (0, None))
        if own is not None:
            own.close()

    def _watch(self) -> None:
        idle = 0
        while idle < _IDLE_LOOKS:
            time.sleep(min(self._timeout / _LOOKS, _PAUSE))
            with self._lock:
                now = time.monotonic()
                overdue = [use for use, (until, _) in self._running.items() if until <= now]
                for use in overdue:
                    _cut(self._running.pop(use)[1])
                idle = 0 if self._running else idle + 1
                self._is_watching = idle < _IDLE_LOOKS


def _cut(own: socket.socket) -> None:
    """End the conversation, for every descriptor of the connection: whoever waits on it wakes."""
    with contextlib.suppress(OSError):
        own.shutdown(socket.SHUT_RDWR)
    own.close()


def connect_within(timeout: float, connect: Callable[[], T]) -> T:
    """What ``connect`` gives, if it does within the time-out. A connection that comes later is closed.

    :param timeout: in seconds.
    :raises StoreUnavailable: it was too slow.
    """
    made: Future[T] = Future()

    def run() -> None:
        try:
            made.set_result(connect())
        except BaseException as error:
            made.set_exception(error)

    Thread(target=run, name="flask_otp connect", daemon=True).start()
    wait((made,), timeout)
    if made.done():
        return made.result()
    made.add_done_callback(_close_late)
    raise StoreUnavailable


def _close_late(made: Future[Any]) -> None:
    if made.exception() is None:
        made.result().close()
