"""Purposes without a code to type: the mail has a link, and nothing that could be read out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_otp import OTP, ConfigError, DeliveryFailed, Message, otp_required
from flask_otp.http import openapi
from flask_otp.limits import risk
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory

ANN = "ann@example.com"
HTML = {"Accept": "text/html"}
CONFIG: dict[str, Any] = {
    "OTP_LINKS": True,
    "OTP_BASE_URL": "http://localhost",
    "OTP_COOLDOWN": 0,
    "OTP_IP_VERIFY_LIMIT": None,
    "OTP_CHANNELS": {"email": lambda message: None, "sms": lambda message: None},
    "OTP_SMS_COUNTRIES": ("DE",),
    "OTP_PURPOSES": {"login": {}, "transfer": {"typed": False, "channels": ["email"]}},
}


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


@pytest.fixture
def app(make_app: AppFactory, otp: OTP) -> Flask:
    app = make_app(otp, **CONFIG)
    app.add_url_rule("/transfer", "transfer", otp_required(purpose="transfer")(lambda: "sent"))
    return app


@pytest.fixture
def sent(app: Flask) -> Iterator[Outbox]:
    with capture_codes(app) as sent:
        yield sent


def ask(client: FlaskClient, **body: str) -> dict[str, Any]:
    answer = client.post("/otp/send", json={"email": ANN, "purpose": "transfer"} | body)
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def secret_of(link: str) -> str:
    return urlsplit(link).path.rpartition("/")[2]


def test_the_mail_has_the_link_alone_and_the_link_verifies(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    challenge = ask(client)
    assert challenge["code_length"] == 0
    (message,) = sent
    assert (message.code, message.written_code, message.spoken) == ("", "", "")
    assert message.subject == "Your link to confirm “transfer” at site"
    for part in (message.text, message.html):
        assert part.count(str(message.link)) == 1
        assert "code" not in re.sub(r"<style>.*?</style>|https?://\S+|\.code|class=\"\w+\"", "", part, flags=re.S)
    answer = client.post("/otp/verify", json={"link": secret_of(sent.link), "purpose": "transfer"})
    assert answer.get_json()["verified"] is True
    assert client.get("/transfer").status_code == 200


def test_a_second_mail_of_the_kind_is_as_the_first_one(app: Flask, sent: Outbox) -> None:
    """The mould of a mail without a code."""
    for number in range(3):
        ask(app.test_client(), email=f"user{number}@example.com")
    links = [str(message.link) for message in sent]
    assert len(set(links)) == 3
    assert len({message.text.replace(link, "") for message, link in zip(sent, links, strict=True)}) == 1
    assert len({message.html.replace(link, "") for message, link in zip(sent, links, strict=True)}) == 1


def test_a_typed_code_is_refused_before_anything_is_compared_or_charged(app: Flask, sent: Outbox, otp: OTP) -> None:
    client = app.test_client()
    handle = ask(client)["challenge"]
    code = app.extensions["otp"].tokens.load_handle(handle).code
    for typed in (code, "000000", "", secret_of(sent.link), "AAAA-AAAA-AAAAA") * 3:
        body = {"code": typed, "challenge": handle, "purpose": "transfer"}
        assert client.post("/otp/verify", json=body).status_code == 400
    with app.app_context():
        for typed in (code, secret_of(sent.link)):
            with pytest.raises(Exception, match="right"):
                otp.verify(typed, challenge=handle, purpose="transfer")
    # All five tries at the link are left.
    for _ in range(4):
        assert client.post("/otp/verify", json={"link": "A" * 24, "challenge": handle}).status_code == 400
    assert client.post("/otp/verify", json={"link": secret_of(sent.link), "challenge": handle}).status_code == 200


def test_wrong_links_spend_no_budget_and_make_no_surge(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp, **CONFIG | {"OTP_FAILURE_BUDGET": "2/day", "OTP_SURGE_LIMIT": "20/hour"})
    with capture_codes(app) as sent:
        waiting = app.test_client()
        handle = ask(waiting)["challenge"]
        for _ in range(3):
            crook = app.test_client()
            ask(crook)
            for _ in range(5):
                assert crook.post("/otp/verify", json={"link": "A" * 24}).status_code == 400
        assert (
            waiting.post("/otp/verify", json={"link": secret_of(sent[0].link), "challenge": handle}).status_code == 200
        )
        other = app.test_client().post("/otp/send", json={"email": "bob@example.com"}).get_json()
    assert other["code_length"] == 6


def test_a_surge_of_wrong_codes_stops_no_link(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp, **CONFIG | {"OTP_SURGE_LIMIT": "1/hour"})
    with capture_codes(app) as sent:
        waiting, limits = app.test_client(), app.extensions["otp"].limits
        handle = ask(waiting)["challenge"]
        for number in range(3):
            limits.surge.count(f"192.0.2.{number}")
        assert limits.is_surge()
        opened = ask(app.test_client(), email="eve@example.com")
        assert opened["code_length"] == 0
        assert not app.extensions["otp"].tokens.load_handle(opened["challenge"]).strong
        assert waiting.post("/otp/resend", json={"challenge": handle}).status_code == 200
        body = {"link": secret_of(str(sent[0].link)), "challenge": handle}
        assert waiting.post("/otp/verify", json=body).status_code == 200


def test_a_failure_is_logged_in_words(make_app: AppFactory, otp: OTP, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no code, there is nothing of it to be found in every place."""

    def fail(message: Message) -> None:
        raise OSError(f"no way to send {message.link} to {message.recipient}")

    app = make_app(otp, **CONFIG | {"OTP_CHANNELS": {"email": fail}})
    assert app.test_client().post("/otp/send", json={"email": ANN, "purpose": "transfer"}).status_code == 503
    assert "OSError: no way to send http://localhost/otp/link/[redacted]" in caplog.text
    assert ANN not in caplog.text


def test_the_document_of_the_api_knows_of_it(app: Flask) -> None:
    with app.app_context():
        document = openapi.document(app.extensions["otp"])
    assert document["components"]["schemas"]["Challenge"]["properties"]["code_length"]["enum"] == [0, 6, 13]


def test_the_pages_speak_of_a_link(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    start = client.get("/otp/?purpose=transfer", headers=HTML).text
    assert "Send me a link" in start
    assert "a code" not in start
    client.post("/otp/send", data={"identifier": ANN, "purpose": "transfer"}, headers=HTML)
    page = client.get("/otp/verify?purpose=transfer", headers=HTML).text
    for words in ("Open the link in your mail", "Open the mail on this device", "Send again"):
        assert words in page
    assert not re.search(r"\bcode\b", re.sub(r"<[^>]*>", "", page))
    assert 'name="code"' not in page
    assert "Send it as a text message" not in page
    wrong = {"link": "A" * 24, "purpose": "transfer"}
    assert "That link is no longer valid.</p>" in client.post("/otp/verify", data=wrong, headers=HTML).text
    clock.advance("5m")
    page = client.get("/otp/verify?purpose=transfer", headers=HTML).text
    for words in ("That link no longer works", "Send a new link"):
        assert words in page


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        ({"OTP_LINKS": False}, "OTP_LINKS"),
        ({"OTP_PURPOSES": {"login": {"typed": "no"}}}, "typed"),
        ({"OTP_PURPOSES": {"login": {"typed": False}}}, "'sms' carries no link"),
        ({"OTP_PURPOSES": {"login": {"typed": False, "channels": ["email", "sms"]}}}, "'sms' carries no link"),
        ({"OTP_CHANNELS": {"chat": lambda message: None}, "OTP_PURPOSES": {"login": {"typed": False}}}, "'chat'"),
    ],
    ids=["no links", "no flag", "all channels", "one of two", "a chat"],
)
def test_what_cannot_carry_a_link_stops_the_app(make_app: AppFactory, overrides: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        make_app(**CONFIG | overrides).test_client().get("/")


def test_a_recipient_that_gets_no_link_gets_nothing_at_all(make_app: AppFactory, otp: OTP) -> None:
    otp.recipient_loader(lambda identifier, channel: "+4915112345678")
    app = make_app(otp, **CONFIG | {"OTP_DELIVERY": "inline"})
    with capture_codes(app) as sent, app.app_context(), pytest.raises(DeliveryFailed):
        otp.send(ANN, purpose="transfer")
    assert sent == []


@pytest.mark.parametrize("channels", [CONFIG["OTP_CHANNELS"], None], ids=["e-mail", "console"])
def test_a_phone_number_is_no_address_for_it(make_app: AppFactory, channels: dict[str, Any] | None) -> None:
    purposes = {"transfer": {"typed": False} | ({"channels": ["email"]} if channels else {})}
    app = make_app(**CONFIG | {"OTP_CHANNELS": channels, "OTP_PURPOSES": purposes})
    with capture_codes(app) as sent:
        body = {"phone": "+4915112345678", "purpose": "transfer"}
        assert app.test_client().post("/otp/send", json=body).status_code == 400
    assert sent == []


def test_nothing_is_guessed_at(app: Flask) -> None:
    state = app.extensions["otp"]
    odds = risk.compute(state.settings)
    assert odds.by_purpose["transfer"] < 1e-30
    assert odds.one_account == pytest.approx(odds.by_purpose["login"])
    assert state.service.purpose("transfer").policy().failure_budget == ()


def test_the_warning_of_a_foreign_page_is_only_where_the_link_did_not_begin(
    app: Flask, sent: Outbox, clock: Clock
) -> None:
    """A user who asked on our page, and opens the link late or twice, must not read that the page was not ours."""
    client, other = app.test_client(), app.test_client()
    warning = "Then you asked on a page that is not ours"
    ask(client)
    link = urlsplit(sent.link)._replace(scheme="", netloc="").geturl()
    assert warning in other.get(link).text
    answer = client.post("/otp/verify", json={"link": secret_of(sent.link), "purpose": "transfer"})
    assert answer.status_code == 200
    assert warning not in client.get(link, headers=HTML).text
    ask(client)
    link = urlsplit(sent.link)._replace(scheme="", netloc="").geturl()
    clock.advance("6m")
    page = client.get(link, headers=HTML, follow_redirects=True)
    assert warning not in page.text
    assert "Send a new link" in page.text
