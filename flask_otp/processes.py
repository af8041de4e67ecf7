"""Values that belong to one process: locks, pools and connections, each created at its first use there.

An app is often created in one process and served by others. ``gunicorn --preload`` and uWSGI fork after loading the
app, and a gevent worker replaces the standard library's locks after that. A lock, a pool or a connection from before is
then wrong: it may be held for ever, freeze all greenlets, or be shared with other processes. Fork hooks do not help,
because uWSGI forks without calling them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One value per process id.

    :param make: creates the value, without side effects: if two threads come first, each may create one, and one of the
        two is dropped.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """The value of the calling process."""
        pid = os.getpid()
        try:
            return self._made[pid]
        except KeyError:
            # The inherited value is dropped: its file descriptor is closed here and stays open in the parent.
            for other in list(self._made):
                if other != pid:  # another thread may have created the value of this process since
                    self._made.pop(other, None)
            # No lock is needed here, and none could be trusted: this is one step of the interpreter.
            return self._made.setdefault(pid, self._make())


def lock_per_process() -> PerProcess[threading.Lock]:
    """A lock per process. ``threading.Lock`` is looked up when the lock is created, so gevent's version is used."""
    return PerProcess(lambda: threading.Lock())
