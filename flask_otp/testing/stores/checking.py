"""Codes without a challenge: an app's codes and recovery codes. Each can be used once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ...stores import RedeemOutcome, RedeemResult, Store
from .. import Clock
from .subject_driver import (
    BROWSER,
    DAY,
    HOUR,
    MATCH,
    MONTH,
    NO_LIMITS,
    POLICY,
    REFUSED,
    SEND,
    WAIT,
    WRONG,
    SubjectDriver,
)

STEP1, STEP2 = b"step1", b"step2"


class CheckingTests:
    # One use

    def test_a_right_code_passes_and_its_proof_is_recorded(self, ann: SubjectDriver) -> None:
        assert ann.check(STEP1, proof=b"proof") == RedeemResult(MATCH)
        assert ann.holds(b"proof")

    def test_a_used_code_is_refused_and_costs_nothing(self, store: Store, clock: Clock) -> None:
        ann = SubjectDriver(store, clock, replace(NO_LIMITS, failure_budget=((1, MONTH),)))
        assert ann.check(STEP1).outcome is MATCH
        assert [ann.check(STEP1, proof=b"second") for _ in range(3)] == [RedeemResult(REFUSED)] * 3
        assert not ann.holds(b"second")
        assert ann.check(STEP2).outcome is MATCH

    def test_the_first_unused_of_several_uses_is_taken(self, ann: SubjectDriver) -> None:
        assert [ann.check(STEP1, STEP2).outcome for _ in range(3)] == [MATCH, MATCH, REFUSED]
        assert ann.check(STEP2).outcome is REFUSED

    def test_a_use_sets_all_its_marks_and_needs_all_of_them(self, ann: SubjectDriver) -> None:
        assert ann.check((STEP1, STEP2)).outcome is MATCH
        assert [ann.check(STEP1).outcome, ann.check(STEP2).outcome] == [REFUSED, REFUSED]
        assert ann.check(b"step3").outcome is MATCH
        assert ann.check((b"step3", b"step4"), (b"step4", b"step3")).outcome is REFUSED
        assert ann.check(b"step4").outcome is MATCH

    def test_a_mark_is_set_until_its_expiry_exclusive(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.check(STEP1, life=60)
        clock.advance(59)
        assert ann.check(STEP1, life=60).outcome is REFUSED
        clock.advance(1)
        assert ann.check(STEP1, life=60).outcome is MATCH

    @pytest.mark.parametrize("act", ["open", "revoke", "redeem", "wrong"])
    def test_a_mark_outlives_whatever_else_happens(self, ann: SubjectDriver, clock: Clock, act: str) -> None:
        ann.check(STEP1, life=HOUR, proof=b"proof")
        opened = ann.open()
        acts: dict[str, Callable[[], object]] = {
            "open": lambda: ann.open(b"another"),
            "revoke": ann.revoke,
            "redeem": lambda: ann.right(opened),
            "wrong": lambda: ann.check(STEP2, matches=False),
        }
        acts[act]()
        clock.advance(HOUR - 1)
        ann.open(b"later")
        assert ann.check(STEP1).outcome is REFUSED
        assert ann.holds(b"proof") is (act != "revoke")

    def test_a_mark_of_one_subject_is_none_of_another(self, ann: SubjectDriver, store: Store, clock: Clock) -> None:
        ann.check(STEP1)
        assert SubjectDriver(store, clock, subject=b"t" * 16).check(STEP1).outcome is MATCH

    def test_marks_and_proofs_do_not_mix(self, ann: SubjectDriver) -> None:
        ann.check(STEP1, proof=b"proof")
        assert not ann.holds(STEP1)
        assert not ann.spend(STEP1)
        assert ann.check(b"proof").outcome is MATCH

    def test_marks_may_be_any_bytes(self, ann: SubjectDriver) -> None:
        names = [b"1", b"-1", b"\0", b"\xff\xfe", b"%s", bytes(127), bytes(128), bytes(range(256))]
        assert [ann.check((name,), proof=name).outcome for name in names] == [MATCH] * len(names)
        assert [ann.check((name,)).outcome for name in names] == [REFUSED] * len(names)
        assert all(ann.holds(name) for name in names)

    def test_a_claim_without_uses_and_proof_asks_and_changes_nothing(self, ann: SubjectDriver) -> None:
        assert [ann.check(proof=b"").outcome for _ in range(3)] == [MATCH] * 3
        assert not ann.holds(b"")
        ann.fail(20)
        assert ann.check(proof=b"") == RedeemResult(REFUSED, retry_after=MONTH)
        assert ann.check(proof=b"", strong=True).outcome is MATCH

    # The failure budget

    def test_r08_wrong_codes_are_compared_as_often_as_the_budget_allows(self, ann: SubjectDriver) -> None:
        answers = [ann.check(STEP1, matches=False) for _ in range(22)]
        assert [answer.outcome for answer in answers] == [WRONG] * 20 + [REFUSED] * 2
        assert [answer.budget_spent for answer in answers] == [False] * 19 + [True] + [False] * 2
        assert answers[-1].retry_after == MONTH
        assert ann.check(STEP1, proof=b"proof").outcome is REFUSED
        assert not ann.holds(b"proof")

    def test_r08_they_share_the_budget_with_codes_that_are_sent(self, ann: SubjectDriver) -> None:
        ann.wrong(ann.open(), 5)
        ann.fail(14)
        assert not ann.open(b"before").strong
        ann.fail(1)
        assert ann.open(b"after").strong
        ann.clock.advance(MONTH)
        ann.lose_the_budget()
        assert ann.check(STEP1).outcome is REFUSED

    def test_r10_success_does_not_clear_the_budget(self, ann: SubjectDriver) -> None:
        ann.fail(19)
        assert ann.check(STEP1).outcome is MATCH
        assert ann.check(STEP2, matches=False).budget_spent

    def test_a_failure_is_remembered_as_long_as_its_window(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.fail(20)
        clock.advance(MONTH - 1)
        assert ann.check(STEP1) == RedeemResult(REFUSED, retry_after=1)
        clock.advance(1)
        assert ann.check(STEP1).outcome is MATCH

    def test_r11_a_strong_code_passes_whatever_was_guessed_before(self, ann: SubjectDriver) -> None:
        ann.fail(20)
        assert [ann.check(STEP1, matches=False, strong=True) for _ in range(100)] == [RedeemResult(WRONG)] * 100
        assert ann.check(STEP1, strong=True, surge=True).outcome is MATCH

    def test_without_limits_nothing_is_kept_of_wrong_codes(self, store: Store, clock: Clock) -> None:
        ann = SubjectDriver(store, clock, NO_LIMITS)
        assert [ann.check(STEP1, matches=False).outcome for _ in range(100)] == [WRONG] * 100
        assert ann.check(STEP1).outcome is MATCH

    # Rationed codes

    def test_wrong_rationed_codes_count_as_messages_do(self, ann: SubjectDriver) -> None:
        ann.fail(20)
        answers = [ann.pair(matches=False) for _ in range(6)]
        assert [answer.outcome for answer in answers] == [WRONG] * 5 + [REFUSED]
        assert ann.pair() == RedeemResult(REFUSED, retry_after=HOUR)
        assert ann.open().outcome is WAIT
        assert ann.pair(bucket=b"bucket2").outcome is MATCH

    def test_wrong_rationed_codes_from_many_networks_stop_at_the_recipients_limit(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        outcomes = [ann.pair(matches=False, bucket=b"bucket%d" % number).outcome for number in range(21)]
        assert outcomes == [WRONG] * 20 + [REFUSED]
        assert ann.pair(bucket=b"fresh").outcome is REFUSED
        assert ann.open(b"fresh").outcome is WAIT
        assert ann.pair(bucket=b"fresh", known=BROWSER).outcome is MATCH
        clock.advance(HOUR)
        assert ann.pair(bucket=b"fresh").outcome is MATCH

    def test_right_rationed_codes_and_others_count_as_no_message(self, ann: SubjectDriver) -> None:
        for number in range(10):
            assert ann.pair(b"step%d" % number).outcome is MATCH
            assert ann.check(STEP1, matches=False).outcome is WRONG
            assert ann.check(STEP1, matches=False, strong=True).outcome is WRONG
        ann.fill_bucket()

    def test_a_known_browser_is_rationed_on_its_own_bucket(self, ann: SubjectDriver) -> None:
        assert [ann.pair(matches=False, known=BROWSER).outcome for _ in range(6)] == [WRONG] * 5 + [REFUSED]
        assert ann.pair().outcome is MATCH
        ann.fill_recipient()

    @pytest.mark.parametrize(("rationed", "outcome"), [(True, REFUSED), (False, MATCH)])
    def test_r09_a_strict_site_compares_no_rationed_code_while_the_budget_is_spent(
        self, strict: SubjectDriver, rationed: bool, outcome: RedeemOutcome
    ) -> None:
        strict.fail(20)
        answer = strict.check(STEP1, strong=True, rationed=rationed)
        assert answer == RedeemResult(outcome, retry_after=MONTH if rationed else 0)

    # Browsers and surges

    def test_r11_a_known_browser_pays_from_its_own_budget(self, ann: SubjectDriver) -> None:
        ann.fail(20)
        assert ann.check(STEP1, known=BROWSER) == RedeemResult(MATCH, bucket=BROWSER)
        answers = [ann.check(STEP1, matches=False, known=BROWSER) for _ in range(21)]
        assert [answer.outcome for answer in answers] == [WRONG] * 20 + [REFUSED]
        assert [answer.budget_spent for answer in answers].index(True) == 19
        assert answers[0].bucket == BROWSER
        assert ann.open(known=BROWSER).strong

    def test_a_known_browsers_failures_leave_the_subjects_budget_alone(self, ann: SubjectDriver) -> None:
        for _ in range(20):
            ann.check(STEP1, matches=False, known=BROWSER)
        assert ann.check(STEP1).outcome is MATCH

    def test_r25_a_revoked_browser_is_a_stranger(self, ann: SubjectDriver, clock: Clock) -> None:
        since = int(clock.now * 1000)
        ann.fail(20)
        ann.revoke()
        assert ann.check(STEP1, known=BROWSER, since=since).outcome is REFUSED
        assert ann.check(STEP1, known=BROWSER, since=since + 1).outcome is MATCH

    def test_no_more_than_a_few_browsers_have_budgets_of_their_own(self, ann: SubjectDriver) -> None:
        for number in range(8):
            ann.check(STEP1, matches=False, known=b"browser%d" % number)
        ann.fail(20)
        assert ann.check(STEP1, known=b"browser8").outcome is REFUSED
        assert ann.check(STEP1, known=b"browser7").outcome is MATCH

    def test_in_a_surge_only_known_browsers_and_strong_codes_are_compared(self, ann: SubjectDriver) -> None:
        assert ann.check(STEP1, surge=True) == RedeemResult(REFUSED)
        assert ann.check(STEP1, matches=False, surge=True) == RedeemResult(REFUSED)
        assert ann.pair(surge=True).outcome is MATCH
        assert ann.check(STEP2, surge=True, known=BROWSER).outcome is MATCH

    def test_a_bucket_of_a_network_is_no_known_browsers(self, ann: SubjectDriver, clock: Clock) -> None:
        for number in range(8):
            ann.pair(matches=False, bucket=b"bucket%d" % number)
        assert ann.open(known=BROWSER).known
        clock.advance(DAY)
        assert ann.open().outcome is SEND

    def test_every_rate_of_a_budget_holds_for_claims(self, store: Store, clock: Clock) -> None:
        ann = SubjectDriver(store, clock, replace(POLICY, failure_budget=((3, HOUR), (5, DAY))))
        ann.fail(3)
        assert ann.check(STEP1).retry_after == HOUR
        clock.advance(HOUR)
        ann.fail(2)
        assert ann.check(STEP1).retry_after == DAY - HOUR
