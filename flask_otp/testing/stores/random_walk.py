"""The same steps on any store and on the memory store, with equal answers."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ...stores import Attempt, ChallengeRequest, Claim, OpenResult, Policy, RedeemResult, Store
from ...stores.memory import MemoryStore
from ...stores.record import Record
from .subject_driver import DAY, HOUR, MATCH, REFUSE, SEND

TIGHT = Policy(300, 3, 30, ((5, HOUR), (10, DAY)), ((6, HOUR), (50, DAY)), ((5, HOUR), (20, 5 * DAY)))


class WalkTests:
    @pytest.mark.parametrize("seed", [1, 2, 3], ids="seed{}".format)
    @pytest.mark.parametrize(
        "policies",
        [(TIGHT,), (replace(TIGHT, refuse=True),), (TIGHT, replace(TIGHT, failure_budget=()), REFUSE)],
        ids=["tight", "refusing", "changing"],
    )
    def test_it_answers_as_the_memory_store_does_step_by_step(
        self, store: Store, seed: int, policies: tuple[Policy, ...]
    ) -> None:
        walk = Walk(seed, policies)
        walk.go(store, 1500)
        everything = {"open SEND", "open QUIET", "open WAIT", "reopen SEND", "reopen GONE", "reopen WAIT"}
        everything |= {"MATCH", "WRONG", "REFUSED", "budget spent", "holds True", "holds False", "spend True"}
        everything |= {"is_live True", "is_live False", "unlock True"}
        everything |= {f"strong {strong}, known {known}" for strong in (True, False) for known in (True, False)}
        assert everything <= {name for name, count in walk.seen.items() if count}, walk.seen

    @pytest.mark.parametrize("seed", [1, 2, 3], ids="seed{}".format)
    def test_it_answers_claims_as_the_memory_store_does_step_by_step(self, store: Store, seed: int) -> None:
        walk = Walk(seed, (TIGHT, replace(TIGHT, failure_budget=()), replace(TIGHT, refuse=True)), CLAIMS)
        walk.go(store, 1000)
        everything = {"claim MATCH", "claim WRONG", "claim REFUSED", "claim told to wait", "budget spent"}
        everything |= {"unlock True", "unlock False"}
        assert everything <= {name for name, count in walk.seen.items() if count}, walk.seen


VERBS = (
    *("open", "reopen", "redeem", "check", "discard", "drop", "is_live", "note", "noted", "holds", "spend", "revoke"),
    *("inspect", "unlock"),
)
#: Frequency of each verb, on walks with challenges and on walks without.
CHALLENGES = (30, 10, 40, 0, 8, 2, 6, 2, 0, 6, 4, 0.5, 4, 0.5)
CLAIMS = (10, 0, 5, 40, 1, 0, 0, 4, 4, 6, 2, 2, 4, 3)


class Walk:
    """A seeded random walk: the same calls on each store, with equal answers."""

    SUBJECTS = (b"s" * 16, b"t" * 16)
    NAMES = (b"1", b"2", b"bucket3")

    def __init__(self, seed: int, policies: tuple[Policy, ...], weights: tuple[float, ...] = CHALLENGES) -> None:
        self.seed = seed
        self.weights = weights
        self.random = random.Random(seed)
        self.policies = policies
        self.now_ms = self.revoked_ms = 1_790_000_000_000
        self.ids = itertools.count(seed * 1_000_000)
        #: The last names used: subject and challenge, subject and answer, subject and proof.
        self.challenges = [(b"s" * 16, b"unknown")]
        self.opened = [(b"s" * 16, OpenResult(SEND, b"unknown"))]
        self.proofs = [(b"s" * 16, b"unknown")]
        self.seen: Counter[str] = Counter()

    def go(self, store: Store, steps: int) -> None:
        memory = MemoryStore()
        for number, (verb, args) in enumerate(self.steps(steps)):
            answer = getattr(memory, verb)(*args)
            assert _comparable(getattr(store, verb)(*args)) == _comparable(answer), (
                f"seed {self.seed}, step {number}: {verb}{args}"
            )
            self.learn(verb, args, answer)

    def steps(self, number: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for _ in range(number):
            self.now_ms += self.random.choice((0, 0, 0, 1, 900, 1000, 5000, 29_000, 30_000, 60_000))
            if self.random.random() < 0.01:
                self.now_ms += self.random.choice((HOUR, DAY, 3 * DAY)) * 1000
            verb = self.random.choices(VERBS, self.weights)[0]
            yield verb, getattr(self, verb)()

    def open(self) -> tuple[Any, ...]:
        return self._asking(self.random.choice(self.SUBJECTS), b"%016d" % next(self.ids))

    def reopen(self) -> tuple[Any, ...]:
        return self._asking(*self._one_of(self.challenges))

    def _asking(self, subject: bytes, challenge_id: bytes) -> tuple[Any, ...]:
        pick = self.random.choice
        request = ChallengeRequest(
            challenge_id,
            bucket=pick(self.NAMES),
            session_tag=pick((b"", b"h1", b"h2", b"h3")),
            known_bucket=pick((b"", b"", b"", b"known1", b"1")),
            known_since=pick((self.now_ms, self.revoked_ms)) - pick((-1, 0, 1, 1000, HOUR * 1000, 10 * DAY * 1000)),
            surge=self.random.random() < 0.1,
            once=challenge_id.endswith(b"7"),
            # From the clock, so the random draws stay the same.
            channel=(b"sms1", b"mail", b"call", b"", b"chat", b"pager"[:4])[self.now_ms // 1000 % 6],
        )
        return subject, request, pick(self.policies), self.now_ms // 1000

    def redeem(self) -> tuple[Any, ...]:
        subject, challenge_id = self._one_of(self.challenges)
        proof_id = b"%012d" % next(self.ids)
        now = self.now_ms // 1000
        matches = self.random.random() < 0.2
        life = self.random.choice((10, HOUR, DAY))
        attempt = Attempt(challenge_id, matches, proof_id, now + life, self.random.random() < 0.1)
        return subject, attempt, self.random.choice(self.policies), now

    def check(self) -> tuple[Any, ...]:
        pick, now = self.random.choice, self.now_ms // 1000
        strong = pick((False, False, True))
        claim = Claim(
            matches=self.random.random() < 0.6,
            uses=pick(((), ((b"m1",),), ((b"m3",),), ((b"m2",), (b"m1",)), ((b"m1", b"m3"), (b"m2", b"m4")))),
            marks_expire_at=now + pick((0, 10, HOUR, DAY)),
            proof_id=pick((b"", b"%012d" % next(self.ids))),
            proof_expires_at=now + pick((10, HOUR, DAY)),
            bucket=pick(self.NAMES),
            known_bucket=pick((b"", b"", b"known1", b"1")),
            known_since=pick((self.now_ms, self.revoked_ms)) - pick((-1, 0, 1, 1000, HOUR * 1000)),
            strong=strong,
            rationed=strong and pick((True, False)),
            surge=self.random.random() < 0.1,
        )
        return self.random.choice(self.SUBJECTS), claim, pick(self.policies), now

    def discard(self) -> tuple[Any, ...]:
        return (*self._one_of(self.opened), self.now_ms // 1000)

    def drop(self) -> tuple[Any, ...]:
        return (*self._one_of(self.challenges), self.now_ms // 1000)

    is_live = drop

    def note(self) -> tuple[Any, ...]:
        subject, mark = self.random.choice(self.SUBJECTS), b"%012d" % next(self.ids)
        self.proofs.append((subject, mark))
        now = self.now_ms // 1000
        return subject, mark, now + self.random.choice((-10, 0, 1, 10, HOUR, DAY)), now

    def noted(self) -> tuple[Any, ...]:
        return self.random.choice(self.SUBJECTS), self.random.choice((b"", b"0", b"00000300")), self.now_ms // 1000

    def holds(self) -> tuple[Any, ...]:
        return (*self._one_of(self.proofs, stray=0.2), self.now_ms // 1000)

    spend = holds

    def revoke(self) -> tuple[Any, ...]:
        self.revoked_ms = self.now_ms
        return self.random.choice(self.SUBJECTS), self.now_ms

    def inspect(self) -> tuple[Any, ...]:
        return self.random.choice(self.SUBJECTS), self.now_ms // 1000

    unlock = inspect

    def _one_of(self, named: list[tuple[bytes, Any]], stray: float = 0.05) -> tuple[bytes, Any]:
        """One of the last few, sometimes with the other subject."""
        subject, thing = self.random.choice(named[-6:])
        return self.random.choice(self.SUBJECTS) if self.random.random() < stray else subject, thing

    def learn(self, verb: str, args: tuple[Any, ...], answer: object) -> None:
        if isinstance(answer, OpenResult):
            self.seen[f"{verb} {answer.outcome.name}"] += 1
            self.seen[f"strong {answer.strong}, known {answer.known}"] += 1
            if answer.outcome is SEND:
                self.opened.append((args[0], answer))
            if answer.fresh:
                self.challenges.append((args[0], answer.challenge_id))
        elif isinstance(answer, RedeemResult):
            kind = "claim " if verb == "check" else ""
            self.seen[kind + answer.outcome.name] += 1
            self.seen[f"{kind}told to wait"] += answer.retry_after > 0
            self.seen["budget spent"] += answer.budget_spent
            if answer.outcome is MATCH:
                self.proofs.append((args[0], args[1].proof_id))
        elif isinstance(answer, bool):
            self.seen[f"{verb} {answer}"] += 1


def _comparable(answer: object) -> object:
    """``b"1"`` names a network and a browser: whether it was last the one or the other may be forgotten earlier."""
    if isinstance(answer, Record) and b"1" in answer.buckets:
        answer.buckets[b"1"].known = False
    return answer
