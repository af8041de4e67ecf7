"""Hypothesis drives every store against one model, with time going on, and finds the shortest way to a difference."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule, run_state_machine_as_test

from flask_otp.stores import Attempt, ChallengeRequest, Claim, OpenOutcome, OpenResult, Policy, RedeemOutcome, Store
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.sql import SQLStore
from tests.support import broken_stores
from tests.support.examples import at_night
from tests.support.store_model import Model

START = 1_790_000_000
HOUR, DAY = 3600, 86400
LENIENT = Policy(300, 2, 30, ((3, HOUR), (8, DAY)), ((12, HOUR), (40, DAY)), ((3, HOUR), (5, 3 * DAY)))
STRICT = Policy(120, 3, 60, ((2, HOUR),), ((4, DAY),), ((2, DAY),), refuse=True)
_FRESH = itertools.count()

#: Two subjects, each under a policy of its own.
POLICIES = (LENIENT, STRICT)
subjects = st.sampled_from((0, 0, 1))
steps = st.sampled_from((0, 1, 29, 30, 30, 30, 31, 60, 60, 60, 119, 120, 299, 300, HOUR - 1, HOUR, DAY, 3 * DAY))
buckets = st.sampled_from((b"net1", b"net2"))
session_tags = st.sampled_from((b"", b"h1", b"h2"))
# Ten cookies, of which eight count at one time.
cookies = st.sampled_from([b""] * 6 + [b"cookie%d" % number for number in range(10)])


class Machine(RuleBasedStateMachine):
    """Subjects are new in each run, so the store need not be emptied."""

    store: Store

    challenges = Bundle("challenges")
    messages = Bundle("messages")
    proofs = Bundle("proofs")

    def __init__(self) -> None:
        super().__init__()
        self.model, self.now_ms = Model(), START * 1000
        self.revoked_ms = 0
        self.run = next(_FRESH)
        self.ids = itertools.count()

    def ask(self, verb: str, *args: Any) -> Any:
        answer, expected = getattr(self.store, verb)(*args), getattr(self.model, verb)(*args)
        assert answer == expected, f"{verb}: the store says {answer}, the model {expected}"
        return answer

    def subject(self, number: int) -> bytes:
        return b"%08d%08d" % (self.run, number)

    @property
    def now(self) -> int:
        return self.now_ms // 1000

    def asking(
        self, challenge_id: bytes, bucket: bytes, session_tag: bytes, cookie: bytes, since: int, surge: bool
    ) -> ChallengeRequest:
        return ChallengeRequest(
            challenge_id, bucket, session_tag, cookie, self.revoked_ms + since if cookie else 0, surge
        )

    @rule(step=steps, milliseconds=st.sampled_from((0, 1, 999)))
    def time_passes(self, step: int, milliseconds: int) -> None:
        self.now_ms += step * 1000 + milliseconds

    @rule(
        target=challenges,
        number=subjects,
        bucket=buckets,
        session_tag=session_tags,
        cookie=cookies,
        since=st.sampled_from((0, 1, HOUR)),
        surge=st.sampled_from((False, False, False, True)),
    )
    def open(self, number: int, bucket: bytes, session_tag: bytes, cookie: bytes, since: int, surge: bool) -> Any:
        request = self.asking(b"%016d" % next(self.ids), bucket, session_tag, cookie, since, surge)
        opened = self.ask("open", self.subject(number), request, POLICIES[number], self.now)
        return (number, opened) if opened.outcome is not OpenOutcome.WAIT else multiple()

    @rule(
        target=messages,
        challenge=challenges,
        bucket=buckets,
        session_tag=session_tags,
        cookie=cookies,
        surge=st.booleans(),
        once=st.booleans(),
        channel=st.sampled_from((b"", b"sms1", b"call")),
    )
    def reopen(
        self, challenge: Any, bucket: bytes, session_tag: bytes, cookie: bytes, surge: bool, once: bool, channel: bytes
    ) -> Any:
        number, opened = challenge
        request = self.asking(opened.challenge_id, bucket, session_tag, cookie, 1, surge)
        request = replace(request, once=once, channel=channel)
        found = self.ask("reopen", self.subject(number), request, POLICIES[number], self.now)
        return (number, found) if found.outcome is OpenOutcome.SEND else multiple()

    @rule(target=proofs, number=subjects)
    def sign_in(self, number: int) -> Any:
        """Sign in from a new network: only the limits of the subject can refuse the request."""
        request = ChallengeRequest(b"%016d" % next(self.ids), b"%016d" % next(self.ids))
        opened = self.ask("open", self.subject(number), request, POLICIES[number], self.now)
        proof_id, outcome = self._redeem(number, opened, True, HOUR, False)
        return (number, proof_id) if outcome is RedeemOutcome.MATCH else multiple()

    @rule(challenge=challenges, times=st.integers(1, 4), surge=st.sampled_from((False, False, True)))
    def guess(self, challenge: tuple[int, OpenResult], times: int, surge: bool) -> None:
        for _ in range(times):
            self._redeem(*challenge, False, HOUR, surge)

    @rule(target=proofs, challenge=challenges, life=st.sampled_from((10, HOUR)), surge=st.sampled_from((False, True)))
    def enter(self, challenge: tuple[int, OpenResult], life: int, surge: bool) -> Any:
        proof_id, outcome = self._redeem(*challenge, True, life, surge)
        return (challenge[0], proof_id) if outcome is RedeemOutcome.MATCH else multiple()

    def _redeem(
        self, number: int, opened: OpenResult, matches: bool, life: int, surge: bool
    ) -> tuple[bytes, RedeemOutcome]:
        proof_id = b"%012d" % next(self.ids)
        attempt = Attempt(opened.challenge_id, matches, proof_id, self.now + life, surge)
        return proof_id, self.ask("redeem", self.subject(number), attempt, POLICIES[number], self.now).outcome

    @rule(
        target=proofs,
        number=subjects,
        matches=st.booleans(),
        times=st.integers(1, 3),
        uses=st.sampled_from(((), ((b"m1",),), ((b"m1",), (b"m2",)), ((b"m2", b"m3"), (b"m1", b"m2")))),
        life=st.sampled_from((10, 90, HOUR)),
        bucket=buckets,
        cookie=cookies,
        since=st.sampled_from((0, 1, HOUR)),
        kind=st.sampled_from(((False, False), (False, False), (True, True), (True, False))),
        surge=st.sampled_from((False, False, False, True)),
    )
    def check(
        self,
        number: int,
        matches: bool,
        times: int,
        uses: tuple[tuple[bytes, ...], ...],
        life: int,
        bucket: bytes,
        cookie: bytes,
        since: int,
        kind: tuple[bool, bool],
        surge: bool,
    ) -> Any:
        for _ in range(times):
            proof_id = b"%012d" % next(self.ids)
            known_since = self.revoked_ms + since if cookie else 0
            strong, rationed = kind
            claim = Claim(
                matches,
                uses,
                self.now + life,
                proof_id,
                self.now + HOUR,
                bucket,
                cookie,
                known_since,
                strong,
                rationed,
                surge,
            )
            answer = self.ask("check", self.subject(number), claim, POLICIES[number], self.now)
        return (number, proof_id) if answer.outcome is RedeemOutcome.MATCH else multiple()

    @rule(challenge=challenges)
    def discard_what_was_opened(self, challenge: tuple[int, OpenResult]) -> None:
        number, opened = challenge
        self.ask("discard", self.subject(number), opened, self.now)

    @rule(message=consumes(messages))
    def discard_what_was_found(self, message: tuple[int, OpenResult]) -> None:
        number, opened = message
        self.ask("discard", self.subject(number), opened, self.now)

    @rule(challenge=challenges)
    def drop(self, challenge: tuple[int, OpenResult]) -> None:
        number, opened = challenge
        self.ask("drop", self.subject(number), opened.challenge_id, self.now)

    @rule(proof=proofs, other=st.sampled_from((0, 0, 0, 1)))
    def holds(self, proof: tuple[int, bytes], other: int) -> None:
        number, proof_id = proof
        self.ask("holds", self.subject(number ^ other), proof_id, self.now)

    @rule(proof=proofs)
    def spend(self, proof: tuple[int, bytes]) -> None:
        number, proof_id = proof
        self.ask("spend", self.subject(number), proof_id, self.now)

    @rule(number=subjects)
    def unlock(self, number: int) -> None:
        self.ask("unlock", self.subject(number), self.now)

    @rule(number=subjects)
    def revoke(self, number: int) -> None:
        self.revoked_ms = self.now_ms
        self.ask("revoke", self.subject(number), self.now_ms)


def drive(
    store: Store, examples: int, *, derandomize: bool = True, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)
) -> None:
    run_state_machine_as_test(
        type("Machine", (Machine,), {"store": store}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            derandomize=derandomize,
            database=None,
            deadline=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_store_does_what_the_model_does(any_store: Store) -> None:
    # The databases decide by the same functions as the memory store does.
    drive(any_store, 10 if isinstance(any_store, SQLStore) else 30)


@pytest.mark.long
def test_long_run_every_store_does_what_the_model_does(any_store: Store) -> None:
    drive(any_store, 1000, derandomize=False)


@pytest.mark.parametrize(
    "broken",
    [
        broken_stores.MatchesTwice,
        broken_stores.LeavesOpenCodesShortWhenTheBudgetIsSpent,
        broken_stores.ClearsTheBudgetByUnlocking,
        *at_night(
            broken_stores.UnlocksNothing,
            broken_stores.ClearsGuessesAtAppsByUnlocking,
            broken_stores.ForgetsBucketsByUnlocking,
            broken_stores.ForgetsMarksWhenRevoked,
            broken_stores.ClearsTheBudgetBySuccess,
            broken_stores.LivesASecondTooLong,
            broken_stores.GivesAttemptsBackByResending,
        ),
    ],
)
def test_a_broken_store_is_found_out(broken: type[MemoryStore]) -> None:
    with pytest.raises(AssertionError, match="the store says"):
        drive(broken(), 2000, phases=(Phase.generate,))
