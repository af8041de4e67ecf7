"""Browsers that may go without a second factor: for one person, for some days, and while the store says so."""

from __future__ import annotations

import re
from datetime import timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask

from flask_otp import OTP, ConfigError, InvalidRequest, StoreUnavailable, current_verification, otp_required
from flask_otp.crypto.payloads import Proof
from flask_otp.factors.trusted import TRUSTED_PREFIX
from flask_otp.signals import browser_trusted, guard_decided
from flask_otp.stores.memory import MemoryStore
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import AppFactory
from tests.support.factor_site import ANN, BOB, HTML, Browser, Phone, Table, add_views, enrol, make_otp
from tests.support.listening import listening

DAY = 86400
FORM = {"Accept": "text/html", "Origin": "http://localhost"}


@pytest.fixture
def app(make_app: AppFactory, otp: OTP) -> Flask:
    app = make_app(otp)
    app.add_url_rule("/forget", "forget", lambda: otp.forget("login") or "ok")  # type: ignore[func-returns-value]
    add_views(
        app,
        account={"trust": "30d"},
        week={"trust": "7d"},
        recent={"trust": "30d", "max_age": "1h"},
        safe={"trust": "30d", "channels": ("totp", "recovery")},
        mail={"trust": "30d", "channels": ("console",)},
        strict={},
        anns={"trust": "30d", "identifier": lambda: ANN},
        bobs={"trust": "30d", "identifier": lambda: BOB},
    )
    return app


@pytest.fixture
def phone(app: Flask, clock: Clock) -> Phone:
    return enrol(app, clock)[0]


def trusting(app: Flask, phone: Phone, user: str = ANN, **body: Any) -> Browser:
    """A browser that verified with the box ticked, and whose person has signed out of the app since."""
    browser = Browser(app, user)
    browser.get("/account")
    browser.send()
    assert browser.verify(phone.code(), **({"trust": True} | body)).status_code == 200
    sign_out(browser)
    return browser


def sign_out(browser: Browser) -> None:
    """By the app's own means: all cookies go but the one of a trusted browser."""
    trust = browser.client.get_cookie("otp_trust")
    browser.client = browser.client.application.test_client()
    if trust is not None:
        browser.client.set_cookie("otp_trust", trust.value)


def sign_in(browser: Browser, user: str = ANN) -> Browser:
    browser.client.post("/password", data={"user": user})
    return browser


def statuses(browser: Browser, *views: str) -> list[int]:
    return [browser.get(f"/{view}").status_code for view in views]


def test_a_trusted_browser_passes_with_the_password_alone(app: Flask, phone: Phone, clock: Clock) -> None:
    browser = trusting(app, phone)
    assert statuses(browser, "account") == [401]
    sign_in(browser)
    clock.advance(5 * DAY)
    assert statuses(browser, "account", "safe", "strict") == [200, 200, 401]
    assert statuses(browser, "anns", "bobs") == [200, 401]


def test_only_for_as_long_as_the_guard_allows(app: Flask, phone: Phone, clock: Clock) -> None:
    browser = sign_in(trusting(app, phone))
    assert statuses(browser, "account", "week", "recent") == [200, 200, 200]
    clock.advance(3601)
    assert statuses(browser, "account", "week", "recent") == [200, 200, 401]
    clock.advance(7 * DAY - 3601)
    assert statuses(browser, "week") == [200]
    clock.advance(1)
    assert statuses(browser, "account", "week") == [200, 401]
    clock.advance(23 * DAY)
    assert statuses(browser, "account") == [401]


def test_a_browser_is_trusted_only_where_the_person_asks_for_it(app: Flask, phone: Phone, clock: Clock) -> None:
    assert statuses(sign_in(trusting(app, phone, trust=False)), "account") == [401]


def test_the_channel_that_it_was_verified_by_still_counts(app: Flask, phone: Phone) -> None:
    assert statuses(sign_in(trusting(app, phone)), "safe", "mail") == [200, 401]


def test_the_cookie_is_worth_nothing_to_anybody_else(app: Flask, phone: Phone, clock: Clock) -> None:
    browser = trusting(app, phone)
    assert statuses(sign_in(browser, BOB), "account", "anns") == [401, 401]
    stolen = browser.client.get_cookie("otp_trust")
    assert stolen is not None
    thief = Browser(app)
    thief.client.set_cookie("otp_trust", stolen.value)
    assert statuses(thief, "account") == [401]
    # Nor is it a proof.
    for token in stolen.value.split("~"):
        assert thief.get("/account", headers={"Authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize("value", ["", "~", "x", "1.AAAA", "~".join(["1.AAAA"] * 50), "\x7f", "1." + "A" * 3000])
def test_a_foreign_cookie_is_ignored(app: Flask, value: str) -> None:
    browser = Browser(app, ANN)
    browser.client.set_cookie("otp_trust", value)
    assert statuses(browser, "account") == [401]


def test_what_it_lets_in_says_so_and_gives_no_proof_away(app: Flask, phone: Phone, clock: Clock) -> None:
    seen: list[Any] = []

    def look() -> str:
        seen.append((current_verification.channel, current_verification.proof, current_verification.verified_at))
        return "ok"

    app.add_url_rule("/look", "look", otp_required(trust="30d")(look))
    browser = trusting(app, phone)
    then = clock()
    clock.advance(DAY)
    told = []
    with guard_decided.connected_to(lambda sender, event: told.append((event.outcome, event.channel)), app):
        assert statuses(sign_in(browser), "look") == [200]
    assert [(channel, proof, at.timestamp()) for channel, proof, at in seen] == [("trusted", "", then)]
    assert told == [("passed", "trusted")]


# How it ends


@pytest.mark.parametrize(
    "act", ["revoke", "remove", "add", "renew", "move", "untrust", "forget", "forget that purpose"]
)
def test_it_ends_on_every_machine(app: Flask, otp: OTP, clock: Clock, table: Table, phone: Phone, act: str) -> None:
    browser = sign_in(trusting(app, phone))
    assert statuses(browser, "account") == [200]
    with app.app_context():
        acts = {
            "revoke": lambda: otp.revoke(ANN),
            "remove": lambda: otp.totp.remove(ANN, "phone"),
            "add": lambda: enrol(app, clock, name="tablet"),
            "renew": lambda: otp.recovery.renew(ANN),
            "move": lambda: table.rows.setdefault("new@example.com") or otp.move_factors(ANN, "new@example.com"),
            "untrust": lambda: otp.untrust(ANN, otp.trusted(ANN)[0].id),
            "forget": lambda: browser.post("logout"),
            "forget that purpose": lambda: browser.get("/forget"),
        }
        cookie = browser.client.get_cookie("otp_trust")
        acts[act]()  # type: ignore[no-untyped-call]
    assert cookie is not None
    sign_out(browser)
    browser.client.set_cookie("otp_trust", cookie.value)
    assert statuses(sign_in(browser), "account") == [401]
    with app.app_context():
        assert otp.trusted(ANN) == ()


@pytest.mark.parametrize("moment", ["before it is noted", "when it is noted"])
@pytest.mark.parametrize("act", ["revoke", "remove", "add", "renew"])
def test_r25_it_ends_too_if_it_is_under_way(
    app: Flask, otp: OTP, clock: Clock, phone: Phone, monkeypatch: pytest.MonkeyPatch, act: str, moment: str
) -> None:
    """The code was right, and the other request comes before the browser is trusted."""
    acts: dict[str, Any] = {
        "revoke": lambda: otp.revoke(ANN),
        "remove": lambda: otp.totp.remove(ANN, "phone"),
        "add": lambda: enrol(app, clock, name="tablet"),
        "renew": lambda: otp.recovery.renew(ANN),
    }
    store = app.extensions["otp"].store
    note, code = store.note, phone.code()

    def meet(*arguments: Any) -> Any:
        monkeypatch.undo()
        noted = note(*arguments) if moment == "when it is noted" else None
        with app.app_context():
            acts[act]()
        return note(*arguments) if noted is None else noted

    browser = Browser(app, ANN)
    browser.send()
    monkeypatch.setattr(store, "note", meet)
    assert browser.verify(code, trust=True).status_code == 200
    sign_out(browser)
    assert statuses(sign_in(browser), "account") == [401]
    with app.app_context():
        assert otp.trusted(ANN) == ()


def test_r37_an_app_that_is_removed_while_the_store_fails_is_told_and_another_try_ends_the_trust(
    app: Flask, otp: OTP, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting(app, phone)
    with app.app_context():
        with monkeypatch.context() as failing, listening(app) as events:
            failing.setattr(MemoryStore, "noted", lambda *_: (_ for _ in ()).throw(StoreUnavailable()))
            with pytest.raises(StoreUnavailable):
                otp.totp.remove(ANN, "phone")
        assert [event.kind for event in events if event.kind != "store_called"] == ["factor_removed"]
        assert (otp.factors(ANN).totp, len(otp.trusted(ANN))) == ((), 1)
        with pytest.raises(InvalidRequest):
            otp.totp.remove(ANN, "phone")
        assert otp.trusted(ANN) == ()


@pytest.mark.parametrize("verb", ["note", "holds"])
def test_r37_a_store_that_fails_after_the_code_costs_the_trust_and_not_the_verification(
    app: Flask, otp: OTP, phone: Phone, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    browser = Browser(app, ANN)
    browser.send()
    with monkeypatch.context() as failing:
        failing.setattr(MemoryStore, verb, lambda *_: (_ for _ in ()).throw(StoreUnavailable()))
        assert browser.verify(phone.code(), trust=True).status_code == 200
    assert statuses(browser, "account") == [200]
    assert browser.client.get_cookie("otp_trust") is None
    with app.app_context():
        assert otp.trusted(ANN) == ()


def test_a_recovery_code_that_is_used_ends_no_trust(app: Flask, clock: Clock) -> None:
    _, codes = enrol(app, clock)
    browser = Browser(app, ANN)
    browser.send("recovery")
    assert browser.verify(codes[0], trust=True).status_code == 200
    sign_out(browser)
    assert statuses(sign_in(browser), "account") == [200]


def test_a_lag_does_not_keep_it_alive(make_app: AppFactory, clock: Clock, table: Table) -> None:
    otp = make_otp(clock, table)
    app = make_app(otp, OTP_REVOCATION_LAG="1h")
    add_views(app, account={"trust": "30d"})
    browser = sign_in(trusting(app, enrol(app, clock)[0]))
    assert statuses(browser, "account") == [200]
    with app.app_context():
        otp.untrust(ANN, otp.trusted(ANN)[0].id)
    assert statuses(browser, "account") == [401]


def test_a_store_that_has_forgotten_asks_again(app: Flask, phone: Phone) -> None:
    browser = sign_in(trusting(app, phone))
    app.extensions["otp"].store._tables.clear()
    assert statuses(browser, "account") == [401]


def test_browsers_are_listed_and_ended_one_by_one(app: Flask, otp: OTP, clock: Clock, phone: Phone) -> None:
    heard: list[Any] = []
    events: list[Any] = []
    receiver = browser_trusted.connect(
        lambda sender, event, **told: (heard.append(told), events.append(event)), weak=False
    )
    browsers = []
    for _ in range(3):
        browsers.append(trusting(app, phone))
        clock.advance(60)
    browser_trusted.disconnect(receiver)
    with app.app_context():
        listed = otp.trusted(ANN)
        assert [browser.id for browser in listed] == [told["id"] for told in heard]
        assert {browser.purpose for browser in listed} == {"login"}
        assert listed[1].since - listed[0].since == timedelta(seconds=60)
        assert listed[0].until - listed[0].since == timedelta(days=30)
        assert heard[0]["until"] == listed[0].until
        assert {(told["identifier"], told["purpose"]) for told in heard} == {(ANN, "login")}
        assert {(event.outcome, event.purpose, event.seconds) for event in events} == {("trusted", "login", 30 * DAY)}
        assert listed[0].until.tzinfo is timezone.utc
        assert all(re.fullmatch("[0-9a-f]{16}", browser.id) for browser in listed)
        assert otp.untrust(ANN, listed[1].id) is True
        assert otp.untrust(ANN, listed[1].id) is False
        assert otp.untrust(BOB, listed[0].id) is False
        assert otp.trusted(BOB) == ()
    assert [statuses(sign_in(browser), "account") for browser in browsers] == [[200], [401], [200]]


def test_an_older_key_still_opens_the_cookie(
    make_app: AppFactory, app: Flask, phone: Phone, table: Table, clock: Clock
) -> None:
    browser = trusting(app, phone)
    cookie = browser.client.get_cookie("otp_trust")
    otp = make_otp(clock, table)
    new = "another secret for the tests only"
    state = app.extensions["otp"]
    rotated = make_app(otp, SECRET_KEY=new, SECRET_KEY_FALLBACKS=[app.secret_key])
    rotated.extensions["otp"].store._tables = state.store._tables
    add_views(rotated, account={"trust": "30d"})
    there = Browser(rotated, ANN)
    there.client.set_cookie("otp_trust", cookie.value if cookie else "")
    assert statuses(there, "account") == [200]
    with rotated.app_context():
        assert len(otp.trusted(ANN)) == 1
        otp.totp.remove(ANN, "phone")
    assert statuses(there, "account") == [401]


# The cookie


def trusting_for(app: Flask, browser: Browser, phone: Phone, *purposes: str, user: str = ANN) -> None:
    sign_in(browser, user)
    for purpose in purposes:
        phone.clock.advance(60)
        browser.send(identifier=user, purpose=purpose)
        assert browser.verify(phone.code(), purpose=purpose, trust=True).status_code == 200


def entries(browser: Browser) -> list[str]:
    cookie = browser.client.get_cookie("otp_trust")
    return [] if cookie is None or not cookie.value else cookie.value.split("~")


@pytest.fixture
def shop(make_app: AppFactory, otp: OTP) -> Flask:
    purposes = {name: {} for name in ("login", "pay", "sell", "post", "bare", "unguarded")}
    app = make_app(otp, OTP_PURPOSES=purposes)
    app.add_url_rule("/forget", "forget", lambda: otp.forget("pay") or "ok")  # type: ignore[func-returns-value]
    add_views(
        app,
        bare={"purpose": "bare"},
        **{name: {"purpose": name, "trust": "30d"} for name in purposes if name not in ("bare", "unguarded")},
    )
    return app


def test_a_browser_is_trusted_for_four_people_or_purposes_the_newest_ones(shop: Flask, clock: Clock) -> None:
    browser, phones = Browser(shop), {name: enrol(shop, clock, name)[0] for name in (ANN, BOB)}
    trusting_for(shop, browser, phones[ANN], "login", "pay", "pay")
    assert len(entries(browser)) == 2
    trusting_for(shop, browser, phones[BOB], "login", user=BOB)
    trusting_for(shop, browser, phones[ANN], "sell")
    assert len(entries(browser)) == 4
    assert all(text.startswith("1.") for text in entries(browser))
    sign_out(browser)
    assert statuses(sign_in(browser), "login", "pay", "sell", "post") == [200, 200, 200, 401]
    assert statuses(sign_in(browser, BOB), "login", "pay") == [200, 401]
    trusting_for(shop, browser, phones[ANN], "post")
    assert len(entries(browser)) == 4
    sign_out(browser)
    assert statuses(sign_in(browser), "login", "pay", "sell", "post") == [401, 200, 200, 200]
    assert statuses(sign_in(browser, BOB), "login") == [200]


def test_a_browser_forgets_one_purpose_and_stays_trusted_for_the_others(shop: Flask, clock: Clock) -> None:
    browser, phone = Browser(shop), enrol(shop, clock)[0]
    trusting_for(shop, browser, phone, "login", "pay")
    assert browser.get("/forget").status_code == 200
    sign_out(browser)
    assert statuses(sign_in(browser), "login", "pay") == [200, 401]
    assert browser.post("logout").status_code in (200, 204)
    assert entries(browser) == []


def test_r37_a_log_out_that_cannot_end_the_trust_changes_nothing_and_may_be_repeated(
    app: Flask, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(app, ANN)
    browser.send()
    assert browser.verify(phone.code(), trust=True).status_code == 200
    held, trust = browser.client.get_cookie("session"), browser.client.get_cookie("otp_trust")
    spend = MemoryStore.spend

    def without_the_trust(self: MemoryStore, subject: bytes, name: bytes, now: int) -> bool:
        if name.startswith(TRUSTED_PREFIX):
            raise StoreUnavailable
        return spend(self, subject, name, now)

    told: list[str] = []
    with listening(app, lambda event: told.append(event.kind)):
        with monkeypatch.context() as failing:
            failing.setattr(MemoryStore, "spend", without_the_trust)
            assert browser.post("logout").status_code == 503
        assert (browser.client.get_cookie("session"), browser.client.get_cookie("otp_trust")) == (held, trust)
        assert "proof_revoked" not in told
        assert browser.post("logout").status_code in (200, 204)
    assert told.count("proof_revoked") == 1
    assert statuses(sign_in(browser), "account") == [401]


@pytest.mark.parametrize("purpose", ["bare", "unguarded"])
def test_no_browser_is_trusted_for_a_purpose_whose_guards_do_not_take_it(
    shop: Flask, otp: OTP, clock: Clock, purpose: str
) -> None:
    browser, phone = Browser(shop, ANN), enrol(shop, clock)[0]
    browser.send(purpose=purpose)
    answer = browser.verify(phone.code(), purpose=purpose, trust=True)
    assert answer.status_code == 200
    assert not any("trust" in cookie for cookie in answer.headers.getlist("Set-Cookie"))
    with shop.app_context():
        assert otp.trusted(ANN) == ()


def test_on_a_site_with_tls_the_cookie_is_the_hosts_own(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = make_app(otp, SESSION_COOKIE_SECURE=True)
    add_views(app, account={"trust": "30d"})
    phone = enrol(app, clock)[0]
    client = app.test_client()
    client.post("/password", data={"user": ANN}, base_url="https://localhost")
    client.post("/otp/send", json={"channel": "totp"}, base_url="https://localhost")
    answer = client.post("/otp/verify", json={"code": phone.code(), "trust": True}, base_url="https://localhost")
    [cookie] = [text for text in answer.headers.getlist("Set-Cookie") if "trust" in text]
    assert cookie.startswith("__Host-otp_trust=1.")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax", f"Max-Age={30 * DAY}"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


def test_the_longest_cookie_is_one_that_browsers_keep(app: Flask, clock: Clock) -> None:
    """4,096 bytes with the name and the attributes: RFC 6265, section 6.1."""
    keys = app.extensions["otp"].tokens.keys
    longest = "a" * 64 + "@" + ".".join(["b" * 60] * 3) + ".com"
    trusted = app.extensions["otp"].factors.trusted
    proof = Proof(b"x" * 29, "p" * 32, "console+sms+email", b"", clock() + 0.123456, int(clock()), longest, keys)
    assert 4 * (len(trusted.dump(proof)) + 1) + 150 <= 4096


#: Sealed by version 1 of the layout, with the key of these tests, and the name that the store has for it.
COOKIE = (
    "1.LWb-xsuufbBwoG3GSFzJYHcMCD06WU3SE87_spTMiHXek9oEABLNJzCkgpwAtDzJHs8vhKXClJB7o6KiJ-p8oBZFbur7LiPN1m"
    "dlmIb_8t6HBdIXD9YaVW7z3pCfge-cPR1mH54Y79WPRTHRjWV8WN1VQCtKohwE0G7KN2KTAy0YJitg3NwkiOGgPRsKZcziCoBG"
)
NOTE = b"trusted browser " + bytes(range(8)) + bytes.fromhex("006ab13b80")


def test_browsers_that_the_release_before_trusted_are_still_trusted(app: Flask, otp: OTP, clock: Clock) -> None:
    state = app.extensions["otp"]
    trust = state.factors.trusted.load(COOKIE)
    assert trust == Proof(NOTE, "login", "totp", b"", 1789999000.5, 1792592000, ANN, state.tokens.keys)
    assert state.store.note(trust.subject, NOTE, trust.expires_at, int(clock()))
    browser = Browser(app, ANN)
    browser.client.set_cookie("otp_trust", COOKIE)
    assert statuses(browser, "account") == [200]
    with app.app_context():
        [known] = otp.trusted(ANN)
        assert (known.id, known.since.timestamp()) == ("0001020304050607", 1790000000)


def test_a_note_has_a_random_part_and_the_time(app: Flask, phone: Phone, clock: Clock) -> None:
    state = app.extensions["otp"]
    for _ in range(2):
        trusting(app, phone)
        clock.advance(60)
    names = list(state.store.noted(state.tokens.keys.subject("login", ANN), b"trusted browser ", int(clock())))
    assert [len(name) for name in names] == [29, 29]
    assert len({name[16:24] for name in names}) == 2


# Where it is offered


def test_the_code_page_has_a_box_that_is_not_ticked(app: Flask, phone: Phone) -> None:
    browser = Browser(app, ANN)
    browser.get("/account", headers=HTML)
    browser.client.post("/otp/send", data={"channel": "totp"}, headers=FORM)
    text = browser.get("/otp/verify", headers=HTML).text
    assert "Do not ask for a code in this browser for 30 days" in text
    assert "checked" not in text
    data = {"code": phone.code(), "trust": "yes"}
    assert browser.client.post("/otp/verify", data=data, headers=FORM).status_code == 303
    cookie = browser.client.get_cookie("otp_trust")
    assert cookie is not None
    assert cookie.http_only
    assert (cookie.same_site, cookie.path, cookie.max_age) == ("Lax", "/", 30 * DAY)


def test_the_page_behind_a_link_has_the_box_too(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp, OTP_CHANNELS={"email": lambda message: None}, OTP_LINKS=True, OTP_BASE_URL="http://localhost")
    add_views(app, account={"trust": "30d"})
    browser = Browser(app, ANN)
    with capture_codes(app) as sent:
        browser.client.post("/otp/send", data={"channel": "email"}, headers=FORM)
    text = browser.get(urlsplit(sent.link).path, headers=HTML).text
    assert "Do not ask for a code in this browser for 30 days" in text
    assert "checked" not in text
    assert "30 days" not in Browser(app, ANN).get(urlsplit(sent.link).path, headers=HTML).text


def test_no_box_where_no_guard_takes_it_or_nobody_has_signed_in(
    make_app: AppFactory, app: Flask, clock: Clock, table: Table, phone: Phone
) -> None:
    stranger = Browser(app)
    stranger.send(identifier=ANN)
    assert 'name="trust"' not in stranger.get("/otp/verify", headers=HTML).text
    assert stranger.verify(phone.code(), trust=True).status_code == 200
    assert stranger.client.get_cookie("otp_trust") is None
    without = make_app(make_otp(clock, table))
    add_views(without, account={})
    browser = Browser(without, ANN)
    browser.send()
    assert 'name="trust"' not in browser.get("/otp/verify", headers=HTML).text
    clock.advance(30)
    assert browser.verify(phone.code(), trust=True).status_code == 200
    assert browser.client.get_cookie("otp_trust") is None


def test_a_code_for_a_context_trusts_no_browser(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = make_app(otp)
    add_views(app, account={"trust": "30d"}, pay={"context": lambda: {"amount": 5}})
    phone = enrol(app, clock)[0]
    browser = Browser(app, ANN)
    requirement = browser.get("/pay").json["requirement"]
    browser.send(requirement=requirement)
    assert browser.verify(phone.code(), trust=True).status_code == 200
    assert browser.client.get_cookie("otp_trust") is None


@pytest.mark.parametrize("value", ["yes", "true", 1, None, ["x"], {}])
def test_trust_is_true_or_false_in_json(app: Flask, phone: Phone, value: Any) -> None:
    browser = Browser(app, ANN)
    browser.send()
    answer = browser.verify(phone.code(), trust=value)
    assert (answer.status_code, answer.json["reason"]) == (400, "invalid_request")
    assert browser.verify(phone.code(), trust=False).status_code == 200


# Wrong guards


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trust": "30d", "once": True}, "cannot be combined with context or once"),
        ({"trust": "30d", "context": lambda: 1}, "cannot be combined with context or once"),
        ({"trust": DAY - 1}, "must be between 1 and 90 days"),
        ({"trust": 90 * DAY + 1}, "must be between 1 and 90 days"),
        ({"trust": True}, ""),
        ({"trust": "soon"}, ""),
    ],
)
def test_a_guard_that_makes_no_sense_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^otp_required: trust {words}"):
        otp_required(**options)


@pytest.mark.parametrize("trust", [DAY, 90 * DAY])
def test_a_browser_may_be_trusted_for_one_day_and_for_ninety(trust: int) -> None:
    assert otp_required(trust=trust)(lambda: "ok")


def test_trust_needs_an_identifier_loader(make_app: AppFactory) -> None:
    app = make_app()
    app.add_url_rule("/account", "account", otp_required(trust="30d")(lambda: "ok"))
    with pytest.raises(ConfigError, match="identifier_loader"):
        app.test_client().get("/account")


def test_protect_takes_trust_too(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = make_app(otp)
    add_views(app)
    app.add_url_rule("/", "home", lambda: "ok")
    otp.protect(app, exempt=["password"], trust="30d")
    browser = sign_in(trusting(app, enrol(app, clock)[0]))
    assert statuses(browser, "") == [200]
