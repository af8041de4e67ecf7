"""Sends messages: at once, in a background thread, or through the app's own queue.

In each case the challenge was saved before.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil

from .. import languages
from ..channels.base import refuse_coroutine
from ..crypto.payloads import Handle
from ..limits.reservation import Reservation
from ..models import Message
from .background import Background
from .components import Components
from .composer import Composer
from .later import Later
from .outcomes import LATE, Outcomes
from .routing import Route, Router
from .transport import Transport
from .worker import QueueWorker

logger = logging.getLogger("flask_otp")


class Sender:
    """Sends the messages of one app."""

    def __init__(self, components: Components, routing: Router) -> None:
        self._parts = components
        self._settings = components.settings
        self._tokens = components.tokens
        self._hooks = components.hooks
        self._outcomes = Outcomes(components)
        self._composer = Composer(components, self._outcomes)
        self._background = Background(components.app)
        #: Delayed deliveries in apps without a queue.
        self.later = Later(self._background, lambda: components.clock())
        self.transport = Transport(components, routing, self._outcomes)
        self.worker = QueueWorker(components, self._outcomes, self._composer, self.transport)
        #: Whether the caller waits for each delivery regardless of the settings, as ``flask otp send`` does.
        self.is_waiting = False

    def send(self, handle: Handle, route: Route, reservation: Reservation) -> None:
        """Deliver the code of ``handle``. If the route is a decoy's, only take the same steps.

        :param reservation: released if the message is not sent.
        :raises DeliveryFailed: the message was not delivered, and this is known already.
        """
        # Rendered for unknown identifiers too, because its cost would reveal them.
        message = self._composer.compose(handle, route.recipient or route.decoy_recipient, secrets.token_urlsafe(16))
        is_vetoed = self._composer.is_vetoed(handle, message)
        if is_vetoed:
            reservation.release(keep_challenge=True)
        is_decoy = route.recipient is None or is_vetoed
        # Empty if only the queue has nothing to send, because the message was captured.
        withheld = (route.withheld, "vetoed")[is_vetoed]
        if self.transport.intercept is not None and not is_decoy:
            # At once, however messages are delivered. The steps after it, such as a queue, have nothing left to send.
            self.transport.deliver(handle, message, reservation.release)
            is_decoy = True
        if self._hooks.dispatcher is not None:
            # Decoys are queued too, and a broken queue fails for everyone.
            self._dispatch(replace(handle, is_decoy=is_decoy), message, reservation)
        elif self._is_background():
            self._send_later(handle, message, reservation, is_decoy, withheld)
        elif is_decoy:
            self._outcomes.withheld(handle, withheld, message.id)
        else:
            self.transport.deliver(handle, message, reservation.release)

    # In a thread of this process

    def is_background(self) -> bool:
        """Whether a thread of this process sends messages after their request was answered."""
        return self._hooks.dispatcher is None and self._is_background()

    def _is_background(self) -> bool:
        mode = self._settings.delivery
        if self.is_waiting:
            return False
        # With a recipient_loader, the time of a delivery would reveal who has an account.
        return mode == "background" or (mode == "auto" and self._hooks.recipient_loader is not None)

    def _send_later(
        self, handle: Handle, message: Message, reservation: Reservation, is_decoy: bool, withheld: str
    ) -> None:
        # With a recipient_loader, a failure must not show in the response to this client's next request.
        is_discreet = self._hooks.recipient_loader is not None
        release = partial(reservation.release, keep_challenge=is_discreet)
        asked_at, locale = self._parts.clock(), languages.current_locale()
        carrier = self._outcomes.queued(handle, message.id)

        def job() -> None:
            self._outcomes.started(handle, carrier, message.id)
            if is_decoy:
                self._outcomes.withheld(handle, withheld, message.id)
            else:
                self._deliver_later(handle, message, release, asked_at, locale)

        # Nor in the time: if the pool is full, all deliveries are refused.
        if not self._background.run(job, discreet=is_discreet):
            logger.error("a delivery was refused: too many are waiting in the background")
            self._outcomes.fail(handle, message.id, reservation.release)

    def _deliver_later(
        self, handle: Handle, message: Message, release: Callable[[], None], asked_at: float, locale: str
    ) -> None:
        """Deliver in the background. A hung mail server or a frozen process may delay the message for too long."""
        if self._parts.clock() - asked_at >= LATE:
            if not self.transport.is_wanted(handle, message.id):
                return
            # The message says for how many minutes the code is valid.
            message = self._composer.compose(handle, message.recipient, message.id, locale)
        self.transport.deliver(handle, message, release)

    # Through the app's own queue

    def _dispatch(self, handle: Handle, message: Message, reservation: Reservation) -> None:
        assert self._hooks.dispatcher is not None
        token = self._tokens.dump_handle(handle)
        # The worker has no request that would tell the language.
        locale = languages.current_locale()
        carrier = self._outcomes.queued(handle, message.id)
        # Only this is sent along, whatever a receiver adds there.
        carried = {name: value for name, value in carrier.items() if name == "traceparent"}
        payload = carried | {"delivery": self._tokens.dump_delivery(token, message.recipient, message.id, locale)}
        try:
            refuse_coroutine(self._hooks.dispatcher(payload), "the dispatcher")
            return
        except Exception as error:
            logger.error("the dispatcher failed: %s", type(error).__name__)
        self._outcomes.fail(handle, message.id, reservation.release)

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
                answer = dispatcher(payload, delay=ceil(max(0.0, due_at - self._parts.clock())))
                refuse_coroutine(answer, "the dispatcher")
            except Exception as error:
                logger.error("the dispatcher failed for the next channel: %s", type(error).__name__)
