"""A channel takes one message to one person, or raises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

#: Channels whose recipients are phone numbers, unless the app says otherwise.
PHONE_CHANNELS = frozenset({"sms", "whatsapp", "voice", "call", "signal", "viber"})


@dataclass(frozen=True)
class Message:
    """One message, ready to be sent. Its ``repr`` shows neither the code, nor the link, nor the recipient."""

    channel: str
    #: Where it goes: exactly one address.
    recipient: str = field(repr=False)
    #: The bare code, without the dashes of its display form.
    code: str = field(repr=False)
    purpose: str
    site_name: str
    subject: str
    #: Plain text: the whole e-mail for e-mail, a short text for every other channel.
    text: str = field(repr=False)
    html: str = field(repr=False)
    #: Seconds that the code is still good for.
    expires_in: int
    #: The link of an e-mail that does what the code does, with ``OTP_LINKS``; worth as much as the code.
    link: str | None = field(default=None, repr=False)


class Channel(ABC):
    """A way to deliver. ``accepts`` is ``"email"``, ``"phone"`` or ``None`` for either."""

    accepts: str | None = None

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Hand the message over.

        :raises Exception: any exception means that it was not delivered.
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
