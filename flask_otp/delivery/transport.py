"""Hands a composed message to the providers of its channel: the last step of every delivery."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import ceil

from ..channels import Channel, ConsoleChannel
from ..config.safe_recipients import may_go_to
from ..crypto.payloads import Handle
from ..models import Message
from .components import Components
from .failover import Deliverer
from .outbox import DeveloperOutbox
from .outcomes import Outcomes
from .routing import Router

logger = logging.getLogger("flask_otp")

#: Seconds that a delivery may take besides its channel's timeouts: for the store, and for a busy machine.
_SLACK = 5


class Transport:
    """Hands over the messages of one app."""

    def __init__(self, components: Components, routing: Router, outcomes: Outcomes) -> None:
        self._parts = components
        self._allowed = components.settings.deliver_only_to
        self._routing = routing
        self._outcomes = outcomes
        self._deliverer = Deliverer(
            components.app, components.settings.channel_timeout, lambda: components.clock(), components.events
        )
        self.outbox = DeveloperOutbox(components.app, components.settings.outbox)
        #: Takes every message instead of the channels. Only for :mod:`flask_otp.testing`.
        self.intercept: Channel | None = None

    def deliver(self, handle: Handle, message: Message, release: Callable[[], None] | None = None) -> None:
        """Deliver a message and tell what became of it.

        :param release: called if no provider takes it, see :meth:`.outcomes.Outcomes.fail`.
        :raises DeliveryFailed: no provider took it.
        """
        if self.intercept is not None:
            self.intercept.deliver(message)
        elif self._allowed is not None and not may_go_to(self._allowed, message.recipient, self._parts.identifiers):
            self._divert(handle, message)
            return
        elif not self._deliverer.deliver(self._routing.channels().get(handle.channel, ()), message, handle):
            self._outcomes.fail(handle, message.id, release)
        self.outbox.add(message)
        self._outcomes.sent(handle, message.id)

    def _divert(self, handle: Handle, message: Message) -> None:
        logger.warning("a message was printed instead of sent: its recipient is not in OTP_DELIVER_ONLY_TO")
        ConsoleChannel().deliver(message)
        self.outbox.add(message)
        self._outcomes.withheld(handle, "diverted", message.id)

    def longest(self, handle: Handle) -> int:
        """Maximum seconds for one delivery, with all providers of the channel."""
        return ceil(self._deliverer.longest(self._routing.channels().get(handle.channel, ()))) + _SLACK

    def is_wanted(self, handle: Handle, message_id: str) -> bool:
        """Whether the code of a delayed message may still be redeemed. If not, this is logged and signalled.

        :raises StoreUnavailable: the store does not answer.
        """
        if self._parts.store.is_live(handle.subject, handle.challenge_id, int(self._parts.clock())):
            return True
        logger.warning("a delivery was dropped: its code has expired, was used or revoked, or is in another store")
        self._outcomes.dropped(handle, message_id)
        return False
