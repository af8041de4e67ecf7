"""How old a verification may be and by which channel: asked for again, told as RFC 9470 says, and back (R42, R51)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import OTP, Message, current_verification, otp_required
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory

ANN = "ann@example.com"
PHONE = "+4915123456789"
HTML = {"Accept": "text/html"}


@pytest.fixture
def site(make_app: AppFactory) -> Flask:
    app = make_app(OTP_PURPOSES={"login": {}, "transfer": {}}, OTP_COOLDOWN=0)

    @app.get("/settings")
    @otp_required(max_age="5m")
    def settings() -> str:
        return current_verification.identifier

    app.add_url_rule("/account", "account", otp_required(lambda: "in"))
    return app


@pytest.fixture
def codes(site: Flask) -> Iterator[Outbox]:
    with capture_codes(site) as outbox:
        yield outbox


def sign_in(client: FlaskClient, codes: Outbox, **body: str) -> dict[str, Any]:
    client.post("/otp/send", json={"email": ANN} | body)
    proved: dict[str, Any] = client.post("/otp/verify", json={"code": codes.code, **body}).get_json()
    return proved


def max_age_of(answer: TestResponse) -> int | None:
    """The one of the header, which must be the one of the body."""
    assert answer.status_code == 401
    header, body = answer.headers["WWW-Authenticate"], answer.get_json(force=True)
    named = header.partition(", max_age=")[2]
    assert header.startswith('Bearer error="insufficient_user_authentication"')
    assert body.get("max_age") == (int(named) if named else None)
    return body.get("max_age")


# max_age


def test_a_stale_proof_sends_a_browser_round_the_form_and_back_to_the_very_page(
    site: Flask, codes: Outbox, clock: Clock
) -> None:
    client = site.test_client()
    sign_in(client, codes)
    assert client.get("/settings?tab=2", headers=HTML).text == ANN
    clock.advance(301)
    form = client.get("/settings?tab=2", headers=HTML)
    assert (form.status_code, form.headers["Location"]) == (303, "/otp/?next=/settings?tab%3D2")
    client.get(form.headers["Location"], headers=HTML)
    client.post("/otp/send", data={"identifier": ANN}, headers=HTML)
    back = client.post("/otp/verify", data={"code": codes.code}, headers=HTML)
    assert (back.status_code, back.headers["Location"]) == (303, "/settings?tab=2")
    assert client.get(back.headers["Location"], headers=HTML).text == ANN


def test_a_proof_that_is_too_old_for_one_view_is_good_for_the_others(site: Flask, codes: Outbox, clock: Clock) -> None:
    client = site.test_client()
    sign_in(client, codes)
    clock.advance(301)
    assert client.get("/settings").status_code == 401
    assert client.get("/account").status_code == 200


@pytest.mark.parametrize(
    ("max_age", "told"),
    [("5m", 300), (1, 1), ("12h", 43200), (timedelta(days=1), 86400), (0, 0), (None, None)],
    ids=str,
)
@pytest.mark.parametrize("shown", ["nothing", "stale"])
def test_r28_every_refusal_names_the_max_age_of_its_own_view(
    site: Flask, codes: Outbox, clock: Clock, max_age: Any, told: int | None, shown: str
) -> None:
    site.add_url_rule("/view", "view", otp_required(max_age=max_age)(lambda: "in"))
    client = site.test_client()
    if shown == "stale":
        sign_in(client, codes)
    clock.advance("1d")
    clock.advance(1)
    assert max_age_of(client.get("/view")) == told
    assert max_age_of(client.get("/settings")) == 300


def test_r28_of_two_guards_the_one_that_refuses_names_its_own(site: Flask, codes: Outbox, clock: Clock) -> None:
    strict = otp_required(purpose="transfer", max_age="1m")(lambda: "in")
    site.add_url_rule("/both", "both", otp_required(max_age="10m")(strict))
    client = site.test_client()
    assert max_age_of(client.get("/both")) == 600
    sign_in(client, codes)
    assert max_age_of(client.get("/both")) == 60
    sign_in(client, codes, purpose="transfer")
    assert client.get("/both").status_code == 200
    clock.advance(61)
    assert max_age_of(client.get("/both")) == 60
    clock.advance("10m")
    assert max_age_of(client.get("/both")) == 600


def test_an_api_client_comes_back_with_a_fresh_proof(site: Flask, codes: Outbox, clock: Clock) -> None:
    client = site.test_client(use_cookies=False)

    def prove(**body: str) -> dict[str, str]:
        handle = client.post("/otp/send", json={"email": ANN} | body).get_json()["challenge"]
        proof = client.post("/otp/verify", json={"code": codes.code, "challenge": handle}).get_json()["proof"]
        return {"Authorization": f"Bearer {proof}"}

    old = prove()
    clock.advance(301)
    refused = client.get("/settings", headers=old)
    assert max_age_of(refused) == 300
    fresh = prove(requirement=refused.get_json(force=True)["requirement"])
    assert client.get("/settings", headers=fresh).text == ANN
    assert client.get("/settings", headers=old).status_code == 401


def test_r51_neither_use_nor_another_purpose_makes_a_proof_fresh(site: Flask, codes: Outbox, clock: Clock) -> None:
    client = site.test_client()
    sign_in(client, codes)
    for _ in range(3):
        clock.advance(100)
        assert client.get("/settings").status_code == 200
    sign_in(client, codes, purpose="transfer")
    clock.advance(1)
    assert client.get("/settings").status_code == 401


def test_r51_the_age_counts_from_the_code_that_was_typed_and_not_from_the_one_that_was_sent(
    site: Flask, codes: Outbox, clock: Clock
) -> None:
    client = site.test_client()
    client.post("/otp/send", json={"email": ANN})
    clock.advance(299)
    client.post("/otp/verify", json={"code": codes.code})
    clock.advance(300)
    assert client.get("/settings").status_code == 200
    clock.advance(1)
    assert client.get("/settings").status_code == 401


def test_r51_the_revocation_lag_does_not_stretch_a_max_age(make_app: AppFactory, clock: Clock) -> None:
    app = make_app(OTP_REVOCATION_LAG="1h")
    app.add_url_rule("/settings", "settings", otp_required(max_age="5m")(lambda: "in"))
    client = app.test_client()
    with capture_codes(app) as codes:
        sign_in(client, codes)
    assert client.get("/settings").status_code == 200
    clock.advance(301)
    assert client.get("/settings").status_code == 401


# channels


@pytest.fixture
def sent() -> list[Message]:
    return []


@pytest.fixture
def office(make_app: AppFactory, clock: Clock, sent: list[Message]) -> Flask:
    """``/vault`` wants a text message, ``/letters`` an e-mail; ``/as/<address>`` is a first factor."""
    otp = OTP(clock=clock)
    for name in ("email", "sms"):
        otp.channel(name)(sent.append)
    app = make_app(otp, OTP_SMS_COUNTRIES=["DE"], OTP_COOLDOWN=0)
    app.add_url_rule("/vault", "vault", otp_required(channels=("sms",))(lambda: "in"))
    app.add_url_rule("/letters", "letters", otp_required(channels=("email",))(lambda: "in"))
    return app


def prove(client: FlaskClient, sent: list[Message], **body: str) -> dict[str, str]:
    """As the session and as a bearer token."""
    assert client.post("/otp/send", json=body).status_code == 200
    proof = client.post("/otp/verify", json={"code": sent[-1].code}).get_json()["proof"]
    return {"Authorization": f"Bearer {proof}"}


def test_r42_where_a_text_message_is_wanted_a_proof_by_email_is_refused(office: Flask, sent: list[Message]) -> None:
    client, other = office.test_client(), office.test_client()
    by_email = prove(client, sent, email=ANN)
    assert (client.get("/letters").status_code, other.get("/letters", headers=by_email).status_code) == (200, 200)
    assert (client.get("/vault").status_code, other.get("/vault", headers=by_email).status_code) == (401, 401)
    by_sms = prove(client, sent, phone=PHONE)
    assert (client.get("/vault").status_code, other.get("/vault", headers=by_sms).status_code) == (200, 200)
    assert (client.get("/letters").status_code, other.get("/letters", headers=by_sms).status_code) == (401, 401)


def test_r42_after_the_refusal_only_a_text_message_can_be_asked_for(office: Flask, sent: list[Message]) -> None:
    client = office.test_client()
    refused = client.get("/vault").get_json(force=True)
    assert refused["channels"] == ["sms"]
    for body in ({"email": ANN}, {"phone": PHONE, "channel": "email"}, {"email": ANN, "channel": "email"}):
        assert client.post("/otp/send", json=body).status_code == 400
        api = office.test_client(use_cookies=False)
        assert api.post("/otp/send", json=body | {"requirement": refused["requirement"]}).status_code == 400
    assert sent == []
    prove(client, sent, phone=PHONE)
    assert client.get("/vault").status_code == 200


def test_r42_a_user_known_by_email_gets_the_text_message_that_the_view_wants(
    make_app: AppFactory, clock: Clock, sent: list[Message]
) -> None:
    otp = OTP(clock=clock)
    for name in ("email", "sms"):
        otp.channel(name)(sent.append)
    otp.identifier_loader(lambda: session.get("user"))
    otp.recipient_loader(lambda identifier, channel: {"email": identifier, "sms": PHONE}[channel])
    app = make_app(otp, OTP_SMS_COUNTRIES=["DE"], OTP_COOLDOWN=0, OTP_DELIVERY="inline")
    app.add_url_rule("/vault", "vault", otp_required(channels=("sms",))(lambda: current_verification.identifier))
    client = app.test_client()
    with client.session_transaction() as kept:
        kept["user"] = ANN
    prove(client, sent)
    assert client.get("/vault").status_code == 401
    prove(client, sent)
    assert [message.recipient for message in sent] == [ANN, PHONE]
    assert client.get("/vault").text == ANN
