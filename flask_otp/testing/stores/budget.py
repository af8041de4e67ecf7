"""The failure budget, and sites that refuse codes when it is spent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ...stores import OpenResult, RedeemResult, Store
from .. import Clock
from .subject_driver import (
    BROWSER,
    DAY,
    GONE,
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


class BudgetTests:
    # The failure budget

    def test_r08_failures_count_over_challenges_and_the_last_one_says_so(self, ann: SubjectDriver) -> None:
        spent = []
        for number in range(4):
            opened = ann.open(b"bucket%d" % number)
            spent += [ann.redeem(opened, False).budget_spent for _ in range(5)]
        assert spent == [False] * 19 + [True]

    def test_r11_a_spent_budget_makes_the_next_code_strong_and_refuses_nobody(self, ann: SubjectDriver) -> None:
        ann.lose_the_budget()
        opened = ann.open()
        assert (opened.outcome, opened.strong, opened.fresh) == (SEND, True, True)
        assert ann.right(opened) is MATCH

    def test_r08_short_codes_that_are_open_when_the_budget_is_spent_are_refused(self, ann: SubjectDriver) -> None:
        opened = ann.open(b"owner", session_tag=b"h")
        ann.lose_the_budget()
        assert ann.wrong(opened) == [REFUSED]
        assert ann.right(opened, b"proof") is REFUSED
        assert not ann.holds(b"proof")

    def test_r08_in_the_second_that_a_window_ends_the_next_begins(self, store: Store, clock: Clock) -> None:
        """Otherwise any number of guesses would be free in that second."""
        ann = SubjectDriver(store, clock, replace(NO_LIMITS, failure_budget=((3, 60),)))
        for _ in range(3):
            opened = ann.open()
            clock.advance(1)
            assert ann.wrong(opened, 3) == [WRONG] * 3
            assert ann.open().strong
            clock.advance(59)

    def test_r08_a_spent_budget_outbids_short_codes_to_its_last_second(self, store: Store, clock: Clock) -> None:
        ann = SubjectDriver(store, clock, replace(NO_LIMITS, failure_budget=((2, 60),)))
        short = ann.open()
        ann.wrong(ann.open(), 2)
        clock.advance(59)
        assert ann.right(short) is REFUSED
        assert ann.open().strong
        clock.advance(1)
        assert not ann.open().strong
        assert ann.right(short) is MATCH

    def test_a_short_code_cannot_be_sent_again_when_the_budget_is_spent(self, ann: SubjectDriver, clock: Clock) -> None:
        opened = ann.open(b"owner", session_tag=b"h")
        ann.lose_the_budget()
        clock.advance(30)
        assert ann.reopen(opened, b"owner") == OpenResult(GONE)
        instead = ann.open(b"owner", session_tag=b"h")
        assert (instead.strong, instead.fresh) == (True, True)

    def test_r08_no_more_than_the_budget_is_compared_whatever_is_opened(self, ann: SubjectDriver, clock: Clock) -> None:
        compared = 0
        for day in range(29):
            for number in range(8):
                opened = ann.open(b"%d/%d" % (day, number))
                if not opened.strong:
                    compared += ann.wrong(opened, 6).count(WRONG)
            clock.advance(DAY)
        assert compared == 20

    def test_r08_a_resend_gives_nothing_of_the_budget_back(self, store: Store, clock: Clock) -> None:
        ann = SubjectDriver(store, clock, replace(POLICY, max_attempts=10, failure_budget=((6, MONTH),)))
        opened = ann.open()
        assert ann.wrong(opened, 4) == [WRONG] * 4
        clock.advance(30)
        assert ann.reopen(opened).outcome is SEND
        assert ann.wrong(opened, 4) == [WRONG, WRONG, REFUSED, REFUSED]

    def test_r10_success_does_not_clear_the_budget(self, ann: SubjectDriver) -> None:
        for number in range(4):
            opened = ann.open(b"bucket%d" % number)
            assert ann.wrong(opened, 4) == [WRONG] * 4
            assert ann.right(opened) is MATCH
        assert ann.wrong(ann.open(b"bucket4"), 5) == [WRONG] * 4 + [REFUSED]
        assert ann.open(b"bucket5").strong

    @pytest.mark.parametrize(("after", "strong"), [(MONTH - 1, True), (MONTH, False)])
    def test_r08_the_budget_comes_back_a_window_after_the_first_failure(
        self, ann: SubjectDriver, clock: Clock, after: int, strong: bool
    ) -> None:
        start = ann.now
        ann.wrong(ann.open(b"first"), 1)
        clock.advance(20 * DAY)
        for number in range(4):
            ann.wrong(ann.open(b"bucket%d" % number), 5)
        clock.now = start + after
        assert ann.open().strong is strong

    def test_every_rate_of_a_budget_holds(self, store: Store, clock: Clock) -> None:
        ann = SubjectDriver(store, clock, replace(POLICY, failure_budget=((3, HOUR), (5, DAY))))
        assert ann.wrong(ann.open(), 5) == [WRONG] * 3 + [REFUSED] * 2
        assert ann.open(b"bucket1").strong
        clock.advance(HOUR)
        assert ann.wrong(ann.open(b"bucket2"), 5) == [WRONG] * 2 + [REFUSED] * 3
        clock.advance(HOUR)
        assert ann.open(b"bucket3").strong
        clock.advance(DAY - 2 * HOUR)
        assert not ann.open(b"bucket4").strong

    def test_r07_a_strong_code_has_its_attempts_counted_too(self, ann: SubjectDriver) -> None:
        ann.lose_the_budget()
        opened = ann.open()
        assert ann.wrong(opened, 6) == [WRONG] * 5 + [REFUSED]
        assert ann.right(opened) is REFUSED

    def test_failures_on_a_strong_code_do_not_report_the_budget_spent_again(self, ann: SubjectDriver) -> None:
        ann.lose_the_budget()
        opened = ann.open()
        assert [ann.redeem(opened, False) for _ in range(2)] == [RedeemResult(WRONG, False)] * 2

    def test_a_strong_challenge_that_is_open_stays_strong_and_is_kept(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.lose_the_budget()
        first = ann.open(session_tag=b"h")
        clock.advance(30)
        assert ann.open(session_tag=b"h") == replace(first, fresh=False, ready_at=ann.now + 30)
        clock.advance(30)
        assert ann.reopen(first).strong

    def test_a_right_code_costs_nothing_of_the_budget(self, store: Store, clock: Clock) -> None:
        ann = SubjectDriver(store, clock, replace(NO_LIMITS, failure_budget=((1, MONTH),)))
        for _ in range(30):
            opened = ann.open()
            assert not opened.strong
            assert ann.right(opened) is MATCH

    # Refusing where the budget is spent

    def test_r09_a_strict_site_refuses_until_the_window_has_passed(self, strict: SubjectDriver, clock: Clock) -> None:
        start = strict.now
        strict.lose_the_budget()
        assert strict.open() == OpenResult(WAIT, retry_after=MONTH)
        clock.now = start + MONTH - 1
        assert strict.open() == OpenResult(WAIT, retry_after=1)
        clock.now = start + MONTH
        opened = strict.open()
        assert (opened.outcome, opened.strong) == (SEND, False)

    def test_r09_a_strict_site_refuses_the_short_codes_already_open(self, strict: SubjectDriver) -> None:
        opened = strict.open(b"owner")
        strict.lose_the_budget()
        assert strict.right(opened) is REFUSED
        assert strict.reopen(opened, b"owner") == OpenResult(GONE)

    def test_r11_a_strict_site_does_not_lock_a_known_browser_out(self, strict: SubjectDriver) -> None:
        strict.lose_the_budget()
        opened = strict.open(known=BROWSER)
        assert (opened.outcome, opened.strong) == (SEND, False)
        assert strict.right(opened) is MATCH

    def test_r09_a_strict_site_refuses_a_known_browser_that_spent_its_own_budget(self, strict: SubjectDriver) -> None:
        strict.lose_the_budget(known=BROWSER)
        assert strict.open(known=BROWSER).outcome is WAIT
        assert strict.open().outcome is SEND
