"""What a store must do: fourteen verbs, each one indivisible step on the state of one subject.

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
    browser since the last revocation. Else it is a stranger, and its bucket is ``request.bucket``.
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

#: Known browsers of one subject that count on buckets of their own at one time; further ones count as strangers.
KNOWN_BROWSERS = 8

#: Bytes of the tag of a channel, and how many channels one challenge's code may go out by.
CHANNEL_TAG, MAX_CHANNELS = 4, 4

#: First part of the marks that :meth:`Store.check` sets for :meth:`Store.unlock`. No use of a code has such a mark.
RATION = b"ration"

#: Seconds that another machine's clock may be ahead of ours.
LEEWAY = 60

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
class ChallengeRequest:
    """A request for a message: where it comes from, and for which challenge.

    :param challenge_id: the id for a new challenge; for :meth:`Store.reopen`, of the one to send again.
    :param bucket: name of the bucket of the client's network.
    :param session_tag: tag of the browser session; a live challenge with the same tag is sent again. Empty: no session.
    :param known_bucket: the own bucket of a browser that verified this subject before, if it is one.
    :param known_since: when that was, in milliseconds; a later revocation makes the browser a stranger again.
    :param surge: failures over the whole site are above their limit.
    :param once: the client wants no second message of the challenge that its session has; with :meth:`Store.reopen`, no
        second one by this channel.
    :param channel: tag of the channel that the message goes out by, :data:`CHANNEL_TAG` bytes. Empty: none is told.
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

    :param matches: whether it is right. Only the answer of the verb says whether that counts.
    :param proof_id: the proof to record if it does, until ``proof_expires_at``.
    :param surge: failures over the whole site are above their limit.
    """

    challenge_id: bytes
    matches: bool
    proof_id: bytes
    proof_expires_at: int
    surge: bool = False


@dataclass(frozen=True)
class Claim:
    """One try at a code that needs no challenge: of an authenticator app, or a recovery code.

    :param matches: whether it is right. Only the answer of the verb says whether that counts.
    :param uses: what the code can be used as, each as the marks that this sets. The first use of which no mark is set
        is taken. A code may fit two time steps of an app, so there may be several.
    :param marks_expire_at: when the marks are over.
    :param proof_id: the proof to record if it passes, until ``proof_expires_at``. Empty: none.
    :param bucket: name of the bucket of the client's network.
    :param known_bucket: the own bucket of a browser that verified this subject before, if it is one.
    :param known_since: when that was, in milliseconds; a later revocation makes the browser a stranger again.
    :param strong: the code is compared even while the budget is spent or there is a surge.
    :param rationed: a wrong code counts as a message does, and none is compared while those windows are full. For a
        code that is too long for the budget, and too short to be tried without end.
    :param surge: failures over the whole site are above their limit.
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
    QUIET = 2  #: the challenge has had its message: same answer, no other message
    WAIT = 3  #: a limit is reached, nothing was counted: come back after ``retry_after`` seconds
    GONE = 4  #: there is no such challenge (:meth:`Store.reopen` only)


@dataclass(frozen=True)
class OpenResult:
    """The answer of :meth:`Store.open` and :meth:`Store.reopen`."""

    outcome: OpenOutcome
    challenge_id: bytes = b""
    #: Whether its code is a strong one.
    strong: bool = False
    #: Whether the challenge was made by this very call.
    fresh: bool = False
    expires_at: int = 0
    #: When the bucket's cooldown ends.
    ready_at: int = 0
    #: Seconds to wait, with ``WAIT``.
    retry_after: int = 0
    #: Whether the client is a known browser, and so on its own bucket.
    known: bool = False
    #: For :meth:`Store.discard`: the bucket that the message was counted on, and when the windows end in which it was
    #: counted, the bucket's and the subject's, in the order of the rates. With ``QUIET`` the ends are empty.
    bucket: bytes = b""
    bucket_ends: tuple[int, ...] = ()
    subject_ends: tuple[int, ...] = ()


class RedeemOutcome(Enum):
    MATCH = 1  #: consumed: this caller, and no other, has passed
    WRONG = 2  #: charged: the code was compared, and was wrong
    REFUSED = 3  #: unknown, expired, used, spent or revoked: nothing was compared


@dataclass(frozen=True)
class RedeemResult:
    outcome: RedeemOutcome
    #: This very failure spent the failure budget.
    budget_spent: bool = False
    #: The bucket of the known browser that the challenge was opened from; empty: it was a stranger.
    bucket: bytes = b""
    #: Seconds until the limits that refused a claim have room (:meth:`Store.check` only). 0: something else refused it.
    retry_after: int = 0
    #: With ``WRONG``: this very failure was the last attempt of the challenge. A page tells its person; it is only for
    #: that, so a store that does not know it may leave it out.
    is_last: bool = field(default=False, compare=False)
    #: With ``MATCH`` of :meth:`Store.redeem`: the tags of all channels that the code went out by, the first one first.
    channels: tuple[bytes, ...] = ()


class Gates(Protocol):
    """Counters of the limits' storage that a store on the same server takes along in the step of its verb."""

    #: Their keys: of the rules that come first, then of the failures.
    keys: list[str]
    #: What their script must know of the rules, and of the failures.
    arguments: tuple[bytes, bytes]

    def refuse(self, rule: int, retry_after: int) -> NoReturn:
        """A rule was full, and the verb did nothing."""

    def note_failures(self, counts: Sequence[int]) -> None:
        """The verb was ``WRONG``, and these are the counts of the failures now."""


class Store(ABC):
    """State of the subjects, for any number of threads; and of processes and machines, unless it says otherwise.

    Each verb is one indivisible step: no other verb on the same subject sees or changes anything half way. Every verb
    raises :exc:`~flask_otp.errors.StoreUnavailable`, and nothing else, when it cannot be carried out, or when it is not
    known whether it was; the caller then refuses. It gives up soon (ours after 0.25 s), and never tries again what may
    have been counted already. Nothing that still counts is thrown away to make room.
    """

    @abstractmethod
    def open(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        """Count a message, and open a challenge for it or find the one that the session has.

        1. The session's challenge is the one of the same non-empty ``session_tag`` that is live, has attempts left
           under ``policy.max_attempts`` and is not superseded; of several, the one that expires last, then the
           greatest id.
        2. The wait is the longest of: what is left of the bucket's cooldown; the bucket's windows under ``send_limit``;
           the subject's under ``recipient_limit``, unless the browser is known; and with ``policy.refuse``, where the
           session has no challenge, the windows of the budget that would pay for a new one.
        3. If there is a wait, nothing is counted. Where the bucket is cooling down and the session has a challenge, the
           answer is that challenge, ``QUIET``; else ``WAIT``, with ``retry_after`` alone. With ``request.once``
           the session's challenge is always the answer, ``QUIET``.
        4. The bucket's cooldown begins; the message is counted on the bucket, and on the subject unless the browser is
           known. Where the session has no challenge, ``request.challenge_id`` becomes one, of no attempts, live for
           ``expires_in``: strong if its payer's budget is spent, or if there is a surge and the browser is a stranger.
           One that the session had keeps its attempts, its expiry and its strength. The challenge remembers
           ``request.channel``. The answer is ``SEND``.
        """

    @abstractmethod
    def reopen(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        """Count another message of the challenge ``request.challenge_id``, from wherever it was opened. Never open one.

        As :meth:`open`, with this one in place of the session's. When it is not live, has no attempts left or is
        superseded: ``GONE`` and nothing else, before anything is waited for or counted. During the cooldown: ``WAIT``.

        A channel that the challenge does not remember yet, though it remembers others, waits for no cooldown: whoever
        got no text message may have a call at once. It waits for all windows. With :data:`MAX_CHANNELS` remembered,
        one more is ``GONE``.

        With ``request.once`` the message is one that nobody has asked for: the next channel's, after some time. Where
        the challenge remembers ``request.channel`` already, or none is told, and where the session of the challenge has
        a newer live one (by the order of :meth:`open`), the answer is ``QUIET``, and nothing is counted or remembered.
        """

    @abstractmethod
    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        """Charge an attempt; if it is within the limits and matches, consume the challenge and record the proof.

        1. Of a challenge that is unknown, not live, superseded, or has had ``policy.max_attempts``: ``REFUSED``,
           whether it matches or not, and nothing is counted.
        2. The attempt is counted on the challenge.
        3. If it matches, the challenge is gone, and ``attempt.proof_id`` holds until ``proof_expires_at``: ``MATCH``.
           The failure budget is neither charged nor cleared.
        4. Else the failure is counted on the payer: ``WRONG``, with ``budget_spent`` if the budget was not spent
           before, and is now.
        """

    @abstractmethod
    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        """Charge a claim; if it is within the limits, matches and was not used before, record its marks and the proof.

        1. The payer is the known browser's bucket, else the subject. The wait is the longest of: unless
           ``claim.strong``, and with ``policy.refuse`` also if ``claim.rationed``, the windows of the payer's budget;
           if ``claim.rationed``, the windows under ``send_limit`` of the bucket that the client is on, and unless the
           browser is known, the subject's under ``recipient_limit``.
        2. If there is a wait: ``REFUSED`` with ``retry_after``, whether the claim matches or not. Not strong, and a
           stranger's in a surge: ``REFUSED``. Nothing is counted.
        3. If it matches, and there are uses, and each of them has a mark that is set and not over: ``REFUSED``, and
           nothing is counted. Were a used code charged, two hundred right ones at once would spend the owner's budget.
        4. If it matches, the marks of the first use without a set mark hold until ``marks_expire_at``, and a
           ``proof_id`` that is not empty until ``proof_expires_at``: ``MATCH``. No budget is charged or cleared. A
           claim without uses and proof changes nothing: it asks whether such a code would be compared.
        5. Else the failure is counted on the payer, and if ``claim.rationed``, on the windows of step 1 too: ``WRONG``,
           with ``budget_spent`` if the payer's budget was not spent before, and is now. If ``claim.rationed``, the mark
           :data:`RATION` followed by the bucket's name is set until the bucket's windows end, and unless the browser
           is known, the mark :data:`RATION` until the subject's do.

        The answer's ``bucket`` is the known browser's, with ``MATCH`` and ``WRONG``.
        """

    @abstractmethod
    def discard(self, subject: bytes, opened: OpenResult, now: int) -> None:
        """The message of ``opened`` did not go out: give its count back, but not the cooldown.

        If ``opened.fresh``, the challenge is gone. In each window of the bucket ``opened.bucket`` and of the subject
        that ends when ``bucket_ends`` and ``subject_ends`` say, one less is counted, and never less than zero. A window
        that counts nothing has ended.
        """

    @abstractmethod
    def drop(self, subject: bytes, challenge_id: bytes, now: int) -> None:
        """Forget a challenge that will not be redeemed any more. Give nothing back."""

    @abstractmethod
    def is_live(self, subject: bytes, challenge_id: bytes, now: int) -> bool:
        """Whether the challenge was opened, has not expired, and was not used, discarded, dropped or revoked since.

        Asked before a message that had to wait is sent. Attempts, budgets and surges do not count here. The answer must
        include everything that was ended before, so a lagging replica must not give it.
        """

    @abstractmethod
    def note(self, subject: bytes, mark: bytes, expires_at: int, now: int) -> bool:
        """Record a mark as :meth:`redeem` records a proof: :meth:`holds` knows it from now on, until ``expires_at``.

        For what one worker is at, or has done, and no other need do. True for the one caller that recorded it. While it
        holds, nothing changes, and the answer is False; so it is where ``expires_at`` is not after ``now``.
        """

    @abstractmethod
    def noted(self, subject: bytes, prefix: bytes, now: int) -> dict[bytes, int]:
        """What :meth:`note` has recorded under names that begin with ``prefix``, while it holds: when each is over.

        It must see all that was ended before: a replica that lags will not do.
        """

    @abstractmethod
    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        """Whether the proof was recorded, has not expired, and was not ended.

        The guard asks this at every request. The answer must include everything that was ended before, so a lagging
        replica must not give it.
        """

    @abstractmethod
    def spend(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        """End a proof. True for the one caller that ended it, while it held."""

    @abstractmethod
    def revoke(self, subject: bytes, now_ms: int) -> None:
        """End every proof, challenge and known browser of the subject. Counts and marks stay.

        :param now_ms: the caller's clock in milliseconds. The latest that was ever given is remembered for
            :data:`KNOWN_BROWSER_FOR` seconds.
        """

    @abstractmethod
    def inspect(self, subject: bytes, now: int) -> Record:
        """All that is open and counted, for an operator to look at: :meth:`Record.at` of the state. Nothing changes."""

    @abstractmethod
    def unlock(self, subject: bytes, now: int) -> bool:
        """End each bucket's cooldown, and clear the windows of sends: those of the buckets, and the subject's.

        A window that is cleared counts nothing, and ends when it did. Nothing is given back that a guess has cost:
        failures, attempts and marks stay. The windows of a bucket, or of the subject, stay too while their mark
        :data:`RATION` is set, since guesses are counted in them.

        :returns: False if some windows stayed.
        """

    def is_on_server_of(self, client: object) -> bool:
        """Whether the verbs could count on this client's keys in their own step. Only then :meth:`gated` is called."""
        return False

    def gated(self, gates: Gates) -> Store:
        """This store for one verb, which counts the gates first and does nothing if one of them refuses."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 - most stores have nothing to close
        """Let go of connections. For tests and scripts: the extension's own store lives as long as its app."""

    def prepare(self) -> bool:
        """``flask otp init-db``: make what must be there before the first verb. False: this store needs nothing."""
        return False

    def purge(self, now: int, limit: int) -> int | None:
        """``flask otp purge``: remove some expired rows without delaying a verb, and return how many.

        It is called again until that is less than ``limit``. ``None``: this store removes expired state on its own.
        """
        return None
