"""What a guess costs, and what is left if the store, the column or a browser has forgotten something."""

from __future__ import annotations

import logging
from base64 import b32encode
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP
from flask_otp.events import pseudonym
from flask_otp.factors import recovery
from flask_otp.signals import factor_added, factor_removed, recovery_used
from flask_otp.stores.base import LEEWAY
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import AppFactory
from tests.support.factor_site import ANN, BOB, SEALED, Browser, Phone, Table, add_views, code_at, enrol, make_otp

EVIL = "203.0.113.66"


def app_with(make_app: AppFactory, clock: Clock, table: Table, **config: Any) -> Flask:
    app = make_app(make_otp(clock, table), **config)
    add_views(app, account={})
    return app


def guess(app: Flask, phone: Phone, times: int, network: str, *, pair: bool = False, identifier: str = ANN) -> Any:
    """Submit wrong codes from a browser that is not known. Returns the last answer."""
    browser = Browser(app, network=network)
    browser.send(identifier=identifier)
    for _ in range(times):
        answer = browser.verify(phone.wrong() * (2 if pair else 1))
    return answer


def length(browser: Browser, identifier: str = ANN) -> int:
    found: int = browser.send(identifier=identifier).json["code_length"]
    return found


# The network of a guess


def test_guesses_at_an_app_count_for_their_network(make_app: AppFactory, clock: Clock, table: Table) -> None:
    app = app_with(make_app, clock, table, OTP_IP_VERIFY_LIMIT="3/minute")
    phone, codes = enrol(app, clock)
    assert guess(app, phone, 3, EVIL).status_code == 400
    assert guess(app, phone, 1, EVIL).status_code == 429
    owner = Browser(app)
    owner.send("recovery", identifier=ANN)
    assert owner.verify(codes[0]).status_code == 200


@pytest.mark.parametrize(("form", "count", "surge"), [("code", 10, True), ("pair", 4, False), ("recovery", 12, False)])
def test_only_guesses_at_a_short_code_begin_a_surge(
    make_app: AppFactory, clock: Clock, table: Table, form: str, count: int, surge: bool
) -> None:
    """In a surge of one network, strangers there are asked for two codes. A browser that verified before is not."""
    app = app_with(make_app, clock, table)
    phone, _ = enrol(app, clock)
    known = Browser(app, network=EVIL)
    known.send(identifier=ANN)
    assert known.verify(phone.code()).status_code == 200
    clock.advance(30)
    stranger = Browser(app, network=EVIL)
    stranger.send("recovery" if form == "recovery" else "totp", identifier=ANN)
    wrong = {"code": phone.wrong(), "pair": phone.wrong() * 2, "recovery": "0" * 13}[form]
    for _ in range(count):
        assert stranger.verify(wrong).status_code == 400
    assert length(stranger) == (12 if surge else 6)
    assert length(known) == length(Browser(app)) == 6
    assert stranger.verify(phone.code()).status_code == (400 if surge else 200)


def test_a_wrong_pair_counts_as_a_message_from_its_network_does(
    make_app: AppFactory, clock: Clock, table: Table
) -> None:
    app = app_with(make_app, clock, table, OTP_COOLDOWN=0, OTP_SEND_LIMIT="5/hour", OTP_RECIPIENT_LIMIT="7/hour")
    phone, _ = enrol(app, clock)
    enrol(app, clock, BOB)
    assert guess(app, phone, 5, EVIL, pair=True).status_code == 400
    answer = guess(app, phone, 1, EVIL, pair=True)
    assert (answer.status_code, answer.json["retry_after"], answer.headers["Retry-After"]) == (429, 3600, "3600")
    sends = [(EVIL, ANN, 429), (EVIL, BOB, 200), ("192.0.2.9", ANN, 200), ("192.0.2.9", ANN, 200), (EVIL, BOB, 200)]
    for network, identifier, status in [*sends, ("192.0.2.10", ANN, 429)]:
        with capture_codes(app):
            assert Browser(app, network=network).send("console", identifier=identifier).status_code == status


@pytest.mark.parametrize(("behind", "digits"), [(0, 12), (LEEWAY, 12), (LEEWAY + 1, 6)])
def test_r25_a_machine_that_is_behind_makes_a_known_browser_a_stranger_too(
    make_app: AppFactory, clock: Clock, table: Table, behind: int, digits: int
) -> None:
    """Strangers are asked for two codes here, so the length tells who is one."""
    app = app_with(make_app, clock, table, OTP_FAILURE_BUDGET="1/30 days")
    phone, _ = enrol(app, clock)
    browser = Browser(app)
    browser.send(identifier=ANN)
    assert browser.verify(phone.code()).status_code == 200
    guess(app, phone, 1, EVIL)
    assert (length(browser), length(Browser(app))) == (6, 12)
    clock.now -= behind
    with app.app_context():
        OTP().revoke(ANN)
    clock.advance(behind + 120)
    assert length(browser) == digits


# What makes a code good for one use


def test_each_recovery_code_is_used_by_itself_and_renewed_ones_are_all_new(
    app: Flask, otp: OTP, clock: Clock, table: Table
) -> None:
    """On a store that forgets nothing."""
    _, codes = enrol(app, clock)
    browser = Browser(app)
    for _ in range(2):
        for code in codes:
            browser.send("recovery", identifier=ANN)
            assert browser.verify(code).status_code == 200
        assert browser.verify(codes[0]).status_code == 400
        with app.app_context():
            assert otp.factors(ANN).recovery_left == 0
            codes = otp.recovery.renew(ANN)
            assert otp.factors(ANN).recovery_left == 10


def test_the_mark_of_a_recovery_code_holds_while_a_replica_shows_the_old_column(
    app: Flask, otp: OTP, clock: Clock, table: Table
) -> None:
    _, codes = enrol(app, clock)
    old = dict(table.rows)
    browser = Browser(app)
    browser.send("recovery", identifier=ANN)
    assert browser.verify(codes[0]).status_code == 200
    otp.factors_loader(old.get)
    for seconds in (0, 86400 - 1):
        clock.advance(seconds)
        browser.send("recovery", identifier=ANN)
        assert browser.verify(codes[0]).status_code == 400


def test_the_column_holds_if_the_store_loses_the_mark_while_two_use_one_code(
    app: Flask, otp: OTP, clock: Clock, table: Table
) -> None:
    """As in a failover of Redis: both requests find the code unused, and the second one in the store too."""
    _, codes = enrol(app, clock)
    first, second = Browser(app), Browser(app)
    for browser in (first, second):
        browser.send("recovery", identifier=ANN)
    loads = iter(range(9))
    met: list[int] = []

    @otp.factors_loader
    def load(identifier: str) -> str | None:
        if next(loads) == 1:  # the first request has its mark, and is about to use the code up in the column
            app.extensions["otp"].store._tables.clear()
            otp.factors_loader(table.load)
            met.append(second.verify(codes[3]).status_code)
        return table.load(identifier)

    assert [first.verify(codes[3]).status_code, *met] == [400, 200]
    assert [first.get("/account").status_code, second.get("/account").status_code] == [401, 200]


def test_a_form_that_is_sent_again_under_another_name_adds_no_second_app(
    app: Flask, otp: OTP, clock: Clock, table: Table
) -> None:
    """Two apps of one secret would make each code good for two uses."""
    with app.app_context():
        enrolment = otp.totp.begin(ANN)
        phone = Phone(enrolment.uri, clock)
        otp.totp.confirm(enrolment.token, phone.code())
        enrol(app, clock, name="tablet")
        again = app.extensions["otp"].factors.enroller.confirm
        assert again(enrolment.token, phone.code(), name="another", identifier=ANN) == ()
        assert otp.factors(ANN).totp == ("phone", "tablet")


#: Of ANN with the key of the tests: the subject of the purpose, and that of all purposes.
SUBJECTS = ["58ce56a518862da2f2eee0829273b636", "bfcf164e47dfff8e7dc2ab33ff08f2cc"]
#: Of a pair of codes, and of a recovery code.
MARKS = [["d17f993967396478", "a29d34492df9ec06"], ["07d0236520371776"]]


def test_the_marks_of_used_codes_stay_the_same_from_release_to_release(
    make_app: AppFactory, clock: Clock, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a code could be used twice while a new release is rolled out."""
    app = app_with(make_app, clock, table, OTP_PURPOSES={"login": {}, "pay": {}})
    table.rows[ANN] = SEALED
    state, asked = app.extensions["otp"], []
    secret = b32encode(bytes(range(20))).decode()
    check = state.store.check
    monkeypatch.setattr(state.store, "check", lambda *arguments: asked.append(arguments) or check(*arguments))
    pair = code_at(secret, clock(), -1) + code_at(secret, clock())
    found = []
    for channel, code in (("totp", pair), ("recovery", recovery.codes(bytes(range(32)))[4])):
        browser = Browser(app)
        browser.send(channel, identifier=ANN)
        asked.clear()
        assert browser.verify(code).status_code == 200
        found += [(subject.hex(), [[mark.hex() for mark in use] for use in claim.uses]) for subject, claim, *_ in asked]
    assert found == [(subject, [marks]) for marks in MARKS for subject in SUBJECTS]


# Round trips


@pytest.mark.parametrize(("purposes", "calls"), [(("login",), 1), (("login", "transfer"), 2)])
def test_a_right_code_is_one_step_of_the_store_and_one_more_where_there_are_several_purposes(
    make_app: AppFactory,
    clock: Clock,
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
    purposes: tuple[str, ...],
    calls: int,
) -> None:
    app = app_with(make_app, clock, table, OTP_PURPOSES={name: {} for name in purposes})
    phone, codes = enrol(app, clock)
    store, asked = app.extensions["otp"].store, []
    check = store.check
    monkeypatch.setattr(store, "check", lambda *arguments: asked.append(arguments) or check(*arguments))
    for channel, code in (("totp", phone.code()), ("recovery", codes[0])):
        browser = Browser(app)
        browser.send(channel, identifier=ANN)
        asked.clear()
        assert browser.verify("0" * len(code.replace("-", ""))).status_code == 400
        assert len(asked) == 1
        asked.clear()
        assert browser.verify(code).status_code == 200
        assert len(asked) == calls
        browser.send(channel, identifier=ANN)
        asked.clear()
        assert browser.verify(code).status_code == 400
        assert len(asked) == 1


# What the log and the events say


def test_who_uses_a_recovery_code_is_told_in_the_log_and_by_the_event(
    app: Flask, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    _, codes = enrol(app, clock)
    caplog.set_level(logging.INFO, "flask_otp")
    events: list[Any] = []
    receiver = recovery_used.connect(lambda sender, event, **told: events.append(event), weak=False)
    browser = Browser(app)
    assert browser.send("recovery", identifier=ANN).json["destination"] == "your recovery codes"
    assert browser.verify(codes[0]).status_code == 200
    recovery_used.disconnect(receiver)
    assert "a***@example.com used a recovery code: 9 are left" in caplog.messages
    assert {record.name for record in caplog.records} == {"flask_otp"}
    subject = pseudonym(app.extensions["otp"].tokens.keys, ANN)
    [event] = events
    assert (event.outcome, event.purpose, event.channel, event.subject) == ("used", "login", "recovery", subject)


def test_who_changes_an_app_is_told_by_the_event(app: Flask, otp: OTP, clock: Clock) -> None:
    events: list[Any] = []
    receivers = [
        (signal, signal.connect(lambda sender, event, **told: events.append(event), weak=False))
        for signal in (factor_added, factor_removed)
    ]
    with app.app_context():
        enrol(app, clock)
        otp.totp.remove(ANN, "phone")
    for signal, receiver in receivers:
        signal.disconnect(receiver)
    subject = pseudonym(app.extensions["otp"].tokens.keys, ANN)
    assert [(event.outcome, event.channel, event.subject) for event in events] == [
        ("added", "totp", subject),
        ("removed", "totp", subject),
    ]
