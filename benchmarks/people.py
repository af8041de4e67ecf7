"""What people do to a store, with values of the sizes that the service gives it."""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from flask_otp.config.settings import Settings
from flask_otp.stores import Attempt, ChallengeRequest, RedeemResult, Store

_LOGIN = Settings.from_config({}).purposes["login"]
#: The default one.
POLICY = _LOGIN.policy()

#: Lua cannot take more at one time.
_KEYS = 1000
_COPY = "for _, key in ipairs(KEYS) do redis.call('RESTORE', key, ARGV[2], ARGV[1], 'REPLACE') end"


def subject_of(number: int) -> bytes:
    """The subject with this number: spread over the key space, as real ones are."""
    return blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


class SubjectDriver:
    """One subject of a store, and its newest challenge."""

    def __init__(self, store: Store, subject: bytes) -> None:
        self._store = store
        self._subject = subject
        self._challenge_id = b""

    def ask(self) -> None:
        """A new browser, on a network of its own, asks for a code."""
        self._challenge_id = secrets.token_bytes(16)
        asking = ChallengeRequest(self._challenge_id, secrets.token_bytes(8), secrets.token_bytes(8))
        self._store.open(self._subject, asking, POLICY, int(time.time()))

    def type(self, *, right: bool) -> RedeemResult:
        now = int(time.time())
        attempt = Attempt(self._challenge_id, right, secrets.token_bytes(12), now + _LOGIN.verified_for)
        return self._store.redeem(self._subject, attempt, POLICY, now)

    def verify(self) -> None:
        self.ask()
        self.type(right=True)

    def fail(self, times: int) -> None:
        self.ask()
        for _ in range(times):
            self.type(right=False)


#: What a subject may have behind it, the plain case first.
HISTORIES: dict[str, Callable[[SubjectDriver], None]] = {
    "a live code": SubjectDriver.ask,
    "a code verified, its proof": SubjectDriver.verify,
    "a live code, one failure": lambda person: person.fail(1),
    "a code used up by five failures": lambda person: person.fail(5),
}


def copies(client: Any, prefix: str, count: int) -> None:
    """Give so many subjects in Redis the record that the first one has."""
    model = next(iter(client.scan_iter(f"{prefix}*{_in_key(0).decode()}*")))
    value, life = client.dump(model), client.pttl(model)
    copy = client.register_script(_COPY)
    for start in range(1, count, _KEYS):
        names = [model.replace(_in_key(0), _in_key(number)) for number in range(start, min(start + _KEYS, count))]
        copy(names, [value, life])


def _in_key(number: int) -> bytes:
    return urlsafe_b64encode(subject_of(number)).rstrip(b"=")
