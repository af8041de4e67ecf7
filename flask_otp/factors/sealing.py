"""Data that the app or a client stores for us, sealed with AES-GCM under a key derived from ``SECRET_KEY``.

Secrets of authenticator apps live for years, so they are random, not derived. A dump of the app's table is useless
without ``SECRET_KEY``. The sealed text is bound to an identifier: copied to another user's row, it does not open.
AES-GCM with a random 96-bit nonce is safe for 2^32 texts under one key (NIST SP 800-38D section 8.3).
"""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..crypto.keys import Keys

#: Maximum characters of a sealed text.
MAX_SEALED = 4096

_VERSION = "1"
_PREFIX = f"{_VERSION}."
_NONCE = 12


def seal(keys: Keys, kind: str, identifier: str, data: Any) -> str:
    """Seal a JSON value. The text reveals nothing and opens only with the same ``kind`` and ``identifier``."""
    nonce = secrets.token_bytes(_NONCE)
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    sealed = AESGCM(keys.derive(kind)).encrypt(nonce, text, _bound_to(kind, identifier))
    return _PREFIX + urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()


def unseal(keyring: Sequence[Keys], kind: str, identifier: str, text: str) -> tuple[Any, Keys] | None:
    """Return the value and the keys that opened it, or ``None`` if no key opens it or its version is unknown."""
    if not text.startswith(_PREFIX) or len(text) > MAX_SEALED:
        return None
    try:
        # More padding than needed is ignored, as are the spaces that a column of fixed width adds.
        raw = urlsafe_b64decode(text[len(_PREFIX) :] + "==")
    except ValueError:
        return None
    for keys in keyring:
        try:
            opened = AESGCM(keys.derive(kind)).decrypt(raw[:_NONCE], raw[_NONCE:], _bound_to(kind, identifier))
        except (InvalidTag, ValueError):
            continue
        return json.loads(opened), keys
    return None


def _bound_to(kind: str, identifier: str) -> bytes:
    return f"flask_otp/{kind}/{_VERSION}\0{identifier}".encode()
