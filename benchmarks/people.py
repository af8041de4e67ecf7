"""What fills a store, with values of the sizes that the service gives it."""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Any

from flask_otp.config.settings import Settings
from flask_otp.stores import ChallengeRequest, Store

#: The default one.
POLICY = Settings.from_config({}).purposes["login"].policy()

#: Lua cannot take more at one time.
_KEYS = 1000
_COPY = "for _, key in ipairs(KEYS) do redis.call('RESTORE', key, ARGV[2], ARGV[1], 'REPLACE') end"


def subject_of(number: int) -> bytes:
    """The subject with this number: spread over the key space, as real ones are."""
    return blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


def ask(store: Store, number: int, challenge_id: bytes = b"") -> None:
    """A new browser, on a network of its own, asks for a code."""
    names = challenge_id or secrets.token_bytes(16), secrets.token_bytes(8), secrets.token_bytes(8)
    store.open(subject_of(number), ChallengeRequest(*names), POLICY, int(time.time()))


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
