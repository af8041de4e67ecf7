"""The plain values that pass between the parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .context_text import show
from .crypto.codes import STRONG_LENGTH, display


@dataclass(frozen=True)
class Challenge:
    """One outstanding code, as a client may see it. Durations are seconds from now."""

    #: The opaque signed string that names it. A client that holds it may try codes.
    handle: str = field(repr=False)
    channel: str
    #: Where the message went, masked.
    destination: str
    purpose: str
    code_length: int
    expires_in: int
    #: Until another message may be asked for.
    resend_in: int
    #: By what else the same code may be sent. It is told from the settings alone, and tells nothing of the person.
    other_channels: tuple[str, ...] = ()

    @property
    def strong(self) -> bool:
        """Whether the code is a strong one: 13 letters and digits, shown ``XXXX-XXXX-XXXXX``."""
        return self.code_length == STRONG_LENGTH


@dataclass(frozen=True)
class Verification:
    """Proof that a person receives messages at ``identifier``: they entered a code for ``purpose``."""

    identifier: str = field(repr=False)
    channel: str
    purpose: str
    #: When, in UTC.
    verified_at: datetime
    #: Its signed form, for ``Authorization: Bearer``. It is worth as much as the code was: treat it like a password.
    proof: str = field(repr=False)
    expires_at: datetime
    #: Every channel that the code went out by. A code that was sent by e-mail too proves nothing of a phone.
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """One message, ready to be sent. Its ``repr`` shows no code, link, context value or recipient."""

    channel: str
    #: Where it goes: exactly one address.
    recipient: str = field(repr=False)
    #: The bare code, without the dashes of its display form.
    code: str = field(repr=False)
    purpose: str
    site_name: str
    #: One line. It shows the code only with ``OTP_CODE_IN_SUBJECT``.
    subject: str = field(repr=False)
    #: Plain text: the whole e-mail for e-mail, a short text for every other channel.
    text: str = field(repr=False)
    html: str = field(repr=False)
    #: Seconds that the code is still good for.
    expires_in: int
    #: With ``OTP_LINKS``, the link of an e-mail. It does what the code does and is worth as much.
    link: str | None = field(default=None, repr=False)
    #: Names this message, whichever provider is tried and however often. A resend has another id. It is random.
    id: str = ""
    #: What the code confirms, where its context is an object: names and JSON values.
    context_values: dict[str, Any] | None = field(default=None, repr=False, hash=False)
    #: Of subject, text and html, as in ``Content-Language``: ``"de"``, ``"zh-Hans"``.
    language: str = "en"

    @property
    def context_text(self) -> dict[str, str]:
        """The context values as text that is safe to show, by name: without links and without invisible characters."""
        return show(self.context_values) or {}

    @property
    def written_code(self) -> str:
        """The code as people should see it: a strong one as ``XXXX-XXXX-XXXXX``."""
        return display(self.code)


@dataclass(frozen=True)
class Enrolment:
    """An authenticator app that is about to be added. Nothing is kept before its first right code."""

    #: What the QR code says, ``otpauth://totp/...``.
    uri: str = field(repr=False)
    #: The secret in base32, to be typed where a camera cannot be used.
    secret: str = field(repr=False)
    #: The QR code as an ``<svg>`` element, ready for a page: black on white, without a style of its own.
    svg: str = field(repr=False)
    #: Carries all of it, sealed, to :meth:`otp.totp.confirm <flask_otp.factor_methods.TotpMethods.confirm>`.
    token: str = field(repr=False)
    #: Seconds that the token is good for.
    expires_in: int

    @property
    def written_secret(self) -> str:
        """The secret in groups of four."""
        return " ".join(self.secret[start : start + 4] for start in range(0, len(self.secret), 4))


@dataclass(frozen=True)
class Factors:
    """What a person has to verify with. It holds no secret."""

    #: Names of the authenticator apps, in the order in which they were added.
    totp: tuple[str, ...]
    #: Recovery codes that were not used yet.
    recovery_left: int


@dataclass(frozen=True)
class TrustedBrowser:
    """A browser that may go without the second factor."""

    id: str
    purpose: str
    #: Since and until when, in UTC.
    since: datetime
    until: datetime
