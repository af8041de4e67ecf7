"""Test recipients: a fixed code until a certain day, no message, and the same limits as every recipient."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import OTP, ConfigError, InvalidCode, InvalidIdentifier, RateLimited, otp_required, signals
from flask_otp.testing import Clock, capture_codes, set_clock
from tests.support.leaks import layers

MakeApp = Callable[..., Flask]
PHONE, MAIL, CODE = "+15550100", "review@example.com", "000000"
NOW = datetime(2027, 1, 30, 12, tzinfo=timezone.utc).timestamp()
LAST_DAY = "2027-01-31"
TESTERS = {PHONE: (CODE, LAST_DAY), MAIL: (CODE, LAST_DAY)}
NO_LIMITS = {"OTP_IP_SEND_LIMIT": None, "OTP_IP_VERIFY_LIMIT": None}


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


@pytest.fixture
def sent(otp: OTP) -> list[str]:
    """Where messages went: to the recipients, by channel ``sms`` or ``email``."""
    recipients: list[str] = []
    for name in ("email", "sms"):
        otp.channel(name)(lambda message: recipients.append(message.recipient))
    return recipients


@pytest.fixture
def site(make_app: MakeApp, otp: OTP, sent: list[str]) -> Callable[..., Flask]:
    return lambda **config: make_app(otp, **{"OTP_TEST_RECIPIENTS": TESTERS, **NO_LIMITS, **config})


def verify(client: FlaskClient, code: str) -> TestResponse:
    return client.post("/otp/verify", json={"code": code})


@pytest.mark.parametrize("identifier", [PHONE, "+1 555-0100", "\uff0b1 (555) 0100", MAIL, "Review@Example.com"])
def test_a_test_recipient_gets_in_with_the_fixed_code_and_nothing_is_sent(
    site: Callable[..., Flask], sent: list[str], identifier: str
) -> None:
    client = site().test_client()
    answer = client.post("/otp/send", json={"identifier": identifier})
    assert (answer.status_code, answer.json["code_length"]) == (200, 6)
    assert client.post("/otp/resend", json={}).status_code == 429
    answer = verify(client, CODE)
    assert (answer.status_code, answer.json["identifier"]) == (200, PHONE if "1" in identifier else MAIL)
    assert sent == []


def test_the_code_that_a_stranger_would_get_is_not_theirs(site: Callable[..., Flask], otp: OTP) -> None:
    app = site()
    with app.app_context():
        challenge = otp.send(MAIL)
        handle = app.extensions["otp"].tokens.load_handle(challenge.handle)
        with pytest.raises(InvalidCode):
            otp.verify(handle.code, challenge=challenge.handle)
        with pytest.raises(InvalidCode):
            otp.verify(CODE, challenge=otp.send("ann@example.com").handle)
        assert otp.verify(CODE, challenge=challenge.handle, identifier=MAIL).identifier == MAIL


def test_who_a_loader_leads_to_a_test_recipient_is_one(
    site: Callable[..., Flask], otp: OTP, sent: list[str], clock: Clock
) -> None:
    otp.recipient_loader(lambda identifier, channel: PHONE if identifier == "ann@example.com" else None)
    app = site(OTP_DELIVERY="inline")
    client, nobody = app.test_client(), app.test_client()
    for who, email in ((client, "ann@example.com"), (nobody, MAIL)):
        assert who.post("/otp/send", json={"email": email, "channel": "sms"}).status_code == 200
        clock.advance("31s")
        assert who.post("/otp/resend", json={}).status_code == 200
    assert verify(client, CODE).status_code == 200
    # The app has no such account, and an address in the list alone is not enough.
    assert verify(nobody, CODE).status_code == 400
    assert sent == []


def test_who_comes_to_be_a_test_recipient_gets_no_more_messages(
    site: Callable[..., Flask], otp: OTP, sent: list[str], clock: Clock
) -> None:
    where = ["ann@example.com"]
    otp.recipient_loader(lambda identifier, channel: where[-1])
    client = site(OTP_DELIVERY="inline").test_client()
    client.post("/otp/send", json={"email": "ann@example.com"})
    where.append(MAIL)
    clock.advance("31s")
    assert client.post("/otp/resend", json={}).status_code == 200
    assert sent == ["ann@example.com"]


LENGTHS = {"login": {}, "transfer": {"code_length": 8}}


@pytest.mark.parametrize(
    ("code", "config"),
    [("12345678", {}), (CODE, {"OTP_PURPOSES": LENGTHS}), (("12345678",), {}), (CODE, {"OTP_CODE_LENGTH": 7})],
)
def test_r21_a_fixed_code_of_another_length_would_tell_who_is_one_and_is_refused(
    site: Callable[..., Flask], code: object, config: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"OTP_TEST_RECIPIENTS has no fixed code of \d digits") as caught:
        site(OTP_TEST_RECIPIENTS={MAIL: (code, LAST_DAY)}, **config)
    assert MAIL not in str(caught.value)


def test_purposes_of_two_lengths_have_a_fixed_code_each(site: Callable[..., Flask]) -> None:
    app = site(OTP_TEST_RECIPIENTS={MAIL: ((CODE, "12345678"), LAST_DAY)}, OTP_PURPOSES=LENGTHS)
    for purpose, right, wrong in (("login", CODE, "12345678"), ("transfer", "12345678", CODE)):
        client = app.test_client()
        answer = client.post("/otp/send", json={"email": MAIL, "purpose": purpose})
        assert answer.json["code_length"] == len(right)
        assert client.post("/otp/verify", json={"code": wrong, "purpose": purpose}).status_code == 400
        assert client.post("/otp/verify", json={"code": right, "purpose": purpose}).status_code == 200


@pytest.mark.parametrize("identifier", [PHONE, MAIL])
def test_r25_what_a_fixed_code_gave_ends_with_its_last_day(
    site: Callable[..., Flask], clock: Clock, identifier: str
) -> None:
    app = site()
    app.add_url_rule("/inside", "inside", otp_required(lambda: "inside"))
    clock.advance("35h")  # an hour before the end of the last day
    client = app.test_client()
    client.post("/otp/send", json={"identifier": identifier})
    assert verify(client, CODE).json["proof_expires_in"] == 3600
    clock.advance("59m")
    assert client.get("/inside").status_code == 200
    clock.advance("1m")
    assert client.get("/inside").status_code == 401


@pytest.mark.parametrize("spelling", [PHONE, "+1 (555) 0100", "001 555 0100"])
@pytest.mark.parametrize("gone", [False, True])
def test_r25_a_made_up_number_can_be_revoked_after_its_day_and_once_it_is_no_test_recipient(
    make_app: MakeApp, clock: Clock, tmp_path: Path, spelling: str, gone: bool
) -> None:
    """Another process may have it in its settings still, or have been started with a longer day."""
    uri = f"sqlite:///{tmp_path / 'otp.db'}"

    def process(**config: Any) -> tuple[OTP, Flask]:
        otp = OTP(clock=clock)
        otp.channel("sms")(lambda message: None)
        app = make_app(otp, OTP_STORAGE_URI=uri, **config)
        app.extensions["otp"].store.prepare()
        return otp, app

    _, app = process(OTP_TEST_RECIPIENTS={PHONE: (CODE, "2027-12-31")})
    app.add_url_rule("/inside", "inside", otp_required(lambda: "inside"))
    client = app.test_client()
    client.post("/otp/send", json={"phone": PHONE})
    assert verify(client, CODE).status_code == 200
    otp, other = process(**({} if gone else {"OTP_TEST_RECIPIENTS": {PHONE: (CODE, "2027-01-01")}}))
    with other.app_context():
        with pytest.raises(InvalidIdentifier):
            otp.send(spelling)
        otp.revoke(spelling)
    assert client.get("/inside").status_code == 401
    for each in (app, other):
        each.extensions["otp"].store.close()


def test_r27_a_signed_in_test_recipient_after_the_day_is_a_user_like_any_other(
    site: Callable[..., Flask], otp: OTP, clock: Clock
) -> None:
    otp.identifier_loader(lambda: PHONE)
    app = site()
    app.add_url_rule("/inside", "inside", otp_required(lambda: "inside"))
    clock.advance("10d")
    client = app.test_client()
    assert client.get("/inside").status_code == 401
    assert client.post("/otp/send", json={}).status_code == 400


def test_nothing_is_sent_by_a_queue_or_in_the_background_either_or_signalled(
    site: Callable[..., Flask], otp: OTP, sent: list[str]
) -> None:
    payloads: list[dict[str, str]] = []
    otp.dispatcher(payloads.append)
    app = site()
    told: list[Any] = []
    receive = lambda sender, **arguments: told.append(arguments)  # noqa: E731
    signals.code_sent.connect(receive)
    with app.app_context():
        challenge = otp.send(MAIL)
        otp.deliver(payloads[0])
        assert otp.verify(CODE, challenge=challenge.handle)
    assert (len(payloads), sent, told) == (1, [], [])


def test_no_handle_cookie_or_payload_tells_the_code_or_who_is_a_test_recipient(
    site: Callable[..., Flask], otp: OTP
) -> None:
    payloads: list[dict[str, str]] = []
    otp.dispatcher(payloads.append)
    code = "918273"
    client = site(OTP_TEST_RECIPIENTS={"ann@example.com": (code, LAST_DAY)}).test_client()
    handles = [client.post("/otp/send", json={"email": f"{who}@example.com"}) for who in ("ann", "bob")]
    assert code.encode() not in b"".join(layers(json.dumps(payloads) + str(handles[0].headers) + handles[0].text))
    assert len(handles[0].json["challenge"]) == len(handles[1].json["challenge"])
    assert len(str(payloads[0])) == len(str(payloads[1]))


# Inside every limit


def test_r01_attempts_are_counted(site: Callable[..., Flask]) -> None:
    client = site().test_client()
    client.post("/otp/send", json={"email": MAIL})
    for _ in range(5):
        assert verify(client, "111111").status_code == 400
    assert verify(client, CODE).status_code == 400


def test_r08_a_spent_budget_ends_the_fixed_code_as_it_does_any_short_one(
    site: Callable[..., Flask], clock: Clock
) -> None:
    app = site(OTP_FAILURE_BUDGET="3/30 days")
    owner, thief = app.test_client(), app.test_client()
    owner.post("/otp/send", json={"email": MAIL})
    clock.advance("31s")
    thief.post("/otp/send", json={"email": MAIL})
    for _ in range(3):
        verify(thief, "111111")
    assert verify(owner, CODE).status_code == 400
    clock.advance("31s")
    answer = thief.post("/otp/send", json={"email": MAIL})
    assert (answer.status_code, answer.json["code_length"]) == (200, 13)
    assert verify(thief, CODE).status_code == 400


def test_sends_are_counted_on_bucket_subject_and_channel(site: Callable[..., Flask], otp: OTP, clock: Clock) -> None:
    app = site(OTP_SEND_LIMIT="2/hour", OTP_CHANNEL_BUDGET={"email": "3/day"})
    with app.app_context():
        for _ in range(2):
            otp.send(MAIL)
            clock.advance("31s")
        with pytest.raises(RateLimited):
            otp.send(MAIL)
        otp.send("ann@example.com")
        with pytest.raises(RateLimited):
            otp.send("bob@example.com")


def test_r03_fifty_at_once_pass_once(site: Callable[..., Flask], otp: OTP) -> None:
    app, start, passed = site(), threading.Barrier(50), []
    with app.app_context():
        handle = otp.send(MAIL).handle

    def enter() -> None:
        with app.app_context():
            start.wait()
            with contextlib.suppress(InvalidCode):
                passed.append(otp.verify(CODE, challenge=handle))

    threads = [threading.Thread(target=enter) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 1


# Past the date


def test_past_the_date_they_are_ordinary(site: Callable[..., Flask], otp: OTP, sent: list[str], clock: Clock) -> None:
    app = site()
    clock.now = datetime(2027, 1, 31, 23, 59, 59, tzinfo=timezone.utc).timestamp()
    with app.app_context():
        early = otp.send(MAIL).handle
        clock.advance("1s")
        with pytest.raises(InvalidCode):
            otp.verify(CODE, challenge=early)
        with pytest.raises(InvalidIdentifier):
            otp.send(PHONE)
        clock.advance("10m")
        with capture_codes(app) as outbox:
            late = otp.send(MAIL).handle
        with pytest.raises(InvalidCode):
            otp.verify(CODE, challenge=late)
        assert otp.verify(outbox.code_for(MAIL), challenge=late)


def test_a_challenge_opened_before_the_end_is_not_sent_after_it(
    site: Callable[..., Flask], otp: OTP, sent: list[str], clock: Clock
) -> None:
    app = site()
    clock.now = datetime(2027, 1, 31, 23, 59, 59, tzinfo=timezone.utc).timestamp()
    with app.app_context():
        handle = otp.send(MAIL).handle
        clock.advance("31s")
        otp.resend(handle)
    assert sent == []


def test_a_clock_that_is_set_ends_them_too(site: Callable[..., Flask], otp: OTP) -> None:
    app = site()
    set_clock(app, Clock(NOW + 2 * 86400))
    with app.app_context(), pytest.raises(InvalidIdentifier):
        otp.send(PHONE)


def test_guards_and_revocation_know_the_made_up_number(site: Callable[..., Flask], otp: OTP) -> None:
    app = site()
    with app.app_context():
        handle = otp.send(PHONE).handle
        otp.revoke("+1 555 0100")
        with pytest.raises(InvalidCode):
            otp.verify(CODE, challenge=handle)


def test_where_only_mail_is_taken_a_number_in_the_list_is_none(make_app: MakeApp, otp: OTP) -> None:
    otp.channel("email")(print)
    app = make_app(otp, OTP_TEST_RECIPIENTS=TESTERS)
    answer = app.test_client().post("/otp/send", json={"identifier": PHONE})
    assert (answer.status_code, answer.json["reason"]) == (400, "invalid_identifier")


# The key


@pytest.mark.parametrize(
    "value",
    [
        [PHONE],
        {PHONE: CODE},
        {PHONE: (CODE,)},
        {PHONE: (CODE, None)},
        {PHONE: (CODE, "31.1.2027")},
        {PHONE: (CODE, "2027-02-30")},
        {PHONE: (CODE, datetime(2027, 1, 31))},
        {PHONE: (0, LAST_DAY)},
        {PHONE: ("12345", LAST_DAY)},
        {PHONE: ("\u0661\u0661\u0661\u0661\u0661\u0661", LAST_DAY)},
        {"reviewer": (CODE, LAST_DAY)},
        {"a@b": (CODE, LAST_DAY)},
        {7: (CODE, LAST_DAY)},
    ],
    ids=str,
)
def test_a_wrong_value_stops_the_app_and_is_not_quoted(make_app: MakeApp, value: Any) -> None:
    with pytest.raises(ConfigError, match="OTP_TEST_RECIPIENTS must be") as caught:
        make_app(OTP(), OTP_TEST_RECIPIENTS=value)
    assert ", not " not in str(caught.value)


@pytest.mark.parametrize("day", [date(2027, 1, 31), date.max, "9999-12-31"], ids=str)
def test_a_date_may_be_one_and_the_last_there_is(make_app: MakeApp, otp: OTP, day: date | str) -> None:
    otp.channel("sms")(print)
    app = make_app(otp, OTP_TEST_RECIPIENTS={PHONE: (CODE, day)})
    with app.app_context():
        assert otp.verify(CODE, challenge=otp.send(PHONE).handle).channel == "sms"
