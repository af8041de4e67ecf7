"""Redeeming: each attempt is charged, and one match passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ...stores import ChallengeRequest, OpenResult, RedeemOutcome, RedeemResult, Store
from .. import Clock
from .subject_driver import MATCH, POLICY, REFUSED, SEND, WRONG, SubjectDriver, new_id


class RedeemingTests:
    def test_the_right_code_passes_and_its_proof_is_recorded(self, ann: SubjectDriver) -> None:
        opened = ann.open()
        assert not ann.holds(b"proof")
        assert ann.redeem(opened, True, b"proof") == RedeemResult(MATCH)
        assert ann.holds(b"proof")

    def test_r05_a_code_passes_once(self, ann: SubjectDriver) -> None:
        opened = ann.open()
        assert ann.right(opened) is MATCH
        assert ann.right(opened, b"second") is REFUSED
        assert not ann.holds(b"second")

    def test_a_wrong_code_records_no_proof(self, ann: SubjectDriver) -> None:
        opened = ann.open()
        assert ann.redeem(opened, False, b"proof") == RedeemResult(WRONG)
        assert not ann.holds(b"proof")

    def test_wrong_codes_within_the_limit_leave_the_right_one_good(self, ann: SubjectDriver) -> None:
        opened = ann.open()
        assert ann.wrong(opened, 4) == [WRONG] * 4
        assert ann.right(opened) is MATCH

    @pytest.mark.parametrize("attempts", [1, 5, 10])
    def test_r07_the_right_code_is_refused_once_the_attempts_are_used_up(
        self, store: Store, clock: Clock, attempts: int
    ) -> None:
        ann = SubjectDriver(store, clock, replace(POLICY, max_attempts=attempts))
        opened = ann.open()
        assert ann.wrong(opened, attempts + 2) == [WRONG] * attempts + [REFUSED] * 2
        assert ann.right(opened, b"proof") is REFUSED
        assert not ann.holds(b"proof")

    @pytest.mark.parametrize(("after", "outcome"), [(0, MATCH), (299, MATCH), (300, REFUSED), (301, REFUSED)])
    def test_r03_a_code_lives_until_its_expiry_exclusive(
        self, ann: SubjectDriver, clock: Clock, after: int, outcome: RedeemOutcome
    ) -> None:
        opened = ann.open()
        clock.advance(after)
        assert ann.right(opened, b"proof") is outcome
        assert ann.holds(b"proof") is (outcome is MATCH)

    def test_r03_a_wrong_code_after_the_expiry_is_not_compared(self, ann: SubjectDriver, clock: Clock) -> None:
        opened = ann.open()
        clock.advance(300)
        assert ann.wrong(opened) == [REFUSED]

    def test_an_unknown_challenge_is_refused(self, ann: SubjectDriver) -> None:
        assert ann.right(OpenResult(SEND, new_id())) is REFUSED
        ann.open()
        assert ann.right(OpenResult(SEND, new_id())) is REFUSED

    def test_r12_a_challenge_is_worth_nothing_for_another_subject(
        self, ann: SubjectDriver, store: Store, clock: Clock
    ) -> None:
        opened = ann.open()
        assert SubjectDriver(store, clock, subject=b"t" * 16).right(opened) is REFUSED
        assert ann.right(opened) is MATCH

    def test_challenges_of_one_subject_have_attempts_of_their_own(self, ann: SubjectDriver) -> None:
        first, second = ann.open(b"bucket1"), ann.open(b"bucket2")
        ann.wrong(first, 5)
        assert ann.right(second) is MATCH

    def test_what_names_anything_may_be_any_bytes(self, store: Store, clock: Clock) -> None:
        names = [b"1", b"2", b"-1", b"1.5", b"\0", b"\xff\xfe", b"%s", bytes(127), bytes(128), bytes(range(256))]
        ann = SubjectDriver(store, clock)
        for name in names:
            opened = store.open(ann.subject, ChallengeRequest(name, name, name), POLICY, ann.now)
            assert (opened.outcome, opened.challenge_id, opened.bucket) == (SEND, name, name)
        for name in names:
            assert ann.right(OpenResult(SEND, name), name) is MATCH
        assert all(ann.holds(name) for name in names)
        assert all(ann.spend(name) for name in names)
