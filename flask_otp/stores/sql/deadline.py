"""When a verb gives up: one time-out for each wait, and an end of all waits together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Thread
from typing import Any, TypeVar

from ...errors import StoreUnavailable

T = TypeVar("T")

#: A verb takes at most so many time-outs. Below 2: a connection that a balancer has forgotten costs one time-out, and
#: what is left must be enough for a new connection.
_ALL_WAITS = 1.75

#: So much of a time-out is left for a new connection when an old one was silent, and for a free place in the pool.
RECONNECTING = _ALL_WAITS - 1

#: Seconds. A socket with a time-out of 0 would not wait at all, and tell another error.
SHORTEST = 0.001

#: Seconds for a wait that is in no verb.
_OUTSIDE = 60.0


class Deadline:
    """The time that one verb has for its connection and its statements.

    :param timeout: seconds for each wait.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._end = time.monotonic() + _ALL_WAITS * timeout
        self._has_connected = False

    def left(self) -> float:
        """Seconds that the next wait may take."""
        return max(0.0, min(self._timeout, self._end - time.monotonic()))

    def connecting(self) -> float:
        """As :meth:`left`, for a wait that ends with a new connection."""
        self._has_connected = True
        return self.left()

    def may_reconnect(self) -> bool:
        """Whether a new connection may do better: the one that failed was old, and there is time left."""
        return not self._has_connected and self.left() > 0


_current: ContextVar[Deadline | None] = ContextVar("flask_otp_sql_deadline", default=None)


@contextmanager
def within(timeout: float) -> Iterator[Deadline]:
    """Bound all waits of this block."""
    deadline = Deadline(timeout)
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)


def left() -> float:
    """Seconds that the next wait of the verb that we are in may take."""
    deadline = _current.get()
    return _OUTSIDE if deadline is None else deadline.left()


def connecting() -> float:
    """As :func:`left`, for a wait that ends with a new connection."""
    deadline = _current.get()
    return _OUTSIDE if deadline is None else deadline.connecting()


def connect_within(timeout: float, connect: Callable[[], T]) -> T:
    """What ``connect`` gives, if it does within the time-out. A connection that comes later is closed.

    The thread is for the look-up of the server's name: libpq and Python leave it to the C library, which has no
    time-out for it.

    :param timeout: in seconds.
    :raises StoreUnavailable: it was too slow.
    """
    made: Future[T] = Future()

    def run() -> None:
        try:
            made.set_result(connect())
        except BaseException as error:
            made.set_exception(error)

    Thread(target=copy_context().run, args=(run,), name="flask_otp connect", daemon=True).start()
    wait((made,), timeout)
    if made.done():
        return made.result()
    made.add_done_callback(_close_late)
    raise StoreUnavailable


def _close_late(made: Future[Any]) -> None:
    if made.exception() is None:
        made.result().close()
