"""What a store must answer, by the words of ``flask_otp.stores.base`` and by nothing else of the package's code.

It keeps every event that was ever counted, and no windows: what is full is found by looking back. It is slow, and for a
clock that only goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flask_otp.stores import (
    Attempt,
    ChallengeRequest,
    Claim,
    OpenOutcome,
    OpenResult,
    Policy,
    RedeemOutcome,
    RedeemResult,
)
from flask_otp.stores.base import KNOWN_BROWSERS, LEEWAY, MAX_CHANNELS, Rates


@dataclass(frozen=True)
class Event:
    """One that was counted: for each rate of its limit, when the window ends that it was counted in."""

    ends: tuple[int, ...]
    #: Not any more, once an operator has unlocked. Its windows go on to their end.
    counts: bool = True


@dataclass
class Log:
    """The events under one limit. What is given back is taken out again."""

    events: list[Event] = field(default_factory=list)

    def wait(self, rates: Rates, now: int) -> int:
        full = [0]
        for index, (amount, _) in enumerate(rates):
            ends = [event.ends[index] for event in self.events if event.counts and event.ends[index] > now]
            if len(ends) >= amount:
                full.append(max(ends) - now)
        return max(full)

    def count(self, rates: Rates, now: int) -> tuple[int, ...]:
        ends = []
        for index, (_, period) in enumerate(rates):
            under_way = [event.ends[index] for event in self.events if event.ends[index] > now]
            ends.append(max(under_way, default=now + period))
        self.events.append(Event(tuple(ends)))
        return tuple(ends)

    def give_back(self, ends: tuple[int, ...]) -> None:
        """Count one less in each window that ends at these times, rate by rate: some windows may have ended before.

        A window in which nothing counts any more does not exist.
        """
        for index, end in enumerate(ends):
            for place, event in enumerate(self.events):
                if event.counts and event.ends[index] == end:
                    self._take_out(place, index)
                    break
        for index in range(max((len(event.ends) for event in self.events), default=0)):
            last = max(event.ends[index] for event in self.events)
            if not any(event.counts and event.ends[index] == last for event in self.events):
                for place in range(len(self.events)):
                    self._take_out(place, index)

    def _take_out(self, place: int, index: int) -> None:
        """It is in no window of this rate any more."""
        ends = self.events[place].ends
        self.events[place] = replace(self.events[place], ends=(*ends[:index], 0, *ends[index + 1 :]))

    def clear(self) -> None:
        self.events = [replace(event, counts=False) for event in self.events]

    def last_end(self) -> int:
        return max((max(event.ends, default=0) for event in self.events), default=0)


@dataclass
class BucketLog:
    ready_at: int = 0
    known: bool = False
    sends: Log = field(default_factory=Log)
    failures: Log = field(default_factory=Log)

    def counts(self, now: int) -> bool:
        return max(self.ready_at, self.sends.last_end(), self.failures.last_end()) > now


@dataclass
class Outstanding:
    expires_at: int
    strong: bool
    session_tag: bytes
    #: The known browser that pays for failures; ``None``: the subject does.
    payer: bytes | None
    attempts: int = 0
    channels: tuple[bytes, ...] = ()


@dataclass
class SubjectDriver:
    """All there is of one subject."""

    challenges: dict[bytes, Outstanding] = field(default_factory=dict)
    buckets: dict[bytes, BucketLog] = field(default_factory=dict)
    proofs: dict[bytes, int] = field(default_factory=dict)
    sends: Log = field(default_factory=Log)
    failures: Log = field(default_factory=Log)
    revoked_ms: int = 0
    #: The end of each mark that was ever set.
    marks: dict[bytes, int] = field(default_factory=dict)
    #: Until when guesses are counted among the sends of a bucket; of the subject, under the empty name.
    rationed: dict[bytes, int] = field(default_factory=dict)


class Model:
    def __init__(self) -> None:
        self.people: dict[bytes, SubjectDriver] = {}

    def open(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        person = self._person(subject)
        mine = [
            (live.expires_at, challenge_id)
            for challenge_id, live in person.challenges.items()
            if request.session_tag
            and live.session_tag == request.session_tag
            and self._may_be_tried(person, live, policy, now, request)
        ]
        return self._open(person, request, policy, now, max(mine)[1] if mine else None, resend=False)

    def reopen(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        person = self._person(subject)
        live = person.challenges.get(request.challenge_id)
        if live is None or not self._may_be_tried(person, live, policy, now, request):
            return OpenResult(OpenOutcome.GONE)
        return self._open(person, request, policy, now, request.challenge_id, resend=True)

    def _open(
        self,
        person: SubjectDriver,
        request: ChallengeRequest,
        policy: Policy,
        now: int,
        found: bytes | None,
        *,
        resend: bool,
    ) -> OpenResult:
        known = self._is_known(person, request, now)
        name = request.known_bucket if known else request.bucket
        bucket = person.buckets.get(name, BucketLog())
        if not bucket.counts(now):
            bucket = BucketLog()
        cooling = max(0, bucket.ready_at - now)
        cooling = cooling if cooling <= policy.cooldown + LEEWAY else 0
        carried = person.challenges[found].channels if found else ()
        first_time = bool(request.channel) and request.channel not in carried
        if resend and carried and first_time:
            if len(carried) == MAX_CHANNELS:
                return OpenResult(OpenOutcome.GONE)
            cooling = 0
        budget = (bucket if known else person).failures.wait(policy.failure_budget, now)
        waits = [cooling, bucket.sends.wait(policy.send_limit, now)]
        waits += [] if known else [person.sends.wait(policy.recipient_limit, now)]
        waits += [budget] if policy.refuse and found is None else []
        quiet = found is not None and not resend and bool(cooling or request.once)
        if resend and request.once and found is not None:
            mine = person.challenges[found]
            newer = [
                live
                for name_, live in person.challenges.items()
                if live.session_tag == mine.session_tag != b""
                and now < live.expires_at
                and (live.expires_at, name_) > (mine.expires_at, found)
            ]
            quiet = bool(newer) or not first_time
        if max(waits) and not quiet:
            return OpenResult(OpenOutcome.WAIT, retry_after=max(waits))
        bucket_ends: tuple[int, ...] = ()
        subject_ends: tuple[int, ...] = ()
        if not quiet:
            bucket.ready_at, bucket.known = now + policy.cooldown, known
            person.buckets[name] = bucket
            bucket_ends = bucket.sends.count(policy.send_limit, now)
            subject_ends = () if known else person.sends.count(policy.recipient_limit, now)
        if found is None:
            strong = budget > 0 or (request.surge and not known)
            person.challenges[request.challenge_id] = Outstanding(
                now + policy.expires_in, strong, request.session_tag, name if known else None
            )
        challenge_id = request.challenge_id if found is None else found
        live = person.challenges[challenge_id]
        if first_time and not quiet:
            live.channels += (request.channel,)
        return OpenResult(
            OpenOutcome.QUIET if quiet else OpenOutcome.SEND,
            challenge_id,
            live.strong,
            found is None,
            live.expires_at,
            bucket.ready_at,
            known=known,
            bucket=name,
            bucket_ends=bucket_ends,
            subject_ends=subject_ends,
        )

    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        person = self._person(subject)
        live = person.challenges.get(attempt.challenge_id)
        if live is None or not self._may_be_tried(person, live, policy, now, attempt):
            return RedeemResult(RedeemOutcome.REFUSED)
        live.attempts += 1
        bucket = live.payer or b""
        if attempt.matches:
            del person.challenges[attempt.challenge_id]
            person.proofs[attempt.proof_id] = attempt.proof_expires_at
            return RedeemResult(RedeemOutcome.MATCH, bucket=bucket, channels=live.channels)
        log = self._payers_log(person, live)
        spent = log.wait(policy.failure_budget, now) > 0
        log.count(policy.failure_budget, now)
        return RedeemResult(RedeemOutcome.WRONG, not spent and log.wait(policy.failure_budget, now) > 0, bucket)

    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        person = self._person(subject)
        known = self._is_known(person, claim, now)
        name = claim.known_bucket if known else claim.bucket
        bucket = person.buckets.get(name, BucketLog())
        if not bucket.counts(now):
            bucket = BucketLog()
        paying = bucket.failures if known else person.failures
        budget = paying.wait(policy.failure_budget, now)
        ration = max(
            bucket.sends.wait(policy.send_limit, now), 0 if known else person.sends.wait(policy.recipient_limit, now)
        )
        if claim.rationed and (ration or (policy.refuse and budget)):
            waits = [ration, budget if policy.refuse or not claim.strong else 0]
            return RedeemResult(RedeemOutcome.REFUSED, retry_after=max(waits))
        if not claim.strong and (budget or (claim.surge and not known)):
            return RedeemResult(RedeemOutcome.REFUSED, retry_after=budget)
        if claim.matches:
            return self._use(person, claim, now, name if known else b"")
        if known or claim.rationed:
            person.buckets[name] = bucket
            bucket.known = known
        if claim.rationed:
            bucket.sends.count(policy.send_limit, now)
            person.rationed[name] = bucket.sends.last_end()
            if not known:
                person.sends.count(policy.recipient_limit, now)
                person.rationed[b""] = person.sends.last_end()
        paying.count(policy.failure_budget, now)
        spent = not budget and paying.wait(policy.failure_budget, now) > 0
        return RedeemResult(RedeemOutcome.WRONG, spent, name if known else b"")

    def _use(self, person: SubjectDriver, claim: Claim, now: int, bucket: bytes) -> RedeemResult:
        free = [use for use in claim.uses if all(person.marks.get(mark, 0) <= now for mark in use)]
        if claim.uses and not free:
            return RedeemResult(RedeemOutcome.REFUSED)
        for mark in free[0] if free else ():
            person.marks[mark] = claim.marks_expire_at
        if claim.proof_id:
            person.proofs[claim.proof_id] = claim.proof_expires_at
        return RedeemResult(RedeemOutcome.MATCH, bucket=bucket)

    def discard(self, subject: bytes, opened: OpenResult, now: int) -> None:
        person = self._person(subject)
        if opened.fresh:
            person.challenges.pop(opened.challenge_id, None)
        if opened.bucket in person.buckets:
            person.buckets[opened.bucket].sends.give_back(opened.bucket_ends)
        person.sends.give_back(opened.subject_ends)

    def drop(self, subject: bytes, challenge_id: bytes, now: int) -> None:
        self._person(subject).challenges.pop(challenge_id, None)

    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return self._person(subject).proofs.get(proof_id, 0) > now

    def spend(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return self._person(subject).proofs.pop(proof_id, 0) > now

    def revoke(self, subject: bytes, now_ms: int) -> None:
        person = self._person(subject)
        buckets = {name: replace(bucket, known=False) for name, bucket in person.buckets.items()}
        revoked_ms = max(person.revoked_ms, now_ms)
        self.people[subject] = replace(person, challenges={}, proofs={}, buckets=buckets, revoked_ms=revoked_ms)

    def unlock(self, subject: bytes, now: int) -> bool:
        person = self._person(subject)
        kept = {name for name, until in person.rationed.items() if until > now}
        for name, bucket in person.buckets.items():
            bucket.ready_at = 0
            if name not in kept:
                bucket.sends.clear()
        if b"" not in kept:
            person.sends.clear()
        return not kept

    def _person(self, subject: bytes) -> SubjectDriver:
        return self.people.setdefault(subject, SubjectDriver())

    def _is_known(self, person: SubjectDriver, request: ChallengeRequest | Claim, now: int) -> bool:
        if not request.known_bucket or request.known_since <= person.revoked_ms:
            return False
        others = [name for name, bucket in person.buckets.items() if bucket.known and bucket.counts(now)]
        return len(set(others) - {request.known_bucket}) < KNOWN_BROWSERS

    def _payers_log(self, person: SubjectDriver, live: Outstanding) -> Log:
        if live.payer is None:
            return person.failures
        bucket = person.buckets.setdefault(live.payer, BucketLog(known=True))
        return bucket.failures

    def _may_be_tried(
        self, person: SubjectDriver, live: Outstanding, policy: Policy, now: int, client: ChallengeRequest | Attempt
    ) -> bool:
        if not now < live.expires_at <= now + policy.expires_in + LEEWAY or live.attempts >= policy.max_attempts:
            return False
        spent = self._payers_log(person, live).wait(policy.failure_budget, now) > 0
        return live.strong or not (spent or (client.surge and live.payer is None))
