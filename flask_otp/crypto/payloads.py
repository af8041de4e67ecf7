"""The plain values that tokens carry, and that pass between the parts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .keys import Keys


@dataclass(frozen=True)
class Handle:
    """What names a challenge, in the hands of the client that began it."""

    challenge_id: bytes
    purpose: str
    channel: str
    context: bytes
    strong: bool
    length: int
    expires_at: int
    ready_at: int
    identifier: str
    #: Nobody has this identifier, or it may not be sent to: nothing was sent, and no code will ever do.
    is_decoy: bool
    #: The context's own values, to be told to the person again.
    context_values: Any
    keys: Keys
    #: Who was signed in when the code was asked for, where the app says so: nobody else may redeem it over HTTP.
    user: str | None = None
    #: The message would go to a test recipient: nothing was sent, and as long as they are one, their own code is right.
    is_test: bool = False
    #: The range of phone numbers that the message goes to, as :mod:`flask_otp.limits.sms_pumping` counts it.
    #: Empty: no phone number. ``None``: this channel sends nothing to phones.
    numbers: str | None = None
    #: The browser that holds it has typed the identifier itself, so that a page may show it as a whole.
    is_typed: bool = False

    @cached_property
    def subject(self) -> bytes:
        return self.keys.subject(self.purpose, self.identifier)

    @cached_property
    def code(self) -> str:
        return self.keys.code(
            self.challenge_id,
            purpose=self.purpose,
            subject=self.subject,
            context=self.context,
            strong=self.strong,
            length=self.length,
        )

    @cached_property
    def link(self) -> str:
        return self.keys.link(self.challenge_id, purpose=self.purpose, subject=self.subject, context=self.context)

    def __repr__(self) -> str:
        return f"<Handle {self.purpose} {self.channel}>"


@dataclass(frozen=True)
class Proof:
    """What a verification left behind: it holds while the store still knows ``proof_id``."""

    proof_id: bytes
    purpose: str
    channel: str
    context: bytes
    verified_at: float
    expires_at: int
    identifier: str
    keys: Keys
    #: The text that it was read from; empty: it is new.
    token: str = field(default="", compare=False)
    #: The further channels that the code went out by: whoever reads those could have entered it too.
    others: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        return self.channel, *self.others

    def is_by(self, allowed: Collection[str]) -> bool:
        """Whether the code went out by these channels alone; none at all: any."""
        return not allowed or all(channel in allowed for channel in self.channels)

    @cached_property
    def subject(self) -> bytes:
        return self.keys.subject(self.purpose, self.identifier)

    def __repr__(self) -> str:
        return f"<Proof {self.purpose} {self.channel}>"


@dataclass(frozen=True)
class NextSend:
    """A message that goes out by the next channel, unless the code has been verified by then."""

    #: The challenge's handle, as its client has it.
    handle: str = field(repr=False)
    #: By which channel, and the further ones after it.
    channels: tuple[str, ...]
    #: In seconds since 1970.
    due_at: float
    locale: str
    #: Who asked for the first message: this one counts for the same network and bucket.
    network: str | None = field(repr=False)
    bucket: bytes = field(repr=False)
    known_bucket: bytes = field(repr=False)
    known_since: int


#: Seconds that the form may take after the guard refused.
REQUIREMENT_LIFE = 3600


@dataclass(frozen=True)
class Requirement:
    """What the guard asks for: carried by the client to ``POST /send``, which obeys it."""

    purpose: str
    context: bytes
    context_values: Any
    identifier: str | None
    channels: tuple[str, ...]
    expires_at: int
    #: Who was signed in when the guard refused, where the app says so: it is nobody else's.
    user: str | None = None

    @property
    def made_at(self) -> int:
        """When the guard refused: no proof from before will do."""
        return self.expires_at - REQUIREMENT_LIFE

    def __repr__(self) -> str:
        return f"<Requirement {self.purpose}>"


@dataclass(frozen=True)
class KnownBrowser:
    """One subject that a browser has verified before: its bucket's name, and since when."""

    subject: bytes
    bucket: bytes
    since: int


@dataclass(frozen=True)
class Once:
    """What makes a repeated request to send known as the same: an ``Idempotency-Key``, and what came with it."""

    key: bytes = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Client:
    """Who asks. Outside a request there is neither a network nor a browser."""

    network: str | None = None
    #: Secret of the browser session; empty: none.
    session_secret: bytes = field(default=b"", repr=False)
    #: What this browser has verified before.
    known: tuple[KnownBrowser, ...] = field(default=(), repr=False)
    #: How a repetition of this very request is known; ``None``: it is not.
    once: Once | None = field(default=None, repr=False)
