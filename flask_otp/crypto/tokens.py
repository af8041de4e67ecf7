"""The signed strings that clients hold: handles, proofs, requirements, kept forms, deliveries, and known browsers.

Each kind has its own key, derived from ``SECRET_KEY``. The older keys of ``SECRET_KEY_FALLBACKS`` open, and sign only
what belongs to a challenge that was made under them.
Nobody outside this file sees an itsdangerous exception: a token that is not ours is ``None``.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from itsdangerous import BadSignature, Signer

from .keys import Keys
from .payloads import Handle, KnownBrowser, Proof, Requirement

MAX_TOKEN = 4096
_PROOFS = 1000
_NUMBERS = 14


T = TypeVar("T")


class Tokens:
    """Signs what is new with the first of the keys, opens with any."""

    def __init__(self, keyring: Sequence[Keys]) -> None:
        self.keyring = tuple(keyring)
        self._signers = {
            kind: tuple(_signer(keys, kind) for keys in self.keyring)
            for kind in ("handle", "proof", "requirement", "repeat", "delivery", "known")
        }
        # A session shows the same proof at each request. None that is not ours gets in, so that nobody can fill it.
        self._proofs: dict[str, Proof] = {}

    @property
    def keys(self) -> Keys:
        return self.keyring[0]

    def dump_handle(self, handle: Handle) -> str:
        # Two bits in one digit: a longer handle would tell who is a test recipient.
        nobody = int(handle.is_decoy) | int(handle.is_test) << 1
        # Nor must it tell who has a phone.
        numbers = [] if handle.numbers is None else [handle.numbers.ljust(_NUMBERS)]
        data = [
            _text(handle.challenge_id),
            handle.purpose,
            handle.channel,
            _text(handle.context),
            int(handle.strong),
            handle.length,
            handle.expires_at,
            handle.ready_at,
            _seal(handle.keys, [handle.identifier, nobody, handle.context_values, handle.user, *numbers]),
        ]
        # A handle keeps the key that its code was derived with: a resend after a rotation sends the same code.
        return self._dump("handle", data, handle.keys)

    def load_handle(self, token: object) -> Handle | None:
        def build(keys: Keys, data: list[Any]) -> Handle:
            challenge_id, purpose, channel, context, strong, length, expires_at, ready_at, sealed = data
            identifier, nobody, context_values, user, *numbers = _unseal(keys, sealed)
            return Handle(
                _bytes(challenge_id),
                purpose,
                channel,
                _bytes(context),
                bool(strong),
                length,
                expires_at,
                ready_at,
                identifier,
                bool(nobody & 1),
                context_values,
                keys,
                user,
                bool(nobody & 2),
                numbers[0].rstrip() if numbers else None,
            )

        return self._load("handle", token, build)

    def dump_proof(self, proof: Proof) -> str:
        data = [
            _text(proof.proof_id),
            proof.purpose,
            proof.channel,
            _text(proof.context),
            proof.verified_at,
            proof.expires_at,
            proof.identifier,
        ]
        return self._dump("proof", data, proof.keys)

    def load_proof(self, token: object) -> Proof | None:
        if isinstance(token, str) and token in self._proofs:
            return self._proofs[token]

        def build(keys: Keys, data: list[Any]) -> Proof:
            proof_id, purpose, channel, context, verified_at, expires_at, identifier = data
            return Proof(_bytes(proof_id), purpose, channel, _bytes(context), verified_at, expires_at, identifier, keys)

        proof = self._load("proof", token, build)
        if proof is not None:
            if len(self._proofs) >= _PROOFS:
                self._proofs = {}
            self._proofs[str(token)] = proof
        return proof

    def dump_requirement(self, asked: Requirement) -> str:
        sealed = _seal(self.keys, [asked.identifier, asked.context_values, asked.user])
        data = [asked.purpose, _text(asked.context), list(asked.channels), asked.expires_at, sealed]
        return self._dump("requirement", data, self.keys)

    def load_requirement(self, token: object) -> Requirement | None:
        def build(keys: Keys, data: list[Any]) -> Requirement:
            purpose, context, channels, expires_at, sealed = data
            identifier, context_values, user = _unseal(keys, sealed)
            return Requirement(purpose, _bytes(context), context_values, identifier, tuple(channels), expires_at, user)

        return self._load("requirement", token, build)

    def dump_sealed(self, kind: str, data: Sequence[Any]) -> str:
        """Sealed as a whole, which is shorter: what is sealed within a token is encoded twice."""
        return self._sign(kind, _seal(self.keys, list(data)), self.keys)

    def load_sealed(self, kind: str, token: object, build: Callable[[list[Any]], T]) -> T | None:
        return self._open(kind, token, lambda keys, payload: build(_unseal(keys, payload)))

    def dump_delivery(self, handle: str, recipient: str, message_id: str, locale: str) -> str:
        return self._dump("delivery", [handle, _seal(self.keys, [recipient]), message_id, locale], self.keys)

    def load_delivery(self, token: object) -> tuple[str, str, str, str | None] | None:
        """The handle, the recipient, the message's id and the locale of a delivery that waits in a queue."""

        def build(keys: Keys, data: list[Any]) -> tuple[str, str, str, str | None]:
            # One that has waited since before there were languages names none.
            handle, sealed, message_id, locale = (*data, None) if len(data) == 3 else data
            return handle, _unseal(keys, sealed)[0], message_id, locale

        return self._load("delivery", token, build)

    def dump_known(self, known: Sequence[KnownBrowser]) -> str:
        return self._dump("known", [[_text(k.subject), _text(k.bucket), k.since] for k in known], self.keys)

    def load_known(self, token: object) -> list[KnownBrowser]:
        def build(keys: Keys, data: list[Any]) -> list[KnownBrowser]:
            return [KnownBrowser(_bytes(subject), _bytes(bucket), since) for subject, bucket, since in data]

        return self._load("known", token, build) or []

    def _dump(self, kind: str, data: list[Any], keys: Keys) -> str:
        return self._sign(kind, _text(_to_json(data).encode()), keys)

    def _load(self, kind: str, token: object, build: Callable[[Keys, list[Any]], T]) -> T | None:
        return self._open(kind, token, lambda keys, payload: build(keys, _from_json(_bytes(payload).decode())))

    def _sign(self, kind: str, payload: str, keys: Keys) -> str:
        return self._signers[kind][self.keyring.index(keys)].sign(payload).decode()

    def _open(self, kind: str, token: object, build: Callable[[Keys, str], T]) -> T | None:
        if not isinstance(token, str) or len(token) > MAX_TOKEN or not token.isascii():
            return None
        for keys, signer in zip(self.keyring, self._signers[kind], strict=True):
            try:
                return build(keys, signer.unsign(token).decode())
            except BadSignature:
                continue
            except (ValueError, TypeError, LookupError):
                return None  # ours, but of a version with another layout
        return None


def _signer(keys: Keys, kind: str) -> Signer:
    # The key is derived for this kind alone; itsdangerous would derive another from it for each token.
    return Signer(keys.derive(kind), key_derivation="none", digest_method=hashlib.sha256)


_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_from_json = json.JSONDecoder().decode


def _seal(keys: Keys, data: list[Any]) -> str:
    return _text(keys.seal(_to_json(data)))


def _unseal(keys: Keys, sealed: str) -> list[Any]:
    data: list[Any] = _from_json(keys.unseal(_bytes(sealed)))
    return data


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
