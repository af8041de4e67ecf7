"""Turns bytes into tokens and back. Tokens are signed, or sealed if the client must not read them.

Each kind of token has its own keys. A token has exactly one spelling: base64 allows several spellings of one value, but
only ours is accepted, because two spellings would count as two tokens.
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
#: Sealed bodies are padded to a multiple of this many bytes, so their length does not reveal an address.
_BLOCK = 32
_END = b"\x80"
#: The two characters in which URL-safe base64 differs (RFC 4648, 5).
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


class Opened(NamedTuple):
    """The content of a token, and the keys that it was made with."""

    keys: Keys
    #: Version of the body's layout, one byte.
    version: int
    body: bytes


class Envelope(Protocol):
    """Makes and opens tokens of one kind."""

    def close(self, keys: Keys, version: int, body: bytes) -> str: ...

    def open(self, token: str) -> Opened | None:
        """Return ``None`` if no key of ours made the token, if it was changed, or if it is of another kind.

        :raises ValueError: the text does not have the form of our tokens.
        """


class Signed:
    """Tokens that anyone can read but only we can make: HMAC-SHA256, in the format of ``itsdangerous.Signer``.

    itsdangerous takes three times as long, and can derive a key per token. Here each kind has its own key.
    """

    def __init__(self, kind: str, keyring: Sequence[Keys]) -> None:
        self._keys = {keys: keys.derive(kind) for keys in keyring}

    def close(self, keys: Keys, version: int, body: bytes) -> str:
        text = _encode(bytes([version]) + body)
        return f"{text}.{_signature(self._keys[keys], text)}"

    def open(self, token: str) -> Opened | None:
        text, _, signature = token.rpartition(".")
        for keys, key in self._keys.items():
            # Compared as text, because base64 has other spellings of the same signature.
            if hmac.compare_digest(_signature(key, text), signature):
                data = _decode(text)
                return Opened(keys, data[0], data[1:])
        return None


class Sealed:
    """Tokens that only we can read and make: AES-256-SIV, RFC 5297, with kind and version as associated data.

    SIV resists nonce misuse: a repeated nonce only reveals that two equal bodies are equal. So the nonce can be short
    and random, and a key can make any number of tokens.
    """

    def __init__(self, kind: str, keyring: Sequence[Keys]) -> None:
        self._kind = kind
        self._ciphers = {keys: _cipher(keys, kind) for keys in keyring}

    def close(self, keys: Keys, version: int, body: bytes) -> str:
        # Without a nonce, equal handles would look equal. A client could then notice a change in a member that must
        # stay hidden, such as whether a message was withheld.
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
        # Neither part is ever empty: OpenSSL before 3.0.10 ignored empty parts (CVE-2023-2975).
        return [f"{self._kind}/{version}".encode(), nonce]


def _cipher(keys: Keys, kind: str) -> AESSIV:
    """
    :raises ConfigError: this build of ``cryptography`` has no AES-SIV.
    """
    try:
        # SIV takes two 256-bit keys: one for the tag, one for the cipher.
        return AESSIV(keys.derive(f"{kind}/tag") + keys.derive(f"{kind}/cipher"))
    except UnsupportedAlgorithm as error:
        raise ConfigError(
            "the installed cryptography package has no AES-SIV, which seals handles: it needs OpenSSL 3 without FIPS "
            "mode, as in the package's own wheels",
            see="versions/supported-versions",
        ) from error


def _signature(key: bytes, text: str) -> str:
    return _encode(hmac.digest(key, text.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return b2a_base64(data, newline=False).translate(_TO_URL, b"=").decode()


def _decode(text: str) -> bytes:
    """
    :raises ValueError: the text does not have the form that we write.
    """
    data = a2b_base64(text.encode().translate(_FROM_URL) + b"==")  # extra padding is ignored
    if _encode(data) != text:
        raise ValueError("another spelling")
    return data
