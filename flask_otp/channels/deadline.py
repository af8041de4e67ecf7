"""A deadline that nothing outlasts: a socket's time-out is for one read only, and an app's function may have none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

#: Pieces of work of one kind that may go on in their threads when nobody waits for them any more.
MOST_LEFT_BEHIND = 8


class Deadline:
    """Does one piece of work in a thread of its own, and waits for it no longer than ``seconds``.

    Python can end no thread: work that takes longer is left behind in its own, which is a daemon, so that the
    interpreter ends without it.

    :param left_behind: the earlier work of this kind that still goes on.
    """

    def __init__(self, seconds: float, left_behind: set[Deadline] | None = None) -> None:
        self._seconds = seconds
        self._left_behind = set() if left_behind is None else left_behind
        self._done: Future[None] = Future()
        self._lock = threading.Lock()
        self._is_over = False
        self._cut: Callable[[], None] = lambda: None
        #: The work is, or broke off, at what has nothing to do with the recipient.
        self.is_impersonal = False

    def run(self, work: Callable[[], None]) -> None:
        """Do the work, within a copy of the context variables of this thread, and so of Flask's contexts.

        :raises TimeoutError: it took too long, or too much work before it still goes on.
        :raises Exception: what it raised.
        """
        if len(self._left_behind) >= MOST_LEFT_BEHIND:
            raise TimeoutError(f"{MOST_LEFT_BEHIND} deliveries before this one still hang")
        context = copy_context()
        try:
            threading.Thread(target=context.run, args=(self._do, work), name="flask_otp-channel", daemon=True).start()
        except RuntimeError:
            context.run(self._do, work)  # the interpreter is ending and starts no thread: one of its last deliveries
        wait((self._done,), self._seconds)
        if not self._done.done():
            self._leave()
            raise TimeoutError(f"it took longer than {self._seconds:g} s")
        self._done.result()

    def _do(self, work: Callable[[], None]) -> None:
        _current.set(self)
        try:
            work()
        except Exception as error:
            self._done.set_exception(error)
        except BaseException as error:
            # A time-out of gevent's, or an exit: it ends this thread alone, and the work has failed like any other.
            self._done.set_exception(RuntimeError(type(error).__name__))
        else:
            self._done.set_result(None)

    def _leave(self) -> None:
        self._left_behind.add(self)
        self._done.add_done_callback(lambda _: self._left_behind.discard(self))
        with self._lock:
            self._is_over = True
        self._cut()

    def on_leave(self, cut: Callable[[], None]) -> None:
        """Have ``cut`` called when the work is left behind, or now if it was."""
        with self._lock:
            self._cut = cut
            is_over = self._is_over
        if is_over:
            cut()


_current: ContextVar[Deadline | None] = ContextVar("flask_otp_deadline", default=None)


def cut_when_late(cut: Callable[[], None]) -> None:
    """Have ``cut`` called when the time of the work that we are in is over: it is to end what that waits for."""
    deadline = _current.get()
    if deadline is not None:
        deadline.on_leave(cut)


@contextmanager
def impersonal() -> Iterator[None]:
    """Around what is the same for every recipient: if it fails or hangs, then not because of the one at hand."""
    deadline = _current.get()
    if deadline is not None:
        deadline.is_impersonal = True
    yield
    if deadline is not None:
        deadline.is_impersonal = False
