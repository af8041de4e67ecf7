"""psycopg connections that wait no longer than a deadline. psycopg itself waits for ever."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

from ..deadline import left

T = TypeVar("T")

#: psycopg resumes its generator when bytes arrive, or after this part of the remaining time.
_LOOKS = 10
_LONGEST_LOOK = 0.1


class BoundedConnection(psycopg.Connection[Any]):
    """A wait that takes too long closes the connection, because it is not known how far the server got."""

    def wait(self, gen: Generator[Any, Any, T], *_: Any, **__: Any) -> T:
        seconds = left()
        try:
            return super().wait(_until(gen, time.monotonic() + seconds), min(seconds / _LOOKS, _LONGEST_LOOK))
        except TimeoutError:
            self.close()
            raise psycopg.OperationalError("the wait for the server timed out") from None


def _until(waiting: Generator[Any, Any, T], end: float) -> Generator[Any, Any, T]:
    """The same generator, but it raises ``TimeoutError`` if it is resumed after the end."""
    try:
        wanted = next(waiting)
        while True:
            ready = yield wanted
            if time.monotonic() > end:
                raise TimeoutError
            wanted = waiting.send(ready)
    except StopIteration as stop:
        result: T = stop.value
        return result


connect = BoundedConnection.connect
