"""A step-up with nothing to choose sends its code at once, and no page of another site can make it do so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, request, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import OTP, otp_required
from flask_otp.signals import code_sent
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory

ANN, BOB = "ann@example.com", "bob@example.com"
#: What a browser sends when a person follows a link of the same site.
MEANT = {
    "Accept": "text/html",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
TYPED = MEANT | {"Sec-Fetch-Site": "none"}
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}, "choice": {"channels": ["email", "post"]}}


@pytest.fixture
def office(make_app: AppFactory, clock: Clock) -> Flask:
    """A site with a first factor: ``/as/<address>`` signs in."""
    otp = OTP(clock=clock)
    otp.identifier_loader(lambda: session.get("user"))
    channels = {"email": lambda message: app.extensions["mail"](message), "post": print}
    purposes = PURPOSES | {name: {"channels": ["email"]} for name in ("login", "transfer")}
    app = make_app(otp, OTP_PURPOSES=purposes, OTP_CHANNELS=channels, OTP_COOLDOWN=30)

    @app.get("/as/<who>")
    def sign_in(who: str) -> str:
        session["user"] = who
        return "signed in"

    def order() -> dict[str, str]:
        return {"amount": request.values["amount"]}

    transfer = otp_required(purpose="transfer", context=order)(lambda: "sent")
    app.add_url_rule("/account", "account", otp_required(lambda: "account"))
    app.add_url_rule("/transfer", "transfer", transfer, methods=["GET", "POST"])
    app.add_url_rule("/choice", "choice", otp_required(purpose="choice")(lambda: "choice"))
    app.add_url_rule("/bobs", "bobs", otp_required(identifier=lambda: BOB)(lambda: "bobs"))
    return app


@pytest.fixture
def ann(office: Flask) -> FlaskClient:
    client = office.test_client()
    client.get(f"/as/{ANN}")
    return client


@pytest.fixture
def sent(office: Flask) -> Iterator[Outbox]:
    with capture_codes(office) as codes:
        yield codes


def follow(client: FlaskClient, path: str, headers: dict[str, str] = MEANT, **options: Any) -> TestResponse:
    """As a browser follows redirects: with the headers of the first request."""
    answer = client.open(path, headers=headers, **options)
    while answer.status_code in (302, 303):
        answer = client.get(answer.location, headers=headers)
    return answer


@pytest.mark.parametrize("headers", [MEANT, TYPED], ids=["link", "typed"])
def test_the_code_is_sent_and_asked_for_at_once(
    office: Flask, ann: FlaskClient, sent: Outbox, headers: dict[str, str]
) -> None:
    told: list[str] = []

    def hear(sender: object, **arguments: Any) -> None:
        told.append(arguments["event"].purpose)

    with code_sent.connected_to(hear, office):
        page = follow(ann, "/account", headers)
    assert "Enter your code" in page.text
    assert "a***@example.com" in page.text
    assert ([message.recipient for message in sent], told) == ([ANN], ["login"])
    answer = ann.post("/otp/verify", data={"code": sent.code, "next": "/account"}, headers=headers)
    assert ann.get(answer.location).text == "account"


def test_a_form_waits_for_the_code_as_ever(ann: FlaskClient, sent: Outbox) -> None:
    page = follow(ann, "/transfer", method="POST", data={"amount": "5 EUR"})
    assert "Enter your code" in page.text
    assert "<dd><bdi>5 EUR</bdi></dd>" in page.text
    answer = ann.post("/otp/verify", data={"code": sent.code, "purpose": "transfer"}, headers=MEANT)
    assert "One click left" in ann.get(answer.location, headers=MEANT).text
    assert len(sent) == 1


@pytest.mark.parametrize("again", ["the guarded page", "the page that sends"])
def test_a_reload_or_another_tab_finds_the_same_code(ann: FlaskClient, sent: Outbox, clock: Clock, again: str) -> None:
    start = ann.get("/account", headers=MEANT).location
    pages = [follow(ann, start)]
    for _ in range(2):
        pages.append(follow(ann, "/account" if again == "the guarded page" else start))
        clock.advance(10)
    assert all("Enter your code" in page.text for page in pages)
    assert len(sent) == 1


def test_another_order_is_another_code(ann: FlaskClient, sent: Outbox, clock: Clock) -> None:
    follow(ann, "/transfer?amount=5")
    clock.advance(31)
    page = follow(ann, "/transfer?amount=6 EUR")
    assert "<dd><bdi>6 EUR</bdi></dd>" in page.text
    assert len(sent) == 2


def test_a_limit_leads_to_the_page_with_its_button(ann: FlaskClient, sent: Outbox) -> None:
    follow(ann, "/transfer?amount=5")
    page = follow(ann, "/transfer?amount=6 EUR")
    assert page.status_code == 429
    assert "Send me a code" in page.text
    assert "The wait is" in page.text
    assert len(sent) == 1


def test_a_code_that_is_used_up_is_replaced(ann: FlaskClient, sent: Outbox, clock: Clock) -> None:
    follow(ann, "/account")
    clock.advance(301)
    assert "Enter your code" in follow(ann, "/account").text
    assert len(sent) == 2


def test_what_cannot_be_delivered_leads_to_the_page_with_its_button(office: Flask, ann: FlaskClient) -> None:
    def broken(message: object) -> None:
        raise RuntimeError

    office.extensions["mail"] = broken
    page = follow(ann, "/account")
    assert page.status_code == 503
    assert "Send me a code" in page.text


REFUSED: dict[str, dict[str, str | None]] = {
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "a neighbouring host": {"Sec-Fetch-Site": "same-site"},
    "an image": {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    "a frame": {"Sec-Fetch-Dest": "iframe"},
    "a script": {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    "a prefetch": {"Sec-Purpose": "prefetch"},
    "a prerendering": {"Sec-Purpose": "prefetch;prerender"},
    "an old prefetch": {"Purpose": "prefetch"},
    "an old Firefox's prefetch": {"X-Moz": "prefetch"},
    "a browser that says nothing": {"Sec-Fetch-Site": None, "Sec-Fetch-Mode": None, "Sec-Fetch-Dest": None},
}


@pytest.mark.parametrize("difference", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("refused_too", [True, False], ids=["from the guard on", "after the guard"])
def test_r15_nothing_but_a_person_makes_the_page_send(
    ann: FlaskClient, sent: Outbox, difference: dict[str, str | None], refused_too: bool
) -> None:
    headers = {name: value for name, value in (MEANT | difference).items() if value is not None}
    start = ann.get("/account", headers=headers if refused_too else MEANT).location or "/otp/?next=/account"
    assert ann.get(start, headers=headers).status_code in (200, 303)
    assert ann.head(start, headers=MEANT).status_code < 400
    assert len(sent) == 0


def test_r15_only_the_guards_own_refusal_of_this_moment_makes_the_page_send(
    office: Flask, ann: FlaskClient, sent: Outbox, clock: Clock
) -> None:
    # The page itself, without a refusal.
    assert "Send me a code" in follow(ann, "/otp/").text
    # A refusal for another purpose, of another browser, or of the user before.
    ann.get("/transfer?amount=5", headers=MEANT)
    assert "Send me a code" in follow(ann, "/otp/").text
    other = office.test_client()
    other.get(f"/as/{ANN}")
    theirs = other.get("/transfer?amount=7", headers=MEANT).location
    assert "Send me a code" in follow(ann, theirs).text
    start = ann.get("/transfer?amount=5", headers=MEANT).location
    ann.get(f"/as/{BOB}")
    assert "Send me a code" in follow(ann, start).text
    # A refusal of long ago.
    start = ann.get("/account", headers=MEANT).location
    clock.advance(31)
    assert "Send me a code" in follow(ann, start).text
    assert len(sent) == 0


@pytest.mark.parametrize("path", ["/choice", "/bobs"])
def test_where_there_is_something_to_choose_or_the_address_is_anothers_the_person_decides(
    ann: FlaskClient, sent: Outbox, path: str
) -> None:
    assert "Send me a code" in follow(ann, path).text
    assert len(sent) == 0


def test_a_visitor_whom_nobody_knows_types_an_address(office: Flask, sent: Outbox) -> None:
    assert "E-mail address" in follow(office.test_client(), "/account").text
    assert len(sent) == 0
