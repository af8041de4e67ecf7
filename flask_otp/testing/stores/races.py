"""Parallel calls: threads, and two processes with threads if the store can be shared. Races start at a barrier."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ...stores import Attempt, ChallengeRequest, Claim, OpenResult, Policy
from .. import Clock
from .racing import Call, Track, outcomes
from .subject_driver import MATCH, NETWORK, NO_LIMITS, POLICY, QUIET, REFUSED, SEND, WAIT, WRONG, SubjectDriver, new_id

Uses = tuple[tuple[bytes, ...], ...]


class RaceTests:
    def test_r06_of_two_hundred_right_codes_at_once_exactly_one_passes(self, track: Track, clock: Clock) -> None:
        ann = SubjectDriver(track.store, clock, NO_LIMITS)
        for _ in range(4):
            calls = redemptions(ann, ann.open(), [True] * 200)
            answers = track.run(calls, threads=200)
            assert outcomes(answers) == {MATCH: 1, REFUSED: 199}
            proofs = [call[1][1].proof_id for call in calls]
            assert [ann.holds(proof) for proof in proofs] == [answer.outcome is MATCH for answer in answers]

    def test_r06_of_two_hundred_right_codes_of_an_app_at_once_exactly_one_passes_and_nothing_is_charged(
        self, track: Track, clock: Clock
    ) -> None:
        ann = SubjectDriver(track.store, clock, replace(NO_LIMITS, failure_budget=((1, 86400),)))
        for turn in range(4):
            calls = claims(ann, [True] * 200, uses=((b"step%d" % turn,),))
            answers = track.run(calls, threads=200)
            assert outcomes(answers) == {MATCH: 1, REFUSED: 199}
            assert not any(answer.retry_after for answer in answers)
            assert [ann.holds(call[1][1].proof_id) for call in calls] == [a.outcome is MATCH for a in answers]

    def test_r08_of_a_thousand_wrong_codes_of_an_app_at_once_as_many_as_the_budget_are_compared(
        self, track: Track, clock: Clock
    ) -> None:
        ann = SubjectDriver(track.store, clock)
        answers = track.run(claims(ann, [False] * 1000), threads=100)
        assert outcomes(answers) == {WRONG: 20, REFUSED: 980}
        assert [answer.budget_spent for answer in answers].count(True) == 1
        assert ann.check(b"step").outcome is REFUSED
        assert ann.check(b"recovery code", strong=True).outcome is MATCH

    def test_a_code_that_fits_two_steps_passes_twice_at_once_and_no_oftener(self, track: Track, clock: Clock) -> None:
        ann = SubjectDriver(track.store, clock, NO_LIMITS)
        calls = claims(ann, [True] * 100, uses=((b"step1",), (b"step2",)))
        assert outcomes(track.run(calls)) == {MATCH: 2, REFUSED: 98}

    @pytest.mark.parametrize("attempts", [1, 5])
    def test_r07_of_a_thousand_wrong_codes_at_once_exactly_max_attempts_are_compared(
        self, track: Track, clock: Clock, attempts: int
    ) -> None:
        ann = SubjectDriver(track.store, clock, replace(NO_LIMITS, max_attempts=attempts))
        opened = ann.open()
        answers = track.run(redemptions(ann, opened, [False] * 1000), threads=100)
        assert outcomes(answers) == {WRONG: attempts, REFUSED: 1000 - attempts}
        assert ann.right(opened) is REFUSED

    def test_r07_a_right_code_among_two_hundred_wrong_ones_never_passes_after_exhaustion(
        self, track: Track, clock: Clock
    ) -> None:
        ann = SubjectDriver(track.store, clock, NO_LIMITS)
        places = random.Random(7)
        for _ in range(4):
            opened = ann.open()
            rights = [False] * 200 + [True]
            places.shuffle(rights)
            found = outcomes(track.run(redemptions(ann, opened, rights), threads=100))
            assert found[MATCH] <= 1
            assert found[WRONG] == 5 if not found[MATCH] else found[WRONG] < 5
            assert found[MATCH] + found[WRONG] + found[REFUSED] == 201
            assert ann.right(opened) is REFUSED

    def test_r07_many_right_codes_after_exhaustion_are_all_refused(self, track: Track, clock: Clock) -> None:
        ann = SubjectDriver(track.store, clock, NO_LIMITS)
        opened = ann.open()
        ann.wrong(opened, 5)
        assert outcomes(track.run(redemptions(ann, opened, [True] * 100))) == {REFUSED: 100}

    def test_r08_challenges_guessed_at_once_share_one_budget_to_the_last_failure(
        self, track: Track, clock: Clock
    ) -> None:
        policy: Policy = replace(NO_LIMITS, max_attempts=10, failure_budget=((20, 86400),))
        ann = SubjectDriver(track.store, clock, policy)
        opened = [ann.open() for _ in range(10)]
        calls = [call for one in opened for call in redemptions(ann, one, [False] * 10)]
        answers = track.run(calls)
        assert outcomes(answers) == {WRONG: 20, REFUSED: 80}
        assert [answer.budget_spent for answer in answers].count(True) == 1
        assert {ann.right(one) for one in opened} == {REFUSED}

    def test_r15_of_fifty_openings_at_once_one_message_goes_out_in_each_cooldown(
        self, track: Track, clock: Clock
    ) -> None:
        ann = SubjectDriver(track.store, clock)
        for _ in range(5):
            assert outcomes(track.run(openings(ann, 50))) == {SEND: 1, WAIT: 49}
            clock.advance(30)
        assert outcomes(track.run(openings(ann, 50))) == {WAIT: 50}

    def test_fifty_openings_of_one_holder_at_once_are_one_challenge_and_one_message(
        self, track: Track, clock: Clock
    ) -> None:
        ann = SubjectDriver(track.store, clock)
        seen = set()
        for _ in range(3):
            answers = track.run(openings(ann, 50, session_tag=b"h"))
            assert outcomes(answers) == {SEND: 1, QUIET: 49}
            seen |= {answer.challenge_id for answer in answers}
            clock.advance(30)
        assert len(seen) == 1

    def test_r15_openings_from_many_networks_at_once_stop_at_the_recipients_limit(
        self, track: Track, clock: Clock
    ) -> None:
        ann = SubjectDriver(track.store, clock)
        calls = [call for number in range(100) for call in openings(ann, 1, b"bucket%d" % number)]
        assert outcomes(track.run(calls)) == {SEND: 20, WAIT: 80}

    def test_resends_at_once_are_one_message_in_each_cooldown(self, track: Track, clock: Clock) -> None:
        ann = SubjectDriver(track.store, clock)
        opened = ann.open()
        for _ in range(3):
            clock.advance(30)
            calls: list[Call] = [
                ("reopen", (ann.subject, ChallengeRequest(opened.challenge_id, NETWORK), ann.policy, ann.now))
                for _ in range(50)
            ]
            assert outcomes(track.run(calls)) == {SEND: 1, WAIT: 49}

    def test_r25_of_fifty_that_spend_one_proof_at_once_exactly_one_does(self, track: Track, clock: Clock) -> None:
        ann = SubjectDriver(track.store, clock, NO_LIMITS)
        for number in range(4):
            proof = b"proof%d" % number
            ann.prove(proof)
            answers = track.run([("spend", (ann.subject, proof, ann.now))] * 50)
            assert Counter(answers) == {True: 1, False: 49}

    def test_of_fifty_that_note_one_mark_at_once_exactly_one_does(self, track: Track, clock: Clock) -> None:
        ann = SubjectDriver(track.store, clock, NO_LIMITS)
        for number in range(4):
            answers = track.run([("note", (ann.subject, b"mark%d" % number, ann.now + 60, ann.now))] * 50)
            assert Counter(answers) == {True: 1, False: 49}

    def test_r25_no_code_passes_once_a_revocation_has_answered(self, track: Track, clock: Clock) -> None:
        ann = SubjectDriver(track.store, clock, NO_LIMITS)
        opened = [ann.open() for _ in range(49)]
        calls = [call for one in opened for call in redemptions(ann, one, [True])]
        calls.insert(20, ("revoke", (ann.subject, ann.now * 1000)))
        answers = track.run(calls)
        held = [ann.holds(call[1][1].proof_id) for call in calls if call[0] == "redeem"]
        matched = [answer is not None and answer.outcome is MATCH for answer in answers if answer is not None]
        # A caller that passed before the revocation lost its proof. No caller has a proof without having passed.
        assert not any(holds and not match for holds, match in zip(held, matched, strict=True))
        assert {ann.right(one) for one in opened} == {REFUSED}

    def test_subjects_raced_at_once_do_not_mix(self, track: Track, clock: Clock) -> None:
        people = [SubjectDriver(track.store, clock, POLICY, subject=b"%016d" % number) for number in range(20)]
        opened = [person.open() for person in people]
        calls = [
            call
            for person, one in zip(people, opened, strict=True)
            for call in redemptions(person, one, [False] * 4 + [True])
        ]
        answers = track.run(calls)
        for number in range(20):
            found = outcomes(answers[number * 5 : number * 5 + 5])
            assert found[MATCH] == 1
            assert found[WRONG] + found[REFUSED] == 4


def redemptions(ann: SubjectDriver, opened: OpenResult, rights: Sequence[bool]) -> list[Call]:
    return [
        (
            "redeem",
            (ann.subject, Attempt(opened.challenge_id, right, new_id()[:12], ann.now + 3600), ann.policy, ann.now),
        )
        for right in rights
    ]


def claims(ann: SubjectDriver, rights: Sequence[bool], uses: Uses = ()) -> list[Call]:
    life = ann.now + 3600
    return [
        (
            "check",
            (ann.subject, Claim(right, uses, life, new_id()[:12], life, NETWORK), ann.policy, ann.now),
        )
        for right in rights
    ]


def openings(ann: SubjectDriver, number: int, bucket: bytes = NETWORK, **request: Any) -> list[Call]:
    return [
        ("open", (ann.subject, ChallengeRequest(new_id(), bucket, **request), ann.policy, ann.now))
        for _ in range(number)
    ]
