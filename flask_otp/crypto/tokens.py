"""The tokens that clients hold (handles, proofs, requirements, kept forms, known browsers), and queued messages.

Tokens with content that the client must not read (an address that it did not give, or whether something was sent) are
sealed completely. Proofs and known browsers are signed. A token that is not ours is read as ``None``, never as an
error.

Older keys in ``SECRET_KEY_FALLBACKS`` open all kinds of token. They make only tokens of challenges that they made.
"""

from __future__ import annotations

import json
import struct
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from .envelopes import Envelope, Sealed, Signed
from .keys import Keys
from .payloads import Handle, KnownBrowser, NextSend, Proof, Requirement

MAX_TOKEN = 4096
#: The layout of new tokens. A changed layout gets the next number, and the reader of the previous one is kept.
_VERSION = 2
#: The layout of proofs whose code went out by several channels. The channel names come last.
_SEVERAL_CHANNELS = 3
#: The layout of queued messages while ``OTP_DELIVER_ONLY_TO`` is set. Only a worker that has the setting reads it.
_FOR_FEW = 3
#: Before layouts had numbers, tokens were JSON lists with ids in base64. The first byte of a list is their number.
_LIST = ord("[")
_PROOFS, _HANDLES = 1000, 100
_NUMBERS = 14
#: Subject, bucket, and since when.
_KNOWN = struct.Struct(">16s8sQ")

T = TypeVar("T")


class Tokens:
    """Makes new tokens with the first key and opens tokens with any key.

    :param for_few: whether messages may go to some addresses only, which a worker of the queue must know too.
    """

    def __init__(self, keyring: Sequence[Keys], *, for_few: bool = False) -> None:
        self.keyring = tuple(keyring)
        self._handle = Sealed("handle", self.keyring)
        self._requirement = Sealed("requirement", self.keyring)
        self._repeat = Sealed("repeat", self.keyring)
        self._delivery = Sealed("delivery", self.keyring)
        self._next = Sealed("next", self.keyring)
        self._queued = _FOR_FEW if for_few else _VERSION
        self._call = Sealed("call", self.keyring)
        self._proof = Signed("proof", self.keyring)
        self._known = Signed("known", self.keyring)
        # A session shows the same proof on each request, and a request reads its browser's challenge several times.
        # Only our own tokens are cached, so clients cannot fill the caches with others.
        self._proofs: dict[str, Proof] = {}
        self._handles: dict[str, Handle] = {}

    @property
    def keys(self) -> Keys:
        return self.keyring[0]

    def dump_handle(self, handle: Handle) -> str:
        # A handle keeps the key that its code was derived with, so a resend after a key rotation sends the same code.
        return self._handle.close(handle.keys, _VERSION, _write_handle(handle))

    def load_handle(self, token: object) -> Handle | None:
        if not isinstance(token, str):
            return None
        handle = self._handles.get(token)
        if handle is None:
            handle = _load(self._handle, token, {_VERSION: _read_handle})
            if handle is not None:
                if len(self._handles) >= _HANDLES:
                    self._handles = {}
                self._handles[token] = handle
        return handle

    def dump_proof(self, proof: Proof) -> str:
        # A proof that was read keeps its text, even if the previous release made it: a proof has one spelling.
        version = _SEVERAL_CHANNELS if proof.others else _VERSION
        return proof.token or self._proof.close(proof.keys, version, _write_proof(proof))

    def load_proof(self, token: object) -> Proof | None:
        if not isinstance(token, str):
            return None
        proof = self._proofs.get(token)
        if proof is None:
            readers = {
                _VERSION: partial(_read_proof, token),
                _SEVERAL_CHANNELS: partial(_read_proof, token),
                _LIST: partial(_read_proof_list, token),
            }
            proof = _load(self._proof, token, readers)
            if proof is not None:
                if len(self._proofs) >= _PROOFS:
                    self._proofs = {}
                self._proofs[token] = proof
        return proof

    def dump_requirement(self, asked: Requirement) -> str:
        return self._requirement.close(self.keys, _VERSION, _write_requirement(asked))

    def load_requirement(self, token: object) -> Requirement | None:
        return _load(self._requirement, token, {_VERSION: _read_requirement})

    def dump_repeat(self, context: bytes, values: Sequence[Any]) -> str:
        """Seal a kept form: JSON values, and the context that it is bound to."""
        return self._repeat.close(self.keys, _VERSION, _pack([context], values))

    def load_repeat(self, token: object, build: Callable[[bytes, list[Any]], T]) -> T | None:
        def read(keys: Keys, body: bytes) -> T:
            [context], values = _unpack(body, 1)
            return build(context, values)

        return _load(self._repeat, token, {_VERSION: read})

    def dump_delivery(self, handle: str, recipient: str, message_id: str, locale: str) -> str:
        return self._delivery.close(self.keys, self._queued, _pack([], [handle, recipient, message_id, locale]))

    def load_delivery(self, token: object) -> tuple[str, str, str, str] | None:
        """The handle, recipient, message id and locale of a queued delivery."""

        def read(keys: Keys, body: bytes) -> tuple[str, str, str, str]:
            handle, recipient, message_id, locale = _unpack(body, 0)[1]
            return handle, recipient, message_id, locale

        return _load(self._delivery, token, {_VERSION: read, self._queued: read})

    def dump_next(self, next_send: NextSend) -> str:
        return self._next.close(self.keys, self._queued, _write_next(next_send))

    def load_next(self, token: object) -> NextSend | None:
        return _load(self._next, token, {_VERSION: _read_next, self._queued: _read_next})

    def dump_call(self, values: Sequence[Any]) -> str:
        """Seal the contents of a telephone call: JSON values, including the code."""
        return self._call.close(self.keys, _VERSION, _pack([], values))

    def load_call(self, token: object) -> list[Any] | None:
        return _load(self._call, token, {_VERSION: lambda keys, body: _unpack(body, 0)[1]})

    def dump_known(self, known: Sequence[KnownBrowser]) -> str:
        body = b"".join([_KNOWN.pack(each.subject, each.bucket, each.since) for each in known])
        return self._known.close(self.keys, _VERSION, body)

    def load_known(self, token: object) -> list[KnownBrowser]:
        return _load(self._known, token, {_VERSION: _read_known, _LIST: _read_known_list}) or []


def _load(envelope: Envelope, token: object, readers: Mapping[int, Callable[[Keys, bytes], T]]) -> T | None:
    """
    :param readers: the readers by layout version.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN or not token.isascii():
        return None
    try:
        opened = envelope.open(token)
        return readers[opened.version](opened.keys, opened.body) if opened else None
    except (ValueError, TypeError, LookupError, struct.error):
        return None  # not base64, or our token of a version with another layout


def _write_handle(handle: Handle) -> bytes:
    # One-digit bit fields: a longer handle would reveal who is a test recipient.
    flags = int(handle.is_decoy) | int(handle.is_test) << 1 | int(handle.is_typed) << 2
    # The handle must not reveal who has a phone either.
    numbers = [] if handle.numbers is None else [handle.numbers.ljust(_NUMBERS)]
    return _pack(
        [handle.challenge_id, handle.context],
        [
            handle.purpose,
            handle.channel,
            int(handle.strong),
            handle.length,
            handle.expires_at,
            handle.ready_at,
            handle.identifier,
            flags,
            handle.context_values,
            handle.user,
            *numbers,
        ],
    )


def _read_handle(keys: Keys, body: bytes) -> Handle:
    (challenge_id, context), values = _unpack(body, 2)
    purpose, channel, strong, length, expires_at, ready_at, identifier, flags, context_values, user, *numbers = values
    return Handle(
        challenge_id=challenge_id,
        purpose=purpose,
        channel=channel,
        context=context,
        strong=bool(strong),
        length=length,
        expires_at=expires_at,
        ready_at=ready_at,
        identifier=identifier,
        is_decoy=bool(flags & 1),
        context_values=context_values,
        keys=keys,
        user=user,
        is_test=bool(flags & 2),
        is_typed=bool(flags & 4),
        numbers=numbers[0].rstrip() if numbers else None,
    )


def _write_proof(proof: Proof) -> bytes:
    return _pack(
        [proof.proof_id, proof.context],
        [proof.purpose, proof.channel, proof.verified_at, proof.expires_at, proof.identifier, *proof.others],
    )


def _read_proof(token: str, keys: Keys, body: bytes) -> Proof:
    (proof_id, context), (purpose, channel, verified_at, expires_at, identifier, *others) = _unpack(body, 2)
    return Proof(proof_id, purpose, channel, context, verified_at, expires_at, identifier, keys, token, tuple(others))


def _read_proof_list(token: str, keys: Keys, rest: bytes) -> Proof:
    proof_id, purpose, channel, context, verified_at, expires_at, identifier = _read_list(rest)
    return Proof(_bytes(proof_id), purpose, channel, _bytes(context), verified_at, expires_at, identifier, keys, token)


def _write_requirement(asked: Requirement) -> bytes:
    return _pack(
        [asked.context],
        [asked.purpose, asked.channels, asked.expires_at, asked.identifier, asked.context_values, asked.user],
    )


def _read_requirement(keys: Keys, body: bytes) -> Requirement:
    [context], (purpose, channels, expires_at, identifier, context_values, user) = _unpack(body, 1)
    return Requirement(purpose, context, context_values, identifier, tuple(channels), expires_at, user)


def _write_next(next_send: NextSend) -> bytes:
    return _pack(
        [next_send.bucket, next_send.known_bucket],
        [
            next_send.handle,
            next_send.channels,
            next_send.due_at,
            next_send.locale,
            next_send.network,
            next_send.known_since,
        ],
    )


def _read_next(keys: Keys, body: bytes) -> NextSend:
    (bucket, known_bucket), (handle, channels, due_at, locale, network, known_since) = _unpack(body, 2)
    return NextSend(handle, tuple(channels), due_at, locale, network, bucket, known_bucket, known_since)


def _read_known(keys: Keys, body: bytes) -> list[KnownBrowser]:
    return [KnownBrowser(*entry) for entry in _KNOWN.iter_unpack(body)]


def _read_known_list(keys: Keys, rest: bytes) -> list[KnownBrowser]:
    return [KnownBrowser(_bytes(subject), _bytes(bucket), since) for subject, bucket, since in _read_list(rest)]


def _pack(ids: Sequence[bytes], values: Sequence[Any]) -> bytes:
    """Ids as bytes, each preceded by its length, followed by a list of JSON values."""
    return b"".join([bytes([len(each)]) + each for each in ids]) + _to_json(values).encode()


def _unpack(body: bytes, count: int) -> tuple[list[bytes], list[Any]]:
    """The ids and the list from the output of :func:`_pack` with ``count`` ids."""
    ids = []
    for _ in range(count):
        end = 1 + body[0]
        ids.append(body[1:end])
        body = body[end:]
    return ids, _from_json(body.decode())


def _read_list(rest: bytes) -> list[Any]:
    values: list[Any] = _from_json("[" + rest.decode())
    return values


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")  # extra padding is ignored


_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_from_json = json.JSONDecoder().decode
