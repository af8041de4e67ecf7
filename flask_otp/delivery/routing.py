"""Which channel a message takes, and where it goes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from importlib import import_module
from typing import Any

from flask import Flask
from flask_mail import Mail

from .. import identifiers
from ..channels import Channel, ConsoleChannel, EmailChannel, channel_from_function
from ..channels.email import fill_service
from ..config.parsers import nearest
from ..config.settings import Purpose, Settings
from ..config.test_recipients import Testers
from ..errors import ConfigError, DeliveryFailed, InvalidIdentifier, InvalidRequest
from ..hooks import Hooks
from ..identifiers import Identifier
from ..languages import N_
from .failover import Ladder

logger = logging.getLogger("flask_otp")


class Directory:
    """The channels of one app, and the people they reach."""

    def __init__(self, app: Flask, settings: Settings, hooks: Hooks, testers: Testers) -> None:
        self._app = app
        self._settings = settings
        self._hooks = hooks
        self._testers = testers
        self._configured = channels_from_settings(app, settings)

    def ladders(self) -> dict[str, Ladder]:
        """Every channel by name, the app's own functions before those of the settings."""
        own = {name: (channel,) for name, channel in self._hooks.channels.items()}
        return self._configured | own or last_resort(self._app, self._settings)

    def channels(self, purpose: Purpose) -> dict[str, Ladder]:
        """The channels that a code of this purpose may take, the app's own functions included."""
        ladders = self.ladders()
        return {name: ladders[name] for name in purpose.channels or ladders if name in ladders}

    def accepts(self, purpose: Purpose) -> str:
        """What a person may enter for this purpose: ``"email"``, ``"phone"`` or ``"both"``."""
        kinds = {step.accepts for ladder in self.channels(purpose).values() for step in ladder}
        return (kinds.pop() or "both") if len(kinds) == 1 else "both"

    def check_names(self) -> None:
        """
        :raises ConfigError: a channel's budget, or a purpose, names a channel that does not exist.
        """
        known = list(self.ladders())
        named: dict[str, Iterable[str]] = {"OTP_CHANNEL_BUDGET": self._settings.channel_budget}
        named |= {f"OTP_PURPOSES[{name!r}]": purpose.channels for name, purpose in self._settings.purposes.items()}
        for where, names in named.items():
            for name in names:
                if name not in known:
                    raise ConfigError(f"{where}: there is no channel {name!r}: {nearest(name, known)}")

    def takes(self, purpose: Purpose) -> str:
        """What an identifier may be: what the channels accept, or anything where a ``recipient_loader`` translates."""
        return self.accepts(purpose) if self._hooks.recipient_loader is None else "both"

    def choose(self, wanted: str | None, purpose: Purpose, address: Identifier, only: Collection[str] = ()) -> str:
        """The channel that was asked for, else the first that takes this kind of address.

        :param only: the channels that the guard accepts; empty: all.

        :raises InvalidRequest: there is no such channel for this purpose.
        :raises InvalidIdentifier: it takes another kind of address.
        :raises DeliveryFailed: there is no channel at all.
        """
        channels = {name: ladder for name, ladder in self.channels(purpose).items() if not only or name in only}
        if not channels:
            logger.error("no channel can send codes: set OTP_CHANNELS, MAIL_SERVER or OTP_EMAIL_SERVICE")
            raise DeliveryFailed
        if wanted is not None and wanted not in channels:
            raise InvalidRequest(N_("There is no such channel."))
        names = [wanted] if wanted is not None else list(channels)
        fitting = [name for name in names if _fits(channels[name], address.kind)]
        # A recipient_loader may know the phone number that belongs to an e-mail address.
        if not fitting and self._hooks.recipient_loader is None:
            kinds = {step.accepts for name in names for step in channels[name]}
            raise InvalidIdentifier(
                N_("Please enter an e-mail address.") if "email" in kinds else N_("Please enter a phone number.")
            )
        return (fitting or names)[0]

    def takes_phones(self, channel: str) -> bool:
        """Whether a message by this channel can go to a phone number."""
        return _fits(self.ladders().get(channel, ()), "phone")

    def recipient(self, address: str, channel: str) -> str | None:
        """Where the message goes; ``None`` to pretend: nobody has that identifier, or it may not be sent to."""
        recipient: str | None = address
        if self._hooks.recipient_loader is not None:
            # An empty address is none: the message must not go to what was typed in its place.
            recipient = self._hooks.recipient_loader(address, channel) or None
        if self._testers.find(recipient):
            return recipient
        # Made and looked at whether there is somebody or not: the time that it takes would tell.
        stand_in = self.stand_in(address, channel)
        place = recipient or stand_in
        if not (self._kinds(channel) <= {"phone"} or identifiers.kind(place.strip()) == "phone"):
            return recipient
        # What a recipient_loader knows was typed by somebody, some day.
        phone = identifiers.phone_in(place, self._settings.sms_countries)
        if phone is None:
            logger.warning(
                "a phone number that is none, or outside of OTP_SMS_COUNTRIES, was asked for: nothing is sent"
            )
        return phone if recipient else None

    def stand_in(self, address: str, channel: str) -> str:
        """Whom a message to nobody is made out to: it never goes out, and takes as long to make as any other."""
        kinds = self._kinds(channel)
        if kinds == {"phone"} and not address.startswith("+"):
            return identifiers.example_phone(self._settings.sms_countries)
        return "nobody@example.com" if kinds == {"email"} and address.startswith("+") else address

    def _kinds(self, channel: str) -> set[str | None]:
        return {step.accepts for step in self.ladders().get(channel, ())}


def _fits(ladder: Ladder, kind: str) -> bool:
    return any(step.accepts in (None, kind) for step in ladder)


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
    channel = import_module("..channels.apprise", __package__).AppriseChannel
    made: Channel = channel(where, url, settings.channel_timeout, settings.site_name or app.name)
    return made
