"""The HTTP API as its clients see it: shapes, redirects, errors, headers, and what never comes out of it."""

from __future__ import annotations

import base64
import contextlib
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from random import Random
from string import ascii_letters
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import OTP, Message, Verification, otp_required
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.answers import place
from tests.support.visits import ask, send, verify, wrong

ANN = "ann@example.com"
BOB = "bob@example.com"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"Accept": "application/json"}

CHALLENGE_MEMBERS = [
    "challenge",
    "channel",
    "code_length",
    "destination",
    "expires_in",
    "other_channels",
    "purpose",
    "resend_in",
]
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "reason"}

AppFactory = Callable[..., Flask]


def no_one(message: Message) -> None:
    """A channel that takes everything."""


CONFIG: dict[str, Any] = {
    "OTP_CHANNELS": {"email": no_one},
    "OTP_PURPOSES": {"login": {}, "transfer": {"code_length": 8, "verified_for": "10m"}},
    "OTP_IP_SEND_LIMIT": None,
    "OTP_IP_VERIFY_LIMIT": None,
}


def add_account(app: Flask) -> None:
    @app.get("/account")
    @otp_required
    def account() -> str:
        return "private"


@pytest.fixture
def app(make_app: AppFactory) -> Flask:
    """A site with e-mail, two purposes and a guarded page."""
    app = make_app(**CONFIG)
    add_account(app)
    return app


@pytest.fixture
def sent(app: Flask) -> Iterator[Outbox]:
    with capture_codes(app) as outbox:
        yield outbox


def assert_problem(answer: TestResponse, status: int, reason: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    problem: dict[str, Any] = answer.get_json(force=True)
    assert problem["status"] == status
    assert problem["reason"] == reason
    assert problem["type"] == f"urn:flask-otp:{reason}"
    assert problem.keys() >= PROBLEM_MEMBERS
    assert problem["title"]
    assert problem["detail"]
    assert_private(answer)
    return problem


def assert_private(answer: TestResponse) -> None:
    """R36: what every answer under the prefix carries."""
    assert answer.headers.getlist("Cache-Control") == ["no-store"]
    assert "cookie" in {name.lower() for name in answer.vary}
    policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# JSON in, JSON out


def test_send_answers_with_exactly_the_promised_members(app: Flask, sent: Outbox) -> None:
    answer = send(app.test_client())
    assert answer.content_type == "application/json"
    body = answer.get_json()
    assert sorted(body) == CHALLENGE_MEMBERS
    assert isinstance(body.pop("challenge"), str)
    assert body == {
        "channel": "email",
        "destination": "a***@example.com",
        "purpose": "login",
        "code_length": 6,
        "expires_in": 300,
        "resend_in": 30,
        "other_channels": [],
    }
    assert [message.recipient for message in sent] == [ANN]
    assert re.fullmatch("[0-9]{6}", sent.code)


def test_verify_answers_with_exactly_the_promised_members(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    ask(client)
    body = verify(client, sent.code).get_json()
    assert body.pop("proof").count(".") >= 1
    verified_at = datetime.fromisoformat(body.pop("verified_at"))
    assert verified_at.utcoffset() is not None
    assert verified_at.timestamp() == clock.now
    assert body == {
        "verified": True,
        "identifier": ANN,
        "channel": "email",
        "channels": ["email"],
        "purpose": "login",
        "proof_expires_in": 12 * 3600,
        "next": "/",
    }


def test_resend_answers_as_send_does(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    ask(client)
    clock.advance("1m")
    body = client.post("/otp/resend", json={}).get_json()
    assert sorted(body) == CHALLENGE_MEMBERS
    assert (body["expires_in"], body["resend_in"], body["purpose"]) == (240, 30, "login")
    assert len(sent) == 2


def test_logout_answers_204_without_a_body_and_ends_the_proof(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    ask(client)
    verify(client, sent.code)
    assert client.get("/account").status_code == 200
    answer = client.post("/otp/logout")
    assert (answer.status_code, answer.data) == (204, b"")
    assert_private(answer)
    assert client.get("/account").status_code == 401


def test_r25_a_cookie_saved_before_the_logout_is_worth_nothing_after_it(app: Flask, sent: Outbox) -> None:
    client, thief = app.test_client(), app.test_client()
    ask(client)
    verify(client, sent.code)
    thief.set_cookie("session", client.get_cookie("session").value)  # type: ignore[union-attr]
    assert thief.get("/account").status_code == 200
    client.post("/otp/logout")
    assert thief.get("/account").status_code == 401


def test_logout_drops_the_outstanding_challenge(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    handle = ask(client)
    client.post("/otp/logout")
    assert_problem(verify(client, sent.code), 400, "challenge_required")
    assert_problem(verify(client, sent.code, challenge=handle), 400, "invalid_code")


def test_an_api_client_without_cookies_needs_nothing_but_the_handle_and_the_proof(app: Flask, sent: Outbox) -> None:
    handle = ask(app.test_client(use_cookies=False))
    proof = verify(app.test_client(use_cookies=False), sent.code, challenge=handle).get_json()["proof"]
    bearer = {"Authorization": f"Bearer {proof}"}
    assert app.test_client(use_cookies=False).get("/account", headers=bearer).text == "private"
    app.test_client(use_cookies=False).post("/otp/logout", headers=bearer)
    assert app.test_client(use_cookies=False).get("/account", headers=bearer).status_code == 401


def test_session_false_keeps_nothing_for_the_client(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    found: list[Verification | None] = []

    @otp.verified_handler
    def note(verification: Verification) -> None:
        found.append(otp.verification("login"))

    app = make_app(otp, **CONFIG)
    add_account(app)
    client = app.test_client()
    with capture_codes(app) as sent:
        asked = client.post("/otp/send", json={"email": ANN, "next": "/account", "session": False})
        clock.advance("1m")
        again = client.post("/otp/resend", json={"challenge": asked.json["challenge"], "session": False})
        assert_problem(
            client.post("/otp/verify", json={"code": sent.code, "session": False}), 400, "challenge_required"
        )
        body = {"code": sent.code, "challenge": again.json["challenge"], "session": False}
        assert_problem(client.post("/otp/verify", json=body | {"trust": True}), 400, "invalid_request")
        verified = client.post("/otp/verify", json=body)
    for answer in (asked, again, verified):
        assert answer.status_code == 200, answer.text
        assert "Set-Cookie" not in answer.headers
    assert verified.json["next"] == "/"
    assert [verification.identifier for verification in found if verification] == [ANN]
    assert client.get("/account").status_code == 401
    bearer = {"Authorization": f"Bearer {verified.json['proof']}"}
    assert client.get("/account", headers=bearer).text == "private"


def test_r15_another_client_without_a_session_repeats_no_click(app: Flask, sent: Outbox) -> None:
    """In one session a second click within the cooldown gets the first one's challenge. Another client does not."""
    body = {"email": ANN, "session": False}
    answers = [app.test_client().post("/otp/send", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert "challenge" not in answers[1].json


def test_session_false_leaves_what_the_browser_has(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    ask(client)
    verify(client, sent.code)
    mine = ask(client, purpose="transfer")
    code = sent.code
    with client.session_transaction() as before:
        kept = dict(before)
    other = client.post("/otp/send", json={"identifier": "bob@example.com", "session": False}).json["challenge"]
    answer = client.post("/otp/verify", json={"code": sent.code, "challenge": other, "session": False})
    assert answer.json["identifier"] == "bob@example.com"
    with client.session_transaction() as after:
        assert dict(after) == kept
    # Neither was ended.
    assert client.get("/account").text == "private"
    assert verify(client, code, challenge=mine).status_code == 200


def test_session_is_no_field_of_a_form(app: Flask) -> None:
    answer = app.test_client().post("/otp/send", data={"identifier": ANN, "session": ""})
    assert answer.status_code == 303
    assert "Set-Cookie" in answer.headers
    assert_problem(send(app.test_client(), session="no"), 400, "invalid_request")


def test_without_a_handle_and_without_a_session_there_is_no_challenge(app: Flask) -> None:
    client = app.test_client()
    assert_problem(verify(client, "123456"), 400, "challenge_required")
    assert_problem(client.post("/otp/resend", json={}), 400, "challenge_required")


def test_email_and_phone_are_other_names_of_the_identifier(make_app: AppFactory) -> None:
    app = make_app(OTP_CHANNELS={"email": no_one, "sms": no_one}, OTP_SMS_COUNTRIES=["GB"])
    with capture_codes(app) as sent:
        by_mail = app.test_client().post("/otp/send", json={"email": ANN}).get_json()
        by_phone = app.test_client().post("/otp/send", json={"phone": "+44 7400 123456"}).get_json()
    assert (by_mail["channel"], by_phone["channel"]) == ("email", "sms")
    assert by_phone["destination"] == "+4*******56"
    assert [message.recipient for message in sent] == [ANN, "+447400123456"]


def test_the_channel_may_be_named_and_must_exist(app: Flask) -> None:
    with capture_codes(app) as sent:
        assert_problem(send(app.test_client(), channel="pigeon"), 400, "invalid_request")
        assert not sent
        assert send(app.test_client(), channel="email").get_json()["channel"] == "email"


# Form in, HTML out


def test_r30_a_form_is_answered_with_303_to_the_next_page(app: Flask, sent: Outbox, clock: Clock) -> None:
    browser = app.test_client()
    answers = [browser.post("/otp/send", data={"identifier": ANN}, headers=HTML)]
    clock.advance("30s")
    answers.append(browser.post("/otp/resend", data={}, headers=HTML, content_type="multipart/form-data"))
    answers.append(browser.post("/otp/verify", data={"code": sent.code}, headers=HTML))
    answers.append(browser.post("/otp/logout", headers={**HTML, "Content-Type": "application/x-www-form-urlencoded"}))
    assert [(a.status_code, place(a)) for a in answers] == [
        (303, "/otp/verify"),
        (303, "/otp/verify"),
        (303, "/"),
        (303, "/"),
    ]
    for answer in answers:
        assert_private(answer)


def test_a_form_of_a_client_that_asks_for_json_gets_json(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    assert sorted(client.post("/otp/send", data={"identifier": ANN}, headers=JSON).get_json()) == CHALLENGE_MEMBERS
    assert client.post("/otp/verify", data={"code": sent.code}, headers=JSON).get_json()["verified"] is True


def test_json_of_a_browser_gets_json(app: Flask) -> None:
    answer = app.test_client().post("/otp/send", json={"identifier": "nobody"}, headers=HTML)
    assert_problem(answer, 400, "invalid_identifier")


def input_tag(page: str, name: str) -> str:
    tag = re.search(rf'<input[^>]* id="{name}"[^>]*>', page)
    assert tag is not None, page
    return tag[0]


def assert_error_beside(answer: TestResponse, field: str) -> None:
    assert answer.mimetype == "text/html"
    tag = input_tag(answer.text, field)
    assert 'aria-invalid="true"' in tag
    assert re.search(rf'aria-describedby="[^"]*\b{field}-error\b', tag)
    assert re.search(rf'id="{field}-error" role="alert">\s*\S', answer.text)


def test_a_bad_address_is_told_beside_its_field_which_keeps_what_was_typed(app: Flask) -> None:
    answer = app.test_client().post("/otp/send", data={"identifier": "ann@"}, headers=HTML)
    assert answer.status_code == 400
    assert_error_beside(answer, "identifier")
    assert 'value="ann@"' in input_tag(answer.text, "identifier")
    assert_private(answer)


def test_what_was_typed_is_escaped_on_the_page(app: Flask) -> None:
    typed = "\"><script>alert(1)</script>'"
    page = app.test_client().post("/otp/send", data={"identifier": typed, "next": "/'\"><b>"}, headers=HTML).text
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_a_wrong_code_is_told_beside_its_field(app: Flask, sent: Outbox) -> None:
    browser = app.test_client()
    browser.post("/otp/send", data={"identifier": ANN})
    answer = browser.post("/otp/verify", data={"code": wrong(sent.code)}, headers=HTML)
    assert answer.status_code == 400
    assert_error_beside(answer, "code")
    assert wrong(sent.code) not in answer.text
    assert_private(answer)


def test_a_limit_is_told_on_the_form_with_its_retry_after(app: Flask, sent: Outbox) -> None:
    browser = app.test_client()
    browser.post("/otp/send", data={"identifier": ANN})
    answer = browser.post("/otp/resend", data={}, headers=HTML, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "30"
    assert 'role="alert"' in answer.text
    assert 'id="code"' in answer.text
    assert_private(answer)


def test_a_browser_without_a_challenge_is_sent_to_the_first_page(app: Flask) -> None:
    browser = app.test_client()
    for answer in (browser.get("/otp/verify"), browser.post("/otp/verify", data={"code": "123456"}, headers=HTML)):
        assert (answer.status_code, answer.location) == (303, "/otp/")


def test_a_wrong_code_without_a_purpose_shows_the_page_of_the_challenge_that_it_was_tried_on(app: Flask) -> None:
    browser = app.test_client()
    with capture_codes(app):
        browser.post("/otp/send", data={"identifier": ANN, "purpose": "transfer"})
        answer = browser.post("/otp/verify", data={"code": "00000000"}, headers=HTML)
    assert answer.status_code == 400
    assert_error_beside(answer, "code")


# Every failure


def test_no_channel_is_503_delivery_failed_with_retry_after(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    answer = send(make_app(OTP_CHANNELS={}).test_client())
    problem = assert_problem(answer, 503, "delivery_failed")
    assert answer.headers["Retry-After"] == str(problem["retry_after"])
    assert "OTP_CHANNELS" in caplog.text


def test_a_channel_that_raises_is_503_and_leaves_nothing_outstanding(make_app: AppFactory) -> None:
    def broken(message: Message) -> None:
        raise OSError("gone")

    app = make_app(OTP_CHANNELS={"email": broken})
    client = app.test_client()
    problem = assert_problem(answer := send(client), 503, "delivery_failed")
    assert answer.headers["Retry-After"] == str(problem["retry_after"])
    assert_problem(verify(client, "123456"), 400, "challenge_required")


def unreachable_site(make_app: AppFactory) -> Flask:
    # Nothing listens on the discard port of the loopback interface.
    app = make_app(**{**CONFIG, "OTP_STORAGE_URI": "redis://127.0.0.1:9"})
    add_account(app)
    return app


def test_r37_a_store_out_of_reach_is_503_with_retry_after_everywhere(make_app: AppFactory) -> None:
    app, elsewhere = unreachable_site(make_app), make_app(**CONFIG)
    with capture_codes(elsewhere) as sent:
        handle = ask(elsewhere.test_client())
        other = ask(elsewhere.test_client(), BOB)
        proof = verify(elsewhere.test_client(), sent.code, challenge=other).get_json()["proof"]
    bearer = {"Authorization": f"Bearer {proof}"}
    with capture_codes(app) as outbox:
        client = app.test_client()
        answers = [
            send(client),
            verify(client, sent.code_for(ANN), challenge=handle),
            client.post("/otp/resend", json={"challenge": handle}),
            client.get("/account", headers=bearer),
            client.post("/otp/logout", headers=bearer),
        ]
        for answer in answers:
            problem = assert_problem(answer, 503, "store_unavailable")
            assert answer.headers["Retry-After"] == str(problem["retry_after"])
        page = client.post("/otp/send", data={"identifier": ANN}, headers=HTML)
        assert (page.status_code, page.mimetype) == (503, "text/html")
        assert int(page.headers["Retry-After"]) > 0
        assert not outbox


def test_r48_a_limit_is_429_and_the_retry_after_is_true(app: Flask, sent: Outbox, clock: Clock) -> None:
    ask(app.test_client())
    problem = assert_problem(answer := send(app.test_client()), 429, "rate_limited")
    assert answer.headers["Retry-After"] == str(problem["retry_after"]) == "30"
    clock.advance(29)
    assert send(app.test_client()).status_code == 429
    clock.advance(1)
    assert send(app.test_client()).status_code == 200


def test_r48_a_networks_limit_is_429_with_retry_after(make_app: AppFactory) -> None:
    app = make_app(**{**CONFIG, "OTP_IP_SEND_LIMIT": "1/minute", "OTP_IP_VERIFY_LIMIT": "1/minute"})
    with capture_codes(app):
        client = app.test_client()
        handle = ask(client)
        verify(client, "000000", challenge=handle)
        for answer in (send(client, BOB), verify(client, "000000", challenge=handle)):
            problem = assert_problem(answer, 429, "rate_limited")
            assert answer.headers["Retry-After"] == str(problem["retry_after"])
            assert 1 <= problem["retry_after"] <= 60


def test_the_guards_refusal_is_a_problem_too(app: Flask) -> None:
    problem = assert_problem(app.test_client().get("/account"), 401, "verification_required")
    assert problem["requirement"]


MANNERS = [
    ("GET", "/otp/nosuch", 404, "not_found", None),
    ("POST", "/otp/nosuch/deeper", 404, "not_found", None),
    ("GET", "/otp/verify/", 404, "not_found", None),
    ("GET", "/otp/static/nosuch.js", 404, "not_found", None),
    ("GET", "/otp/static/..%2f__init__.py", 404, "not_found", None),
    ("PUT", "/otp/send", 405, "method_not_allowed", {"POST"}),
    ("PATCH", "/otp/verify", 405, "method_not_allowed", {"GET", "POST"}),
    ("DELETE", "/otp/verify", 405, "method_not_allowed", {"GET", "POST"}),
    ("POST", "/otp/", 405, "method_not_allowed", {"GET"}),
    ("DELETE", "/otp/", 405, "method_not_allowed", {"GET"}),
]


@pytest.mark.parametrize(("method", "path", "status", "reason", "allowed"), MANNERS)
def test_404_and_405_under_the_prefix_keep_our_manners(
    app: Flask, method: str, path: str, status: int, reason: str, allowed: set[str] | None
) -> None:
    client = app.test_client()
    answer = client.open(path, method=method)
    assert_problem(answer, status, reason)
    if allowed is not None:
        assert set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed
    page = client.open(path, method=method, headers=HTML)
    assert (page.status_code, page.mimetype) == (status, "text/html")
    assert "<h1>" in page.text
    assert_private(page)


@pytest.mark.parametrize(("name", "page"), [("send", "/otp/"), ("resend", "/otp/verify"), ("logout", "/otp/")])
def test_the_address_of_a_form_leads_a_person_to_its_page(app: Flask, name: str, page: str) -> None:
    """By Back, by a bookmark, or after signing in elsewhere one gets where nothing but a form belongs."""
    client = app.test_client()
    assert_problem(client.get(f"/otp/{name}", headers=JSON), 405, "method_not_allowed")
    answer = client.get(f"/otp/{name}", headers=HTML)
    assert (answer.status_code, answer.location) == (303, page)


def test_paths_outside_of_the_prefix_are_left_alone(app: Flask) -> None:
    client = app.test_client()
    for answer in (client.get("/nosuch"), client.post("/account"), client.get("/otpsend")):
        assert answer.mimetype == "text/html"
        assert "Content-Security-Policy" not in answer.headers


def test_too_large_and_of_another_type_are_problems_too(app: Flask) -> None:
    client = app.test_client()
    assert_problem(send(client, "x" * 5000), 413, "request_entity_too_large")
    as_text = client.post("/otp/send", data='{"identifier": "ann@example.com"}', content_type="text/plain")
    assert_problem(as_text, 415, "unsupported_media_type")
    page = client.post("/otp/send", data={"identifier": "x" * 5000}, headers=HTML)
    assert (page.status_code, page.mimetype) == (413, "text/html")
    assert_private(page)


def test_a_failure_of_the_apps_own_hook_is_500_in_our_manner(make_app: AppFactory) -> None:
    otp = OTP()

    @otp.verified_handler
    def broken(verification: Verification) -> None:
        raise RuntimeError(f"secret {verification.proof}")

    app = make_app(otp, **CONFIG, PROPAGATE_EXCEPTIONS=False)
    with capture_codes(app) as sent:
        client = app.test_client()
        ask(client)
        assert_problem(answer := verify(client, sent.code), 500, "internal_server_error")
    assert "secret" not in answer.text


# Headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/otp/"),
        ("GET", "/otp/?purpose=transfer"),
        ("GET", "/otp/?purpose=nosuch"),
        ("GET", "/otp/verify"),
        ("GET", "/otp/verify?purpose=nosuch"),
        ("HEAD", "/otp/"),
        ("OPTIONS", "/otp/send"),
        ("POST", "/otp/static/otp.js"),
        ("GET", "/otp/static/nosuch.js"),
        ("GET", "/otp/brand.css"),
        ("POST", "/otp/send"),
        ("POST", "/otp/verify"),
        ("POST", "/otp/resend"),
        ("POST", "/otp/logout"),
    ],
)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_r36_every_answer_is_private(app: Flask, method: str, path: str, accept: str) -> None:
    with app.test_client().open(path, method=method, headers={"Accept": accept}) as answer:
        assert_private(answer)


def test_r36_the_pages_carry_no_inline_script_or_style(app: Flask) -> None:
    client = app.test_client()
    with capture_codes(app):
        ask(client)
    for page in (client.get("/otp/").text, client.get("/otp/verify").text, client.get("/otp/x", headers=HTML).text):
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=", page)


def test_r36_what_the_verified_handler_answers_is_private(make_app: AppFactory) -> None:
    otp = OTP()

    @otp.verified_handler
    def token(verification: Verification) -> Response:
        return Response(f"token for {verification.identifier}", headers={"Cache-Control": "public, max-age=60"})

    app = make_app(otp, **CONFIG)
    with capture_codes(app) as sent:
        client = app.test_client()
        ask(client)
        answer = verify(client, sent.code)
    assert answer.text.startswith("token for")
    assert_private(answer)


# Resend, double click, second tab


def test_r14_a_resend_sends_the_same_code(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    handle = ask(client)
    clock.advance("30s")
    client.post("/otp/resend", json={})
    assert [message.code for message in sent] == [sent.code, sent.code]
    assert verify(client, sent[0].code, challenge=handle).status_code == 200


def test_r14_a_resend_gives_no_attempt_back_and_no_time(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    ask(client)
    for _ in range(4):
        assert_problem(verify(client, wrong(sent.code)), 400, "invalid_code")
    clock.advance("30s")
    assert client.post("/otp/resend", json={}).get_json()["expires_in"] == 270
    assert_problem(verify(client, wrong(sent.code)), 400, "invalid_code")
    assert_problem(verify(client, sent.code), 400, "invalid_code")


def test_a_resend_within_the_cooldown_is_429_and_sends_nothing(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    ask(client)
    clock.advance(10)
    problem = assert_problem(client.post("/otp/resend", json={}), 429, "rate_limited")
    assert problem["retry_after"] == 20
    assert len(sent) == 1


def test_the_resend_of_a_used_code_says_to_ask_for_a_new_one(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    handle = ask(client)
    assert verify(client, sent.code).status_code == 200
    problem = assert_problem(client.post("/otp/resend", json={"challenge": handle}), 400, "challenge_required")
    assert problem["detail"] == "That code is no longer valid. Please ask for a new one."


def test_a_double_click_gets_the_same_code_and_one_message(app: Flask, sent: Outbox) -> None:
    browser = app.test_client()
    answers = [browser.post("/otp/send", data={"identifier": ANN}, headers=HTML) for _ in range(2)]
    assert [(answer.status_code, place(answer)) for answer in answers] == [(303, "/otp/verify")] * 2
    assert len(sent) == 1
    assert verify(browser, sent.code).status_code == 200


def test_a_double_click_at_the_same_moment_gets_one_message(app: Flask, sent: Outbox) -> None:
    browser = app.test_client()
    browser.get("/otp/")
    cookie = browser.get_cookie("session")
    assert cookie is not None
    gate, answers = threading.Barrier(2), []

    def click() -> None:
        tab = app.test_client()
        tab.set_cookie("session", cookie.value)
        gate.wait()
        answers.append(tab.post("/otp/send", data={"identifier": ANN}, headers=HTML).status_code)

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [303, 303]
    assert len(sent) == 1


def test_a_second_click_gives_no_second_set_of_attempts(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    first, second = ask(client), ask(client)
    for handle in (first, second, first, second, first):
        verify(client, wrong(sent.code), challenge=handle)
    for handle in (first, second):
        assert_problem(verify(client, sent.code, challenge=handle), 400, "invalid_code")


def test_a_second_tab_after_the_cooldown_gets_the_same_code_again(app: Flask, sent: Outbox, clock: Clock) -> None:
    browser = app.test_client()
    first = ask(browser)
    clock.advance("31s")
    assert send(browser).get_json()["expires_in"] == 269
    assert [message.code for message in sent] == [sent.code] * 2
    assert verify(browser, sent.code, challenge=first).status_code == 200


def test_another_browser_gets_another_code(app: Flask, sent: Outbox, clock: Clock) -> None:
    first, second = app.test_client(), app.test_client()
    ask(first)
    clock.advance("30s")
    ask(second)
    assert sent[0].code != sent[1].code
    assert_problem(verify(second, sent[0].code), 400, "invalid_code")
    assert verify(first, sent[0].code).status_code == 200
    assert verify(second, sent[1].code).status_code == 200


# Where to go next


def test_next_is_given_back_once(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    ask(client, next="/account?tab=1")
    assert verify(client, sent.code).get_json()["next"] == "/account?tab=1"
    clock.advance("1m")
    ask(client)
    assert verify(client, sent.code).get_json()["next"] == "/"


def test_next_of_the_start_page_survives_to_the_end_of_the_form(app: Flask, sent: Outbox) -> None:
    browser = app.test_client()
    page = browser.get("/otp/?next=/account%3Ftab%3D1").text
    assert 'name="next" value="/account?tab=1"' in page
    browser.post("/otp/send", data={"identifier": ANN})
    assert browser.post("/otp/verify", data={"code": sent.code}).location == "/account?tab=1"


def test_next_in_the_form_wins_over_the_start_pages(app: Flask) -> None:
    browser = app.test_client()
    with capture_codes(app) as sent:
        browser.get("/otp/?next=/one")
        browser.post("/otp/send", data={"identifier": ANN, "next": "/two"})
        assert browser.post("/otp/verify", data={"code": sent.code}).location == "/two"


def test_without_next_the_default_is_used(make_app: AppFactory) -> None:
    app = make_app(**CONFIG, OTP_DEFAULT_NEXT="/home")
    with capture_codes(app) as sent:
        client = app.test_client()
        ask(client, next="//evil.example/")
        assert verify(client, sent.code).get_json()["next"] == "/home"
        form = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}
        assert client.post("/otp/logout", **form).location == "/home"


def test_next_of_one_purpose_is_not_anothers(app: Flask) -> None:
    client = app.test_client()
    with capture_codes(app) as sent:
        ask(client)
        ask(client, purpose="transfer", next="/after-transfer")
        assert verify(client, sent[0].code, purpose="login").get_json()["next"] == "/"
        assert verify(client, sent[1].code, purpose="transfer").get_json()["next"] == "/after-transfer"


def test_the_guard_sends_a_browser_round_the_form_and_back(app: Flask, sent: Outbox) -> None:
    browser = app.test_client()
    refused = browser.get("/account?tab=1", headers=HTML)
    assert refused.status_code == 303
    assert refused.location.startswith("/otp/?next=")
    assert browser.get(refused.location).status_code == 200
    browser.post("/otp/send", data={"identifier": ANN})
    back = browser.post("/otp/verify", data={"code": sent.code}).location
    assert back == "/account?tab=1"
    assert browser.get(back).text == "private"


# Purposes


def test_an_unknown_purpose_is_refused_everywhere_and_sends_nothing(app: Flask) -> None:
    with capture_codes(app) as sent:
        client = app.test_client()
        assert_problem(send(client, purpose="nosuch"), 400, "invalid_request")
        assert_problem(client.get("/otp/?purpose=nosuch"), 400, "invalid_request")
        assert_problem(client.get("/otp/verify?purpose=nosuch"), 400, "invalid_request")
        # A form that has waited too long is sent back to the start, but not for a purpose that does not exist.
        for path, fields in (("send", {"identifier": ANN, "requirement": "old"}), ("resend", {"challenge": "old"})):
            answer = client.post(f"/otp/{path}", data=fields | {"purpose": "nosuch"}, headers={"Accept": "text/html"})
            assert answer.status_code == 400
        handle = ask(client)
        assert_problem(verify(client, sent.code, challenge=handle, purpose="nosuch"), 400, "invalid_code")
        assert client.post("/otp/resend", json={"challenge": handle, "purpose": "nosuch"}).status_code == 400
        assert len(sent) == 1


def test_a_purpose_has_its_own_code_pages_and_proof(app: Flask, sent: Outbox) -> None:
    browser = app.test_client()
    answer = browser.post("/otp/send", data={"identifier": ANN, "purpose": "transfer"})
    assert place(answer) == "/otp/verify?purpose=transfer"
    assert 'name="purpose" value="transfer"' in browser.get(answer.location).text
    assert len(sent.code) == 8
    body = browser.post("/otp/verify", data={"code": sent.code, "purpose": "transfer"}, headers=JSON).get_json()
    assert (body["purpose"], body["proof_expires_in"]) == ("transfer", 600)
    assert browser.get("/account").status_code == 401


def test_r12_a_code_of_one_purpose_is_worth_nothing_for_another(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    login, transfer = ask(client), ask(client, purpose="transfer")
    assert_problem(verify(client, sent[1].code, challenge=login), 400, "invalid_code")
    assert_problem(verify(client, sent[0].code, challenge=transfer), 400, "invalid_code")
    assert_problem(verify(client, sent[1].code, challenge=transfer, purpose="login"), 400, "invalid_code")
    assert verify(client, sent[1].code, challenge=transfer).status_code == 200


def test_verify_and_resend_without_a_purpose_take_the_handles_own(app: Flask, sent: Outbox, clock: Clock) -> None:
    handle = ask(app.test_client(), purpose="transfer")
    clock.advance("30s")
    api = app.test_client(use_cookies=False)
    assert api.post("/otp/resend", json={"challenge": handle}).get_json()["purpose"] == "transfer"
    assert verify(api, sent.code, challenge=handle).get_json()["purpose"] == "transfer"


def test_a_context_never_comes_from_a_client(make_app: AppFactory) -> None:
    app = make_app(**CONFIG)

    @app.get("/pay")
    @otp_required(purpose="transfer", context=lambda: {"amount": "5"})
    def pay() -> str:
        return "paid"

    with capture_codes(app) as sent:
        client = app.test_client()
        body = {"identifier": ANN, "purpose": "transfer"}
        assert client.post("/otp/send", json=body | {"context": {"amount": "5"}}).status_code == 400
        client.post("/otp/send", data=body | {"context": "5"})
        assert verify(client, sent.code).status_code == 200
        assert client.get("/pay").status_code == 401


# One answer for every bad code


def observable(answer: TestResponse) -> tuple[Any, ...]:
    """All that a client can tell two answers apart by, but for random cookie values."""
    headers = [(name, value) for name, value in answer.headers if name not in ("Date", "Set-Cookie")]
    cookies = [header.partition("=")[0] for header in answer.headers.getlist("Set-Cookie")]
    return answer.status_code, sorted(headers), sorted(cookies), answer.data


def test_r23_every_bad_code_gets_the_same_bytes(app: Flask, sent: Outbox, clock: Clock, make_app: AppFactory) -> None:
    def fresh() -> tuple[str, str]:
        """A live handle and its code, each from a session and a subject of its own."""
        handle = ask(app.test_client(), f"user{len(sent)}@example.com")
        return handle, sent.code

    def attempt(code: str, handle: str, **members: str) -> TestResponse:
        return verify(app.test_client(), code, challenge=handle, **members)

    expired, expired_code = fresh()
    clock.advance("5m")
    live, code = fresh()
    answers = {"wrong": attempt(wrong(code), live), "expired": attempt(expired_code, expired)}

    used, used_code = fresh()
    assert attempt(used_code, used).status_code == 200
    answers["used"] = attempt(used_code, used)

    exhausted, exhausted_code = fresh()
    for _ in range(5):
        attempt(wrong(exhausted_code), exhausted)
    answers["exhausted"] = attempt(exhausted_code, exhausted)

    revoked, revoked_code = fresh()
    with app.app_context():
        app.extensions["otp"].service.revoke(f"user{len(sent) - 1}@example.com")
    answers["revoked"] = attempt(revoked_code, revoked)

    for name, config in {
        "of another secret": {"SECRET_KEY": "another secret that is only for tests"},
        "of another app": {"OTP_KEY_PREFIX": "shop"},
    }.items():
        other = make_app(**{**CONFIG, **config})
        with capture_codes(other) as others:
            handle = ask(other.test_client())
            answers[name] = attempt(others.code, handle)

    live, code = fresh()
    answers |= {
        "forged": attempt(code, live[:60] + live[:59:-1]),
        "cut": attempt(code, live[:-1]),
        "tampered": attempt(code, "x" + live),
        "a session cookie": attempt(code, "eyJfb3RwIjp7fX0.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb"),
        "unknown": attempt(code, "nosuch"),
        "empty handle": attempt(code, ""),
        "not ASCII": attempt(code, "händel"),
        "of another purpose": attempt(code, live, purpose="transfer"),
        "for an unknown purpose": attempt(code, live, purpose="nosuch"),
        "letters": attempt("abcdef", live),
        "too short": attempt(code[:5], live),
        "too long": attempt(code + "0", live),
        "empty": attempt("", live),
    }
    proof = attempt(code, live).get_json()["proof"]
    answers["a proof in place of the handle"] = attempt(code, proof)

    expected = observable(answers["wrong"])
    assert_problem(answers["wrong"], 400, "invalid_code")
    assert {name for name, answer in answers.items() if observable(answer) != expected} == set()


def test_r23_a_code_for_nobody_gets_the_same_bytes(make_app: AppFactory) -> None:
    otp = OTP()

    @otp.recipient_loader
    def load(identifier: str, channel: str) -> str | None:
        return identifier if identifier == ANN else None

    app = make_app(otp, **CONFIG, OTP_DELIVERY="inline")
    with capture_codes(app) as sent:
        known, unknown = ask(app.test_client()), ask(app.test_client(), BOB)
        assert [message.recipient for message in sent] == [ANN]
        real = verify(app.test_client(), wrong(sent.code), challenge=known)
        guesses = [verify(app.test_client(), sent.code, challenge=unknown)]
        handle = app.extensions["otp"].tokens.load_handle(unknown)
        guesses.append(verify(app.test_client(), handle.code, challenge=unknown))
    assert [observable(guess) for guess in guesses] == [observable(real)] * 2


# Nothing gives a code away


def unpacked(data: bytes, depth: int = 4) -> Iterator[bytes]:
    """``data``, and all that base64 and zlib find in it, over and over."""
    yield data
    if not depth:
        return
    for piece in set(re.findall(rb"[A-Za-z0-9_\-+/]{8,}", data)):
        for alphabet in (b"-_", b"+/"):
            with contextlib.suppress(ValueError):
                decoded = base64.b64decode(piece + b"=" * (-len(piece) % 4), alphabet, validate=True)
                yield from unpacked(decoded, depth - 1)
                with contextlib.suppress(zlib.error):
                    yield from unpacked(zlib.decompress(decoded), depth - 1)


def raw(answer: TestResponse) -> bytes:
    return str(answer.headers).encode() + answer.data


def test_the_search_for_codes_sees_through_cookies_and_handles(app: Flask) -> None:
    with app.test_request_context():
        session = app.session_interface.get_signing_serializer(app).dumps({"x": "a" * 100, "code": "314159265358"})  # type: ignore[attr-defined]
    assert session.startswith(".")  # it is compressed
    assert any(b"314159265358" in part for part in unpacked(session.encode()))


@pytest.mark.parametrize("spent", [False, True], ids=["digits", "strong"])
def test_r35_no_answer_header_or_cookie_holds_a_code(
    make_app: AppFactory, clock: Clock, spent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    app = make_app(**{**CONFIG, "OTP_CODE_LENGTH": 12, "OTP_FAILURE_BUDGET": "1/day"})
    seen: list[bytes] = []
    with capture_codes(app) as sent:
        if spent:
            handle = ask(app.test_client())
            verify(app.test_client(), wrong(sent.code), challenge=handle)
            clock.advance("1m")
            sent.clear()
        for client, accept in ((app.test_client(), HTML), (app.test_client(), JSON)):

            def post(
                path: str, client: FlaskClient = client, accept: dict[str, str] = accept, **data: str
            ) -> TestResponse:
                answer = client.post(path, data=data, headers=accept, content_type="multipart/form-data")
                seen.append(raw(answer))
                return answer

            seen.append(raw(client.get("/otp/", headers=accept)))
            post("/otp/send", identifier=ANN)
            seen.append(raw(client.get("/otp/verify", headers=accept)))
            post("/otp/verify", code="0000")
            post("/otp/resend")
            clock.advance("31s")
            post("/otp/resend")
            assert post("/otp/verify", code=sent.code).status_code in (200, 303)
            post("/otp/verify", code="0000")
            post("/otp/logout")
            clock.advance("31s")
    codes = {message.code for message in sent}
    assert len(codes) == 2
    assert all(len(code) == (13 if spent else 12) for code in codes)
    hidden = codes | {f"{code[:4]}-{code[4:8]}-{code[8:]}" for code in codes}
    for answer in seen:
        for part in unpacked(answer):
            assert not any(code.encode() in part for code in hidden)
    assert not any(code in caplog.text for code in hidden)


def test_the_session_holds_neither_code_nor_counter(app: Flask) -> None:
    client = app.test_client()
    with capture_codes(app) as sent:
        ask(client)
        before = client.get_cookie("session")
        verify(client, wrong(sent.code))
        after = client.get_cookie("session")
    assert before is not None
    assert after is not None
    assert before.value == after.value


@pytest.mark.parametrize("length", [500, 1000, 2000])
def test_r49_a_session_with_everything_in_it_fits_into_a_cookie(app: Flask, length: int) -> None:
    """A browser silently drops a cookie of more than 4,093 bytes. The user could then never verify a code."""
    client, random = app.test_client(), Random(1)
    with capture_codes(app):
        for purpose in ("login", "transfer"):
            path = "/" + "".join(random.choices(ascii_letters, k=length))
            client.get("/account", headers=HTML)
            client.get(f"/otp/?purpose={purpose}&next={path}")
            ask(client, purpose=purpose)
            cookie = client.get_cookie("session")
            assert cookie is not None
            assert len(f"session={cookie.value}; HttpOnly; Path=/") < 4093


# Where it is mounted


def test_unmounted_there_are_no_routes_and_the_python_api_works(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(register_blueprint=False, clock=clock)
    app = make_app(otp, **CONFIG)
    add_account(app)

    @app.post("/code")
    def code() -> dict[str, str]:
        return {"handle": otp.send(ANN).handle}

    @app.post("/check/<code>")
    def check(code: str) -> dict[str, str]:
        return {"identifier": otp.verify(code).identifier}

    with capture_codes(app) as sent:
        client = app.test_client()
        assert client.post("/otp/send", json={"identifier": ANN}).status_code == 404
        assert client.get("/otp/").status_code == 404
        assert client.post("/code").status_code == 200
        refused = client.post(f"/check/{wrong(sent.code)}", headers=HTML)
        assert refused.status_code == 400
        assert client.post(f"/check/{sent.code}").get_json() == {"identifier": ANN}
        assert client.get("/account").text == "private"
        assert app.test_client().get("/account", headers=HTML).status_code == 401


def test_mounted_by_hand_it_works_where_it_was_put(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(register_blueprint=False, clock=clock)
    app = make_app(otp, **CONFIG)
    add_account(app)
    app.register_blueprint(otp.blueprint, url_prefix="/by/hand")
    assert_form_flow(app, "", "/by/hand")


def test_the_prefix_can_be_changed(make_app: AppFactory) -> None:
    app = make_app(**CONFIG, OTP_URL_PREFIX="/auth/code")
    add_account(app)
    assert app.test_client().get("/otp/").status_code == 404
    assert_form_flow(app, "", "/auth/code")


def test_below_a_script_name_every_redirect_stays_below_it(make_app: AppFactory) -> None:
    app = make_app(**CONFIG)
    add_account(app)
    assert_form_flow(app, "/shop", "/otp")


def assert_form_flow(app: Flask, root: str, prefix: str) -> None:
    """From the guarded page over the form back to it, by the addresses that the app itself gives."""
    browser = app.test_client()
    base_url = f"http://localhost{root}/"

    def go(method: str, url: str, **data: str) -> TestResponse:
        assert url.startswith(root + "/"), url
        return browser.open(url[len(root) :], method=method, base_url=base_url, headers=HTML, data=data or None)

    def action(page: TestResponse) -> str:
        form = re.search(r'<form method="post" action="([^"]+)"', page.text)
        assert form is not None
        return form[1]

    with capture_codes(app) as sent:
        refused = go("GET", f"{root}/account?tab=1")
        assert refused.location.startswith(f"{root}{prefix}/?next=")
        page = go("GET", refused.location)
        assert f'href="{root}{prefix}/static/otp.css?v=' in page.text
        answer = go("POST", action(page), identifier=ANN)
        assert place(answer) == f"{root}{prefix}/verify"
        answer = go("POST", action(go("GET", answer.location)), code=sent.code)
        assert answer.location == f"{root}/account?tab=1"
        assert go("GET", answer.location).text == "private"
