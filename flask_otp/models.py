"""The plain values that components exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .context_text import show
from .crypto.codes import STRONG_LENGTH, display
from .spoken import speak


@dataclass(frozen=True)
class Challenge:
    """One outstanding code, as a client may see it. Durations are seconds from now."""

    #: The opaque token that identifies it. A client that holds it may try codes.
    handle: str = field(repr=False)
    channel: str
    #: The recipient, masked.
    destination: str
    purpose: str
    #: 0 if there is no code to type and the message has only a link.
    code_length: int
    expires_in: int
    #: Until another message may be requested.
    resend_in: int
    #: Other channels that can carry the same code. Taken from the settings alone, so they reveal nothing about the
    #: person.
    other_channels: tuple[str, ...] = ()

    @property
    def strong(self) -> bool:
        """Whether the code is a strong code: 13 letters and digits, shown as ``XXXX-XXXX-XXXXX``."""
        return self.code_length == STRONG_LENGTH


@dataclass(frozen=True)
class Verification:
    """Proof that a person receives messages at ``identifier``: they entered a code for ``purpose``."""

    identifier: str = field(repr=False)
    channel: str
    purpose: str
    #: Time of the verification, in UTC.
    verified_at: datetime
    #: The signed token for ``Authorization: Bearer``. It is worth as much as the code, so treat it like a password.
    proof: str = field(repr=False)
    expires_at: datetime
    #: All channels that the code went out by. A code that was also sent by e-mail does not prove access to a phone.
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """One message, ready to send. Its ``repr`` shows no code, link, context value or recipient."""

    channel: str
    #: The recipient: exactly one address.
    recipient: str = field(repr=False)
    #: The code without the dashes of its display form. Empty if there is none to type, only a link.
    code: str = field(repr=False)
    purpose: str
    site_name: str
    #: One line. It contains the code only with ``OTP_CODE_IN_SUBJECT``.
    subject: str = field(repr=False)
    #: Plain text: the complete e-mail text, or a short text for all other channels.
    text: str = field(repr=False)
    html: str = field(repr=False)
    #: Seconds that the code is still valid.
    expires_in: int
    #: The link of an e-mail, with ``OTP_LINKS``. It does the same as the code and is worth as much.
    link: str | None = field(default=None, repr=False)
    #: Random id of this message, the same for all providers and tries. A resend has another id.
    id: str = ""
    #: What the code confirms, if its context is an object: names and JSON values.
    context_values: dict[str, Any] | None = field(default=None, repr=False, hash=False)
    #: Language of subject, text and html, as in ``Content-Language``: ``"de"``, ``"zh-Hans"``.
    language: str = "en"

    @property
    def context_text(self) -> dict[str, str]:
        """The context values as text that is safe to show, by name: without links and invisible characters."""
        return show(self.context_values) or {}

    @property
    def written_code(self) -> str:
        """The code as people should see it: a strong code as ``XXXX-XXXX-XXXXX``."""
        return display(self.code)

    @property
    def spoken(self) -> str:
        """Text for a call, in :attr:`language`: the site, the code digit by digit, twice, and what it confirms."""
        return speak(self.code, self.site_name, self.language, self.context_text)


@dataclass(frozen=True)
class Enrolment:
    """An authenticator app that is being added. Nothing is saved before its first right code."""

    #: The content of the QR code, ``otpauth://totp/...``.
    uri: str = field(repr=False)
    #: The secret in base32, for typing if no camera can be used.
    secret: str = field(repr=False)
    #: The QR code as an ``<svg>`` element, ready for a page: black on white, without inline styles.
    svg: str = field(repr=False)
    #: Carries all of this, sealed, to :meth:`otp.totp.confirm <flask_otp.factor_methods.TotpMethods.confirm>`.
    token: str = field(repr=False)
    #: Seconds that the token is valid.
    expires_in: int

    @property
    def written_secret(self) -> str:
        """The secret in groups of four."""
        return " ".join(self.secret[start : start + 4] for start in range(0, len(self.secret), 4))


@dataclass(frozen=True)
class Factors:
    """A person's factors. It contains no secret."""

    #: Names of the authenticator apps, in the order in which they were added.
    totp: tuple[str, ...]
    #: Number of unused recovery codes.
    recovery_left: int


@dataclass(frozen=True)
class TrustedBrowser:
    """A browser that may skip the second factor."""

    id: str
    purpose: str
    #: Start and end of the trust, in UTC.
    since: datetime
    until: datetime
