"""Helpers of the store tests: a subject whose methods are the verbs, policies, and short names."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from ...stores import (
    Attempt,
    ChallengeRequest,
    Claim,
    OpenOutcome,
    OpenResult,
    Policy,
    RedeemOutcome,
    RedeemResult,
    Store,
)
from ...stores.record import Record
from .. import Clock

HOUR = 3600
DAY = 24 * HOUR
MONTH = 30 * DAY
PROOF_LIFE = 12 * HOUR
NETWORK = b"network1"
BROWSER = b"browser1"

SEND, QUIET, WAIT, GONE = OpenOutcome.SEND, OpenOutcome.QUIET, OpenOutcome.WAIT, OpenOutcome.GONE
MATCH, WRONG, REFUSED = RedeemOutcome.MATCH, RedeemOutcome.WRONG, RedeemOutcome.REFUSED

#: The defaults of OTP_*.
POLICY = Policy(
    expires_in=300,
    max_attempts=5,
    cooldown=30,
    send_limit=((5, HOUR), (10, DAY)),
    recipient_limit=((20, HOUR), (50, DAY)),
    failure_budget=((20, MONTH),),
)
REFUSE = replace(POLICY, refuse=True)
NO_LIMITS = replace(POLICY, cooldown=0, send_limit=(), recipient_limit=(), failure_budget=())

_ids = random.Random("ids")


def new_id() -> bytes:
    return _ids.randbytes(16)


class SubjectDriver:
    """A subject in a store: each method is one verb, with defaults for the values that a test does not care about."""

    def __init__(self, store: Store, clock: Clock, policy: Policy = POLICY, subject: bytes = b"s" * 16) -> None:
        self.store = store
        self.clock = clock
        self.policy = policy
        self.subject = subject

    @property
    def now(self) -> int:
        return int(self.clock())

    def open(
        self,
        bucket: bytes = NETWORK,
        *,
        session_tag: bytes = b"",
        known: bytes = b"",
        since: int | None = None,
        surge: bool = False,
        once: bool = False,
        channel: bytes = b"",
    ) -> OpenResult:
        known_since = int(self.clock() * 1000) if since is None else since
        request = ChallengeRequest(new_id(), bucket, session_tag, known, known_since, surge, once, channel)
        return self.store.open(self.subject, request, self.policy, self.now)

    def reopen(
        self,
        opened: OpenResult,
        bucket: bytes = NETWORK,
        known: bytes = b"",
        *,
        channel: bytes = b"",
        once: bool = False,
    ) -> OpenResult:
        since = int(self.clock() * 1000)
        request = ChallengeRequest(opened.challenge_id, bucket, b"", known, since, once=once, channel=channel)
        return self.store.reopen(self.subject, request, self.policy, self.now)

    def redeem(self, opened: OpenResult, matches: bool, proof: bytes = b"", surge: bool = False) -> RedeemResult:
        attempt = Attempt(opened.challenge_id, matches, proof or new_id()[:12], self.now + PROOF_LIFE, surge)
        return self.store.redeem(self.subject, attempt, self.policy, self.now)

    def right(self, opened: OpenResult, proof: bytes = b"") -> RedeemOutcome:
        return self.redeem(opened, True, proof).outcome

    def wrong(self, opened: OpenResult, times: int = 1) -> list[RedeemOutcome]:
        return [self.redeem(opened, False).outcome for _ in range(times)]

    def check(
        self,
        *uses: bytes | tuple[bytes, ...],
        matches: bool = True,
        life: int = HOUR,
        proof: bytes | None = None,
        bucket: bytes = NETWORK,
        known: bytes = b"",
        since: int | None = None,
        **options: bool,
    ) -> RedeemResult:
        """A claim. A use is given as its marks, or as its only mark."""
        claim = Claim(
            matches,
            tuple((use,) if isinstance(use, bytes) else use for use in uses),
            self.now + life,
            new_id()[:12] if proof is None else proof,
            self.now + PROOF_LIFE,
            bucket,
            known,
            int(self.clock() * 1000) + 1 if since is None else since,
            **options,
        )
        return self.store.check(self.subject, claim, self.policy, self.now)

    def pair(self, use: bytes = b"pair", **options: Any) -> RedeemResult:
        """Two codes of an app in a row."""
        return self.check(use, strong=True, rationed=True, **options)

    def fail(self, times: int) -> None:
        """Compare this many wrong codes."""
        for _ in range(times):
            assert self.check(b"wrong", matches=False).outcome is WRONG

    def discard(self, opened: OpenResult) -> None:
        self.store.discard(self.subject, opened, self.now)

    def drop(self, opened: OpenResult) -> None:
        self.store.drop(self.subject, opened.challenge_id, self.now)

    def prove(self, proof: bytes, bucket: bytes = NETWORK) -> None:
        """Record ``proof``."""
        assert self.right(self.open(bucket), proof) is MATCH

    def is_live(self, opened: OpenResult) -> bool:
        return self.store.is_live(self.subject, opened.challenge_id, self.now)

    def note(self, mark: bytes, life: int = HOUR) -> bool:
        return self.store.note(self.subject, mark, self.now + life, self.now)

    def noted(self, prefix: bytes = b"") -> dict[bytes, int]:
        return self.store.noted(self.subject, prefix, self.now)

    def holds(self, proof: bytes) -> bool:
        return self.store.holds(self.subject, proof, self.now)

    def spend(self, proof: bytes) -> bool:
        return self.store.spend(self.subject, proof, self.now)

    def revoke(self) -> None:
        self.store.revoke(self.subject, int(self.clock() * 1000))

    def inspect(self) -> Record:
        return self.store.inspect(self.subject, self.now)

    def unlock(self) -> bool:
        return self.store.unlock(self.subject, self.now)

    def lose_the_budget(self, known: bytes = b"") -> None:
        """Fail 20 times, in four challenges, each from its own network, or all from a known browser."""
        for turn in range(4):
            opened = self.open(b"spender%d" % turn, known=known)
            assert self.wrong(opened, 5) == [WRONG] * 5
            if known:
                self.clock.advance(self.policy.cooldown)

    def fill_bucket(self, **options: Any) -> None:
        """Five messages on one bucket, one at each cooldown, and the sixth refused at once."""
        for _ in range(5):
            assert self.open(**options).outcome is SEND
            self.clock.advance(30)
        assert self.open(**options).outcome is WAIT

    def fill_recipient(self) -> None:
        for number in range(20):
            assert self.open(b"bucket%d" % number).outcome is SEND
        assert self.open(b"bucket20").outcome is WAIT
