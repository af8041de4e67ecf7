"""Encodes a record as bytes, which use a fraction of the objects' memory and are the content of a database row.

Numbers are written with seven bits per byte, lowest first, the last byte below 128. Times are written as their distance
before the record's own expiry, which is never earlier: most take three bytes.
"""

from __future__ import annotations

from .base import CHANNEL_TAG
from .record import Bucket, Live, Record, Windows

#: A flag in a challenge's number of attempts: its channels follow. Older records never set it.
_HAS_CHANNELS = 64


def pack(record: Record) -> bytes:
    expires_at = record.expires_at()
    data = bytearray()
    _put(data, expires_at)
    _put(data, record.revoked_ms)
    _put_windows(data, record.failures, expires_at)
    _put_windows(data, record.sends, expires_at)
    _put(data, len(record.challenges))
    for challenge_id, live in record.challenges.items():
        _put_text(data, challenge_id)
        _put(data, expires_at - live.expires_at)
        _put(data, live.attempts << 1 | live.strong | (_HAS_CHANNELS if live.channels else 0))
        _put_text(data, live.session_tag)
        _put_text(data, live.bucket)
        if live.channels:
            _put_text(data, b"".join(live.channels))
    _put(data, len(record.buckets))
    for bucket_id, bucket in record.buckets.items():
        _put_text(data, bucket_id)
        _put(data, expires_at - bucket.ready_at)
        _put(data, bucket.known)
        _put_windows(data, bucket.sends, expires_at)
        _put_windows(data, bucket.failures, expires_at)
    _put(data, len(record.proofs))
    for proof_id, proof_expires_at in record.proofs.items():
        _put_text(data, proof_id)
        _put(data, expires_at - proof_expires_at)
    # Last, and only if there are any marks: older records still open, and a record without marks is as short as before.
    for mark, mark_expires_at in record.marks.items():
        _put_text(data, mark)
        _put(data, expires_at - mark_expires_at)
    return bytes(data)


def unpack(data: bytes) -> Record:
    """
    :raises IndexError: the bytes are incomplete.
    """
    reader = _Reader(data)
    expires_at = reader.number()
    record = Record(revoked_ms=reader.number())
    record.failures = reader.windows(expires_at)
    record.sends = reader.windows(expires_at)
    for _ in range(reader.number()):
        challenge_id, ends, state = reader.text(), expires_at - reader.number(), reader.number()
        session_tag, bucket = reader.text(), reader.text()
        tags = reader.text() if state & _HAS_CHANNELS else b""
        channels = tuple(tags[at : at + CHANNEL_TAG] for at in range(0, len(tags), CHANNEL_TAG))
        attempts = (state & ~_HAS_CHANNELS) >> 1
        record.challenges[challenge_id] = Live(ends, bool(state & 1), session_tag, bucket, attempts, channels)
    for _ in range(reader.number()):
        bucket_id, ready_at, known = reader.text(), expires_at - reader.number(), bool(reader.number())
        sends, failures = reader.windows(expires_at), reader.windows(expires_at)
        record.buckets[bucket_id] = Bucket(ready_at, sends, failures, known)
    for _ in range(reader.number()):
        proof_id = reader.text()
        record.proofs[proof_id] = expires_at - reader.number()
    while reader.has_more():
        mark = reader.text()
        record.marks[mark] = expires_at - reader.number()
    return record


def expiry_of(data: bytes) -> int:
    """When the record expires, without unpacking it."""
    return _Reader(data).number()


def _put(data: bytearray, number: int) -> None:
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)


def _put_text(data: bytearray, text: bytes) -> None:
    _put(data, len(text))
    data += text


def _put_windows(data: bytearray, windows: Windows, expires_at: int) -> None:
    _put(data, len(windows))
    for count, end in windows:
        _put(data, count)
        _put(data, expires_at - end)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def has_more(self) -> bool:
        return self._at < len(self._data)

    def number(self) -> int:
        data, at = self._data, self._at
        byte, shift = data[at], 7
        number = byte & 127
        while byte > 127:
            at += 1
            byte = data[at]
            number |= (byte & 127) << shift
            shift += 7
        self._at = at + 1
        return number

    def text(self) -> bytes:
        length = self.number()
        start, self._at = self._at, self._at + length
        return self._data[start : self._at]

    def windows(self, expires_at: int) -> Windows:
        return [[self.number(), expires_at - self.number()] for _ in range(self.number())]
