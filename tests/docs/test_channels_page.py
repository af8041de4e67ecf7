"""``docs/channels/services.md``: the table is complete, each URL writes to one recipient, the example runs."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from apprise.plugins import N_MGR

from flask_otp.channels.apprise import AppriseChannel, writes_to
from flask_otp.channels.email import SERVICES as MAIL_SERVICES
from tests.support.apps import SECRET
from tests.support.providers import ACCOUNT, KEY, SENDER, SERVICES, serving

pytestmark = pytest.mark.server

PAGE = (Path(__file__).parents[2] / "docs" / "channels" / "services.md").read_text("utf-8")
ROWS = {name: way for name, way in re.findall(r"^\| (\w+) \| (.*) \|$", PAGE, re.MULTILINE) if name != "provider"}
#: What the article's library sends SMS by, in its order.
PROVIDERS = [
    *("infobip", "vonage", "twilio", "eskiz", "playmobile", "msg91", "telesign", "smsru", "textlocal", "clicksend"),
    *("sinch", "telnyx", "netgsm", "kavenegar", "unifonic", "alibaba", "firebase", "cheapglobalsms"),
    *("africastalking", "messagebird", "smsapi", "clickatell", "plivo", "vibes", "smsgatewayhub"),
]
#: Its other ways.
OTHERS = ["gmail", "smtp", "sendgrid", "mailgun", "resend", "whatsapp", "telegram"]
#: What stands for the words in capitals, in the form that each provider's keys have.
WORDS = {
    "ACCESS_KEY": KEY[:25],
    "ACCESS_TOKEN": KEY,
    "ACCOUNT": "xyz123",
    "API_KEY": KEY,
    "API_SECRET": KEY[:16],
    "API_TOKEN": KEY,
    "APP_USER": "shop",
    "AUTH_ID": f"MA{KEY[:18].upper()}",
    "AUTH_KEY": KEY,
    "AUTH_TOKEN": f"{KEY}01234567",
    "BOT_TOKEN": f"123456789:{KEY}abc",
    "CUSTOMER_ID": "0A1B2C3D-0123-4567-89AB-0123456789AB",
    "DOMAIN": "example.com",
    "FROM": "codes@example.com",
    "HOST": "signal.example.com",
    "MAILGUN_KEY": f"{KEY}-01234567-01234567",
    "PASSWORD": KEY,
    "PHONE_ID": "106540352242922",
    "PORT": "8080",
    "SENDER": SENDER,
    "SERVICE_PLAN_ID": ACCOUNT[2:],
    "SID": ACCOUNT,
    "TEMPLATE": "0123456789abcdef01234567",
    "TOKEN": KEY,
    "USER": "somebody",
}
URLS = sorted(set(re.findall(r"`([a-z0-9]+://[^`]*[A-Z][^`]*)`", PAGE)))
#: The recipient for each kind of service: one that takes phone numbers, e-mail addresses, or ids of its own.
PEOPLE = {"phone": "+4915112345678", "email": "ann@example.com", None: "987654321"}


def filled(form: str) -> str:
    longest_first = "|".join(sorted(WORDS, key=len, reverse=True))
    return re.sub(longest_first, lambda word: WORDS[word[0]], form)


def test_the_table_names_every_provider_and_one_way_for_each() -> None:
    assert list(ROWS) == PROVIDERS + OTHERS
    for name in PROVIDERS:
        ways = re.match(r"`[a-z0-9]+://[^`]+` \||\[webhook\]\(webhook\.md\)", ROWS[name])
        assert ways, name
    assert len([name for name in PROVIDERS if ROWS[name].startswith("`")]) == 12


@pytest.mark.parametrize("form", [form for form in URLS if form != "slack://xoxb-..."])
def test_each_url_makes_a_channel_that_writes_to_one_recipient(form: str) -> None:
    if "?template=" in form or form == "whatsapp://TEMPLATE:...":
        form = "whatsapp://TEMPLATE:ACCESS_TOKEN@PHONE_ID/?:body=1"
    channel = AppriseChannel("OTP_CHANNELS['sms']", filled(form), 10, "Bob & Sons")
    recipient = PEOPLE[channel.accepts]
    plugin = channel.make(recipient)
    assert plugin is not None
    assert writes_to(plugin, recipient)
    assert not writes_to(plugin, "+4915112345679")


def test_what_apprise_itself_is_said_to_have_it_has() -> None:
    named = set(re.findall(r"`([a-z0-9]+)://", PAGE))
    assert {name for name in named if name not in N_MGR} == set()


def test_the_mail_services_of_the_table_are_known() -> None:
    named = re.findall(r'`OTP_EMAIL_SERVICE = "(\w+)"`', PAGE)
    assert len(named) == 3
    assert set(named) <= MAIL_SERVICES.keys()


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    source, *_ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for name, url in re.findall(r"^export (\w+_URL)='(.*)'$", PAGE, re.MULTILINE):
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("FLASK_TESTING", "true")
    monkeypatch.setenv("FLASK_SECRET_KEY", SECRET)
    names: dict[str, Any] = {"__name__": "app"}
    with (
        serving("twilio", monkeypatch) as (twilio, _),
        serving("vonage", monkeypatch) as (vonage, _),
        serving("tgram", monkeypatch) as (telegram, _),
    ):
        exec(compile(source, "channels.md", "exec"), names)
        client = names["app"].test_client()
        twilio.answer = lambda asked: SERVICES["twilio"].refused
        assert client.post("/otp/send", json={"phone": "+4915112345678"}).status_code == 200
        assert client.post("/otp/send", json={"email": "ann@example.com", "channel": "telegram"}).status_code == 200
        assert client.post("/otp/send", json={"email": "bob@example.com", "channel": "telegram"}).status_code == 200
        wait_for(lambda: vonage.asked and telegram.asked)
        assert vonage.asked[0].form["to"] == "4915112345678"
        assert [asked.json["chat_id"] for asked in telegram.asked] == [987654321]


def wait_for(is_so: Any) -> None:
    """The example's recipient_loader makes deliveries go out in the background."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
