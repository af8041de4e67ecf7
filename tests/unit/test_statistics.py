"""OTP_STATS: what was sent and what came back, counted beside the requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, Message, StoreUnavailable
from flask_otp.events import Event
from flask_otp.observability import statistics
from flask_otp.observability.statistics import BOUNDS, HOUR, Series
from flask_otp.support.statistics import Row, read, rows
from flask_otp.testing import Clock
from tests.support.apps import START, AppFactory, ValkeyServer


class Timers:
    """In place of threads that wait: what was to run, and after how long."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, function: Callable[[], None]) -> None:
        self.waiting.append((seconds, function))

    def run(self) -> None:
        for _, function in self.waiting:
            function()
        self.waiting.clear()


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    timers = Timers()
    monkeypatch.setattr(statistics, "_run_later", timers)
    return timers


class Shop:
    """A site that sends to mailboxes and phones, and counts."""

    def __init__(self, make_app: AppFactory, clock: Clock, **config: Any) -> None:
        self.clock, self.sent, self.is_broken = clock, list[Message](), False
        otp = OTP(clock=clock)
        otp.channel("email")(self.take)
        otp.channel("sms")(self.take)
        otp.recipient_loader(lambda who, channel: None if who.startswith("nobody") else who)
        settings = {"OTP_STATS": True, "OTP_SMS_COUNTRIES": ("DE", "FR"), "OTP_DELIVERY": "inline"}
        settings |= {"OTP_PURPOSES": {"login": {}, "pay": {}}, "OTP_IP_SEND_LIMIT": None, "OTP_PUMPING_BREAKER": None}
        self.app: Flask = make_app(otp, **(settings | config))
        self.state = self.app.extensions["otp"]

    def take(self, message: Message) -> None:
        if self.is_broken:
            raise OSError
        self.sent.append(message)

    def visit(self, who: str, seconds: int | None, purpose: str = "login", again: bool = False) -> None:
        """Ask for a code, and verify after some seconds; ``None``: never."""
        client = self.app.test_client()
        client.post("/otp/send", json={"identifier": who, "purpose": purpose})
        if again:
            self.clock.advance(30)
            client.post("/otp/resend", json={"purpose": purpose})
        if seconds is not None:
            self.clock.advance(seconds)
            answer = client.post("/otp/verify", json={"code": self.sent[-1].code, "purpose": purpose})
            assert answer.status_code == 200
        self.clock.advance(31)

    def rows(self, dimension: str) -> dict[str, Row]:
        found = read(self.state, int(self.clock()) - 24 * HOUR)
        return {row.name: row for row in rows(found, dimension)}


@pytest.fixture
def shop(make_app: AppFactory, clock: Clock, timers: Timers) -> Shop:
    return Shop(make_app, clock)


def test_it_says_what_was_sent_and_what_came_back(shop: Shop, timers: Timers) -> None:
    for number, seconds in enumerate((4, 18, 18, 40, None)):
        shop.visit(f"person{number}@example.com", seconds)
    shop.visit("again@example.com", None, again=True)
    shop.visit("nobody@example.com", None)
    shop.visit("+4915112345678", 55, purpose="pay")
    shop.visit("+33612345678", None)
    shop.is_broken = True
    shop.visit("broken@example.com", None)
    timers.run()
    email = Row("email", sent=8, delivered=7, withheld=1, codes=6, verified=4, conversion=4 / 6, median_time=17.5)
    sms = Row("sms", sent=2, delivered=2, withheld=0, codes=2, verified=1, conversion=0.5, median_time=55)
    by_channel = shop.rows("channel")
    assert (by_channel["email"], by_channel["sms"]) == (email, sms)
    every = by_channel["all"]
    assert (every.sent, every.codes, every.verified, every.conversion) == (10, 8, 5, 5 / 8)
    assert {name: row.verified for name, row in shop.rows("country").items()} == {"-": 4, "DE": 1, "FR": 0, "all": 5}
    assert {name: row.verified for name, row in shop.rows("purpose").items()} == {"login": 4, "pay": 1, "all": 5}


def test_the_median_lies_between_the_bounds_that_hold_it(shop: Shop, timers: Timers) -> None:
    for number, seconds in enumerate((0, 1, 100, 110, 290)):
        shop.visit(f"person{number}@example.com", seconds)
    timers.run()
    median = shop.rows("channel")["all"].median_time
    assert median is not None
    assert 90 < median <= 120
    assert BOUNDS[-1] == 600  # the longest life of a code


def test_each_hour_is_for_itself(shop: Shop, timers: Timers) -> None:
    shop.visit("ann@example.com", 5)
    shop.clock.advance("3h")
    shop.visit("ann@example.com", 5)
    timers.run()
    now = int(shop.clock())
    assert sum(len(read(shop.state, now - ago)) for ago in (HOUR,)) == 1
    assert len(read(shop.state, now - 4 * HOUR)) == 2
    assert shop.rows("channel")["all"].verified == 2


def test_counts_wait_in_the_process_for_ten_seconds_at_most(shop: Shop, timers: Timers) -> None:
    shop.visit("ann@example.com", 5)
    shop.visit("bob@example.com", 5)
    assert [seconds for seconds, _ in timers.waiting] == [10]
    assert "email" not in shop.rows("channel")
    timers.run()
    assert shop.rows("channel")["email"].verified == 2
    shop.visit("ann@example.com", 5)
    assert len(timers.waiting) == 1


def test_at_the_end_of_the_process_they_are_written(shop: Shop) -> None:
    shop.visit("ann@example.com", 5)
    statistics._flush_all()
    assert shop.rows("channel")["email"].verified == 1


@pytest.mark.parametrize("fails_at", range(6))
def test_what_the_storage_does_not_take_is_written_later_and_once(shop: Shop, timers: Timers, fails_at: int) -> None:
    tally, calls = shop.state.statistics._tally, iter(range(100))

    def failing(*args: Any) -> Any:
        if next(calls) == fails_at:
            raise StoreUnavailable
        return tally(*args)

    shop.state.statistics._tally = failing
    shop.visit("ann@example.com", 5)
    shop.visit("+4915112345678", 5)
    timers.run()
    shop.visit("bob@example.com", 5)
    timers.run()
    found = shop.rows("channel")
    assert (found["email"].sent, found["email"].verified, found["sms"].verified) == (2, 2, 1)


def test_without_room_for_a_thread_the_visitor_notices_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(seconds: float, function: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(statistics, "_run_later", full)
    shop.visit("ann@example.com", 5)
    shop.state.statistics.flush()
    assert shop.rows("channel")["email"].verified == 1


def test_no_name_of_a_counter_tells_of_a_person() -> None:
    assert Series(500_000, "sms", "DE", "login").key("first") == "stats/500000/sms/DE/login/first"


@pytest.mark.server
def test_a_request_makes_no_round_trip_for_it_and_the_command_reads_what_is_written(
    make_app: AppFactory, valkey: ValkeyServer, timers: Timers
) -> None:
    client = valkey.client()
    commands: list[int] = []
    for is_on in (False, True, False, True):
        shop = Shop(make_app, Clock(START), OTP_STATS=is_on, OTP_STORAGE_URI=valkey.uri)
        shop.visit("warm@example.com", 5)
        client.flushall()
        before = client.info("stats")["total_commands_processed"]
        for number in range(10):
            shop.visit(f"person{number}@example.com", 5)
        shop.visit("nobody@example.com", None)
        commands.append(client.info("stats")["total_commands_processed"] - before)
    assert len(set(commands)) == 1
    timers.run()
    output = shop.app.test_cli_runner().invoke(args=["otp", "stats", "--by", "channel"]).output
    assert output.splitlines()[0] == "since 2026-09-20 14:00:00 UTC"
    # Two of the four sites have counted. Each had ten visits, one to warm up, and one of an unknown identifier.
    columns = ["email", "22", "22", "2", "22", "22", "100.0%"]
    assert [line.split()[:7] for line in output.splitlines()[3:]] == [columns, ["all", *columns[1:]]]
    told = json.loads(shop.app.test_cli_runner().invoke(args=["otp", "stats", "--json"]).output)
    assert told.keys() == {"since", "channel", "country", "purpose"}
    assert told["purpose"][0]["verified"] == 22


@pytest.mark.parametrize(
    ("config", "args", "line"),
    [
        ({}, [], "OTP_STATS is not on"),
        ({"OTP_STATS": True}, [], "in the memory of each serving process"),
        ({"OTP_STATS": True}, ["--since", "31d"], "must be between"),
        ({"OTP_STATS": True}, ["--since", "soon"], "must be a duration"),
    ],
)
def test_what_cannot_be_read_is_said(make_app: AppFactory, config: dict[str, Any], args: list[str], line: str) -> None:
    result = make_app(**config).test_cli_runner().invoke(args=["otp", "stats", *args])
    assert result.exit_code != 0
    assert line in result.output


# What other processes, and later releases, read


def test_the_names_of_the_counters_and_the_bounds_stay(shop: Shop, timers: Timers) -> None:
    """Counts of the last thirty days are read by the release that is installed then."""
    tallied: list[tuple[str, int, int]] = []
    shop.state.statistics._tally = lambda *args: tallied.append(args)
    for number, seconds in enumerate((0, 3, 4, 299, 300)):
        shop.visit(f"person{number}@example.com", seconds if seconds < 300 else None, again=seconds == 4)
    shop.visit("nobody@example.com", None)
    shop.is_broken = True
    shop.visit("broken@example.com", None)
    timers.run()
    hour = START // HOUR
    series = f"stats/{hour}/email/-/login/"
    assert {name: count for name, count, _ in tallied} == {
        f"stats/{hour}": 1,
        series: 1,
        f"{series}first": 5,
        f"{series}repeated": 1,
        f"{series}withheld": 1,
        f"{series}failed": 1,
        f"{series}verified-3": 2,
        f"{series}verified-40": 1,
        f"{series}verified-300": 1,
    }
    assert {life for _, _, life in tallied} == {30 * 24 * HOUR}
    assert BOUNDS == (3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 90, 120, 180, 300, 600)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (Event("delivery_failed", 0, "failed"), "failed"),
        (Event("delivery_failed", 0, "dropped"), None),
        (Event("code_verified", 0, "verified"), "verified-3"),
        (Event("code_verified", 0, "verified", seconds=3.1), "verified-5"),
        (Event("code_verified", 0, "verified", seconds=600), "verified-600"),
        (Event("code_verified", 0, "verified", seconds=6000), "verified-600"),
    ],
)
def test_each_event_is_counted_as_one_kind(event: Event, kind: str | None) -> None:
    assert statistics._kind(event) == kind


def test_the_thread_that_writes_them_keeps_no_process_alive() -> None:
    done, waiting = threading.Event(), set(threading.enumerate())
    statistics._run_later(0.2, done.set)
    (thread,) = set(threading.enumerate()) - waiting
    assert thread.daemon
    assert done.wait(20)


def test_a_storage_that_breaks_breaks_nothing_else(
    shop: Shop, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    shop.state.statistics._tally = lambda *args: 1 / 0
    shop.visit("ann@example.com", 5)
    timers.run()
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("flask_otp", "statistics were not written: ZeroDivisionError")
    ]


def test_after_a_thread_that_did_not_start_the_next_event_tries_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def full(seconds: float, function: object) -> None:
        tries.append(seconds)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(statistics, "_run_later", full)
    shop.visit("ann@example.com", 5)
    assert tries == [10, 10]
