"""Trusted browsers, which skip the second factor for some days. The store decides whether one is still trusted.

A browser has a sealed cookie, and the store has a note with a random name. The cookie works only for the person it was
issued to, after that person has signed in, and only while the store has the note.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from typing import NamedTuple

from ..crypto.keys import Keys
from ..crypto.payloads import Proof
from ..delivery.components import Components
from ..errors import StoreUnavailable
from ..models import TrustedBrowser
from ..signals import browser_trusted
from .column import Column
from .sealing import seal, unseal

_KIND = "trust"
#: Prefix of our notes' names. All other notes and proofs have shorter names.
TRUSTED_PREFIX = b"trusted browser "
_ID = 8


class _Note(NamedTuple):
    keys: Keys
    purpose: str
    name: bytes
    #: Seconds since 1970.
    until: int


class TrustedBrowsers:
    """Creates, lists and ends trusted browsers."""

    def __init__(self, components: Components, column: Column, ended: Callable[[], None]) -> None:
        self._parts = components
        self._column = column
        self._ended = ended

    def basis(self, identifier: str) -> object:
        """The basis of trust in a browser: the person's current factors, without the used recovery codes."""
        if self._parts.hooks.factors_loader is None:
            return None
        record = self._column.find(identifier)
        return [app.device for app in record.apps], record.seed

    def remember(self, proof: Proof, life: int, basis: object) -> Proof | None:
        """Trust the browser that has just shown this proof, for ``life`` seconds.

        A revocation or a change of the factors ends the existing notes. So both are checked after the note is written:
        whichever comes first, one of the two sides sees the other.

        :param basis: the :meth:`basis` from before the code was checked.
        :returns: the content of the browser's cookie. It is not a proof: only guards that allow trusted browsers accept
            it. ``None``: the browser is not trusted, because the proof was revoked or the factors were changed.
        :raises StoreUnavailable: the browser is not trusted.
        """
        keys, now = self._parts.tokens.keys, self._parts.clock()
        until = int(now) + life
        name = TRUSTED_PREFIX + secrets.token_bytes(_ID) + int(now).to_bytes(5, "big")
        # If a code went out by several channels, no guard that names channels accepts the trust from it.
        by = "+".join(proof.channels)
        trust = Proof(name, proof.purpose, by, b"", proof.verified_at, until, proof.identifier, keys)
        store = self._parts.store
        try:
            store.note(trust.subject, name, until, int(now))
            is_over = not store.holds(proof.subject, proof.proof_id, int(now)) or self.basis(proof.identifier) != basis
        except BaseException:
            # No browser gets the cookie of this note, so no list may show it.
            with suppress(StoreUnavailable):
                store.spend(trust.subject, name, int(now))
            raise
        if is_over:
            store.spend(trust.subject, name, int(now))
            return None
        told = {"identifier": proof.identifier, "purpose": proof.purpose, "until": _time(until), "id": _id(name)}
        self._parts.events.tell(browser_trusted, "trusted", proof, seconds=life, arguments=told)
        return trust

    def dump(self, trust: Proof) -> str:
        """The text of the browser's cookie."""
        data = [
            trust.proof_id.hex(),
            trust.purpose,
            trust.channel,
            trust.verified_at,
            trust.expires_at,
            trust.identifier,
        ]
        return seal(trust.keys, _KIND, "", data)

    def load(self, token: str) -> Proof | None:
        """What a cookie claims. ``None``: it is not ours. The store has not been asked yet."""
        opened = unseal(self._parts.tokens.keyring, _KIND, "", token)
        if opened is None:
            return None
        (name, purpose, channel, verified_at, expires_at, identifier), keys = opened
        return Proof(bytes.fromhex(name), purpose, channel, b"", verified_at, expires_at, identifier, keys)

    def list(self, identifier: str) -> tuple[TrustedBrowser, ...]:
        found = [
            TrustedBrowser(
                _id(note.name), note.purpose, _time(int.from_bytes(note.name[-5:], "big")), _time(note.until)
            )
            for note in self._notes(identifier)
        ]
        return tuple(sorted(found, key=lambda browser: (browser.since, browser.id)))

    def end(self, identifier: str, browser_id: str) -> bool:
        """End one browser. Returns ``False`` if there is no browser with this id any more."""
        notes = [note for note in self._notes(identifier) if _id(note.name) == browser_id]
        return self._end(identifier, notes)

    def end_all(self, identifier: str) -> None:
        """
        :raises StoreUnavailable: browsers may still be trusted.
        """
        self._end(identifier, self._notes(identifier))

    def _end(self, identifier: str, notes: Iterable[_Note]) -> bool:
        now = int(self._parts.clock())
        try:
            ended = [
                self._parts.store.spend(note.keys.subject(note.purpose, identifier), note.name, now) for note in notes
            ]
        finally:
            self._ended()
        return any(ended)

    def _notes(self, identifier: str) -> Iterator[_Note]:
        now = int(self._parts.clock())
        for keys in self._parts.tokens.keyring:
            for purpose in self._parts.settings.purposes:
                noted = self._parts.store.noted(keys.subject(purpose, identifier), TRUSTED_PREFIX, now)
                for name, until in noted.items():
                    yield _Note(keys, purpose, name, until)


def _id(name: bytes) -> str:
    return name[len(TRUSTED_PREFIX) :][:_ID].hex()


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
