"""The store for production: one key per subject, and one script, and so one round trip, per verb.

Redis and Valkey as a single server, a Cluster or with Sentinels, as the URI says (:mod:`~flask_otp.redis_clients.uri`).
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from redis import ResponseError

from ...errors import StoreUnavailable
from ...redis_clients.server import OUTAGES, Client, Replicated, Script, Server
from ...redis_clients.uri import connect, replicas_to_wait_for
from ..base import (
    CHANNEL_TAG,
    KNOWN_BROWSER_FOR,
    KNOWN_BROWSERS,
    LEEWAY,
    MAX_CHANNELS,
    NOBODY,
    RATION,
    Attempt,
    ChallengeRequest,
    Claim,
    Gates,
    OpenOutcome,
    OpenResult,
    Policy,
    Rates,
    RedeemOutcome,
    RedeemResult,
    Store,
)
from ..record import Record
from . import fields

#: The script files of each verb.
_SCRIPTS = {
    "open": ("state", "open"),
    "redeem": ("redeem",),
    "check": ("state", "check"),
    "discard": ("discard",),
    "note": ("note",),
    "spend": ("spend",),
    "revoke": ("revoke",),
    "unlock": ("unlock",),
}
#: Scripts that can also count the limits' rules.
_GATED = ("open", "redeem", "check")
#: First item of an answer of ``gates.lua``.
_LIMITED = 0

#: A server that cannot save to disk refuses changes, but its data is complete.
_DISK_IS_BROKEN = "MISCONF"


class RedisStore(Store):
    """State in Redis or Valkey. Safe for any number of processes and machines."""

    def __init__(self, uri: str, prefix: str = "otp", options: dict[str, Any] | None = None) -> None:
        replicas = replicas_to_wait_for(options or {})
        self.client = connect(uri, options or {})
        #: The client that was compared last, and whether it talks to our server.
        self._compared: tuple[object, bool] = self, False
        self._changing: Client = Replicated(self.client, replicas) if replicas else self.client
        self._prefix = prefix
        common = (
            f"local KNOWN_BROWSER_FOR, KNOWN_BROWSERS, LEEWAY = {KNOWN_BROWSER_FOR}, {KNOWN_BROWSERS}, {LEEWAY}\n"
            f"local CHANNEL_TAG, MAX_CHANNELS = {CHANNEL_TAG}, {MAX_CHANNELS}\n"
            f"local RATION = '{RATION.decode()}'\n" + _source("common")
        )
        parts = {name: "".join(map(_source, files)) for name, files in _SCRIPTS.items()}
        plain = common + "local function count_failures() end\n"
        self._scripts = {name: Script(self._changing, plain + part) for name, part in parts.items()}
        gates = common + _source("gates")
        self._gated = {name: Script(self._changing, gates + parts[name]) for name in _GATED}
        self._gates: Gates | None = None

    def open(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        return self._open(subject, request, policy, now, resend=0)

    def reopen(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        return self._open(subject, request, policy, now, resend=1)

    def _open(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int, resend: int) -> OpenResult:
        answer = self._run(
            "open",
            subject,
            now,
            resend,
            request.challenge_id,
            request.bucket,
            request.session_tag,
            request.known_bucket,
            request.known_since,
            int(request.surge),
            int(request.once),
            request.channel,
            policy.expires_in,
            policy.max_attempts,
            policy.cooldown,
            _packed(policy.send_limit),
            _packed(policy.recipient_limit),
            _packed(policy.failure_budget),
            int(policy.refuse),
        )
        outcome = OpenOutcome(answer[0])
        if outcome is OpenOutcome.GONE:
            return OpenResult(outcome)
        if outcome is OpenOutcome.WAIT:
            return OpenResult(outcome, retry_after=answer[1])
        _, challenge_id, strong, fresh, expires_at, ready_at, known, bucket, bucket_ends, subject_ends = answer
        return OpenResult(
            outcome,
            challenge_id,
            bool(strong),
            bool(fresh),
            expires_at,
            ready_at,
            known=bool(known),
            bucket=bucket,
            bucket_ends=tuple(bucket_ends),
            subject_ends=tuple(subject_ends),
        )

    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        outcome, spent, bucket, *more = self._run(
            "redeem",
            subject,
            now,
            attempt.challenge_id,
            int(attempt.matches),
            attempt.proof_id,
            attempt.proof_expires_at,
            int(attempt.surge),
            policy.expires_in,
            policy.max_attempts,
            _packed(policy.failure_budget),
        )
        if outcome == RedeemOutcome.MATCH.value:
            (tags,) = more
            channels = tuple(tags[at : at + CHANNEL_TAG] for at in range(0, len(tags), CHANNEL_TAG))
            return RedeemResult(RedeemOutcome.MATCH, bucket=bucket, channels=channels)
        is_last, *counts = more or (0,)
        self._note_failures(counts)
        return RedeemResult(RedeemOutcome(outcome), bool(spent), bucket, is_last=bool(is_last))

    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        uses: list[bytes | int] = []
        for use in claim.uses:
            uses += [len(use), *use]
        outcome, spent, bucket, retry_after, *counts = self._run(
            "check",
            subject,
            now,
            int(claim.matches),
            int(claim.strong),
            int(claim.rationed),
            int(claim.surge),
            claim.bucket,
            claim.known_bucket,
            claim.known_since,
            claim.proof_id,
            claim.proof_expires_at,
            claim.marks_expire_at,
            _packed(policy.send_limit),
            _packed(policy.recipient_limit),
            _packed(policy.failure_budget),
            int(policy.refuse),
            *uses,
        )
        self._note_failures(counts)
        return RedeemResult(RedeemOutcome(outcome), bool(spent), bucket, retry_after)

    def discard(self, subject: bytes, opened: OpenResult, now: int) -> None:
        ends = json.dumps([opened.bucket_ends, opened.subject_ends])
        self._run("discard", subject, opened.challenge_id, int(opened.fresh), opened.bucket, ends)

    def drop(self, subject: bytes, challenge_id: bytes, now: int) -> None:
        key = self._key(subject)
        try:
            self._changing.exchange(key, ("HDEL", key, b"c" + challenge_id))
        except OUTAGES as error:
            raise StoreUnavailable from error

    def is_live(self, subject: bytes, challenge_id: bytes, now: int) -> bool:
        return self._end_of(subject, b"c" + challenge_id) > now

    def note(self, subject: bytes, mark: bytes, expires_at: int, now: int) -> bool:
        return bool(self._run("note", subject, now, mark, expires_at))

    def noted(self, subject: bytes, prefix: bytes, now: int) -> dict[bytes, int]:
        start = b"p" + prefix
        ends = {name[1:]: fields.time(raw) for name, raw in self._read(subject) if name.startswith(start)}
        return {name: end for name, end in ends.items() if end > now}

    def inspect(self, subject: bytes, now: int) -> Record:
        return fields.read(self._read(subject)).at(now)

    def _read(self, subject: bytes) -> Iterable[tuple[bytes, bytes]]:
        """All fields of the subject's key, with their bytes."""
        found = self._ask(subject, "HGETALL")
        # Newer Redis protocols return a map, older ones a flat list of names and values.
        return found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)

    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return self._end_of(subject, b"p" + proof_id) > now

    def _end_of(self, subject: bytes, field: bytes) -> int:
        """When the challenge or proof expires, which is the first value in its field. 0 without a field."""
        return fields.time(self._ask(subject, "HGET", field) or b"")

    def _ask(self, subject: bytes, name: str, *args: bytes) -> Any:
        """Read from a server that accepts writes.

        A replica may lack a revocation. So the read is preceded by a write that changes nothing. Replicas refuse it, as
        does a master that has lost its replicas (``min-replicas-to-write``). Both commands are sent together.
        """
        key = self._key(subject)
        question = (name, key, *args)
        try:
            try:
                return self.client.exchange(key, ("HDEL", key, b""), question)[1]
            except ResponseError as error:
                if not str(error).startswith(_DISK_IS_BROKEN):
                    raise
            return self.client.exchange(key, question)[0]
        except OUTAGES as error:
            raise StoreUnavailable from error

    def spend(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return bool(self._run("spend", subject, now, proof_id))

    def revoke(self, subject: bytes, now_ms: int) -> None:
        self._run("revoke", subject, now_ms)

    def unlock(self, subject: bytes, now: int) -> bool:
        return bool(self._run("unlock", subject, now))

    def probe(self, now: int) -> None:
        super().probe(now)
        # Deletes nothing, and is refused like any change: by a replica, or by a master that cannot save to disk.
        self.drop(NOBODY, b"", now)

    def close(self) -> None:
        self.client.close()

    def servers(self) -> list[Server]:
        """A client of each server that holds our keys, for ``flask otp doctor``."""
        return self.client.servers()

    def is_on_server_of(self, client: object) -> bool:
        # A Cluster would need all keys in one slot, and a count that replicas do not know must not fail a verb.
        compared, is_same = self._compared
        if compared is not client:
            is_same = (
                self._changing is self.client
                and isinstance(self.client, Server)
                and _place(self.client) == _place(client)
            )
            # Called on each request, about the same client.
            self._compared = client, is_same
        return is_same

    def gated(self, gates: Gates) -> RedisStore:
        store = RedisStore.__new__(RedisStore)
        store.__dict__.update(self.__dict__, _gates=gates)
        return store

    def _run(self, name: str, subject: bytes, *args: bytes | str | int) -> Any:
        key, gates = self._key(subject), self._gates
        try:
            if gates is None:
                return self._scripts[name]([key], args)
            answer = self._gated[name]([key, *gates.keys], (*gates.arguments, *args))
        except OUTAGES as error:
            raise StoreUnavailable from error
        if answer[0] == _LIMITED:
            gates.refuse(answer[1] - 1, answer[2])
        return answer

    def _note_failures(self, counts: list[list[int]]) -> None:
        if counts and self._gates is not None and counts[0]:
            self._gates.note_failures(counts[0])

    def _key(self, subject: bytes) -> str:
        # The braces make the subject the hash slot, so all keys that a verb may touch are on one node.
        return f"{self._prefix}:{{{urlsafe_b64encode(subject).rstrip(b'=').decode()}}}"


def _place(client: Any) -> tuple[Any, ...]:
    """The server, database and account that a redis-py client talks to."""
    known = client.connection_pool.connection_kwargs
    return tuple(known.get(name) for name in ("host", "port", "path", "db", "username"))


@lru_cache(maxsize=256)
def _packed(rates: Rates) -> bytes:
    """In the format that the scripts read: see common.lua."""
    return b"".join(amount.to_bytes(4, "little") + period.to_bytes(5, "little") for amount, period in rates)


def _source(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8") + "\n"


def from_uri(uri: str, prefix: str, options: dict[str, Any]) -> RedisStore:
    return RedisStore(uri, prefix, options)
