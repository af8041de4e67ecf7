"""The ways to deliver, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

from flask import Flask
from flask_mail import Mail

from ..errors import ConfigError
from ..settings import Settings
from .base import Channel, FunctionChannel, Message, ProviderDown, RecipientRefused, accepted_under
from .console import ConsoleChannel
from .email import EmailChannel, fill_service
from .ladder import Ladder, Ladders, redact
from .webhook import WebhookChannel


def channels_from_settings(app: Flask, settings: Settings) -> dict[str, Ladder]:
    """The channels of ``OTP_CHANNELS``; by default e-mail, where it is configured.

    :raises ConfigError: a value is no channel, or the console is named outside debug and testing.
    """
    fill_service(app.config, settings.email_service)
    wanted = settings.channels
    if wanted is None:
        has_mail = settings.email_service or app.config.get("MAIL_SERVER") or "mail" in app.extensions
        wanted = {"email": "email"} if has_mail else {}
    return {name: _ladder(name, value, app, settings) for name, value in wanted.items()}


def last_resort(app: Flask, settings: Settings) -> dict[str, Ladder]:
    """What there is when nothing was configured and no hook added anything: in debug and testing, the console."""
    if settings.channels is None and (app.debug or app.testing):
        return {"console": (ConsoleChannel(),)}
    return {}


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


def _ladder(name: str, value: Any, app: Flask, settings: Settings) -> Ladder:
    steps = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not steps:
        raise ConfigError(f"OTP_CHANNELS[{name!r}] is empty")
    return tuple(_channel(name, step, app, settings) for step in steps)


def _channel(name: str, value: Any, app: Flask, settings: Settings) -> Channel:
    if value == "email":
        if "mail" not in app.extensions:
            Mail(app)
        return EmailChannel(app, settings.email_timeout, settings.email_reply_to)
    if value == "console":
        if not (app.debug or app.testing):
            raise ConfigError(
                f"OTP_CHANNELS[{name!r}]: the console prints codes, so it works in debug and testing only"
            )
        return ConsoleChannel()
    if isinstance(value, str) and "://" in value:
        return _apprise_channel(f"OTP_CHANNELS[{name!r}]", value, app, settings)
    if isinstance(value, Channel) or callable(value):
        return channel_from_function(name, value, None)
    raise ConfigError(
        f"OTP_CHANNELS[{name!r}] must be 'email', 'console', the URL of a service, a function of a Message or a "
        f"Channel, not {type(value).__name__}"
    )


def _apprise_channel(where: str, url: str, app: Flask, settings: Settings) -> Channel:
    try:
        import_module("apprise")
    except ImportError:
        raise ConfigError(f"{where} is the URL of a service: pip install 'flask-otp-codes[apprise]'") from None
    channel = import_module(".apprise", __package__).AppriseChannel
    made: Channel = channel(where, url, settings.channel_timeout, settings.site_name or app.name)
    return made


__all__ = [
    "Channel",
    "ConsoleChannel",
    "EmailChannel",
    "Ladder",
    "Ladders",
    "Message",
    "ProviderDown",
    "RecipientRefused",
    "WebhookChannel",
    "channel_from_function",
    "channels_from_settings",
    "last_resort",
    "redact",
]
