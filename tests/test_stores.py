"""What every store must do, whichever it is. Requirements: SPEC sections 2, 6 and 8."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flask_otp.stores import Asking, Attempt, Opened, Opening, Policy, Redeemed, Redemption, Store
from flask_otp.stores.base import KNOWN_LANES
from flask_otp.stores.memory import MemoryStore
from flask_otp.testing import Clock

HOUR = 3600
DAY = 24 * HOUR
MONTH = 30 * DAY
PROOF_LIFE = 12 * HOUR
NETWORK = b"network1"
BROWSER = b"browser1"

SEND, QUIET, WAIT, GONE = Opening.SEND, Opening.QUIET, Opening.WAIT, Opening.GONE
MATCH, WRONG, REFUSED = Redemption.MATCH, Redemption.WRONG, Redemption.REFUSED

#: The defaults of OTP_*.
POLICY = Policy(
    expires_in=300,
    max_attempts=5,
    cooldown=30,
    send_limit=((5, HOUR), (10, DAY)),
    recipient_limit=((20, HOUR), (50, DAY)),
    failure_budget=((20, MONTH),),
)
REFUSE = replace(POLICY, refuse=True)
NO_LIMITS = replace(POLICY, cooldown=0, send_limit=(), recipient_limit=(), failure_budget=())

_ids = random.Random("ids")


def new_id() -> bytes:
    return _ids.randbytes(16)


class Person:
    """A subject in a store: each method is one verb, with what a test does not care about filled in."""

    def __init__(
        self, store: Store, clock: Callable[[], float], policy: Policy = POLICY, subject: bytes = b"s" * 16
    ) -> None:
        self.store = store
        self.clock = clock
        self.policy = policy
        self.subject = subject

    @property
    def now(self) -> int:
        return int(self.clock())

    def open(
        self,
        lane: bytes = NETWORK,
        *,
        holder: bytes = b"",
        known: bytes = b"",
        since: int | None = None,
        surge: bool = False,
    ) -> Opened:
        asking = Asking(new_id(), lane, holder, known, int(self.clock() * 1000) if since is None else since, surge)
        return self.store.open(self.subject, asking, self.policy, self.now)

    def find(self, opened: Opened, lane: bytes = NETWORK, known: bytes = b"") -> Opened:
        asking = Asking(opened.challenge_id, lane, known_lane=known, known_since=int(self.clock() * 1000))
        return self.store.find(self.subject, asking, self.policy, self.now)

    def redeem(self, opened: Opened, matches: bool, proof: bytes = b"", surge: bool = False) -> Redeemed:
        attempt = Attempt(opened.challenge_id, matches, proof or new_id()[:12], self.now + PROOF_LIFE, surge)
        return self.store.redeem(self.subject, attempt, self.policy, self.now)

    def right(self, opened: Opened, proof: bytes = b"") -> Redemption:
        return self.redeem(opened, True, proof).outcome

    def wrong(self, opened: Opened, times: int = 1) -> list[Redemption]:
        return [self.redeem(opened, False).outcome for _ in range(times)]

    def discard(self, opened: Opened) -> None:
        self.store.discard(self.subject, opened, self.now)

    def drop(self, opened: Opened) -> None:
        self.store.drop(self.subject, opened.challenge_id, self.now)

    def prove(self, proof: bytes, lane: bytes = NETWORK) -> None:
        """Have ``proof`` recorded."""
        assert self.right(self.open(lane), proof) is MATCH

    def holds(self, proof: bytes) -> bool:
        return self.store.holds(self.subject, proof, self.now)

    def spend(self, proof: bytes) -> bool:
        return self.store.spend(self.subject, proof, self.now)

    def revoke(self) -> None:
        self.store.revoke(self.subject, int(self.clock() * 1000))

    def lose_the_budget(self, known: bytes = b"") -> None:
        """Fail 20 times, in four challenges, each from a network of its own or all from a known browser."""
        for turn in range(4):
            opened = self.open(b"spender%d" % turn, known=known)
            assert self.wrong(opened, 5) == [WRONG] * 5
            if known:
                self.clock.advance(self.policy.cooldown)  # type: ignore[attr-defined]


@pytest.fixture
def ann(store: Store, clock: Clock) -> Person:
    return Person(store, clock)


@pytest.fixture
def strict(store: Store, clock: Clock) -> Person:
    """The same subject under ``OTP_ON_BUDGET = "refuse"``."""
    return Person(store, clock, REFUSE)


# Opening: cooldown and counts of a lane


def test_opening_counts_a_message_and_gives_a_short_fresh_challenge(ann: Person) -> None:
    opened = ann.open()
    ends = (ann.now + HOUR, ann.now + 24 * HOUR)
    assert opened == Opened(
        SEND,
        opened.challenge_id,
        strong=False,
        fresh=True,
        expires_at=ann.now + 300,
        ready_at=ann.now + 30,
        lane=NETWORK,
        lane_ends=ends,
        subject_ends=ends,
    )
    assert len(opened.challenge_id) == 16


@pytest.mark.parametrize(("after", "outcome", "retry_after"), [(0, WAIT, 30), (29, WAIT, 1), (30, SEND, 0)])
def test_r15_the_cooldown_of_a_lane_ends_on_its_second(
    ann: Person, clock: Clock, after: int, outcome: Opening, retry_after: int
) -> None:
    ann.open()
    clock.advance(after)
    opened = ann.open()
    assert (opened.outcome, opened.retry_after) == (outcome, retry_after)


def test_r11_a_stranger_on_another_network_does_not_delay_the_owner(ann: Person) -> None:
    ann.open(b"stranger")
    assert ann.open(b"owner").outcome is SEND


def test_waiting_counts_nothing_and_does_not_prolong_the_wait(ann: Person, clock: Clock) -> None:
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


def fill_lane(ann: Person, clock: Clock, **options: Any) -> None:
    """Five messages on one lane, one at each cooldown, and the sixth refused at once."""
    for _ in range(5):
        assert ann.open(**options).outcome is SEND
        clock.advance(30)
    assert ann.open(**options).outcome is WAIT


@pytest.mark.parametrize(("after", "outcome", "retry_after"), [(3599, WAIT, 1), (3600, SEND, 0)])
def test_r15_a_lane_has_five_messages_in_an_hour_from_the_first(
    ann: Person, clock: Clock, after: int, outcome: Opening, retry_after: int
) -> None:
    fill_lane(ann, clock)
    assert ann.open().retry_after == HOUR - 150
    clock.advance(after - 150)
    opened = ann.open()
    assert (opened.outcome, opened.retry_after) == (outcome, retry_after)


@pytest.mark.parametrize(("after", "outcome", "retry_after"), [(DAY - 1, WAIT, 1), (DAY, SEND, 0)])
def test_r15_a_lane_has_ten_messages_in_a_day_from_the_first(
    ann: Person, clock: Clock, after: int, outcome: Opening, retry_after: int
) -> None:
    start = ann.now
    fill_lane(ann, clock)
    clock.now = start + HOUR
    fill_lane(ann, clock)
    clock.now = start + 2 * HOUR
    assert ann.open().retry_after == DAY - 2 * HOUR
    clock.now = start + after
    opened = ann.open()
    assert (opened.outcome, opened.retry_after) == (outcome, retry_after)


def test_a_full_lane_leaves_the_other_lanes_alone(ann: Person, clock: Clock) -> None:
    fill_lane(ann, clock)
    assert ann.open(b"another").outcome is SEND


def test_subjects_share_no_counts(ann: Person, store: Store, clock: Clock) -> None:
    fill_lane(ann, clock)
    assert Person(store, clock, subject=b"t" * 16).open().outcome is SEND


# Opening: the recipient's limit, over all lanes


def fill_recipient(ann: Person) -> None:
    for number in range(20):
        assert ann.open(b"lane%d" % number).outcome is SEND
    assert ann.open(b"lane20").outcome is WAIT


@pytest.mark.parametrize(("after", "outcome", "retry_after"), [(0, WAIT, 3600), (3599, WAIT, 1), (3600, SEND, 0)])
def test_r15_a_recipient_has_twenty_messages_in_an_hour_over_all_lanes(
    ann: Person, clock: Clock, after: int, outcome: Opening, retry_after: int
) -> None:
    fill_recipient(ann)
    clock.advance(after)
    opened = ann.open(b"fresh")
    assert (opened.outcome, opened.retry_after) == (outcome, retry_after)


@pytest.mark.parametrize(("after", "outcome", "retry_after"), [(DAY - 1, WAIT, 1), (DAY, SEND, 0)])
def test_r15_a_recipient_has_fifty_messages_in_a_day_over_all_lanes(
    ann: Person, clock: Clock, after: int, outcome: Opening, retry_after: int
) -> None:
    start = ann.now
    for number in range(50):
        if number % 20 == 0:
            clock.now = start + number // 20 * HOUR
        assert ann.open(b"lane%d" % number).outcome is SEND
    assert ann.open(b"lane50").retry_after == DAY - 2 * HOUR
    clock.now = start + after
    opened = ann.open(b"fresh")
    assert (opened.outcome, opened.retry_after) == (outcome, retry_after)


def test_the_longest_of_the_waits_is_told(ann: Person) -> None:
    fill_recipient(ann)
    assert ann.open(b"lane0").retry_after == HOUR


def test_r11_a_known_browser_is_not_stopped_by_the_recipients_limit(ann: Person) -> None:
    fill_recipient(ann)
    opened = ann.open(known=BROWSER)
    assert (opened.outcome, opened.lane, opened.known) == (SEND, BROWSER, True)


def test_a_known_browser_uses_up_neither_the_recipients_limit_nor_its_networks(ann: Person, clock: Clock) -> None:
    fill_lane(ann, clock, known=BROWSER)
    for number in range(20):
        assert ann.open(b"lane%d" % number).outcome is SEND
    assert ann.open(b"lane20").outcome is WAIT


def test_a_known_browser_has_a_cooldown_and_counts_of_its_own(ann: Person, clock: Clock) -> None:
    ann.open(NETWORK)
    assert ann.open(NETWORK, known=BROWSER).outcome is SEND
    assert ann.open(NETWORK, known=BROWSER).retry_after == 30
    assert ann.open(NETWORK, known=b"browser2").outcome is SEND
    clock.advance(30)
    for _ in range(4):
        assert ann.open(known=BROWSER).outcome is SEND
        clock.advance(30)
    assert ann.open(known=BROWSER).retry_after == HOUR - 150


# Opening again: what one holder has


def test_a_double_click_gets_the_same_challenge_and_no_message(ann: Person, clock: Clock) -> None:
    first = ann.open(holder=b"h")
    clock.advance(29)
    again = ann.open(holder=b"h")
    assert again == replace(first, outcome=QUIET, fresh=False, lane_ends=(), subject_ends=())


def test_after_the_cooldown_the_holder_gets_the_same_challenge_and_a_counted_message(ann: Person, clock: Clock) -> None:
    first = ann.open(holder=b"h")
    clock.advance(30)
    again = ann.open(holder=b"h")
    assert again == replace(first, fresh=False, ready_at=ann.now + 30)
    clock.advance(30)
    outcomes = []
    for _ in range(4):
        outcomes.append(ann.open(holder=b"h").outcome)
        clock.advance(30)
    assert outcomes == [SEND, SEND, SEND, WAIT]


def test_r14_a_repeated_open_does_not_prolong_the_challenge(ann: Person, clock: Clock) -> None:
    first = ann.open(holder=b"h")
    clock.advance(299)
    assert ann.open(holder=b"h").expires_at == first.expires_at
    clock.advance(1)
    later = ann.open(b"other", holder=b"h")
    assert later.fresh
    assert later.challenge_id != first.challenge_id


def test_r14_a_repeated_open_gives_no_attempt_back(ann: Person, clock: Clock) -> None:
    first = ann.open(holder=b"h")
    assert ann.wrong(first, 3) == [WRONG] * 3
    assert ann.open(holder=b"h").outcome is QUIET
    clock.advance(30)
    assert ann.open(holder=b"h").outcome is SEND
    assert ann.wrong(first, 3) == [WRONG, WRONG, REFUSED]


def test_a_used_up_challenge_is_not_the_holders_any_more(ann: Person) -> None:
    first = ann.open(holder=b"h")
    ann.wrong(first, 5)
    assert ann.open(holder=b"h").outcome is WAIT
    second = ann.open(b"other", holder=b"h")
    assert second.fresh
    assert second.challenge_id != first.challenge_id


@pytest.mark.parametrize("holders", [(b"h", b"i"), (b"", b""), (b"h", b"")])
def test_r11_another_holder_has_another_challenge_and_ends_none(ann: Person, holders: tuple[bytes, bytes]) -> None:
    first = ann.open(b"lane1", holder=holders[0])
    second = ann.open(b"lane2", holder=holders[1])
    assert second.fresh
    assert ann.right(first) is MATCH
    assert ann.right(second) is MATCH


def test_the_holders_own_challenge_is_no_way_round_the_send_limit(ann: Person, clock: Clock) -> None:
    ann.policy = replace(POLICY, expires_in=600)
    for _ in range(5):
        assert ann.open(holder=b"h").outcome is SEND
        clock.advance(30)
    assert ann.open(holder=b"h").outcome is WAIT


def test_of_two_live_challenges_a_holder_is_given_the_newest(store: Store, clock: Clock) -> None:
    """The older one had been outbid by a spent budget, and came back when the budget's window had passed."""
    ann = Person(store, clock, replace(POLICY, failure_budget=((2, 60),)))
    for holder in (b"h1", b"h2", b"h3", b"h4", b"h5", b"h6"):
        older = ann.open(b"lane1", holder=holder)
        assert ann.wrong(ann.open(b"lane2"), 2) == [WRONG] * 2
        clock.advance(30)
        newer = ann.open(b"lane3", holder=holder)
        assert (older.strong, newer.strong, newer.fresh) == (False, True, True)
        clock.advance(30)
        assert ann.open(b"lane4", holder=holder).challenge_id == newer.challenge_id
        clock.advance(DAY)


# Finding: a resend by handle


def test_a_resend_keeps_the_challenge_and_counts_a_message(ann: Person, clock: Clock) -> None:
    first = ann.open()
    clock.advance(30)
    assert ann.find(first) == replace(first, fresh=False, ready_at=ann.now + 30)
    for expected in (SEND, SEND, SEND, WAIT):
        clock.advance(30)
        assert ann.find(first).outcome is expected


@pytest.mark.parametrize(("after", "outcome"), [(0, WAIT), (29, WAIT), (30, SEND), (299, SEND), (300, GONE)])
def test_a_resend_waits_for_the_cooldown_and_ends_with_the_challenge(
    ann: Person, clock: Clock, after: int, outcome: Opening
) -> None:
    first = ann.open(holder=b"h")
    clock.advance(after)
    assert ann.find(first).outcome is outcome


def test_r14_a_resend_gives_no_attempt_back(ann: Person, clock: Clock) -> None:
    first = ann.open()
    ann.wrong(first, 4)
    clock.advance(30)
    assert ann.find(first).outcome is SEND
    assert ann.wrong(first, 2) == [WRONG, REFUSED]
    assert ann.right(first) is REFUSED


def test_a_resend_of_what_is_not_there_is_gone_and_costs_nothing(ann: Person, clock: Clock) -> None:
    nothing = Opened(SEND, new_id())
    assert ann.find(nothing) == Opened(GONE)
    opened = ann.open()
    assert opened.outcome is SEND
    clock.advance(30)
    assert ann.find(nothing) == Opened(GONE)
    assert ann.open().outcome is SEND


@pytest.mark.parametrize("end", ["right", "wrong", "drop", "revoke", "discard"])
def test_a_resend_of_an_ended_challenge_is_gone(ann: Person, clock: Clock, end: str) -> None:
    opened = ann.open()
    {
        "right": lambda: ann.right(opened),
        "wrong": lambda: ann.wrong(opened, 5),
        "drop": lambda: ann.drop(opened),
        "revoke": ann.revoke,
        "discard": lambda: ann.discard(opened),
    }[end]()
    clock.advance(30)
    assert ann.find(opened) == Opened(GONE)


def test_a_resend_is_counted_on_the_lane_that_asks(ann: Person) -> None:
    first = ann.open(b"lane1")
    assert ann.find(first, b"lane2").lane == b"lane2"
    assert ann.find(first, b"lane2").outcome is WAIT
    assert ann.find(first, known=BROWSER).lane == BROWSER


def test_resends_stop_at_the_recipients_limit(ann: Person) -> None:
    first = ann.open(b"lane0")
    for number in range(1, 20):
        assert ann.find(first, b"lane%d" % number).outcome is SEND
    assert ann.find(first, b"lane20").retry_after == HOUR


# Redeeming


def test_the_right_code_passes_and_its_proof_is_recorded(ann: Person) -> None:
    opened = ann.open()
    assert not ann.holds(b"proof")
    assert ann.redeem(opened, True, b"proof") == Redeemed(MATCH)
    assert ann.holds(b"proof")


def test_r05_a_code_passes_once(ann: Person) -> None:
    opened = ann.open()
    assert ann.right(opened) is MATCH
    assert ann.right(opened, b"second") is REFUSED
    assert not ann.holds(b"second")


def test_a_wrong_code_records_no_proof(ann: Person) -> None:
    opened = ann.open()
    assert ann.redeem(opened, False, b"proof") == Redeemed(WRONG)
    assert not ann.holds(b"proof")


def test_wrong_codes_within_the_limit_leave_the_right_one_good(ann: Person) -> None:
    opened = ann.open()
    assert ann.wrong(opened, 4) == [WRONG] * 4
    assert ann.right(opened) is MATCH


@pytest.mark.parametrize("attempts", [1, 5, 10])
def test_r07_the_right_code_is_refused_once_the_attempts_are_used_up(store: Store, clock: Clock, attempts: int) -> None:
    ann = Person(store, clock, replace(POLICY, max_attempts=attempts))
    opened = ann.open()
    assert ann.wrong(opened, attempts + 2) == [WRONG] * attempts + [REFUSED] * 2
    assert ann.right(opened, b"proof") is REFUSED
    assert not ann.holds(b"proof")


@pytest.mark.parametrize(("after", "outcome"), [(0, MATCH), (299, MATCH), (300, REFUSED), (301, REFUSED)])
def test_r03_a_code_lives_until_its_expiry_exclusive(
    ann: Person, clock: Clock, after: int, outcome: Redemption
) -> None:
    opened = ann.open()
    clock.advance(after)
    assert ann.right(opened, b"proof") is outcome
    assert ann.holds(b"proof") is (outcome is MATCH)


def test_r03_a_wrong_code_after_the_expiry_is_not_compared(ann: Person, clock: Clock) -> None:
    opened = ann.open()
    clock.advance(300)
    assert ann.wrong(opened) == [REFUSED]


def test_an_unknown_challenge_is_refused(ann: Person) -> None:
    assert ann.right(Opened(SEND, new_id())) is REFUSED
    ann.open()
    assert ann.right(Opened(SEND, new_id())) is REFUSED


def test_r12_a_challenge_is_worth_nothing_for_another_subject(ann: Person, store: Store, clock: Clock) -> None:
    opened = ann.open()
    assert Person(store, clock, subject=b"t" * 16).right(opened) is REFUSED
    assert ann.right(opened) is MATCH


def test_challenges_of_one_subject_have_attempts_of_their_own(ann: Person) -> None:
    first, second = ann.open(b"lane1"), ann.open(b"lane2")
    ann.wrong(first, 5)
    assert ann.right(second) is MATCH


def test_what_names_anything_may_be_any_bytes(store: Store, clock: Clock) -> None:
    names = [b"1", b"2", b"-1", b"1.5", b"\0", b"\xff\xfe", b"%s", bytes(range(256))]
    ann = Person(store, clock)
    for name in names:
        opened = store.open(ann.subject, Asking(name, name, name), POLICY, ann.now)
        assert (opened.outcome, opened.challenge_id, opened.lane) == (SEND, name, name)
    for name in names:
        assert ann.right(Opened(SEND, name), name) is MATCH
    assert all(ann.holds(name) for name in names)
    assert all(ann.spend(name) for name in names)


# The failure budget


def test_r08_failures_count_over_challenges_and_the_last_one_says_so(ann: Person) -> None:
    spent = []
    for number in range(4):
        opened = ann.open(b"lane%d" % number)
        spent += [ann.redeem(opened, False).budget_spent for _ in range(5)]
    assert spent == [False] * 19 + [True]


def test_r11_a_spent_budget_makes_the_next_code_strong_and_refuses_nobody(ann: Person) -> None:
    ann.lose_the_budget()
    opened = ann.open()
    assert (opened.outcome, opened.strong, opened.fresh) == (SEND, True, True)
    assert ann.right(opened) is MATCH


def test_r08_short_codes_that_are_open_when_the_budget_is_spent_are_refused(ann: Person) -> None:
    opened = ann.open(b"owner", holder=b"h")
    ann.lose_the_budget()
    assert ann.wrong(opened) == [REFUSED]
    assert ann.right(opened, b"proof") is REFUSED
    assert not ann.holds(b"proof")


def test_a_short_code_cannot_be_sent_again_when_the_budget_is_spent(ann: Person, clock: Clock) -> None:
    opened = ann.open(b"owner", holder=b"h")
    ann.lose_the_budget()
    clock.advance(30)
    assert ann.find(opened, b"owner") == Opened(GONE)
    instead = ann.open(b"owner", holder=b"h")
    assert (instead.strong, instead.fresh) == (True, True)


def test_r08_no_more_than_the_budget_is_compared_whatever_is_opened(ann: Person, clock: Clock) -> None:
    compared = 0
    for day in range(29):
        for number in range(8):
            opened = ann.open(b"%d/%d" % (day, number))
            if not opened.strong:
                compared += ann.wrong(opened, 6).count(WRONG)
        clock.advance(DAY)
    assert compared == 20


def test_r08_a_resend_gives_nothing_of_the_budget_back(store: Store, clock: Clock) -> None:
    ann = Person(store, clock, replace(POLICY, max_attempts=10, failure_budget=((6, MONTH),)))
    opened = ann.open()
    assert ann.wrong(opened, 4) == [WRONG] * 4
    clock.advance(30)
    assert ann.find(opened).outcome is SEND
    assert ann.wrong(opened, 4) == [WRONG, WRONG, REFUSED, REFUSED]


def test_r10_success_does_not_clear_the_budget(ann: Person) -> None:
    for number in range(4):
        opened = ann.open(b"lane%d" % number)
        assert ann.wrong(opened, 4) == [WRONG] * 4
        assert ann.right(opened) is MATCH
    assert ann.wrong(ann.open(b"lane4"), 5) == [WRONG] * 4 + [REFUSED]
    assert ann.open(b"lane5").strong


@pytest.mark.parametrize(("after", "strong"), [(MONTH - 1, True), (MONTH, False)])
def test_r08_the_budget_comes_back_a_window_after_the_first_failure(
    ann: Person, clock: Clock, after: int, strong: bool
) -> None:
    start = ann.now
    ann.wrong(ann.open(b"first"), 1)
    clock.advance(20 * DAY)
    for number in range(4):
        ann.wrong(ann.open(b"lane%d" % number), 5)
    clock.now = start + after
    assert ann.open().strong is strong


def test_every_rate_of_a_budget_holds(store: Store, clock: Clock) -> None:
    ann = Person(store, clock, replace(POLICY, failure_budget=((3, HOUR), (5, DAY))))
    assert ann.wrong(ann.open(), 5) == [WRONG] * 3 + [REFUSED] * 2
    assert ann.open(b"lane1").strong
    clock.advance(HOUR)
    assert ann.wrong(ann.open(b"lane2"), 5) == [WRONG] * 2 + [REFUSED] * 3
    clock.advance(HOUR)
    assert ann.open(b"lane3").strong
    clock.advance(DAY - 2 * HOUR)
    assert not ann.open(b"lane4").strong


def test_r07_a_strong_code_has_its_attempts_counted_too(ann: Person) -> None:
    ann.lose_the_budget()
    opened = ann.open()
    assert ann.wrong(opened, 6) == [WRONG] * 5 + [REFUSED]
    assert ann.right(opened) is REFUSED


def test_failures_on_a_strong_code_do_not_report_the_budget_spent_again(ann: Person) -> None:
    ann.lose_the_budget()
    opened = ann.open()
    assert [ann.redeem(opened, False) for _ in range(2)] == [Redeemed(WRONG, False)] * 2


def test_a_strong_challenge_that_is_open_stays_strong_and_is_kept(ann: Person, clock: Clock) -> None:
    ann.lose_the_budget()
    first = ann.open(holder=b"h")
    clock.advance(30)
    assert ann.open(holder=b"h") == replace(first, fresh=False, ready_at=ann.now + 30)
    clock.advance(30)
    assert ann.find(first).strong


def test_a_right_code_costs_nothing_of_the_budget(store: Store, clock: Clock) -> None:
    ann = Person(store, clock, replace(NO_LIMITS, failure_budget=((1, MONTH),)))
    for _ in range(30):
        opened = ann.open()
        assert not opened.strong
        assert ann.right(opened) is MATCH


# Refusing where the budget is spent


def test_r09_a_strict_site_refuses_until_the_window_has_passed(strict: Person, clock: Clock) -> None:
    start = strict.now
    strict.lose_the_budget()
    assert strict.open() == Opened(WAIT, retry_after=MONTH)
    clock.now = start + MONTH - 1
    assert strict.open() == Opened(WAIT, retry_after=1)
    clock.now = start + MONTH
    opened = strict.open()
    assert (opened.outcome, opened.strong) == (SEND, False)


def test_r09_a_strict_site_refuses_the_short_codes_already_open(strict: Person) -> None:
    opened = strict.open(b"owner")
    strict.lose_the_budget()
    assert strict.right(opened) is REFUSED
    assert strict.find(opened, b"owner") == Opened(GONE)


def test_r11_a_strict_site_does_not_lock_a_known_browser_out(strict: Person) -> None:
    strict.lose_the_budget()
    opened = strict.open(known=BROWSER)
    assert (opened.outcome, opened.strong) == (SEND, False)
    assert strict.right(opened) is MATCH


def test_r09_a_strict_site_refuses_a_known_browser_that_spent_its_own_budget(strict: Person) -> None:
    strict.lose_the_budget(known=BROWSER)
    assert strict.open(known=BROWSER).outcome is WAIT
    assert strict.open().outcome is SEND


# Known browsers and surges


def test_r11_strangers_do_not_spend_a_known_browsers_budget(ann: Person) -> None:
    before = ann.open(b"lane", known=b"browser2")
    ann.lose_the_budget()
    opened = ann.open(known=BROWSER)
    assert not opened.strong
    assert ann.right(opened) is MATCH
    assert ann.right(before) is MATCH


def test_r11_a_known_browser_spends_only_its_own_budget(ann: Person) -> None:
    ann.lose_the_budget(known=BROWSER)
    assert ann.open(known=BROWSER).strong
    assert not ann.open(known=b"browser2").strong
    assert not ann.open().strong


def test_r08_a_known_browsers_budget_holds_over_its_challenges(ann: Person, clock: Clock) -> None:
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
def test_r11_a_surge_makes_new_codes_strong_except_for_known_browsers(ann: Person, known: bytes, strong: bool) -> None:
    opened = ann.open(known=known, surge=True)
    assert (opened.outcome, opened.strong) == (SEND, strong)
    assert ann.right(opened) is MATCH


def test_in_a_surge_the_short_codes_of_strangers_that_are_open_are_refused(ann: Person, clock: Clock) -> None:
    """Else an attacker would open many first, and guess them all in one burst."""
    first, known = ann.open(holder=b"h"), ann.open(known=BROWSER)
    assert ann.redeem(first, True, surge=True).outcome is REFUSED
    assert ann.redeem(known, True, surge=True).outcome is MATCH
    clock.advance(30)
    again = ann.open(holder=b"h", surge=True)
    assert (again.fresh, again.strong) == (True, True)
    assert ann.redeem(again, True, surge=True).outcome is MATCH
    assert ann.right(first) is MATCH


def test_a_match_names_the_known_lane_that_the_code_was_asked_from(ann: Person) -> None:
    assert ann.redeem(ann.open(), True).lane == b""
    opened = ann.open(known=BROWSER)
    assert ann.redeem(opened, True).lane == opened.lane != b""


def test_r08_a_subject_has_a_few_known_lanes_and_further_ones_count_as_strangers(ann: Person) -> None:
    lanes = [b"browser%d" % number for number in range(KNOWN_LANES + 2)]
    assert [ann.open(known=lane).known for lane in lanes] == [True] * KNOWN_LANES + [False, False]


def test_a_strict_site_does_not_refuse_in_a_surge(strict: Person) -> None:
    opened = strict.open(surge=True)
    assert (opened.outcome, opened.strong) == (SEND, True)


# Discarding what could not be delivered


def test_a_discarded_fresh_challenge_is_gone(ann: Person) -> None:
    opened = ann.open()
    ann.discard(opened)
    assert ann.right(opened) is REFUSED


def test_a_discarded_resend_leaves_its_challenge(ann: Person, clock: Clock) -> None:
    opened = ann.open()
    clock.advance(30)
    ann.discard(ann.find(opened))
    assert ann.right(opened) is MATCH


def test_a_discarded_challenge_leaves_the_others(ann: Person) -> None:
    first, second = ann.open(b"lane1"), ann.open(b"lane2")
    ann.discard(second)
    assert ann.right(first) is MATCH


def test_discarding_does_not_give_the_cooldown_back(ann: Person, clock: Clock) -> None:
    ann.discard(ann.open())
    assert ann.open() == Opened(WAIT, retry_after=30)
    clock.advance(29)
    assert ann.open() == Opened(WAIT, retry_after=1)


@pytest.mark.parametrize("known", [b"", BROWSER])
def test_discarding_gives_the_count_of_the_lane_back(ann: Person, clock: Clock, known: bytes) -> None:
    for _ in range(20):
        opened = ann.open(known=known)
        assert opened.outcome is SEND
        ann.discard(opened)
        clock.advance(30)
    fill_lane(ann, clock, known=known)


def test_discarding_gives_the_count_of_the_recipient_back(ann: Person) -> None:
    for number in range(30):
        opened = ann.open(b"failed%d" % number)
        assert opened.outcome is SEND
        ann.discard(opened)
    fill_recipient(ann)


def test_discarding_a_known_browsers_message_gives_nothing_to_strangers(ann: Person) -> None:
    fill_recipient(ann)
    ann.discard(ann.open(known=BROWSER))
    assert ann.open(b"fresh").outcome is WAIT


def test_discarding_one_resend_gives_one_count_back(ann: Person, clock: Clock) -> None:
    first = ann.open()
    for _ in range(4):
        clock.advance(30)
        last = ann.find(first)
    clock.advance(30)
    ann.discard(last)
    assert ann.find(first).outcome is SEND
    clock.advance(30)
    assert ann.find(first).outcome is WAIT


def test_discarding_after_the_window_has_passed_gives_nothing(ann: Person, clock: Clock) -> None:
    start = ann.now
    opened = ann.open()
    clock.now = start + DAY
    ann.discard(opened)
    fill_lane(ann, clock)


def test_discarding_twice_never_makes_room_for_more_than_the_limit(ann: Person, clock: Clock) -> None:
    opened = ann.open()
    for _ in range(3):
        ann.discard(opened)
    clock.advance(30)
    fill_lane(ann, clock)


def test_a_late_discard_gives_no_message_of_a_later_window_back(ann: Person, clock: Clock) -> None:
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


# Dropping


def test_a_dropped_challenge_is_refused_and_gives_nothing_back(ann: Person, clock: Clock) -> None:
    for _ in range(5):
        opened = ann.open()
        assert opened.outcome is SEND
        ann.drop(opened)
        assert ann.right(opened) is REFUSED
        clock.advance(30)
    assert ann.open().outcome is WAIT


def test_dropping_leaves_the_other_challenges_and_the_failures(ann: Person) -> None:
    first, second = ann.open(b"lane1"), ann.open(b"lane2")
    ann.wrong(second, 5)
    ann.drop(second)
    assert ann.wrong(first, 5) == [WRONG] * 5
    for number in range(2):
        ann.wrong(ann.open(b"more%d" % number), 5)
    assert ann.open(b"lane3").strong


def test_dropping_what_is_not_there_does_nothing(ann: Person) -> None:
    ann.drop(Opened(SEND, new_id()))
    opened = ann.open()
    ann.drop(Opened(SEND, new_id()))
    assert ann.right(opened) is MATCH


# Proofs


@pytest.mark.parametrize(("after", "holds"), [(0, True), (PROOF_LIFE - 1, True), (PROOF_LIFE, False)])
def test_r25_a_proof_holds_until_its_expiry_exclusive(ann: Person, clock: Clock, after: int, holds: bool) -> None:
    ann.prove(b"proof")
    clock.advance(after)
    assert ann.holds(b"proof") is holds
    assert ann.spend(b"proof") is holds


def test_a_proof_outlives_later_openings(ann: Person, clock: Clock) -> None:
    ann.prove(b"proof")
    clock.advance(HOUR)
    ann.prove(b"later")
    clock.advance(HOUR)
    ann.open()
    assert ann.holds(b"proof")
    assert ann.holds(b"later")


def test_r25_a_spent_proof_is_over_and_is_spent_by_one_caller(ann: Person) -> None:
    ann.prove(b"proof")
    assert ann.spend(b"proof") is True
    assert ann.spend(b"proof") is False
    assert not ann.holds(b"proof")


def test_spending_one_proof_leaves_the_others(ann: Person) -> None:
    ann.prove(b"proof1", b"lane1")
    ann.prove(b"proof2", b"lane2")
    assert ann.spend(b"proof1")
    assert ann.holds(b"proof2")


def test_r26_a_proof_of_one_subject_is_none_of_another(ann: Person, store: Store, clock: Clock) -> None:
    bob = Person(store, clock, subject=b"t" * 16)
    ann.prove(b"proof")
    assert not bob.holds(b"proof")
    assert not bob.spend(b"proof")
    assert ann.holds(b"proof")


# Revoking


def test_r25_revoking_ends_proofs_and_challenges(ann: Person) -> None:
    ann.prove(b"proof1", b"lane1")
    ann.prove(b"proof2", b"lane2")
    opened = ann.open(b"lane3")
    ann.revoke()
    assert not ann.holds(b"proof1")
    assert not ann.spend(b"proof2")
    assert ann.right(opened) is REFUSED


def test_revoking_touches_no_other_subject(ann: Person, store: Store, clock: Clock) -> None:
    bob = Person(store, clock, subject=b"t" * 16)
    bob.prove(b"proof")
    opened = bob.open(b"lane2")
    ann.revoke()
    assert bob.holds(b"proof")
    assert bob.right(opened) is MATCH


def test_a_sign_in_after_a_revocation_within_the_same_second_counts(ann: Person) -> None:
    ann.revoke()
    ann.prove(b"proof")
    assert ann.holds(b"proof")


@pytest.mark.parametrize(("since", "known"), [(-1000, False), (-1, False), (0, False), (1, True), (1000, True)])
def test_r25_a_revocation_makes_browsers_strangers_that_were_known_before_it_by_the_millisecond(
    ann: Person, clock: Clock, since: int, known: bool
) -> None:
    clock.now += 0.5
    ann.revoke()
    opened = ann.open(known=BROWSER, since=int(clock.now * 1000) + since)
    assert (opened.known, opened.lane) == (known, BROWSER if known else NETWORK)


def test_a_revoked_browser_is_a_stranger_in_every_way(ann: Person, clock: Clock) -> None:
    since = int(clock.now * 1000)
    clock.advance(1)
    ann.revoke()
    assert ann.open(known=BROWSER, since=since, surge=True).strong
    assert ann.open(known=BROWSER, since=since).outcome is WAIT
    for number in range(19):
        assert ann.open(b"lane%d" % number, known=BROWSER, since=since).outcome is SEND
    assert ann.open(b"fresh", known=BROWSER, since=since).outcome is WAIT


def test_an_older_revocation_does_not_undo_a_newer_one(ann: Person, store: Store, clock: Clock) -> None:
    at = int(clock.now * 1000)
    store.revoke(ann.subject, at)
    store.revoke(ann.subject, at - 5000)
    assert not ann.open(known=BROWSER, since=at).known


def test_a_revocation_is_remembered_as_long_as_a_browser_stays_known(ann: Person, clock: Clock) -> None:
    since = int(clock.now * 1000)
    ann.revoke()
    for _ in range(3):
        clock.advance(60 * DAY - 1)
        assert not ann.open(known=BROWSER, since=since).known


def test_r10_revoking_leaves_every_count_as_it_was(ann: Person, clock: Clock) -> None:
    ann.lose_the_budget()
    ann.open(NETWORK)
    ann.revoke()
    assert ann.open(NETWORK).outcome is WAIT
    for number in range(15):
        opened = ann.open(b"lane%d" % number)
        assert (opened.outcome, opened.strong) == (SEND, True)
    assert ann.open(b"fresh").outcome is WAIT


def test_r08_a_known_browsers_failures_outlive_a_revocation(ann: Person, clock: Clock) -> None:
    ann.lose_the_budget(known=BROWSER)
    ann.revoke()
    clock.advance(1)
    assert ann.open(known=BROWSER).strong


# What a subject's state may cost


def test_state_stays_small_however_many_networks_get_no_message(ann: Person, store: Store, clock: Clock) -> None:
    """A failed delivery gives its count back, so the recipient's limit does not bound the number of lanes."""
    for number in range(200):
        opened = ann.open(number.to_bytes(8, "big"))
        assert opened.outcome is SEND
        ann.discard(opened)
        clock.advance(1)
    assert size_of(store) < 4000


def size_of(store: Store) -> int:
    if isinstance(store, MemoryStore):
        return sum(len(packed) for table in store._tables.values() for packed in table.values())
    return sum(store.client.memory_usage(key) for key in store.client.scan_iter())  # type: ignore[attr-defined]


# Both stores, step by step the same


class Walk:
    """A seeded random walk: the same questions to each of the stores, whose answers must be equal."""

    SUBJECTS = (b"s" * 16, b"t" * 16)
    NAMES = (b"1", b"2", b"lane3")

    def __init__(self, seed: int, policies: tuple[Policy, ...]) -> None:
        self.random = random.Random(seed)
        self.policies = policies
        self.now_ms = 1_790_000_000_000
        self.ids = itertools.count(seed * 1_000_000)
        #: What was named last: subject and challenge, subject and answer, subject and proof.
        self.challenges = [(b"s" * 16, b"unknown")]
        self.opened = [(b"s" * 16, Opened(SEND, b"unknown"))]
        self.proofs = [(b"s" * 16, b"unknown")]
        self.seen: Counter[str] = Counter()

    def steps(self, number: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for _ in range(number):
            self.now_ms += self.random.choice((0, 0, 0, 1, 900, 1000, 5000, 29_000, 30_000, 60_000))
            if self.random.random() < 0.01:
                self.now_ms += self.random.choice((HOUR, DAY, 3 * DAY)) * 1000
            verb = self.random.choices(
                ("open", "find", "redeem", "discard", "drop", "holds", "spend", "revoke"),
                (30, 10, 40, 8, 2, 6, 4, 0.5),
            )[0]
            yield verb, getattr(self, verb)()

    def open(self) -> tuple[Any, ...]:
        return self._asking(self.random.choice(self.SUBJECTS), b"%016d" % next(self.ids))

    def find(self) -> tuple[Any, ...]:
        return self._asking(*self._one_of(self.challenges))

    def _asking(self, subject: bytes, challenge_id: bytes) -> tuple[Any, ...]:
        pick = self.random.choice
        asking = Asking(
            challenge_id,
            lane=pick(self.NAMES),
            holder=pick((b"", b"h1", b"h2", b"h3")),
            known_lane=pick((b"", b"", b"", b"known1", b"1")),
            known_since=self.now_ms - pick((0, 1, 1000, HOUR * 1000, 10 * DAY * 1000)),
            surge=self.random.random() < 0.1,
        )
        return subject, asking, pick(self.policies), self.now_ms // 1000

    def redeem(self) -> tuple[Any, ...]:
        subject, challenge_id = self._one_of(self.challenges)
        proof_id = b"%012d" % next(self.ids)
        now = self.now_ms // 1000
        matches = self.random.random() < 0.2
        life = self.random.choice((10, HOUR, DAY))
        attempt = Attempt(challenge_id, matches, proof_id, now + life, self.random.random() < 0.1)
        return subject, attempt, self.random.choice(self.policies), now

    def discard(self) -> tuple[Any, ...]:
        return (*self._one_of(self.opened), self.now_ms // 1000)

    def drop(self) -> tuple[Any, ...]:
        return (*self._one_of(self.challenges), self.now_ms // 1000)

    def holds(self) -> tuple[Any, ...]:
        return (*self._one_of(self.proofs), self.now_ms // 1000)

    spend = holds

    def revoke(self) -> tuple[Any, ...]:
        return self.random.choice(self.SUBJECTS), self.now_ms

    def _one_of(self, named: list[tuple[bytes, Any]]) -> tuple[bytes, Any]:
        """One of the last few, now and then with the other subject."""
        subject, thing = self.random.choice(named[-6:])
        return self.random.choice(self.SUBJECTS) if self.random.random() < 0.05 else subject, thing

    def note(self, verb: str, args: tuple[Any, ...], answer: object) -> None:
        if isinstance(answer, Opened):
            self.seen[f"{verb} {answer.outcome.name}"] += 1
            self.seen[f"strong {answer.strong}, known {answer.known}"] += 1
            if answer.outcome is SEND:
                self.opened.append((args[0], answer))
            if answer.fresh:
                self.challenges.append((args[0], answer.challenge_id))
        elif isinstance(answer, Redeemed):
            self.seen[answer.outcome.name] += 1
            self.seen["budget spent"] += answer.budget_spent
            if answer.outcome is MATCH:
                self.proofs.append((args[0], args[1].proof_id))
        elif isinstance(answer, bool):
            self.seen[f"{verb} {answer}"] += 1


TIGHT = Policy(300, 3, 30, ((5, HOUR), (10, DAY)), ((6, HOUR), (50, DAY)), ((7, 900), (20, 5 * DAY)))


@pytest.mark.parametrize("storage_uri", ["redis"], indirect=True)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "policies", [(TIGHT,), (replace(TIGHT, refuse=True),), (TIGHT, replace(TIGHT, failure_budget=()), REFUSE)]
)
def test_memory_and_redis_answer_the_same_to_the_same_steps(
    store: Store, seed: int, policies: tuple[Policy, ...]
) -> None:
    memory, walk = MemoryStore(), Walk(seed, policies)
    for number, (verb, args) in enumerate(walk.steps(1500)):
        answer = getattr(memory, verb)(*args)
        assert getattr(store, verb)(*args) == answer, f"seed {seed}, step {number}: {verb}{args}"
        walk.note(verb, args, answer)
    everything = {f"open {outcome}" for outcome in ("SEND", "QUIET", "WAIT")} | {"find SEND", "find GONE", "find WAIT"}
    everything |= {"MATCH", "WRONG", "REFUSED", "budget spent", "holds True", "holds False", "spend True"}
    assert everything <= {name for name, count in walk.seen.items() if count}, walk.seen
