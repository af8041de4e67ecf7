"""Sending again: the session's challenge, and resends by handle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ...stores import OpenOutcome, OpenResult, Store
from .. import Clock
from .subject_driver import (
    BROWSER,
    DAY,
    GONE,
    HOUR,
    MATCH,
    NETWORK,
    NO_LIMITS,
    POLICY,
    QUIET,
    REFUSED,
    SEND,
    WAIT,
    WRONG,
    SubjectDriver,
    new_id,
)


class ResendingTests:
    # Opening again: what one session has

    def test_a_double_click_gets_the_same_challenge_and_no_message(self, ann: SubjectDriver, clock: Clock) -> None:
        first = ann.open(session_tag=b"h")
        clock.advance(29)
        again = ann.open(session_tag=b"h")
        assert again == replace(first, outcome=QUIET, fresh=False, bucket_ends=(), subject_ends=())

    def test_after_the_cooldown_the_holder_gets_the_same_challenge_and_a_counted_message(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        first = ann.open(session_tag=b"h")
        clock.advance(30)
        again = ann.open(session_tag=b"h")
        assert again == replace(first, fresh=False, ready_at=ann.now + 30)
        clock.advance(30)
        outcomes = []
        for _ in range(4):
            outcomes.append(ann.open(session_tag=b"h").outcome)
            clock.advance(30)
        assert outcomes == [SEND, SEND, SEND, WAIT]

    def test_another_channel_waits_for_no_cooldown_and_counts_as_any_message(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        opened = ann.open(channel=b"sms1")
        assert ann.reopen(opened, channel=b"sms1").outcome is WAIT
        assert ann.reopen(opened, channel=b"mail").outcome is SEND
        assert ann.reopen(opened, channel=b"mail").outcome is WAIT
        assert ann.reopen(opened, channel=b"sms1").outcome is WAIT
        clock.advance(30)
        assert [ann.reopen(opened, channel=name).outcome for name in (b"sms1", b"call", b"chat")] == [SEND] * 3
        # Five messages of the bucket in an hour.
        assert ann.reopen(opened, channel=b"sms1").retry_after == HOUR - 30

    def test_a_challenge_remembers_all_channels_that_its_code_went_out_by(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        opened = ann.open(channel=b"sms1", session_tag=b"h")
        ann.reopen(opened, channel=b"mail")
        assert ann.wrong(opened) == [WRONG]
        clock.advance(30)
        ann.open(channel=b"sms1", session_tag=b"h")
        result = ann.redeem(opened, True)
        assert (result.outcome, result.channels) == (MATCH, (b"sms1", b"mail"))
        untold = ann.open(b"another")
        assert ann.redeem(untold, True).channels == ()

    def test_a_refused_message_leaves_no_channel_behind_and_a_failed_one_does(self, ann: SubjectDriver) -> None:
        ann.policy = replace(POLICY, send_limit=((2, HOUR),))
        opened = ann.open(channel=b"sms1")
        ann.discard(ann.reopen(opened, channel=b"mail"))
        assert ann.reopen(opened, channel=b"call").outcome is SEND
        assert ann.reopen(opened, channel=b"chat").outcome is WAIT
        # It may have been sent after all.
        assert ann.redeem(opened, True).channels == (b"sms1", b"mail", b"call")

    def test_a_code_goes_out_by_four_channels_at_most(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.policy = NO_LIMITS
        opened = ann.open(channel=b"sms1")
        names = (b"mail", b"call", b"chat", b"post", b"mail")
        assert [ann.reopen(opened, channel=name).outcome for name in names] == [SEND, SEND, SEND, GONE, SEND]
        assert ann.redeem(opened, True).channels == (b"sms1", b"mail", b"call", b"chat")

    def test_an_automatic_message_goes_out_once_by_each_channel(self, ann: SubjectDriver, clock: Clock) -> None:
        first = ann.open(channel=b"sms1")
        for channel in (b"sms1", b""):
            quiet = ann.reopen(first, channel=channel, once=True)
            assert quiet == replace(first, outcome=QUIET, fresh=False, bucket_ends=(), subject_ends=())
        # Also by another channel, which has no cooldown and is counted.
        assert [ann.reopen(first, channel=b"call", once=True).outcome for _ in range(2)] == [SEND, QUIET]
        ann.policy = replace(POLICY, send_limit=((2, HOUR),))
        assert ann.reopen(first, channel=b"mail", once=True).outcome is WAIT
        assert ann.redeem(first, True).channels == (b"sms1", b"call")
        assert ann.reopen(first, channel=b"mail", once=True).outcome is GONE

    @pytest.mark.parametrize("end", ["attempts", "expiry", "drop", "revoke"])
    def test_an_automatic_message_goes_out_for_no_ended_challenge(
        self, ann: SubjectDriver, clock: Clock, end: str
    ) -> None:
        first = ann.open(channel=b"sms1")
        {
            "attempts": lambda: ann.wrong(first, 5),
            "expiry": lambda: clock.advance(300),
            "drop": lambda: ann.drop(first),
            "revoke": ann.revoke,
        }[end]()
        assert ann.reopen(first, channel=b"call", once=True).outcome is GONE

    def test_an_automatic_message_is_of_the_newest_challenge_of_a_session(self, store: Store, clock: Clock) -> None:
        """The older one was superseded by a spent budget, and came back after the budget's window."""
        ann = SubjectDriver(store, clock, replace(POLICY, failure_budget=((2, 60),)))
        # Several times, because the ids are random.
        for tags, outcome in (((b"h", b"h"), QUIET), ((b"h", b"i"), SEND), ((b"", b""), SEND)) * 4:
            older = ann.open(b"bucket1", session_tag=tags[0], channel=b"sms1")
            assert ann.wrong(ann.open(b"bucket2"), 2) == [WRONG] * 2
            clock.advance(30)
            newer = ann.open(b"bucket3", session_tag=tags[1], channel=b"sms1")
            assert (older.strong, newer.strong, newer.fresh) == (False, True, True)
            assert ann.reopen(older, channel=b"call", once=True).outcome is GONE
            clock.advance(30)
            assert ann.reopen(older, channel=b"call", once=True).outcome is outcome
            assert ann.reopen(newer, channel=b"call", once=True).outcome is SEND
            # A client that asks for it still gets it.
            assert ann.reopen(older, channel=b"mail").outcome is SEND
            clock.advance(DAY)

    def test_a_request_that_wants_no_second_message_gets_none_and_counts_nothing(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        first = ann.open(session_tag=b"h", once=True)
        assert (first.outcome, first.fresh) == (SEND, True)
        for wait, bucket in ((0, NETWORK), (30, NETWORK), (0, b"another")):
            clock.advance(wait)
            again = ann.open(bucket, session_tag=b"h", once=True)
            assert (again.outcome, again.challenge_id) == (QUIET, first.challenge_id)
            assert (again.bucket_ends, again.subject_ends) == ((), ())
        for _ in range(4):
            assert ann.open(session_tag=b"h").outcome is SEND
            clock.advance(30)
        assert ann.open(session_tag=b"h", once=True).outcome is QUIET
        assert ann.open(session_tag=b"h").outcome is WAIT
        assert ann.right(first) is MATCH
        # A used challenge is no longer the session's, so the limits count.
        assert ann.open(session_tag=b"h", once=True).outcome is WAIT

    def test_r14_a_repeated_open_does_not_prolong_the_challenge(self, ann: SubjectDriver, clock: Clock) -> None:
        first = ann.open(session_tag=b"h")
        clock.advance(299)
        assert ann.open(session_tag=b"h").expires_at == first.expires_at
        clock.advance(1)
        later = ann.open(b"other", session_tag=b"h")
        assert later.fresh
        assert later.challenge_id != first.challenge_id

    def test_r14_a_repeated_open_gives_no_attempt_back(self, ann: SubjectDriver, clock: Clock) -> None:
        first = ann.open(session_tag=b"h")
        assert ann.wrong(first, 3) == [WRONG] * 3
        assert ann.open(session_tag=b"h").outcome is QUIET
        clock.advance(30)
        assert ann.open(session_tag=b"h").outcome is SEND
        assert ann.wrong(first, 3) == [WRONG, WRONG, REFUSED]

    def test_a_used_up_challenge_is_not_the_holders_any_more(self, ann: SubjectDriver) -> None:
        first = ann.open(session_tag=b"h")
        ann.wrong(first, 5)
        assert ann.open(session_tag=b"h").outcome is WAIT
        second = ann.open(b"other", session_tag=b"h")
        assert second.fresh
        assert second.challenge_id != first.challenge_id

    @pytest.mark.parametrize("session_tags", [(b"h", b"i"), (b"", b""), (b"h", b"")])
    def test_r11_another_holder_has_another_challenge_and_ends_none(
        self, ann: SubjectDriver, session_tags: tuple[bytes, bytes]
    ) -> None:
        first = ann.open(b"bucket1", session_tag=session_tags[0])
        second = ann.open(b"bucket2", session_tag=session_tags[1])
        assert second.fresh
        assert ann.right(first) is MATCH
        assert ann.right(second) is MATCH

    def test_the_holders_own_challenge_is_no_way_round_the_send_limit(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.policy = replace(POLICY, expires_in=600)
        for _ in range(5):
            assert ann.open(session_tag=b"h").outcome is SEND
            clock.advance(30)
        assert ann.open(session_tag=b"h").outcome is WAIT

    def test_of_two_live_challenges_a_holder_is_given_the_newest(self, store: Store, clock: Clock) -> None:
        """The older one had been superseded by a spent budget, and came back after the budget's window."""
        ann = SubjectDriver(store, clock, replace(POLICY, failure_budget=((2, 60),)))
        for session_tag in (b"h1", b"h2", b"h3", b"h4", b"h5", b"h6"):
            older = ann.open(b"bucket1", session_tag=session_tag)
            assert ann.wrong(ann.open(b"bucket2"), 2) == [WRONG] * 2
            clock.advance(30)
            newer = ann.open(b"bucket3", session_tag=session_tag)
            assert (older.strong, newer.strong, newer.fresh) == (False, True, True)
            clock.advance(30)
            assert ann.open(b"bucket4", session_tag=session_tag).challenge_id == newer.challenge_id
            clock.advance(DAY)

    # Finding: a resend by handle

    def test_a_resend_keeps_the_challenge_and_counts_a_message(self, ann: SubjectDriver, clock: Clock) -> None:
        first = ann.open()
        clock.advance(30)
        assert ann.reopen(first) == replace(first, fresh=False, ready_at=ann.now + 30)
        for expected in (SEND, SEND, SEND, WAIT):
            clock.advance(30)
            assert ann.reopen(first).outcome is expected

    def test_a_resend_that_names_no_channel_waits_like_any_other(self, ann: SubjectDriver) -> None:
        assert ann.reopen(ann.open(channel=b"mail")).outcome is WAIT

    @pytest.mark.parametrize(("after", "outcome"), [(0, WAIT), (29, WAIT), (30, SEND), (299, SEND), (300, GONE)])
    def test_a_resend_waits_for_the_cooldown_and_ends_with_the_challenge(
        self, ann: SubjectDriver, clock: Clock, after: int, outcome: OpenOutcome
    ) -> None:
        first = ann.open(session_tag=b"h")
        clock.advance(after)
        assert ann.reopen(first).outcome is outcome

    def test_r14_a_resend_gives_no_attempt_back(self, ann: SubjectDriver, clock: Clock) -> None:
        first = ann.open()
        ann.wrong(first, 4)
        clock.advance(30)
        assert ann.reopen(first).outcome is SEND
        assert ann.wrong(first, 2) == [WRONG, REFUSED]
        assert ann.right(first) is REFUSED

    def test_a_resend_of_what_is_not_there_is_gone_and_costs_nothing(self, ann: SubjectDriver, clock: Clock) -> None:
        nothing = OpenResult(SEND, new_id())
        assert ann.reopen(nothing) == OpenResult(GONE)
        opened = ann.open()
        assert opened.outcome is SEND
        clock.advance(30)
        assert ann.reopen(nothing) == OpenResult(GONE)
        assert ann.open().outcome is SEND

    @pytest.mark.parametrize("end", ["right", "wrong", "drop", "revoke", "discard"])
    def test_a_resend_of_an_ended_challenge_is_gone(self, ann: SubjectDriver, clock: Clock, end: str) -> None:
        opened = ann.open()
        ends: dict[str, Callable[[], object]] = {
            "right": lambda: ann.right(opened),
            "wrong": lambda: ann.wrong(opened, 5),
            "drop": lambda: ann.drop(opened),
            "revoke": ann.revoke,
            "discard": lambda: ann.discard(opened),
        }
        ends[end]()
        clock.advance(30)
        assert ann.reopen(opened) == OpenResult(GONE)

    def test_a_resend_is_counted_on_the_bucket_that_asks(self, ann: SubjectDriver) -> None:
        first = ann.open(b"bucket1")
        assert ann.reopen(first, b"bucket2").bucket == b"bucket2"
        assert ann.reopen(first, b"bucket2").outcome is WAIT
        assert ann.reopen(first, known=BROWSER).bucket == BROWSER

    def test_resends_stop_at_the_recipients_limit(self, ann: SubjectDriver) -> None:
        first = ann.open(b"bucket0")
        for number in range(1, 20):
            assert ann.reopen(first, b"bucket%d" % number).outcome is SEND
        assert ann.reopen(first, b"bucket20").retry_after == HOUR
