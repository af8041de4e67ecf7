"""The store for development and for sites with one process: a bounded dict under one lock, without a timer thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..errors import ConfigError, StoreUnavailable
from ..outages import Cause
from ..processes import lock_per_process
from .codec import expiry_of, pack, unpack
from .record import Record
from .record_store import RecordStore

T = TypeVar("T")

#: Records that each change checks for expiry: more than the one it may add, so the sweep is faster than the growth, and
#: few enough that no request waits for it.
_SWEEP = 3
_SWEEP_WHEN_FULL = 200


class MemoryStore(RecordStore):
    """All state is lost with the process, and each process has its own counts.

    :param max_subjects: if this many subjects have state that still matters, the next new one gets 503. Live state is
        never dropped.
    """

    def __init__(self, *, max_subjects: int = 100_000) -> None:
        if not isinstance(max_subjects, int) or max_subjects < 1:
            raise ConfigError("OTP_STORAGE_OPTIONS: max_subjects must be a whole number above 0")
        self._max = max_subjects
        self._lock = lock_per_process()
        # One table per first byte of a subject. No table gets so large that growing it, or listing it for the sweep,
        # delays a request.
        self._tables: dict[bytes, dict[bytes, bytes]] = {}
        self._size = 0
        self._round = self._begin_round()

    def load(self, subject: bytes) -> Record:
        packed = self._tables.get(subject[:1], {}).get(subject[1:])
        return Record() if packed is None else unpack(packed)

    def change(self, subject: bytes, now: int, verb: Callable[[Record], T]) -> T:
        with self._lock.get():
            self._sweep(now)
            record = self.load(subject)
            answer = verb(record)
            if subject[1:] not in self._tables.get(subject[:1], ()):
                if record.expires_at() <= now:
                    return answer
                self._make_room(now)
                self._size += 1
            # The table is looked up now, because the sweep removes empty tables.
            self._tables.setdefault(subject[:1], {})[subject[1:]] = pack(record)
            return answer

    def _make_room(self, now: int) -> None:
        if self._size >= self._max:
            self._sweep(now, _SWEEP_WHEN_FULL)
        if self._size >= self._max:
            raise StoreUnavailable(cause=Cause("full", "max_subjects"))

    def _sweep(self, now: int, most: int = _SWEEP) -> None:
        for _ in range(most):
            place = next(self._round, None)
            if place is None:
                self._round = self._begin_round()
            elif expiry_of(place[0][place[1]]) <= now:
                del place[0][place[1]]
                self._size -= 1

    def _begin_round(self) -> Iterator[tuple[dict[bytes, bytes], bytes]]:
        """Each table and key in turn. Only the sweep removes keys, so each one still exists when its turn comes."""
        for first, table in list(self._tables.items()):
            yield from ((table, key) for key in list(table))
            if not table:
                del self._tables[first]


def from_uri(uri: str, prefix: str, options: dict[str, Any]) -> MemoryStore:
    if uri != "memory://":
        raise ConfigError("OTP_STORAGE_URI: for the memory store it must be 'memory://'")
    try:
        return MemoryStore(**options)
    except TypeError:
        raise ConfigError("OTP_STORAGE_OPTIONS: memory:// takes only max_subjects") from None
