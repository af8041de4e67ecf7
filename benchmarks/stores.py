"""What fills a store, with values of the sizes that the service gives it."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from hashlib import blake2b
from secrets import token_bytes
from typing import Any

from flask_otp.config.settings import Settings
from flask_otp.stores import ChallengeRequest, Store

#: The default one.
POLICY = Settings.from_config({}).purposes["login"].policy()
#: Of the one challenge that each subject has.
ID = b"the id of a code"
#: Lua cannot take more at one time.
_KEYS = 1000
_COPY = "for _, key in ipairs(KEYS) do redis.call('RESTORE', key, ARGV[2], ARGV[1], 'REPLACE') end"


def subject_of(number: int) -> bytes:
    """The subject with this number: spread over the key space, as real ones are."""
    return blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


def fill(store: Store, count: int, client: Any = None) -> None:
    """Give so many subjects a live code each. With the client of a Redis they are copies of the first one's record."""
    for number in range(1 if client else count):
        # Each has an object of its own for the id, as each has in an app.
        asked = ChallengeRequest(bytes(bytearray(ID)), token_bytes(8), token_bytes(8))
        store.open(subject_of(number), asked, POLICY, int(time.time()))
    if client:
        model = next(client.scan_iter(f"*{_in_key(0).decode()}*"))
        value, life, copy = client.dump(model), client.pttl(model), client.register_script(_COPY)
        names = [model.replace(_in_key(0), _in_key(number)) for number in range(1, count)]
        for start in range(0, len(names), _KEYS):
            copy(names[start : start + _KEYS], [value, life])


def _in_key(number: int) -> bytes:
    return urlsafe_b64encode(subject_of(number)).rstrip(b"=")
