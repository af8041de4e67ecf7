"""Phone numbers: which are taken, which country they belong to, and that nothing goes to any other."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from werkzeug.test import TestResponse

from flask_otp import OTP, identifiers
from flask_otp.errors import InvalidIdentifier
from flask_otp.testing import Outbox
from tests.support.answers import like_any
from tests.support.apps import AppFactory

GERMAN = "+4915112345678"
FRENCH = "+33612345678"


# What is a number


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        (" +49 151 12345678\t", GERMAN),
        ("+49 (0) 151/1234-5678", GERMAN),
        ("＋４９ １５１ １２３４５６７８", GERMAN),
        ("⁺⁴⁹15112345678", GERMAN),
        ("+٤٩١٥١١٢٣٤٥٦٧٨", GERMAN),
        ("+۴۹۱۵۱۱۲۳۴۵۶۷۸", GERMAN),
        ("+४९१५११२३४५६७८", GERMAN),
        ("+491511234567٨", GERMAN),
        ("004915112345678", GERMAN),
        ("00 49 151 12345678", GERMAN),
        ("００４９１５１１２３４５６７８", GERMAN),
        ("\u202a+49\u00a01511 2345678\u202c", GERMAN),
        ("+49\u20111511\u22122345\u2013678", GERMAN),
        ("+49 1511ー2345678", GERMAN),
        ("+49\u200b15112345678", GERMAN),
        ("+39 06 6988 3145", "+390669883145"),
        ("+1 800 555 1234", "+18005551234"),
    ],
    ids=ascii,
)
def test_r20_spellings_of_a_number_are_one(typed: str, canonical: str) -> None:
    parsed = identifiers.parse(typed)
    assert (parsed.kind, parsed.value) == ("phone", canonical)
    assert identifiers.parse(parsed.value) == parsed


NO_NUMBERS = {
    "a line break at the end": f"{GERMAN}\n",
    "a line break before": f"\n{GERMAN}",
    "a carriage return": f"{GERMAN}\r\n",
    "a nul": f"{GERMAN}\0",
    "a letter at the end": f"{GERMAN}a",
    "letters for digits": "+1 800 FLOWERS",
    "an extension": f"{GERMAN} ext. 5",
    "an extension by x": f"{GERMAN}x5",
    "an extension by a comma": f"{GERMAN},5",
    "an extension by a hash": f"{GERMAN}#5",
    "an extension of RFC 3966": f"{GERMAN};ext=5",
    "a context of RFC 3966": "tel:15112345678;phone-context=+49",
    "two numbers": f"{GERMAN},{FRENCH}",
    "two numbers by a slash": f"{GERMAN}/{FRENCH}",
    "no country code": "015112345678",
    "a plus within": "4915112345678+",
    "two pluses": f"+{GERMAN}",
    "too short": "+49151",
    "too long": "+49151123456789012345",
    "an unassigned country code": "+999123456789",
    "an unassigned range": "+447700900123",
    "a number": 4915112345678,
    "a list": [GERMAN],
}
DEAR_NUMBERS = {
    "premium of North America": "+1 900 555 1234",
    "premium of France": "+33 899 12 34 56",
    "premium of Germany": "+49 900 1234567",
    "premium of the world": "+979 123 456 789",
    "shared cost of France": "+33 810 12 34 56",
    "shared cost of Germany": "+49 180 1 123456",
    "personal of the United Kingdom": "+44 70 1234 5678",
    "personal of North America": "+1 500 555 1234",
    "personal of Spain": "+34 701 23 45 67",
    "a pager of the United Kingdom": "+44 76 4012 3456",
    "a voicemail box of Germany": "+49 177 99 1234567",
}


@pytest.mark.parametrize("typed", [*NO_NUMBERS.values(), *DEAR_NUMBERS.values()], ids=[*NO_NUMBERS, *DEAR_NUMBERS])
def test_r16_r31_what_is_no_number_or_a_dear_one_is_refused(typed: Any) -> None:
    with pytest.raises(InvalidIdentifier, match="phone number"):
        identifiers.parse(typed)


# Which country it belongs to


@pytest.mark.parametrize(
    ("phone", "region"),
    [
        ("+12025550142", "US"),
        ("+14165550142", "CA"),
        ("+18765550142", "JM"),
        ("+17875550142", "PR"),
        ("+16715550142", "GU"),
        ("+79161234567", "RU"),
        ("+77011234567", "KZ"),
        ("+77172123456", "KZ"),
        ("+447400123456", "GB"),
        ("+447781123456", "GG"),
        ("+441481960123", "GG"),
        ("+447797712345", "JE"),
        ("+447624123456", "IM"),
        ("+393123456789", "IT"),
        ("+390612345678", "IT"),
        ("+390669812345", "VA"),
        ("+262692123456", "RE"),
        ("+262639012345", "YT"),
        ("+8816123456789", None),
        ("+88216123456789", None),
        ("+8823421234", None),
        ("+883510012345678", None),
        ("+870773111632", None),
        ("+878101234567890", None),
        ("+80012345678", None),
    ],
)
def test_r16_a_number_belongs_to_its_real_country_or_to_none(phone: str, region: str | None) -> None:
    assert identifiers.parse(phone).value == phone
    assert identifiers.region(phone) == region
    everywhere = {"US", "CA", "JM", "PR", "GU", "RU", "KZ", "GB", "GG", "JE", "IM", "IT", "VA", "RE", "YT", "ZZ", "001"}
    assert identifiers.phone_in(phone, everywhere) == (phone if region else None)
    assert identifiers.phone_in(phone, everywhere - {region}) is None


def test_an_address_that_begins_with_a_plus_is_an_address() -> None:
    assert [identifiers.kind(text) for text in ("+ann@example.com", GERMAN, "＋49", "@ann", "12345")] == [
        "email",
        "phone",
        "phone",
        "other",
        "other",
    ]


# Nothing goes to any other


def post(app: Any, phone: str, path: str = "send", **body: str) -> TestResponse:
    answer: TestResponse = app.test_client().post(f"/otp/{path}", json={"phone": phone, **body})
    return answer


@pytest.fixture
def sent() -> Outbox:
    return Outbox()


@pytest.fixture
def otp(clock: Any, sent: Outbox) -> OTP:
    otp = OTP(clock=clock)
    otp.channel("sms")(sent.append)
    return otp


@pytest.mark.parametrize("phone", ["+8613812345678", "+5511912345678", "+8821612345678"])
def test_r16_a_number_of_another_country_is_answered_as_any_other_and_gets_nothing(
    make_app: AppFactory, otp: OTP, sent: Outbox, phone: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(otp, OTP_SMS_COUNTRIES=["DE"])
    answers = [post(app, number) for number in (GERMAN, phone)]
    assert [message.recipient for message in sent] == [GERMAN]
    assert like_any(answers[0]) == like_any(answers[1])
    assert "OTP_SMS_COUNTRIES" in caplog.text
    assert phone not in caplog.text


def test_r16_without_countries_nothing_goes_to_any_phone(make_app: AppFactory, otp: OTP, sent: Outbox) -> None:
    app = make_app(otp)
    assert post(app, GERMAN).status_code == 200
    assert sent == []


def test_r16_no_code_verifies_that_was_never_sent(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp, OTP_SMS_COUNTRIES=["DE"])
    challenge = post(app, FRENCH).json["challenge"]
    code = app.extensions["otp"].tokens.load_handle(challenge).code
    assert app.test_client().post("/otp/verify", json={"code": code, "challenge": challenge}).status_code == 400


LOADED = {
    "as it should be": (GERMAN, GERMAN),
    "as people type it": (" +49 (0) 151/1234 5678 ", GERMAN),
    "full width": ("＋４９15112345678", GERMAN),
    "another country": (FRENCH, None),
    "premium": ("+49 900 1234567", None),
    "personal": ("+44 70 1234 5678", None),
    "an extension": (f"{GERMAN} ext. 5", None),
    "two numbers": (f"{GERMAN}, {FRENCH}", None),
    "no country code": ("0151 12345678", None),
    "a line break within": (f"{GERMAN}\n{FRENCH}", None),
    "a satellite": ("+8816123456789", None),
    "not a number": ("see notes", None),
}


@pytest.mark.parametrize(("loaded", "reached"), LOADED.values(), ids=LOADED)
def test_r16_what_a_recipient_loader_gives_is_under_the_same_rules(
    make_app: AppFactory, otp: OTP, sent: Outbox, loaded: str, reached: str | None
) -> None:
    otp.recipient_loader(lambda identifier, channel: loaded)
    app = make_app(otp, OTP_SMS_COUNTRIES=["DE", "GB"], OTP_DELIVERY="inline")
    assert app.test_client().post("/otp/send", json={"email": "ann@example.com"}).status_code == 200
    assert [message.recipient for message in sent] == ([reached] if reached else [])


@pytest.mark.parametrize(
    ("loaded", "reached"),
    [(" +49 151 12345678", GERMAN), (" ＋33612345678", None), ("12345", "12345"), ("+a@example.com", "+a@example.com")],
)
def test_r16_so_is_a_number_for_a_channel_that_takes_anything(
    make_app: AppFactory, clock: Any, sent: Outbox, loaded: str, reached: str | None
) -> None:
    otp = OTP(clock=clock)
    otp.channel("chat")(sent.append)
    otp.recipient_loader(lambda identifier, channel: loaded)
    app = make_app(otp, OTP_SMS_COUNTRIES=["DE"], OTP_DELIVERY="inline")
    assert app.test_client().post("/otp/send", json={"email": "ann@example.com"}).status_code == 200
    assert [message.recipient for message in sent] == ([reached] if reached else [])


def test_r21_a_handle_does_not_tell_who_has_a_phone(make_app: AppFactory, otp: OTP) -> None:
    """Nor at those lengths of an identifier where a handle is just about to be longer."""
    phones = {"a": GERMAN, "b": "+35722345678", "c": None}
    otp.recipient_loader(lambda identifier, channel: phones[identifier[0]])
    app = make_app(otp, OTP_SMS_COUNTRIES=["DE", "CY"], OTP_DELIVERY="inline", OTP_IP_SEND_LIMIT=None)
    for length in range(1, 33):
        emails = [first * length + "@example.com" for first in phones]
        answers = [app.test_client().post("/otp/send", json={"email": email}) for email in emails]
        assert len({len(answer.json["challenge"]) for answer in answers}) == 1


def test_no_phone_is_logged(make_app: AppFactory, otp: OTP, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = make_app(otp, OTP_SMS_COUNTRIES=["DE"])
    for phone in (GERMAN, FRENCH, "+49 900 1234567", f"{GERMAN}x5"):
        post(app, phone)
    assert not any(digits in caplog.text for digits in ("15112345678", "612345678", "1234567"))
