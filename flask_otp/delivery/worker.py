"""The worker's side of the app's own queue: sends each queued message once, if it is still wanted."""

from __future__ import annotations

import logging
import time
from typing import Any

from ..crypto.payloads import Handle
from ..errors import DeliveryFailed, StoreUnavailable
from .components import Components
from .composer import Composer
from .outcomes import Outcomes
from .transport import Transport

logger = logging.getLogger("flask_otp")

#: Why a payload does not open.
NOT_OURS = "it is not signed by this app, or OTP_DELIVER_ONLY_TO is set where it was queued but not here"
#: Seconds between two checks of another worker's delivery.
_LOOK = 0.1


class QueueWorker:
    """Delivers what :class:`.sender.Sender` queued."""

    def __init__(self, components: Components, outcomes: Outcomes, composer: Composer, transport: Transport) -> None:
        self._parts = components
        self._outcomes = outcomes
        self._composer = composer
        self._transport = transport

    def deliver(self, payload: Any) -> None:
        """Derive the code of a queued delivery and send it, if it is still wanted and not yet sent.

        :raises DeliveryFailed: no channel took it. The queue may try again while the code is valid.
        :raises StoreUnavailable: it is not known whether the message is wanted. Nothing was sent, and the queue should
            try again.
        """
        tokens = self._parts.tokens
        delivery = tokens.load_delivery(payload.get("delivery") if isinstance(payload, dict) else None)
        handle = tokens.load_handle(delivery[0]) if delivery else None
        if delivery is None or handle is None:
            logger.error("a delivery was dropped: %s", NOT_OURS)
        else:
            self._outcomes.started(handle, {"traceparent": str(payload.get("traceparent", ""))}, delivery[2])
            self._deliver_once(handle, *delivery[1:])

    def _deliver_once(self, handle: Handle, recipient: str, message_id: str, locale: str) -> None:
        """Send the message, unless another worker has sent it or is sending it.

        A worker first claims the message in one step of the store, for as long as a delivery may take. Another worker
        waits for it, because its queue must not take the message for done if the first worker fails or dies. A worker
        that dies after sending but before recording it will send again.
        """
        delivered, claim = (
            handle.keys.tag(handle.subject, word, message_id.encode()) for word in (b"delivered", b"delivering")
        )
        if not self._claim(handle, message_id, delivered, claim):
            return
        try:
            # Decoys take the same steps: the next request must not find less to read.
            if handle.is_decoy:
                self._outcomes.withheld(handle, "queued", message_id)
            else:
                self._transport.deliver(handle, self._composer.compose(handle, recipient, message_id, locale))
        except BaseException:
            self._free(handle, claim)
            raise
        self._note_delivered(handle, delivered)

    def _claim(self, handle: Handle, message_id: str, delivered: bytes, claim: bytes) -> bool:
        """Claim the message for this worker. Returns ``False`` if it was sent before, or is no longer wanted.

        :raises DeliveryFailed: another worker holds the claim for longer than a delivery may take.
        :raises StoreUnavailable: the store does not answer.
        """
        store, longest = self._parts.store, self._transport.longest(handle)
        give_up_at = time.monotonic() + longest
        while True:
            now = int(self._parts.clock())
            if store.holds(handle.subject, delivered, now):
                logger.info("a delivery that was already sent was run again and dropped")
                return False
            if not self._transport.is_wanted(handle, message_id):
                return False
            if store.note(handle.subject, claim, now + longest, now) is not False:
                return True
            if time.monotonic() >= give_up_at:
                logger.error("a delivery was postponed: another worker has been sending it for %d seconds", longest)
                raise DeliveryFailed
            time.sleep(_LOOK)

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
