"""One code at one moment from many browsers, through the whole app and on every store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from flask import Flask

from flask_otp import OTP
from flask_otp.testing import Clock
from tests.support.attack_site import Stage
from tests.support.attack_site import stage as stage
from tests.support.factor_site import ANN, Browser, Table, enrol, make_otp

THREADS = 50


@pytest.fixture
def bank(stage: Stage, clock: Clock, table: Table) -> Flask:
    """Two purposes that take the same codes, and a budget that a single charge would spend."""
    purposes = {"login": {}, "pay": {}}
    return stage.app(make_otp(clock, table), OTP_PURPOSES=purposes, OTP_FAILURE_BUDGET="1/30 days")


def passed_at_once(app: Flask, channel: str, code: str, number: int) -> int:
    """How many of so many requests pass, half of them for each purpose."""
    handles = [
        Browser(app).send(channel, identifier=ANN, purpose=purpose).json["challenge"] for purpose in ("login", "pay")
    ]
    barrier = Barrier(THREADS)

    def verify(first: int) -> list[int]:
        browser = Browser(app)
        barrier.wait(60)
        return [
            browser.verify(code, challenge=handles[turn % 2], session=False).status_code
            for turn in range(first, number, THREADS)
        ]

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = [status for answers in pool.map(verify, range(THREADS)) for status in answers]
    assert len(statuses) == number
    assert set(statuses) <= {200, 400}
    return statuses.count(200)


def codes_of(app: Flask, clock: Clock, rounds: int) -> Iterator[tuple[str, str]]:
    """As many unused codes of each kind, with their channels."""
    phone, recovery = enrol(app, clock)
    for turn in range(rounds):
        clock.advance(30)
        yield "totp", phone.code()
        if turn and turn % 10 == 0:
            with app.app_context():
                recovery = OTP().recovery.renew(ANN)
        yield "recovery", recovery[turn % 10]


def check(app: Flask, clock: Clock, rounds: int, number: int) -> None:
    for channel, code in codes_of(app, clock, rounds):
        assert passed_at_once(app, channel, code, number) == 1, (channel, code)
    # Nothing was charged: one code is still enough.
    assert [Browser(app).send(identifier=ANN, purpose=name).json["code_length"] for name in ("login", "pay")] == [6, 6]


def test_of_many_requests_with_one_code_one_passes_and_nothing_is_charged(bank: Flask, clock: Clock) -> None:
    check(bank, clock, 1, 100)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_long_run_of_two_hundred_requests_with_one_code_one_passes(bank: Flask, clock: Clock) -> None:
    check(bank, clock, 30, 200)
