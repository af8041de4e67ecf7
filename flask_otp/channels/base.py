"""A channel takes one message to one person, or raises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import iscoroutinefunction

from ..errors import ConfigError
from ..models import Message

#: Channels whose recipients are phone numbers, unless the app says otherwise.
PHONE_CHANNELS = frozenset({"sms", "whatsapp", "voice", "call", "signal", "viber"})


def accepted_under(name: str) -> str | None:
    """What the recipients of a channel of this name are, where nothing else says so."""
    return "email" if name == "email" else "phone" if name in PHONE_CHANNELS else None


class RecipientRefused(Exception):
    """For channels to raise: the provider takes no message for this recipient, but works for others."""


class ProviderDown(Exception):
    """For channels to raise: the provider, or our account there, is out of order and takes no message at all."""


class Channel(ABC):
    """A way to deliver. ``accepts`` is ``"email"``, ``"phone"`` or ``None`` for either."""

    accepts: str | None = None
    #: Seconds that one delivery may take; ``None``: ``OTP_CHANNEL_TIMEOUT``.
    timeout: float | None = None
    #: What holds where ``timeout`` is ``None``: ``OTP_CHANNEL_TIMEOUT``, which the app's routing fills in.
    default_timeout: float = 10

    def under(self, name: str) -> Channel:
        """This channel under its ``name`` in ``OTP_CHANNELS``, for channels that depend on it."""
        return self

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Hand the message over. This runs in a thread and an app context of its own.

        :raises RecipientRefused: it was not delivered, which says nothing of other recipients.
        :raises ProviderDown: the provider delivers no message for now.
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


def channel_from_function(name: str, function: Callable[[Message], None] | Channel, accepts: str | None) -> Channel:
    """The app's own sender as a channel; what it accepts is told by its name where the app does not say.

    :raises ConfigError: it is neither a plain function nor a channel object, or ``accepts`` is wrong.
    """
    if isinstance(function, Channel):
        return function.under(name)
    if isinstance(function, type) or not callable(function) or iscoroutinefunction(function):
        raise ConfigError(f"channel {name!r} must be a plain function of a Message or a Channel object")
    if accepts not in (None, "email", "phone"):
        raise ConfigError(f'channel {name!r}: accepts must be "email" or "phone", not {accepts!r}')
    return FunctionChannel(function, accepts or accepted_under(name))
