"""The state of one subject, and what the verbs do to it, as plain functions.

For stores that can hold one record still while Python changes it: memory under a lock, SQL under a row lock. The Redis
store does the same in Lua; one suite keeps the two alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest

from .base import KNOWN_FOR, KNOWN_LANES, LEEWAY, Asking, Attempt, Opened, Opening, Policy, Rates, Redeemed, Redemption

#: One ``[count, end]`` for each rate: how many since the window's first event, and when the window is over.
Windows = list[list[int]]


@dataclass(slots=True)
class Lane:
    ready_at: int = 0
    sends: Windows = field(default_factory=list)
    failures: Windows = field(default_factory=list)
    known: bool = False


@dataclass(slots=True)
class Live:
    """An outstanding challenge. ``lane`` is set where a known browser's own budget pays for its failures."""

    expires_at: int
    strong: bool
    holder: bytes
    lane: bytes
    attempts: int = 0


@dataclass(slots=True)
class Record:
    failures: Windows = field(default_factory=list)
    sends: Windows = field(default_factory=list)
    challenges: dict[bytes, Live] = field(default_factory=dict)
    lanes: dict[bytes, Lane] = field(default_factory=dict)
    proofs: dict[bytes, int] = field(default_factory=dict)
    revoked_ms: int = 0

    def prune(self, now: int) -> None:
        """Drop what no longer means anything."""
        self.challenges = {key: live for key, live in self.challenges.items() if live.expires_at > now}
        self.lanes = {
            key: lane
            for key, lane in self.lanes.items()
            if max(lane.ready_at, _end(lane.sends), _end(lane.failures)) > now
        }
        self.proofs = {key: expires_at for key, expires_at in self.proofs.items() if expires_at > now}

    def expires_at(self) -> int:
        """When nothing in the record will mean anything any more."""
        return max(
            _end(self.failures),
            _end(self.sends),
            self.revoked_ms // 1000 + KNOWN_FOR,
            *(live.expires_at for live in self.challenges.values()),
            *(max(lane.ready_at, _end(lane.sends), _end(lane.failures)) for lane in self.lanes.values()),
            *self.proofs.values(),
        )


def open_challenge(record: Record, asking: Asking, policy: Policy, now: int, *, resend: bool) -> Opened:
    """:meth:`Store.open`, and with ``resend`` :meth:`Store.find`."""
    record.prune(now)
    known = _is_known(record, asking)
    lane_id = asking.known_lane if known else asking.lane
    lane = record.lanes.get(lane_id) or Lane()
    budget_wait = _wait((lane if known else record).failures, policy.failure_budget, now)
    found = _find(record, asking, policy, now, resend)
    if resend and found is None:
        return Opened(Opening.GONE)
    cooling = lane.ready_at - now if now < lane.ready_at <= now + policy.cooldown + LEEWAY else 0
    wait = max(
        cooling,
        _wait(lane.sends, policy.send_limit, now),
        0 if known else _wait(record.sends, policy.recipient_limit, now),
        budget_wait if policy.refuse and found is None else 0,
    )
    if wait and not (found and cooling and not resend):
        return Opened(Opening.WAIT, retry_after=wait)
    lane_ends: tuple[int, ...] = ()
    subject_ends: tuple[int, ...] = ()
    if not wait:
        lane.ready_at, lane.known = now + policy.cooldown, known
        lane_ends = _count(lane.sends, policy.send_limit, now)
        subject_ends = () if known else _count(record.sends, policy.recipient_limit, now)
        record.lanes[lane_id] = lane
    challenge_id = found or asking.challenge_id
    if not found:
        strong = budget_wait > 0 or (asking.surge and not known)
        record.challenges[challenge_id] = Live(
            now + policy.expires_in, strong, asking.holder, lane_id if known else b""
        )
    live = record.challenges[challenge_id]
    return Opened(
        Opening.QUIET if wait else Opening.SEND,
        challenge_id,
        live.strong,
        not found,
        live.expires_at,
        lane.ready_at,
        known=known,
        lane=lane_id,
        lane_ends=lane_ends,
        subject_ends=subject_ends,
    )


def _find(record: Record, asking: Asking, policy: Policy, now: int, resend: bool) -> bytes | None:
    """The challenge to send again: the one that was named, or the holder's newest."""
    found = [
        (live.expires_at, challenge_id)
        for challenge_id, live in record.challenges.items()
        if (challenge_id == asking.challenge_id if resend else live.holder and live.holder == asking.holder)
        and _is_open(record, live, policy, now, asking.surge)
    ]
    return max(found)[1] if found else None


def _is_known(record: Record, asking: Asking) -> bool:
    """Whether the browser is on its own lane. Each lane has limits of its own, so a subject may have a few only."""
    others = [lane_id for lane_id, lane in record.lanes.items() if lane.known and lane_id != asking.known_lane]
    return bool(asking.known_lane) and asking.known_since > record.revoked_ms and len(others) < KNOWN_LANES


def _is_open(record: Record, live: Live, policy: Policy, now: int, surge: bool) -> bool:
    """Whether a code for the challenge may still be compared."""
    in_time = now < live.expires_at <= now + policy.expires_in + LEEWAY
    return in_time and live.attempts < policy.max_attempts and not _outbid(record, live, policy, now, surge)


def _outbid(record: Record, live: Live, policy: Policy, now: int, surge: bool) -> bool:
    """A short code is worth nothing any more when its budget is spent, or a stranger's in a surge."""
    spent = _wait(_payer(record, live).failures, policy.failure_budget, now) > 0
    return not live.strong and (spent or (surge and not live.lane))


def _payer(record: Record, live: Live) -> Record | Lane:
    return record.lanes.setdefault(live.lane, Lane(known=True)) if live.lane else record


def redeem(record: Record, attempt: Attempt, policy: Policy, now: int) -> Redeemed:
    """:meth:`Store.redeem`."""
    live = record.challenges.get(attempt.challenge_id)
    if live is None or not _is_open(record, live, policy, now, attempt.surge):
        return Redeemed(Redemption.REFUSED)
    live.attempts += 1
    if attempt.matches:
        del record.challenges[attempt.challenge_id]
        record.proofs[attempt.proof_id] = attempt.proof_expires_at
        return Redeemed(Redemption.MATCH, lane=live.lane)
    payer = _payer(record, live)
    before = _wait(payer.failures, policy.failure_budget, now)
    _count(payer.failures, policy.failure_budget, now)
    after = _wait(payer.failures, policy.failure_budget, now)
    return Redeemed(Redemption.WRONG, bool(after and not before), live.lane)


def discard(record: Record, opened: Opened) -> None:
    """:meth:`Store.discard`."""
    if opened.fresh:
        record.challenges.pop(opened.challenge_id, None)
    lane = record.lanes.get(opened.lane)
    if lane is not None:
        _give_back(lane.sends, opened.lane_ends)
    _give_back(record.sends, opened.subject_ends)


def revoke(record: Record, now_ms: int) -> None:
    """:meth:`Store.revoke`."""
    record.challenges.clear()
    record.proofs.clear()
    record.revoked_ms = max(record.revoked_ms, now_ms)


def _wait(windows: Windows, rates: Rates, now: int) -> int:
    """Seconds until every rate has room for one more; 0 if they all have it now."""
    ends = [end for (count, end), (amount, _) in zip(windows, rates, strict=False) if end > now and count >= amount]
    return max(ends) - now if ends else 0


def _count(windows: Windows, rates: Rates, now: int) -> tuple[int, ...]:
    """Count one; answers when the windows end, which tells them from later ones."""
    for index, (_, period) in enumerate(rates):
        if index == len(windows):
            windows.append([0, 0])
        if windows[index][1] <= now:
            windows[index][:] = [0, now + period]
        windows[index][0] += 1
    return tuple(end for _, end in windows[: len(rates)])


def _give_back(windows: Windows, ends: tuple[int, ...]) -> None:
    for window, end in zip_longest(windows, ends[: len(windows)]):
        if window[1] == end:
            window[0] = max(0, window[0] - 1)
        if window[0] == 0:
            window[1] = 0  # a window begins with its first message: without one it is none


def _end(windows: Windows) -> int:
    return max((end for _, end in windows), default=0)
