"""Recovery codes: ten strong codes of 65 bits, derived from a random seed and stored nowhere."""

from __future__ import annotations

import hmac
import secrets

from ..crypto.codes import encode_strong, normalise
from .record import FactorRecord

CODES = 10
#: Seconds that the store remembers a used code. The column remembers it for good, and is written at once.
MARKS_LIVE = 86400

_SEED = 32


def new_seed() -> bytes:
    return secrets.token_bytes(_SEED)


def codes(seed: bytes) -> tuple[str, ...]:
    """All codes of a seed, without dashes. At 65 bits no limit of guesses is needed (NIST SP 800-63B-4 3.1.2.2)."""
    return tuple(
        encode_strong(int.from_bytes(hmac.digest(seed, b"recovery code %d" % index, "sha256"), "big"))
        for index in range(CODES)
    )


def read(typed: str) -> str | None:
    """What a person typed as a recovery code; ``None`` if it cannot be one."""
    return normalise(typed, strong=True, length=0)


def find(record: FactorRecord, typed: str) -> int | None:
    """Which of the codes it is, used ones included. Every code is compared, for a person without any too."""
    found = None
    for index, code in enumerate(codes(record.seed or new_seed())):
        if hmac.compare_digest(code, typed) and record.seed:
            found = index
    return found


def left(record: FactorRecord) -> int:
    """How many codes were not used yet."""
    return CODES - record.used.bit_count() if record.seed else 0
