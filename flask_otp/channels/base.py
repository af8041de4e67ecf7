"""A channel takes one message to one person, or raises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..codes import display

#: Channels whose recipients are phone numbers, unless the app says otherwise.
PHONE_CHANNELS = frozenset({"sms", "whatsapp", "voice", "call", "signal", "viber"})


def accepted_under(name: str) -> str | None:
    """What the recipients of a channel of this name are, where nothing else says so."""
    return "email" if name == "email" else "phone" if name in PHONE_CHANNELS else None


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
    facts: dict[str, Any] | None = field(default=None, repr=False, hash=False)
    #: Of subject, text and html, as in ``Content-Language``: ``"de"``, ``"zh-Hans"``.
    language: str = "en"

    @property
    def written_code(self) -> str:
        """The code as people should see it: a strong one as ``XXXX-XXXX-XXXXX``."""
        return display(self.code)


class RecipientRefused(Exception):
    """The provider takes no message for this recipient, and is well otherwise. For channels to raise."""


class ProviderDown(Exception):
    """The provider takes no message for anybody: it, or our account, is out of order. For channels to raise."""


class Channel(ABC):
    """A way to deliver. ``accepts`` is ``"email"``, ``"phone"`` or ``None`` for either."""

    accepts: str | None = None
    #: Seconds that one delivery may take; ``None``: ``OTP_CHANNEL_TIMEOUT``.
    timeout: float | None = None

    def under(self, name: str) -> Channel:
        """This channel as it is under ``name`` in ``OTP_CHANNELS``, for one that goes by it."""
        return self

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Hand the message over. This runs in a thread and an app context of its own.

        :raises RecipientRefused: it was not delivered, which says nothing of other recipients.
        :raises ProviderDown: nothing will be delivered to anybody for now.
        :raises Exception: any other exception means that it was not delivered, too.
        """

    def probe(self) -> bool:
        """Reach the provider, and send nothing: for ``flask otp doctor``. False: there is no way to try.

        :raises Exception: it is out of reach, or refuses us.
        """
        return False


class FunctionChannel(Channel):
    """The app's own sender, wrapped."""

    def __init__(self, function: Callable[[Message], None], accepts: str | None) -> None:
        self._function = function
        self.accepts = accepts

    def deliver(self, message: Message) -> None:
        self._function(message)
