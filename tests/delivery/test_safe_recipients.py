"""``OTP_DELIVER_ONLY_TO``: a test environment sends messages only to the recipients listed there."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, ConfigError, Message
from flask_otp.delivery.worker import NOT_OURS
from flask_otp.doctor import Level, Site, examine
from flask_otp.testing import Clock
from tests.support.apps import AppFactory
from tests.support.listening import listening

SAFE = ("@Example.com", "ann@münchen.example", "+49 151 12345678")


@pytest.mark.parametrize(
    ("recipient", "goes_out"),
    [
        ("bob@example.com", True),
        ("BOB@EXAMPLE.COM", True),
        ("ann@xn--mnchen-3ya.example", True),
        ("bob@münchen.example", False),
        ("bob@sub.example.com", False),
        ("bob@example.com.evil.net", False),
        ("bob@notexample.com", False),
        ("bob@example.comx", False),
        ("bob@exаmple.com", False),  # a Cyrillic letter
        ('"a@example.com"@evil.net', False),
        ("eve@evil.net,bob@example.com", False),
        ("Eve <eve@evil.net> bob@example.com", False),
        ("bob@example.com\nBcc: eve@evil.net", False),
        ("+4915112345678", True),
        ("+491511234567", False),
        ("+49151123456780", False),
        ("+4915112345678" + " " * 60 + ",+4915112340000", False),
        ("@example.com", False),
        ("somebody else", False),
    ],
)
@pytest.mark.parametrize("queued", [False, True])
def test_only_what_is_named_goes_out_and_the_answer_is_the_usual_one(
    make_app: AppFactory, clock: Clock, capsys: pytest.CaptureFixture[str], recipient: str, goes_out: bool, queued: bool
) -> None:
    otp, sent, payloads = OTP(clock=clock), [], []
    otp.channel("post", accepts=None)(lambda message: sent.append(message.recipient))
    otp.recipient_loader(lambda identifier, channel: recipient)
    if queued:
        otp.dispatcher(payloads.append)
    config = {"OTP_SMS_COUNTRIES": ["DE"], "OTP_DELIVERY": "inline"}
    app = make_app(otp, OTP_DELIVER_ONLY_TO=() if queued else SAFE, **config)
    with listening() as events:
        assert app.test_client().post("/otp/send", json={"email": "who@example.net"}).status_code == 200
        if queued:
            # The worker's own setting counts, whatever the process had that queued the message.
            worker = make_app(
                OTP(clock=clock), OTP_DELIVER_ONLY_TO=SAFE, OTP_CHANNELS={"post": otp_channel(sent)}, **config
            )
            worker.extensions["otp"].store = app.extensions["otp"].store
            with worker.app_context():
                worker.extensions["otp"].delivery.worker.deliver(payloads[0])
    assert len(sent) == goes_out
    reasons = [event.reason for event in events if event.kind == "message_withheld"]
    assert len(reasons) == (not goes_out)
    if reasons == ["diverted"]:
        assert "--- to " in capsys.readouterr().err


def otp_channel(sent: list[str]) -> object:
    return lambda message: sent.append(message.recipient)


@pytest.mark.parametrize("by_next_channel", [False, True])
@pytest.mark.parametrize("has_setting", [False, True])
def test_a_worker_without_the_setting_sends_nothing_that_was_queued_with_it(
    make_app: AppFactory, clock: Clock, caplog: pytest.LogCaptureFixture, has_setting: bool, by_next_channel: bool
) -> None:
    sent: list[Message] = []

    def build(**config: Any) -> tuple[OTP, Flask]:
        otp = OTP(clock=clock)
        channels = {"email": sent.append, "sms": sent.append}
        otp.recipient_loader(lambda identifier, channel: identifier if channel == "email" else "+4915112345678")
        return otp, make_app(otp, OTP_CHANNELS=channels, OTP_SMS_COUNTRIES=("DE",), OTP_DELIVERY="inline", **config)

    queued: list[dict[str, str]] = []
    site, app = build(OTP_DELIVER_ONLY_TO=SAFE, OTP_NEXT_CHANNEL_AFTER=45)
    site.dispatcher(lambda payload, delay=0: queued.append(payload))
    with app.app_context():
        site.send("bob@example.com")
    clock.advance(45)
    otp, worker = build(OTP_DELIVER_ONLY_TO=SAFE if has_setting else None)
    worker.extensions["otp"].store = app.extensions["otp"].store
    with worker.app_context():
        otp.deliver(queued[by_next_channel])
    assert len(sent) == has_setting
    assert caplog.messages == ([] if has_setting else [f"a delivery was dropped: {NOT_OURS}"])


@pytest.mark.parametrize("value", ["@example.com", ["example.com"], ["@"], ["a@b@c"], [5], [""], {"a": 1}, ["ann@"]])
def test_what_is_no_address_stops_the_app(make_app: AppFactory, value: object) -> None:
    with pytest.raises(ConfigError, match="OTP_DELIVER_ONLY_TO must be a list"):
        make_app(OTP_DELIVER_ONLY_TO=value)


@pytest.mark.parametrize(
    ("base_url", "level"), [("https://shop.example", Level.ERROR), ("http://localhost:5000", Level.NOTE)]
)
def test_doctor_calls_it_an_error_where_the_site_looks_real(
    make_app: AppFactory, base_url: str | None, level: Level
) -> None:
    app = make_app(OTP_DELIVER_ONLY_TO=SAFE, OTP_BASE_URL=base_url)
    with app.app_context():
        findings = examine(Site(app, app.extensions["otp"], {}, 1000))
    assert [finding.level for finding in findings if finding.check == "deliver_only_to"] == [level]
