"""Decodes the fields of a subject's key, which ``common.lua`` describes."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from ..base import CHANNEL_TAG
from ..record import Bucket, Live, Record, Windows

_PAIR = Struct("<I5s")
#: Bytes of a time, of a time in milliseconds, and of a bucket before its windows.
_TIME, _TIME_MS, _HEAD = 5, 6, 6


def time(raw: bytes) -> int:
    """The time at the start of a value."""
    return int.from_bytes(raw[:_TIME], "little")


def read(pairs: Iterable[tuple[bytes, bytes]]) -> Record:
    """The record with these fields."""
    record, failures = Record(), dict[bytes, Windows]()
    for field, raw in pairs:
        kind, name = field[:1], field[1:]
        if kind == b"c":
            record.challenges[name] = _live(raw)
        elif kind == b"p":
            record.proofs[name] = time(raw)
        elif kind == b"u":
            record.marks[name] = time(raw)
        elif kind == b"l":
            record.buckets[name] = Bucket(time(raw), _windows(raw[_HEAD:]), known=raw[_HEAD - 1] == 1)
        elif kind == b"f":
            failures[name] = _windows(raw)
        elif kind == b"s":
            record.sends = _windows(raw)
        elif kind == b"r":
            record.revoked_ms = int.from_bytes(raw[:_TIME_MS], "little")
    record.failures = failures.pop(b"", [])
    for name, windows in failures.items():
        if name in record.buckets:
            record.buckets[name].failures = windows
    return record


def _live(raw: bytes) -> Live:
    strong, attempts, length = raw[_TIME : _TIME + 3]
    tag_end = _TIME + 3 + length
    bucket_end = tag_end + 1 + raw[tag_end]
    tags = raw[bucket_end:]
    return Live(
        time(raw),
        strong == 1,
        raw[_TIME + 3 : tag_end],
        raw[tag_end + 1 : bucket_end],
        attempts,
        tuple(tags[at : at + CHANNEL_TAG] for at in range(0, len(tags), CHANNEL_TAG)),
    )


def _windows(raw: bytes) -> Windows:
    return [[count, time(end)] for count, end in _PAIR.iter_unpack(raw)]
