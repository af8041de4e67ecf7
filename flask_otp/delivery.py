"""From a challenge to a person: which channel, which recipient, and how the message gets there.

At once, in a background thread, or through the app's own queue; in each case the challenge was saved before.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from blinker import Signal
from flask import Flask
from jinja2 import Environment

from . import identifiers
from .background import Background
from .channels import Channel, Ladder, Message, channels_from_settings, last_resort
from .errors import ConfigError, DeliveryFailed, InvalidIdentifier, InvalidRequest
from .hooks import Hooks
from .identifiers import Identifier
from .messages import link_address, message_templates, render_message
from .settings import Purpose, Settings, nearest
from .signals import code_sent, delivery_failed
from .tokens import Handle, Tokens

logger = logging.getLogger("flask_otp")


class Courier:
    """Delivers the messages of one app."""

    def __init__(
        self, app: Flask, settings: Settings, tokens: Tokens, hooks: Hooks, clock: Callable[[], float]
    ) -> None:
        self._app = app
        self._settings = settings
        self._tokens = tokens
        self._hooks = hooks
        self.clock = clock
        self.site_name = settings.site_name or app.name
        self._configured = channels_from_settings(app, settings)
        self._background = Background(app)
        self._templates: Environment | None = None
        #: Takes every message in place of the channels: for :mod:`flask_otp.testing` only.
        self.intercept: Channel | None = None

    # Which channel and which recipient

    def channels(self, purpose: Purpose) -> dict[str, Ladder]:
        """The channels that a code of this purpose may take, the app's own functions included."""
        ladders = self._all_channels()
        return {name: ladders[name] for name in purpose.channels or ladders if name in ladders}

    def accepts(self, purpose: Purpose) -> str:
        """What a person may enter for this purpose: ``"email"``, ``"phone"`` or ``"both"``."""
        kinds = {step.accepts for ladder in self.channels(purpose).values() for step in ladder}
        return (kinds.pop() or "both") if len(kinds) == 1 else "both"

    def check_names(self) -> None:
        """
        :raises ConfigError: a channel's budget, or a purpose, names a channel that does not exist.
        """
        known = list(self._all_channels())
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
            raise InvalidRequest("There is no such channel.")
        names = [wanted] if wanted is not None else list(channels)
        fitting = [name for name in names if _fits(channels[name], address.kind)]
        # A recipient_loader may know the phone number that belongs to an e-mail address.
        if not fitting and self._hooks.recipient_loader is None:
            kinds = {step.accepts for name in names for step in channels[name]}
            raise InvalidIdentifier(f"Please enter {'an e-mail address' if 'email' in kinds else 'a phone number'}.")
        return (fitting or names)[0]

    def recipient(self, address: str, channel: str) -> str | None:
        """Where the message goes; ``None`` to pretend: nobody has that identifier, or it may not be sent to."""
        recipient: str | None = address
        if self._hooks.recipient_loader is not None:
            # An empty address is none: the message must not go to what was typed in its place.
            recipient = self._hooks.recipient_loader(address, channel) or None
        takes_phones = all(step.accepts == "phone" for step in self._all_channels().get(channel, ()))
        if recipient is None or not (takes_phones or recipient.startswith("+")):
            return recipient
        if identifiers.in_countries(recipient, self._settings.sms_countries):
            return recipient
        logger.warning("a phone number outside of OTP_SMS_COUNTRIES was asked for: nothing is sent")
        return None

    # How the message gets there

    def send(self, handle: Handle, recipient: str | None, undo: Callable[[], None]) -> None:
        """Deliver the code of ``handle``, or only pretend to when ``recipient`` is ``None``.

        :param undo: gives the count back and drops the challenge: called when the message did not go out.
        :raises DeliveryFailed: it did not, and that is known already.
        """
        try:
            # Rendered for those who do not exist too: what it costs would tell.
            message = self._render(handle, recipient or handle.identifier)
            vetoed = self._hooks.before_send is not None and self._hooks.before_send(message) is False
        except Exception:
            undo()
            raise
        nobody = recipient is None or vetoed
        if self._hooks.dispatcher is not None:
            # In the queue too, those who do not exist are there, and a broken queue fails for all.
            self._dispatch(replace(handle, pretend=nobody), message.recipient, undo)
        elif self._is_background():
            self._send_later(handle, message, undo, nobody)
        elif not nobody:
            self._deliver(handle, message, undo)

    def _send_later(self, handle: Handle, message: Message, undo: Callable[[], None], nobody: bool) -> None:
        discreet = self._hooks.recipient_loader is not None
        # Where nobody may learn who exists, a failure must not show in what the next request is told.
        give_back = (lambda: None) if discreet else undo
        job = (lambda: None) if nobody else (lambda: self._deliver(handle, message, give_back))
        # Nor may it show in the time: when the pool is full, all are refused.
        if not self._background.run(job, inline_when_full=not discreet):
            self._fail(handle, undo)

    def deliver_queued(self, payload: Any) -> None:
        """In a worker: derive the code of a queued delivery and send it. What is not ours or too late is dropped.

        :raises DeliveryFailed: no channel took it; the queue may try again while the code lives.
        """
        delivery = self._tokens.load_delivery(payload.get("delivery") if isinstance(payload, dict) else None)
        handle = self._tokens.load_handle(delivery[0]) if delivery else None
        if delivery is None or handle is None:
            logger.error("a delivery that this app did not sign was dropped")
        elif handle.expires_at <= self.clock():
            logger.warning("a delivery came after its code had expired and was dropped")
            self._tell(delivery_failed, handle)
        elif not handle.pretend:
            self._deliver(handle, self._render(handle, delivery[1]), undo=lambda: None)

    def _is_background(self) -> bool:
        mode = self._settings.delivery
        # With a recipient_loader, the time that a delivery takes would tell who has an account.
        return mode == "background" or (mode == "auto" and self._hooks.recipient_loader is not None)

    def _dispatch(self, handle: Handle, recipient: str, undo: Callable[[], None]) -> None:
        assert self._hooks.dispatcher is not None
        payload = {"delivery": self._tokens.dump_delivery(self._tokens.dump_handle(handle), recipient)}
        try:
            self._hooks.dispatcher(payload)
            return
        except Exception as error:
            logger.error("the dispatcher failed: %s", type(error).__name__)
        self._fail(handle, undo)

    def _deliver(self, handle: Handle, message: Message, undo: Callable[[], None]) -> None:
        kind = identifiers.kind(message.recipient)
        for channel in self._ladder(handle):
            if channel.accepts not in (None, kind):
                continue
            failure = _attempt(channel.deliver, message)
            if failure is None:
                self._tell(code_sent, handle)
                return
            logger.error("channel %r (%s) failed: %s", handle.channel, type(channel).__name__, failure)
        self._fail(handle, undo)

    def _fail(self, handle: Handle, undo: Callable[[], None]) -> None:
        try:
            undo()
        finally:
            self._tell(delivery_failed, handle)
        raise DeliveryFailed(retry_after=max(1, handle.ready_at - int(self.clock())))

    def _all_channels(self) -> dict[str, Ladder]:
        own = {name: (channel,) for name, channel in self._hooks.channels.items()}
        return self._configured | own or last_resort(self._app, self._settings)

    def _ladder(self, handle: Handle) -> Ladder:
        return (self.intercept,) if self.intercept is not None else self._all_channels().get(handle.channel, ())

    def _tell(self, signal: Signal, handle: Handle) -> None:
        signal.send(self._app, identifier=handle.identifier, channel=handle.channel, purpose=handle.purpose)

    def _render(self, handle: Handle, recipient: str) -> Message:
        if self._templates is None:
            # Not before the first message: the app may still set its Jinja options while it is being made.
            self._templates = message_templates(self._app)
        return render_message(
            self._templates,
            code=handle.code,
            channel=handle.channel,
            recipient=recipient,
            purpose=handle.purpose,
            facts=handle.facts,
            expires_in=max(0, handle.expires_at - int(self.clock())),
            site_name=self.site_name,
            base_url=self._settings.base_url,
            link=self._link(handle),
        )

    def _link(self, handle: Handle) -> str | None:
        base_url = self._settings.base_url if self._settings.links else None
        return None if base_url is None else link_address(self._app, base_url, handle.purpose, handle.link)


def redact(text: str, message: Message) -> str:
    """``text`` on one line, without code, link and recipient: libraries like to quote what they could not send."""
    code = r"[\s-]*".join(map(re.escape, message.code))
    address = message.recipient.removeprefix("+")
    words = [code, re.escape(address), re.escape(quote(address))]
    if message.link is not None:
        secret = urlsplit(message.link).path.rpartition("/")[2]
        # Its line is longer than a line of quoted-printable, where each break is led by "=".
        words.append(r"(?:[\s=]|\\[rn])*".join(map(re.escape, secret)))
    secrets = "|".join(words)
    text = re.sub(secrets, "[redacted]", text, flags=re.IGNORECASE)
    return " ".join(text.split())[:500]


def _attempt(send: Callable[[Message], None], message: Message) -> str | None:
    """What went wrong, in words that may be logged. The exception itself goes no further: it may quote the code."""
    try:
        send(message)
    except Exception as error:
        return redact(f"{type(error).__name__}: {error}", message)
    return None


def _fits(ladder: Ladder, kind: str) -> bool:
    return any(step.accepts in (None, kind) for step in ladder)
