"""The plain values that tokens carry and that components exchange."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .keys import Keys


@dataclass(frozen=True)
class Handle:
    """Identifies a challenge. It is held by the client that started the challenge."""

    challenge_id: bytes
    purpose: str
    channel: str
    context: bytes
    strong: bool
    length: int
    expires_at: int
    ready_at: int
    identifier: str
    #: A decoy: the identifier is unknown or may not be sent to. Nothing was sent, and no code will be accepted.
    is_decoy: bool
    #: The context values, to show them to the person again.
    context_values: Any
    keys: Keys
    #: The user who was signed in when the code was requested, if the app tells it. Over HTTP only this user may redeem
    #: it.
    user: str | None = None
    #: The recipient is a test recipient. Nothing was sent, and its fixed code is right while the entry is valid.
    is_test: bool = False
    #: The range of phone numbers that the message goes to, as :mod:`flask_otp.limits.sms_pumping` counts it. Empty if
    #: it is not a phone number, ``None`` if the channel does not send to phones.
    numbers: str | None = None
    #: The identifier was typed in this browser, so a page may show it in full.
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

    def may_start_again(self, now: float) -> bool:
        """Whether another challenge may be opened in place of this one, for the same person, purpose and context."""
        return now < self.expires_at + REQUIREMENT_LIFE

    def __repr__(self) -> str:
        return f"<Handle {self.purpose} {self.channel}>"


@dataclass(frozen=True)
class Proof:
    """The result of a verification. It is valid while the store knows ``proof_id``."""

    proof_id: bytes
    purpose: str
    channel: str
    context: bytes
    verified_at: float
    expires_at: int
    identifier: str
    keys: Keys
    #: The text that it was read from. Empty for a new proof.
    token: str = field(default="", compare=False)
    #: Further channels that the code went out by: a person who reads those could have entered the code too.
    others: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        return self.channel, *self.others

    def is_by(self, allowed: Collection[str]) -> bool:
        """Whether the code went out by the allowed channels only. An empty collection allows all."""
        return not allowed or all(channel in allowed for channel in self.channels)

    @cached_property
    def subject(self) -> bytes:
        return self.keys.subject(self.purpose, self.identifier)

    def __repr__(self) -> str:
        return f"<Proof {self.purpose} {self.channel}>"


@dataclass(frozen=True)
class NextSend:
    """A message that goes out by the next channel unless the code has been verified by then."""

    #: The challenge's handle, as its client has it.
    handle: str = field(repr=False)
    #: The next channel, and the channels after it.
    channels: tuple[str, ...]
    #: Seconds since 1970.
    due_at: float
    locale: str
    #: The client that requested the first message. This one counts for the same network and bucket.
    network: str | None = field(repr=False)
    bucket: bytes = field(repr=False)
    known_bucket: bytes = field(repr=False)
    known_since: int


#: Maximum seconds between the guard's refusal and the form.
REQUIREMENT_LIFE = 3600


@dataclass(frozen=True)
class Requirement:
    """The guard's requirement. The client carries it to ``POST /send``, which applies it."""

    purpose: str
    context: bytes
    context_values: Any
    identifier: str | None
    channels: tuple[str, ...]
    expires_at: int
    #: The user who was signed in when the guard refused, if the app tells it. It is valid for this user only.
    user: str | None = None

    @property
    def made_at(self) -> int:
        """When the guard refused. Proofs from before are not accepted."""
        return self.expires_at - REQUIREMENT_LIFE

    def __repr__(self) -> str:
        return f"<Requirement {self.purpose}>"


@dataclass(frozen=True)
class KnownBrowser:
    """One subject that a browser has verified: its bucket's name, and since when."""

    subject: bytes
    bucket: bytes
    since: int


@dataclass(frozen=True)
class Once:
    """Identifies a repeated send request: an ``Idempotency-Key`` and the data sent with it."""

    key: bytes = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Client:
    """The client that asks. Outside a request it has no network and no browser."""

    network: str | None = None
    #: Secret of the browser session. Empty if there is no session.
    session_secret: bytes = field(default=b"", repr=False)
    #: The subjects that this browser has verified.
    known: tuple[KnownBrowser, ...] = field(default=(), repr=False)
    #: Identifies a repetition of this request. ``None``: repetitions are not recognised.
    once: Once | None = field(default=None, repr=False)
