"""A deadline for the whole delivery: a socket's timeout covers only one read, and an app's function may have none."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

from ..processes import PerProcess

#: Maximum abandoned jobs of one kind that may still run in their threads.
MOST_LEFT_BEHIND = 8

_Job = Callable[[], None]


class Threads:
    """Threads that each run one job after another, because starting a new thread takes longer than many jobs.

    A job that hangs keeps its thread, and the next job gets another one. The threads are daemons, so the interpreter
    exits without waiting for them.
    """

    #: At most this many threads wait for a job, each this many seconds. Idle threads then end.
    MOST_WAITING = 8
    PATIENCE = 60.0

    def __init__(self) -> None:
        # A fork copies the list but not the threads.
        self._waiting: PerProcess[list[queue.SimpleQueue[_Job]]] = PerProcess(list)

    def start(self, job: _Job) -> None:
        """Run the job in another thread. The job must not raise.

        :raises RuntimeError: no thread can be started, because the interpreter is shutting down.
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
            job = None  # otherwise the thread keeps a request's contexts until its next job
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
                return inbox.get()  # another thread has just taken this inbox and put a job in
            return None


_threads = Threads()


class Deadline:
    """Runs one job in another thread and waits for it at most ``seconds``.

    Python cannot stop a thread. A job that takes longer is abandoned and keeps running in its thread.

    :param left_behind: earlier abandoned jobs of this kind that still run.
    """

    def __init__(self, seconds: float, left_behind: set[Deadline] | None = None) -> None:
        self._seconds = seconds
        self._left_behind = set() if left_behind is None else left_behind
        self._outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_done = False
        self._is_over = False
        self._cut: Callable[[], None] = lambda: None
        #: The job was, or failed, in a part that does not depend on the recipient.
        self.is_impersonal = False

    def run(self, work: Callable[[], None]) -> None:
        """Run the job with a copy of this thread's context variables, which include Flask's contexts.

        :raises TimeoutError: the job took too long, or too many earlier jobs still run.
        :raises Exception: what the job raised.
        """
        if len(self._left_behind) >= MOST_LEFT_BEHIND:
            raise TimeoutError(f"{MOST_LEFT_BEHIND} deliveries before this one still hang")
        context = copy_context()
        try:
            _threads.start(lambda: context.run(self._do, work))
        except RuntimeError:
            context.run(self._do, work)  # the interpreter is shutting down
        error = self._wait()
        if error is not None:
            try:
                raise error
            finally:
                error = None  # its traceback refers to this frame, which would keep a request's contexts alive

    def _do(self, work: Callable[[], None]) -> None:
        _current.set(self)
        error: Exception | None = None
        try:
            work()
        except Exception as raised:
            error = raised
        except BaseException as raised:
            # A gevent timeout or an exit ends only this job, which has then failed like any other.
            error = RuntimeError(type(raised).__name__)
        with self._lock:
            self._is_done = True
            self._left_behind.discard(self)
        self._outcome.put(error)
        error = None  # its traceback refers to this frame

    def _wait(self) -> Exception | None:
        """The exception that the job raised, if any.

        :raises TimeoutError: the job took too long.
        """
        try:
            return self._outcome.get(timeout=self._seconds)
        except queue.Empty:
            if not self._leave():
                return self._outcome.get()  # the job ended at the last moment
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
        """Call ``cut`` when the job is abandoned, or now if it already is."""
        with self._lock:
            self._cut = cut
            is_over = self._is_over
        if is_over:
            cut()


_current: ContextVar[Deadline | None] = ContextVar("flask_otp_deadline", default=None)


def cut_when_late(cut: Callable[[], None]) -> None:
    """Call ``cut`` when the current job passes its deadline. ``cut`` must end whatever the job waits for."""
    deadline = _current.get()
    if deadline is not None:
        deadline.on_leave(cut)


@contextmanager
def impersonal() -> Iterator[None]:
    """Use around steps that are the same for every recipient: a failure or hang there is not the recipient's fault."""
    deadline = _current.get()
    if deadline is not None:
        deadline.is_impersonal = True
    yield
    if deadline is not None:
        deadline.is_impersonal = False
