"""OpenOutcome: the limits of a bucket and a recipient."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ...stores import OpenOutcome, OpenResult, Store
from .. import Clock
from .subject_driver import BROWSER, DAY, HOUR, NETWORK, NO_LIMITS, SEND, WAIT, SubjectDriver


class OpeningTests:
    # OpenOutcome: cooldown and counts of a bucket

    def test_opening_counts_a_message_and_gives_a_short_fresh_challenge(self, ann: SubjectDriver) -> None:
        opened = ann.open()
        ends = (ann.now + HOUR, ann.now + 24 * HOUR)
        assert opened == OpenResult(
            SEND,
            opened.challenge_id,
            strong=False,
            fresh=True,
            expires_at=ann.now + 300,
            ready_at=ann.now + 30,
            bucket=NETWORK,
            bucket_ends=ends,
            subject_ends=ends,
        )
        assert len(opened.challenge_id) == 16

    @pytest.mark.parametrize(("after", "outcome", "retry_after"), [(0, WAIT, 30), (29, WAIT, 1), (30, SEND, 0)])
    def test_r15_the_cooldown_of_a_bucket_ends_on_its_second(
        self, ann: SubjectDriver, clock: Clock, after: int, outcome: OpenOutcome, retry_after: int
    ) -> None:
        ann.open()
        clock.advance(after)
        opened = ann.open()
        assert (opened.outcome, opened.retry_after) == (outcome, retry_after)

    def test_r11_a_stranger_on_another_network_does_not_delay_the_owner(self, ann: SubjectDriver) -> None:
        ann.open(b"stranger")
        assert ann.open(b"owner").outcome is SEND

    def test_waiting_counts_nothing_and_does_not_prolong_the_wait(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.open()
        for _ in range(29):
            clock.advance(1)
            assert ann.open().outcome is WAIT
        clock.advance(1)
        outcomes = []
        for _ in range(5):
            outcomes.append(ann.open().outcome)
            clock.advance(30)
        assert outcomes == [SEND] * 4 + [WAIT]

    @pytest.mark.parametrize(("after", "outcome", "retry_after"), [(3599, WAIT, 1), (3600, SEND, 0)])
    def test_r15_a_bucket_has_five_messages_in_an_hour_from_the_first(
        self, ann: SubjectDriver, clock: Clock, after: int, outcome: OpenOutcome, retry_after: int
    ) -> None:
        ann.fill_bucket()
        assert ann.open().retry_after == HOUR - 150
        clock.advance(after - 150)
        opened = ann.open()
        assert (opened.outcome, opened.retry_after) == (outcome, retry_after)

    @pytest.mark.parametrize(("after", "outcome", "retry_after"), [(DAY - 1, WAIT, 1), (DAY, SEND, 0)])
    def test_r15_a_bucket_has_ten_messages_in_a_day_from_the_first(
        self, ann: SubjectDriver, clock: Clock, after: int, outcome: OpenOutcome, retry_after: int
    ) -> None:
        start = ann.now
        ann.fill_bucket()
        clock.now = start + HOUR
        ann.fill_bucket()
        clock.now = start + 2 * HOUR
        assert ann.open().retry_after == DAY - 2 * HOUR
        clock.now = start + after
        opened = ann.open()
        assert (opened.outcome, opened.retry_after) == (outcome, retry_after)

    def test_r15_in_the_second_that_a_window_ends_the_next_begins(self, store: Store, clock: Clock) -> None:
        ann = SubjectDriver(store, clock, replace(NO_LIMITS, send_limit=((2, 60),), recipient_limit=((3, 60),)))
        for _ in range(3):
            assert [ann.open().outcome for _ in range(3)] == [SEND, SEND, WAIT]
            assert [ann.open(b"another").outcome for _ in range(2)] == [SEND, WAIT]
            clock.advance(60)

    def test_a_full_bucket_leaves_the_other_buckets_alone(self, ann: SubjectDriver) -> None:
        ann.fill_bucket()
        assert ann.open(b"another").outcome is SEND

    def test_subjects_share_no_counts(self, ann: SubjectDriver, store: Store, clock: Clock) -> None:
        ann.fill_bucket()
        assert SubjectDriver(store, clock, subject=b"t" * 16).open().outcome is SEND

    # OpenOutcome: the recipient's limit, over all buckets

    @pytest.mark.parametrize(("after", "outcome", "retry_after"), [(0, WAIT, 3600), (3599, WAIT, 1), (3600, SEND, 0)])
    def test_r15_a_recipient_has_twenty_messages_in_an_hour_over_all_buckets(
        self, ann: SubjectDriver, clock: Clock, after: int, outcome: OpenOutcome, retry_after: int
    ) -> None:
        ann.fill_recipient()
        clock.advance(after)
        opened = ann.open(b"fresh")
        assert (opened.outcome, opened.retry_after) == (outcome, retry_after)

    @pytest.mark.parametrize(("after", "outcome", "retry_after"), [(DAY - 1, WAIT, 1), (DAY, SEND, 0)])
    def test_r15_a_recipient_has_fifty_messages_in_a_day_over_all_buckets(
        self, ann: SubjectDriver, clock: Clock, after: int, outcome: OpenOutcome, retry_after: int
    ) -> None:
        start = ann.now
        for number in range(50):
            if number % 20 == 0:
                clock.now = start + number // 20 * HOUR
            assert ann.open(b"bucket%d" % number).outcome is SEND
        assert ann.open(b"bucket50").retry_after == DAY - 2 * HOUR
        clock.now = start + after
        opened = ann.open(b"fresh")
        assert (opened.outcome, opened.retry_after) == (outcome, retry_after)

    @pytest.mark.parametrize(("after", "outcome"), [(DAY - 1, WAIT), (DAY, SEND)])
    def test_r15_a_recipients_limit_holds_when_nothing_else_counts_any_more(
        self, store: Store, clock: Clock, after: int, outcome: OpenOutcome
    ) -> None:
        ann = SubjectDriver(store, clock, replace(NO_LIMITS, recipient_limit=((1, DAY),)))
        assert ann.open().outcome is SEND
        clock.advance(after)
        assert ann.open(b"another").outcome is outcome

    def test_the_longest_of_the_waits_is_told(self, ann: SubjectDriver) -> None:
        ann.fill_recipient()
        assert ann.open(b"bucket0").retry_after == HOUR

    def test_r11_a_known_browser_is_not_stopped_by_the_recipients_limit(self, ann: SubjectDriver) -> None:
        ann.fill_recipient()
        opened = ann.open(known=BROWSER)
        assert (opened.outcome, opened.bucket, opened.known) == (SEND, BROWSER, True)

    def test_a_known_browser_uses_up_neither_the_recipients_limit_nor_its_networks(self, ann: SubjectDriver) -> None:
        ann.fill_bucket(known=BROWSER)
        for number in range(20):
            assert ann.open(b"bucket%d" % number).outcome is SEND
        assert ann.open(b"bucket20").outcome is WAIT

    def test_a_known_browser_has_a_cooldown_and_counts_of_its_own(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.open(NETWORK)
        assert ann.open(NETWORK, known=BROWSER).outcome is SEND
        assert ann.open(NETWORK, known=BROWSER).retry_after == 30
        assert ann.open(NETWORK, known=b"browser2").outcome is SEND
        clock.advance(30)
        for _ in range(4):
            assert ann.open(known=BROWSER).outcome is SEND
            clock.advance(30)
        assert ann.open(known=BROWSER).retry_after == HOUR - 150
