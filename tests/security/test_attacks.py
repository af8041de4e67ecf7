"""Attacks that a reviewer found, carried out over HTTP: each succeeded once, and must not again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, session
from werkzeug.wrappers import Response

from flask_otp import OTP, ConfigError, otp_required
from flask_otp.delivery.background import Background
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.visits import wrong

MakeApp = Callable[..., Flask]
ANN, MALLORY = "ann@example.com", "mallory@example.com"
OPEN = {"OTP_IP_SEND_LIMIT": None, "OTP_IP_VERIFY_LIMIT": None}


def second_factor(make_app: MakeApp, clock: Clock) -> tuple[Flask, list[str]]:
    """A site whose second factor is noted by the ``verified_handler``."""
    otp, passed = OTP(clock=clock), []
    otp.identifier_loader(lambda: session.get("user"))
    otp.verified_handler(lambda verification: passed.append(session.get("user")))
    app = make_app(otp, OTP_COOLDOWN=0)
    app.add_url_rule("/as/<who>", "sign_in", lambda who: session.update(user=who) or "")
    guard = otp_required(identifier=lambda: session["user"])
    app.add_url_rule("/account", "account", guard(lambda: "secret"))
    return app, passed


def test_r12_a_code_of_ones_own_is_no_second_factor_in_anothers_session(make_app: MakeApp, clock: Clock) -> None:
    app, passed = second_factor(make_app, clock)
    with capture_codes(app) as codes:
        own = app.test_client(use_cookies=False).post("/otp/send", json={"email": MALLORY}).json
        stolen = app.test_client()
        stolen.get(f"/as/{ANN}")
        answer = stolen.post("/otp/verify", json={"challenge": own["challenge"], "code": codes.code})
    assert (answer.status_code, answer.json["reason"]) == (400, "invalid_code")
    assert passed == []


def test_r12_a_requirement_of_ones_own_names_nobody_in_anothers_session(make_app: MakeApp, clock: Clock) -> None:
    app, passed = second_factor(make_app, clock)
    mallory, stolen = app.test_client(), app.test_client()
    mallory.get(f"/as/{MALLORY}")
    requirement = mallory.get("/account").json["requirement"]
    stolen.get(f"/as/{ANN}")
    with capture_codes(app) as codes:
        answer = stolen.post("/otp/send", json={"requirement": requirement})
    assert (answer.status_code, codes, passed) == (400, [], [])


def test_the_second_factor_itself_works(make_app: MakeApp, clock: Clock) -> None:
    app, passed = second_factor(make_app, clock)
    client = app.test_client()
    client.get(f"/as/{ANN}")
    requirement = client.get("/account").json["requirement"]
    with capture_codes(app) as codes:
        assert client.post("/otp/send", json={"requirement": requirement}).status_code == 200
        assert client.post("/otp/verify", json={"code": codes.code}).status_code == 200
    assert passed == [ANN]
    assert client.get("/account").text == "secret"


def test_r08_known_buckets_do_not_multiply(make_app: MakeApp, clock: Clock) -> None:
    """Verifying without the cookie that was sent with must not give a bucket with a budget of its own."""
    app = make_app(OTP_COOLDOWN=0, **OPEN)
    cookies, sent = [""], 0
    with capture_codes(app) as codes:
        for _ in range(6):
            for cookie in list(cookies):
                client = app.test_client(use_cookies=False)
                answer = client.post("/otp/send", json={"email": ANN}, headers={"Cookie": cookie})
                if answer.status_code == 200:
                    sent += 1
                    answer = client.post(
                        "/otp/verify", json={"challenge": answer.json["challenge"], "code": codes.code}
                    )
                    found = [line for line in answer.headers.getlist("Set-Cookie") if line.startswith("otp_known")]
                    cookies.append(found[0].partition(";")[0])
    # A stranger's bucket has 5 an hour, and each of these five codes made one known bucket of 5 an hour.
    assert sent <= 5 + 5 * 5


def test_r11_a_burst_on_many_open_challenges_ends_with_the_surge(make_app: MakeApp, clock: Clock) -> None:
    app = make_app(OTP_SURGE_LIMIT="10/day", OTP_COOLDOWN=0, **OPEN)
    client, handles = app.test_client(use_cookies=False), []
    with capture_codes(app) as codes:
        for number in range(30):
            email = f"victim{number}@example.com"
            handles.append(client.post("/otp/send", json={"email": email}).json["challenge"])
        right = codes.code
    for handle, message in zip(handles[:-1], codes, strict=False):
        client.post("/otp/verify", json={"challenge": handle, "code": wrong(message.code)})
    assert client.post("/otp/verify", json={"challenge": handles[-1], "code": right}).status_code == 400
    with capture_codes(app) as codes:
        strong = client.post("/otp/send", json={"email": "owner@example.com"}).json
        body = {"challenge": strong["challenge"], "code": codes.code}
        assert client.post("/otp/verify", json=body).status_code == 200


def with_accounts(make_app: MakeApp, clock: Clock, deliver: Callable[[Any], None]) -> Flask:
    otp = OTP(clock=clock)
    otp.recipient_loader(lambda identifier, channel: identifier if identifier == ANN else None)
    otp.channel("email")(deliver)
    return make_app(otp, **OPEN)


def test_r21_a_failed_delivery_in_the_background_does_not_tell_who_has_an_account(
    make_app: MakeApp, clock: Clock
) -> None:
    failed = threading.Event()

    def deliver(message: Any) -> None:
        failed.set()
        raise OSError("no line")

    app, answers = with_accounts(make_app, clock, deliver), {}
    for email in (ANN, "nobody@example.com"):
        client = app.test_client()
        first = client.post("/otp/send", json={"email": email}).status_code
        if email == ANN:
            assert failed.wait(10)
            time.sleep(0.05)
        again = client.post("/otp/send", json={"email": email}).status_code
        clock.advance(31)
        answers[email] = (first, again, client.post("/otp/resend", json={}).status_code)
    assert answers[ANN] == answers["nobody@example.com"] == (200, 200, 200)


def test_r22_a_full_background_pool_refuses_everybody_alike(
    make_app: MakeApp, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    app = with_accounts(make_app, clock, lambda message: None)
    courier = app.extensions["otp"].delivery
    monkeypatch.setattr(courier, "_background", Background(app, workers=1, waiting=0))
    courier._background.run(lambda: release.wait(10) and None, discreet=True)
    try:
        answers = [app.test_client().post("/otp/send", json={"email": email}) for email in (ANN, "nobody@example.com")]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert answers[0].json == answers[1].json
    finally:
        release.set()


def test_an_empty_recipient_is_none_and_not_what_was_typed(make_app: MakeApp, clock: Clock) -> None:
    """A user without an address on file must not have the code sent to whatever a stranger typed."""
    otp, sent = OTP(clock=clock), Outbox()
    otp.recipient_loader(lambda identifier, channel: "")
    otp.channel("email")(sent.append)
    app = make_app(otp, OTP_DELIVERY="inline")
    assert app.test_client().post("/otp/send", json={"email": MALLORY}).status_code == 200
    assert sent == []


def test_a_namesake_of_our_blueprint_gets_no_500(make_app: MakeApp, clock: Clock) -> None:
    app = make_app(OTP(clock=clock, register_blueprint=False))
    app.register_blueprint(Blueprint("otp", __name__))
    app.add_url_rule("/account", "account", otp_required(lambda: "secret"))
    assert app.test_client().get("/account", headers={"Accept": "text/html"}).status_code == 401


def test_r41_a_short_fallback_key_is_refused_in_production() -> None:
    app = Flask("site")
    app.config.update(SECRET_KEY="x" * 32, SECRET_KEY_FALLBACKS=["a"], OTP_STORAGE_URI="memory://")
    with pytest.raises(ConfigError, match="SECRET_KEY_FALLBACKS"):
        OTP(app)


def test_a_form_that_was_read_before_us_is_still_measured(app: Flask, outbox: Outbox) -> None:
    from flask import request

    app.before_request(lambda: request.form.get("x") and None)
    answer = app.test_client().post("/otp/send", data={"identifier": ANN, "filler": "x" * 100_000})
    assert (answer.status_code, outbox) == (413, [])


def test_one_apps_proof_is_nothing_to_another_that_gets_its_environ(make_app: MakeApp, clock: Clock) -> None:
    from flask import request

    inner_otp = OTP(clock=clock)
    inner = make_app(inner_otp, SECRET_KEY="another secret, only for tests")
    inner.add_url_rule("/account", "account", lambda: str(inner_otp.verification()))
    outer = make_app()

    @outer.get("/account")
    @otp_required
    def account() -> Response:
        return Response.from_app(inner.wsgi_app, {**request.environ})

    with capture_codes(outer) as codes:
        client = outer.test_client()
        client.post("/otp/send", json={"email": ANN})
        client.post("/otp/verify", json={"code": codes.code})
        assert client.get("/account").text == "None"


@pytest.mark.parametrize("origin", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_r29_another_sites_form_does_not_sign_anybody_out(app: Flask, origin: dict[str, str]) -> None:
    """It comes without the session's cookie (SameSite=Lax), and a cookie in its answer would take that one's place."""
    app.add_url_rule("/pay", "pay", otp_required(lambda: "paid"), methods=["GET", "POST"])
    foreign = app.test_client(use_cookies=False).post("/pay", headers={"Accept": "text/html", **origin})
    assert foreign.status_code == 303
    assert "Set-Cookie" not in foreign.headers
    own = app.test_client().post("/pay", headers={"Accept": "text/html", "Sec-Fetch-Site": "same-origin"})
    assert "Set-Cookie" in own.headers
