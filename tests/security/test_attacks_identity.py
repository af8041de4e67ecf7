"""Whose verification it is: another user in the session, another client on one environ, loaders that ask back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from flask import Flask, jsonify, request, session
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, current_user

from flask_otp import OTP, ConfigError, otp_required
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory

ANN, BOB, MALLORY = "ann@example.com", "bob@example.com", "mallory@evil.example"


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


@pytest.fixture
def shop(make_app: AppFactory, otp: OTP) -> Flask:
    """A password, which is not checked here, and then a code that a view of the app's own takes."""
    otp.identifier_loader(lambda: session.get("user"))
    app = make_app(otp, OTP_COOLDOWN=0)
    app.add_url_rule("/as/<who>", "sign_in", lambda who: session.update(user=who) or "")

    @app.post("/second")
    def second() -> str:
        return otp.verify(request.form["code"]).identifier

    @app.post("/again")
    def again() -> str:
        return otp.resend().destination

    return app


@pytest.fixture
def outbox(shop: Flask) -> Iterator[Outbox]:
    with capture_codes(shop) as codes:
        yield codes


def opened_before_the_password(app: Flask, outbox: Outbox) -> tuple[FlaskClient, str]:
    thief = app.test_client()
    thief.post("/otp/send", json={"email": MALLORY})
    thief.get(f"/as/{BOB}")
    return thief, outbox.code


def brought_by_resend(app: Flask, outbox: Outbox) -> tuple[FlaskClient, str]:
    own = app.test_client(use_cookies=False).post("/otp/send", json={"email": MALLORY}).json
    thief, code = app.test_client(), outbox.code
    thief.get(f"/as/{BOB}")
    sent = len(outbox)
    answer = thief.post("/otp/resend", json={"challenge": own["challenge"]})
    assert (answer.status_code, answer.json["reason"], len(outbox)) == (400, "challenge_required", sent)
    with thief.session_transaction() as stored:
        assert "challenge" not in stored.get("_otp", {})
        stored["_otp"] = {"challenge": {"login": own["challenge"]}}  # however it may get there
    return thief, code


@pytest.mark.parametrize("way", [opened_before_the_password, brought_by_resend])
def test_r12_no_verb_takes_a_code_to_another_address_for_the_signed_in_user(
    shop: Flask, outbox: Outbox, way: Callable[[Flask, Outbox], tuple[FlaskClient, str]]
) -> None:
    thief, code = way(shop, outbox)
    sent = len(outbox)
    answers = [
        thief.post("/second", data={"code": code}),
        thief.post("/again"),
        thief.post("/otp/verify", json={"code": code}),
    ]
    assert [answer.status_code for answer in answers] == [400] * 3
    assert len(outbox) == sent
    with thief.session_transaction() as stored:
        assert "proof" not in stored["_otp"]


def test_the_signed_in_users_own_code_still_does(shop: Flask, outbox: Outbox) -> None:
    client = shop.test_client()
    client.post("/otp/send", json={"email": BOB})
    client.get(f"/as/{BOB}")
    assert client.post("/again").status_code == 200
    assert client.post("/second", data={"code": outbox.code}).text == BOB


# What one request has found


def who(otp: OTP) -> str | None:
    verification = otp.verification()
    return verification.identifier if verification else None


def prove(app: Flask, identifier: str, outbox: Outbox) -> tuple[FlaskClient, str]:
    client = app.test_client()
    client.post("/otp/send", json={"email": identifier})
    return client, client.post("/otp/verify", json={"code": outbox.code}).json["proof"]


def bearer(proof: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {proof}"}


def test_r26_an_environ_that_is_handed_on_tells_nothing_of_who_came_with_it(
    app: Flask, outbox: Outbox, make_app: AppFactory, clock: Clock, otp: OTP
) -> None:
    shop = make_app(otp)

    @shop.get("/batch")
    def batch() -> object:
        own = who(otp)
        with shop.test_request_context("/", environ_base=request.environ, headers=bearer(request.args["proof"])):
            return jsonify([own, who(otp)])

    with capture_codes(shop) as codes:
        client, proof = prove(shop, ANN, codes)
        _, other = prove(shop, BOB, codes)
    assert client.get("/batch", query_string={"proof": other}).json == [ANN, BOB]
    # Flask-SocketIO makes the request of each event from the environ of the handshake.
    with shop.test_request_context("/", headers=bearer(proof)) as handshake:
        assert who(otp) == ANN
    with shop.request_context(handshake.request.environ):
        assert who(otp) == ANN
    # Another process ends it, of which this one has counted nothing.
    state = shop.extensions["otp"]
    state.store.revoke(state.tokens.load_proof(proof).subject, int(clock() * 1000))
    with shop.request_context(handshake.request.environ):
        assert who(otp) is None


@pytest.mark.parametrize("lag", ["0s", "60s"])
@pytest.mark.parametrize("event", ["user", "session", "revoke", "forget", "expiry"])
def test_r25_what_changes_within_a_request_counts_at_once(
    make_app: AppFactory, clock: Clock, otp: OTP, event: str, lag: str
) -> None:
    otp.identifier_loader(lambda: session.get("user"))
    app = make_app(otp, OTP_REVOCATION_LAG=lag, OTP_VERIFIED_FOR="10m", OTP_COOLDOWN=0)
    changes: dict[str, Callable[[], object]] = {
        "user": lambda: session.update(user=BOB),
        "session": lambda: session.clear(),
        "revoke": lambda: otp.revoke(ANN),
        "forget": otp.forget,
        "expiry": lambda: clock.advance("10m"),
    }

    @app.get("/change")
    @otp_required
    def change() -> object:
        before = who(otp)
        changes[event]()
        return jsonify([before, who(otp)])

    with capture_codes(app) as codes:
        client, _ = prove(app, ANN, codes)
    assert client.get("/change").json == [ANN, None]


def test_r25_another_threads_revocation_counts_within_a_request(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp)

    def revoke() -> None:
        with app.app_context():
            otp.revoke(ANN)

    @app.get("/long")
    @otp_required
    def long() -> object:
        before = who(otp)
        thread = threading.Thread(target=revoke)
        thread.start()
        thread.join(10)
        return jsonify([before, who(otp)])

    with capture_codes(app) as codes:
        client, _ = prove(app, ANN, codes)
    assert client.get("/long").json == [ANN, None]


def test_a_proof_that_is_spent_for_one_request_is_seen_in_that_request(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp)

    @app.get("/once")
    @otp_required(once=True)
    def once() -> object:
        found = [who(otp)]
        otp.revoke(BOB)  # to revoke Bob's proofs does not end Ann's
        return jsonify([*found, who(otp)])

    with capture_codes(app) as codes:
        client, _ = prove(app, ANN, codes)
    assert client.get("/once").json == [ANN, ANN]
    assert client.get("/once").status_code == 401


# Loaders that ask back


def test_a_user_loader_may_ask_for_the_verification_that_is_asked_for_the_user(make_app: AppFactory, otp: OTP) -> None:
    class User(UserMixin):
        def __init__(self, email: str) -> None:
            self.id = email
            self.is_verified = otp.verification() is not None

    app = make_app(otp)
    login = LoginManager(app)
    login.user_loader(User)
    otp.identifier_loader(lambda: current_user.get_id() if current_user.is_authenticated else None)

    @app.get("/me")
    def me() -> object:
        return jsonify([current_user.get_id(), who(otp)])

    with capture_codes(app) as codes:
        client = app.test_client()
        with client.session_transaction() as stored:
            stored["_user_id"] = ANN
        assert client.get("/me").json == [ANN, None]
        client.post("/otp/send", json={})
        assert client.post("/otp/verify", json={"code": codes.code}).status_code == 200
    assert client.get("/me").json == [ANN, ANN]


@pytest.mark.parametrize("verb", ["verify", "resend", "send"])
def test_a_loader_that_needs_its_own_answer_lets_nobody_pass(make_app: AppFactory, otp: OTP, verb: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "verify": lambda: otp.verify("123456"),
        "resend": otp.resend,
        "send": lambda: otp.send(ANN),
    }
    otp.identifier_loader(lambda: str(calls[verb]()))
    app = make_app(otp)

    @app.get("/")
    @otp_required
    def index() -> str:
        return "inside"

    client = app.test_client()
    with client.session_transaction() as stored:
        stored["_otp"] = {"challenge": {"login": "no handle"}, "proof": {"login": "no proof"}}
    with pytest.raises(ConfigError, match="identifier_loader"):
        client.get("/")


def test_a_loader_that_fails_can_be_asked_again(make_app: AppFactory, otp: OTP) -> None:
    def load() -> str:
        raise LookupError

    otp.identifier_loader(load)
    app = make_app(otp)
    app.add_url_rule("/", "index", otp_required(lambda: "inside"))
    for _ in range(2):
        with pytest.raises(LookupError):
            app.test_client().get("/")


# A form that waits at a shared machine

PAGE = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def clinic(make_app: AppFactory, otp: OTP) -> Flask:
    app = make_app(otp, OTP_COOLDOWN=0, OTP_PURPOSES={"login": {}, "order": {}})

    @app.post("/profile")
    @otp_required
    def profile() -> str:
        return "saved"

    @app.post("/order")
    @otp_required(purpose="order", context=lambda: request.form["drug"])
    def order() -> str:
        return "ordered"

    return app


@pytest.mark.parametrize("before", [[], [ANN], [ANN, "Ann@Example.com"]])
def test_r12_the_next_person_at_the_machine_does_not_get_the_form_of_the_one_before(
    clinic: Flask, clock: Clock, before: list[str]
) -> None:
    browser = clinic.test_client()
    with capture_codes(clinic) as codes:
        browser.post("/profile", data={"illness": "words of ann"}, headers=PAGE)
        for address in before:
            browser.post("/otp/send", data={"identifier": address}, headers=PAGE)
        clock.advance("50m")
        for address in (ANN, BOB) if not before else (BOB,):  # in the first case, she asks now
            browser.post("/otp/send", data={"identifier": address}, headers=PAGE)
        verified = browser.post("/otp/verify", data={"code": codes.code}, headers=PAGE)
    assert verified.status_code == 303
    assert "/otp/repeat" not in verified.location
    assert "words of ann" not in browser.get("/otp/repeat", headers=PAGE).text
    # Nor is it anywhere in what the browser still holds.
    with browser.session_transaction() as stored:
        assert not stored["_otp"].get("repeat")


def test_the_sender_gets_the_form_after_a_second_code_and_another_tabs_form_is_left_alone(clinic: Flask) -> None:
    browser = clinic.test_client()
    with capture_codes(clinic) as codes:
        for drug in ("aspirin", "insulin"):
            browser.post("/order", data={"drug": drug}, headers=PAGE)
        page = browser.post("/profile", data={"illness": "words of ann"}, headers=PAGE)
        assert page.status_code == 303
        for path in ("/otp/send", "/otp/send", "/otp/resend"):
            data = {"identifier": ANN} if path == "/otp/send" else {}
            assert browser.post(path, data=data, headers=PAGE).status_code == 303
        browser.post("/otp/verify", data={"code": codes.code}, headers=PAGE)
        assert "words of ann" in browser.get("/otp/repeat", headers=PAGE).text
        for drug in ("aspirin", "insulin"):
            required = browser.post("/order", data={"drug": drug}).json["requirement"]
            browser.post("/otp/send", json={"email": ANN if drug == "aspirin" else BOB, "requirement": required})
            browser.post("/otp/verify", json={"code": codes.code})
            assert drug in browser.get("/otp/repeat?purpose=order", headers=PAGE).text
