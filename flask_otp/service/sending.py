"""Send: open or find a challenge, count its limits, and send its code. Also resend and switch."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ..channels.kept import KEPT_FACTORS
from ..config.settings import Purpose
from ..crypto.keys import Keys
from ..crypto.payloads import Client, Handle, Once
from ..errors import ChallengeRequired, IdempotencyConflict, InvalidRequest
from ..events import flow
from ..languages import N_
from ..models import Challenge
from ..stores import ChallengeRequest, Claim, RedeemOutcome, Store
from ..stores.base import LEEWAY
from .base import channel_tag
from .next_channel import NextChannel

#: Seconds that the clocks of a site's machines may differ without users noticing it at a countdown.
_SKEW = 3


class Sending(NextChannel):
    """``send``, ``resend`` and ``switch``, each from top to bottom, followed by their shared steps."""

    @flow("send")
    def send(
        self,
        identifier: object,
        *,
        channel: str | None,
        purpose: str,
        context: bytes,
        context_values: Any,
        client: Client,
        is_typed: bool,
        channels: Collection[str] = (),
        user: str | None = None,
    ) -> Challenge:
        """Open a challenge, or find the one that this browser already has, and send its code.

        :raises OTPError: see :meth:`flask_otp.OTP.send`.
        """
        rules = self.purpose(purpose)
        address = self._parts.identifiers.parse(identifier, self._routing.takes(rules))
        channel, who = self._routing.choose(channel, rules, address, channels), address.value
        if channel in KEPT_FACTORS:
            return self._open_kept(who, channel, purpose, context, context_values, client, user, is_typed=is_typed)
        keys = self._tokens.keys
        subject = keys.subject(purpose, who)
        request = self._asking(keys, subject, client, channel, context, purpose)
        opened = self._enter(client, rules).open(subject, request, self._policies[purpose], self._now())
        ways = (channel, *self._routing.next_channels(rules, channel, who, channels))
        route, *later = self._resolve(subject, opened, who, *ways)
        handle = Handle(
            challenge_id=opened.challenge_id,
            purpose=purpose,
            channel=channel,
            context=context,
            strong=opened.strong,
            length=rules.code_length,
            expires_at=opened.expires_at,
            ready_at=opened.ready_at,
            identifier=who,
            # A handle is no decoy if a later channel reaches the person. All channels are checked for every identifier.
            is_decoy=[each.recipient for each in (route, *later)].count(None) == len(ways),
            context_values=context_values,
            keys=keys,
            user=user,
            is_test=route.test_recipient is not None,
            numbers=self._numbers(route),
            is_typed=is_typed,
        )
        challenge = self._send(handle, opened, route, later)
        self._plan(challenge, later, opened, request, client.network)
        return challenge

    @flow("resend")
    def resend(self, token: str, client: Client, purpose: str | None = None, channel: str | None = None) -> Challenge:
        """Send the code of a live challenge again: the same code, and no attempt is given back.

        :param channel: the channel to use. By default the handle's channel.
        :raises OTPError: see :meth:`flask_otp.OTP.resend`.
        """
        handle = self._tokens.load_handle(token)
        policy = None if handle is None else self._policies.get(handle.purpose)
        if handle is None or policy is None or purpose not in (None, handle.purpose):
            self._parts.limits.count_send(client.network)
            raise ChallengeRequired
        if handle.channel in KEPT_FACTORS:
            raise InvalidRequest(N_("Nothing is sent for this code: look it up in your app or on your list."))
        is_switched = channel not in (None, handle.channel)
        if is_switched:
            address = self._parts.identifiers.named(handle.identifier)
            channel = self._routing.choose(channel, self._settings.purposes[handle.purpose], address)
            handle = replace(handle, channel=channel)
        request = self._asking(handle.keys, handle.subject, client, handle.channel, handle.context, handle.purpose)
        request = replace(request, challenge_id=handle.challenge_id)
        entry = self._parts.limits.enter_send(client.network, self._parts.store)
        opened = entry.store.reopen(handle.subject, request, policy, self._ready(handle))
        (route,) = self._resolve(handle.subject, opened, handle.identifier, handle.channel)
        numbers = self._numbers(route) if is_switched else handle.numbers
        # A handle may be a decoy because of other people's actions, which may have ended. Another channel is not
        # decided yet.
        is_unknown = handle.is_decoy and not handle.numbers and not is_switched
        handle = replace(handle, ready_at=opened.ready_at, numbers=numbers)
        # The same steps for every identifier: the first lookup must not reveal who has an account.
        is_test = route.test_recipient is not None or handle.is_test
        return self._send(handle, opened, route.only_if(not (is_test or is_unknown)))

    def switch(self, token: str, channel: str, client: Client, purpose: str | None = None) -> Challenge:
        """Send the same code by another channel. If either channel is a kept factor, the codes differ, so this opens
        another challenge for the same person, purpose and context.

        :raises ChallengeRequired: the handle is invalid, or its code expired long ago.
        :raises OTPError: see :meth:`flask_otp.OTP.send`.
        """
        handle = self._tokens.load_handle(token)
        if (
            handle is None
            or purpose not in (None, handle.purpose)
            or handle.purpose not in self._policies
            or not handle.may_start_again(self._now())
        ):
            self._parts.limits.count_send(client.network)
            raise ChallengeRequired
        if channel not in KEPT_FACTORS and handle.channel not in KEPT_FACTORS:
            return self.resend(token, client, channel=channel)
        return self.send(
            handle.identifier,
            channel=channel,
            purpose=handle.purpose,
            context=handle.context,
            context_values=handle.context_values,
            client=client,
            user=handle.user,
            is_typed=handle.is_typed,
        )

    def refresh(self, handle: Handle, client: Client) -> Handle:
        """A handle with the form of an app's code that would be compared now.

        :raises RateLimited: no code would be compared.
        """
        if handle.channel not in KEPT_FACTORS or handle.purpose not in self._policies:
            return handle
        policy = self._policies[handle.purpose]
        return self._factors.open(replace(handle, keys=self._tokens.keys), policy, client, self._parts.store)

    def _open_kept(
        self,
        identifier: str,
        channel: str,
        purpose: str,
        context: bytes,
        context_values: Any,
        client: Client,
        user: str | None,
        *,
        is_typed: bool,
    ) -> Challenge:
        """A challenge for a code that the person looks up. Nothing is sent or stored."""
        now = self._now()
        handle = Handle(
            challenge_id=secrets.token_bytes(16),
            purpose=purpose,
            channel=channel,
            context=context,
            strong=False,
            length=0,
            expires_at=now + self.purpose(purpose).expires_in,
            ready_at=now,
            identifier=identifier,
            is_decoy=False,
            context_values=context_values,
            keys=self._tokens.keys,
            user=user,
            is_typed=is_typed,
        )
        entry = self._parts.limits.enter_send(client.network, self._parts.store)
        return self.describe(self._factors.open(handle, self._policies[purpose], client, entry.store))

    def _enter(self, client: Client, rules: Purpose) -> Store:
        """The store for a request to send, after its network's limits and its Idempotency-Key have let it in."""
        if client.once is None:
            return self._parts.limits.enter_send(client.network, self._parts.store).store
        # First, so clients cannot fill the store with keys.
        self._parts.limits.count_send(client.network)
        self._refuse_other_bodies(client.once, rules)
        return self._parts.store

    def _refuse_other_bodies(self, once: Once, rules: Purpose) -> None:
        """Accept an Idempotency-Key only with the body that it first came with, while that one's code may be valid.

        :raises IdempotencyConflict: it came with another body.
        """
        keys, store, now = self._tokens.keys, self._parts.store, self._now()
        # Used instead of a subject: the key belongs to the client, whatever identifier it sends.
        place = keys.subject("", f"Idempotency-Key: {once.key.decode()}")
        body, until = keys.tag(b"idempotent", once.body), now + rules.expires_in
        claim = Claim(True, ((b"key",),), until, body, until, strong=True)
        if store.check(place, claim, rules.policy(), now).outcome is RedeemOutcome.MATCH:
            return
        if not store.holds(place, body, now):
            raise IdempotencyConflict

    def _asking(
        self, keys: Keys, subject: bytes, client: Client, channel: str, context: bytes, purpose: str
    ) -> ChallengeRequest:
        # The session's tag covers channel and context: if either differs, it is another challenge.
        secret = client.session_secret if client.once is None else client.once.key
        session_tag = keys.tag(subject, b"session", secret, channel.encode(), context) if secret else b""
        known = next((known for known in client.known if known.subject == subject), None)
        return ChallengeRequest(
            challenge_id=secrets.token_bytes(16),
            bucket=keys.tag(subject, b"network", (client.network or "").encode()),
            session_tag=session_tag,
            known_bucket=known.bucket if known else b"",
            # The machine that revokes may be behind the one that verifies, so a revocation also affects younger proofs.
            known_since=known.since - LEEWAY * 1000 if known else 0,
            surge=self._is_surge(purpose, client.network),
            channel=channel_tag(channel),
            once=client.once is not None,
        )

    def _ready(self, handle: Handle) -> int:
        """Now, or the end of the cooldown if that is seconds away: another machine's clock may be ahead."""
        now = self._now()
        return handle.ready_at if now < handle.ready_at <= now + _SKEW else now
