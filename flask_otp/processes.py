"""Values that belong to one process: locks, pools and connections, each made at its first use there.

An app is often made in one process and served by others. ``gunicorn --preload`` and uWSGI fork after the app was
loaded, and a worker of gevent changes the standard library's locks after that. A lock, a pool or a connection that was
made before is the wrong one then: it may be held for ever, freeze all greenlets, or be shared with other processes.
Hooks on forks are no help, since uWSGI forks without calling any.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One value for each process id.

    :param make: makes the value, without a side effect: two threads that come first may each make one, and one of the
        two is dropped.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """The value of the process that calls."""
        pid = os.getpid()
        try:
            return self._made[pid]
        except KeyError:
            # What was inherited is let go: a connection's file descriptor is closed here, and stays open in the parent.
            for other in list(self._made):
                self._made.pop(other, None)
            # No lock is needed here, and none could be trusted: this is one step of the interpreter.
            return self._made.setdefault(pid, self._make())


def lock_per_process() -> PerProcess[threading.Lock]:
    """A lock for each process. ``threading.Lock`` is looked up when the lock is made, so that gevent's is found."""
    return PerProcess(lambda: threading.Lock())
