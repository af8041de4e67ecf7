"""Delivers messages: at once, in a background thread, or through the app's own queue.

In each case the challenge was saved before.
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
from .outbox import DeveloperOutbox
from .routing import Route, Router

logger = logging.getLogger("flask_otp")

T = TypeVar("T")

#: Seconds after which a background message is checked again before it is sent.
_LATE = 2

#: Seconds between two checks of another worker's delivery, and what a delivery may take besides the steps' timeouts.
_LOOK = 0.1
_SLACK = 5


@dataclass(frozen=True, repr=False)
class _Secrets:
    """The values that a log line must not show, if there is no message yet."""

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
        #: Delayed deliveries in apps without a queue.
        self.later = Later(self._background, lambda: components.clock())
        self._deliverer = Deliverer(
            self._app, self._settings.channel_timeout, lambda: components.clock(), components.events
        )
        self.outbox = DeveloperOutbox(self._app, self._settings.outbox)
        #: Takes every message instead of the channels. Only for :mod:`flask_otp.testing`.
        self.intercept: Channel | None = None
        #: Whether the caller waits for each delivery regardless of the settings, as ``flask otp send`` does.
        self.is_waiting = False

    def send(self, handle: Handle, route: Route, reservation: Reservation) -> None:
        """Deliver the code of ``handle``. If the route is a decoy's, only take the same steps.

        :param reservation: released if the message is not sent.
        :raises DeliveryFailed: the message was not delivered, and this is known already.
        """
        # Rendered for unknown identifiers too, because its cost would reveal them.
        message = self._compose(handle, route.recipient or route.decoy_recipient, secrets.token_urlsafe(16))
        is_vetoed = self._is_vetoed(handle, message)
        if is_vetoed:
            reservation.release(keep_challenge=True)
        is_decoy = route.recipient is None or is_vetoed
        # Empty if only the queue has nothing to send, because the message was captured.
        withheld = (route.withheld, "vetoed")[is_vetoed]
        if self.intercept is not None and not is_decoy:
            # At once, however messages are delivered. The steps after it, such as a queue, have nothing left to send.
            self._deliver(handle, message, reservation.release)
            is_decoy = True
        if self._hooks.dispatcher is not None:
            # Decoys are queued too, and a broken queue fails for everyone.
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
        # With a recipient_loader, a failure must not show in the response to this client's next request.
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

        # Nor in the time: if the pool is full, all deliveries are refused.
        if not self._background.run(job, discreet=is_discreet):
            logger.error("a delivery was refused: too many are waiting in the background")
            self._fail(handle, reservation.release)

    def _deliver_later(
        self, handle: Handle, message: Message, release: Callable[[], None], asked_at: float, locale: str
    ) -> None:
        """Deliver in the background. A hung mail server or a frozen process may delay the message for too long."""
        if self._parts.clock() - asked_at >= _LATE:
            if not self._is_wanted(handle):
                return
            # The message says for how many minutes the code is valid.
            message = self._compose(handle, message.recipient, message.id, locale)
        self._deliver(handle, message, release)

    def _is_wanted(self, handle: Handle) -> bool:
        """Whether the code of a delayed message may still be redeemed. If not, this is logged and signalled.

        :raises StoreUnavailable: the store does not answer.
        """
        if self._parts.store.is_live(handle.subject, handle.challenge_id, int(self._parts.clock())):
            return True
        logger.warning("a delivery was dropped: its code has expired, was used or revoked, or is in another store")
        if not handle.is_decoy:
            self._tell(delivery_failed, handle, "dropped")
        return False

    def deliver_queued(self, payload: Any) -> None:
        """Runs in a worker: derive the code of a queued delivery and send it, if it is still wanted and not yet sent.

        :raises DeliveryFailed: no channel took it. The queue may try again while the code is valid.
        :raises StoreUnavailable: it is not known whether the message is wanted. Nothing was sent, and the queue should
            try again.
        """
        delivery = self._tokens.load_delivery(payload.get("delivery") if isinstance(payload, dict) else None)
        handle = self._tokens.load_handle(delivery[0]) if delivery else None
        if delivery is None or handle is None:
            logger.error("a delivery not signed by this app was dropped")
        else:
            self._tell_start(handle, {"traceparent": str(payload.get("traceparent", ""))})
            self._deliver_once(handle, *delivery[1:])

    def _deliver_once(self, handle: Handle, recipient: str, message_id: str, locale: str) -> None:
        """Send a queued message, unless another worker has sent it or is sending it.

        A worker first claims the message in one step of the store, for as long as a delivery may take. Another worker
        waits for it, because its queue must not take the message for done if the first worker fails or dies. A worker
        that dies after sending but before recording it will send again.
        """
        delivered, claim = (
            handle.keys.tag(handle.subject, word, message_id.encode()) for word in (b"delivered", b"delivering")
        )
        store, longest = self._parts.store, self._longest_delivery(handle)
        give_up_at = time.monotonic() + longest
        while True:
            now = int(self._parts.clock())
            if store.holds(handle.subject, delivered, now):
                logger.info("a delivery that was already sent was run again and dropped")
                return
            if not self._is_wanted(handle):
                return
            if store.note(handle.subject, claim, now + longest, now) is not False:
                break
            if time.monotonic() >= give_up_at:
                logger.error("a delivery was postponed: another worker has been sending it for %d seconds", longest)
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
        """Maximum seconds for one delivery: all steps, plus the time of the store and a busy machine."""
        providers = self._routing.channels().get(handle.channel, ())
        return ceil(self._deliverer.longest(providers)) + _SLACK

    def _free(self, handle: Handle, claim: bytes) -> None:
        try:
            self._parts.store.spend(handle.subject, claim, int(self._parts.clock()))
        except StoreUnavailable:
            logger.warning("a failed delivery stays claimed for some seconds: the store is unreachable")

    def _note_delivered(self, handle: Handle, mark: bytes) -> None:
        try:
            self._parts.store.note(handle.subject, mark, handle.expires_at, int(self._parts.clock()))
        except StoreUnavailable:
            # If this were raised, the queue would certainly send the message again.
            logger.warning("a delivery was sent but could not be noted: if it is run again, it is sent again")

    def postpone(self, payload: dict[str, str], due_at: float, do: Callable[[dict[str, str]], None]) -> None:
        """Have ``do(payload)`` called later, by a worker of the queue or in this process. Never raises."""
        dispatcher = self._hooks.dispatcher
        if dispatcher is None:
            # A process that waits for its delivery is about to end.
            if not self.is_waiting and not self.later.put(due_at, lambda: do(payload)):
                logger.error("a delivery by the next channel was dropped: too many are waiting")
        elif not self._hooks.can_delay:
            logger.error("a delivery by the next channel was dropped: the dispatcher does not support a delay")
        else:
            try:
                dispatcher(payload, delay=ceil(max(0.0, due_at - self._parts.clock())))
            except Exception as error:
                logger.error("the dispatcher failed for the next channel: %s", type(error).__name__)

    def is_background(self) -> bool:
        """Whether a thread of this process sends messages after their request was answered."""
        return self._hooks.dispatcher is None and self._is_background()

    def _is_background(self) -> bool:
        mode = self._settings.delivery
        if self.is_waiting:
            return False
        # With a recipient_loader, the time of a delivery would reveal who has an account.
        return mode == "background" or (mode == "auto" and self._hooks.recipient_loader is not None)

    def _dispatch(self, handle: Handle, message: Message, reservation: Reservation) -> None:
        assert self._hooks.dispatcher is not None
        token = self._tokens.dump_handle(handle)
        # The worker has no request that would tell the language.
        locale = languages.current_locale()
        carrier: dict[str, str] = {}
        self._parts.events.tell(delivery_queued, "queued", handle, arguments={"carrier": carrier})
        # Only this is sent along, whatever a receiver adds there.
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
        self.outbox.add(message)
        is_repeated = self._asked_at(handle) > self._opened_at(handle)
        self._tell(code_sent, handle, "sent", "repeated" if is_repeated else "first")

    def _divert(self, handle: Handle, message: Message) -> None:
        logger.warning("a message was printed instead of sent: its recipient is not in OTP_DELIVER_ONLY_TO")
        ConsoleChannel().deliver(message)
        self.outbox.add(message)
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
        """When this message was requested."""
        return handle.ready_at - self._purpose(handle).cooldown

    def _life_left(self, handle: Handle) -> int:
        """Seconds that the code is still valid, counted from the request for the message unless the message is late.

        A second that ends in between must not turn five minutes into four.
        """
        now, asked_at = int(self._parts.clock()), self._asked_at(handle)
        return max(0, handle.expires_at - (asked_at if 0 <= now - asked_at < _LATE else now))

    def _opened_at(self, handle: Handle) -> int:
        return handle.expires_at - self._purpose(handle).expires_in

    def _purpose(self, handle: Handle) -> Purpose:
        # A worker may have other settings than the web process.
        return self._settings.purposes.get(handle.purpose) or next(iter(self._settings.purposes.values()))

    def _compose(self, handle: Handle, recipient: str, message_id: str, locale: str | None = None) -> Message:
        """
        :param locale: language of the message. By default the current one.
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
        """The result of the app's own code. Its exception ends here, because it may quote the code, and error trackers
        keep the variables of all frames.

        :raises DeliveryFailed: the app's code raised an exception.
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
            code=handle.code if self._purpose(handle).typed else "",
            channel=handle.channel,
            recipient=recipient,
            purpose=handle.purpose,
            context_values=handle.context_values,
            expires_in=self._life_left(handle),
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
    """The line that raised the error."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"({os.path.basename(frame.f_code.co_filename)}, line {line})"


def _nothing() -> None:
    """Gives nothing back: the owner of the reservation does, or a queue may try again."""
