"""Discarding a message that could not be delivered, and dropping a challenge that will not be redeemed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ...stores import OpenResult, Store
from .. import Clock
from .subject_driver import BROWSER, DAY, HOUR, MATCH, REFUSED, SEND, WAIT, WRONG, SubjectDriver, new_id


class UndoingTests:
    # Discarding undelivered messages

    def test_a_discarded_fresh_challenge_is_gone(self, ann: SubjectDriver) -> None:
        opened = ann.open()
        ann.discard(opened)
        assert ann.right(opened) is REFUSED

    def test_a_discarded_resend_leaves_its_challenge(self, ann: SubjectDriver, clock: Clock) -> None:
        opened = ann.open()
        clock.advance(30)
        ann.discard(ann.reopen(opened))
        assert ann.right(opened) is MATCH

    def test_a_discarded_challenge_leaves_the_others(self, ann: SubjectDriver) -> None:
        first, second = ann.open(b"bucket1"), ann.open(b"bucket2")
        ann.discard(second)
        assert ann.right(first) is MATCH

    def test_discarding_does_not_give_the_cooldown_back(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.discard(ann.open())
        assert ann.open() == OpenResult(WAIT, retry_after=30)
        clock.advance(29)
        assert ann.open() == OpenResult(WAIT, retry_after=1)

    @pytest.mark.parametrize("known", [b"", BROWSER])
    def test_discarding_gives_the_count_of_the_bucket_back(
        self, ann: SubjectDriver, clock: Clock, known: bytes
    ) -> None:
        for _ in range(20):
            opened = ann.open(known=known)
            assert opened.outcome is SEND
            ann.discard(opened)
            clock.advance(30)
        ann.fill_bucket(known=known)

    def test_discarding_gives_the_count_of_the_recipient_back(self, ann: SubjectDriver) -> None:
        for number in range(30):
            opened = ann.open(b"failed%d" % number)
            assert opened.outcome is SEND
            ann.discard(opened)
        ann.fill_recipient()

    def test_discarding_a_known_browsers_message_gives_nothing_to_strangers(self, ann: SubjectDriver) -> None:
        ann.fill_recipient()
        ann.discard(ann.open(known=BROWSER))
        assert ann.open(b"fresh").outcome is WAIT

    def test_discarding_one_resend_gives_one_count_back(self, ann: SubjectDriver, clock: Clock) -> None:
        first = ann.open()
        for _ in range(4):
            clock.advance(30)
            last = ann.reopen(first)
        clock.advance(30)
        ann.discard(last)
        assert ann.reopen(first).outcome is SEND
        clock.advance(30)
        assert ann.reopen(first).outcome is WAIT

    def test_discarding_after_the_window_has_passed_gives_nothing(self, ann: SubjectDriver, clock: Clock) -> None:
        start = ann.now
        opened = ann.open()
        clock.now = start + DAY
        ann.discard(opened)
        ann.fill_bucket()

    def test_discarding_twice_never_makes_room_for_more_than_the_limit(self, ann: SubjectDriver, clock: Clock) -> None:
        opened = ann.open()
        for _ in range(3):
            ann.discard(opened)
        clock.advance(30)
        ann.fill_bucket()

    def test_a_late_discard_gives_no_message_of_a_later_window_back(self, ann: SubjectDriver, clock: Clock) -> None:
        start = ann.now
        ann.open()
        clock.now = start + HOUR - 1
        late = ann.open()
        clock.now = start + HOUR + 30
        assert ann.open().outcome is SEND
        ann.discard(late)
        clock.advance(30)
        outcomes = []
        for _ in range(5):
            outcomes.append(ann.open().outcome)
            clock.advance(30)
        assert outcomes == [SEND] * 4 + [WAIT]

    # Whether a delayed message is still wanted

    @pytest.mark.parametrize(("after", "live"), [(0, True), (299, True), (300, False)])
    def test_a_challenge_is_live_until_its_expiry_exclusive(
        self, ann: SubjectDriver, clock: Clock, after: int, live: bool
    ) -> None:
        opened = ann.open()
        clock.advance(after)
        assert ann.is_live(opened) is live

    def test_a_challenge_that_is_used_discarded_dropped_or_revoked_is_not_live(self, ann: SubjectDriver) -> None:
        ends: list[Callable[[OpenResult], object]] = [ann.right, ann.discard, ann.drop, lambda opened: ann.revoke()]
        for number, end in enumerate(ends):
            opened, other = ann.open(b"bucket%d" % number), ann.open(b"other%d" % number)
            assert ann.is_live(opened)
            end(opened)
            assert not ann.is_live(opened)
            assert ann.is_live(other) is (number < 3)

    def test_a_challenge_of_one_subject_is_not_live_for_another(
        self, ann: SubjectDriver, store: Store, clock: Clock
    ) -> None:
        bob = SubjectDriver(store, clock, subject=b"t" * 16)
        opened = ann.open()
        bob.open()
        assert not bob.is_live(opened)
        assert not ann.is_live(OpenResult(SEND, new_id()))

    def test_asking_whether_it_is_live_changes_nothing(self, ann: SubjectDriver, clock: Clock) -> None:
        opened = ann.open()
        ann.wrong(opened, 4)
        assert ann.is_live(opened)
        clock.advance(30)
        assert ann.reopen(opened).outcome is SEND
        assert ann.right(opened) is MATCH

    # Noting what was done

    @pytest.mark.parametrize(("after", "holds"), [(0, True), (HOUR - 1, True), (HOUR, False)])
    def test_what_is_noted_holds_until_its_end_exclusive(
        self, ann: SubjectDriver, clock: Clock, after: int, holds: bool
    ) -> None:
        ann.note(b"mark")
        ann.open()
        clock.advance(after)
        assert ann.holds(b"mark") is holds
        assert not ann.holds(b"another")

    def test_what_is_noted_is_one_subjects_and_ends_with_its_proofs(
        self, ann: SubjectDriver, store: Store, clock: Clock
    ) -> None:
        bob = SubjectDriver(store, clock, subject=b"t" * 16)
        ann.note(b"mark")
        ann.note(b"over", 0)
        assert (ann.holds(b"mark"), bob.holds(b"mark"), ann.holds(b"over")) == (True, False, False)
        ann.revoke()
        assert not ann.holds(b"mark")

    def test_one_caller_records_a_mark_until_it_expires_or_is_ended(self, ann: SubjectDriver, clock: Clock) -> None:
        assert (ann.note(b"mark"), ann.note(b"mark", 2 * HOUR), ann.note(b"another")) == (True, False, True)
        assert not ann.note(b"over", 0)
        clock.advance(HOUR)
        # The refused call has not extended it.
        assert (ann.note(b"mark"), ann.note(b"mark")) == (True, False)
        assert ann.spend(b"mark")
        assert ann.note(b"mark")
        ann.revoke()
        assert ann.note(b"mark")

    # Dropping

    def test_a_dropped_challenge_is_refused_and_gives_nothing_back(self, ann: SubjectDriver, clock: Clock) -> None:
        for _ in range(5):
            opened = ann.open()
            assert opened.outcome is SEND
            ann.drop(opened)
            assert ann.right(opened) is REFUSED
            clock.advance(30)
        assert ann.open().outcome is WAIT

    def test_dropping_leaves_the_other_challenges_and_the_failures(self, ann: SubjectDriver) -> None:
        first, second = ann.open(b"bucket1"), ann.open(b"bucket2")
        ann.wrong(second, 5)
        ann.drop(second)
        assert ann.wrong(first, 5) == [WRONG] * 5
        for number in range(2):
            ann.wrong(ann.open(b"more%d" % number), 5)
        assert ann.open(b"bucket3").strong

    def test_dropping_what_is_not_there_does_nothing(self, ann: SubjectDriver) -> None:
        ann.drop(OpenResult(SEND, new_id()))
        opened = ann.open()
        ann.drop(OpenResult(SEND, new_id()))
        assert ann.right(opened) is MATCH
