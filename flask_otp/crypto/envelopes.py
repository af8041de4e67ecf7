"""What makes a token of bytes, and bytes of a token: signed, or sealed where the client must not read it.

Each kind of token has its own keys. A token has one spelling: base64 knows several for one value, and all but ours are
refused, so that nobody gets two tokens out of one.
"""

from __future__ import annotations

import hmac
import secrets
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from ..errors import ConfigError
from .keys import Keys

_NONCE = 8
#: A sealed body is filled up to a multiple of so many bytes, so that its length does not tell an address.
_BLOCK = 32
_END = b"\x80"
#: The two characters in which the base64 of addresses is another (RFC 4648, 5).
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


class Opened(NamedTuple):
    """What was in a token, and the keys that it was made with."""

    keys: Keys
    #: Of the body's layout. It is one byte.
    version: int
    body: bytes


class Envelope(Protocol):
    """Makes and opens the tokens of one kind."""

    def close(self, keys: Keys, version: int, body: bytes) -> str: ...

    def open(self, token: str) -> Opened | None:
        """``None``: it was not made with any of our keys, was changed, or is another kind's.

        :raises ValueError: it is not even written as we write tokens.
        """


class Signed:
    """Anybody can read these tokens. Nobody else can make them: HMAC-SHA256, written as ``itsdangerous.Signer`` does.

    Its Signer takes three times as long. It could derive another key for each token; here each kind has its own.
    """

    def __init__(self, kind: str, keyring: Sequence[Keys]) -> None:
        self._keys = {keys: keys.derive(kind) for keys in keyring}

    def close(self, keys: Keys, version: int, body: bytes) -> str:
        text = _encode(bytes([version]) + body)
        return f"{text}.{_signature(self._keys[keys], text)}"

    def open(self, token: str) -> Opened | None:
        text, _, signature = token.rpartition(".")
        for keys, key in self._keys.items():
            # As text, since base64 has other spellings of the same signature.
            if hmac.compare_digest(_signature(key, text), signature):
                data = _decode(text)
                return Opened(keys, data[0], data[1:])
        return None


class Sealed:
    """Nobody else can read or make these tokens: AES-256-SIV, RFC 5297, with kind and version as associated data.

    SIV is misuse-resistant: a nonce that comes twice shows that two equal bodies are equal, and nothing else. So the
    nonce may be short and random, and no number of tokens is too many for a key.
    """

    def __init__(self, kind: str, keyring: Sequence[Keys]) -> None:
        self._kind = kind
        self._ciphers = {keys: _cipher(keys, kind) for keys in keyring}

    def close(self, keys: Keys, version: int, body: bytes) -> str:
        # Without a nonce, the same handle would look the same. A client could then tell that a member has changed
        # which it must not see, such as whether a message was withheld.
        nonce = secrets.token_bytes(_NONCE)
        filled = body + _END
        filled += bytes(-len(filled) % _BLOCK)
        return _encode(bytes([version]) + nonce + self._ciphers[keys].encrypt(filled, self._bound(version, nonce)))

    def open(self, token: str) -> Opened | None:
        data = _decode(token)
        version, nonce, sealed = data[0], data[1 : 1 + _NONCE], data[1 + _NONCE :]
        for keys, cipher in self._ciphers.items():
            try:
                filled = cipher.decrypt(sealed, self._bound(version, nonce))
            except InvalidTag:
                continue
            return Opened(keys, version, filled.rstrip(b"\0")[:-1])
        return None

    def _bound(self, version: int, nonce: bytes) -> list[bytes]:
        # Neither is ever empty: OpenSSL before 3.0.10 left out what is (CVE-2023-2975).
        return [f"{self._kind}/{version}".encode(), nonce]


def _cipher(keys: Keys, kind: str) -> AESSIV:
    """
    :raises ConfigError: this build of ``cryptography`` has no AES-SIV.
    """
    try:
        # SIV takes two keys of 256 bits: one for its tag, one for its cipher.
        return AESSIV(keys.derive(f"{kind}/tag") + keys.derive(f"{kind}/cipher"))
    except UnsupportedAlgorithm as error:
        raise ConfigError(
            "the cryptography package of this environment has no AES-SIV, with which handles are sealed: it needs "
            "OpenSSL 3 without FIPS mode, as the package's own wheels have it"
        ) from error


def _signature(key: bytes, text: str) -> str:
    return _encode(hmac.digest(key, text.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return b2a_base64(data, newline=False).translate(_TO_URL, b"=").decode()


def _decode(text: str) -> bytes:
    """
    :raises ValueError: this is not how we write it.
    """
    data = a2b_base64(text.encode().translate(_FROM_URL) + b"==")  # surplus padding is passed over
    if _encode(data) != text:
        raise ValueError("another spelling")
    return data
