"""How a message gets to a person.

At once, in a background thread, or through the app's own queue; in each case the challenge was saved before.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any, NoReturn, TypeVar

from blinker import NamedSignal

from .. import languages
from ..channels import Channel, ConsoleChannel
from ..config.safe_recipients import may_go_to
from ..config.settings import Purpose
from ..crypto.payloads import Handle
from ..errors import DeliveryFailed, StoreUnavailable
from ..limits.reservation import Reservation
from ..models import Message
from ..signals import code_sent, delivery_failed, delivery_queued, delivery_started, message_withheld
from .background import Background
from .components import Components
from .failover import Deliverer, Secrets, redact
from .later import Later
from .messages import build_message, link_address, render_message
from .moulds import Moulds
from .routing import Route, Router

logger = logging.getLogger("flask_otp")

T = TypeVar("T")

#: Seconds after which a message in the background is asked about before it goes out.
_LATE = 2

#: Seconds between two looks at what another worker is at, and what a delivery may take beside the steps' time-outs.
_LOOK = 0.1
_SLACK = 5


@dataclass(frozen=True, repr=False)
class _Secrets:
    """What a log line on a message may not show, where there is no message yet."""

    code: str
    recipient: str
    link: str | None


class Sender:
    """Delivers the messages of one app."""

    def __init__(self, components: Components, routing: Router) -> None:
        self._parts = components
        self._app = components.app
        self._settings = components.settings
        self._tokens = components.tokens
        self._hooks = components.hooks
        self._routing = routing
        self._moulds = Moulds(components.templates)
        self._background = Background(self._app)
        #: What goes out later without a queue.
        self.later = Later(self._background, lambda: components.clock())
        self._deliverer = Deliverer(
            self._app, self._settings.channel_timeout, lambda: components.clock(), components.events
        )
        #: Takes every message in place of the channels: for :mod:`flask_otp.testing` only.
        self.intercept: Channel | None = None
        #: Whether the caller waits for each delivery whatever the settings say, as ``flask otp send`` does.
        self.is_waiting = False

    def send(self, handle: Handle, route: Route, reservation: Reservation) -> None:
        """Deliver the code of ``handle``, or only pretend to where the route reaches nobody.

        :param reservation: released when the message did not go out.
        :raises DeliveryFailed: it did not, and that is known already.
        """
        # Rendered for unknown identifiers too: what it costs would tell.
        message = self._compose(handle, route.recipient or route.decoy_recipient, secrets.token_urlsafe(16))
        is_vetoed = self._is_vetoed(handle, message)
        if is_vetoed:
            reservation.release(keep_challenge=True)
        is_decoy = route.recipient is None or is_vetoed
        # Empty where only the queue has nothing to send, since it was captured.
        withheld = (route.withheld, "vetoed")[is_vetoed]
        if self.intercept is not None and not is_decoy:
            # At once, however messages are delivered. What comes after it, such as a queue, has nothing more to send.
            self._deliver(handle, message, reservation.release)
            is_decoy = True
        if self._hooks.dispatcher is not None:
            # Decoys are in the queue too, and a broken queue fails for everybody.
            self._dispatch(replace(handle, is_decoy=is_decoy), message, reservation)
        elif self._is_background():
            self._send_later(handle, message, reservation, is_decoy, withheld)
        elif is_decoy:
            self._tell_withheld(handle, withheld)
        else:
            self._deliver(handle, message, reservation.release)

    def _is_vetoed(self, handle: Handle, message: Message) -> bool:
        hook = self._hooks.before_send
        return hook is not None and self._shielded("before_send", handle, message, lambda: hook(message)) is False

    def _send_later(
        self, handle: Handle, message: Message, reservation: Reservation, is_decoy: bool, withheld: str
    ) -> None:
        # With a recipient_loader, a failure must not show in what the next request of this client is told.
        is_discreet = self._hooks.recipient_loader is not None
        release = partial(reservation.release, keep_challenge=is_discreet)
        asked_at, locale = self._parts.clock(), languages.current_locale()
        carrier: dict[str, str] = {}
        self._parts.events.tell(delivery_queued, "queued", handle, arguments={"carrier": carrier})

        def job() -> None:
            self._tell_start(handle, carrier)
            if is_decoy:
                self._tell_withheld(handle, withheld)
            else:
                self._deliver_later(handle, message, release, asked_at, locale)

        # Nor may it show in the time: when the pool is full, all are refused.
        if not self._background.run(job, discreet=is_discreet):
            logger.error("a delivery was refused: too many wait in the background")
            self._fail(handle, reservation.release)

    def _deliver_later(
        self, handle: Handle, message: Message, release: Callable[[], None], asked_at: float, locale: str
    ) -> None:
        """In the background. A hung mail server or a frozen process may have kept the message until it is no use."""
        if self._parts.clock() - asked_at >= _LATE:
            if not self._is_wanted(handle):
                return
            # It says for how many minutes the code is good.
            message = self._compose(handle, message.recipient, message.id, locale)
        self._deliver(handle, message, release)

    def _is_wanted(self, handle: Handle) -> bool:
        """Whether the code of a message that had to wait may still be redeemed. If not, that is told.

        :raises StoreUnavailable: the store does not say.
        """
        if self._parts.store.is_live(handle.subject, handle.challenge_id, int(self._parts.clock())):
            return True
        logger.warning("a delivery was dropped: its code has expired, was used or revoked, or is in another store")
        if not handle.is_decoy:
            self._tell(delivery_failed, handle, "dropped")
        return False

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
            self._tell_start(handle, {"traceparent": str(payload.get("traceparent", ""))})
            self._deliver_once(handle, *delivery[1:])

    def _deliver_once(self, handle: Handle, recipient: str, message_id: str, locale: str) -> None:
        """Send a queued message, unless another worker has sent it or is at it.

        A worker claims the message first, in one step of the store, for as long as a delivery may take. Another waits
        for it, so that its queue does not take the message for done when the first one fails or dies. Who dies between
        sending and noting it lets the message go out again.
        """
        delivered, claim = (
            handle.keys.tag(handle.subject, word, message_id.encode()) for word in (b"delivered", b"delivering")
        )
        store, longest = self._parts.store, self._longest_delivery(handle)
        give_up_at = time.monotonic() + longest
        while True:
            now = int(self._parts.clock())
            if store.holds(handle.subject, delivered, now):
                logger.info("a delivery that had gone out already was run again and dropped")
                return
            if not self._is_wanted(handle):
                return
            if store.note(handle.subject, claim, now + longest, now) is not False:
                break
            if time.monotonic() >= give_up_at:
                logger.error("a delivery was put off: another worker has been at it for %d seconds", longest)
                raise DeliveryFailed
            time.sleep(_LOOK)
        try:
            # Decoys take the same steps: the next request must not find less to read.
            if handle.is_decoy:
                self._tell_withheld(handle, "queued")
            else:
                self._deliver(handle, self._compose(handle, recipient, message_id, locale), release=_nothing)
        except BaseException:
            self._free(handle, claim)
            raise
        self._note_delivered(handle, delivered)

    def _longest_delivery(self, handle: Handle) -> int:
        """Seconds that one may take: all steps, and what the store and a busy machine may add."""
        providers = self._routing.channels().get(handle.channel, ())
        return ceil(self._deliverer.longest(providers)) + _SLACK

    def _free(self, handle: Handle, claim: bytes) -> None:
        try:
            self._parts.store.spend(handle.subject, claim, int(self._parts.clock()))
        except StoreUnavailable:
            logger.warning("a delivery that failed is claimed for some seconds more: the store is out of reach")

    def _note_delivered(self, handle: Handle, mark: bytes) -> None:
        try:
            self._parts.store.note(handle.subject, mark, handle.expires_at, int(self._parts.clock()))
        except StoreUnavailable:
            # Were it raised, the queue would have it sent again for certain.
            logger.warning("a delivery went out, but could not be noted: run again, it would go out again")

    def postpone(self, payload: dict[str, str], due_at: float, do: Callable[[dict[str, str]], None]) -> None:
        """Have ``do(payload)`` called at a later time, by a worker of the queue or in this process. Never raises."""
        dispatcher = self._hooks.dispatcher
        if dispatcher is None:
            # A process that waits for its delivery is about to end.
            if not self.is_waiting and not self.later.put(due_at, lambda: do(payload)):
                logger.error("a delivery by the next channel was dropped: too many wait")
        elif not self._hooks.can_delay:
            logger.error("a delivery by the next channel was dropped: the dispatcher takes no delay")
        else:
            try:
                dispatcher(payload, delay=ceil(max(0.0, due_at - self._parts.clock())))
            except Exception as error:
                logger.error("the dispatcher failed, for the next channel: %s", type(error).__name__)

    def is_background(self) -> bool:
        """Whether messages go out when their request is answered already, by a thread of this process."""
        return self._hooks.dispatcher is None and self._is_background()

    def _is_background(self) -> bool:
        mode = self._settings.delivery
        if self.is_waiting:
            return False
        # With a recipient_loader, the time that a delivery takes would tell who has an account.
        return mode == "background" or (mode == "auto" and self._hooks.recipient_loader is not None)

    def _dispatch(self, handle: Handle, message: Message, reservation: Reservation) -> None:
        assert self._hooks.dispatcher is not None
        token = self._tokens.dump_handle(handle)
        # The worker has no request that would say in which language.
        locale = languages.current_locale()
        carrier: dict[str, str] = {}
        self._parts.events.tell(delivery_queued, "queued", handle, arguments={"carrier": carrier})
        # Whatever a receiver puts there, only this goes along.
        carried = {name: value for name, value in carrier.items() if name == "traceparent"}
        payload = carried | {"delivery": self._tokens.dump_delivery(token, message.recipient, message.id, locale)}
        try:
            self._hooks.dispatcher(payload)
            return
        except Exception as error:
            logger.error("the dispatcher failed: %s", type(error).__name__)
        self._fail(handle, reservation.release)

    def _deliver(self, handle: Handle, message: Message, release: Callable[[], None]) -> None:
        allowed = self._settings.deliver_only_to
        if self.intercept is not None:
            self.intercept.deliver(message)
        elif allowed is not None and not may_go_to(allowed, message.recipient, self._parts.identifiers):
            self._divert(handle, message)
            return
        elif not self._deliverer.deliver(self._routing.channels().get(handle.channel, ()), message, handle):
            self._fail(handle, release)
        is_repeated = self._asked_at(handle) > self._opened_at(handle)
        self._tell(code_sent, handle, "sent", "repeated" if is_repeated else "first")

    def _divert(self, handle: Handle, message: Message) -> None:
        logger.warning("a message was printed in place of sent: its recipient is not in OTP_DELIVER_ONLY_TO")
        ConsoleChannel().deliver(message)
        self._tell_withheld(handle, "diverted")

    def _fail(self, handle: Handle, release: Callable[[], None]) -> NoReturn:
        try:
            release()
        finally:
            self._tell(delivery_failed, handle, "failed")
        raise DeliveryFailed(retry_after=max(1, handle.ready_at - int(self._parts.clock())))

    def _tell(self, signal: NamedSignal, handle: Handle, outcome: str, reason: str | None = None) -> None:
        whom = {"identifier": handle.identifier, "channel": handle.channel, "purpose": handle.purpose}
        self._parts.events.tell(signal, outcome, handle, reason=reason, arguments=whom)

    def _tell_withheld(self, handle: Handle, reason: str) -> None:
        if reason:
            self._parts.events.tell(message_withheld, "withheld", handle, reason=reason)

    def _tell_start(self, handle: Handle, carrier: dict[str, str]) -> None:
        waited = max(0.0, self._parts.clock() - self._asked_at(handle))
        self._parts.events.tell(delivery_started, "started", handle, seconds=waited, arguments={"carrier": carrier})

    def _asked_at(self, handle: Handle) -> int:
        """When this message was asked for."""
        return handle.ready_at - self._purpose(handle).cooldown

    def _opened_at(self, handle: Handle) -> int:
        return handle.expires_at - self._purpose(handle).expires_in

    def _purpose(self, handle: Handle) -> Purpose:
        # A worker may have other settings than the web process.
        return self._settings.purposes.get(handle.purpose) or next(iter(self._settings.purposes.values()))

    def _compose(self, handle: Handle, recipient: str, message_id: str, locale: str | None = None) -> Message:
        """
        :param locale: in which language; by default the current one.
        :raises DeliveryFailed: a template or the app's builder failed.
        """
        with languages.speaking(locale):
            unsaid = _Secrets(handle.code, recipient, self._link(handle))
            message = self._shielded("a template", handle, unsaid, lambda: self._render(handle, recipient, message_id))
            builder = self._hooks.message_builder
            if builder is None:
                return message
            return self._shielded("the message_builder", handle, message, lambda: build_message(builder, message))

    def _shielded(self, what: str, handle: Handle, unsaid: Secrets, work: Callable[[], T]) -> T:
        """What code of the app's answers. Its exception ends here: it may quote the code, and an error tracker keeps
        the variables of the functions that it came through.

        :raises DeliveryFailed: it raised something.
        """
        try:
            return work()
        except Exception as error:
            reason = redact(f"{type(error).__name__} {_place(error)}: {error}", unsaid)
        logger.error("%s failed: %s", what, reason)
        return self._fail(handle, release=_nothing)

    def _render(self, handle: Handle, recipient: str, message_id: str) -> Message:
        message = render_message(
            self._moulds,
            code=handle.code,
            channel=handle.channel,
            recipient=recipient,
            purpose=handle.purpose,
            context_values=handle.context_values,
            expires_in=max(0, handle.expires_at - int(self._parts.clock())),
            site_name=self._parts.site_name,
            base_url=self._settings.base_url,
            link=self._link(handle),
            code_in_subject=self._settings.code_in_subject,
        )
        return replace(message, id=message_id)

    def _link(self, handle: Handle) -> str | None:
        base_url = self._settings.base_url if self._settings.links else None
        return None if base_url is None else link_address(self._app, base_url, handle.purpose, handle.link)


def _place(error: Exception) -> str:
    """The line that raised it."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"({os.path.basename(frame.f_code.co_filename)}, line {line})"


def _nothing() -> None:
    """Nothing is given back here: the reservation's owner does it, or a queue may try again."""
