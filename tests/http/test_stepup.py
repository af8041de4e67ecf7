"""Step-up: purposes, contexts and requirements, the app's hooks, and the Python API (R12, R21, R43, R47)."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask, Response, abort, jsonify, redirect, request, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import (
    OTP,
    ChallengeRequired,
    InvalidCode,
    InvalidIdentifier,
    InvalidRequest,
    Message,
    RateLimited,
    Verification,
    current_verification,
    otp_required,
)
from flask_otp.stores import ChallengeRequest
from flask_otp.testing import Clock, OTPClient, Outbox, capture_codes
from tests.support.apps import START, AppFactory
from tests.support.visits import verify, wrong

ANN = "ann@example.com"
AMY = "amy@example.com"  # her masked address is ann's
BOB = "bob@example.com"
HTML = {"Accept": "text/html"}
PURPOSES: dict[str, Any] = {
    "login": {},
    "transfer": {"code_length": 8, "expires_in": "1m", "max_attempts": 2, "verified_for": "5m"},
    "close": {},
}


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


@pytest.fixture
def bank(make_app: AppFactory, otp: OTP) -> Flask:
    """A transfer is confirmed by a code for just this amount and payee; ``/close`` by one for nothing in particular."""
    app = make_app(otp, OTP_PURPOSES=PURPOSES, OTP_COOLDOWN=0)

    def order() -> dict[str, Any]:
        return {"payee": request.values["payee"], "amount": request.values["amount"]}

    @app.route("/transfer", methods=["GET", "POST"])
    @otp_required(purpose="transfer", context=order)
    def transfer() -> str:
        verification = otp.verification("transfer")
        assert verification is not None
        return f"sent for {verification.identifier}"

    @app.get("/close")
    @otp_required(purpose="close")
    def close() -> str:
        return "closed"

    @app.get("/account")
    @otp_required
    def account() -> str:
        return current_verification.identifier

    return app


@pytest.fixture
def outbox(bank: Flask) -> Iterator[Outbox]:
    with capture_codes(bank) as codes:
        yield codes


def order(amount: str = "1250.00", payee: str = "ACME Ltd", path: str = "/transfer") -> str:
    return f"{path}?amount={amount}&payee={payee}"


def send(client: FlaskClient, **body: Any) -> TestResponse:
    return client.post("/otp/send", json=body)


def requirement_of(answer: TestResponse) -> str:
    assert answer.status_code == 401
    return str(answer.get_json(force=True)["requirement"])


def bearer(answer: TestResponse) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.get_json()['proof']}"}


def api(app: Flask) -> FlaskClient:
    return app.test_client(use_cookies=False)


# Purposes


def test_each_purpose_has_its_own_settings(bank: Flask, outbox: Outbox, clock: Clock) -> None:
    client = api(bank)
    plain, own = (send(client, identifier=ANN, purpose=name).get_json() for name in ("login", "transfer"))
    assert (plain["code_length"], plain["expires_in"]) == (6, 300)
    assert (own["code_length"], own["expires_in"]) == (8, 60)
    assert [len(message.code) for message in outbox] == [6, 8]
    assert verify(client, outbox.code, challenge=own["challenge"]).get_json()["proof_expires_in"] == 300


def test_the_attempts_of_a_purpose_are_its_own(bank: Flask, outbox: Outbox) -> None:
    client = api(bank)
    handle = send(client, identifier=ANN, purpose="transfer").get_json()["challenge"]
    for _ in range(2):
        verify(client, wrong(outbox.code), challenge=handle)
    assert verify(client, outbox.code, challenge=handle).status_code == 400
    handle = send(client, identifier=ANN).get_json()["challenge"]
    for _ in range(2):
        verify(client, wrong(outbox.code), challenge=handle)
    assert verify(client, outbox.code, challenge=handle).status_code == 200


def test_the_code_of_a_purpose_lives_as_long_as_the_purpose_says(bank: Flask, outbox: Outbox, clock: Clock) -> None:
    client = api(bank)
    handle = send(client, identifier=ANN, purpose="transfer").get_json()["challenge"]
    clock.advance(60)
    assert verify(client, outbox.code, challenge=handle).status_code == 400


def test_r12_a_code_is_worth_nothing_for_the_challenge_of_another_purpose(bank: Flask, outbox: Outbox) -> None:
    client = api(bank)
    login = send(client, identifier=ANN, purpose="login").get_json()["challenge"]
    first = outbox.code
    close = send(client, identifier=ANN, purpose="close").get_json()["challenge"]
    second = outbox.code
    assert first != second
    assert verify(client, second, challenge=login).status_code == 400
    assert verify(client, first, challenge=close).status_code == 400
    assert verify(client, first, challenge=login).status_code == 200


def test_r12_a_handle_named_for_another_purpose_is_an_invalid_code(bank: Flask, outbox: Outbox) -> None:
    client = api(bank)
    handle = send(client, identifier=ANN, purpose="close").get_json()["challenge"]
    assert (
        verify(client, outbox.code, challenge=handle, purpose="login").get_json(force=True)["reason"] == "invalid_code"
    )
    assert verify(client, outbox.code, challenge=handle, purpose="close").get_json()["purpose"] == "close"


def test_r12_a_proof_opens_its_own_purpose_only(bank: Flask, outbox: Outbox) -> None:
    client = bank.test_client()
    send(client, identifier=ANN, purpose="close")
    assert verify(client, outbox.code, purpose="close").status_code == 200
    assert client.get("/close").status_code == 200
    assert client.get("/account").status_code == 401
    assert client.get(order()).status_code == 401


@pytest.mark.parametrize("purpose", ["Login", "admin", "transfer ", "*", "__proto__"])
def test_a_purpose_that_is_not_named_is_not_accepted(bank: Flask, outbox: Outbox, purpose: str) -> None:
    assert send(api(bank), identifier=ANN, purpose=purpose).status_code == 400
    assert outbox == []


# Contexts, from the guard to the view


def test_r12_an_api_client_confirms_just_what_the_guard_asked_for(bank: Flask, outbox: Outbox) -> None:
    client = api(bank)
    asked = requirement_of(client.post(order()))
    handle = send(client, identifier=ANN, requirement=asked).get_json()["challenge"]
    assert outbox[0].purpose == "transfer"
    for words in ("1250.00", "ACME Ltd"):
        assert words in outbox[0].text
        assert words in outbox[0].html
    done = verify(client, outbox.code, challenge=handle)
    assert done.get_json()["purpose"] == "transfer"
    assert client.post(order(), headers=bearer(done)).text == f"sent for {ANN}"
    for other in (order(amount="1250.01"), order(amount="1250.0"), order(payee="ACME Ltd."), order(payee="Eve")):
        assert client.post(other, headers=bearer(done)).status_code == 401
    assert client.get("/close", headers=bearer(done)).status_code == 401


def test_r12_a_browser_confirms_just_what_the_guard_asked_for(bank: Flask, outbox: Outbox) -> None:
    client = bank.test_client()
    refused = client.get(order(), headers=HTML)
    page = client.get(refused.headers["Location"], headers=HTML).text
    assert "1250.00" in page
    assert "ACME Ltd" in page
    client.post("/otp/send", data={"identifier": ANN, "purpose": "transfer"}, headers=HTML)
    assert "1250.00" in client.get("/otp/verify?purpose=transfer", headers=HTML).text
    done = client.post("/otp/verify", data={"code": outbox.code, "purpose": "transfer"}, headers=HTML)
    assert done.status_code == 303
    assert client.get(done.headers["Location"]).text == f"sent for {ANN}"
    assert client.get(order(amount="9999")).status_code == 401


def test_r12_a_changed_amount_is_a_new_challenge_with_another_code(bank: Flask, outbox: Outbox) -> None:
    client = bank.test_client()
    client.post(order())
    first = send(client, identifier=ANN, purpose="transfer").get_json()["challenge"]
    client.post(order(amount="9999"))
    second = send(client, identifier=ANN, purpose="transfer").get_json()["challenge"]
    cheap, dear = (message.code for message in outbox)
    assert cheap != dear
    assert "9999" in outbox[1].text
    assert verify(client, cheap, challenge=second).status_code == 400
    assert verify(client, cheap, challenge=first).status_code == 200
    assert client.post(order(amount="9999")).status_code == 401
    assert client.post(order()).status_code == 200


def test_the_same_order_again_is_the_same_challenge(bank: Flask, outbox: Outbox) -> None:
    client = bank.test_client()
    for _ in range(2):
        client.post(order())
        send(client, identifier=ANN, purpose="transfer")
    assert outbox[0].code == outbox[1].code


def test_r12_a_code_for_the_purpose_alone_confirms_no_order(bank: Flask, outbox: Outbox) -> None:
    client = api(bank)
    handle = send(client, identifier=ANN, purpose="transfer").get_json()["challenge"]
    done = verify(client, outbox.code, challenge=handle)
    assert client.post(order(), headers=bearer(done)).status_code == 401


@pytest.mark.parametrize("name", ["context", "context_values", "amount", "channels", "identifiers"])
def test_r12_a_client_cannot_supply_a_context(bank: Flask, outbox: Outbox, name: str) -> None:
    client = api(bank)
    context_values = {"payee": "ACME Ltd", "amount": "1250.00"}
    sent = client.post("/otp/send", json={"identifier": ANN, "purpose": "transfer", name: context_values})
    assert sent.status_code in (200, 400)
    if sent.status_code == 200:
        done = verify(client, outbox.code, challenge=sent.get_json()["challenge"])
        assert "ACME" not in outbox[0].text
        assert client.post(order(), headers=bearer(done)).status_code == 401


def test_r12_a_client_cannot_alter_a_requirement(bank: Flask, outbox: Outbox) -> None:
    client = api(bank)
    asked = requirement_of(client.post(order()))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    load = bank.extensions["otp"].tokens.load_requirement
    assert load(asked) is not None
    for place, letter in enumerate(asked):
        other = alphabet[alphabet.index(letter) ^ 32] if letter in alphabet else "A"
        assert load(asked[:place] + other + asked[place + 1 :]) is None
    for changed in (asked[:-3] + "AAA", asked[1:], "", "x", "e30.e30"):
        assert send(client, identifier=ANN, requirement=changed).status_code == 400
    assert outbox == []


def test_a_requirement_expires(bank: Flask, outbox: Outbox, clock: Clock) -> None:
    client = api(bank)
    asked = requirement_of(client.post(order()))
    clock.advance(3599)
    assert send(client, identifier=ANN, requirement=asked).status_code == 200
    clock.advance(1)
    assert send(client, identifier=ANN, requirement=asked).status_code == 400
    assert len(outbox) == 1


def test_a_sessions_requirement_expires_too(bank: Flask, outbox: Outbox, clock: Clock) -> None:
    client = bank.test_client()
    client.post(order())
    clock.advance("1h")
    send(client, identifier=ANN, purpose="transfer")
    assert "ACME" not in outbox[0].text


def test_a_requirement_for_another_purpose_than_the_one_named_is_refused(bank: Flask, outbox: Outbox) -> None:
    client = api(bank)
    asked = requirement_of(client.post(order()))
    refused = send(client, identifier=ANN, requirement=asked, purpose="login")
    detail = "The requirement is not valid, or is too old. Repeat the request that gave it."
    assert (refused.status_code, refused.get_json(force=True)["detail"]) == (400, detail)
    assert outbox == []
    assert send(client, identifier=ANN, requirement=asked, purpose="transfer").status_code == 200


def test_a_requirement_does_not_show_what_it_is_about(bank: Flask) -> None:
    asked = requirement_of(api(bank).post(order()))
    tokens = bank.extensions["otp"].tokens
    assert tokens.load_requirement(asked).context_values == {"payee": "ACME Ltd", "amount": "1250.00"}
    shown = base64.urlsafe_b64decode(asked + "=" * (-len(asked) % 4))
    for word in (b"transfer", b"ACME", b"1250"):
        assert word not in shown


def context_app(make_app: AppFactory, otp: OTP, context: Callable[[], Any]) -> Flask:
    app = make_app(otp, OTP_COOLDOWN=0)
    app.add_url_rule("/it", "it", otp_required(context=context)(lambda: "in"))
    return app


@pytest.mark.parametrize(
    ("bound", "asked", "passes"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True),
        ([1, 2], (1, 2), True),
        (True, 1, False),
        (1, True, False),
        ({"ok": True}, {"ok": 1}, False),
        (False, 0, False),
        ("1", 1, False),
        (0, "", False),
        ([], {}, False),
        ({}, False, False),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        ("a", "A", False),
        ("a", None, False),
        (None, 0, False),
        (None, "", False),
        (None, {}, False),
        (None, False, False),
    ],
    ids=repr,
)
def test_r12_a_proof_passes_where_the_context_is_equal_and_of_the_same_type(
    make_app: AppFactory, otp: OTP, bound: Any, asked: Any, passes: bool
) -> None:
    app = context_app(make_app, otp, lambda: asked)
    with capture_codes(app) as codes, app.app_context():
        challenge = otp.send(ANN, context=bound)
        proof = otp.verify(codes.code, challenge=challenge.handle, context=bound).proof
    answer = app.test_client().get("/it", headers={"Authorization": f"Bearer {proof}"})
    assert (answer.status_code == 200) is passes


@pytest.mark.parametrize("size", [100, 1000, 4000])
def test_a_context_is_either_taken_or_refused_but_never_sent_in_vain(make_app: AppFactory, otp: OTP, size: int) -> None:
    """A code that no verification can ever redeem must not be sent."""
    app, context = make_app(otp), {"note": "é" * size}
    with capture_codes(app) as codes, app.app_context():
        try:
            challenge = otp.send(ANN, context=context)
        except InvalidRequest:
            assert codes == []
            assert size > 250
            return
        assert otp.verify(codes.code, challenge=challenge.handle, context=context).identifier == ANN


# identifier_loader: the signed-in user's own address


@pytest.fixture
def office(make_app: AppFactory, otp: OTP) -> Flask:
    """A site with a first factor: ``/as/<address>`` signs in."""
    otp.identifier_loader(lambda: session.get("user"))
    app = make_app(otp, OTP_PURPOSES=PURPOSES, OTP_COOLDOWN=0)

    @app.get("/as/<who>")
    def sign_in(who: str) -> str:
        session["user"] = who
        return "signed in"

    @app.get("/account")
    @otp_required
    def account() -> str:
        return current_verification.identifier

    app.add_url_rule("/approve", "approve", otp_required(identifier=lambda: BOB)(lambda: "approved"))

    @app.get("/whoami")
    def whoami() -> str:
        return current_verification.identifier if current_verification else "nobody"

    return app


@pytest.fixture
def ann(office: Flask) -> FlaskClient:
    client = office.test_client()
    client.get(f"/as/{ANN}")
    return client


def test_a_second_factor_goes_to_the_users_own_address_unasked(office: Flask, ann: FlaskClient) -> None:
    with capture_codes(office) as codes:
        assert send(ann).status_code == 200
        assert [message.recipient for message in codes] == [ANN]
        assert verify(ann, codes.code).status_code == 200
    assert ann.get("/account").text == ANN


@pytest.mark.parametrize("name", ["identifier", "email"])
def test_the_client_cannot_name_another_address(office: Flask, ann: FlaskClient, name: str) -> None:
    with capture_codes(office) as codes:
        refused = send(ann, **{name: "eve@example.com"})
        assert refused.status_code == 400
        assert refused.get_json(force=True)["reason"] == "invalid_identifier"
        assert refused.get_json(force=True)["detail"] == "The code can only go to your own address."
        assert codes == []
        assert send(ann, **{name: " ANN@example.com"}).status_code == 200
        assert codes[0].recipient == ANN


def test_r26_a_code_that_one_user_asked_for_is_worth_nothing_to_another(office: Flask, ann: FlaskClient) -> None:
    bob = office.test_client()
    bob.get(f"/as/{BOB}")
    with capture_codes(office) as codes:
        handle = send(ann).get_json()["challenge"]
        refused = verify(bob, codes.code, challenge=handle)
        assert refused.get_json(force=True)["reason"] == "invalid_code"
        assert verify(ann, codes.code).status_code == 200


def test_the_page_masks_the_users_address_and_asks_for_none(office: Flask, ann: FlaskClient) -> None:
    page = ann.get("/otp/", headers=HTML).text
    assert "a***@example.com" in page
    assert ANN not in page
    assert 'name="identifier"' not in page


@pytest.mark.parametrize("form", [{}, {"identifier": "eve@example.com"}])
def test_no_page_gives_the_users_address_away(office: Flask, ann: FlaskClient, form: dict[str, str]) -> None:
    with capture_codes(office):
        ann.get("/account", headers=HTML)
        answer = ann.post("/otp/send", data=form, headers=HTML, follow_redirects=True)
        again = ann.post("/otp/verify", data={"code": "1"}, headers=HTML)
    assert ANN not in answer.text + again.text


def test_r26_a_proof_of_another_identifier_does_not_pass_for_the_user(office: Flask, ann: FlaskClient) -> None:
    office.test_client_class = OTPClient
    stranger = office.test_client(verified=BOB)
    assert stranger.get("/whoami").text == BOB
    stranger.get(f"/as/{ANN}")
    assert stranger.get("/account").status_code == 401
    assert stranger.get("/whoami").text == "nobody"


def test_r47_changing_the_user_ends_the_verification(office: Flask, ann: FlaskClient) -> None:
    with capture_codes(office) as codes:
        send(ann)
        verify(ann, codes.code)
    assert ann.get("/account").status_code == 200
    ann.get(f"/as/{BOB}")
    assert ann.get("/account").status_code == 401
    assert ann.get("/whoami").text == "nobody"


def test_r47_changing_the_address_of_the_user_ends_the_verification(office: Flask, ann: FlaskClient) -> None:
    with capture_codes(office) as codes:
        send(ann)
        verify(ann, codes.code)
    ann.get("/as/ann.new@example.com")
    assert ann.get("/account").status_code == 401


def test_what_was_asked_of_the_user_before_is_not_asked_of_the_next(office: Flask, ann: FlaskClient) -> None:
    """A shared computer: ann is refused and leaves, bob signs in. His code must not go to her."""
    ann.get("/account")
    ann.get(f"/as/{BOB}")
    page = ann.get("/otp/", headers=HTML).text
    assert "b***@example.com" in page
    assert "a***@example.com" not in page
    with capture_codes(office) as codes:
        send(ann)
    assert ANN not in [message.recipient for message in codes]


def test_the_guards_own_identifier_counts_more_than_the_users(office: Flask, ann: FlaskClient) -> None:
    """A step that another person must approve."""
    with capture_codes(office) as codes:
        asked = requirement_of(ann.get("/approve"))
        handle = send(ann, requirement=asked).get_json()["challenge"]
        assert codes[0].recipient == BOB
        verify(ann, codes.code, challenge=handle)
    assert ann.get("/approve").text == "approved"


def test_a_client_cannot_name_another_than_the_guard(bank: Flask, outbox: Outbox) -> None:
    bank.add_url_rule("/approve", "approve", otp_required(identifier=lambda: BOB)(lambda: "approved"))
    client = api(bank)
    asked = requirement_of(client.get("/approve"))
    assert send(client, requirement=asked, identifier="eve@example.com").status_code == 400
    assert outbox == []


def test_a_browser_that_was_refused_a_login_need_not_say_again_whose(bank: Flask, outbox: Outbox) -> None:
    bank.add_url_rule("/approve", "approve", otp_required(identifier=lambda: BOB)(lambda: "approved"))
    client = bank.test_client()
    assert client.get("/approve").status_code == 401
    refused = send(client, identifier="eve@example.com")
    assert refused.get_json(force=True)["detail"] == "The code can only go to your own address."
    assert send(client).status_code == 200
    assert [message.recipient for message in outbox] == [BOB]
    assert verify(client, outbox.code).status_code == 200
    assert client.get("/approve").text == "approved"


def test_the_client_chooses_among_the_channels_of_the_guard(make_app: AppFactory, otp: OTP) -> None:
    sent: list[str] = []
    channels = {name: lambda message: sent.append(message.channel) for name in ("email", "letter", "slip")}
    app = make_app(otp, OTP_CHANNELS=channels, OTP_COOLDOWN=0, OTP_DELIVERY="inline")
    app.add_url_rule("/seal", "seal", otp_required(channels=("letter", "slip"))(lambda: "sealed"))
    client = app.test_client()
    asked = requirement_of(client.get("/seal"))
    assert send(client, identifier=ANN, requirement=asked, channel="slip").status_code == 200
    assert send(client, identifier=ANN, requirement=asked, channel="email").status_code == 400
    assert send(client, identifier=ANN, channel="email").status_code == 400  # the session says the same
    assert send(client, identifier=ANN, requirement=asked).status_code == 200
    assert sent == ["slip", "letter"]


def test_outside_of_requests_nobody_is_signed_in(office: Flask, otp: OTP) -> None:
    with office.app_context(), capture_codes(office) as codes:
        handle = otp.send(BOB).handle
        assert otp.verify(codes.code, challenge=handle).identifier == BOB


def test_a_user_without_an_address_gets_no_code_by_naming_nobody(office: Flask) -> None:
    with capture_codes(office) as codes:
        assert send(office.test_client()).status_code == 400
    assert codes == []


def readable(text: str) -> str:
    """A cookie or token as anyone can read it, down to the tokens within."""
    found = []
    for part in re.findall(r"\.?[A-Za-z0-9_-]{16,}", text):
        data = base64.urlsafe_b64decode(part.lstrip(".") + "=" * (-len(part.lstrip(".")) % 4))
        try:
            inner = (zlib.decompress(data) if part.startswith(".") else data).decode(errors="replace")
        except zlib.error:
            continue
        found.append(inner)
        if inner != text:
            found.append(readable(inner))
    return " ".join(found)


def test_no_cookie_and_no_handle_reveals_the_users_address(office: Flask, ann: FlaskClient) -> None:
    with ann.session_transaction() as kept:
        del kept["user"]
    office.extensions["otp"].hooks.identifier_loader = lambda: ANN
    with capture_codes(office):
        asked = requirement_of(ann.get("/account"))
        answer = send(ann)
    cookie = ann.get_cookie("session")
    assert cookie is not None
    shown = readable(cookie.value) + readable(answer.get_json()["challenge"]) + readable(asked)
    assert "login" in shown  # the tokens were read
    assert "ann" not in shown
    assert "example" not in shown
    assert ANN not in answer.text


# recipient_loader: nothing tells whether an account exists


def members(make_app: AppFactory, otp: OTP, **config: Any) -> Flask:
    """ann is a member, amy is not; their masked addresses are the same."""
    otp.recipient_loader(lambda identifier, channel: identifier if identifier == ANN else None)
    settings = {"OTP_DELIVERY": "inline", "OTP_PURPOSES": PURPOSES, "OTP_IP_SEND_LIMIT": None}
    return make_app(otp, **(settings | config))


def blur(answer: TestResponse) -> tuple[int, list[tuple[str, str]], str]:
    """A whole answer, with what is random in it masked: handles, the session, and what hangs on their length."""
    body = re.sub(r"[A-Za-z0-9_-]{100,}(\.[A-Za-z0-9_-]{43})?", "<token>", answer.text)
    headers = []
    for name, value in answer.headers:
        if name == "Content-Length":
            continue
        value = re.sub(r"session(_otp_[cpr]_)?[\w-]*=[^;]+", r"session\1=<session>", value)
        headers.append((name, re.sub(r"Expires=[^;]+", "Expires=<time>", value)))
    return answer.status_code, headers, body


def right_code(app: Flask, handle: str) -> str:
    """What the code of a handle would be: with the server's keys anyone can tell."""
    loaded = app.extensions["otp"].tokens.load_handle(handle)
    assert loaded is not None
    return str(loaded.code)


def test_r21_no_code_ever_verifies_for_a_stranger(make_app: AppFactory, otp: OTP) -> None:
    app = members(make_app, otp)
    with capture_codes(app) as codes:
        for identifier, status in ((ANN, 200), (AMY, 400)):
            client = api(app)
            handle = send(client, identifier=identifier).get_json()["challenge"]
            answer = verify(client, right_code(app, handle), challenge=handle)
            assert answer.status_code == status
    assert [message.recipient for message in codes] == [ANN]


def test_r21_no_strong_code_ever_verifies_for_a_stranger(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = members(make_app, otp, OTP_FAILURE_BUDGET="1/30 days", OTP_COOLDOWN=0)
    with capture_codes(app) as codes:
        for identifier, status in ((ANN, 200), (AMY, 400)):
            client = api(app)
            handle = send(client, identifier=identifier).get_json()["challenge"]
            verify(client, wrong(right_code(app, handle)), challenge=handle)
            strong = send(client, identifier=identifier).get_json()
            assert strong["code_length"] == 13
            assert (
                verify(client, right_code(app, strong["challenge"]), challenge=strong["challenge"]).status_code
                == status
            )
    assert {message.recipient for message in codes} == {ANN}


def test_r21_a_refused_right_code_of_a_stranger_reads_like_a_wrong_one(make_app: AppFactory, otp: OTP) -> None:
    app = members(make_app, otp)
    client = api(app)
    handle = send(client, identifier=AMY).get_json()["challenge"]
    code = right_code(app, handle)
    assert blur(verify(client, code, challenge=handle)) == blur(verify(client, wrong(code), challenge=handle))


def test_r21_a_stranger_who_becomes_a_member_needs_a_new_code(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = members(make_app, otp)
    client = api(app)
    handle = send(client, identifier=AMY).get_json()["challenge"]
    otp.recipient_loader(lambda identifier, channel: identifier)
    clock.advance(31)
    with capture_codes(app) as codes:
        again = client.post("/otp/resend", json={"challenge": handle}).get_json()["challenge"]
    assert codes == []
    assert verify(client, right_code(app, handle), challenge=again).status_code == 400


def test_the_message_goes_where_the_loader_says_and_the_proof_names_the_identifier(
    make_app: AppFactory, otp: OTP
) -> None:
    otp.recipient_loader(lambda identifier, channel: "ann.private@example.com")
    app = make_app(otp, OTP_DELIVERY="inline")
    client = api(app)
    with capture_codes(app) as codes:
        handle = send(client, identifier=ANN).get_json()["challenge"]
    assert codes[0].recipient == "ann.private@example.com"
    assert verify(client, codes.code, challenge=handle).get_json()["identifier"] == ANN


# before_send


def test_r43_a_vetoed_message_is_not_sent_and_the_client_cannot_tell(make_app: AppFactory, clock: Clock) -> None:
    answers, seen = [], []
    for verdict in (None, False):
        otp = OTP(clock=clock)

        @otp.before_send
        def inspect(message: Message, verdict: bool | None = verdict) -> bool | None:
            seen.append((message.recipient, message.purpose))
            return verdict

        app = make_app(otp)
        with capture_codes(app) as codes:
            client = app.test_client()
            answers.append([blur(send(client, identifier=ANN)) for _ in range(2)])
        assert len(codes) == (verdict is None)
    assert answers[0] == answers[1]
    assert seen == [(ANN, "login")] * 2


@pytest.mark.parametrize("verdict", [None, True, 0, ""])
def test_only_false_is_a_veto(make_app: AppFactory, otp: OTP, verdict: Any) -> None:
    otp.before_send(lambda message: verdict)
    app = make_app(otp)
    with capture_codes(app) as codes:
        send(api(app), identifier=ANN)
    assert len(codes) == 1


def test_a_hook_that_breaks_before_sending_leaves_nothing_outstanding(make_app: AppFactory, otp: OTP) -> None:
    otp.before_send(lambda message: 1 / 0)
    app = make_app(otp, PROPAGATE_EXCEPTIONS=False, OTP_COOLDOWN=0, OTP_SEND_LIMIT="1/hour")
    with capture_codes(app) as codes:
        failed = send(api(app), identifier=ANN)
        assert (failed.status_code, failed.json["reason"]) == (503, "delivery_failed")
        otp.before_send(lambda message: None)
        assert send(api(app), identifier=ANN).status_code == 200
    assert len(codes) == 1


# verified_handler


ANSWERS: list[tuple[Any, int, str]] = [
    ({"token": "jwt"}, 200, '"token":"jwt"'),
    (("made", 201), 201, "made"),
    ("text", 200, "text"),
    (Response("own", 202), 202, "own"),
    (None, 200, '"verified":true'),
]


@pytest.mark.parametrize(("answer", "status", "words"), ANSWERS, ids=lambda value: repr(value)[:20])
def test_the_verified_handler_may_answer_itself(
    make_app: AppFactory, otp: OTP, answer: Any, status: int, words: str
) -> None:
    seen: list[Verification] = []

    @otp.verified_handler
    def verified(verification: Verification) -> Any:
        seen.append(verification)
        return answer

    app = make_app(otp)
    client = app.test_client()
    with capture_codes(app) as codes:
        send(client, identifier=ANN)
        assert verify(client, wrong(codes.code)).status_code == 400
        assert seen == []
        done = verify(client, codes.code)
    assert done.status_code == status
    assert words in done.text.replace(" ", "")
    assert done.headers["Cache-Control"] == "no-store"
    assert [(one.identifier, one.purpose, one.channel) for one in seen] == [(ANN, "login", "console")]


def test_the_verified_handler_signs_the_user_in(make_app: AppFactory, otp: OTP) -> None:
    @otp.verified_handler
    def verified(verification: Verification) -> Any:
        session["user"] = verification.identifier
        assert current_verification.identifier == ANN
        return redirect("/home", 303)

    app = make_app(otp)
    app.add_url_rule("/home", "home", lambda: session["user"])
    client = app.test_client()
    with capture_codes(app) as codes:
        send(client, identifier=ANN)
        done = client.post("/otp/verify", data={"code": codes.code}, headers=HTML)
    assert done.headers["Location"] == "/home"
    assert client.get("/home").text == ANN


def test_a_verified_handler_may_refuse(make_app: AppFactory, otp: OTP) -> None:
    otp.verified_handler(lambda verification: abort(403))
    app = make_app(otp)
    client = app.test_client()
    with capture_codes(app) as codes:
        send(client, identifier=ANN)
        assert verify(client, codes.code).status_code == 403
        assert verify(client, codes.code).status_code == 400


# current_verification and the Python API


def test_current_verification_is_a_false_value_for_nobody(bank: Flask) -> None:
    bank.add_url_rule("/who", "who", lambda: jsonify(bool(current_verification)))
    assert bank.test_client().get("/who").json is False


def test_current_verification_tells_who_when_how_and_until_when(bank: Flask, outbox: Outbox, clock: Clock) -> None:
    seen: list[Verification] = []

    @bank.get("/who")
    def who() -> str:
        seen.append(current_verification._get_current_object())  # type: ignore[attr-defined]
        return "seen"

    client = bank.test_client()
    send(client, identifier=ANN)
    proof = verify(client, outbox.code).get_json()["proof"]
    clock.advance(60)
    client.get("/who")
    (one,) = seen
    assert (one.identifier, one.purpose, one.channel, one.proof) == (ANN, "login", "console", proof)
    assert one.verified_at == datetime.fromtimestamp(START, timezone.utc)
    assert one.expires_at - one.verified_at == timedelta(hours=12)
    assert ANN not in repr(one)
    assert proof not in repr(one)


def test_the_views_of_an_app_may_send_and_verify_themselves(bank: Flask, otp: OTP, outbox: Outbox) -> None:
    @bank.post("/ask")
    def ask() -> dict[str, Any]:
        challenge = otp.send(request.form["who"], purpose="close")
        return {"to": challenge.destination, "length": challenge.code_length, "in": challenge.expires_in}

    @bank.post("/again")
    def again() -> str:
        return str(otp.resend(purpose="close").resend_in)

    @bank.post("/check")
    def check() -> str:
        before = otp.verification("close")
        verification = otp.verify(request.form["code"], purpose="close")
        assert before is None
        assert otp.verification("close") == verification
        return verification.identifier

    client = bank.test_client()
    assert client.post("/ask", data={"who": ANN}).json == {"to": "a***@example.com", "length": 6, "in": 300}
    assert client.post("/again").status_code == 200
    assert outbox[0].code == outbox[1].code
    refused = client.post("/check", data={"code": wrong(outbox.code)})
    assert (refused.status_code, refused.mimetype) == (400, "application/problem+json")
    assert client.post("/check", data={"code": outbox.code}).text == ANN
    assert client.get("/close").text == "closed"
    assert client.post("/ask", data={"who": "nobody"}).get_json(force=True)["reason"] == "invalid_identifier"


def test_an_app_binds_a_code_to_its_own_context_values(bank: Flask, otp: OTP, outbox: Outbox) -> None:
    with bank.app_context():
        context_values = {"payee": "ACME Ltd", "amount": "1250.00"}
        challenge = otp.send(ANN, purpose="transfer", context=context_values)
        assert "ACME Ltd" in outbox[0].text
        for other in (None, {}, {"payee": "ACME Ltd"}, context_values | {"amount": 1250.0}):
            with pytest.raises(InvalidCode):
                otp.verify(outbox.code, challenge=challenge.handle, purpose="transfer", context=other)
        same = dict(reversed(context_values.items()))
        proof = otp.verify(outbox.code, challenge=challenge.handle, purpose="transfer", context=same).proof
    assert api(bank).post(order(), headers={"Authorization": f"Bearer {proof}"}).status_code == 200


def test_the_api_works_outside_of_requests(bank: Flask, otp: OTP, outbox: Outbox, clock: Clock) -> None:
    with bank.app_context():
        challenge = otp.send(" Ann@Example.com", channel="console")
        assert (challenge.channel, challenge.destination, challenge.purpose) == ("console", "a***@example.com", "login")
        clock.advance(31)
        again = otp.resend(challenge.handle)
        assert outbox[0].code == outbox[1].code
        assert challenge.handle not in repr(challenge)
        with pytest.raises(InvalidCode):
            otp.verify(wrong(outbox.code), challenge=challenge.handle)
        verification = otp.verify(outbox.code, challenge=again.handle, identifier="ANN@example.com")
        with pytest.raises(InvalidCode):
            otp.verify(outbox.code, challenge=again.handle)
    answer = api(bank).get("/account", headers={"Authorization": f"Bearer {verification.proof}"})
    assert answer.text == ANN
    with bank.app_context():
        otp.revoke(ANN)
    answer = api(bank).get("/account", headers={"Authorization": f"Bearer {verification.proof}"})
    assert answer.status_code == 401


def test_the_purpose_says_which_challenge_of_the_session_is_meant(bank: Flask, otp: OTP, outbox: Outbox) -> None:
    bank.add_url_rule("/check/<code>", "check", lambda code: otp.verify(code, purpose="close").identifier)
    client = bank.test_client()
    for purpose in ("login", "close"):
        send(client, identifier=ANN, purpose=purpose)
    login, close = (message.code for message in outbox)
    for body, code in (({"purpose": "close"}, close), ({}, login), ({"purpose": "login"}, login)):
        assert client.post("/otp/resend", json=body).status_code == 200
        assert outbox.code == code
    assert client.get(f"/check/{close}").text == ANN
    send(client, identifier=ANN, purpose="close")
    assert verify(client, outbox.code, purpose="close").status_code == 200
    assert verify(client, login).status_code == 200


def test_the_only_challenge_of_a_session_needs_no_purpose(bank: Flask, outbox: Outbox) -> None:
    client = bank.test_client()
    send(client, identifier=ANN, purpose="close")
    assert client.post("/otp/resend", json={}).status_code == 200
    assert verify(client, outbox.code).status_code == 200
    assert client.get("/close").text == "closed"


def test_a_handle_that_is_named_for_another_purpose_is_not_sent_again(bank: Flask, outbox: Outbox) -> None:
    client = api(bank)
    handle = send(client, identifier=ANN, purpose="close").get_json()["challenge"]
    refused = client.post("/otp/resend", json={"challenge": handle, "purpose": "login"})
    assert refused.get_json(force=True)["reason"] == "challenge_required"
    assert len(outbox) == 1


def test_forget_leaves_nothing_of_a_purpose_in_the_session(bank: Flask, otp: OTP) -> None:
    kinds = ("proof", "challenge", "requirement", "next", "repeat")
    with bank.test_request_context():
        session["_otp"] = {kind: {"login": "one", "close": "two"} for kind in kinds}
        otp.forget("close")
        assert session["_otp"] == {kind: {"login": "one"} for kind in kinds}


def test_outside_of_requests_there_is_no_challenge_to_find(bank: Flask, otp: OTP) -> None:
    with bank.app_context():
        with pytest.raises(ChallengeRequired):
            otp.verify("123456")
        with pytest.raises(ChallengeRequired):
            otp.resend()


@pytest.mark.parametrize("code", [None, 123456, True, b"123456", ["123456"], {"code": "123456"}], ids=repr)
def test_r19_a_code_that_is_no_text_is_an_invalid_code(bank: Flask, otp: OTP, outbox: Outbox, code: Any) -> None:
    with bank.app_context():
        challenge = otp.send(ANN)
        with pytest.raises(InvalidCode):
            otp.verify(code, challenge=challenge.handle)
        assert otp.verify(outbox.code, challenge=challenge.handle).identifier == ANN


def test_r12_verify_refuses_another_identifier_or_purpose(bank: Flask, otp: OTP, outbox: Outbox) -> None:
    with bank.app_context():
        challenge = otp.send(ANN)
        with pytest.raises(InvalidCode):
            otp.verify(outbox.code, challenge=challenge.handle, identifier=BOB)
        with pytest.raises(InvalidCode):
            otp.verify(outbox.code, challenge=challenge.handle, purpose="close")
        assert otp.verify(outbox.code, challenge=challenge.handle, identifier=ANN).purpose == "login"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"identifier": "nobody"}, InvalidIdentifier),
        ({"identifier": None}, InvalidIdentifier),
        ({"identifier": [ANN]}, InvalidIdentifier),
        ({"identifier": ANN, "purpose": "nothing"}, InvalidRequest),
        ({"identifier": ANN, "channel": "pigeon"}, InvalidRequest),
        ({"identifier": ANN, "context": {1: 2}}, ValueError),
        ({"identifier": ANN, "context": float("nan")}, InvalidRequest),
    ],
    ids=repr,
)
def test_send_raises_on_every_mistake(
    bank: Flask, otp: OTP, outbox: Outbox, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with bank.app_context(), pytest.raises(error):
        otp.send(**arguments)
    assert outbox == []


def test_send_and_resend_tell_when_to_come_back(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp)
    with app.app_context():
        challenge = otp.send(ANN)
        for again in (lambda: otp.send(ANN), lambda: otp.resend(challenge.handle)):
            with pytest.raises(RateLimited) as refused:
                again()
            assert refused.value.retry_after == 30
            assert refused.value.reason == "rate_limited"


def test_without_a_cooldown_there_is_nothing_to_wait_for(make_app: AppFactory, otp: OTP) -> None:
    with make_app(otp, OTP_COOLDOWN=0).app_context():
        assert otp.send(ANN).resend_in == 0


@pytest.fixture
def asked(bank: Flask, otp: OTP, monkeypatch: pytest.MonkeyPatch) -> list[ChallengeRequest]:
    """What the store is asked for, in order."""
    for name in ("email", "letter"):
        otp.channel(name)(lambda message: None)
    store, asked = bank.extensions["otp"].store, []
    opening = store.open

    def note(subject: bytes, request: ChallengeRequest, *rest: Any) -> Any:
        asked.append(request)
        return opening(subject, request, *rest)

    monkeypatch.setattr(store, "open", note)
    return asked


def test_r34_the_store_does_not_learn_that_two_people_share_a_browser_or_a_network(
    bank: Flask, otp: OTP, asked: list[ChallengeRequest]
) -> None:
    with bank.test_request_context():
        for identifier in (ANN, BOB):
            otp.send(identifier)
    assert all(request.bucket and request.session_tag for request in asked)
    assert len({request.bucket for request in asked}) == len({request.session_tag for request in asked}) == 2


def test_r12_a_browser_has_another_challenge_for_each_channel_and_order(
    bank: Flask, otp: OTP, asked: list[ChallengeRequest]
) -> None:
    with bank.test_request_context():
        orders: list[dict[str, Any]] = [{}, {}, {"channel": "letter"}, {"context": {"amount": 5}}]
        for order in orders:
            otp.send(ANN, **order)
    assert len({request.session_tag for request in asked}) == 3
    assert len({request.bucket for request in asked}) == 1


def test_each_network_has_a_bucket_of_its_own(bank: Flask, asked: list[ChallengeRequest]) -> None:
    for address in ("192.0.2.1", "198.51.100.1"):
        bank.test_client().post("/otp/send", json={"identifier": ANN}, environ_base={"REMOTE_ADDR": address})
    assert len({request.bucket for request in asked}) == 2
