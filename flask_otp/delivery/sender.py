"""How a message gets to a person.

At once, in a background thread, or through the app's own queue; in each case the challenge was saved before.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, Protocol

from blinker import Signal
from flask import Flask

from .. import languages
from ..channels import Channel
from ..config.settings import Settings
from ..crypto.payloads import Handle
from ..crypto.tokens import Tokens
from ..errors import DeliveryFailed, StoreUnavailable
from ..hooks import Hooks
from ..models import Message
from ..rendering import Templates
from ..signals import code_sent, delivery_failed
from ..stores import Store
from .background import Background
from .failover import Ladders, redact
from .messages import build_message, link_address, render_message
from .routing import Directory

logger = logging.getLogger("flask_otp")


class Undo(Protocol):
    """See :meth:`flask_otp.charges.Charge.undo`."""

    def __call__(self, *, discreetly: bool = False) -> None: ...


class Courier:
    """Delivers the messages of one app."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        tokens: Tokens,
        hooks: Hooks,
        directory: Directory,
        store: Store,
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._settings = settings
        self._tokens = tokens
        self._hooks = hooks
        self._directory = directory
        self._store = store
        self.clock = clock
        self.site_name = settings.site_name or app.name
        self._background = Background(app)
        self._ladders = Ladders(app, settings.channel_timeout, lambda: self.clock())
        self.templates = Templates(app)
        #: Takes every message in place of the channels: for :mod:`flask_otp.testing` only.
        self.intercept: Channel | None = None

    def send(self, handle: Handle, recipient: str | None, undo: Undo) -> None:
        """Deliver the code of ``handle``, or only pretend to when ``recipient`` is ``None``.

        :param undo: called when the message did not go out.
        :raises DeliveryFailed: it did not, and that is known already.
        """
        try:
            # Rendered for those who do not exist too: what it costs would tell.
            stand_in = self._directory.stand_in(handle.identifier, handle.channel)
            message = self._compose(handle, recipient or stand_in, secrets.token_urlsafe(16))
            vetoed = self._hooks.before_send is not None and self._hooks.before_send(message) is False
        except Exception:
            undo()
            raise
        nobody = recipient is None or vetoed
        if vetoed:
            undo(discreetly=True)
        if self._hooks.dispatcher is not None:
            # In the queue too, those who do not exist are there, and a broken queue fails for all.
            self._dispatch(replace(handle, pretend=nobody), message, undo)
        elif self._is_background():
            self._send_later(handle, message, undo, nobody)
        elif not nobody:
            self._deliver(handle, message, undo)

    def _send_later(self, handle: Handle, message: Message, undo: Undo, nobody: bool) -> None:
        discreet = self._hooks.recipient_loader is not None
        # Where nobody may learn who exists, a failure must not show in what the next request is told.
        give_back = partial(undo, discreetly=discreet)
        job = (lambda: None) if nobody else (lambda: self._deliver(handle, message, give_back))
        # Nor may it show in the time: when the pool is full, all are refused.
        if not self._background.run(job, discreet=discreet):
            self._fail(handle, undo)

    def deliver_queued(self, payload: Any) -> None:
        """In a worker: derive the code of a queued delivery and send it, if it is still wanted and has not gone out.

        :raises DeliveryFailed: no channel took it; the queue may try again while the code lives.
        :raises StoreUnavailable: nobody can say whether it is wanted. Nothing was sent; the queue should try again.
        """
        delivery = self._tokens.load_delivery(payload.get("delivery") if isinstance(payload, dict) else None)
        handle = self._tokens.load_handle(delivery[0]) if delivery else None
        if delivery is None or handle is None:
            logger.error("a delivery that this app did not sign was dropped")
        else:
            self._deliver_once(handle, *delivery[1:])

    def _deliver_once(self, handle: Handle, recipient: str, message_id: str, locale: str | None) -> None:
        """Once, as far as that can be known: who dies between sending and noting it lets it go out again."""
        now = int(self.clock())
        mark = handle.keys.tag(handle.subject, b"delivered", message_id.encode())
        if self._store.holds(handle.subject, mark, now):
            logger.info("a delivery that had gone out already was run again and dropped")
        elif not self._store.is_live(handle.subject, handle.challenge_id, now):
            logger.warning("a delivery was dropped: its code has expired, was used or revoked, or is in another store")
            if not handle.pretend:
                self._tell(delivery_failed, handle)
        else:
            # Noted for nobody as well: the next request must not find less to read.
            if not handle.pretend:
                self._deliver(handle, self._compose(handle, recipient, message_id, locale), undo=_nothing)
            try:
                self._store.note(handle.subject, mark, handle.expires_at, now)
            except StoreUnavailable:
                # Were it raised, the queue would have it sent again for certain.
                logger.warning("a delivery went out, but could not be noted: run again, it would go out again")

    def _is_background(self) -> bool:
        mode = self._settings.delivery
        # With a recipient_loader, the time that a delivery takes would tell who has an account.
        return mode == "background" or (mode == "auto" and self._hooks.recipient_loader is not None)

    def _dispatch(self, handle: Handle, message: Message, undo: Undo) -> None:
        assert self._hooks.dispatcher is not None
        token = self._tokens.dump_handle(handle)
        # The worker has no request that would say in which language.
        locale = languages.current_locale()
        payload = {"delivery": self._tokens.dump_delivery(token, message.recipient, message.id, locale)}
        try:
            self._hooks.dispatcher(payload)
            return
        except Exception as error:
            logger.error("the dispatcher failed: %s", type(error).__name__)
        self._fail(handle, undo)

    def _deliver(self, handle: Handle, message: Message, undo: Undo) -> None:
        if self.intercept is not None:
            self.intercept.deliver(message)
        elif not self._ladders.climb(self._directory.ladders().get(handle.channel, ()), message):
            self._fail(handle, undo)
        self._tell(code_sent, handle)

    def _fail(self, handle: Handle, undo: Undo) -> NoReturn:
        try:
            undo()
        finally:
            self._tell(delivery_failed, handle)
        raise DeliveryFailed(retry_after=max(1, handle.ready_at - int(self.clock())))

    def _tell(self, signal: Signal, handle: Handle) -> None:
        signal.send(self._app, identifier=handle.identifier, channel=handle.channel, purpose=handle.purpose)

    def _compose(self, handle: Handle, recipient: str, message_id: str, locale: str | None = None) -> Message:
        """
        :param locale: in which language; by default the current one.
        :raises DeliveryFailed: the app's builder failed. Its exception goes no further: it may quote the code.
        """
        with languages.speaking(locale):
            message = self._render(handle, recipient, message_id)
            if self._hooks.message_builder is None:
                return message
            try:
                return build_message(self._hooks.message_builder, message)
            except Exception as error:
                logger.error("the message_builder failed: %s", redact(f"{type(error).__name__}: {error}", message))
        return self._fail(handle, undo=_nothing)

    def _render(self, handle: Handle, recipient: str, message_id: str) -> Message:
        message = render_message(
            self.templates,
            code=handle.code,
            channel=handle.channel,
            recipient=recipient,
            purpose=handle.purpose,
            facts=handle.facts,
            expires_in=max(0, handle.expires_at - int(self.clock())),
            site_name=self.site_name,
            base_url=self._settings.base_url,
            link=self._link(handle),
            code_in_subject=self._settings.code_in_subject,
        )
        return replace(message, id=message_id)

    def _link(self, handle: Handle) -> str | None:
        base_url = self._settings.base_url if self._settings.links else None
        return None if base_url is None else link_address(self._app, base_url, handle.purpose, handle.link)


def _nothing(*, discreetly: bool = False) -> None:
    """Nothing is given back: somebody else does, or a queue may try again."""
