"""What a stranger can do with a context: send words of theirs to others, and values that have no canonical form."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask, request

from flask_otp import OTP, Message, otp_required
from flask_otp.testing import capture_codes
from tests.support.apps import AppFactory

LINK = "https://help.evil.example/x"
WORDS = f"Your account is LOCKED. Unlock it: {LINK} or call +1 900 555 0100 \u202eor write to help@evil.example"
HTML = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def bank(make_app: AppFactory) -> Flask:
    def drop(message: Message) -> None:
        """Delivered, as far as is known."""

    app = make_app(
        OTP_PURPOSES={"login": {}, "transfer": {}},
        OTP_CHANNELS={"email": drop, "sms": drop},
        OTP_SMS_COUNTRIES=("US",),
        OTP_BASE_URL="https://bank.example",
        PROPAGATE_EXCEPTIONS=False,
    )

    @app.post("/transfer")
    @otp_required(purpose="transfer", context=lambda: {"amount": "1", **request.values})
    def transfer() -> str:
        return "done"

    @app.post("/order")
    @otp_required(purpose="transfer", context=lambda: request.get_json()["payee"])
    def order() -> str:
        return "done"

    return app


@pytest.mark.parametrize(("name", "address"), [("email", "victim@example.com"), ("phone", "+14155550132")])
@pytest.mark.parametrize("place", ["payee", WORDS])
def test_r31_the_sites_messages_carry_no_strangers_link(bank: Flask, name: str, address: str, place: str) -> None:
    """In the value, and in the name of one: both are the stranger's where an app takes all of a form."""
    client = bank.test_client(use_cookies=False)
    asked = client.post("/transfer", data={place: WORDS}).json["requirement"]
    with capture_codes(bank) as codes:
        assert client.post("/otp/send", json={name: address, "requirement": asked}).status_code == 200
    (message,) = codes
    for text in (message.text, re.sub(r"<[^>]*>", "", message.html), message.subject, *message.context_text.values()):
        for tapped in ("help.evil", "://help", "900 555", "help@", "\u202e"):
            assert tapped not in text
    assert "help[.]evil[.]example" in message.text or "[..." in message.text


def test_r31_nor_do_the_pages(bank: Flask) -> None:
    client = bank.test_client()
    with capture_codes(bank) as codes:
        client.post("/transfer", data={"payee": WORDS}, headers=HTML)
        pages = [client.get("/otp/?purpose=transfer", headers=HTML).text]
        client.post("/otp/send", data={"identifier": "ann@example.com", "purpose": "transfer"}, headers=HTML)
        pages.append(client.get("/otp/verify?purpose=transfer", headers=HTML).text)
        client.post("/otp/verify", data={"code": codes.code, "purpose": "transfer"}, headers=HTML)
        pages.append(client.get("/otp/repeat?purpose=transfer", headers=HTML).text)
    for page in pages:
        seen = re.sub(r"<[^>]*>", "", page)  # the kept form's own fields are attributes, and as they were
        assert "help[.]evil[.]example" in seen
        assert "help.evil" not in seen
        assert "\u202e" not in seen


@pytest.mark.parametrize("headers", [{}, {"Accept": "text/html"}])
@pytest.mark.parametrize(
    "value", ["NaN", "-Infinity", "1e999", '"\\ud800"', '{"\\udfff": 1}', '[{"a": NaN}]', "[" * 400 + "]" * 400]
)
def test_r19_a_value_without_a_canonical_form_is_the_clients_mistake(
    bank: Flask, value: str, headers: dict[str, str]
) -> None:
    with capture_codes(bank) as codes:
        answer = bank.test_client().post(
            "/order", data=f'{{"payee": {value}}}', content_type="application/json", headers=headers
        )
    assert (answer.status_code, list(codes)) == (400, [])


@pytest.mark.parametrize("value", [float("nan"), "\ud800"])
def test_r19_nor_does_the_python_api_take_one(bank: Flask, value: Any) -> None:
    otp = OTP()
    bank.add_url_rule("/send", "send", lambda: str(otp.send("ann@example.com", context=value)))
    bank.add_url_rule("/verify", "verify", lambda: str(otp.verify("123456", challenge="x", context=value)))
    with capture_codes(bank) as codes:
        assert [bank.test_client().get(path).status_code for path in ("/send", "/verify")] == [400, 400]
    assert list(codes) == []
