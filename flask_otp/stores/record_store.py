"""The fourteen verbs for a store that can lock one record while Python changes it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

from . import subject_state as verbs
from .base import Attempt, ChallengeRequest, Claim, OpenResult, Policy, RedeemResult, Store
from .record import Record

T = TypeVar("T")


class RecordStore(Store):
    """Keeps one :class:`~flask_otp.stores.subject_state.Record` per subject. A subclass implements two methods.

    :mod:`flask_otp.stores.codec` encodes a record as bytes.
    """

    @abstractmethod
    def load(self, subject: bytes) -> Record:
        """The record as last saved, or a new ``Record()`` if there is none.

        :raises StoreUnavailable: the record cannot be read.
        """

    @abstractmethod
    def change(self, subject: bytes, now: int, verb: Callable[[Record], T]) -> T:
        """Load the record, let ``verb`` change it, save it, and return the result of ``verb``, as one indivisible step.

        Between loading and saving, no other thread, process or machine may change this record. A store without locks
        may compare and swap: if another caller was first, it loads the record again and calls ``verb`` again, which
        changes only the record it is given. If the store cannot know whether the record was saved, it must neither try
        again nor return. Keep the record until ``record.expires_at()``. If that is not after ``now``, it may be deleted
        at once.

        :param now: the caller's clock, in whole seconds.
        :raises StoreUnavailable: the changed record was not saved, or may not have been.
        """

    def open(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        return self.change(
            subject, now, lambda record: verbs.open_challenge(record, request, policy, now, resend=False)
        )

    def reopen(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        return self.change(subject, now, lambda record: verbs.open_challenge(record, request, policy, now, resend=True))

    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        return self.change(subject, now, lambda record: verbs.redeem(record, attempt, policy, now))

    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        return self.change(subject, now, lambda record: verbs.check(record, claim, policy, now))

    def discard(self, subject: bytes, opened: OpenResult, now: int) -> None:
        self.change(subject, now, lambda record: verbs.discard(record, opened))

    def drop(self, subject: bytes, challenge_id: bytes, now: int) -> None:
        self.change(subject, now, lambda record: record.challenges.pop(challenge_id, None))

    def is_live(self, subject: bytes, challenge_id: bytes, now: int) -> bool:
        live = self.load(subject).challenges.get(challenge_id)
        return live is not None and live.expires_at > now

    def note(self, subject: bytes, mark: bytes, expires_at: int, now: int) -> bool:
        return self.change(subject, now, lambda record: verbs.note(record, mark, expires_at, now))

    def noted(self, subject: bytes, prefix: bytes, now: int) -> dict[bytes, int]:
        proofs = self.load(subject).proofs
        return {name: end for name, end in proofs.items() if name.startswith(prefix) and end > now}

    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return self.load(subject).proofs.get(proof_id, now) > now

    def spend(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return self.change(subject, now, lambda record: record.proofs.pop(proof_id, now) > now)

    def revoke(self, subject: bytes, now_ms: int) -> None:
        self.change(subject, now_ms // 1000, lambda record: verbs.revoke(record, now_ms))

    def inspect(self, subject: bytes, now: int) -> Record:
        return self.load(subject).at(now)

    def unlock(self, subject: bytes, now: int) -> bool:
        return self.change(subject, now, lambda record: verbs.unlock(record, now))
