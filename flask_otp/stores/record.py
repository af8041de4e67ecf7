"""The state of one subject, as :meth:`~flask_otp.stores.Store.inspect` returns it and as most stores keep it."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Seconds that a browser stays known after its last verification, and that a revocation is remembered for it.
KNOWN_BROWSER_FOR = 180 * 86400

#: One ``[count, end]`` per rate: the events since the window's first one, and when the window ends.
Windows = list[list[int]]


@dataclass(slots=True)
class Bucket:
    ready_at: int = 0
    sends: Windows = field(default_factory=list)
    failures: Windows = field(default_factory=list)
    known: bool = False


@dataclass(slots=True)
class Live:
    """An outstanding challenge. ``bucket`` is set if a known browser's own failure budget pays for its failures."""

    expires_at: int
    strong: bool
    session_tag: bytes
    bucket: bytes
    attempts: int = 0
    #: Tags of the channels that the code went out by.
    channels: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Record:
    failures: Windows = field(default_factory=list)
    sends: Windows = field(default_factory=list)
    challenges: dict[bytes, Live] = field(default_factory=dict)
    buckets: dict[bytes, Bucket] = field(default_factory=dict)
    proofs: dict[bytes, int] = field(default_factory=dict)
    revoked_ms: int = 0
    marks: dict[bytes, int] = field(default_factory=dict)

    def prune(self, now: int) -> None:
        """Drop everything that has expired."""
        self.challenges = {key: live for key, live in self.challenges.items() if live.expires_at > now}
        self.buckets = {
            key: bucket
            for key, bucket in self.buckets.items()
            if max(bucket.ready_at, end_of(bucket.sends), end_of(bucket.failures)) > now
        }
        self.proofs = {key: expires_at for key, expires_at in self.proofs.items() if expires_at > now}
        self.marks = {key: expires_at for key, expires_at in self.marks.items() if expires_at > now}

    def expires_at(self) -> int:
        """When everything in the record has expired."""
        return max(
            end_of(self.failures),
            end_of(self.sends),
            self.revoked_ms // 1000 + KNOWN_BROWSER_FOR,
            *(live.expires_at for live in self.challenges.values()),
            *(max(bucket.ready_at, end_of(bucket.sends), end_of(bucket.failures)) for bucket in self.buckets.values()),
            *self.proofs.values(),
            *self.marks.values(),
        )

    def at(self, now: int) -> Record:
        """A copy without expired state: every store returns the same copy for the same state."""
        is_revoked = self.revoked_ms // 1000 + KNOWN_BROWSER_FOR > now
        seen = Record(
            _under_way(self.failures, now),
            _under_way(self.sends, now),
            self.challenges,
            self.buckets,
            self.proofs,
            self.revoked_ms if is_revoked else 0,
            self.marks,
        )
        seen.prune(now)
        seen.buckets = {
            name: Bucket(
                bucket.ready_at if bucket.ready_at > now else 0,
                _under_way(bucket.sends, now),
                _under_way(bucket.failures, now),
                bucket.known,
            )
            for name, bucket in seen.buckets.items()
        }
        return seen


def end_of(windows: Windows) -> int:
    """When the last window ends."""
    return max((end for _, end in windows), default=0)


def _under_way(windows: Windows, now: int) -> Windows:
    if end_of(windows) <= now:
        return []
    return [[count, end] if end > now else [0, 0] for count, end in windows]
