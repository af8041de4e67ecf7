"""What only the memory store has: a bound, and a sweep without a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flask_otp.errors import ConfigError, StoreUnavailable
from flask_otp.stores import OpenResult, store_from_uri
from flask_otp.stores.base import KNOWN_BROWSER_FOR
from flask_otp.stores.codec import pack, unpack
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.record import Bucket, Record
from flask_otp.stores.subject_state import waits_to_open
from flask_otp.testing import Clock
from flask_otp.testing.stores import BROWSER, DAY, GONE, HOUR, MATCH, MONTH, POLICY, REFUSE, SEND, WRONG, SubjectDriver

#: What is opened under it means something for five minutes, and no longer.
BRIEF = replace(POLICY, send_limit=(), recipient_limit=(), failure_budget=())


def person(store: MemoryStore, clock: Clock, number: int) -> SubjectDriver:
    return SubjectDriver(store, clock, BRIEF, subject=b"%016d" % number)


def fill(store: MemoryStore, clock: Clock, number: int) -> None:
    for index in range(number):
        assert person(store, clock, index).open().outcome is SEND


def size(store: MemoryStore) -> int:
    return sum(map(len, store._tables.values()))


def test_r40_a_full_store_refuses_the_next_subject_and_serves_those_it_has(clock: Clock) -> None:
    store = MemoryStore(max_subjects=50)
    opened = [person(store, clock, index).open() for index in range(50)]
    with pytest.raises(StoreUnavailable) as refused:
        person(store, clock, 50).open()
    assert refused.value.cause == ("full", "max_subjects")
    with pytest.raises(StoreUnavailable):
        person(store, clock, 51).revoke()
    assert size(store) == 50
    for index in range(50):
        assert person(store, clock, index).wrong(opened[index]) == [WRONG]
        assert person(store, clock, index).right(opened[index], b"proof") is MATCH
        assert person(store, clock, index).holds(b"proof")


def test_r40_what_has_expired_makes_room_in_a_full_store(clock: Clock) -> None:
    store = MemoryStore(max_subjects=500)
    fill(store, clock, 500)
    clock.advance(299)
    with pytest.raises(StoreUnavailable):
        person(store, clock, 1000).open()
    clock.advance(1)
    for index in range(1000, 1500):
        assert person(store, clock, index).open().outcome is SEND
    assert size(store) <= 500
    with pytest.raises(StoreUnavailable):
        person(store, clock, 2000).open()


@pytest.mark.parametrize("turn", [0, 100, 200, 300])
def test_r40_a_full_store_finds_the_expired_among_the_live_in_a_few_tries(clock: Clock, turn: int) -> None:
    """Wherever the round of the sweep stands: half of the records are live for long, in one block."""
    store = MemoryStore(max_subjects=1000)
    for index in range(500):
        person(store, clock, index).revoke()
    for index in range(500, 1000):
        person(store, clock, index).open()
    for _ in range(turn):
        person(store, clock, 0).revoke()
    clock.advance(300)
    for _ in range(1000 // 200):
        try:
            assert person(store, clock, 2000).open().outcome is SEND
        except StoreUnavailable:
            continue
        return
    pytest.fail("no room was found")


def test_r40_what_is_kept_in_a_full_store_is_found_again(clock: Clock) -> None:
    """Subjects of one first byte share a table, which goes when it is empty: not from under a newcomer."""
    store = MemoryStore(max_subjects=20)
    for turn in range(50):
        newcomer = SubjectDriver(store, clock, BRIEF, subject=b"%c" % turn * 16)
        assert newcomer.reopen(OpenResult(SEND, b"unknown")).outcome is GONE
        for index in range(20 - size(store)):
            SubjectDriver(store, clock, BRIEF, subject=b"%c%015d" % (100 + index % 3, turn * 100 + index)).open()
        clock.advance(300)
        assert newcomer.wrong(newcomer.open()) == [WRONG]


def test_r40_many_short_lives_stay_within_the_bound(clock: Clock) -> None:
    store = MemoryStore(max_subjects=1000)
    for index in range(20_000):
        assert person(store, clock, index).open().outcome is SEND
        clock.advance(1)
    assert size(store) <= 1000


def test_the_sweep_does_bounded_work_in_each_call(clock: Clock) -> None:
    store = MemoryStore(max_subjects=100_000)
    fill(store, clock, 2000)
    clock.advance(300)
    steps = []
    while size(store) > 1:
        before = size(store)
        person(store, clock, 5000).open()
        steps.append(before - size(store))
    assert max(steps) <= 5
    assert len(steps) <= 2000


def test_expired_records_vanish_while_others_are_used(clock: Clock) -> None:
    store = MemoryStore()
    fill(store, clock, 100)
    clock.advance(300)
    busy = person(store, clock, 200)
    for _ in range(60):
        busy.open()
        clock.advance(30)
    assert size(store) == 1


def test_what_still_counts_is_never_swept(clock: Clock) -> None:
    store = MemoryStore()
    ann = SubjectDriver(store, clock)
    revoked = SubjectDriver(store, clock, subject=b"revoked")
    proven = person(store, clock, 1)
    ann.wrong(ann.open(), 5)
    since = int(clock.now * 1000)
    revoked.revoke()
    proven.prove(b"proof")
    others = [person(store, clock, index) for index in range(100, 110)]

    def others_do_something() -> None:
        for other in others:
            other.open()

    clock.advance(12 * HOUR - 1)
    others_do_something()
    assert proven.holds(b"proof")
    clock.advance(MONTH - 12 * HOUR - DAY)
    others_do_something()
    for number in range(3):
        ann.wrong(ann.open(b"bucket%d" % number), 5)
    assert ann.open(b"last").strong
    clock.now = since // 1000 + KNOWN_BROWSER_FOR - 1
    others_do_something()
    assert not revoked.open(known=BROWSER, since=since).known


def test_a_question_about_nobody_leaves_nothing(clock: Clock) -> None:
    store = MemoryStore(max_subjects=10)
    for index in range(100):
        nobody = person(store, clock, index)
        assert not nobody.holds(b"proof")
        assert not nobody.spend(b"proof")
        nobody.reopen(person(store, clock, 1000).open())
    assert size(store) == 1


def test_each_verb_that_changes_something_uses_the_callers_clock(clock: Clock) -> None:
    seen: list[int] = []

    class Noting(MemoryStore):
        def change(self, subject: bytes, now: int, verb: Callable[[Record], Any]) -> Any:
            seen.append(now)
            return super().change(subject, now, verb)

    ann = SubjectDriver(Noting(), clock)
    opened = ann.open()
    ann.reopen(opened)
    ann.right(opened, b"proof")
    ann.discard(opened)
    ann.drop(opened)
    ann.spend(b"proof")
    ann.revoke()
    assert seen == [ann.now] * 7


def test_there_is_no_timer_thread(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    started, start, this = [], threading.Thread.start, threading.current_thread()

    def note_and_start(thread: threading.Thread) -> None:
        # The counters of an earlier test may still start some, in a thread of their own.
        if threading.current_thread() is this:
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note_and_start)
    store = MemoryStore(max_subjects=100)
    fill(store, clock, 100)
    clock.advance(300)
    fill(store, clock, 100)
    assert started == []


def test_two_stores_share_nothing(clock: Clock) -> None:
    first, second = SubjectDriver(MemoryStore(), clock), SubjectDriver(MemoryStore(), clock)
    first.prove(b"proof")
    assert not second.holds(b"proof")
    assert second.open().outcome is SEND


def test_the_bound_comes_from_the_options(clock: Clock) -> None:
    store = store_from_uri("memory://", "otp", {"max_subjects": 1})
    SubjectDriver(store, clock).open()
    with pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock, subject=b"another").open()


@pytest.mark.parametrize(
    ("uri", "options", "key"),
    [
        (
            "memory://",
            {"max_subjects": 0},
            "^OTP_STORAGE_OPTIONS: max_subjects must be a whole number above 0 \\(see: ",
        ),
        (
            "memory://",
            {"max_subjects": "9"},
            "^OTP_STORAGE_OPTIONS: max_subjects must be a whole number above 0 \\(see: ",
        ),
        ("memory://", {"max_subject": 9}, "^OTP_STORAGE_OPTIONS: memory:// takes only max_subjects \\(see: "),
        ("memory://there", {}, "^OTP_STORAGE_URI: for the memory store it must be 'memory://' \\(see: "),
        ("memory:", {}, "OTP_STORAGE_URI"),
        ("memcached://there", {}, "OTP_STORAGE_URI"),
        ("", {}, "OTP_STORAGE_URI"),
    ],
)
def test_a_wrong_uri_or_option_stops_the_app_and_names_the_key(uri: str, options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        store_from_uri(uri, "otp", options)


def test_a_record_from_before_there_were_marks_opens_and_one_without_is_written_as_before() -> None:
    packed = bytes.fromhex(
        "ff92fadc0693d1c1a28c340103fff8af070201efffb40702fff8af07010463636363d399b507050374616702623101026231e19bb507"
        "010101efffb4070102fff8af0701027031bfcab207"
    )
    record = unpack(packed)
    assert (record.proofs, record.marks) == ({b"p1": 1_790_043_200}, {})
    assert pack(record) == packed
    record.marks[b"step"] = 1_790_000_090
    assert unpack(pack(record)) == record
    # Nor were there channels.
    (live,) = record.challenges.values()
    assert live.channels == ()
    live.channels = (b"sms1", b"mail")
    assert unpack(pack(record)) == record


def test_each_limit_says_how_long_a_new_challenge_waits_for_it() -> None:
    """Of a known browser only its own ones."""
    now = 1_790_000_000
    policy = replace(REFUSE, send_limit=((5, HOUR),), recipient_limit=((20, HOUR),))
    network = Bucket(now + 10, [[5, now + 30]])
    own = Bucket(now + 20, [[5, now + 60]], failures=[[20, now + 70]], known=True)
    record = Record([[20, now + 50]], [[20, now + 40]], buckets={b"network": network, b"own": own})
    assert waits_to_open(record, b"network", False, policy, now) == {
        "cooldown": 10,
        "send_limit": 30,
        "recipient_limit": 40,
        "failure_budget": 50,
    }
    assert waits_to_open(record, b"own", True, policy, now) == {
        "cooldown": 20,
        "send_limit": 60,
        "recipient_limit": 0,
        "failure_budget": 70,
    }
    assert {*waits_to_open(record, b"new", True, policy, now).values()} == {0}
    assert waits_to_open(record, b"own", True, replace(policy, refuse=False), now)["failure_budget"] == 0
