"""The state of one subject, and the verbs on it, as plain functions.

For stores that can lock one record while Python changes it: memory under a lock, SQL by compare and swap. The Redis
store does the same in Lua, and one test suite checks that both behave alike.
"""

from __future__ import annotations

from itertools import zip_longest

from .base import (
    KNOWN_BROWSERS,
    LEEWAY,
    MAX_CHANNELS,
    RATION,
    Attempt,
    ChallengeRequest,
    Claim,
    OpenOutcome,
    OpenResult,
    Policy,
    Rates,
    RedeemOutcome,
    RedeemResult,
)
from .record import Bucket, Live, Record, Windows, end_of


def open_challenge(record: Record, request: ChallengeRequest, policy: Policy, now: int, *, resend: bool) -> OpenResult:
    """Implements :meth:`Store.open`, and with ``resend`` :meth:`Store.reopen`."""
    record.prune(now)
    known = _is_known(record, request)
    bucket_id = request.known_bucket if known else request.bucket
    bucket = record.buckets.get(bucket_id) or Bucket()
    budget_wait = _wait((bucket if known else record).failures, policy.failure_budget, now)
    found = _find(record, request, policy, now, resend)
    channels = record.challenges[found].channels if found else ()
    is_other_way = bool(request.channel and channels) and request.channel not in channels
    if resend and (found is None or (is_other_way and len(channels) >= MAX_CHANNELS)):
        return OpenResult(OpenOutcome.GONE)
    cooling = 0 if resend and is_other_way else _cooling(bucket, policy, now)
    wait = max(
        cooling,
        _wait(bucket.sends, policy.send_limit, now),
        0 if known else _wait(record.sends, policy.recipient_limit, now),
        budget_wait if policy.refuse and found is None else 0,
    )
    is_quiet = found is not None and _is_quiet(record, request, found, cooling, resend)
    if wait and not is_quiet:
        return OpenResult(OpenOutcome.WAIT, retry_after=wait)
    bucket_ends: tuple[int, ...] = ()
    subject_ends: tuple[int, ...] = ()
    if not is_quiet:
        bucket.ready_at, bucket.known = now + policy.cooldown, known
        bucket_ends = _count(bucket.sends, policy.send_limit, now)
        subject_ends = () if known else _count(record.sends, policy.recipient_limit, now)
        record.buckets[bucket_id] = bucket
    challenge_id = found or request.challenge_id
    if not found:
        strong = budget_wait > 0 or (request.surge and not known)
        payer = bucket_id if known else b""
        record.challenges[challenge_id] = Live(now + policy.expires_in, strong, request.session_tag, payer)
    live = record.challenges[challenge_id]
    if not is_quiet and request.channel and request.channel not in channels:
        live.channels = (*channels, request.channel)
    return OpenResult(
        OpenOutcome.QUIET if is_quiet else OpenOutcome.SEND,
        challenge_id,
        live.strong,
        not found,
        live.expires_at,
        bucket.ready_at,
        known=known,
        bucket=bucket_id,
        bucket_ends=bucket_ends,
        subject_ends=subject_ends,
    )


def waits_to_open(record: Record, bucket_id: bytes, known: bool, policy: Policy, now: int) -> dict[str, int]:
    """Seconds until each limit allows a message with a new challenge, by the limit's name: step 2 of ``open``."""
    bucket = record.buckets.get(bucket_id) or Bucket()
    return {
        "cooldown": _cooling(bucket, policy, now),
        "send_limit": _wait(bucket.sends, policy.send_limit, now),
        "recipient_limit": 0 if known else _wait(record.sends, policy.recipient_limit, now),
        "failure_budget": budget_wait(record, bucket_id, known, policy, now) if policy.refuse else 0,
    }


def budget_wait(record: Record, bucket_id: bytes, known: bool, policy: Policy, now: int) -> int:
    """Seconds until the failure budget that pays for a new challenge has room. Until then, its code is strong."""
    payer = (record.buckets.get(bucket_id) or Bucket()) if known else record
    return _wait(payer.failures, policy.failure_budget, now)


def _cooling(bucket: Bucket, policy: Policy, now: int) -> int:
    """Seconds left of the bucket's cooldown."""
    return bucket.ready_at - now if now < bucket.ready_at <= now + policy.cooldown + LEEWAY else 0


def _find(record: Record, request: ChallengeRequest, policy: Policy, now: int, resend: bool) -> bytes | None:
    """The challenge to send again: the given one, or the session's newest."""
    found = [
        (live.expires_at, challenge_id)
        for challenge_id, live in record.challenges.items()
        if (
            challenge_id == request.challenge_id
            if resend
            else live.session_tag and live.session_tag == request.session_tag
        )
        and _is_open(record, live, policy, now, request.surge)
    ]
    return max(found)[1] if found else None


def _is_quiet(record: Record, request: ChallengeRequest, found: bytes, cooling: int, resend: bool) -> bool:
    """Whether the challenge has had its message and wants no other now."""
    if not resend:
        return cooling > 0 or request.once
    live = record.challenges[found]
    is_replaced = bool(live.session_tag) and any(
        other.session_tag == live.session_tag and (other.expires_at, key) > (live.expires_at, found)
        for key, other in record.challenges.items()
    )
    return request.once and (is_replaced or not request.channel or request.channel in live.channels)


def _is_known(record: Record, request: ChallengeRequest | Claim) -> bool:
    """Whether the browser uses its own bucket. Each bucket has its own limits, so a subject may have only a few."""
    others = [
        bucket_id for bucket_id, bucket in record.buckets.items() if bucket.known and bucket_id != request.known_bucket
    ]
    return bool(request.known_bucket) and request.known_since > record.revoked_ms and len(others) < KNOWN_BROWSERS


def _is_open(record: Record, live: Live, policy: Policy, now: int, surge: bool) -> bool:
    """Whether a code for the challenge may still be compared."""
    in_time = now < live.expires_at <= now + policy.expires_in + LEEWAY
    return in_time and live.attempts < policy.max_attempts and not _is_superseded(record, live, policy, now, surge)


def _is_superseded(record: Record, live: Live, policy: Policy, now: int, surge: bool) -> bool:
    """A short code is not accepted once its failure budget is spent, nor a stranger's during a surge."""
    spent = _wait(_payer(record, live).failures, policy.failure_budget, now) > 0
    return not live.strong and (spent or (surge and not live.bucket))


def _payer(record: Record, live: Live) -> Record | Bucket:
    return record.buckets.setdefault(live.bucket, Bucket(known=True)) if live.bucket else record


def redeem(record: Record, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
    """:meth:`Store.redeem`."""
    live = record.challenges.get(attempt.challenge_id)
    if live is None or not _is_open(record, live, policy, now, attempt.surge):
        return RedeemResult(RedeemOutcome.REFUSED)
    live.attempts += 1
    if attempt.matches:
        del record.challenges[attempt.challenge_id]
        record.proofs[attempt.proof_id] = attempt.proof_expires_at
        return RedeemResult(RedeemOutcome.MATCH, bucket=live.bucket, channels=live.channels)
    is_last = live.attempts >= policy.max_attempts
    return RedeemResult(RedeemOutcome.WRONG, _fail(_payer(record, live), policy, now), live.bucket, is_last=is_last)


def _fail(payer: Record | Bucket, policy: Policy, now: int) -> bool:
    """Count a failure, and return whether it spent the failure budget."""
    before = _wait(payer.failures, policy.failure_budget, now)
    _count(payer.failures, policy.failure_budget, now)
    return bool(_wait(payer.failures, policy.failure_budget, now) and not before)


def check(record: Record, claim: Claim, policy: Policy, now: int) -> RedeemResult:
    """:meth:`Store.check`."""
    record.prune(now)
    known = _is_known(record, claim)
    bucket_id = claim.known_bucket if known else claim.bucket
    bucket = record.buckets.get(bucket_id) or Bucket()
    wait = _wait_to_check(record, bucket, known, claim, policy, now)
    if wait or (claim.surge and not claim.strong and not known):
        return RedeemResult(RedeemOutcome.REFUSED, retry_after=wait)
    payer = bucket_id if known else b""
    if claim.matches:
        unused = (use for use in claim.uses if not any(mark in record.marks for mark in use))
        use = next(unused, None) if claim.uses else ()
        if use is None:
            return RedeemResult(RedeemOutcome.REFUSED)
        record.marks.update(dict.fromkeys(use, claim.marks_expire_at))
        if claim.proof_id:
            record.proofs[claim.proof_id] = claim.proof_expires_at
        return RedeemResult(RedeemOutcome.MATCH, bucket=payer)
    if known or claim.rationed:
        bucket.known = known
        record.buckets[bucket_id] = bucket
    if claim.rationed:
        _count(bucket.sends, policy.send_limit, now)
        _ration(record, bucket_id, bucket.sends)
        if not known:
            _count(record.sends, policy.recipient_limit, now)
            _ration(record, b"", record.sends)
    return RedeemResult(RedeemOutcome.WRONG, _fail(bucket if known else record, policy, now), payer)


def _ration(record: Record, bucket_id: bytes, windows: Windows) -> None:
    """Record until when these windows must not be cleared, because a guess is counted in them."""
    record.marks[RATION + bucket_id] = end_of(windows)


def _wait_to_check(record: Record, bucket: Bucket, known: bool, claim: Claim, policy: Policy, now: int) -> int:
    """Seconds until the limits allow this claim to be compared."""
    waits = [0]
    if not claim.strong or (claim.rationed and policy.refuse):
        waits.append(_wait((bucket if known else record).failures, policy.failure_budget, now))
    if claim.rationed:
        waits.append(_wait(bucket.sends, policy.send_limit, now))
        waits.append(0 if known else _wait(record.sends, policy.recipient_limit, now))
    return max(waits)


def discard(record: Record, opened: OpenResult) -> None:
    """:meth:`Store.discard`."""
    if opened.fresh:
        record.challenges.pop(opened.challenge_id, None)
    bucket = record.buckets.get(opened.bucket)
    if bucket is not None:
        _give_back(bucket.sends, opened.bucket_ends)
    _give_back(record.sends, opened.subject_ends)


def note(record: Record, mark: bytes, expires_at: int, now: int) -> bool:
    """:meth:`Store.note`."""
    if expires_at <= now or record.proofs.get(mark, now) > now:
        return False
    record.proofs[mark] = expires_at
    return True


def revoke(record: Record, now_ms: int) -> None:
    """:meth:`Store.revoke`."""
    record.challenges.clear()
    record.proofs.clear()
    for bucket in record.buckets.values():
        # It still counts but takes no place. Otherwise revoked browsers would keep the owner's next browsers strangers.
        bucket.known = False
    record.revoked_ms = max(record.revoked_ms, now_ms)


def unlock(record: Record, now: int) -> bool:
    """:meth:`Store.unlock`."""
    record.prune(now)
    for bucket_id, bucket in record.buckets.items():
        bucket.ready_at = 0
        if RATION + bucket_id not in record.marks:
            _clear(bucket.sends)
    if RATION not in record.marks:
        _clear(record.sends)
    return not any(mark.startswith(RATION) for mark in record.marks)


def _clear(windows: Windows) -> None:
    """The ends stay: a known browser's bucket keeps its place among those that count."""
    for window in windows:
        window[0] = 0


def _wait(windows: Windows, rates: Rates, now: int) -> int:
    """Seconds until every rate has room for one more event. 0 if all have room now."""
    ends = [end for (count, end), (amount, _) in zip(windows, rates, strict=False) if end > now and count >= amount]
    return max(ends) - now if ends else 0


def _count(windows: Windows, rates: Rates, now: int) -> tuple[int, ...]:
    """Count one event. Returns the ends of the windows, which distinguish them from later ones."""
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
            window[1] = 0  # a window starts with its first message, so without one it does not exist
