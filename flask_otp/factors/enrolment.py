"""Adds and removes authenticator apps and renews recovery codes. Nothing is stored before the first right code."""

from __future__ import annotations

import secrets
from dataclasses import replace

from blinker import NamedSignal

from ..channels.kept import TOTP
from ..crypto.codes import display
from ..delivery.components import Components
from ..errors import InvalidCode, InvalidRequest
from ..events import pseudonym
from ..languages import N_
from ..models import Enrolment, Factors
from ..signals import factor_added, factor_removed
from . import recovery, totp
from .column import Column
from .record import MAX_APPS, App, FactorRecord
from .sealing import seal, unseal
from .trusted import TrustedBrowsers

#: Seconds that the QR code is valid.
LIFE = 600
#: Maximum characters of an app's name.
MAX_NAME = 40

_KIND = "enrolment"


class Enroller:
    """The functions behind ``otp.totp``, ``otp.recovery`` and the pages. Identifiers must be in canonical form."""

    def __init__(self, components: Components, column: Column, trusted: TrustedBrowsers) -> None:
        self._parts = components
        self._tokens = components.tokens
        self._column = column
        self._trusted = trusted

    def factors(self, identifier: str) -> Factors:
        record = self._column.read(identifier)
        return Factors(tuple(app.name for app in record.apps), recovery.left(record))

    def begin(self, identifier: str, name: str) -> Enrolment:
        """Make a new secret, which is not active yet. The token carries the secret, sealed.

        :raises InvalidRequest: the name does not fit, or there is no room for another app.
        """
        name = clean(name)
        _check_room(self._column.read(identifier), name)
        return self._enrolment(identifier, name, totp.new_secret(), int(self._parts.clock()) + LIFE)

    def show_again(self, token: str, identifier: str) -> Enrolment | None:
        """Show the same enrolment again after a typing error. ``None``: the token is too old, or another person's."""
        opened = self._open(token)
        if opened is None or opened[0] != identifier:
            return None
        return self._enrolment(*opened)

    def confirm(
        self, token: str, code: str, *, name: str | None = None, identifier: str | None = None
    ) -> tuple[str, ...]:
        """Save the app after a code shows that it has the secret.

        :param identifier: the person the enrolment must belong to, if the caller knows it.
        :returns: the recovery codes, if this is the person's first app.
        :raises InvalidRequest: the token is too old or another person's, or there is no room for this app.
        :raises InvalidCode: the code is not one that the app shows now.
        :raises FactorsUnavailable: the column does not open, or the app did not save it.
        """
        opened = self._open(token)
        if opened is None or identifier not in (None, opened[0]):
            raise InvalidRequest(N_("This took too long. Please scan the new QR code."))
        identifier, given, secret, _ = opened
        name = clean(given if name is None else name)
        app = App(name, secret, secrets.token_bytes(8), -1)
        typed = totp.read(code) if isinstance(code, str) else None
        steps = totp.fitting(app, typed, self._parts.clock(), self._parts.settings.totp_steps) if typed else []
        if not steps:
            raise InvalidCode
        # The code that confirms an app is used up with that, so it cannot sign anyone in.
        app = replace(app, after=steps[-1][-1])
        is_first = self._column.change(identifier, lambda record: _with(record, app))
        self._finish(factor_added, "added", identifier, name)
        return self._codes(identifier) if is_first else ()

    def remove(self, identifier: str, name: str) -> None:
        """
        :raises InvalidRequest: there is no app of this name.
        """
        try:
            self._column.change(identifier, lambda record: _without(record, name))
        except InvalidRequest:
            # An earlier call may have removed the app without being able to end the trust.
            self._trusted.end_all(identifier)
            raise
        self._finish(factor_removed, "removed", identifier, name)

    def renew(self, identifier: str) -> tuple[str, ...]:
        """Make new recovery codes. The old ones stop working.

        :raises InvalidRequest: there is no app yet.
        """
        self._column.change(identifier, _renewed)
        self._trusted.end_all(identifier)
        return self._codes(identifier)

    def move(self, old: str, new: str) -> None:
        """Bind the factors to another identifier. Codes up to now count as used: their marks stay behind."""
        now = totp.step_of(self._parts.clock())
        self._column.move(old, new, lambda record: _at_step(record, now))
        self._trusted.end_all(old)

    def reseal(self, identifier: str) -> None:
        """Seal the factors with the current ``SECRET_KEY`` if an older key opens them."""
        self._column.change(identifier, lambda record: (record, None))

    def _finish(self, signal: NamedSignal, outcome: str, identifier: str, name: str) -> None:
        """After a change: tell it, and end the trust in all browsers, even if a receiver fails."""
        subject = pseudonym(self._tokens.keys, identifier)
        told = {"identifier": identifier, "name": name}
        try:
            self._parts.events.tell(signal, outcome, channel_name=TOTP, subject=subject, arguments=told)
        finally:
            self._trusted.end_all(identifier)

    def _codes(self, identifier: str) -> tuple[str, ...]:
        return tuple(display(code) for code in recovery.codes(self._column.read(identifier).seed))

    def _enrolment(self, identifier: str, name: str, secret: bytes, expires_at: int) -> Enrolment:
        uri = totp.uri(secret, identifier, self._parts.site_name)
        data = [identifier, name, secret.hex(), expires_at]
        return Enrolment(
            uri=uri,
            secret=totp.as_base32(secret),
            svg=totp.qr_code(uri),
            token=seal(self._tokens.keys, _KIND, "", data),
            expires_in=expires_at - int(self._parts.clock()),
        )

    def _open(self, token: object) -> tuple[str, str, bytes, int] | None:
        opened = unseal(self._tokens.keyring, _KIND, "", token) if isinstance(token, str) else None
        if opened is None:
            return None
        identifier, name, secret, expires_at = opened[0]
        return (identifier, name, bytes.fromhex(secret), expires_at) if self._parts.clock() < expires_at else None


def clean(name: object) -> str:
    """The name of an app as its owner typed it, without surrounding spaces.

    :raises InvalidRequest: the name is empty, too long, or contains invisible characters.
    """
    text = " ".join(name.split()) if isinstance(name, str) else ""
    if not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise InvalidRequest(N_("Give the app a name of at most 40 characters."), field="name")
    return text


def _check_room(record: FactorRecord, name: str) -> None:
    if len(record.apps) >= MAX_APPS:
        raise InvalidRequest(N_("There are too many authenticator apps. Remove one first."))
    if any(app.name == name for app in record.apps):
        raise InvalidRequest(N_("You have an app of this name already. Choose another name."), field="name")


def _with(record: FactorRecord, app: App) -> tuple[FactorRecord, bool]:
    """The record with the app added, and whether it is the first one."""
    if any(known.secret == app.secret for known in record.apps):
        # The same form was submitted twice, and the person sees the second response. A second app with this secret
        # would make each code good for two uses.
        return record, len(record.apps) == 1 and record.used == 0
    _check_room(record, app.name)
    return (
        replace(record, apps=(*record.apps, app), seed=record.seed or recovery.new_seed()),
        not record.apps,
    )


def _without(record: FactorRecord, name: str) -> tuple[FactorRecord, None]:
    left = tuple(app for app in record.apps if app.name != name)
    if len(left) == len(record.apps):
        raise InvalidRequest(N_("There is no authenticator app of this name."), field="name")
    return replace(record, apps=left), None


def _renewed(record: FactorRecord) -> tuple[FactorRecord, None]:
    if not record.apps:
        raise InvalidRequest(N_("There is no authenticator app yet."))
    return replace(record, seed=recovery.new_seed(), used=0), None


def _at_step(record: FactorRecord, step: int) -> FactorRecord:
    return replace(record, apps=tuple(replace(app, after=max(app.after, step)) for app in record.apps))
