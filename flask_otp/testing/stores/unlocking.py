"""The operator's verbs: inspect a subject's state, and allow messages again without giving a guess back."""

from __future__ import annotations

from dataclasses import replace

from ...stores import OpenResult
from ...stores.record import Bucket, Live, Record
from .. import Clock
from .subject_driver import (
    BROWSER,
    DAY,
    HOUR,
    MATCH,
    MONTH,
    NETWORK,
    PROOF_LIFE,
    REFUSED,
    SEND,
    WAIT,
    WRONG,
    SubjectDriver,
)


class UnlockingTests:
    # Looking

    def test_nothing_is_seen_of_a_subject_that_never_was(self, ann: SubjectDriver) -> None:
        assert ann.inspect() == Record()

    def test_all_that_is_open_and_counted_is_seen(self, ann: SubjectDriver) -> None:
        start = ann.now
        opened = ann.open(session_tag=b"tag", channel=b"mail")
        ann.wrong(opened, 2)
        ann.prove(b"proof", b"other")
        assert ann.inspect() == Record(
            failures=[[2, start + MONTH]],
            sends=[[2, start + HOUR], [2, start + DAY]],
            challenges={opened.challenge_id: Live(start + 300, False, b"tag", b"", 2, (b"mail",))},
            buckets={
                NETWORK: Bucket(start + 30, [[1, start + HOUR], [1, start + DAY]]),
                b"other": Bucket(start + 30, [[1, start + HOUR], [1, start + DAY]]),
            },
            proofs={b"proof": start + PROOF_LIFE},
        )

    def test_a_known_browsers_own_budget_is_seen(self, ann: SubjectDriver) -> None:
        opened = ann.open(known=BROWSER)
        ann.wrong(opened)
        seen = ann.inspect()
        assert (seen.failures, seen.sends) == ([], [])
        assert seen.buckets[BROWSER].failures == [[1, ann.now + MONTH]]
        assert (seen.buckets[BROWSER].known, seen.challenges[opened.challenge_id].bucket) == (True, BROWSER)

    def test_what_has_expired_is_not_seen(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.open()
        clock.advance(HOUR)
        start = ann.now - HOUR
        assert ann.inspect() == Record(
            sends=[[0, 0], [1, start + DAY]], buckets={NETWORK: Bucket(0, [[0, 0], [1, start + DAY]])}
        )
        ann.revoke()
        assert ann.inspect().revoked_ms == ann.now * 1000
        clock.advance(180 * DAY)
        assert ann.inspect() == Record()

    def test_looking_changes_nothing(self, ann: SubjectDriver) -> None:
        opened = ann.open()
        before = ann.inspect()
        before.challenges.clear()
        before.buckets[NETWORK].sends[0][0] = 99
        assert ann.inspect() != before
        assert ann.right(opened) is MATCH

    # Unlocking

    def test_unlocking_ends_the_cooldown(self, ann: SubjectDriver) -> None:
        ann.open()
        assert ann.unlock() is True
        assert ann.open().outcome is SEND

    def test_unlocking_clears_the_windows_of_every_bucket_and_of_the_subject(self, ann: SubjectDriver) -> None:
        ann.fill_bucket(bucket=b"mine")
        ann.fill_bucket(known=BROWSER)
        for number in range(15):
            ann.open(b"bucket%d" % number)
        assert ann.open(b"fresh").outcome is WAIT
        ann.unlock()
        for _ in range(5):
            assert ann.open(b"mine").outcome is SEND
            assert ann.open(known=BROWSER).outcome is SEND
            ann.clock.advance(30)

    def test_a_cleared_window_is_full_again_with_as_many(self, ann: SubjectDriver) -> None:
        ann.fill_recipient()
        ann.unlock()
        ann.fill_recipient()

    def test_unlocking_leaves_challenges_proofs_and_the_revocation(self, ann: SubjectDriver) -> None:
        ann.revoke()
        ann.prove(b"proof", b"other")
        opened = ann.open()
        before = ann.inspect()
        ann.unlock()
        after = ann.inspect()
        assert (after.challenges, after.proofs, after.revoked_ms) == (
            before.challenges,
            before.proofs,
            before.revoked_ms,
        )
        assert ann.right(opened) is MATCH

    def test_a_subject_that_never_was_is_unlocked(self, ann: SubjectDriver) -> None:
        assert ann.unlock() is True
        assert ann.inspect() == Record()

    # Unlocking is no attack

    def test_unlocking_gives_no_attempt_back(self, ann: SubjectDriver) -> None:
        opened = ann.open()
        assert ann.wrong(opened, 4) == [WRONG] * 4
        ann.unlock()
        assert ann.wrong(opened, 3) == [WRONG, REFUSED, REFUSED]

    def test_unlocked_before_each_guess_an_attacker_has_no_more_of_them(self, ann: SubjectDriver) -> None:
        """With the default budget of 20 in 30 days, for any number of messages."""
        compared, start = 0, ann.now
        while ann.now < start + DAY:
            ann.unlock()
            opened = ann.open()
            assert opened.outcome is SEND
            for _ in range(6):
                ann.unlock()
                compared += not opened.strong and ann.redeem(opened, False).outcome is WRONG
            ann.clock.advance(HOUR)
        assert compared == 20
        assert ann.open(b"elsewhere").strong

    def test_unlocking_gives_a_known_browser_no_guess_back(self, ann: SubjectDriver) -> None:
        ann.lose_the_budget(known=BROWSER)
        ann.unlock()
        assert ann.open(known=BROWSER).strong

    def test_unlocking_makes_no_place_for_a_ninth_known_browser(self, ann: SubjectDriver) -> None:
        """Each has its own failure budget, and challenges that it may still guess at."""
        opened = [ann.open(known=b"browser%d" % number) for number in range(8)]
        ann.unlock()
        ninth = ann.open(b"network", known=b"browser9")
        assert (ninth.known, ninth.bucket) == (False, b"network")
        assert all(ann.wrong(challenge) == [WRONG] for challenge in opened)

    def test_unlocking_gives_no_guess_at_an_app_back(self, ann: SubjectDriver) -> None:
        """Only the windows of messages limit guesses of two codes in a row."""
        ann.fail(20)
        for _ in range(5):
            assert ann.pair(matches=False).outcome is WRONG
        assert ann.unlock() is False
        assert ann.pair(matches=False).outcome is REFUSED
        assert ann.pair(matches=False, bucket=b"elsewhere").outcome is WRONG
        for number in range(14):
            assert ann.pair(matches=False, bucket=b"%d" % number).outcome is WRONG
            ann.unlock()
        assert ann.pair(matches=False, bucket=b"fresh").outcome is REFUSED
        # Another bucket has only sent messages, so it is free at once.
        assert ann.unlock() is False

    def test_windows_with_guesses_at_an_app_are_cleared_when_they_have_ended(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        ann.policy = replace(ann.policy, send_limit=((5, HOUR),), recipient_limit=((20, HOUR),))
        ann.pair(matches=False)
        clock.advance(HOUR)
        assert ann.unlock() is True
        ann.open()
        assert ann.unlock() is True
        assert ann.open().outcome is SEND

    def test_a_message_that_did_not_go_out_is_given_back_once(self, ann: SubjectDriver) -> None:
        opened: OpenResult = ann.open()
        ann.unlock()
        ann.discard(opened)
        assert ann.inspect().sends in ([], [[0, 0], [0, 0]])
        ann.fill_recipient()
