"""The flows, each top to bottom: send, resend, verify, revoke. Nothing here knows of requests or sessions."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from flask import Flask

from . import identifiers
from .config.parsers import nearest
from .config.settings import Purpose, Settings
from .config.test_recipients import Testers
from .crypto import codes
from .crypto.keys import Keys
from .crypto.payloads import Client, Handle, Proof
from .crypto.tokens import Tokens
from .delivery.routing import Directory
from .delivery.sender import Courier
from .errors import ChallengeRequired, InvalidCode, InvalidRequest, RateLimited
from .languages import N_
from .limits.counters import Limits
from .limits.reservation import Charge
from .limits.sms_pumping import Pumping
from .models import Challenge, Verification
from .signals import budget_spent, code_rejected, code_verified, proof_revoked, surge
from .stores import Asking, Attempt, Opened, Opening, Redeemed, Redemption, Store

logger = logging.getLogger("flask_otp")


class Service:
    """The flows of one app, with all they need handed in."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        tokens: Tokens,
        store: Store,
        limits: Limits,
        pumping: Pumping,
        testers: Testers,
        directory: Directory,
        courier: Courier,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.tokens = tokens
        self.store = store
        self.limits = limits
        self.pumping = pumping
        self.testers = testers
        self.directory = directory
        self.courier = courier
        self.clock = clock
        self.app = app
        self._policies = {name: purpose.policy() for name, purpose in settings.purposes.items()}

    def purpose(self, name: str) -> Purpose:
        """
        :raises InvalidRequest: ``OTP_PURPOSES`` does not name it.
        """
        purpose = self.settings.purposes.get(name)
        if purpose is None:
            logger.warning("no purpose %r in OTP_PURPOSES: %s", name[:40], nearest(name, list(self.settings.purposes)))
            raise InvalidRequest(N_("There is no such purpose."))
        return purpose

    def send(
        self,
        identifier: object,
        *,
        channel: str | None,
        purpose: str,
        context: bytes,
        facts: Any,
        client: Client,
        channels: Collection[str] = (),
        user: str | None = None,
    ) -> Challenge:
        """Open a challenge, or find the one that this browser has already, and send its code.

        :raises OTPError: see :meth:`flask_otp.OTP.send`.
        """
        rules = self.purpose(purpose)
        address = self.testers.parse(identifier, self.directory.takes(rules))
        channel = self.directory.choose(channel, rules, address, channels)
        if client.network is not None:
            self.limits.count_send(client.network)
        recipient = self.directory.recipient(address.value, channel)
        tester = self.testers.find(recipient)
        reached = None if tester else recipient
        # Made and looked at whether there is somebody or not: the time that it takes would tell.
        stand_in = self.directory.stand_in(address.value, channel)
        numbers = self.pumping.numbers(None if tester else recipient or stand_in)
        keys = self.tokens.keys
        subject = keys.subject(purpose, address.value)
        asking = self._asking(keys, subject, client, channel, context)
        opened = self.store.open(subject, asking, self._policies[purpose], self._now())
        handle = Handle(
            challenge_id=opened.challenge_id,
            purpose=purpose,
            channel=channel,
            context=context,
            strong=opened.strong,
            length=len(tester.code) if tester else rules.code_length,
            expires_at=opened.expires_at,
            ready_at=opened.ready_at,
            identifier=address.value,
            pretend=recipient is None,
            facts=facts,
            keys=keys,
            user=user,
            tester=tester is not None,
            numbers=(numbers if reached else "") if self.directory.takes_phones(channel) else None,
        )
        return self._send(handle, opened, reached)

    def resend(self, token: str, client: Client, purpose: str | None = None) -> Challenge:
        """Send the code of a live challenge once more: the same code, with no attempt given back.

        :raises OTPError: see :meth:`flask_otp.OTP.resend`.
        """
        handle = self.tokens.load_handle(token)
        if client.network is not None:
            self.limits.count_send(client.network)
        if handle is None or purpose not in (None, handle.purpose):
            raise ChallengeRequired
        policy = self._policies.get(handle.purpose)
        if policy is None:
            raise ChallengeRequired
        recipient = self.directory.recipient(handle.identifier, handle.channel)
        asking = self._asking(handle.keys, handle.subject, client, handle.channel, handle.context)
        opened = self.store.find(handle.subject, replace(asking, challenge_id=handle.challenge_id), policy, self._now())
        handle = replace(handle, ready_at=opened.ready_at)
        # One way for all: who has an account must not be told by what is asked first.
        is_test = self.testers.find(recipient) is not None or handle.tester
        # Who was pretended to because of what others did may have the message now.
        is_nobody = handle.pretend and not handle.numbers
        return self._send(handle, opened, None if is_test or is_nobody else recipient)

    def _send(self, handle: Handle, opened: Opened, recipient: str | None) -> Challenge:
        if opened.outcome is Opening.GONE:
            raise ChallengeRequired(N_("That code is no longer valid. Please ask for a new one."))
        if opened.outcome is Opening.WAIT:
            raise RateLimited(retry_after=opened.retry_after)
        if opened.outcome is Opening.SEND:
            handle = self._charge_and_send(handle, opened, recipient)
        return self.describe(handle)

    def _charge_and_send(self, handle: Handle, opened: Opened, recipient: str | None) -> Handle:
        now = self._now()
        charge = Charge(
            self.limits, self.pumping, handle, lambda: self.store.discard(handle.subject, opened, self._now()), now
        )
        is_admitted = charge.admits(recipient, known=opened.known)
        # A code that went out before, to the same browser, is good all the same.
        is_pretended = handle.pretend if recipient is None else not is_admitted and (opened.fresh or handle.pretend)
        handle = replace(handle, pretend=is_pretended)
        self.courier.send(handle, recipient if is_admitted else None, charge.undo)
        return handle

    def describe(self, handle: Handle) -> Challenge:
        """The challenge of a handle, as its client may see it."""
        now = self._now()
        return Challenge(
            handle=self.tokens.dump_handle(handle),
            channel=handle.channel,
            destination=identifiers.mask(handle.identifier),
            purpose=handle.purpose,
            code_length=codes.STRONG_LENGTH if handle.strong else handle.length,
            expires_in=max(0, handle.expires_at - now),
            resend_in=max(0, handle.ready_at - now),
        )

    def _asking(self, keys: Keys, subject: bytes, client: Client, channel: str, context: bytes) -> Asking:
        # The holder's tag covers channel and context: with another of either it is another challenge.
        holder = keys.tag(subject, b"holder", client.holder, channel.encode(), context) if client.holder else b""
        known = next((known for known in client.known if known.subject == subject), None)
        return Asking(
            challenge_id=secrets.token_bytes(16),
            lane=keys.tag(subject, b"network", (client.network or "").encode()),
            holder=holder,
            known_lane=known.lane if known else b"",
            known_since=known.since if known else 0,
            surge=self.limits.is_surge(),
        )

    def verify(
        self,
        code: str,
        token: str,
        *,
        purpose: str | None,
        identifier: str | None = None,
        context: bytes | None = None,
        network: str | None,
        is_link: bool = False,
    ) -> tuple[Verification, Proof, bytes]:
        """Redeem a code, or the secret of a link. What is ``None`` is not compared: over HTTP the handle says it.

        Answers with the known browser's lane too, if the challenge was opened from one.

        :raises OTPError: see :meth:`flask_otp.OTP.verify`.
        """
        if network is not None:
            self.limits.count_verify(network)
        handle = self.tokens.load_handle(token)
        if handle is None:
            raise self._rejected(None)
        rules = self.settings.purposes.get(handle.purpose)
        if is_link:
            typed = codes.read_link(code) if self.settings.links else None
        else:
            typed = codes.normalise(code, strong=handle.strong, length=handle.length)
        if (
            rules is None
            or typed is None
            or purpose not in (None, handle.purpose)
            or handle.context != (handle.context if context is None else context)
            or handle.identifier != (handle.identifier if identifier is None else self.testers.parse(identifier).value)
        ):
            raise self._rejected(handle)
        proof = _proof(handle, self.clock(), rules.verified_for)
        # Nobody learns how this comparison went until the store has charged for it.
        right = handle.link if is_link else self._code(handle)
        matches = hmac.compare_digest(typed.encode(), right.encode()) and not handle.pretend
        attempt = Attempt(handle.challenge_id, matches, proof.proof_id, proof.expires_at, self.limits.is_surge())
        redeemed = self.store.redeem(handle.subject, attempt, self._policies[handle.purpose], self._now())
        if redeemed.outcome is not Redemption.MATCH:
            self._note_failure(handle, redeemed)
            raise self._rejected(handle)
        self.pumping.count_verified(handle, self._now())
        verification = self.verification(proof)
        code_verified.send(self.app, verification=verification)
        return verification, proof, redeemed.lane

    def _code(self, handle: Handle) -> str:
        if not handle.tester:
            return handle.code
        # No fixed code is as long as a strong one: it, too, is guessed at no more often than the budget allows.
        tester = self.testers.find(self.directory.recipient(handle.identifier, handle.channel))
        return tester.code if tester else handle.code

    def _note_failure(self, handle: Handle, redeemed: Redeemed) -> None:
        if redeemed.budget_spent:
            logger.warning("the failure budget of %s is spent", identifiers.mask(handle.identifier))
            budget_spent.send(self.app, identifier=handle.identifier, purpose=handle.purpose)
        if redeemed.outcome is Redemption.WRONG and self.limits.count_failure():
            logger.warning("failures are above OTP_SURGE_LIMIT: new codes are strong until it is over")
            surge.send(self.app)

    def _rejected(self, handle: Handle | None) -> InvalidCode:
        code_rejected.send(
            self.app,
            identifier=handle.identifier if handle else None,
            purpose=handle.purpose if handle else None,
        )
        return InvalidCode()

    def verification(self, proof: Proof) -> Verification:
        """The proof, as the app may see it."""
        return Verification(
            identifier=proof.identifier,
            channel=proof.channel,
            purpose=proof.purpose,
            verified_at=datetime.fromtimestamp(proof.verified_at, timezone.utc),
            proof=self.tokens.dump_proof(proof),
            expires_at=datetime.fromtimestamp(proof.expires_at, timezone.utc),
        )

    def revoke(self, identifier: str) -> None:
        """End what the identifier has, for every purpose, under every key that is still honoured."""
        address = self.testers.parse(identifier).value
        for keys in self.tokens.keyring:
            for purpose in self.settings.purposes:
                self.store.revoke(keys.subject(purpose, address), int(self.clock() * 1000))
        proof_revoked.send(self.app, identifier=address, purposes=tuple(self.settings.purposes))

    def _now(self) -> int:
        return int(self.clock())


def _proof(handle: Handle, now: float, life: int) -> Proof:
    """What the verification of a challenge leaves behind: bound to all that the challenge was bound to."""
    return Proof(
        proof_id=secrets.token_bytes(12),
        purpose=handle.purpose,
        channel=handle.channel,
        context=handle.context,
        verified_at=now,
        expires_at=int(now) + life,
        identifier=handle.identifier,
        keys=handle.keys,
    )
