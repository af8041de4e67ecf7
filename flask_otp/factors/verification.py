"""Codes of kept factors, as channels. Nothing is sent, and there is no challenge in the store."""

from __future__ import annotations

import logging
from dataclasses import replace

from ..channels.kept import RECOVERY, TOTP
from ..crypto.keys import Keys
from ..crypto.payloads import Client, Handle, Proof
from ..delivery.components import Components
from ..errors import RateLimited
from ..identifiers import mask
from ..languages import N_, gettext
from ..limits.gates import Entry
from ..signals import recovery_used
from ..stores import Claim, Policy, RedeemOutcome, RedeemResult, Store
from ..stores.base import LEEWAY
from . import recovery, totp
from .column import Column
from .record import FactorRecord

logger = logging.getLogger("flask_otp")

_DESTINATIONS = {TOTP: N_("your authenticator app"), RECOVERY: N_("your recovery codes")}


def destination(channel: str) -> str:
    """The text shown in place of an address."""
    return gettext(_DESTINATIONS[channel])


class FactorVerifier:
    """Opens handles for these channels and checks their codes."""

    def __init__(self, components: Components, column: Column) -> None:
        self._parts = components
        self._column = column

    def open(self, handle: Handle, policy: Policy, client: Client, store: Store) -> Handle:
        """Decide which form of code will be compared. Known and unknown identifiers get the same answer and the same
        work.

        :raises RateLimited: the failure budget is spent, and the site refuses then.
        """
        claim = self._claim(handle, client)
        answer = store.check(handle.subject, claim, policy, int(self._parts.clock()))
        if handle.channel == RECOVERY:
            return replace(handle, strong=True)
        if answer.outcome is RedeemOutcome.MATCH:
            return replace(handle, length=totp.DIGITS)
        if policy.refuse and answer.retry_after:
            raise RateLimited(retry_after=answer.retry_after, limit="identifier")
        return replace(handle, length=totp.STRONG_DIGITS)

    def redeem(
        self, handle: Handle, typed: str, proof: Proof, policy: Policy, client: Client
    ) -> tuple[RedeemResult, Entry]:
        """Check a code in one step of the store and mark it as used.

        :param typed: a result of :func:`read`.
        :raises RateLimited: two codes in a row were tried too often.
        :raises FactorsUnavailable: a recovery code was right, but the app did not save that it is used.
        """
        record = self._column.find(handle.identifier)
        claim = replace(self._claim(handle, client), proof_id=proof.proof_id, proof_expires_at=proof.expires_at)
        index = None
        if handle.channel == TOTP:
            claim = self._app_claim(claim, handle.keys, record, typed)
        else:
            index = recovery.find(record, typed)
            claim = self._recovery_claim(claim, handle.keys, record, index)
        entry = self._parts.limits.enter_verify(client.network, self._parts.store, is_short=not claim.strong)
        answer = self._check(handle, claim, policy, entry.store)
        if answer.outcome is RedeemOutcome.MATCH and index is not None:
            is_used = self._use_up(handle, record, index, proof)
            return answer if is_used else RedeemResult(RedeemOutcome.REFUSED), entry
        if answer.retry_after and claim.rationed:
            raise RateLimited(retry_after=answer.retry_after, limit="identifier")
        return answer, entry

    def _claim(self, handle: Handle, client: Client) -> Claim:
        """The question to the store whether it would compare a code."""
        subject, keys = handle.subject, handle.keys
        known = next((known for known in client.known if known.subject == subject), None)
        return Claim(
            matches=True,
            bucket=keys.tag(subject, b"network", (client.network or "").encode()),
            known_bucket=known.bucket if known else b"",
            # As for sent codes: the clock of the machine that revokes may be behind that of the one that verifies.
            known_since=known.since - LEEWAY * 1000 if known else 0,
            strong=handle.channel == RECOVERY,
            surge=self._parts.limits.is_surge(client.network),
        )

    def _app_claim(self, claim: Claim, keys: Keys, record: FactorRecord, typed: str) -> Claim:
        now, steps = self._parts.clock(), self._parts.settings.totp_steps
        is_pair = len(typed) == totp.STRONG_DIGITS
        uses = tuple(
            tuple(keys.tag(b"totp", app.device, b"%d" % step) for step in used)
            for app in totp.padded(record.apps)
            for used in totp.fitting(app, typed, now, steps)
        )
        return replace(
            claim,
            matches=bool(uses),
            uses=uses,
            marks_expire_at=int(now) + totp.MARKS_LIVE,
            strong=is_pair,
            rationed=is_pair,
        )

    def _recovery_claim(self, claim: Claim, keys: Keys, record: FactorRecord, index: int | None) -> Claim:
        # A used code matches too, and so costs nothing. Its mark refuses it, or else the column does.
        return replace(
            claim,
            matches=index is not None,
            uses=() if index is None else ((keys.tag(b"recovery", record.seed, b"%d" % index),),),
            marks_expire_at=int(self._parts.clock()) + recovery.MARKS_LIVE,
        )

    def _check(self, handle: Handle, claim: Claim, policy: Policy, counting: Store) -> RedeemResult:
        """
        :param counting: counts the network's limits too.
        """
        store, now = self._parts.store, int(self._parts.clock())
        answer = counting.check(handle.subject, claim, policy, now)
        if answer.outcome is not RedeemOutcome.MATCH:
            return answer
        if len(self._parts.settings.purposes) > 1:
            # The same code must not pass for another purpose, whose state is another subject's.
            everywhere = handle.keys.subject("", handle.identifier)
            # No failure is ever counted on this subject, so no limit refuses the claim.
            marks = Claim(True, claim.uses, claim.marks_expire_at)
            if store.check(everywhere, marks, policy, now).outcome is not RedeemOutcome.MATCH:
                store.spend(handle.subject, claim.proof_id, now)
                return RedeemResult(RedeemOutcome.REFUSED)
        return answer

    def _use_up(self, handle: Handle, record: FactorRecord, index: int, proof: Proof) -> bool:
        """Mark a recovery code as used for good. If this fails, the proof is ended before anyone has seen it.

        :returns: whether the code was still one of the person's unused codes.
        """

        def use(present: FactorRecord) -> tuple[FactorRecord, int | None]:
            # The codes were renewed in the meantime, or another request used this one and the store lost its mark.
            if present.seed != record.seed or present.used >> index & 1:
                return present, None
            used = present.with_use(index)
            return used, recovery.left(used)

        left = None
        try:
            left = self._column.change(handle.identifier, use)
        finally:
            if left is None:
                self._parts.store.spend(handle.subject, proof.proof_id, int(self._parts.clock()))
        if left is None:
            return False
        logger.info("%s used a recovery code: %s are left", mask(handle.identifier), left)
        told = {"identifier": handle.identifier, "left": left}
        self._parts.events.tell(recovery_used, "used", handle, arguments=told)
        return True


def read(channel: str, typed: str) -> str | None:
    """Normalise a typed code for the channel. Returns ``None`` if it cannot be one."""
    return totp.read(typed) if channel == TOTP else recovery.read(typed)
