"""The steps of every message after the store has allowed it: resolve the route, count the cost, send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..crypto.payloads import Handle
from ..delivery.routing import Route
from ..errors import ChallengeRequired, RateLimited
from ..languages import N_
from ..limits.reservation import Reservation
from ..models import Challenge
from ..stores import OpenOutcome, OpenResult
from .base import Flows


class Steps(Flows):
    """The shared steps of :class:`.sending.Sending` and :class:`.next_channel.NextChannel`."""

    def _resolve(self, subject: bytes, opened: OpenResult, address: str, *channels: str) -> list[Route]:
        """The route of the message for each channel, now that the store has allowed it."""
        if opened.outcome is OpenOutcome.GONE:
            raise ChallengeRequired(N_("That code is no longer valid. Please ask for a new one."))
        if opened.outcome is OpenOutcome.WAIT:
            raise RateLimited(retry_after=opened.retry_after, limit="identifier")
        try:
            return [self._routing.resolve(address, channel) for channel in channels]
        except BaseException:
            # The app's recipient_loader failed, or a gevent timeout ended it: the counted message will not be sent.
            if opened.outcome is OpenOutcome.SEND:
                self._parts.store.discard(subject, opened, self._now())
            raise

    def _numbers(self, route: Route) -> str | None:
        """The value in the handle that describes the phone numbers of its messages."""
        # Determined for unknown identifiers too, because the time would reveal them.
        place = None if route.test_recipient else route.recipient or route.decoy_recipient
        numbers = self._parts.sms_pumping.numbers(place)
        return (numbers if route.reached else "") if route.takes_phones else None

    def _send(self, handle: Handle, opened: OpenResult, route: Route, later: Sequence[Route] = ()) -> Challenge:
        if opened.outcome is OpenOutcome.SEND:
            handle = self._reserve_and_send(handle, opened, route, later)
        return self.describe(handle)

    def _reserve_and_send(
        self, handle: Handle, opened: OpenResult, route: Route, later: Sequence[Route] = ()
    ) -> Handle:
        components = self._parts

        def discard() -> None:
            components.store.discard(handle.subject, opened, self._now())

        # Before the message is released, and for every identifier: decoys must not take less work.
        is_later = bool([way for way in later if way.reached])
        with Reservation(components.limits, components.sms_pumping, handle, discard, self._now()) as reservation:
            is_admitted = reservation.acquire(route.reached, known=opened.known)
            # A code that already went out to the same browser is still valid.
            is_withheld = not is_admitted and (opened.fresh or handle.is_decoy) and not is_later
            handle = replace(handle, is_decoy=handle.is_decoy if route.reached is None else is_withheld)
            self._delivery.send(handle, route.only_if(is_admitted), reservation)
        return handle
