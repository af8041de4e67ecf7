"""What became of a message, for signals, metrics and logs, and the times that its handle tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from blinker import NamedSignal

from ..config.settings import Purpose
from ..crypto.payloads import Handle
from ..errors import DeliveryFailed
from ..signals import code_sent, delivery_failed, delivery_queued, delivery_started, message_withheld
from .components import Components

#: Seconds after which a message is late: what it says, and whether it is still wanted, are checked again.
LATE = 2


class Outcomes:
    """Tells what became of the messages of one app."""

    def __init__(self, components: Components) -> None:
        self._parts = components
        self._purposes = components.settings.purposes

    def queued(self, handle: Handle, message_id: str) -> dict[str, str]:
        """Tell that a message will be sent later. Returns the trace context that receivers of the signal gave."""
        carrier: dict[str, str] = {}
        self._parts.events.tell(
            delivery_queued, "queued", handle, message_id=message_id, arguments={"carrier": carrier}
        )
        return carrier

    def started(self, handle: Handle, carrier: dict[str, str], message_id: str) -> None:
        """Tell that the delivery of a queued message begins.

        :param carrier: the trace context from :meth:`queued`.
        """
        waited = max(0.0, self._parts.clock() - self.asked_at(handle))
        self._parts.events.tell(
            delivery_started,
            "started",
            handle,
            seconds=waited,
            message_id=message_id,
            arguments={"carrier": carrier},
        )

    def sent(self, handle: Handle, message_id: str) -> None:
        """Tell that a message was sent."""
        opened_at = handle.expires_at - self.purpose(handle).expires_in
        reason = "repeated" if self.asked_at(handle) > opened_at else "first"
        self._tell(code_sent, handle, "sent", message_id, reason)

    def dropped(self, handle: Handle, message_id: str) -> None:
        """Tell that a message was not sent, because its code is no longer accepted."""
        if not handle.is_decoy:
            self._tell(delivery_failed, handle, "dropped", message_id)

    def withheld(self, handle: Handle, reason: str, message_id: str) -> None:
        """Tell that a message was not sent, on purpose.

        :param reason: empty if there is nothing to tell.
        """
        if reason:
            self._parts.events.tell(message_withheld, "withheld", handle, reason=reason, message_id=message_id)

    def fail(self, handle: Handle, message_id: str, release: Callable[[], None] | None = None) -> NoReturn:
        """Tell that a message was not delivered.

        :param release: gives back what the message cost. By default nothing is given back: the owner of the reservation
            does that, or a queue may try again.
        :raises DeliveryFailed: always.
        """
        try:
            if release is not None:
                release()
        finally:
            self._tell(delivery_failed, handle, "failed", message_id)
        raise DeliveryFailed(retry_after=max(1, handle.ready_at - int(self._parts.clock())))

    def _tell(
        self, signal: NamedSignal, handle: Handle, outcome: str, message_id: str, reason: str | None = None
    ) -> None:
        whom = {"identifier": handle.identifier, "channel": handle.channel, "purpose": handle.purpose}
        self._parts.events.tell(signal, outcome, handle, reason=reason, message_id=message_id, arguments=whom)

    # Times

    def asked_at(self, handle: Handle) -> int:
        """When this message was requested."""
        return handle.ready_at - self.purpose(handle).cooldown

    def life_left(self, handle: Handle) -> int:
        """Seconds that the code is still valid, counted from the request for the message unless the message is late.

        A second that ends in between must not turn five minutes into four.
        """
        now, asked_at = int(self._parts.clock()), self.asked_at(handle)
        return max(0, handle.expires_at - (asked_at if 0 <= now - asked_at < LATE else now))

    def purpose(self, handle: Handle) -> Purpose:
        """The settings of the message's purpose. A worker may have other ones than the web process."""
        return self._purposes.get(handle.purpose) or next(iter(self._purposes.values()))
