"""Proofs, and revoking."""

from __future__ import annotations

import pytest

from ...stores import Store
from ...stores.base import KNOWN_BROWSERS
from .. import Clock
from .subject_driver import BROWSER, DAY, HOUR, MATCH, NETWORK, PROOF_LIFE, REFUSED, SEND, WAIT, WRONG, SubjectDriver


class ProofTests:
    # Proofs

    @pytest.mark.parametrize(("after", "holds"), [(0, True), (PROOF_LIFE - 1, True), (PROOF_LIFE, False)])
    def test_r25_a_proof_holds_until_its_expiry_exclusive(
        self, ann: SubjectDriver, clock: Clock, after: int, holds: bool
    ) -> None:
        ann.prove(b"proof")
        clock.advance(after)
        assert ann.holds(b"proof") is holds
        assert ann.spend(b"proof") is holds

    def test_a_proof_outlives_later_openings(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.prove(b"proof")
        clock.advance(HOUR)
        ann.prove(b"later")
        clock.advance(HOUR)
        ann.open()
        assert ann.holds(b"proof")
        assert ann.holds(b"later")

    def test_r25_a_spent_proof_has_ended_and_is_spent_by_one_caller(self, ann: SubjectDriver) -> None:
        ann.prove(b"proof")
        assert ann.spend(b"proof") is True
        assert ann.spend(b"proof") is False
        assert not ann.holds(b"proof")

    def test_spending_one_proof_leaves_the_others(self, ann: SubjectDriver) -> None:
        ann.prove(b"proof1", b"bucket1")
        ann.prove(b"proof2", b"bucket2")
        assert ann.spend(b"proof1")
        assert ann.holds(b"proof2")

    def test_r26_a_proof_of_one_subject_is_none_of_another(
        self, ann: SubjectDriver, store: Store, clock: Clock
    ) -> None:
        bob = SubjectDriver(store, clock, subject=b"t" * 16)
        ann.prove(b"proof")
        assert not bob.holds(b"proof")
        assert not bob.spend(b"proof")
        assert ann.holds(b"proof")

    def test_what_is_noted_is_listed_by_the_beginning_of_its_name_until_its_end_or_a_revocation(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        for name, life in ((b"a1", 60), (b"a2", HOUR), (b"a3", HOUR), (b"b1", HOUR), (b"\xffa", HOUR)):
            ann.note(name, life)
        ann.check(b"a4", proof=b"z")  # a random name could begin with an a too
        assert ann.noted(b"a") == {b"a1": ann.now + 60, b"a2": ann.now + HOUR, b"a3": ann.now + HOUR}
        assert ann.noted(b"\xff") == {b"\xffa": ann.now + HOUR}
        assert ann.noted(b"none") == {}
        end = ann.now + HOUR
        clock.advance(60)
        assert ann.spend(b"a3")
        assert ann.noted(b"a") == {b"a2": end}
        ann.revoke()
        assert ann.noted(b"a") == {}

    # Revoking

    def test_r25_revoking_ends_proofs_and_challenges(self, ann: SubjectDriver) -> None:
        ann.prove(b"proof1", b"bucket1")
        ann.prove(b"proof2", b"bucket2")
        opened = ann.open(b"bucket3")
        ann.revoke()
        assert not ann.holds(b"proof1")
        assert not ann.spend(b"proof2")
        assert ann.right(opened) is REFUSED

    def test_revoking_touches_no_other_subject(self, ann: SubjectDriver, store: Store, clock: Clock) -> None:
        bob = SubjectDriver(store, clock, subject=b"t" * 16)
        bob.prove(b"proof")
        opened = bob.open(b"bucket2")
        ann.revoke()
        assert bob.holds(b"proof")
        assert bob.right(opened) is MATCH

    def test_a_sign_in_after_a_revocation_within_the_same_second_counts(self, ann: SubjectDriver) -> None:
        ann.revoke()
        ann.prove(b"proof")
        assert ann.holds(b"proof")

    @pytest.mark.parametrize(("since", "known"), [(-1000, False), (-1, False), (0, False), (1, True), (1000, True)])
    def test_r25_a_revocation_makes_browsers_strangers_that_were_known_before_it_by_the_millisecond(
        self, ann: SubjectDriver, clock: Clock, since: int, known: bool
    ) -> None:
        clock.now += 0.5
        ann.revoke()
        opened = ann.open(known=BROWSER, since=int(clock.now * 1000) + since)
        assert (opened.known, opened.bucket) == (known, BROWSER if known else NETWORK)

    def test_a_revoked_browser_is_a_stranger_in_every_way(self, ann: SubjectDriver, clock: Clock) -> None:
        since = int(clock.now * 1000)
        clock.advance(1)
        ann.revoke()
        assert ann.open(known=BROWSER, since=since, surge=True).strong
        assert ann.open(known=BROWSER, since=since).outcome is WAIT
        for number in range(19):
            assert ann.open(b"bucket%d" % number, known=BROWSER, since=since).outcome is SEND
        assert ann.open(b"fresh", known=BROWSER, since=since).outcome is WAIT

    def test_an_older_revocation_does_not_undo_a_newer_one(
        self, ann: SubjectDriver, store: Store, clock: Clock
    ) -> None:
        at = int(clock.now * 1000)
        store.revoke(ann.subject, at)
        store.revoke(ann.subject, at - 5000)
        assert not ann.open(known=BROWSER, since=at).known

    def test_a_revocation_is_remembered_as_long_as_a_browser_stays_known(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        since = int(clock.now * 1000)
        ann.revoke()
        for _ in range(3):
            clock.advance(60 * DAY - 1)
            assert not ann.open(known=BROWSER, since=since).known

    def test_r10_revoking_leaves_every_count_as_it_was(self, ann: SubjectDriver) -> None:
        ann.lose_the_budget()
        ann.open(NETWORK)
        ann.revoke()
        assert ann.open(NETWORK).outcome is WAIT
        for number in range(15):
            opened = ann.open(b"bucket%d" % number)
            assert (opened.outcome, opened.strong) == (SEND, True)
        assert ann.open(b"fresh").outcome is WAIT

    def test_r11_revoked_browsers_hold_no_places(self, ann: SubjectDriver, clock: Clock) -> None:
        """Otherwise an attacker who signed in once could keep all the owner's browsers strangers for a month."""
        for number in range(KNOWN_BROWSERS):
            assert ann.wrong(ann.open(known=b"thief%d" % number), 1) == [WRONG]
        clock.advance(1)
        assert not ann.open(b"owner", known=b"owner").known
        ann.revoke()
        for days in (0, 2, 27):
            clock.advance(days * DAY + 1)
            owners = [b"owner%d/%d" % (days, number) for number in range(KNOWN_BROWSERS + 1)]
            # There are eight places again, and no more.
            assert [ann.open(known=bucket).known for bucket in owners] == [True] * KNOWN_BROWSERS + [False]
            ann.revoke()

    def test_r08_a_browser_that_was_revoked_and_verifies_again_takes_a_place_again(
        self, ann: SubjectDriver, clock: Clock
    ) -> None:
        ann.open(known=BROWSER)
        ann.revoke()
        clock.advance(30)
        assert ann.open(known=BROWSER).known
        buckets = [b"browser%d" % number for number in range(2, KNOWN_BROWSERS + 2)]
        assert [ann.open(known=bucket).known for bucket in buckets] == [True] * (KNOWN_BROWSERS - 1) + [False]

    def test_r08_a_known_browsers_failures_outlive_a_revocation(self, ann: SubjectDriver, clock: Clock) -> None:
        ann.lose_the_budget(known=BROWSER)
        ann.revoke()
        clock.advance(1)
        assert ann.open(known=BROWSER).strong
