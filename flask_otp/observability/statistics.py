"""Statistics (``OTP_STATS``): a receiver of the signals that counts what is sent, and what comes back.

It counts in the process. Some seconds later a thread adds the counts to the storage of the limits, one counter for each
hour and series, so no request waits for it. No counter's name has an identifier, a network or a code in it.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from flask import Flask

from .. import signals
from ..channels.kept import KEPT_FACTORS
from ..errors import StoreUnavailable
from ..events import Event
from ..processes import PerProcess

logger = logging.getLogger("flask_otp")

#: Seconds that counts stay in the process at most.
FLUSH_AFTER = 10
#: Seconds of one counter, and how long it is kept: Memcached takes more than thirty days for a date.
HOUR, KEPT = 3600, 30 * 86400
#: Upper bounds of the times to verify that are counted together, in seconds. No code lives longer than the last.
BOUNDS = (3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 90, 120, 180, 300, 600)

#: What is counted of a message. Verified codes are counted by their time.
FIRST, REPEATED, FAILED, WITHHELD = "first", "repeated", "failed", "withheld"
VERIFIED = tuple(f"verified-{bound}" for bound in BOUNDS)

#: Every one that was made, for the end of the process.
_all: weakref.WeakSet[Statistics] = weakref.WeakSet()


class Series(NamedTuple):
    """What is counted together: the hour since 1970, and from where to where."""

    hour: int
    channel: str
    country: str
    purpose: str

    def key(self, kind: str = "") -> str:
        """The name of the counter of one kind; without a kind, of the one that says whether there are any."""
        return "/".join(("stats", str(self.hour), self.channel, self.country, self.purpose, kind))


def hour_key(hour: int) -> str:
    """The name of the counter that says whether there is any series in an hour."""
    return f"stats/{hour}"


class _Counts:
    """What one process has counted since its last flush."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[tuple[Series, str]] = Counter()
        self.is_waiting = False


class Statistics:
    """Counts what the signals of one app tell.

    :param tally: adds to a counter: its name, how much, and for how many seconds it is kept.
    """

    def __init__(self, tally: Callable[[str, int, int], int]) -> None:
        self._tally = tally
        self._process = PerProcess(_Counts)
        _all.add(self)

    def connect(self, app: Flask) -> None:
        for signal in (signals.code_sent, signals.delivery_failed, signals.message_withheld, signals.code_verified):
            signal.connect(self._receive, app)

    def _receive(self, sender: Flask, event: Event, **_: Any) -> None:
        kind = _kind(event)
        if kind is None or event.channel is None or event.purpose is None or event.channel in KEPT_FACTORS:
            return
        series = Series(int(event.time) // HOUR, event.channel, event.country or "-", event.purpose)
        process = self._process.get()
        with process.lock:
            process.counts[series, kind] += 1
            is_first, process.is_waiting = not process.is_waiting, True
        if is_first:
            self._flush_later(process)

    def _flush_later(self, process: _Counts) -> None:
        try:
            _run_later(FLUSH_AFTER, self.flush)
        except RuntimeError:
            # The machine has no room for a thread, or the process is about to end. The next event tries again.
            process.is_waiting = False

    def flush(self) -> None:
        """Add what was counted in this process to the storage. What the storage does not take stays for the next time.

        A counter that the storage took without saying so is counted twice.
        """
        process = self._process.get()
        with process.lock:
            counts, process.counts, process.is_waiting = process.counts, Counter(), False
        # First what says that there is something to read: should the storage fail in between, nothing is overlooked.
        index = {hour_key(series.hour) for series, _ in counts} | {series.key() for series, _ in counts}
        try:
            for name in sorted(index):
                self._tally(name, 1, KEPT)
            for series, kind in list(counts):
                self._tally(series.key(kind), counts[series, kind], KEPT)
                del counts[series, kind]
        except StoreUnavailable:
            with process.lock:
                process.counts.update(counts)
        except Exception as error:
            # An observer that breaks must not break what it watches.
            logger.error("statistics were not written: %s", type(error).__name__)


def _run_later(seconds: float, function: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


def _kind(event: Event) -> str | None:
    if event.kind == "code_sent":
        return FIRST if event.reason == "first" else REPEATED
    if event.kind == "delivery_failed":
        return FAILED if event.outcome == "failed" else None
    if event.kind == "message_withheld":
        return WITHHELD
    return VERIFIED[min(bisect_left(BOUNDS, event.seconds or 0), len(BOUNDS) - 1)]


@atexit.register
def _flush_all() -> None:
    for statistics in list(_all):
        statistics.flush()
