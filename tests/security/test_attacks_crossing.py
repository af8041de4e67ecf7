"""What was made for one purpose, app, person or place, tried at another; and what hostile hosts and pages can reach."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask

from flask_otp import OTP, ConfigError, otp_required
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory
from tests.support.attack_site import OWNER, Caller, Stage, refused

MALLORY = "mallory@example.com"
LINKS = {"OTP_LINKS": True, "OTP_BASE_URL": "https://shop.example"}


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


def guarded(app: Flask) -> Flask:
    app.add_url_rule("/account", "account", otp_required(lambda: "secret"))
    return app


# Crossing


def test_r12_an_app_beside_ours_with_the_same_key_and_store_is_another(stage: Stage) -> None:
    ours, theirs = guarded(stage.app()), guarded(stage.app(OTP_KEY_PREFIX="blog"))
    here, there = Caller(ours, browser=True), Caller(theirs, browser=True)
    here.send()
    code = stage.sent.code
    there.handle = here.handle
    assert refused(there.verify(code))
    there.send()
    assert refused(there.verify(code))
    proof = there.verify(stage.sent.code).get_json()["proof"]
    bearer = {"Authorization": f"Bearer {proof}"}
    assert theirs.test_client().get("/account", headers=bearer).text == "secret"
    assert ours.test_client().get("/account", headers=bearer).status_code == 401
    there.client.post("/otp/logout", json={})
    assert here.verify(code).status_code == 200


def test_r12_a_code_is_no_link_and_a_link_is_no_code(make_app: AppFactory) -> None:
    app = make_app(**LINKS)
    with capture_codes(app) as sent:
        caller = Caller(app, browser=True)
        caller.send()
        secret = sent.link.rpartition("/")[2]
        assert refused(caller.post("verify", code=secret))
        assert refused(caller.post("verify", link=sent.code))
        assert caller.post("verify", code=sent.code, link=secret).status_code == 400
        assert caller.post("verify", link=secret).status_code == 200
        assert refused(caller.post("verify", code=sent.code))


def test_a_stolen_cookie_of_a_known_browser_is_neither_a_proof_nor_a_code(make_app: AppFactory) -> None:
    app = guarded(make_app())
    with capture_codes(app) as sent:
        owner, thief = Caller(app, browser=True), Caller(app, browser=True)
        owner.send()
        owner.verify(sent.code)
        stolen = owner.client.get_cookie("otp_known")
        assert stolen is not None
        thief.client.set_cookie("otp_known", stolen.value)
        assert thief.client.get("/account").status_code == 401
        bearer = {"Authorization": f"Bearer {stolen.value}"}
        assert thief.client.get("/account", headers=bearer).status_code == 401
        assert refused(thief.post("verify", code=sent.code, challenge=stolen.value))


def test_r17_a_reader_of_the_queue_gets_no_code_no_address_and_no_guess(make_app: AppFactory, otp: OTP) -> None:
    queue: list[dict[str, Any]] = []
    otp.dispatcher(queue.append)
    app = make_app(otp)
    Caller(app).send()
    inside = queue[0]["delivery"]
    readable = inside.encode() + base64.urlsafe_b64decode(inside + "=" * (-len(inside) % 4))
    tokens = app.extensions["otp"].tokens
    handle = tokens.load_delivery(inside)[0]
    code = tokens.load_handle(handle).code
    for secret in (code, OWNER, handle[:20]):
        assert secret.encode() not in readable
    mallory = Caller(app)
    mallory.handle = inside
    assert refused(mallory.verify(code))


def test_r17_a_queued_message_cannot_be_sent_to_another_person(make_app: AppFactory, otp: OTP) -> None:
    queue: list[dict[str, Any]] = []
    otp.dispatcher(queue.append)
    app = make_app(otp)
    for who in (OWNER, MALLORY):
        Caller(app).send(who)
    owners, mallorys = (entry["delivery"] for entry in queue)
    with capture_codes(app) as sent, app.app_context():
        spliced = {owners[:cut] + mallorys[cut:] for cut in range(2, len(owners), 7)}
        for delivery in spliced - {mallorys}:  # both may begin with the same characters
            otp.deliver({"delivery": delivery})
        assert sent == []
        otp.deliver(queue[0])
        assert [message.recipient for message in sent] == [OWNER]


# Hostile pages


def test_r29_a_hostile_page_signs_nobody_in_as_somebody_else(make_app: AppFactory) -> None:
    """With a code of one's own: what the person then does is done in the attacker's account."""
    app = guarded(make_app(**LINKS))
    with capture_codes(app) as sent:
        mallory, victim = Caller(app), Caller(app, browser=True)
        victim.send()
        mallory.send(MALLORY)
        body = {"code": sent.code, "challenge": mallory.handle}
        for origin in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}):
            assert victim.client.post("/otp/verify", data=body, headers=origin).status_code == 403
        page = victim.client.get(
            urlsplit(sent.link).path, headers={"Sec-Fetch-Site": "cross-site", "Accept": "text/html"}
        )
        assert "<form" not in page.text
        assert victim.client.get("/account").status_code == 401


def test_r29_no_answer_may_be_read_by_another_origin(make_app: AppFactory) -> None:
    app = guarded(make_app())
    foreign = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    with capture_codes(app) as sent:
        for method in ("OPTIONS", "GET", "POST"):
            for path in ("/otp/", "/otp/send", "/otp/verify", "/otp/resend", "/otp/logout", "/account"):
                answer = app.test_client().open(path, method=method, headers=foreign)
                assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
        assert sent == []


def test_r32_a_name_that_is_rebound_to_our_address_brings_no_cookie_and_no_message(make_app: AppFactory) -> None:
    """To the browser, the hostile page is then of the same origin as we are, but it is not our name."""
    app = guarded(make_app(TRUSTED_HOSTS=["localhost"]))
    rebound = {"base_url": "http://evil.example", "headers": {"Sec-Fetch-Site": "same-origin"}}
    with capture_codes(app) as sent:
        victim = Caller(app, browser=True)
        victim.send()
        victim.verify(sent.code)
        assert victim.client.get("/account").text == "secret"
        assert victim.client.get("/account", **rebound).status_code == 400
        assert victim.client.post("/otp/send", json={"email": OWNER}, **rebound).status_code == 400
        assert len(sent) == 1
    app.config["TRUSTED_HOSTS"] = None
    assert victim.client.get("/account", **rebound).status_code == 401


# Numbers that cost money, addresses that cost time, settings that cost safety


@pytest.mark.parametrize(
    ("number", "status"),
    [
        ("+447911123456", 200),
        ("+12025550142", 200),
        ("+8816112345678", 200),
        ("+499001234567", 400),
        ("+4918012345", 400),
        ("+88213123456", 400),
        ("+4915112345642;ext=9", 400),
    ],
)
def test_r16_no_message_goes_where_it_earns_somebody_money(make_app: AppFactory, number: str, status: int) -> None:
    sent = Outbox()
    app = make_app(OTP_CHANNELS={"sms": sent.append}, OTP_SMS_COUNTRIES=["DE"])
    caller = Caller(app)
    answer = caller.send(number)
    assert answer.status_code == status
    assert sent == []
    if answer.status_code == 200:
        listed = Caller(app)
        assert listed.send("+4915112345642").get_json().keys() == answer.get_json().keys()
        right = app.extensions["otp"].tokens.load_handle(caller.handle).code
        assert refused(caller.verify(right))
        assert [message.recipient for message in sent] == ["+4915112345642"]


@pytest.mark.parametrize(
    "who",
    [
        "a" * 1000 + "@",
        "a@" + "a." * 500,
        "a@" + "-" * 1000,
        "." * 500 + "@" + "." * 500,
        "a@xn--" + "a" * 60 + ".com",
        "+" + "1 " * 500,
        "+1" + "(" * 1000,
        "+1" + "x1" * 500,
        "é" * 500 + "@" + "é" * 500,
        "\u0345" * 900 + "@example.com",
        " " * 1000,
        "@" * 1000,
    ],
    ids=ascii,
)
def test_no_address_takes_long_to_refuse(app: Flask, outbox: Outbox, who: str) -> None:
    caller = Caller(app)
    caller.send("a@")  # what is made at the first request
    begun = time.thread_time()
    assert caller.send(who).status_code in (400, 413)
    assert time.thread_time() - begun < 0.5
    assert outbox == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OTP_ALPHABET", "01"),
        ("OTP_CODE_LENGTH", 5),
        ("OTP_EXPIRES_IN", "24h"),
        ("OTP_MAX_ATTEMPTS", 11),
        ("OTP_VERIFIED_FOR", "25h"),
        ("OTP_PURPOSES", {"login": {"code_length": 4}}),
        ("OTP_PURPOSES", {"login": {}, "recovery": {"expires_in": "24h"}}),
        ("OTP_FAILURE_BUDGET", None),
        ("OTP_SURGE_LIMIT", None),
        ("OTP_SEND_LIMIT", None),
    ],
)
def test_r02_r04_no_setting_makes_codes_weaker_than_the_standards_allow(
    make_app: AppFactory, key: str, value: object
) -> None:
    with pytest.raises(ConfigError, match=key):
        make_app(**{key: value})
