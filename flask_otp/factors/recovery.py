"""Recovery codes: ten strong codes of 65 bits, derived from a random seed and not stored."""

from __future__ import annotations

import hmac
import secrets

from ..crypto.codes import STRONG_LENGTH, encode_strong, normalise
from .record import FactorRecord

CODES = 10
#: Seconds that the store remembers a used code. The column is updated at once and remembers it for good.
MARKS_LIVE = 86400


def new_seed() -> bytes:
    return secrets.token_bytes(32)


def codes(seed: bytes) -> tuple[str, ...]:
    """All codes of a seed, without dashes. 65-bit codes need no limit of guesses (NIST SP 800-63B-4 3.1.2.2)."""
    return tuple(
        encode_strong(int(hmac.digest(seed, b"recovery code %d" % index, "sha256").hex(), 16)) for index in range(CODES)
    )


def read(typed: str) -> str | None:
    """Normalise a typed recovery code. Returns ``None`` if it cannot be one."""
    return normalise(typed, strong=True, length=STRONG_LENGTH)


def find(record: FactorRecord, typed: str) -> int | None:
    """Index of the typed code, also for used codes. All codes are compared, even if the person has none."""
    found = None
    for index, code in enumerate(codes(record.seed or new_seed())):
        if hmac.compare_digest(code, typed) and record.seed:
            found = index
    return found


def left(record: FactorRecord) -> int:
    """Number of unused codes."""
    return CODES - record.used.bit_count() if record.seed else 0
