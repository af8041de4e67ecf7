"""Deadlines of a verb: a timeout for each wait, and a limit for all waits together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Thread
from traceback import clear_frames
from typing import Any, TypeVar

from ...errors import StoreUnavailable
from ...outages import Cause

T = TypeVar("T")

#: Maximum duration of a verb, in timeouts. Below 2: a connection that a load balancer has dropped costs one timeout,
#: and the rest must be enough for a new connection.
_ALL_WAITS = 1.75

#: Part of a timeout kept for a new connection after an old one was silent, and for a free place in the pool.
RECONNECTING = _ALL_WAITS - 1

#: Seconds. A socket with a timeout of 0 would not wait at all and raise a different error.
SHORTEST = 0.001

#: Why a verb fails whose time has passed, where no driver raises an error for it.
TOO_LATE = Cause("timeout", "TimeoutError")

#: Seconds for a wait outside any verb.
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
        """Like :meth:`left`, for a wait that ends with a new connection."""
        self._has_connected = True
        return self.left()

    def may_reconnect(self) -> bool:
        """Whether a new connection may help: the failed one was old, and there is time left."""
        return not self._has_connected and self.left() > 0


_current: ContextVar[Deadline | None] = ContextVar("flask_otp_sql_deadline", default=None)


@contextmanager
def within(timeout: float) -> Iterator[Deadline]:
    """Limit all waits of this block."""
    deadline = Deadline(timeout)
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)


def left() -> float:
    """Seconds that the next wait of the current verb may take."""
    deadline = _current.get()
    return _OUTSIDE if deadline is None else deadline.left()


def connecting() -> float:
    """Like :func:`left`, for a wait that ends with a new connection."""
    deadline = _current.get()
    return _OUTSIDE if deadline is None else deadline.connecting()


def connect_within(timeout: float, connect: Callable[[], T]) -> T:
    """The result of ``connect``, if it arrives within the timeout. A connection that arrives later is closed.

    The thread is for the DNS lookup of the server's name: libpq and Python leave it to the C library, which has no
    timeout for it.

    :param timeout: in seconds.
    :raises StoreUnavailable: connecting took too long.
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
    raise StoreUnavailable(cause=TOO_LATE)


def _close_late(made: Future[Any]) -> None:
    error = made.exception()
    if error is None:
        made.result().close()
    while error is not None:
        # The frames of its traceback would keep the driver's half-open connection until the garbage collection.
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
