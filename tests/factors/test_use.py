"""Signing in with an app's code or a recovery code: each code passes once, and no user is locked out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, ChallengeRequired, FactorsUnavailable, InvalidCode, InvalidRequest
from flask_otp.crypto.payloads import Client
from flask_otp.signals import budget_spent, code_verified, recovery_used
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import SECRET, AppFactory
from tests.support.factor_site import ANN, BOB, HTML, Browser, Table, add_views, enrol, make_otp
from tests.support.listening import listening

FORM = {"Accept": "text/html", "Origin": "http://localhost"}


def spend_the_budget(app: Flask, phone: Any, identifier: str = ANN) -> None:
    """Submit twenty wrong codes from browsers that are not known: too few on each network for a surge there."""
    for number in range(4):
        stranger = Browser(app, network=f"198.51.100.{number}")
        stranger.send(identifier=identifier)
        assert {stranger.verify(phone.wrong()).status_code for _ in range(5)} == {400}


def test_a_code_of_the_app_signs_in_and_nothing_is_sent(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    browser = Browser(app)
    with capture_codes(app) as outbox:
        asked = browser.send(identifier=ANN)
        told = {name: asked.json[name] for name in ("channel", "destination", "purpose", "code_length", "resend_in")}
        assert told == {
            "channel": "totp",
            "destination": "your authenticator app",
            "purpose": "login",
            "code_length": 6,
            "resend_in": 0,
        }
        answer = browser.verify(phone.code())
    assert (answer.status_code, answer.json["channel"], answer.json["identifier"]) == (200, "totp", ANN)
    assert not outbox
    assert browser.get("/safe").text == "welcome"


ASKED: dict[str, Any] = {"context": b"a digest", "context_values": {"amount": 5}, "user": BOB, "is_typed": True}


def challenge_for(app: Flask, channel: str) -> str:
    """The handle of what Bob asked for, with all that a request may say."""
    service = app.extensions["otp"].service
    with app.test_request_context(), capture_codes(app):
        return str(service.send(ANN, channel=channel, purpose="login", client=Client(), **ASKED).handle)


def test_the_challenge_for_an_apps_code_knows_who_asked_and_for_what(app: Flask, clock: Clock) -> None:
    enrol(app, clock)
    handle = app.extensions["otp"].tokens.load_handle(challenge_for(app, "totp"))
    assert {name: getattr(handle, name) for name in ASKED} == ASKED


@pytest.mark.parametrize("channel", ["totp", "recovery"])
def test_asking_for_an_apps_code_counts_for_the_network(make_app: AppFactory, clock: Clock, channel: str) -> None:
    app = make_app(make_otp(clock, Table(ANN)), OTP_IP_SEND_LIMIT="2/day")
    here, there = Browser(app, network="192.0.2.1"), Browser(app, network="198.51.100.1")
    assert [here.send(channel, identifier=ANN).status_code for _ in range(3)] == [200, 200, 429]
    assert there.send(channel, identifier=ANN).status_code == 200


def test_a_challenge_that_changes_to_an_app_stays_the_same_persons_for_the_same_end(
    app: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(app, clock)
    state, sent = app.extensions["otp"], challenge_for(app, "console")
    with app.test_request_context():
        kept = state.service.switch(sent, "totp", Client(), "login")
        with pytest.raises(ChallengeRequired):
            state.service.switch(sent, "totp", Client(), "safe")
        monkeypatch.delitem(state.service._policies, "login")  # as when the settings lost the purpose since
        with pytest.raises(ChallengeRequired):
            state.service.switch(sent, "totp", Client())
    handle = state.tokens.load_handle(kept.handle)
    assert (handle.channel, {name: getattr(handle, name) for name in ASKED}) == ("totp", ASKED)


def test_a_handle_from_before_a_change_of_keys_shows_the_form_that_is_compared_now(
    app: Flask, clock: Clock, make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, _ = enrol(app, clock)
    spend_the_budget(app, phone)
    state, older = app.extensions["otp"], make_app(SECRET_KEY="the secret of last year").extensions["otp"]
    kept, sent = (state.tokens.load_handle(challenge_for(app, channel)) for channel in ("totp", "console"))
    stale = replace(kept, keys=older.tokens.keys, length=6)
    with app.test_request_context():
        assert state.service.refresh(stale, Client()).length == 12  # two codes in a row
        assert state.service.refresh(sent, Client()) is sent
        monkeypatch.delitem(state.service._policies, "login")
        assert state.service.refresh(stale, Client()) is stale


@pytest.mark.parametrize("channel", ["totp", "recovery"])
def test_a_code_passes_once_and_costs_nothing_when_it_is_used(app: Flask, clock: Clock, channel: str) -> None:
    phone, codes = enrol(app, clock)
    code = phone.code() if channel == "totp" else codes[0]
    browsers = [Browser(app, network=f"192.0.2.{number}") for number in range(30)]
    handles = [browser.send(channel, identifier=ANN).json["challenge"] for browser in browsers]
    answers = [
        browser.verify(code, challenge=handle).status_code for browser, handle in zip(browsers, handles, strict=True)
    ]
    assert answers == [200] + [400] * 29
    clock.advance(30)
    assert (
        browsers[1].verify(phone.code(), challenge=browsers[1].send(identifier=ANN).json["challenge"]).status_code
        == 200
    )


def test_a_used_code_is_used_for_every_purpose(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = make_app(otp, OTP_PURPOSES={"login": {}, "transfer": {}})
    add_views(app, transfer={"purpose": "transfer"})
    phone, codes = enrol(app, clock)
    for channel, code in (("totp", phone.code()), ("recovery", codes[0])):
        first, second = Browser(app), Browser(app)
        first.send(channel, identifier=ANN, purpose="login")
        second.send(channel, identifier=ANN, purpose="transfer")
        assert first.verify(code, purpose="login").status_code == 200
        assert second.verify(code, purpose="transfer").status_code == 400
        assert second.get("/transfer").status_code == 401


def test_a_used_code_stays_used_after_revoking_and_after_the_clock_was_set_back(
    app: Flask, otp: OTP, clock: Clock
) -> None:
    phone, _ = enrol(app, clock)
    code = phone.code()
    browser = Browser(app)
    browser.send(identifier=ANN)
    assert browser.verify(code).status_code == 200
    with app.app_context():
        otp.revoke(ANN)
    assert browser.get("/account").status_code == 401
    browser.send(identifier=ANN)
    assert browser.verify(code).status_code == 400
    now = clock.now
    clock.advance(1800)
    browser.send(identifier=ANN)
    assert browser.verify(phone.code()).status_code == 200
    clock.now = now
    browser.send(identifier=ANN)
    assert browser.verify(code).status_code == 400
    with app.app_context():
        assert otp.factors(ANN).totp == ("phone",)


def test_the_code_that_confirmed_the_app_does_not_sign_in(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    clock.now -= 60
    browser = Browser(app)
    browser.send(identifier=ANN)
    assert browser.verify(phone.code()).status_code == 400
    clock.advance(30)
    assert browser.verify(phone.code()).status_code == 200


def test_each_of_several_apps_signs_in_with_codes_of_its_own(app: Flask, clock: Clock) -> None:
    phones = [enrol(app, clock, name=name)[0] for name in ("phone", "tablet")]
    for phone in phones:
        browser = Browser(app)
        browser.send(identifier=ANN)
        assert browser.verify(phone.code()).status_code == 200


def test_a_recovery_code_is_marked_in_the_column_for_good(app: Flask, otp: OTP, clock: Clock, table: Table) -> None:
    _, codes = enrol(app, clock)
    heard: list[Any] = []
    receiver = recovery_used.connect(lambda sender, event, **told: heard.append(told), weak=False)
    browser = Browser(app)
    browser.send("recovery", identifier=ANN)
    assert browser.verify(codes[3].lower().replace("-", " ")).status_code == 200
    recovery_used.disconnect(receiver)
    assert heard == [{"identifier": ANN, "left": 9}]
    with app.app_context():
        assert otp.factors(ANN).recovery_left == 9
    # A store that has forgotten everything.
    app.extensions["otp"].store._tables.clear()
    browser.send("recovery", identifier=ANN)
    assert browser.verify(codes[3]).status_code == 400
    assert browser.verify(codes[4]).status_code == 200


def test_a_recovery_code_that_could_not_be_marked_does_not_sign_in(
    app: Flask, otp: OTP, clock: Clock, table: Table
) -> None:
    _, codes = enrol(app, clock)
    otp.factors_saver(lambda identifier, new, old: False)
    browser = Browser(app)
    browser.send("recovery", identifier=ANN)
    answer = browser.verify(codes[0])
    assert (answer.status_code, answer.json["reason"]) == (503, "factors_unavailable")
    assert "proof" not in answer.json
    assert browser.get("/account").status_code == 401


def test_recovery_codes_that_are_renewed_while_one_is_checked_do_not_pass(
    app: Flask, otp: OTP, clock: Clock, table: Table
) -> None:
    _, codes = enrol(app, clock)
    loads = iter(range(9))

    @otp.factors_loader
    def load(identifier: str) -> str | None:
        if next(loads) == 1:  # after the code was compared, before it is marked
            otp.factors_loader(table.load)
            otp.recovery.renew(ANN)
        return table.load(identifier)

    browser = Browser(app)
    browser.send("recovery", identifier=ANN)
    assert browser.verify(codes[0]).status_code == 400
    assert browser.get("/account").status_code == 401


# The budget, and the strong form


def test_when_the_budget_is_spent_two_codes_in_a_row_let_the_owner_in(app: Flask, clock: Clock) -> None:
    phone, codes = enrol(app, clock)
    told: list[Any] = []
    receiver = budget_spent.connect(lambda sender, event, **args: told.append(args), weak=False)
    spend_the_budget(app, phone)
    budget_spent.disconnect(receiver)
    assert told == [{"identifier": ANN, "purpose": "login"}]
    browser = Browser(app)
    assert browser.send(identifier=ANN).json["code_length"] == 12
    assert browser.verify(phone.code()).status_code == 400
    clock.advance(30)
    assert browser.verify(phone.pair()).status_code == 200
    # Neither half of it is good once more.
    again = Browser(app)
    again.send(identifier=ANN)
    assert again.verify(phone.pair()).status_code == 400
    clock.advance(30)
    assert again.verify(phone.pair()).status_code == 400
    again.send("recovery", identifier=ANN)
    assert again.verify(codes[0]).status_code == 200


def test_no_more_than_the_budget_is_compared_however_the_codes_are_mixed(
    app: Flask, clock: Clock, table: Table
) -> None:
    phone, _ = enrol(app, clock)
    spend_the_budget(app, phone)
    stranger = Browser(app, network="203.0.113.2")
    stranger.send(identifier=ANN)
    with listening(app) as events:
        answers = [stranger.verify(phone.wrong() * 2).status_code for _ in range(6)]
    assert answers == [400] * 5 + [429]
    limits = [(event.step, event.reason) for event in events if event.kind == "limit_reached"]
    assert limits == [("verify", "identifier")]
    assert stranger.verify(phone.pair()).status_code == 429
    assert stranger.send("recovery", identifier=ANN).status_code == 200


def test_a_known_browser_has_a_budget_of_its_own(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    browser = Browser(app)
    browser.send(identifier=ANN)
    assert browser.verify(phone.code()).status_code == 200
    spend_the_budget(app, phone)
    clock.advance(30)
    assert browser.send(identifier=ANN).json["code_length"] == 6
    assert browser.verify(phone.code()).status_code == 200


def test_a_site_that_refuses_says_so_and_takes_recovery_codes(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = make_app(otp, OTP_ON_BUDGET="refuse")
    phone, codes = enrol(app, clock)
    spend_the_budget(app, phone)
    browser = Browser(app)
    with listening(app) as events:
        answer = browser.send(identifier=ANN)
    assert (answer.status_code, answer.json["reason"]) == (429, "rate_limited")
    limits = [(event.step, event.reason) for event in events if event.kind == "limit_reached"]
    assert limits == [("send", "identifier")]
    assert answer.json["retry_after"] == 30 * 86400
    browser.send("recovery", identifier=ANN)
    assert browser.verify(codes[0]).status_code == 200


def at_once(app: Flask, channel: str, code: str, number: int, threads: int = 40) -> list[int]:
    """What so many browsers are answered that show one code at one moment."""
    browsers = [Browser(app, network=f"10.0.{index}.1") for index in range(number)]
    for browser in browsers:
        browser.send(channel, identifier=ANN)
    barrier = Barrier(threads)

    def verify(first: int) -> list[int]:
        barrier.wait(20)
        return [browser.verify(code).status_code for browser in browsers[first::threads]]

    with ThreadPoolExecutor(threads) as pool:
        return sorted(status for answers in pool.map(verify, range(threads)) for status in answers)


def test_two_hundred_right_codes_at_once_are_one_sign_in_and_cost_nothing(app: Flask, clock: Clock) -> None:
    phone, codes = enrol(app, clock)
    state = app.extensions["otp"]
    for channel, code in (("totp", phone.code()), ("recovery", codes[0])):
        assert at_once(app, channel, code, 200) == [200] + [400] * 199
    assert not state.store.load(state.tokens.keys.subject("login", ANN)).failures


# What else a client may try


def test_nothing_is_sent_again_and_the_answer_says_why(app: Flask, clock: Clock) -> None:
    enrol(app, clock)
    browser = Browser(app)
    browser.send(identifier=ANN)
    answer = browser.post("resend")
    assert (answer.status_code, answer.json["reason"]) == (400, "invalid_request")
    assert answer.json["detail"] == "Nothing is sent for this code: look it up in your app or on your list."


def test_a_client_changes_to_another_way_and_back(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    browser = Browser(app)
    first = browser.send(identifier=ANN).json["challenge"]
    with capture_codes(app):
        assert browser.post("resend", channel="recovery").json["code_length"] == 13
        sent = browser.post("resend", channel="console").json
        assert (sent["channel"], sent["destination"]) == ("console", "a***@example.com")
    assert browser.post("resend", channel="totp", challenge=first).json["channel"] == "totp"
    assert browser.post("resend", channel="smoke").status_code == 400
    assert browser.verify(phone.code()).status_code == 200


@pytest.mark.parametrize(("held", "wanted"), [("totp", "console"), ("console", "totp"), ("totp", "recovery")])
def test_r12_another_way_is_open_for_an_hour_after_the_code_and_no_longer(
    app: Flask, clock: Clock, held: str, wanted: str
) -> None:
    """A handle holds what the guard asked for, as a requirement does, and must not keep it for ever."""
    with capture_codes(app) as codes:
        handle = Browser(app).send(held, identifier=ANN).json["challenge"]
        clock.advance(300 + 3599)
        assert Browser(app).post("resend", challenge=handle, channel=wanted).status_code == 200
        del codes[:]
        clock.advance(1)
        answer = Browser(app).post("resend", challenge=handle, channel=wanted)
        assert (answer.status_code, answer.json["reason"], list(codes)) == (400, "challenge_required", [])


def test_a_handle_of_an_app_lives_as_long_as_a_code(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    browser = Browser(app)
    assert browser.send(identifier=ANN).json["expires_in"] == 300
    clock.advance(299)
    handle = browser.send(identifier=ANN).json["challenge"]
    clock.advance(300)
    assert browser.verify(phone.code(), challenge=handle).status_code == 400


def test_a_code_of_one_person_is_nothing_for_another(app: Flask, clock: Clock) -> None:
    phone, codes = enrol(app, clock)
    enrol(app, clock, BOB)
    browser = Browser(app)
    for channel, code in (("totp", phone.code()), ("recovery", codes[0])):
        browser.send(channel, identifier=BOB)
        assert browser.verify(code).status_code == 400


def test_a_signed_in_person_cannot_use_the_app_of_another(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock, BOB)
    stranger, bob = Browser(app), Browser(app, BOB)
    handle = stranger.send(identifier=BOB).json["challenge"]
    ann = Browser(app, ANN)
    assert ann.send(identifier=BOB).status_code == 400
    assert ann.verify(phone.code(), challenge=handle).status_code == 400
    assert ann.get("/account").status_code == 401
    bob.send()
    assert bob.verify(phone.code()).status_code == 200


def test_codes_go_to_the_right_channel_only(app: Flask, clock: Clock) -> None:
    phone, codes = enrol(app, clock)
    browser = Browser(app)
    browser.send(identifier=ANN)
    assert browser.verify(codes[0]).status_code == 400
    browser.send("recovery", identifier=ANN)
    assert browser.verify(phone.code()).status_code == 400


def test_a_purpose_that_names_other_channels_takes_neither(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = make_app(otp, OTP_PURPOSES={"login": {"channels": ["console"]}, "safe": {"channels": ["totp"]}})
    enrol(app, clock)
    browser = Browser(app)
    assert [browser.send(channel, identifier=ANN).status_code for channel in ("totp", "recovery")] == [400, 400]
    assert browser.send("totp", identifier=ANN, purpose="safe").status_code == 200
    assert browser.send("recovery", identifier=ANN, purpose="safe").status_code == 400
    assert browser.post("send", identifier=ANN, purpose="safe").json["channel"] == "totp"


def test_without_a_loader_there_are_no_such_channels(make_app: AppFactory) -> None:
    browser = Browser(make_app())
    assert browser.send(identifier=ANN).status_code == 400
    assert browser.get("/otp/app").status_code == 404


def test_in_python_the_same_methods_take_the_same_codes(app: Flask, otp: OTP, clock: Clock) -> None:
    phone, codes = enrol(app, clock)
    heard: list[Any] = []
    receiver = code_verified.connect(lambda sender, verification, event: heard.append(verification.channel), weak=False)
    with app.app_context():
        challenge = otp.send(ANN, channel="totp", context={"amount": 5})
        with pytest.raises(InvalidCode):
            otp.verify(phone.code(), challenge=challenge.handle, context={"amount": 6})
        verification = otp.verify(phone.code(), challenge=challenge.handle, context={"amount": 5})
        assert (verification.channel, verification.identifier) == ("totp", ANN)
        with pytest.raises(InvalidRequest, match="Nothing is sent"):
            otp.resend(challenge.handle)
        recovery = otp.send(ANN, channel="recovery")
        assert recovery.strong
        assert otp.verify(codes[0], challenge=recovery.handle).channel == "recovery"
    code_verified.disconnect(receiver)
    assert heard == ["totp", "recovery"]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_as_many_past_steps_are_accepted_as_the_settings_say(
    make_app: AppFactory, otp: OTP, clock: Clock, steps: int
) -> None:
    app = make_app(otp, OTP_TOTP_STEPS=steps)
    phone, _ = enrol(app, clock)
    clock.advance(300)
    codes = [phone.code(-back) for back in range(4)]
    accepted = []
    for code in codes:
        browser = Browser(app)
        browser.send(identifier=ANN)
        accepted.append(browser.verify(code).status_code == 200)
    assert accepted == [back <= steps for back in range(4)]


def test_the_code_of_a_key_that_was_rotated_is_used_under_the_new_key_too(
    make_app: AppFactory, app: Flask, clock: Clock, table: Table
) -> None:
    """A handle made before the rotation and one made after it would else have marks of their own."""
    phone, _ = enrol(app, clock)
    old = Browser(app)
    handle = old.send(identifier=ANN).json["challenge"]
    rotated = make_app(
        make_otp(clock, table), SECRET_KEY="another secret for the tests only", SECRET_KEY_FALLBACKS=[SECRET]
    )
    browser = Browser(rotated)
    assert browser.verify(phone.code(), challenge=handle).status_code == 200
    browser.send(identifier=ANN)
    assert browser.verify(phone.code()).status_code == 400


def test_an_unreadable_column_lets_nobody_in_and_is_told_in_the_log(
    app: Flask, clock: Clock, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    phone, _ = enrol(app, clock)
    table.rows[ANN] = "1." + "A" * 60
    browser = Browser(app)
    browser.send(identifier=ANN)
    assert browser.verify(phone.code()).status_code == 400
    assert "the factors of a***@example.com do not open" in caplog.text
    with app.app_context(), pytest.raises(FactorsUnavailable):
        OTP().factors(ANN)


# Enumeration


def test_nobody_learns_who_has_an_app_or_an_account(app: Flask, clock: Clock) -> None:
    enrol(app, clock)
    stories = []
    for identifier in (ANN, BOB, "nobody@example.com"):
        browser, told = Browser(app, network=f"192.0.2.{len(stories)}"), []
        for channel, code in (("totp", "000000"), ("recovery", "0000-0000-00000"), ("totp", "000000000000")):
            answer = browser.send(channel, identifier=identifier)
            told.append({name: value for name, value in answer.json.items() if name != "challenge"})
            told.append(len(answer.json["challenge"]) - len(identifier) * 4 // 3 < 1000)
            for _ in range(9):
                answer = browser.verify(code)
                told.append((answer.status_code, answer.json, dict(answer.headers).keys()))
        told.append(browser.post("resend").json)
        stories.append(told)
    assert stories[0] == stories[1] == stories[2]


def test_the_column_is_looked_at_as_often_for_everybody(app: Flask, otp: OTP, clock: Clock, table: Table) -> None:
    enrol(app, clock)
    counts = []
    for identifier in (ANN, "nobody@example.com"):
        asked: list[str] = []
        otp.factors_loader(lambda who, asked=asked: asked.append(who) or table.load(who))  # type: ignore[misc, func-returns-value]
        browser = Browser(app)
        browser.send(identifier=identifier)
        browser.verify("000000")
        browser.get("/otp/verify", headers=HTML)
        counts.append(len(asked))
    assert counts == [1, 1]
