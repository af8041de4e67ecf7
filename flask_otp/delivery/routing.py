"""Chooses a message's channel and recipient."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from flask import Flask
from flask_mail import Mail

from .. import identifiers
from ..channels import Channel, ConsoleChannel, EmailChannel, channel_from_function
from ..channels.email import MailOptions, fill_service
from ..channels.kept import KEPT_FACTORS, TRUSTED, KeptFactor
from ..config.parsers import nearest
from ..config.settings import Purpose, Settings
from ..config.test_recipients import TestRecipient
from ..crypto.payloads import Handle
from ..documentation import page_of
from ..errors import ConfigError, DeliveryFailed, InvalidIdentifier, InvalidRequest
from ..identifiers import Identifier
from ..languages import N_
from .components import Components
from .failover import Failover

logger = logging.getLogger("flask_otp")

#: Maximum channels that follow the first one, unless the person asks for another one.
_MOST_NEXT = 2

_KEPT: dict[str, Failover] = {name: (KeptFactor(),) for name in KEPT_FACTORS}


@dataclass(frozen=True)
class Route:
    """Where one message goes, resolved once. An unknown identifier gets a route with the same parts."""

    channel: str
    #: The person who gets the message. ``None``: a decoy, which is not sent.
    recipient: str | None = field(repr=False)
    #: Placeholder recipient for a message that is not sent. The message is rendered, so the time does not differ.
    decoy_recipient: str = field(repr=False)
    #: The test recipient's entry, if it is one. Nothing is sent to test recipients.
    test_recipient: TestRecipient | None
    takes_phones: bool
    #: Why the message is not sent, for the signal ``message_withheld``. Empty if it is sent.
    withheld: str = ""

    @property
    def reached(self) -> str | None:
        """The recipient, if a message is really sent."""
        return None if self.test_recipient else self.recipient

    def only_if(self, is_admitted: bool) -> Route:
        """This route, or a decoy's if the message may not be sent. Both take the same work."""
        reached = self.reached
        why = "test_recipient" if self.test_recipient else "unknown" if self.recipient is None else "numbers"
        withheld = self.withheld or ("" if reached is not None and is_admitted else why)
        return replace(self, recipient=reached if is_admitted else None, test_recipient=None, withheld=withheld)


class Router:
    """The channels of one app, and the recipients that they reach."""

    def __init__(self, components: Components) -> None:
        self._app = components.app
        self._settings = components.settings
        self._hooks = components.hooks
        self._test_recipients = components.test_recipients
        self._configured = channels_from_settings(self._app, self._settings)
        #: All channels, and the hooks that they were resolved from.
        self._resolved: tuple[dict[str, Channel], dict[str, Failover]] = {}, self._configured

    def channels(self) -> dict[str, Failover]:
        """All channels by name. The app's own functions take precedence over those of the settings."""
        own = self._hooks.channels
        if self._resolved[0] is not own:
            for channel in own.values():
                channel.default_timeout = self._settings.channel_timeout
            self._resolved = own, self._configured | {name: (channel,) for name, channel in own.items()}
        sending = self._resolved[1] or last_resort(self._app, self._settings)
        return sending if self._hooks.factors_loader is None else sending | _KEPT

    def channels_of(self, purpose: Purpose) -> dict[str, Failover]:
        """The channels that a code of this purpose may take, including the app's own functions."""
        channels = self.channels()
        return {name: channels[name] for name in purpose.channels or channels if name in channels}

    def accepts(self, purpose: Purpose) -> str:
        """What a user may enter for this purpose: ``"email"``, ``"phone"`` or ``"both"``."""
        if not purpose.typed:
            return "email"  # no other channel carries a link
        channels = _sending(self.channels_of(purpose))
        kinds = {provider.accepts for providers in channels.values() for provider in providers}
        return (kinds.pop() or "both") if len(kinds) == 1 else "both"

    def check_names(self) -> None:
        """
        :raises ConfigError: a channel has a name of ours, or a channel budget or a purpose names one that does not
            exist.
        """
        for name in (*self._configured, *self._hooks.channels):
            if name in (*KEPT_FACTORS, TRUSTED):
                # Nothing would go out by it, or its proofs would be empty.
                raise ConfigError(f"OTP_CHANNELS: no channel can be called {name!r}: flask_otp uses this name")
        known = list(self.channels())
        named: dict[str, Iterable[str]] = {"OTP_CHANNEL_BUDGET": self._settings.channel_budget}
        named |= {f"OTP_PURPOSES[{name!r}]": purpose.channels for name, purpose in self._settings.purposes.items()}
        for where, names in named.items():
            for name in names:
                if name in KEPT_FACTORS and name not in known:
                    raise ConfigError(f"{where}: the channel {name!r} needs otp.factors_loader", see=page_of(where))
                if name not in known:
                    raise ConfigError(
                        f"{where}: there is no channel {name!r}: {nearest(name, known)}", see=page_of(where)
                    )
        for purpose_name, purpose in self._settings.purposes.items():
            if not purpose.typed:
                self._check_links(purpose_name, self.channels_of(purpose))

    def _check_links(self, purpose_name: str, channels: dict[str, Failover]) -> None:
        # During development, the console replaces them all.
        for name, providers in channels.items() if list(channels) != ["console"] else ():
            if any(provider.accepts != "email" for provider in providers):
                raise ConfigError(
                    f"OTP_PURPOSES[{purpose_name!r}]: typed is False, and the channel {name!r} carries no link: "
                    'set "channels" to those that send e-mail'
                )

    def check_dispatcher(self) -> None:
        """
        :raises ConfigError: codes are to go out by the next channel, but the dispatcher sends everything at once.
        """
        is_delayed = any(purpose.next_channel_after is not None for purpose in self._settings.purposes.values())
        if is_delayed and self._hooks.dispatcher is not None and not self._hooks.can_delay:
            raise ConfigError(
                "OTP_NEXT_CHANNEL_AFTER needs a dispatcher with a parameter delay in seconds: "
                "def dispatch(payload, delay=0)"
            )

    def takes(self, purpose: Purpose) -> str:
        """The kinds of identifier: those that the channels accept, or any if a ``recipient_loader`` translates."""
        return self.accepts(purpose) if self._hooks.recipient_loader is None else "both"

    def choose(self, wanted: str | None, purpose: Purpose, address: Identifier, only: Collection[str] = ()) -> str:
        """The requested channel, or the first that accepts this kind of address.

        :param only: the channels that the guard accepts. Empty means all.

        :raises InvalidRequest: the purpose has no such channel.
        :raises InvalidIdentifier: the channel accepts another kind of address.
        :raises DeliveryFailed: there is no channel at all.
        """
        channels = {
            name: providers for name, providers in self.channels_of(purpose).items() if not only or name in only
        }
        if not channels:
            logger.error("no channel can send codes: set OTP_CHANNELS, MAIL_SERVER or OTP_EMAIL_SERVICE")
            raise DeliveryFailed
        if wanted is not None and wanted not in channels:
            raise InvalidRequest(N_("There is no such channel."))
        names = [wanted] if wanted is not None else list(_sending(channels))
        fitting = [name for name in names if _fits(channels[name], address.kind)]
        # A recipient_loader may know the phone number that belongs to an e-mail address.
        if not fitting and self._hooks.recipient_loader is None:
            kinds = {provider.accepts for name in names for provider in channels[name]}
            raise InvalidIdentifier(
                N_("Please enter an e-mail address.") if "email" in kinds else N_("Please enter a phone number.")
            )
        return (fitting or names)[0]

    def others(self, purpose: Purpose, channel: str, identifier: str) -> tuple[str, ...]:
        """The other channels that may reach the same identifier, judged by the settings alone."""
        channels, kind = self.channels_of(purpose), identifiers.kind(identifier)
        translates = self._hooks.recipient_loader is not None
        return tuple(
            name
            for name, providers in channels.items()
            if name not in (channel, *KEPT_FACTORS) and (translates or _fits(providers, kind))
        )

    def next_channels(
        self, purpose: Purpose, channel: str, identifier: str, only: Collection[str] = ()
    ) -> tuple[str, ...]:
        """The channels for the code if it is not verified in time: those that follow in the purpose's list.

        :param only: the channels that the guard accepts. Empty means all.
        """
        if purpose.next_channel_after is None:
            return ()
        names = list(self.channels_of(purpose))
        others = self.others(purpose, channel, identifier)
        following = names[names.index(channel) + 1 :]
        return tuple(name for name in following if name in others and (not only or name in only))[:_MOST_NEXT]

    def resolve(self, address: str, channel: str) -> Route:
        """Where a message by this channel goes for a canonical identifier. Calls the ``recipient_loader`` once.

        :raises ConfigError: the loader returned something else than text, such as the user.
        """
        recipient: str | None = address
        if self._hooks.recipient_loader is not None:
            # An empty address counts as none: the message must not go to the typed identifier instead.
            recipient = self._hooks.recipient_loader(address, channel) or None
            if not isinstance(recipient, (str, type(None))):
                raise ConfigError(f"the recipient_loader must return text or None, not {type(recipient).__name__}")
        decoy_recipient = self._decoy_recipient(address, channel)
        test_recipient = self._test_recipients.find(recipient)
        return Route(
            channel=channel,
            recipient=recipient if test_recipient else self._admitted(recipient, decoy_recipient, channel),
            decoy_recipient=decoy_recipient,
            test_recipient=test_recipient,
            takes_phones=_fits(self.channels().get(channel, ()), "phone"),
        )

    def test_recipient_of(self, handle: Handle) -> TestRecipient | None:
        """The entry of the test recipient that a challenge was opened for, while it is valid."""
        return self.resolve(handle.identifier, handle.channel).test_recipient if handle.is_test else None

    def _admitted(self, recipient: str | None, decoy_recipient: str, channel: str) -> str | None:
        """The recipient in canonical form, if messages may go there."""
        # Checked for unknown identifiers too: the time would reveal who has an account.
        place = recipient or decoy_recipient
        if not (self._kinds(channel) <= {"phone"} or identifiers.kind(place.strip()) == "phone"):
            return recipient
        # A person typed this number once, even if a recipient_loader supplies it now.
        phone = identifiers.phone_in(place, self._settings.sms_countries)
        if phone is None:
            logger.warning("nothing is sent: the phone number is invalid or outside OTP_SMS_COUNTRIES")
        return phone if recipient else None

    def _decoy_recipient(self, address: str, channel: str) -> str:
        kinds = self._kinds(channel)
        if kinds == {"phone"} and not address.startswith("+"):
            return identifiers.example_phone(self._settings.sms_countries)
        return "nobody@example.com" if kinds == {"email"} and address.startswith("+") else address

    def _kinds(self, channel: str) -> set[str | None]:
        return {provider.accepts for provider in self.channels().get(channel, ())}


def _sending(channels: dict[str, Failover]) -> dict[str, Failover]:
    """The channels that send something. If there are none, all of them."""
    return {name: providers for name, providers in channels.items() if name not in KEPT_FACTORS} or channels


def _fits(providers: Failover, kind: str) -> bool:
    return any(provider.accepts in (None, kind) for provider in providers)


def channels_from_settings(app: Flask, settings: Settings) -> dict[str, Failover]:
    """The channels of ``OTP_CHANNELS``. By default e-mail, if it is configured.

    :raises ConfigError: a value is not a channel, or the console is named outside debug and testing.
    """
    fill_service(app.config, settings.email_service)
    wanted = settings.channels
    if wanted is None:
        has_mail = settings.email_service or app.config.get("MAIL_SERVER") or "mail" in app.extensions
        wanted = {"email": "email"} if has_mail else {}
    return {name: _providers(name, value, app, settings) for name, value in wanted.items()}


def last_resort(app: Flask, settings: Settings) -> dict[str, Failover]:
    """The channels if nothing was configured and no hook added any: the console in debug and testing."""
    if settings.channels is None and (app.debug or app.testing):
        return {"console": (ConsoleChannel(),)}
    return {}


def _providers(name: str, value: Any, app: Flask, settings: Settings) -> Failover:
    steps = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not steps:
        raise ConfigError(f"OTP_CHANNELS[{name!r}] is empty")
    return tuple(_channel(name, step, app, settings) for step in steps)


def _channel(name: str, value: Any, app: Flask, settings: Settings) -> Channel:
    channel = _made(name, value, app, settings)
    channel.default_timeout = settings.channel_timeout
    return channel


def _made(name: str, value: Any, app: Flask, settings: Settings) -> Channel:
    if value == "email":
        if "mail" not in app.extensions:
            Mail(app)
        options = MailOptions(settings.email_ehlo, settings.email_ca, settings.email_oauth)
        return EmailChannel(app, settings.email_timeout, settings.email_reply_to, options)
    if value == "console":
        if not (app.debug or app.testing):
            raise ConfigError(
                f"OTP_CHANNELS[{name!r}]: the console prints codes, so it is allowed only in debug and testing"
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
        raise ConfigError(
            f"{where} is the URL of a service: pip install 'flask-otp-codes[apprise]'", see=page_of(where)
        ) from None
    channel = import_module("..channels.apprise", __package__).AppriseChannel
    made: Channel = channel(where, url, settings.channel_timeout, settings.site_name or app.name)
    return made
