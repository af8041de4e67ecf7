"""Verify: compare the typed code after the store has charged for it, and make a proof."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from datetime import datetime, timezone
from typing import NamedTuple

from .. import identifiers
from ..channels.kept import KEPT_FACTORS, TRUSTED
from ..config.test_recipients import TestRecipient
from ..crypto import codes
from ..crypto.payloads import Client, Handle, KnownBrowser, Proof
from ..errors import InvalidCode
from ..events import flow
from ..factors import verification as kept
from ..limits.gates import Entry
from ..models import Verification
from ..signals import budget_spent, code_rejected, code_verified, surge
from ..stores import Attempt, RedeemOutcome, RedeemResult
from .base import Flows, channel_tag, logger


class Verified(NamedTuple):
    """What a verification gives."""

    verification: Verification
    #: Of the challenge that was verified.
    handle: Handle
    proof: Proof
    #: The known browser's bucket, if the challenge was opened from one.
    bucket: bytes


class Verifying(Flows):
    """``verify`` from top to bottom, followed by its steps."""

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
    ) -> Verified:
        """Redeem a code, or the secret of a link. ``None`` is not compared: over HTTP, the handle supplies the value.

        :raises OTPError: see :meth:`flask_otp.OTP.verify`.
        """
        handle = self._tokens.load_handle(token)
        if handle is not None and handle.channel in KEPT_FACTORS:
            # Used codes must be recorded under one key: an app's codes are not derived from it, as sent ones are.
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
            reason = "wrong" if redeemed.outcome is RedeemOutcome.WRONG else "closed"
            try:
                self._note_failure(handle, redeemed, entry)
            finally:
                # Also if the limits' storage fails: the store has counted the attempt, so the audit log must have it.
                error = self._rejected(handle, reason, is_over=_is_over(handle, redeemed))
            raise error
        others = self._others(handle.channel, redeemed.channels)
        proof = replace(proof, others=others) if others else proof
        self._parts.sms_pumping.count_verified(handle, self._now())
        verification = self.verification(proof)
        told = {"verification": verification}
        age = proof.verified_at - handle.expires_at + self._policies[handle.purpose].expires_in
        self._parts.events.tell(code_verified, "verified", handle, seconds=max(0, age), arguments=told)
        return Verified(verification, handle, proof, redeemed.bucket)

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
        """The text to compare. ``None`` if it cannot be a code, or the challenge is for something else."""
        canonical = None if identifier is None else self._parts.identifiers.named(identifier).value
        is_meant = (
            handle.purpose in self._settings.purposes
            and purpose in (None, handle.purpose)
            and context in (None, handle.context)
            and canonical in (None, handle.identifier)
        )
        if not is_meant:
            return None
        if not is_link and not self.is_typed(handle.purpose):
            return None  # whatever was typed, no code was sent
        if handle.channel in KEPT_FACTORS:
            return None if is_link or handle.expires_at <= self._now() else kept.read(handle.channel, code)
        if is_link:
            return codes.read_link(code) if self._settings.links else None
        return codes.normalise(code, strong=handle.strong, length=handle.length)

    def _redeem(
        self, handle: Handle, typed: str, proof: Proof, network: str | None, *, is_link: bool
    ) -> tuple[RedeemResult, Entry]:
        # The result of this comparison is visible only after the store has charged for it.
        matches = self._matches(handle, typed, is_link=is_link)
        is_surge = self._is_surge(handle.purpose, network)
        attempt = Attempt(handle.challenge_id, matches, proof.proof_id, proof.expires_at, is_surge)
        # Strong codes and links cannot be guessed, so failures at them are no reason to stop short codes.
        is_short = not handle.strong and self.is_typed(handle.purpose)
        entry = self._parts.limits.enter_verify(network, self._parts.store, is_short=is_short)
        return entry.store.redeem(handle.subject, attempt, self._policies[handle.purpose], self._now()), entry

    def _matches(self, handle: Handle, typed: str, *, is_link: bool) -> bool:
        # In a separate function: a store or a signal receiver may raise, and an error tracker would keep the right code
        # in our caller's variables.
        right = handle.link if is_link else self._code(handle)
        return hmac.compare_digest(typed.encode(), right.encode()) and not handle.is_decoy

    def _code(self, handle: Handle) -> str:
        # No fixed code is as long as a strong one, so it too gets only the guesses that the failure budget allows.
        tester = self._routing.test_recipient_of(handle)
        return (tester.code(handle.length) if tester else None) or handle.code

    def _others(self, channel: str, tags: tuple[bytes, ...]) -> tuple[str, ...]:
        """The names of a code's other channels. A channel that is no longer in the settings has no name."""
        own = channel_tag(channel)
        others = [tag for tag in tags if tag != own]
        if not others:
            return ()
        names = {channel_tag(name): name for name in self._routing.channels()}
        return tuple(names.get(tag, "?") for tag in others)

    def _note_failure(self, handle: Handle, redeemed: RedeemResult, entry: Entry) -> None:
        if redeemed.budget_spent:
            logger.warning("the failure budget of %s is spent", identifiers.mask(handle.identifier))
            whom = {"identifier": handle.identifier, "purpose": handle.purpose}
            self._parts.events.tell(budget_spent, "spent", handle, arguments=whom)
        if redeemed.outcome is RedeemOutcome.WRONG and entry.count_failure():
            logger.warning("failures are above OTP_SURGE_LIMIT: new codes are strong until the surge ends")
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
            # The guard that accepts a trusted browser lets it in. No other guard may, so there is no token for it.
            proof="" if proof.channel == TRUSTED else self._tokens.dump_proof(proof),
            expires_at=datetime.fromtimestamp(proof.expires_at, timezone.utc),
        )


def _is_over(handle: Handle, redeemed: RedeemResult) -> bool:
    """Whether no code will be accepted for the challenge any more: it was used or revoked, or no attempts are left."""
    if handle.channel in KEPT_FACTORS:
        return False  # the next code, or two in a row, may be accepted
    is_superseded = redeemed.budget_spent and not handle.strong
    return redeemed.outcome is RedeemOutcome.REFUSED or redeemed.is_last or is_superseded


def _proof(handle: Handle, now: float, life: int, tester: TestRecipient | None) -> Proof:
    """The result of verifying a challenge, bound to everything that the challenge was bound to.

    Many people know a fixed code, so its proof ends with its last day.
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
