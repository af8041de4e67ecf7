"""A deadline that nothing outlasts: a socket's time-out is for one read only, and an app's function may have none."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

from ..processes import PerProcess

#: Pieces of work of one kind that may go on in their threads when no caller waits for them any more.
MOST_LEFT_BEHIND = 8

_Job = Callable[[], None]


class Threads:
    """Threads that do one job after the other, since a new one for each takes longer than many a job.

    A job that hangs keeps its thread, and the next job gets another. They are daemons: the interpreter ends without
    them.
    """

    #: So many may wait for a job, each so many seconds. What is needed no more ends.
    MOST_WAITING = 8
    PATIENCE = 60.0

    def __init__(self) -> None:
        # A fork takes the list along and leaves the threads behind.
        self._waiting: PerProcess[list[queue.SimpleQueue[_Job]]] = PerProcess(list)

    def start(self, job: _Job) -> None:
        """Do the job in another thread. It must not raise.

        :raises RuntimeError: no thread can be started: the interpreter is ending.
        """
        waiting = self._waiting.get()
        try:
            inbox = waiting.pop()
        except IndexError:
            inbox = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(inbox, waiting), name="flask_otp-waiting", daemon=True).start()
        inbox.put(job)

    def _work(self, inbox: queue.SimpleQueue[_Job], waiting: list[queue.SimpleQueue[_Job]]) -> None:
        thread = threading.current_thread()
        job: _Job | None = inbox.get()
        while job is not None:
            thread.name = "flask_otp-channel"
            job()
            job = None  # else it would keep a request's contexts until the next one
            thread.name = "flask_otp-waiting"
            if len(waiting) < self.MOST_WAITING:
                waiting.append(inbox)
                job = self._next(inbox, waiting)

    def _next(self, inbox: queue.SimpleQueue[_Job], waiting: list[queue.SimpleQueue[_Job]]) -> _Job | None:
        try:
            return inbox.get(timeout=self.PATIENCE)
        except queue.Empty:
            try:
                waiting.remove(inbox)
            except ValueError:
                return inbox.get()  # somebody has just taken it from there, with a job
            return None


_threads = Threads()


class Deadline:
    """Does one piece of work in another thread, and waits for it no longer than ``seconds``.

    Python can end no thread: work that takes longer is left behind in its own.

    :param left_behind: the earlier work of this kind that still goes on.
    """

    def __init__(self, seconds: float, left_behind: set[Deadline] | None = None) -> None:
        self._seconds = seconds
        self._left_behind = set() if left_behind is None else left_behind
        self._outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_done = False
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
            _threads.start(lambda: context.run(self._do, work))
        except RuntimeError:
            context.run(self._do, work)  # one of the interpreter's last deliveries
        error = self._wait()
        if error is not None:
            try:
                raise error
            finally:
                error = None  # its traceback has this frame, and so would keep the contexts of a request

    def _do(self, work: Callable[[], None]) -> None:
        _current.set(self)
        error: Exception | None = None
        try:
            work()
        except Exception as raised:
            error = raised
        except BaseException as raised:
            # A time-out of gevent's, or an exit: it ends this work alone, which has failed like any other.
            error = RuntimeError(type(raised).__name__)
        with self._lock:
            self._is_done = True
            self._left_behind.discard(self)
        self._outcome.put(error)
        error = None  # its traceback has this frame

    def _wait(self) -> Exception | None:
        """What the work raised, if anything.

        :raises TimeoutError: it took too long.
        """
        try:
            return self._outcome.get(timeout=self._seconds)
        except queue.Empty:
            if not self._leave():
                return self._outcome.get()  # it ended at the very last moment
        raise TimeoutError(f"it took longer than {self._seconds:g} s")

    def _leave(self) -> bool:
        with self._lock:
            if self._is_done:
                return False
            self._is_over = True
            self._left_behind.add(self)
        self._cut()
        return True

    def on_leave(self, cut: Callable[[], None]) -> None:
        """Have ``cut`` called when the work is left behind, or now if it was."""
        with self._lock:
            self._cut = cut
            is_over = self._is_over
        if is_over:
            cut()


_current: ContextVar[Deadline | None] = ContextVar("flask_otp_deadline", default=None)


def cut_when_late(cut: Callable[[], None]) -> None:
    """Call ``cut`` when the time of the current work has passed. It must end what that work waits for."""
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
