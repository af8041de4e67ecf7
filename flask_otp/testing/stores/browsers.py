"""Known browsers and surges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ...stores import Store
from ...stores.base import KNOWN_BROWSERS
from .. import Clock
from .subject_driver import BROWSER, DAY, MATCH, MONTH, NO_LIMITS, POLICY, REFUSED, SEND, WRONG, SubjectDriver


class BrowserTests:
    def test_r11_strangers_do_not_spend_a_known_browsers_budget(self, ann: SubjectDriver) -> None:
        before = ann.open(b"bucket", known=b"browser2")
        ann.lose_the_budget()
        opened = ann.open(known=BROWSER)
        assert not opened.strong
        assert ann.right(opened) is MATCH
        assert ann.right(before) is MATCH

    def test_r11_a_known_browser_spends_only_its_own_budget(self, ann: SubjectDriver) -> None:
        ann.lose_the_budget(known=BROWSER)
        assert ann.open(known=BROWSER).strong
        assert not ann.open(known=b"browser2").strong
        assert not ann.open().strong

    def test_r08_a_known_browsers_budget_holds_over_its_challenges(self, ann: SubjectDriver, clock: Clock) -> None:
        short = ann.open(known=BROWSER)
        clock.advance(30)
        first_failure = ann.now
        ann.lose_the_budget(known=BROWSER)
        assert ann.right(short) is REFUSED
        clock.now = first_failure + MONTH - 31
        opened = ann.open(known=BROWSER)
        assert opened.strong
        assert ann.right(opened) is MATCH
        clock.now = first_failure + MONTH - 1
        assert ann.open(known=BROWSER).strong
        clock.now += 30
        assert not ann.open(known=BROWSER).strong

    @pytest.mark.parametrize(("known", "strong"), [(b"", True), (BROWSER, False)])
    def test_r11_a_surge_makes_new_codes_strong_except_for_known_browsers(
        self, ann: SubjectDriver, known: bytes, strong: bool
    ) -> None:
        opened = ann.open(known=known, surge=True)
        assert (opened.outcome, opened.strong) == (SEND, strong)
        assert ann.right(opened) is MATCH

    def test_in_a_surge_the_short_codes_of_strangers_that_are_open_are_refused(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        """Otherwise an attacker would open many first and guess at them all in one burst."""
        first, known = ann.open(session_tag=b"h"), ann.open(known=BROWSER)
        assert ann.redeem(first, True, surge=True).outcome is REFUSED
        assert ann.redeem(known, True, surge=True).outcome is MATCH
        clock.advance(30)
        again = ann.open(session_tag=b"h", surge=True)
        assert (again.fresh, again.strong) == (True, True)
        assert ann.redeem(again, True, surge=True).outcome is MATCH
        assert ann.right(first) is MATCH

    def test_a_match_names_the_known_bucket_that_the_code_was_asked_from(self, ann: SubjectDriver) -> None:
        assert ann.redeem(ann.open(), True).bucket == b""
        opened = ann.open(known=BROWSER)
        assert ann.redeem(opened, True).bucket == opened.bucket != b""

    def test_a_failure_names_the_known_bucket_that_the_code_was_asked_from(self, ann: SubjectDriver) -> None:
        assert ann.redeem(ann.open(), False).bucket == b""
        assert ann.redeem(ann.open(known=BROWSER), False).bucket == BROWSER

    def test_r08_a_subject_has_a_few_known_buckets_and_further_ones_count_as_strangers(
        self, ann: SubjectDriver
    ) -> None:
        buckets = [b"browser%d" % number for number in range(KNOWN_BROWSERS + 2)]
        assert [ann.open(known=bucket).known for bucket in buckets] == [True] * KNOWN_BROWSERS + [False, False]

    def test_r08_a_known_bucket_counts_until_it_expires_and_no_longer(self, ann: SubjectDriver, clock: Clock) -> None:
        buckets = [b"browser%d" % number for number in range(KNOWN_BROWSERS + 1)]
        for bucket in buckets[:KNOWN_BROWSERS]:
            ann.open(known=bucket)
        clock.advance(DAY - 1)
        assert not ann.open(known=buckets[-1]).known
        clock.advance(1)
        assert ann.open(known=buckets[-1]).known

    def test_r08_a_failure_brings_a_known_bucket_back_that_was_over(self, store: Store, clock: Clock) -> None:
        """Otherwise a subject could have any number of browsers with their own budget."""
        ann = SubjectDriver(store, clock, replace(NO_LIMITS, failure_budget=POLICY.failure_budget))
        opened = [ann.open(known=b"browser%d" % number) for number in range(KNOWN_BROWSERS)]
        clock.advance(1)
        ann.open()
        assert [ann.wrong(one) for one in opened] == [[WRONG]] * KNOWN_BROWSERS
        assert not ann.open(known=b"another").known
        assert ann.open(known=b"browser0").known

    def test_a_strict_site_does_not_refuse_in_a_surge(self, strict: SubjectDriver) -> None:
        opened = strict.open(surge=True)
        assert (opened.outcome, opened.strong) == (SEND, True)
