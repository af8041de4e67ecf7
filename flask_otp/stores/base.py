"""The store contract: fourteen verbs, each one an indivisible step on the state of one subject.

A store never sees a code, nor anything derived from one. The caller says whether the code matches, and the store
answers whether that counts: it charges the attempt and checks the limits in the same step.

The words in the descriptions of the verbs:

now
    The caller's clock, in whole seconds since 1970. Stores use this clock, never their own, and tolerate it moving
    backwards. A thing with an ``expires_at`` or an end has expired when ``now`` has reached it.
live
    A challenge is live until its ``expires_at``. It is not live while that is further ahead than ``policy.expires_in``
    plus :data:`LEEWAY`: then the clock was set back, and the code would live too long.
cooling down
    A bucket is cooling down until its ``ready_at``, but not while that is further ahead than ``policy.cooldown`` plus
    :data:`LEEWAY`: people would wait too long after the clock was set back. Windows hold until they end.
window
    Each rate ``(amount, period)`` of a limit has one window. It begins with the first event that it counts, ends
    ``period`` seconds later, and is full with ``amount`` events. A limit is reached while any of its windows is full.
    An event counts in all windows of a limit.
bucket
    Where requests for a subject come from: one network, or one known browser. A bucket has a cooldown and windows of
    its sends; a known browser's bucket also has windows of its failures.
known
    A browser is known if it has a ``known_bucket``, its ``known_since`` is after the last revocation of the subject,
    and fewer than :data:`KNOWN_BROWSERS` others have buckets that still count something and that were used by a known
    browser since the last revocation. Otherwise it is a stranger, and its bucket is ``request.bucket``.
payer
    The owner of the failure budget that pays for a challenge: the bucket, if a known browser opened it; else the
    subject.
superseded
    A short code is not accepted while its payer's budget is spent. During a surge, short codes that strangers opened
    are not accepted either.
mark
    What makes a code of an authenticator app, or a recovery code, good for one use. It is set in the step that accepts
    the code, and holds until its expiry. A revocation leaves it alone: a used code must not become good again.

Names (subjects, buckets, session tags, ids, marks) are any bytes. A bucket has expired when its cooldown and all its
windows have. :mod:`flask_otp.stores.subject_state` does all of this in Python, and
:class:`~flask_otp.stores.RecordStore` makes a store of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn, Protocol

from .record import KNOWN_BROWSER_FOR as KNOWN_BROWSER_FOR
from .record import Record

#: Known browsers of one subject that can have their own bucket at a time. Further ones count as strangers.
KNOWN_BROWSERS = 8

#: Bytes of a channel's tag, and maximum channels for one challenge's code.
CHANNEL_TAG, MAX_CHANNELS = 4, 4

#: A subject that belongs to no identifier, for :meth:`Store.probe`.
NOBODY = b"health".ljust(16)

#: Prefix of the marks that :meth:`Store.check` sets for :meth:`Store.unlock`. Marks of used codes never have it.
RATION = b"ration"

#: Seconds that another machine's clock may be ahead of ours.
LEEWAY = 60

#: Pairs of a number of events and a period in seconds.
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
class ChallengeRequest:
    """A request for a message: its origin, and its challenge.

    :param challenge_id: the id for a new challenge. For :meth:`Store.reopen`, the id of the challenge to send again.
    :param bucket: name of the bucket of the client's network.
    :param session_tag: tag of the browser session. A live challenge with the same tag is sent again. Empty: no session.
    :param known_bucket: the browser's own bucket, if it has verified this subject before.
    :param known_since: time of that verification in milliseconds. A later revocation makes the browser a stranger
        again.
    :param surge: whether failures over the whole site are above their limit.
    :param once: do not send a second message of the challenge that the session has. With :meth:`Store.reopen`, do not
        send a second one by this channel.
    :param channel: tag of the message's channel, :data:`CHANNEL_TAG` bytes. Empty: not given.
    """

    challenge_id: bytes
    bucket: bytes
    session_tag: bytes = b""
    known_bucket: bytes = b""
    known_since: int = 0
    surge: bool = False
    once: bool = False
    channel: bytes = b""


@dataclass(frozen=True)
class Attempt:
    """One try at the code of a challenge.

    :param matches: whether the code is right. Only the verb's answer says whether this counts.
    :param proof_id: the proof to record on success, valid until ``proof_expires_at``.
    :param surge: whether failures over the whole site are above their limit.
    """

    challenge_id: bytes
    matches: bool
    proof_id: bytes
    proof_expires_at: int
    surge: bool = False


@dataclass(frozen=True)
class Claim:
    """One try at a code without a challenge: of an authenticator app, or a recovery code.

    :param matches: whether the code is right. Only the verb's answer says whether this counts.
    :param uses: the possible uses of the code, each as the marks that it sets. The first use without a set mark is
        taken. A code may match two time steps of an app, so there may be several uses.
    :param marks_expire_at: when the marks expire.
    :param proof_id: the proof to record on success, valid until ``proof_expires_at``. Empty: none.
    :param bucket: name of the bucket of the client's network.
    :param known_bucket: the browser's own bucket, if it has verified this subject before.
    :param known_since: time of that verification in milliseconds. A later revocation makes the browser a stranger
        again.
    :param strong: compare the code even while the failure budget is spent or there is a surge.
    :param rationed: a wrong code counts like a message, and no code is compared while those windows are full. For codes
        that are too long for the failure budget and too short for unlimited tries.
    :param surge: whether failures over the whole site are above their limit.
    """

    matches: bool
    uses: tuple[tuple[bytes, ...], ...] = ()
    marks_expire_at: int = 0
    proof_id: bytes = b""
    proof_expires_at: int = 0
    bucket: bytes = b""
    known_bucket: bytes = b""
    known_since: int = 0
    strong: bool = False
    rationed: bool = False
    surge: bool = False


class OpenOutcome(Enum):
    SEND = 1  #: counted: send the message
    QUIET = 2  #: the challenge has had its message: same answer, but no new message
    WAIT = 3  #: a limit is reached, and nothing was counted: try again after ``retry_after`` seconds
    GONE = 4  #: there is no such challenge (:meth:`Store.reopen` only)


@dataclass(frozen=True)
class OpenResult:
    """The answer of :meth:`Store.open` and :meth:`Store.reopen`."""

    outcome: OpenOutcome
    challenge_id: bytes = b""
    #: Whether the challenge's code is strong.
    strong: bool = False
    #: Whether this call created the challenge.
    fresh: bool = False
    expires_at: int = 0
    #: When the bucket's cooldown ends.
    ready_at: int = 0
    #: Seconds to wait, with ``WAIT``.
    retry_after: int = 0
    #: Whether the client is a known browser, and so uses its own bucket.
    known: bool = False
    #: For :meth:`Store.discard`: the bucket that the message was counted on, and the ends of the windows it was counted
    #: in (the bucket's and the subject's, in the order of the rates). With ``QUIET``, the ends are empty.
    bucket: bytes = b""
    bucket_ends: tuple[int, ...] = ()
    subject_ends: tuple[int, ...] = ()


class RedeemOutcome(Enum):
    MATCH = 1  #: consumed: this caller has passed, and no other can
    WRONG = 2  #: charged: the code was compared and was wrong
    REFUSED = 3  #: unknown, expired, used, spent or revoked: nothing was compared


@dataclass(frozen=True)
class RedeemResult:
    outcome: RedeemOutcome
    #: Whether this failure spent the failure budget.
    budget_spent: bool = False
    #: The bucket of the known browser that opened the challenge. Empty if a stranger opened it.
    bucket: bytes = b""
    #: Seconds until the limits that refused a claim have room (:meth:`Store.check` only). 0 if something else refused
    #: it.
    retry_after: int = 0
    #: With ``WRONG``: whether this failure was the challenge's last attempt. It is only used to tell the user on a
    #: page, so a store may leave it out.
    is_last: bool = field(default=False, compare=False)
    #: With ``MATCH`` of :meth:`Store.redeem`: tags of all channels that the code went out by, in order.
    channels: tuple[bytes, ...] = ()


class Gates(Protocol):
    """Counters in the limits' storage that a store on the same server updates in the same step as its verb."""

    #: The counters' keys: first those of the rules, then those of the failures.
    keys: list[str]
    #: Parameters of the rules and the failures for the script.
    arguments: tuple[bytes, bytes]

    def refuse(self, rule: int, retry_after: int) -> NoReturn:
        """Called if a rule was full. The verb did nothing."""

    def note_failures(self, counts: Sequence[int]) -> None:
        """Called if the verb's answer was ``WRONG``, with the new counts of the failures."""


class Store(ABC):
    """State of the subjects. Safe for any number of threads, and of processes and machines unless it says otherwise.

    Each verb is one indivisible step: no other verb on the same subject sees or changes a partial result. A verb that
    cannot be executed, or whose execution is uncertain, raises :exc:`~flask_otp.errors.StoreUnavailable` and nothing
    else, and the caller refuses. A verb gives up soon (ours after 0.25 s) and never repeats anything that may have been
    counted. State that still counts is never dropped to make room.
    """

    @abstractmethod
    def open(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        """Count a message, and open a challenge for it or find the one that the session has.

        1. The session's challenge has the same non-empty ``session_tag``, is live, has attempts left under
           ``policy.max_attempts`` and is not superseded. If there are several, it is the one that expires last, then
           the one with the greatest id.
        2. The wait is the longest of: the rest of the bucket's cooldown; the bucket's windows under ``send_limit``; the
           subject's windows under ``recipient_limit``, unless the browser is known; and with ``policy.refuse``, if the
           session has no challenge, the windows of the budget that would pay for a new one.
        3. If there is a wait, nothing is counted. If the bucket is cooling down and the session has a challenge, the
           answer is that challenge, ``QUIET``; otherwise ``WAIT``, with only ``retry_after``. With ``request.once``,
           the answer is always the session's challenge, ``QUIET``.
        4. The bucket's cooldown starts. The message is counted on the bucket, and on the subject unless the browser is
           known. If the session has no challenge, ``request.challenge_id`` becomes a new one without attempts, live for
           ``expires_in``. It is strong if its payer's budget is spent, or if there is a surge and the browser is a
           stranger. An existing challenge keeps its attempts, its expiry and its strength. The challenge remembers
           ``request.channel``. The answer is ``SEND``.
        """

    @abstractmethod
    def reopen(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        """Count another message of the challenge ``request.challenge_id``, opened by any client. Never open one.

        Like :meth:`open`, with this challenge instead of the session's. If it is not live, has no attempts left or is
        superseded, the answer is ``GONE``, whatever the waits, and nothing is counted. During the cooldown: ``WAIT``.

        If the challenge remembers other channels but not this one, there is no cooldown: a user who got no text message
        may request a call at once. The windows still apply. If :data:`MAX_CHANNELS` are remembered, another channel is
        ``GONE``.

        With ``request.once``, the message is an automatic one by the next channel. If the challenge already remembers
        ``request.channel``, or no channel is given, or the challenge's session has a newer live challenge (by the order
        of :meth:`open`), the answer is ``QUIET``, and nothing is counted or remembered.
        """

    @abstractmethod
    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        """Charge an attempt; if it is within the limits and matches, consume the challenge and record the proof.

        1. If the challenge is unknown, not live, superseded, or has had ``policy.max_attempts``: ``REFUSED``, whether
           the attempt matches or not, and nothing is counted.
        2. The attempt is counted on the challenge.
        3. If it matches, the challenge is deleted, and ``attempt.proof_id`` is valid until ``proof_expires_at``:
           ``MATCH``. The failure budget is neither charged nor cleared.
        4. Otherwise the failure is counted on the payer: ``WRONG``, with ``budget_spent`` if this failure spent the
           budget.
        """

    @abstractmethod
    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        """Charge a claim; if it is within the limits, matches and was not used before, record its marks and the proof.

        1. The payer is the known browser's bucket, otherwise the subject. The wait is the longest of: the windows of
           the payer's budget, unless ``claim.strong`` (with ``policy.refuse``, they also count if ``claim.rationed``);
           and if ``claim.rationed``, the windows of the client's bucket under ``send_limit`` and, unless the browser is
           known, the subject's windows under ``recipient_limit``.
        2. If there is a wait: ``REFUSED`` with ``retry_after``, whether the claim matches or not. If the claim is not
           strong and comes from a stranger in a surge: ``REFUSED``. Nothing is counted.
        3. If it matches, has uses, and each use has a set mark that has not expired: ``REFUSED``, and nothing is
           counted. If a used code were charged, two hundred right ones at once would spend the owner's budget.
        4. If it matches, the marks of the first use without a set mark are set until ``marks_expire_at``, and a
           non-empty ``proof_id`` is valid until ``proof_expires_at``: ``MATCH``. No budget is charged or cleared. A
           claim without uses and proof changes nothing: it asks whether such a code would be compared.
        5. Otherwise the failure is counted on the payer, and if ``claim.rationed``, also on the windows of step 1:
           ``WRONG``, with ``budget_spent`` if this failure spent the payer's budget. If ``claim.rationed``, the mark
           :data:`RATION` plus the bucket's name is set until the bucket's windows end, and unless the browser is known,
           the mark :data:`RATION` until the subject's windows end.

        The answer's ``bucket`` is the known browser's, with ``MATCH`` and ``WRONG``.
        """

    @abstractmethod
    def discard(self, subject: bytes, opened: OpenResult, now: int) -> None:
        """The message of ``opened`` was not sent: give its count back, but not the cooldown.

        If ``opened.fresh``, the challenge is deleted. Each window of the bucket ``opened.bucket`` and of the subject
        whose end is in ``bucket_ends`` or ``subject_ends`` counts one less, but never less than zero. A window that
        counts nothing has ended.
        """

    @abstractmethod
    def drop(self, subject: bytes, challenge_id: bytes, now: int) -> None:
        """Delete a challenge that will not be redeemed any more. Nothing is given back."""

    @abstractmethod
    def is_live(self, subject: bytes, challenge_id: bytes, now: int) -> bool:
        """Whether the challenge was opened, has not expired, and was not used, discarded, dropped or revoked since.

        Called before a delayed message is sent. Attempts, budgets and surges do not count here. The answer must include
        everything that was ended before, so a lagging replica must not give it.
        """

    @abstractmethod
    def note(self, subject: bytes, mark: bytes, expires_at: int, now: int) -> bool:
        """Record a mark as :meth:`redeem` records a proof: :meth:`holds` returns true for it until ``expires_at``.

        It tells other workers what one of them is doing or has done. Returns ``True`` to the one caller that recorded
        it. While the mark is valid, or if ``expires_at`` is not after ``now``, nothing changes and the answer is
        ``False``.
        """

    @abstractmethod
    def noted(self, subject: bytes, prefix: bytes, now: int) -> dict[bytes, int]:
        """The valid names recorded by :meth:`note` that start with ``prefix``, with their expiry times.

        The answer must include everything that was ended before, so a lagging replica must not give it.
        """

    @abstractmethod
    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        """Whether the proof was recorded, has not expired, and was not ended.

        The guard asks this at every request. The answer must include everything that was ended before, so a lagging
        replica must not give it.
        """

    @abstractmethod
    def spend(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        """End a proof. Returns ``True`` to the one caller that ended a valid proof."""

    @abstractmethod
    def revoke(self, subject: bytes, now_ms: int) -> None:
        """End every proof, challenge and known browser of the subject. Counts and marks stay.

        :param now_ms: the caller's clock in milliseconds. The latest value is remembered for :data:`KNOWN_BROWSER_FOR`
            seconds.
        """

    @abstractmethod
    def inspect(self, subject: bytes, now: int) -> Record:
        """Everything that is open or counted, for an operator: :meth:`Record.at` of the state. Changes nothing."""

    @abstractmethod
    def unlock(self, subject: bytes, now: int) -> bool:
        """End each bucket's cooldown, and clear the windows of sends, both of the buckets and of the subject.

        A cleared window counts nothing and keeps its end. Nothing that a guess has cost is given back: failures,
        attempts and marks stay. The windows of a bucket or of the subject also stay while their mark :data:`RATION` is
        set, because guesses are counted in them.

        :returns: ``False`` if some windows stayed.
        """

    def is_on_server_of(self, client: object) -> bool:
        """Whether verbs can update this client's keys in the same step. :meth:`gated` is called only if so."""
        return False

    def gated(self, gates: Gates) -> Store:
        """This store for one verb, which counts the gates first and does nothing if a gate refuses."""
        raise NotImplementedError

    def probe(self, now: int) -> None:
        """For ``flask_otp.health``: check that the verbs can read and write. Nothing is counted or changed.

        This one only reads. Override it if a store may be reachable and yet refuse changes, as a replica does.

        :raises StoreUnavailable: they cannot.
        """
        self.note(NOBODY, NOBODY[:12], now, now)

    def close(self) -> None:  # noqa: B027 - most stores have nothing to close
        """Close connections. For tests and scripts: the extension's own store lives as long as its app."""

    def prepare(self) -> bool:
        """``flask otp init-db``: create what the first verb needs. Returns ``False`` if this store needs nothing."""
        return False

    def purge(self, now: int, limit: int) -> int | None:
        """``flask otp purge``: remove some expired rows without delaying a verb, and return how many.

        It is called again until it returns less than ``limit``. ``None``: this store removes expired state on its own.
        """
        return None
