"""The flows, each top to bottom: send, resend, verify, revoke. Nothing here knows of requests or sessions."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from . import identifiers
from .channels.kept import KEPT_FACTORS
from .config.parsers import nearest
from .config.settings import Purpose
from .config.test_recipients import TestRecipient
from .crypto import codes
from .crypto.keys import Keys
from .crypto.payloads import Client, Handle, KnownBrowser, Once, Proof
from .delivery.components import Components
from .delivery.routing import Route, Router
from .delivery.sender import Sender
from .errors import ChallengeRequired, IdempotencyConflict, InvalidCode, InvalidRequest, RateLimited
from .events import flow, pseudonym
from .factors import verification as kept
from .factors.trusted import TRUSTED
from .factors.verification import FactorVerifier
from .languages import N_
from .limits.gates import Entry
from .limits.reservation import Reservation
from .models import Challenge, Verification
from .signals import budget_spent, code_rejected, code_verified, proof_revoked, surge
from .stores import Attempt, ChallengeRequest, Claim, OpenOutcome, OpenResult, RedeemOutcome, RedeemResult, Store
from .stores.base import CHANNEL_TAG, LEEWAY

logger = logging.getLogger("flask_otp")

#: Seconds that the clocks of two machines of one site may differ, without people noticing it at a countdown.
_SKEW = 3


class Service:
    """The flows of one app, with all they need handed in."""

    def __init__(self, components: Components, routing: Router, delivery: Sender, factors: FactorVerifier) -> None:
        self._parts = components
        self._app = components.app
        self._settings = components.settings
        self._tokens = components.tokens
        self._routing = routing
        self._delivery = delivery
        self._factors = factors
        self._policies = {name: purpose.policy() for name, purpose in self._settings.purposes.items()}

    def purpose(self, name: str) -> Purpose:
        """
        :raises InvalidRequest: ``OTP_PURPOSES`` does not name it.
        """
        purpose = self._settings.purposes.get(name)
        if purpose is None:
            logger.warning("no purpose %r in OTP_PURPOSES: %s", name[:40], nearest(name, list(self._settings.purposes)))
            raise InvalidRequest(N_("There is no such purpose."))
        return purpose

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
        channels: Collection[str] = (),
        user: str | None = None,
        is_typed: bool = False,
    ) -> Challenge:
        """Open a challenge, or find the one that this browser has already, and send its code.

        :raises OTPError: see :meth:`flask_otp.OTP.send`.
        """
        rules = self.purpose(purpose)
        address = self._parts.identifiers.parse(identifier, self._routing.takes(rules))
        channel = self._routing.choose(channel, rules, address, channels)
        if channel in KEPT_FACTORS:
            return self._open_kept(
                address.value, channel, purpose, context, context_values, client, user, is_typed=is_typed
            )
        keys = self._tokens.keys
        subject = keys.subject(purpose, address.value)
        request = self._asking(keys, subject, client, channel, context)
        opened = self._enter(client, rules).open(subject, request, self._policies[purpose], self._now())
        route = self._resolve(subject, opened, address.value, channel)
        handle = Handle(
            challenge_id=opened.challenge_id,
            purpose=purpose,
            channel=channel,
            context=context,
            strong=opened.strong,
            length=rules.code_length,
            expires_at=opened.expires_at,
            ready_at=opened.ready_at,
            identifier=address.value,
            is_decoy=route.recipient is None,
            context_values=context_values,
            keys=keys,
            user=user,
            is_test=route.test_recipient is not None,
            numbers=self._numbers(route),
            is_typed=is_typed,
        )
        return self._send(handle, opened, route)

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
        """A challenge for a code that the person looks up. Nothing is sent, and nothing of it is in the store."""
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

    def switch(self, token: str, channel: str, client: Client, purpose: str | None = None) -> Challenge:
        """The same code by another channel. Where one of the two is a factor that the person keeps, the codes are not
        the same: then it is another challenge for the same person, purpose and context.

        :raises OTPError: see :meth:`flask_otp.OTP.send`.
        """
        handle = self._tokens.load_handle(token)
        if handle is None or purpose not in (None, handle.purpose) or handle.purpose not in self._policies:
            self._parts.limits.count_send(client.network)
            raise ChallengeRequired
        if channel not in KEPT_FACTORS and handle.channel not in KEPT_FACTORS:
            return self.resend(token, client, purpose, channel)
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
        """A handle that says which form of an app's code would be compared now.

        :raises RateLimited: none would.
        """
        if handle.channel not in KEPT_FACTORS or handle.purpose not in self._policies:
            return handle
        policy = self._policies[handle.purpose]
        return self._factors.open(replace(handle, keys=self._tokens.keys), policy, client, self._parts.store)

    @flow("resend")
    def resend(self, token: str, client: Client, purpose: str | None = None, channel: str | None = None) -> Challenge:
        """Send the code of a live challenge once more: the same code, with no attempt given back.

        :param channel: by which channel; by default the one of the handle.
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
        request = self._asking(handle.keys, handle.subject, client, handle.channel, handle.context)
        request = replace(request, challenge_id=handle.challenge_id)
        entry = self._parts.limits.enter_send(client.network, self._parts.store)
        opened = entry.store.reopen(handle.subject, request, policy, self._ready(handle))
        route = self._resolve(handle.subject, opened, handle.identifier, handle.channel)
        numbers = self._numbers(route) if is_switched else handle.numbers
        # A decoy because of what others did may have the message now; and nothing is known yet of another channel.
        is_unknown = handle.is_decoy and not handle.numbers and not is_switched
        handle = replace(handle, ready_at=opened.ready_at, numbers=numbers)
        # The same steps for every identifier: what is asked first must not tell who has an account.
        is_test = route.test_recipient is not None or handle.is_test
        return self._send(handle, opened, route.only_if(not (is_test or is_unknown)))

    def _resolve(self, subject: bytes, opened: OpenResult, address: str, channel: str) -> Route:
        """Where the message goes, now that the store has let it."""
        if opened.outcome is OpenOutcome.GONE:
            raise ChallengeRequired(N_("That code is no longer valid. Please ask for a new one."))
        if opened.outcome is OpenOutcome.WAIT:
            raise RateLimited(retry_after=opened.retry_after, limit="identifier")
        try:
            return self._routing.resolve(address, channel)
        except Exception:
            # The app's recipient_loader failed: the message that was counted will not go out.
            if opened.outcome is OpenOutcome.SEND:
                self._parts.store.discard(subject, opened, self._now())
            raise

    def _send(self, handle: Handle, opened: OpenResult, route: Route) -> Challenge:
        if opened.outcome is OpenOutcome.SEND:
            handle = self._reserve_and_send(handle, opened, route)
        return self.describe(handle)

    def _reserve_and_send(self, handle: Handle, opened: OpenResult, route: Route) -> Handle:
        components = self._parts

        def discard() -> None:
            components.store.discard(handle.subject, opened, self._now())

        with Reservation(components.limits, components.sms_pumping, handle, discard, self._now()) as reservation:
            is_admitted = reservation.acquire(route.reached, known=opened.known)
            # A code that went out before, to the same browser, is good all the same.
            is_withheld = not is_admitted and (opened.fresh or handle.is_decoy)
            handle = replace(handle, is_decoy=handle.is_decoy if route.reached is None else is_withheld)
            self._delivery.send(handle, route.only_if(is_admitted), reservation)
        return handle

    def _numbers(self, route: Route) -> str | None:
        """What the handle says of the phone numbers that its messages go to."""
        # Found out for unknown identifiers too: the time that it takes would tell.
        place = None if route.test_recipient else route.recipient or route.decoy_recipient
        numbers = self._parts.sms_pumping.numbers(place)
        return (numbers if route.reached else "") if route.takes_phones else None

    def describe(self, handle: Handle) -> Challenge:
        """The challenge of a handle, as its client may see it."""
        now = self._now()
        return Challenge(
            handle=self._tokens.dump_handle(handle),
            channel=handle.channel,
            destination=kept.destination(handle.channel)
            if handle.channel in KEPT_FACTORS
            else identifiers.readable(identifiers.mask(handle.identifier)),
            purpose=handle.purpose,
            code_length=codes.STRONG_LENGTH if handle.strong else handle.length,
            expires_in=max(0, handle.expires_at - now),
            resend_in=max(0, handle.ready_at - now),
            other_channels=self.other_channels(handle),
        )

    def other_channels(self, handle: Handle) -> tuple[str, ...]:
        """By what else the code of a handle can be sent."""
        rules = self._settings.purposes.get(handle.purpose)
        if rules is None or handle.channel in KEPT_FACTORS:
            return ()
        return self._routing.others(rules, handle.channel, handle.identifier)

    def _enter(self, client: Client, rules: Purpose) -> Store:
        """The store for a request to send, now that its network and its Idempotency-Key let it in."""
        if client.once is None:
            return self._parts.limits.enter_send(client.network, self._parts.store).store
        # First, so that nobody fills the store with keys.
        self._parts.limits.count_send(client.network)
        self._refuse_other_bodies(client.once, rules)
        return self._parts.store

    def _refuse_other_bodies(self, once: Once, rules: Purpose) -> None:
        """Let an Idempotency-Key in with the body that it first came with, for as long as that one's code may live.

        :raises IdempotencyConflict: it came with another one.
        """
        keys, store, now = self._tokens.keys, self._parts.store, self._now()
        # In place of a subject: the key is the client's, whomever it names.
        place = keys.subject("", f"Idempotency-Key: {once.key.decode()}")
        body, until = keys.tag(b"idempotent", once.body), now + rules.expires_in
        claim = Claim(True, ((b"key",),), until, body, until, strong=True)
        if store.check(place, claim, rules.policy(), now).outcome is RedeemOutcome.MATCH:
            return
        if not store.holds(place, body, now):
            raise IdempotencyConflict

    def _asking(self, keys: Keys, subject: bytes, client: Client, channel: str, context: bytes) -> ChallengeRequest:
        # The session's tag covers channel and context: with another of either it is another challenge.
        secret = client.session_secret if client.once is None else client.once.key
        session_tag = keys.tag(subject, b"session", secret, channel.encode(), context) if secret else b""
        known = next((known for known in client.known if known.subject == subject), None)
        return ChallengeRequest(
            challenge_id=secrets.token_bytes(16),
            bucket=keys.tag(subject, b"network", (client.network or "").encode()),
            session_tag=session_tag,
            known_bucket=known.bucket if known else b"",
            # The machine that revokes may be behind the one that verifies, so a revocation reaches what is younger.
            known_since=known.since - LEEWAY * 1000 if known else 0,
            surge=self._parts.limits.is_surge(client.network),
            channel=_channel_tag(channel),
            once=client.once is not None,
        )

    @flow("verify")
    def verify(
        self,
        code: str,
        token: str,
        *,
        purpose: str | None,
        identifier: str | None = None,
        context: bytes | None = None,
        network: str | None,
        known: tuple[KnownBrowser, ...] = (),
        is_link: bool = False,
    ) -> tuple[Verification, Proof, bytes]:
        """Redeem a code, or the secret of a link. What is ``None`` is not compared: over HTTP the handle says it.

        Answers with the known browser's bucket too, if the challenge was opened from one.

        :raises OTPError: see :meth:`flask_otp.OTP.verify`.
        """
        handle = self._tokens.load_handle(token)
        if handle is not None and handle.channel in KEPT_FACTORS:
            # Which codes were used must be known under one key: an app's are not derived from it, as sent ones are.
            handle = replace(handle, keys=self._tokens.keys)
        typed = None if handle is None else self._typed(handle, code, purpose, identifier, context, is_link=is_link)
        if handle is None or typed is None:
            self._parts.limits.count_verify(network)
            raise self._rejected(handle, "handle" if handle is None else "unfit")
        life = self._settings.purposes[handle.purpose].verified_for
        proof = _proof(handle, self._parts.clock(), life, self._routing.test_recipient_of(handle))
        if handle.channel in KEPT_FACTORS:
            client = Client(network, known=known)
            redeemed, entry = self._factors.redeem(handle, typed, proof, self._policies[handle.purpose], client)
        else:
            redeemed, entry = self._redeem(handle, typed, proof, network, is_link=is_link)
        if redeemed.outcome is not RedeemOutcome.MATCH:
            self._note_failure(handle, redeemed, entry)
            reason = "wrong" if redeemed.outcome is RedeemOutcome.WRONG else "closed"
            raise self._rejected(handle, reason, is_over=_is_over(handle, redeemed))
        proof = replace(proof, others=self._others(handle.channel, redeemed.channels))
        self._parts.sms_pumping.count_verified(handle, self._now())
        verification = self.verification(proof)
        told = {"verification": verification}
        age = proof.verified_at - handle.expires_at + self._policies[handle.purpose].expires_in
        self._parts.events.tell(code_verified, "verified", handle, seconds=max(0, age), arguments=told)
        return verification, proof, redeemed.bucket

    def _others(self, channel: str, tags: tuple[bytes, ...]) -> tuple[str, ...]:
        """The names of the other channels of a code. One that the settings do not have any more has no name."""
        names = {_channel_tag(name): name for name in self._routing.channels()}
        return tuple(names.get(tag, "?") for tag in tags if tag != _channel_tag(channel))

    def _typed(
        self,
        handle: Handle,
        code: str,
        purpose: str | None,
        identifier: str | None,
        context: bytes | None,
        *,
        is_link: bool,
    ) -> str | None:
        """What is to be compared; ``None``: it cannot be a code, or the challenge is for something else."""
        canonical = None if identifier is None else self._parts.identifiers.named(identifier).value
        is_meant = (
            handle.purpose in self._settings.purposes
            and purpose in (None, handle.purpose)
            and context in (None, handle.context)
            and canonical in (None, handle.identifier)
        )
        if not is_meant:
            return None
        if handle.channel in KEPT_FACTORS:
            return None if is_link or handle.expires_at <= self._now() else kept.read(handle.channel, code)
        if is_link:
            return codes.read_link(code) if self._settings.links else None
        return codes.normalise(code, strong=handle.strong, length=handle.length)

    def _redeem(
        self, handle: Handle, typed: str, proof: Proof, network: str | None, *, is_link: bool
    ) -> tuple[RedeemResult, Entry]:
        # Nobody learns how this comparison went until the store has charged for it.
        matches = self._matches(handle, typed, is_link=is_link)
        is_surge = self._parts.limits.is_surge(network)
        attempt = Attempt(handle.challenge_id, matches, proof.proof_id, proof.expires_at, is_surge)
        # Nobody guesses a strong code: failures at those are no reason to stop short ones.
        entry = self._parts.limits.enter_verify(network, self._parts.store, is_short=not handle.strong)
        return entry.store.redeem(handle.subject, attempt, self._policies[handle.purpose], self._now()), entry

    def _matches(self, handle: Handle, typed: str, *, is_link: bool) -> bool:
        # In a function of its own: a store or a signal's receiver may raise, and an error tracker would keep the right
        # code among the variables of our caller.
        right = handle.link if is_link else self._code(handle)
        return hmac.compare_digest(typed.encode(), right.encode()) and not handle.is_decoy

    def _code(self, handle: Handle) -> str:
        # No fixed code is as long as a strong one: it, too, is guessed at no more often than the budget allows.
        tester = self._routing.test_recipient_of(handle)
        return (tester.code(handle.length) if tester else None) or handle.code

    def _note_failure(self, handle: Handle, redeemed: RedeemResult, entry: Entry) -> None:
        if redeemed.budget_spent:
            logger.warning("the failure budget of %s is spent", identifiers.mask(handle.identifier))
            whom = {"identifier": handle.identifier, "purpose": handle.purpose}
            self._parts.events.tell(budget_spent, "spent", handle, arguments=whom)
        if redeemed.outcome is RedeemOutcome.WRONG and entry.count_failure():
            logger.warning("failures are above OTP_SURGE_LIMIT: new codes are strong until it is over")
            self._parts.events.tell(surge, "begun")

    def _rejected(self, handle: Handle | None, reason: str, *, is_over: bool = False) -> InvalidCode:
        whom = {"identifier": handle.identifier if handle else None, "purpose": handle.purpose if handle else None}
        self._parts.events.tell(code_rejected, "rejected", handle, reason=reason, arguments=whom)
        error = InvalidCode()
        error.is_over = is_over
        return error

    def verification(self, proof: Proof) -> Verification:
        """The proof, as the app may see it."""
        return Verification(
            identifier=proof.identifier,
            channel=proof.channel,
            channels=proof.channels,
            purpose=proof.purpose,
            verified_at=datetime.fromtimestamp(proof.verified_at, timezone.utc),
            # The guard that takes a trusted browser lets it in. No other one must, so that there is no token for it.
            proof="" if proof.channel == TRUSTED else self._tokens.dump_proof(proof),
            expires_at=datetime.fromtimestamp(proof.expires_at, timezone.utc),
        )

    def revoke(self, identifier: str) -> str:
        """End what the identifier has, for every purpose, under every key that is still honoured.

        :returns: the identifier in canonical form.
        """
        address = self._parts.identifiers.named(identifier).value
        for keys in self._tokens.keyring:
            for purpose in self._settings.purposes:
                self._parts.store.revoke(keys.subject(purpose, address), int(self._parts.clock() * 1000))
        whom = {"identifier": address, "purposes": tuple(self._settings.purposes)}
        subject = pseudonym(self._tokens.keys, address)
        self._parts.events.tell(proof_revoked, "revoked", subject=subject, arguments=whom)
        return address

    def _ready(self, handle: Handle) -> int:
        """Now; but the end of the cooldown if that is seconds away: the machine that told the client may be ahead."""
        now = self._now()
        return handle.ready_at if now < handle.ready_at <= now + _SKEW else now

    def _now(self) -> int:
        return int(self._parts.clock())


def _channel_tag(channel: str) -> bytes:
    """How the store knows a channel. It is no secret, and the same under every key."""
    return hashlib.sha256(channel.encode()).digest()[:CHANNEL_TAG]


def _is_over(handle: Handle, redeemed: RedeemResult) -> bool:
    """Whether no code will do for the challenge any more: it was used or revoked, or the tries at it are spent."""
    if handle.channel in KEPT_FACTORS:
        return False  # the next code, or two in a row, will do
    is_superseded = redeemed.budget_spent and not handle.strong
    return redeemed.outcome is RedeemOutcome.REFUSED or redeemed.is_last or is_superseded


def _proof(handle: Handle, now: float, life: int, tester: TestRecipient | None) -> Proof:
    """What the verification of a challenge leaves behind: bound to all that the challenge was bound to.

    A fixed code is known to many, so what it gives ends with its last day.
    """
    expires_at = int(now) + life
    return Proof(
        proof_id=secrets.token_bytes(12),
        purpose=handle.purpose,
        channel=handle.channel,
        context=handle.context,
        verified_at=now,
        expires_at=min(expires_at, tester.until) if tester else expires_at,
        identifier=handle.identifier,
        keys=handle.keys,
    )
