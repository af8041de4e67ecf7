"""What a store must answer, by the words of ``flask_otp.stores.base`` and by nothing else of the package's code.

It keeps every event that was ever counted, and no windows: what is full is found by looking back. It is slow, and for a
clock that only goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flask_otp.stores import Asking, Attempt, Opened, Opening, Policy, Redeemed, Redemption
from flask_otp.stores.base import KNOWN_LANES, LEEWAY, Rates


@dataclass(frozen=True)
class Event:
    """One that was counted: for each rate of its limit, when the window ends that it was counted in."""

    ends: tuple[int, ...]


@dataclass
class Log:
    """The events under one limit. What is given back is taken out again."""

    events: list[Event] = field(default_factory=list)

    def wait(self, rates: Rates, now: int) -> int:
        full = [0]
        for index, (amount, _) in enumerate(rates):
            ends = [event.ends[index] for event in self.events if event.ends[index] > now]
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
        """One less in each of the windows that end then. Each rate by itself: some may be over, and others not."""
        for index, end in enumerate(ends):
            for place, event in enumerate(self.events):
                if event.ends[index] == end:
                    # In no window of this rate any more.
                    self.events[place] = Event((*event.ends[:index], 0, *event.ends[index + 1 :]))
                    break

    def last_end(self) -> int:
        return max((max(event.ends, default=0) for event in self.events), default=0)


@dataclass
class LaneLog:
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
    holder: bytes
    #: The known browser that pays for failures; ``None``: the subject does.
    payer: bytes | None
    attempts: int = 0


@dataclass
class Person:
    """All there is of one subject."""

    challenges: dict[bytes, Outstanding] = field(default_factory=dict)
    lanes: dict[bytes, LaneLog] = field(default_factory=dict)
    proofs: dict[bytes, int] = field(default_factory=dict)
    sends: Log = field(default_factory=Log)
    failures: Log = field(default_factory=Log)
    revoked_ms: int = 0


class Model:
    def __init__(self) -> None:
        self.people: dict[bytes, Person] = {}

    def open(self, subject: bytes, asking: Asking, policy: Policy, now: int) -> Opened:
        person = self._person(subject)
        mine = [
            (live.expires_at, challenge_id)
            for challenge_id, live in person.challenges.items()
            if asking.holder and live.holder == asking.holder and self._may_be_tried(person, live, policy, now, asking)
        ]
        return self._open(person, asking, policy, now, max(mine)[1] if mine else None, resend=False)

    def find(self, subject: bytes, asking: Asking, policy: Policy, now: int) -> Opened:
        person = self._person(subject)
        live = person.challenges.get(asking.challenge_id)
        if live is None or not self._may_be_tried(person, live, policy, now, asking):
            return Opened(Opening.GONE)
        return self._open(person, asking, policy, now, asking.challenge_id, resend=True)

    def _open(
        self, person: Person, asking: Asking, policy: Policy, now: int, found: bytes | None, *, resend: bool
    ) -> Opened:
        known = self._is_known(person, asking, now)
        name = asking.known_lane if known else asking.lane
        lane = person.lanes.get(name, LaneLog())
        if not lane.counts(now):
            lane = LaneLog()
        cooling = max(0, lane.ready_at - now)
        cooling = cooling if cooling <= policy.cooldown + LEEWAY else 0
        budget = (lane if known else person).failures.wait(policy.failure_budget, now)
        waits = [cooling, lane.sends.wait(policy.send_limit, now)]
        waits += [] if known else [person.sends.wait(policy.recipient_limit, now)]
        waits += [budget] if policy.refuse and found is None else []
        if max(waits) and not (cooling and found is not None and not resend):
            return Opened(Opening.WAIT, retry_after=max(waits))
        lane_ends: tuple[int, ...] = ()
        subject_ends: tuple[int, ...] = ()
        quiet = max(waits) > 0
        if not quiet:
            lane.ready_at, lane.known = now + policy.cooldown, known
            person.lanes[name] = lane
            lane_ends = lane.sends.count(policy.send_limit, now)
            subject_ends = () if known else person.sends.count(policy.recipient_limit, now)
        if found is None:
            strong = budget > 0 or (asking.surge and not known)
            person.challenges[asking.challenge_id] = Outstanding(
                now + policy.expires_in, strong, asking.holder, name if known else None
            )
        challenge_id = asking.challenge_id if found is None else found
        live = person.challenges[challenge_id]
        return Opened(
            Opening.QUIET if quiet else Opening.SEND,
            challenge_id,
            live.strong,
            found is None,
            live.expires_at,
            lane.ready_at,
            known=known,
            lane=name,
            lane_ends=lane_ends,
            subject_ends=subject_ends,
        )

    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> Redeemed:
        person = self._person(subject)
        live = person.challenges.get(attempt.challenge_id)
        if live is None or not self._may_be_tried(person, live, policy, now, attempt):
            return Redeemed(Redemption.REFUSED)
        live.attempts += 1
        lane = live.payer or b""
        if attempt.matches:
            del person.challenges[attempt.challenge_id]
            person.proofs[attempt.proof_id] = attempt.proof_expires_at
            return Redeemed(Redemption.MATCH, lane=lane)
        log = self._payers_log(person, live)
        spent = log.wait(policy.failure_budget, now) > 0
        log.count(policy.failure_budget, now)
        return Redeemed(Redemption.WRONG, not spent and log.wait(policy.failure_budget, now) > 0, lane)

    def discard(self, subject: bytes, opened: Opened, now: int) -> None:
        person = self._person(subject)
        if opened.fresh:
            person.challenges.pop(opened.challenge_id, None)
        if opened.lane in person.lanes:
            person.lanes[opened.lane].sends.give_back(opened.lane_ends)
        person.sends.give_back(opened.subject_ends)

    def drop(self, subject: bytes, challenge_id: bytes, now: int) -> None:
        self._person(subject).challenges.pop(challenge_id, None)

    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return self._person(subject).proofs.get(proof_id, 0) > now

    def spend(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return self._person(subject).proofs.pop(proof_id, 0) > now

    def revoke(self, subject: bytes, now_ms: int) -> None:
        person = self._person(subject)
        self.people[subject] = replace(person, challenges={}, proofs={}, revoked_ms=max(person.revoked_ms, now_ms))

    def _person(self, subject: bytes) -> Person:
        return self.people.setdefault(subject, Person())

    def _is_known(self, person: Person, asking: Asking, now: int) -> bool:
        if not asking.known_lane or asking.known_since <= person.revoked_ms:
            return False
        others = [name for name, lane in person.lanes.items() if lane.known and lane.counts(now)]
        return len(set(others) - {asking.known_lane}) < KNOWN_LANES

    def _payers_log(self, person: Person, live: Outstanding) -> Log:
        if live.payer is None:
            return person.failures
        lane = person.lanes.setdefault(live.payer, LaneLog(known=True))
        return lane.failures

    def _may_be_tried(
        self, person: Person, live: Outstanding, policy: Policy, now: int, client: Asking | Attempt
    ) -> bool:
        if not now < live.expires_at <= now + policy.expires_in + LEEWAY or live.attempts >= policy.max_attempts:
            return False
        spent = self._payers_log(person, live).wait(policy.failure_budget, now) > 0
        return live.strong or not (spent or (client.surge and live.payer is None))
