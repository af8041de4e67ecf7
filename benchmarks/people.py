"""What people do to a store, verb by verb, with values of the sizes that the service gives it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import fields
from hashlib import blake2b

from flask_otp.config.settings import Settings
from flask_otp.stores import Attempt, ChallengeRequest, Policy, RedeemResult, Store

_RULES = Settings.from_config({}).purposes["login"]
#: The default one.
POLICY = Policy(**{item.name: getattr(_RULES, item.name) for item in fields(Policy) if hasattr(_RULES, item.name)})


def subject_of(number: int) -> bytes:
    """The subject with this number: spread over the key space, as real ones are."""
    return blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


class SubjectDriver:
    """One subject of a store, and its newest challenge."""

    def __init__(self, store: Store, subject: bytes) -> None:
        self._store = store
        self._subject = subject
        self.challenge_id = b""
        self.proof_id = b""

    def ask(self, *, known_bucket: bytes = b"") -> None:
        """A new browser, on a network of its own, asks for a code."""
        now = int(time.time())
        self.challenge_id = secrets.token_bytes(16)
        asking = ChallengeRequest(
            self.challenge_id, secrets.token_bytes(8), secrets.token_bytes(8), known_bucket, now * 1000
        )
        self._store.open(self._subject, asking, POLICY, now)

    def type(self, *, right: bool) -> RedeemResult:
        now = int(time.time())
        self.proof_id = secrets.token_bytes(12)
        attempt = Attempt(self.challenge_id, right, self.proof_id, now + _RULES.verified_for)
        return self._store.redeem(self._subject, attempt, POLICY, now)

    def visit(self) -> bool:
        """The guard asks."""
        return self._store.holds(self._subject, self.proof_id, int(time.time()))

    def log_out(self) -> bool:
        return self._store.spend(self._subject, self.proof_id, int(time.time()))

    def revoke(self) -> None:
        self._store.revoke(self._subject, int(time.time() * 1000))


def _asked(person: SubjectDriver) -> None:
    person.ask()


def _verified(person: SubjectDriver) -> None:
    person.ask()
    person.type(right=True)


def _one_failure(person: SubjectDriver) -> None:
    _failed(person, 1)


def _five_failures(person: SubjectDriver) -> None:
    _failed(person, 5)


def _failed(person: SubjectDriver, times: int) -> None:
    person.ask()
    for _ in range(times):
        person.type(right=False)


def _twice(person: SubjectDriver) -> None:
    person.ask()
    person.ask()


def _twenty_networks(person: SubjectDriver) -> None:
    for _ in range(20):
        person.ask()


def _known(person: SubjectDriver) -> None:
    _verified(person)
    person.ask(known_bucket=secrets.token_bytes(8))


def _revoked(person: SubjectDriver) -> None:
    _verified(person)
    person.revoke()


#: What a subject may have behind it, the plain case first.
HISTORIES: dict[str, Callable[[SubjectDriver], None]] = {
    "a live code": _asked,
    "a code verified, its proof": _verified,
    "a live code, one failure": _one_failure,
    "a code used up by five failures": _five_failures,
    "two live codes, from two networks": _twice,
    "20 live codes, from 20 networks: an hour's limit": _twenty_networks,
    "a proof, and a live code of that browser": _known,
    "revoked": _revoked,
}
