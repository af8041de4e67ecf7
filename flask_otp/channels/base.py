"""The base class of channels. A channel delivers one message to one person, or raises."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import iscoroutine, iscoroutinefunction

from ..errors import ConfigError
from ..models import Message

logger = logging.getLogger("flask_otp")

#: Channels for phone numbers, unless the app says otherwise.
PHONE_CHANNELS = frozenset({"sms", "whatsapp", "voice", "call", "signal", "viber"})


def accepted_under(name: str) -> str | None:
    """The kind of recipient by the channel's name, used if nothing else tells it."""
    return "email" if name == "email" else "phone" if name in PHONE_CHANNELS else None


class RecipientRefused(Exception):
    """Raise this in a channel if the provider refuses this recipient but works for others."""


class ProviderDown(Exception):
    """Raise this in a channel if the provider, or our account there, is down and takes no messages at all."""


def refuse_coroutine(result: object, what: str) -> None:
    """
    :raises TypeError: a plain function called an ``async`` one and returned its coroutine, so nothing has been done.
    """
    if iscoroutine(result):
        result.close()
        logger.error("%s returned a coroutine, which nobody awaits: it must be a plain function", what)
        raise TypeError("a coroutine was returned")


class Channel(ABC):
    """A way to deliver messages. ``accepts`` is ``"email"``, ``"phone"``, or ``None`` for both."""

    accepts: str | None = None
    #: Maximum seconds for one delivery. ``None`` means ``OTP_CHANNEL_TIMEOUT``.
    timeout: float | None = None
    #: ``OTP_CHANNEL_TIMEOUT``, used if ``timeout`` is ``None``. The app's routing sets it.
    default_timeout: float = 10

    def under(self, name: str) -> Channel:
        """Return this channel under its ``name`` in ``OTP_CHANNELS``, for channels that depend on the name."""
        return self

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Deliver the message. This runs in a separate thread with its own app context.

        :raises RecipientRefused: the message was not delivered, for a reason that concerns only this recipient.
        :raises ProviderDown: the provider delivers no messages at present.
        :raises Exception: any other exception also means that the message was not delivered.
        """

    def probe(self) -> bool:
        """Connect to the provider without sending anything, for ``flask otp doctor``. Return ``False`` if that is
        impossible.

        :raises Exception: the provider is unreachable or refuses us.
        """
        return False


class FunctionChannel(Channel):
    """The app's own send function as a channel."""

    def __init__(self, function: Callable[[Message], object], accepts: str | None) -> None:
        self._function = function
        self.accepts = accepts

    def deliver(self, message: Message) -> None:
        refuse_coroutine(self._function(message), f"channel {message.channel!r}")


def channel_from_function(name: str, function: Callable[[Message], None] | Channel, accepts: str | None) -> Channel:
    """Make a channel from the app's own sender. If ``accepts`` is ``None``, the channel's name decides.

    :raises ConfigError: the sender is neither a plain function nor a channel object, or ``accepts`` is wrong.
    """
    if isinstance(function, Channel):
        return function.under(name)
    if isinstance(function, type) or not callable(function) or iscoroutinefunction(function):
        raise ConfigError(f"channel {name!r} must be a plain function of a Message or a Channel object")
    if accepts not in (None, "email", "phone"):
        raise ConfigError(f'channel {name!r}: accepts must be "email" or "phone", not {accepts!r}')
    return FunctionChannel(function, accepts or accepted_under(name))
