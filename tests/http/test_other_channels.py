"""One code, sent another way: what is charged, and what the proof of such a code is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_otp import OTP, RateLimited, otp_required
from flask_otp.stores import Store
from flask_otp.testing import Clock, Outbox, capture_codes

ANN, PHONE = "ann@example.com", "+4915112345678"
HTML = {"Accept": "text/html"}
AppFactory = Callable[..., Flask]


@pytest.fixture
def otp(clock: Clock) -> OTP:
    """Only Ann has an account, with an e-mail address and a phone."""
    otp = OTP(clock=clock)

    @otp.recipient_loader
    def load(identifier: str, channel: str) -> str | None:
        if identifier != ANN:
            return None
        return ANN if channel == "email" else PHONE

    return otp


@pytest.fixture
def app(make_app: AppFactory, otp: OTP) -> Flask:
    app = make_app(
        otp,
        OTP_DELIVERY="inline",
        OTP_SMS_COUNTRIES=("DE",),
        OTP_IP_SEND_LIMIT=None,
        OTP_IP_VERIFY_LIMIT=None,
        OTP_CHANNELS={name: lambda message: None for name in ("email", "sms", "voice", "whatsapp", "signal")},
    )
    for name, channels in {"sms": ("sms",), "phone": ("sms", "voice"), "any": ()}.items():
        app.add_url_rule(f"/{name}", name, otp_required(channels=channels or ("sms", "voice", "email"))(lambda: "in"))
    return app


@pytest.fixture
def sent(app: Flask) -> Iterator[Outbox]:
    with capture_codes(app) as sent:
        yield sent


def send(client: FlaskClient, channel: str, email: str = ANN) -> Any:
    answer = client.post("/otp/send", json={"email": email, "channel": channel})
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def again(client: FlaskClient, challenge: str, channel: str) -> Any:
    return client.post("/otp/resend", json={"challenge": challenge, "channel": channel})


def views(client: FlaskClient, proof: str) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {proof}"}
    return {name: client.get(f"/{name}", headers=headers).status_code for name in ("sms", "phone", "any")}


def test_another_channel_carries_the_same_code_at_once(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    first = send(client, "sms")
    assert first["other_channels"] == ["email", "voice", "whatsapp", "signal"]
    second = again(client, first["challenge"], "email").get_json()
    assert (second["channel"], "sms" in second["other_channels"]) == ("email", True)
    assert [(message.channel, message.recipient) for message in sent] == [("sms", PHONE), ("email", ANN)]
    assert len({message.code for message in sent}) == 1
    assert again(client, first["challenge"], "email").status_code == 429
    answer = client.post("/otp/verify", json={"code": sent.code, "challenge": first["challenge"]})
    assert answer.get_json()["channels"] == ["sms", "email"]


def test_the_handle_of_a_code_says_which_phone_it_went_to_last(app: Flask, sent: Outbox, clock: Clock) -> None:
    """By this, a code that passes counts for the range of phone numbers that its message counted for."""
    by_phone, load = send(app.test_client(), "sms")["challenge"], app.extensions["otp"].tokens.load_handle
    clock.advance("1m")
    client = app.test_client()
    first = send(client, "email")["challenge"]
    second = again(client, first, "sms").get_json()["challenge"]
    clock.advance("1m")
    third = again(client, second, "email").get_json()["challenge"]
    assert load(by_phone).numbers
    assert [load(handle).numbers for handle in (first, second, third)] == [None, load(by_phone).numbers, None]


def test_a_code_that_went_out_by_e_mail_too_proves_no_phone(app: Flask, any_store: Store) -> None:
    """The attack: ask by SMS, have it sent again by e-mail, read it there, and present the first handle."""
    app.extensions["otp"].store = app.extensions["otp"].service._parts.store = any_store
    with capture_codes(app) as sent:
        for others, passed in {
            (): {"sms": 200, "phone": 200, "any": 200},
            ("voice",): {"sms": 401, "phone": 200, "any": 200},
            ("email",): {"sms": 401, "phone": 401, "any": 200},
            ("voice", "email"): {"sms": 401, "phone": 401, "any": 200},
        }.items():
            client = app.test_client()
            app.extensions["otp"].service._parts.clock.advance("1h")
            handle = send(client, "sms")["challenge"]
            for channel in others:
                assert again(app.test_client(), handle, channel).status_code == 200
            body = {"challenge": handle, "code": sent.code}
            proved = app.test_client().post("/otp/verify", json=body).get_json()
            assert proved["channels"] == ["sms", *others]
            assert views(app.test_client(), proved["proof"]) == passed


def test_a_channel_that_the_settings_lost_since_is_allowed_by_no_guard(
    app: Flask, otp: OTP, sent: Outbox, make_app: AppFactory
) -> None:
    client = app.test_client()
    handle = send(client, "sms")["challenge"]
    again(client, handle, "signal")
    later = make_app(otp, OTP_CHANNELS={"sms": lambda message: None}, OTP_SMS_COUNTRIES=("DE",))
    state = later.extensions["otp"]
    state.store = state.service._parts.store = app.extensions["otp"].store
    proved = later.test_client().post("/otp/verify", json={"code": sent.code, "challenge": handle}).get_json()
    assert proved["channels"] == ["sms", "?"]
    assert set(views(app.test_client(), proved["proof"]).values()) == {401}


def test_all_messages_count_for_the_hour(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    handle = send(client, "sms")["challenge"]
    for channel in ("email", "voice", "whatsapp"):
        assert again(client, handle, channel).status_code == 200
    assert again(client, handle, "signal").status_code == 400  # four ways are enough
    clock.advance("31s")
    assert again(client, handle, "sms").status_code == 200
    clock.advance("31s")
    assert again(client, handle, "sms").status_code == 429
    assert len(sent) == 5


@pytest.mark.parametrize(("channel", "status"), [("nosuch", 400), ("", 400)])
def test_an_unknown_channel_is_400_and_sends_nothing(app: Flask, sent: Outbox, channel: str, status: int) -> None:
    client = app.test_client()
    handle = send(client, "sms")["challenge"]
    assert again(client, handle, channel).status_code == status
    assert len(sent) == 1


def test_without_a_loader_only_channels_that_take_the_address_are_named(make_app: AppFactory) -> None:
    app = make_app(
        OTP_CHANNELS={"email": lambda message: None, "sms": lambda message: None, "chat": lambda message: None}
    )
    with capture_codes(app):
        client = app.test_client()
        first = send(client, "email")
        assert first["other_channels"] == ["chat"]
        assert again(client, first["challenge"], "sms").get_json()["reason"] == "invalid_identifier"


def test_unknown_people_get_the_same_answers_and_buttons(app: Flask, sent: Outbox) -> None:
    answers, pages = [], []
    for email in (ANN, "bob@example.com"):
        client = app.test_client()
        first = send(client, "sms", email)
        other = again(client, first["challenge"], "email")
        answers.append((sorted(first), first["other_channels"], other.status_code, other.get_json()["other_channels"]))
        pages.append(client.get("/otp/verify", headers=HTML).text.count("<button"))
    assert answers[0] == answers[1]
    assert pages[0] == pages[1]
    assert {message.recipient for message in sent} == {ANN, PHONE}


def test_who_has_no_phone_gets_the_code_by_e_mail_after_all(app: Flask, otp: OTP, sent: Outbox) -> None:
    otp.recipient_loader(lambda identifier, channel: identifier if channel == "email" else None)
    client = app.test_client()
    first = send(client, "sms")
    second = again(client, first["challenge"], "email").get_json()
    assert client.post("/otp/verify", json={"code": sent.code, "challenge": second["challenge"]}).status_code == 200


def test_the_page_has_one_button_for_each_way(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    client.post("/otp/send", data={"email": ANN, "channel": "sms"})
    page = client.get("/otp/verify", headers=HTML).text
    for words in ("Send it by e-mail", "Call me instead", "Send it by WhatsApp", "Send it by Signal"):
        assert words in page
    assert "Send it as a text message" not in page
    assert client.post("/otp/resend", data={"channel": "email"}).status_code == 303
    page = client.get("/otp/verify", headers=HTML).text
    assert "Send it as a text message" in page
    assert [message.channel for message in sent] == ["sms", "email"]


def test_the_python_call_has_the_channel_too(app: Flask, otp: OTP, sent: Outbox) -> None:
    with app.app_context():
        first = otp.send(ANN, channel="sms")
        second = otp.resend(first.handle, channel="email")
        assert (first.other_channels[0], second.channel) == ("email", "email")
        with pytest.raises(RateLimited):
            otp.resend(first.handle, channel="email")
        assert otp.verify(sent.code, challenge=first.handle).channels == ("sms", "email")


@pytest.mark.parametrize("email", [ANN, "nobody@example.com"])
def test_the_page_names_the_way_where_the_code_did_not_go_to_the_address(app: Flask, sent: Outbox, email: str) -> None:
    """Known and unknown people see the same words. The words do not show whether a phone number exists."""
    client = app.test_client()
    client.post("/otp/send", data={"identifier": email, "channel": "email"})
    assert f"{email}</bdi></b>." in client.get("/otp/verify", headers=HTML).text
    client.post("/otp/resend", data={"channel": "sms"})
    assert f"{email}</bdi></b> (Text message)." in client.get("/otp/verify", headers=HTML).text
