"""What a call says: the code digit by digit in every language, and only to a person who presses a key."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pytest
from flask import Flask

from flask_otp import OTP, Message
from flask_otp.crypto.codes import encode_strong
from flask_otp.languages import LANGUAGES, tag_of
from flask_otp.spoken import spell
from flask_otp.testing import Clock
from flask_otp.voice import LANGUAGES as VOICES
from flask_otp.voice import twiml, twiml_after_key

ACTION = "https://shop.example/said"
AppFactory = Callable[..., Flask]


def message(code: str = "407113", language: str = "en", **values: Any) -> Message:
    members = {"site_name": "Shop", "expires_in": 300, "language": language} | values
    return Message("voice", "+4915112345678", code, "login", subject="", text="", html="", **members)


def said(document: str) -> list[str]:
    return [say.text or "" for say in ET.fromstring(document).iter("Say")]


def key(document: str, digits: str = "1") -> dict[str, str]:
    """What the provider posts when the person presses a key."""
    gather = ET.fromstring(document).find("Gather")
    assert gather is not None
    query = parse_qs(urlsplit(gather.attrib["action"]).query)
    return {name: values[0] for name, values in query.items()} | {"Digits": digits}


@pytest.mark.parametrize("language", [tag_of(language) for language in LANGUAGES])
def test_each_digit_is_a_word_and_the_code_is_said_twice(language: str) -> None:
    words = spell("0123456789", language).split(", ")
    assert len(set(words)) == 10
    assert not any(re.search("[0-9]", word) for word in words)
    assert (words == spell("0123456789", "en").split(", ")) is (language == "en")
    assert message(language=language).spoken.count(spell("407113", language)) == 2
    assert spell("407113", language).split(", ") == [words[int(digit)] for digit in "407113"]


def test_a_strong_code_is_spelt_with_words_for_its_letters() -> None:
    code = encode_strong(0xA_BCDE_F012_3456_789A)
    assert spell("A1Z", "en") == "A, Alfa, one, Z, Zulu"
    assert spell(code, "de").count(", ") >= len(code)
    for number in range(32):
        assert spell(encode_strong(number), "fr")


def test_it_says_what_is_confirmed_and_by_which_site() -> None:
    spoken = message(context_values={"amount": "20 EUR", "to_account": "Bob"}).spoken
    assert spoken == (
        "This is Shop. Your code is: four, zero, seven, one, one, three. Once more, your code is: "
        "four, zero, seven, one, one, three. You are confirming: Amount: 20 EUR, To account: Bob. "
        "Never pass the code on to anyone. We will never ask you for it."
    )
    assert message(code="").spoken == ""


def test_nobody_hears_the_code_before_a_key_is_pressed(app: Flask, clock: Clock) -> None:
    with app.app_context():
        first = twiml(message(), ACTION)
        response = ET.fromstring(first)
        assert [verb.tag for verb in response] == ["Gather", "Gather", "Hangup"]
        assert set(said(first)) == {"This is Shop. To hear your code, press 1."}
        assert "407113" not in first
        assert said(twiml_after_key(key(first))) == [message().spoken]
        for digits in ("2", "", "11", "#"):
            assert said(twiml_after_key(key(first, digits))) == []
        for values in ({}, {"Digits": "1"}, {"Digits": "1", "otp": ""}, {"Digits": "1", "otp": "x" * 80}):
            assert said(twiml_after_key(values)) == []
        assert said(twiml_after_key(key(first) | {"otp": key(first)["otp"][:-1]})) == []
        clock.advance("5m")
        assert said(twiml_after_key(key(first))) == ["That code is no longer valid. Please ask for a new one."]


def test_another_site_cannot_read_or_make_what_is_said(app: Flask, make_app: AppFactory) -> None:
    with app.app_context():
        first = twiml(message(), ACTION)
    other = make_app(SECRET_KEY="another secret of this length")
    with other.app_context():
        assert said(twiml_after_key(key(first))) == []


@pytest.mark.parametrize("language", [tag_of(language) for language in LANGUAGES])
def test_every_language_has_a_voice_and_is_well_formed_xml(app: Flask, language: str) -> None:
    name = "Bits & <b>Bobs</b>]]> \"A\" 'B'\x0b</Say><Hangup/>"
    with app.app_context():
        first = twiml(message(language=language, site_name=name, context_values={"<a>": "&amp;"}), ACTION)
        after = twiml_after_key(key(first))
    for document in (first, after):
        assert document.startswith("<?xml ")
        for say in ET.fromstring(document).iter("Say"):
            assert say.attrib["language"] == VOICES[language]
            assert name.replace("\x0b", " ") in (say.text or "")


def test_an_app_may_choose_the_voice_and_the_address_may_have_a_query(app: Flask) -> None:
    with app.app_context():
        first = twiml(message(language="de"), f"{ACTION}?site=1&to=2#top", voice="Polly.Vicki", language="de-AT")
        values = key(first)
        after = twiml_after_key(values)
    assert (values["site"], values["to"]) == ("1", "2")
    for document in (first, after):
        say = next(ET.fromstring(document).iter("Say"))
        assert say.attrib == {"language": "de-AT", "voice": "Polly.Vicki"}


@pytest.mark.parametrize("action", ["/said", "http://shop.example/said", "", "ftp://shop.example", "javascript:1"])
def test_the_code_goes_to_no_address_that_others_can_read(app: Flask, action: str) -> None:
    with app.app_context(), pytest.raises(ValueError, match="https"):
        twiml(message(), action)
    with app.app_context(), pytest.raises(ValueError, match="no code"):
        twiml(message(code=""), ACTION)


class _Calls:
    """In place of the packages of Twilio, which ask its servers."""

    def __init__(self, *keys: str) -> None:
        self.calls = self

    def create(self, *, to: str, from_: str, twiml: str) -> None:
        CALLS.append(twiml)

    def validate(self, url: str, form: Mapping[str, str], signature: str) -> bool:
        return signature == "signed"


CALLS: list[str] = []


def test_the_call_of_the_docs_from_send_to_verify(
    make_app: AppFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "channels" / "services.md").read_text("utf-8")
    (source,) = re.findall(r"### Calls.*?```python\n(.*?)```", page, re.DOTALL)
    for name, member in (("rest", "Client"), ("request_validator", "RequestValidator")):
        module = ModuleType(name)
        setattr(module, member, _Calls)
        monkeypatch.setitem(sys.modules, f"twilio.{name}", module)
    monkeypatch.setitem(sys.modules, "twilio", ModuleType("twilio"))
    otp = OTP(clock=clock)
    app = make_app(otp, OTP_SMS_COUNTRIES=("DE",))
    app.config.update(TWILIO_SID="sid", TWILIO_TOKEN="token", TWILIO_NUMBER="+15550100")
    exec(compile(source, "channels.md", "exec"), {"app": app, "otp": otp})
    client = app.test_client()
    body = {"phone": "+4915112345678", "channel": "voice"}
    answer = client.post("/otp/send", json=body, headers={"Accept-Language": "de"})
    handle = answer.get_json()["challenge"]
    assert client.post("/said", data=key(CALLS[-1])).status_code == 403
    answer = client.post("/said", data=key(CALLS[-1]), headers={"X-Twilio-Signature": "signed"})
    assert answer.mimetype == "text/xml"
    words = spell("0123456789", "de").split(", ")
    heard = re.findall("|".join(words), said(answer.text)[0])
    code = "".join(str(words.index(word)) for word in heard)[:6]
    assert client.post("/otp/verify", json={"challenge": handle, "code": code}).status_code == 200
