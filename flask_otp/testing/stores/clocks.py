"""A clock that is set back, and the clock of another machine."""

from __future__ import annotations

from ...stores.base import LEEWAY
from .. import Clock
from .subject_driver import GONE, HOUR, MATCH, POLICY, QUIET, REFUSED, SEND, WAIT, SubjectDriver


class ClockTests:
    def test_a_clock_that_was_set_back_leaves_nobody_waiting_for_a_cooldown(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        before = ann.open(session_tag=b"h")
        clock.now -= HOUR
        after = ann.open(session_tag=b"h")
        assert (after.outcome, after.fresh) == (SEND, True)
        assert after.challenge_id != before.challenge_id
        assert ann.open().outcome is WAIT

    def test_r03_a_code_lives_no_longer_when_the_clock_is_set_back(self, ann: SubjectDriver, clock: Clock) -> None:
        opened = ann.open()
        clock.now -= HOUR
        assert ann.reopen(opened).outcome is GONE
        assert ann.right(opened) is REFUSED
        assert ann.wrong(opened) == [REFUSED]

    def test_r15_a_limit_that_was_reached_holds_when_the_clock_is_set_back(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        for _ in range(5):
            ann.open()
            clock.advance(POLICY.cooldown)
        clock.now -= HOUR
        refused = ann.open()
        assert (refused.outcome, refused.retry_after) == (WAIT, 2 * HOUR - 5 * POLICY.cooldown)

    def test_another_machine_may_be_a_little_behind(self, ann: SubjectDriver, clock: Clock) -> None:
        opened = ann.open(session_tag=b"h")
        clock.now -= LEEWAY
        assert ann.open(session_tag=b"h").outcome is QUIET
        assert ann.open().outcome is WAIT
        assert ann.right(opened) is MATCH
