"""A circuit breaker: a step that fails repeatedly is asked last, and by one message at a time."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from ..processes import lock_per_process

#: Failures in a row that open a circuit, and seconds before its next trial.
FAILURES = 5
PAUSE = 30


class Entry(Enum):
    """How a message passed a circuit."""

    REFUSED = "refused"
    FREE = "free"
    TRIAL = "trial"


class Circuit:
    """Closed at first. Every message that entered must :meth:`leave`, whatever its outcome.

    :param clock: returns seconds. If it is set back, a trial comes sooner, never later.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = lock_per_process()
        self._failures = 0
        self._retry_at: float | None = None
        self._is_on_trial = False

    def enter(self, *, is_last_resort: bool) -> Entry:
        """Let a message in. An open circuit admits one at a time: after the pause, or earlier as a last resort."""
        now = self._clock()
        with self._lock.get():
            if self._retry_at is None:
                return Entry.FREE
            is_pausing = self._retry_at - PAUSE <= now < self._retry_at
            if self._is_on_trial or (is_pausing and not is_last_resort):
                return Entry.REFUSED
            self._is_on_trial = True
            return Entry.TRIAL

    def leave(self, entry: Entry, works: bool | None) -> bool | None:
        """Record the result, ``None`` if unknown. Returns whether the circuit is open now, or ``None`` if unchanged."""
        now = self._clock()
        with self._lock.get():
            was_open = self._retry_at is not None
            if entry is Entry.TRIAL:
                self._is_on_trial = False
            if works:
                self._failures, self._retry_at = 0, None
            elif works is False:
                self._failures += 1
                self._retry_at = now + PAUSE if self._failures >= FAILURES else None
            is_open = self._retry_at is not None
        return None if is_open is was_open else is_open
