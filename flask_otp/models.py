"""The plain values that pass between the parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from .codes import STRONG_LENGTH
from .tokens import Known


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
class Client:
    """Who asks. Outside a request there is neither a network nor a browser."""

    network: str | None = None
    #: Secret of the browser session; empty: none.
    holder: bytes = field(default=b"", repr=False)
    #: What this browser has verified before.
    known: tuple[Known, ...] = field(default=(), repr=False)
