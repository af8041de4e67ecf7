"""What a store must do: eight verbs, each one indivisible step on the state of one subject.

A store never sees a code, nor anything made from one. It is told whether the code was right, and answers whether that
counts: the attempt is charged and the limits are checked in the same step, and only then is a match worth anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

#: Known browsers of one subject that count on lanes of their own at one time; further ones count as strangers.
KNOWN_LANES = 8

#: Seconds that a browser stays known after it last verified; also how long a revocation must be remembered for it.
KNOWN_FOR = 180 * 86400

#: Pairs of how many events, and in how many seconds.
Rates = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Policy:
    """The limits of one purpose. All durations are seconds."""

    expires_in: int
    max_attempts: int
    cooldown: int
    send_limit: Rates
    recipient_limit: Rates
    failure_budget: Rates
    refuse: bool = False


@dataclass(frozen=True)
class Asking:
    """Who asks for a message, and for which challenge.

    :param challenge_id: the id for a new challenge; for :meth:`Store.find`, of the one to send again.
    :param lane: name of the lane of the client's network.
    :param holder: tag of the browser session; a live challenge with the same tag is sent again. Empty: no session.
    :param known_lane: the own lane of a browser that verified this subject before, if it is one.
    :param known_since: when that was, in milliseconds; a later revocation makes the browser a stranger again.
    :param surge: failures over the whole site are above their limit.
    """

    challenge_id: bytes
    lane: bytes
    holder: bytes = b""
    known_lane: bytes = b""
    known_since: int = 0
    surge: bool = False


@dataclass(frozen=True)
class Attempt:
    """One try at the code of a challenge.

    :param matches: whether it is right. Only the answer of the verb says whether that counts.
    :param proof_id: the proof to record if it does, until ``proof_expires_at``.
    :param surge: failures over the whole site are above their limit.
    """

    challenge_id: bytes
    matches: bool
    proof_id: bytes
    proof_expires_at: int
    surge: bool = False


class Opening(Enum):
    SEND = 1  #: counted: send the message
    QUIET = 2  #: the holder's own challenge is still cooling down: same answer, no message
    WAIT = 3  #: a limit is reached, nothing was counted: come back after ``retry_after`` seconds
    GONE = 4  #: there is no such challenge (:meth:`Store.find` only)


@dataclass(frozen=True)
class Opened:
    """The answer of :meth:`Store.open` and :meth:`Store.find`."""

    outcome: Opening
    challenge_id: bytes = b""
    strong: bool = False
    fresh: bool = False
    expires_at: int = 0
    ready_at: int = 0
    retry_after: int = 0
    #: Whether the client is a known browser, and so on its own lane.
    known: bool = False
    #: For :meth:`Store.discard`: the lane that the message was counted on, and when the windows end, the lane's and the
    #: subject's, in which it was.
    lane: bytes = b""
    lane_ends: tuple[int, ...] = ()
    subject_ends: tuple[int, ...] = ()


class Redemption(Enum):
    MATCH = 1  #: consumed: this caller, and no other, has passed
    WRONG = 2  #: charged: the code was compared, and was wrong
    REFUSED = 3  #: unknown, expired, used, spent or revoked: nothing was compared


@dataclass(frozen=True)
class Redeemed:
    outcome: Redemption
    #: This very failure spent the failure budget.
    budget_spent: bool = False
    #: The lane of the known browser that the challenge was opened from; empty: it was a stranger.
    lane: bytes = b""


class Store(ABC):
    """State of the subjects. ``now`` is the caller's clock, in whole seconds unless said otherwise.

    Every verb raises :exc:`~flask_otp.errors.StoreUnavailable` when it cannot be carried out, and then the caller must
    take it for refused, although it may have been charged.
    """

    @abstractmethod
    def open(self, subject: bytes, asking: Asking, policy: Policy, now: int) -> Opened:
        """Count a message on its lane, and on the subject unless the browser is known; open a challenge for it.

        Where the holder has a live challenge already, that one is kept, attempts and expiry included. When the failure
        budget is spent, or a surge is on, a new challenge is strong.
        """

    @abstractmethod
    def find(self, subject: bytes, asking: Asking, policy: Policy, now: int) -> Opened:
        """Count another message of the live challenge named ``asking.challenge_id``; never opens one."""

    @abstractmethod
    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> Redeemed:
        """Charge an attempt; if it is within the limits and matches, consume the challenge and record the proof.

        A match is not charged to the failure budget. In a surge, strangers' short codes are refused.
        """

    @abstractmethod
    def discard(self, subject: bytes, opened: Opened, now: int) -> None:
        """The message did not go out: give the count back, but not the cooldown; drop the challenge if it is fresh."""

    @abstractmethod
    def drop(self, subject: bytes, challenge_id: bytes, now: int) -> None:
        """Forget a challenge that nobody will redeem any more. Gives nothing back."""

    @abstractmethod
    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        """Whether the proof was recorded, has not expired, and was not ended."""

    @abstractmethod
    def spend(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        """End a proof. True for the one caller that ended it."""

    @abstractmethod
    def revoke(self, subject: bytes, now_ms: int) -> None:
        """End every proof, challenge and known browser of the subject. Counts stay."""

    def close(self) -> None:  # noqa: B027 - most stores have nothing to close
        """Let go of connections. For tests and scripts: the extension's own store lives as long as its app."""
