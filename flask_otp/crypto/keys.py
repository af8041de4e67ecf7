"""Everything computed from ``SECRET_KEY``: one derived key for each use, and the values computed with them.

Nothing here is stored. An attacker with the whole store, but without the secret, cannot compute any code.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from functools import cached_property

from .codes import encode_strong


class Keys:
    """The keys derived from one secret, for one app (its ``namespace``)."""

    def __init__(self, secret: bytes, namespace: str) -> None:
        self._secret = secret
        self._namespace = namespace

    def __repr__(self) -> str:
        return "<Keys>"

    def derive(self, use: str) -> bytes:
        """The key for one use. Other uses, and other apps with the same secret, get other keys."""
        return _mac(self._secret, b"flask_otp/1", self._namespace.encode(), use.encode())

    @cached_property
    def _subject_key(self) -> bytes:
        return self.derive("subject")

    @cached_property
    def _code_key(self) -> bytes:
        return self.derive("code")

    def subject(self, purpose: str, identifier: str) -> bytes:
        """The subject, which owns a failure budget: 128 bits that hide the identifier without the key."""
        return _mac(self._subject_key, purpose.encode(), identifier.encode())[:16]

    def tag(self, *parts: bytes) -> bytes:
        """A 64-bit pseudonym, for values that only need to differ within one subject."""
        return _mac(self._subject_key, b"tag", *parts)[:8]

    def code(
        self, challenge_id: bytes, *, purpose: str, subject: bytes, context: bytes, strong: bool, length: int
    ) -> str:
        """The code of a challenge: always the same for one challenge, and different for others.

        A digit code is a 256-bit number modulo 10^length, so its bias is below 2^-215. A strong code has 65 bits.
        Source of the size: NIST SP 800-63B-4 3.1.3.2.
        """
        kind = b"strong" if strong else b"%d digits" % length
        digest = _mac(self._code_key, challenge_id, purpose.encode(), subject, context, kind)
        number = int.from_bytes(digest, "big")
        return encode_strong(number) if strong else f"{number % 10**length:0{length}d}"

    def link(self, challenge_id: bytes, *, purpose: str, subject: bytes, context: bytes) -> str:
        """The secret in a challenge's link: 144 bits in base64url. Derived like the code and not stored."""
        digest = _mac(self._code_key, challenge_id, purpose.encode(), subject, context, b"link")
        return urlsafe_b64encode(digest[:18]).decode()


def _mac(key: bytes, *parts: bytes) -> bytes:
    # Each part is preceded by its length, so different lists of parts never give the same bytes.
    message = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    return hmac.digest(key, message, "sha256")
