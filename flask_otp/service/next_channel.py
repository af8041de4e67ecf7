"""Sends a challenge's code by the next channel if it is not verified in time: ``OTP_NEXT_CHANNEL_AFTER``.

The message is planned when the challenge is opened. When it is due, the store decides in one step: a challenge that was
verified, revoked, tried too often or replaced gets no further message. Nor does one whose code has already gone out by
that channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .. import languages
from ..crypto.payloads import Handle, NextSend
from ..delivery.routing import Route
from ..delivery.worker import NOT_OURS
from ..errors import ChallengeRequired, DeliveryFailed, RateLimited
from ..events import flow
from ..models import Challenge
from ..stores import ChallengeRequest, OpenResult
from .base import channel_tag, logger
from .steps import Steps

#: Seconds that a worker's clock may be behind that of the process that planned the message.
_SKEW = 3


class NextChannel(Steps):
    """Plans and sends the messages of next channels, which no client requests."""

    def _plan(
        self,
        challenge: Challenge,
        later: Sequence[Route],
        opened: OpenResult,
        request: ChallengeRequest,
        network: str | None,
    ) -> None:
        """Plan to send the code of a new challenge by these channels too, one after the other.

        :param request: the request that opened the challenge.
        """
        if not (later and opened.fresh):
            return
        first = NextSend(
            handle=challenge.handle,
            channels=tuple(route.channel for route in later),
            due_at=self._parts.clock(),
            locale=languages.current_locale(),
            network=network,
            bucket=request.bucket,
            known_bucket=request.known_bucket,
            known_since=request.known_since,
        )
        self._postpone(first, challenge.purpose, opened.expires_at)

    def _postpone(self, next_send: NextSend, purpose: str, expires_at: int) -> None:
        after = self._settings.purposes[purpose].next_channel_after
        if after is None:
            return  # a worker may have other settings
        due_at = next_send.due_at + after
        if due_at < expires_at:
            token = self._tokens.dump_next(replace(next_send, due_at=due_at))
            self._delivery.postpone({"next": token}, due_at, self.deliver)

    def deliver(self, payload: object) -> None:
        """Send the payload of a dispatcher, or a message that waited in this process, if it is still wanted.

        :raises OTPError: see :meth:`flask_otp.OTP.deliver`.
        """
        if isinstance(payload, dict) and "next" in payload:
            self._deliver_next(payload["next"])
        else:
            self._delivery.worker.deliver(payload)

    def _deliver_next(self, token: object) -> None:
        """Send a message that is due, and plan the next one.

        :raises StoreUnavailable: it is not known whether the message is wanted. Nothing was sent.
        """
        next_send = self._tokens.load_next(token)
        handle = self._tokens.load_handle(next_send.handle) if next_send else None
        if next_send is None or handle is None or handle.purpose not in self._policies:
            logger.error("a delivery was dropped: %s", NOT_OURS)
            return
        early = next_send.due_at - self._parts.clock()
        if early > _SKEW:
            logger.error("a delivery by the next channel was dropped: it came %d s too early; see its delay", early)
            return
        channel, *rest = next_send.channels
        try:
            with languages.speaking(next_send.locale):
                self._send_next(handle, channel, next_send)
        except ChallengeRequired:
            return
        except RateLimited as error:
            logger.warning(
                "a code did not go out by %r, its next channel: a limit (%s) is reached", channel, error.limit
            )
        except DeliveryFailed:
            pass  # already reported by signal and log
        except Exception:
            # A queue tries this message again. In this process nothing does, and another channel may still work.
            if self._parts.hooks.dispatcher is None:
                self._plan_rest(next_send, rest, handle)
            raise
        self._plan_rest(next_send, rest, handle)

    def _plan_rest(self, next_send: NextSend, rest: list[str], handle: Handle) -> None:
        if rest:
            self._postpone(replace(next_send, channels=tuple(rest)), handle.purpose, handle.expires_at)

    @flow("next_channel")
    def _send_next(self, handle: Handle, channel: str, next_send: NextSend) -> None:
        """Like :meth:`.sending.Sending.resend`, for the client that requested the first message.

        :raises ChallengeRequired: the code is no longer accepted.
        :raises RateLimited: a limit is reached, so this message is not sent.
        :raises DeliveryFailed: no provider took it.
        """
        limits = self._parts.limits
        request = ChallengeRequest(
            challenge_id=handle.challenge_id,
            bucket=next_send.bucket,
            known_bucket=next_send.known_bucket,
            known_since=next_send.known_since,
            surge=self._is_surge(handle.purpose, next_send.network),
            once=True,
            channel=channel_tag(channel),
        )
        entry = limits.enter_send(next_send.network, self._parts.store)
        opened = entry.store.reopen(handle.subject, request, self._policies[handle.purpose], self._now())
        (route,) = self._resolve(handle.subject, opened, handle.identifier, channel)
        # If the first channel found no phone, nothing went out before, and this message is the code's first.
        ready_at = handle.ready_at if handle.numbers == "" else opened.ready_at
        handle = replace(handle, channel=channel, ready_at=ready_at, numbers=self._numbers(route))
        is_test = route.test_recipient is not None or handle.is_test
        self._send(handle, opened, route.only_if(not (is_test or handle.is_decoy)))
