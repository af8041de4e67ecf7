"""``@otp.message_builder``: the app may reword a message, and can neither send it elsewhere nor give it away."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, has_request_context
from werkzeug.test import TestResponse

from flask_otp import OTP, ConfigError, DeliveryFailed, Message
from flask_otp.signals import delivery_failed
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory

ANN = "ann@example.com"
EVE = "eve@evil.example"
FACTS = {"amount": "100 EUR", "to": ["Bob", {"bank": "X"}]}

Builder = Callable[[Message], Any]


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


@pytest.fixture
def app(make_app: AppFactory, otp: OTP) -> Flask:
    return make_app(otp, OTP_COOLDOWN=0, OTP_SEND_LIMIT="1/hour", OTP_CHANNELS={"email": print})


def ask(app: Flask) -> TestResponse:
    return app.test_client().post("/otp/send", json={"email": ANN})


def sent_with(otp: OTP, app: Flask, builder: Builder, **arguments: Any) -> Message:
    otp.message_builder(builder)
    with app.app_context(), capture_codes(app) as sent:
        otp.send(ANN, **arguments)
    return sent[-1]


def test_it_may_reword_subject_text_and_html(otp: OTP, app: Flask) -> None:
    message = sent_with(
        otp,
        app,
        lambda message: replace(
            message,
            subject="Hello",
            text=f"{message.written_code}\n{message.context_values}",
            html=message.html.upper(),
        ),
        context=FACTS,
    )
    assert message.subject == "Hello"
    assert message.text == f"{message.code}\n{FACTS}"
    assert message.html.startswith("<!DOCTYPE HTML>")


def test_the_one_in_the_docs_does_what_they_say(otp: OTP, app: Flask) -> None:
    page = Path(__file__).parents[2] / "docs" / "channels" / "messages.md"
    [block] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(page), "exec"), {"otp": otp})
    with app.app_context(), capture_codes(app) as sent:
        otp.send(ANN, context=FACTS)
        otp.send("bob@example.com")
    assert [message.subject for message in sent] == ["Your transfer of 100 EUR", "Your code to sign in to site"]


def test_what_it_gets_says_all_that_there_is_to_word(otp: OTP, make_app: AppFactory) -> None:
    got: list[Message] = []
    app = make_app(otp, OTP_SITE_NAME="Shop", OTP_LINKS=True, OTP_BASE_URL="https://shop.example")
    sent_with(otp, app, lambda message: got.append(message) or message, context=FACTS)
    [message] = got
    assert (message.channel, message.purpose, message.site_name) == ("console", "login", "Shop")
    assert (message.recipient, message.expires_in, message.context_values) == (ANN, 300, FACTS)
    assert message.code in message.text
    assert message.link in message.html
    assert {message: 1}[replace(message)] == 1  # it can be looked up, as it always could


@pytest.mark.parametrize("breaks", ["\n", "\r\n", "\r", "\x85", "\u2028", "\x00", "\x0b", " \n\n "], ids=ascii)
def test_r31_a_line_break_in_its_subject_begins_no_header(otp: OTP, app: Flask, breaks: str) -> None:
    message = sent_with(otp, app, lambda message: replace(message, subject=f"Hello{breaks}Bcc: {EVE}{breaks}"))
    assert message.subject == f"Hello Bcc: {EVE}"


CHANGES: dict[str, Any] = {
    "channel": "sms",
    "recipient": EVE,
    "code": "000000",
    "purpose": "transfer",
    "site_name": "Evil",
    "expires_in": 600,
    "link": "https://evil.example/",
    "context_values": {"amount": "1 EUR"},
}


WRONG: dict[str, Builder] = {
    **{name: lambda message, name=name: replace(message, **{name: CHANGES[name]}) for name in CHANGES},
    "two": lambda message: replace(message, recipient=EVE, subject="Hello"),
    "nothing": lambda message: None,
    "text alone": lambda message: message.text,
    "bytes": lambda message: replace(message, text=b"Hello"),
    "no html": lambda message: replace(message, html=None),
    "raises": lambda message: 1 / 0,
    "quotes": lambda message: {}[f"{message.code} for {message.recipient}"],
}


@pytest.mark.parametrize("builder", WRONG.values(), ids=WRONG)
def test_where_it_fails_nothing_is_sent_counted_or_given_away(
    otp: OTP, app: Flask, caplog: pytest.LogCaptureFixture, builder: Builder
) -> None:
    codes: list[str] = []

    def note(message: Message) -> Any:
        codes.append(message.code)
        return builder(message)

    failed: list[dict[str, Any]] = []
    listen = lambda sender, event, **told: failed.append(told)  # noqa: E731
    otp.message_builder(note)
    with capture_codes(app) as sent, delivery_failed.connected_to(listen, app):
        client = app.test_client()
        answer = client.post("/otp/send", json={"email": ANN})
        assert (answer.status_code, answer.get_json()["reason"]) == (503, "delivery_failed")
        assert client.post("/otp/verify", json={"code": codes[0]}).status_code == 400
        assert sent == []
        assert failed == [{"identifier": ANN, "channel": "email", "purpose": "login"}]
        assert "the message_builder failed: " in caplog.text
        for secret in (codes[0], ANN, EVE, "evil"):
            assert secret not in caplog.text + answer.text
        # The hour's one message is there still, and has another code.
        otp.message_builder(lambda message: message)
        assert client.post("/otp/send", json={"email": ANN}).status_code == 200
    assert sent.code != codes[0]


def test_the_log_names_what_it_should_not_have_changed(otp: OTP, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    otp.message_builder(lambda message: replace(message, recipient=EVE, code="000000"))
    ask(app)
    assert "it may change subject, text, html, but changed recipient, code" in caplog.text


def test_changing_the_context_values_in_place_changes_nothing_but_its_own_copy(otp: OTP, app: Flask) -> None:
    context_values = {"amount": "100 EUR", "to": ["Bob"]}

    def meddle(message: Message) -> Message:
        assert message.context_values is not None
        message.context_values["to"].append("Eve")
        message.context_values["amount"] = "1 EUR"
        return message

    with app.test_request_context():
        sent_with(otp, app, meddle, context=context_values)
    assert context_values == {"amount": "100 EUR", "to": ["Bob"]}


def test_r21_it_is_called_for_those_who_do_not_exist_too(otp: OTP, app: Flask) -> None:
    called: list[str] = []
    otp.recipient_loader(lambda identifier, channel: None)
    otp.message_builder(lambda message: called.append(message.recipient) or message)
    with capture_codes(app) as sent:
        assert ask(app).status_code == 200
    assert called == [ANN]
    assert sent == []


def test_what_it_made_is_what_before_send_sees_and_may_veto(otp: OTP, app: Flask) -> None:
    seen: list[str] = []
    otp.before_send(lambda message: seen.append(message.subject) is not None)
    with capture_codes(app) as sent:
        otp.message_builder(lambda message: replace(message, subject="Hello"))
        ask(app)
    assert seen == ["Hello"]
    assert sent == []


def test_a_worker_calls_it_without_a_request(otp: OTP, app: Flask) -> None:
    payloads: list[dict[str, str]] = []
    otp.dispatcher(payloads.append)
    requests: list[bool] = []

    def build(message: Message) -> Message:
        requests.append(has_request_context())
        return replace(message, subject=f"Hello {message.code}")

    otp.message_builder(build)
    ask(app)
    outbox = work(otp, app, payloads[0])
    assert requests == [True, False]
    assert outbox[0].subject == f"Hello {outbox.code}"


def test_a_worker_whose_builder_fails_sends_nothing_and_its_queue_may_try_again(otp: OTP, app: Flask) -> None:
    payloads: list[dict[str, str]] = []
    otp.dispatcher(payloads.append)
    ask(app)
    otp.message_builder(lambda message: replace(message, recipient=EVE))
    with pytest.raises(DeliveryFailed):
        work(otp, app, payloads[0])
    otp.message_builder(lambda message: message)
    assert work(otp, app, payloads[0])[0].recipient == ANN


def work(otp: OTP, app: Flask, payload: dict[str, str]) -> Outbox:
    """Deliver in a new thread, which has no request context."""
    outboxes, errors = [], []

    def run() -> None:
        with app.app_context(), capture_codes(app) as sent:
            try:
                otp.deliver(payload)
            except DeliveryFailed as error:
                errors.append(error)
            outboxes.append(sent)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    if errors:
        raise errors[0]
    return outboxes[0]


def test_a_failure_that_is_raised_carries_no_code_along(otp: OTP, app: Flask) -> None:
    otp.message_builder(lambda message: {}[message.code])
    with app.app_context(), pytest.raises(DeliveryFailed) as caught:
        otp.send(ANN)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("hook", [None, "build", 7])
def test_only_a_plain_function_can_be_one(otp: OTP, hook: Any) -> None:
    with pytest.raises(ConfigError, match="plain function"):
        otp.message_builder(hook)


def test_an_async_function_cannot(otp: OTP) -> None:
    async def build(message: Message) -> Message:
        return message

    with pytest.raises(ConfigError, match="plain function"):
        otp.message_builder(build)
