"""The plain values that pass between the parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .crypto.codes import STRONG_LENGTH, display


@dataclass(frozen=True)
class Challenge:
    """One outstanding code, as a client may see it. Durations are seconds from now."""

    #: The opaque signed string that names it: whoever holds it may try codes.
    handle: str = field(repr=False)
    channel: str
    #: Where the message went, masked.
    destination: str
    purpose: str
    code_length: int
    expires_in: int
    #: Until another message may be asked for.
    resend_in: int

    @property
    def strong(self) -> bool:
        """Whether the code is a strong one: 13 letters and digits, shown ``XXXX-XXXX-XXXXX``."""
        return self.code_length == STRONG_LENGTH


@dataclass(frozen=True)
class Verification:
    """The fact that somebody proved to receive messages at ``identifier``, by a code for ``purpose``."""

    identifier: str = field(repr=False)
    channel: str
    purpose: str
    #: When, in UTC.
    verified_at: datetime
    #: Its signed form, for ``Authorization: Bearer``. Worth as much as the code was: keep it like a password.
    proof: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class Message:
    """One message, ready to be sent. Its ``repr`` shows no code, link or fact, and not whom it goes to."""

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
    #: The link of an e-mail that does what the code does, with ``OTP_LINKS``; worth as much as the code.
    link: str | None = field(default=None, repr=False)
    #: Names this message, wherever it is tried and however often: a resend is another. Random, so it tells nothing.
    id: str = ""
    #: What the code confirms, where its context is an object: names and JSON values.
    context_values: dict[str, Any] | None = field(default=None, repr=False, hash=False)
    #: Of subject, text and html, as in ``Content-Language``: ``"de"``, ``"zh-Hans"``.
    language: str = "en"

    @property
    def written_code(self) -> str:
        """The code as people should see it: a strong one as ``XXXX-XXXX-XXXXX``."""
        return display(self.code)
