"""Channels by Apprise's URLs, against providers on this machine: one recipient, the text as it is, and no word of it in
a log."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apprise
import pytest
from apprise.plugins import N_MGR

from flask_otp import ConfigError, Message, ProviderDown, RecipientRefused
from flask_otp.channels.apprise import AppriseChannel, kind_of, writes_to
from flask_otp.channels.apprise_logging import mute_loggers
from flask_otp.signals import code_sent, delivery_failed
from tests.support.apps import AppFactory
from tests.support.providers import ACCOUNT, KEY, SENDER, SERVICES, TELLING_IN_THE_BODY, Asked, Provider, serving

pytestmark = pytest.mark.server

PHONE = "+4915112345678"
TEXT = "482913 is your code to pay *5* at <Bob & Sons>: a_b_c :smile:.\nNot you? Ignore it.\n@example.com #482913"
TWILIO = SERVICES["twilio"].url
WHERE = "OTP_CHANNELS['sms']"


def message(recipient: str = PHONE, code: str = "482913", text: str = TEXT) -> Message:
    return Message("sms", recipient, code, "login", "Bob & Sons", "Your code", text, "<p>never sent</p>", 300)


def channel(url: str, timeout: int = 5, site_name: str = "Bob & Sons") -> AppriseChannel:
    return AppriseChannel(WHERE, url, timeout, site_name)


@pytest.fixture(params=SERVICES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Provider, str]]:
    with serving(name, monkeypatch) as provider_and_url:
        yield provider_and_url


@pytest.fixture
def twilio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with serving("twilio", monkeypatch) as (provider, _):
        yield provider


# What goes out


def test_each_service_gets_the_text_as_it_is_for_one_recipient(name: str, served: tuple[Provider, str]) -> None:
    provider, url = served
    service = SERVICES[name]
    sender = channel(url)
    assert sender.accepts == service.accepts
    sender.deliver(message(service.recipient))
    (asked,) = provider.asked
    recipient, text = service.read(asked)
    assert str(recipient).lstrip("+") == service.wire
    assert text == TEXT
    for word in ("never sent", "github.com", "Apprise"):
        assert word not in repr(asked)


def test_no_option_of_the_url_changes_or_splits_the_text(name: str, served: tuple[Provider, str]) -> None:
    provider, url = served
    service = SERVICES[name]
    options = "format=markdown&overflow=split&emojis=yes&retry=2"
    long = "\n".join([TEXT] * 12)
    channel(f"{url}{'&' if '?' in url else '?'}{options}").deliver(message(service.recipient, text=long))
    (asked,) = provider.asked
    assert service.read(asked)[1] == long


def test_a_refusal_is_an_error_that_tells_its_number(name: str, served: tuple[Provider, str]) -> None:
    provider, url = served
    service = SERVICES[name]
    provider.answer = lambda asked: service.refused
    with pytest.raises(RuntimeError) as refused:
        channel(url).deliver(message(service.recipient))
    assert len(provider.asked) == 1
    told = str(refused.value)
    assert told == (
        f"the service refused it: error {service.error}" if service.error else "the service did not take it"
    )
    assert refused.value.__context__ is None


def test_whatever_is_no_success_is_an_error_and_tried_once(name: str, served: tuple[Provider, str]) -> None:
    provider, url = served
    sender = channel(url)
    for status in (400, 401, 404, 429, 500, 503):
        provider.answer = lambda asked, status=status: (status, {})
        with pytest.raises(RuntimeError):
            sender.deliver(message(SERVICES[name].recipient))
        provider.asked.pop()
        assert provider.asked == []


def test_the_code_does_not_travel_on_by_a_redirect(name: str, served: tuple[Provider, str]) -> None:
    provider, url = served
    elsewhere = Provider()
    elsewhere.answer = lambda asked: SERVICES[name].accepted
    provider.headers = {"Location": f"{elsewhere.base}/"}
    sender = channel(url + ("&" if "?" in url else "?") + "redirect=yes")
    try:
        for status in (301, 302, 307, 308):
            provider.answer = lambda asked, status=status: (status, {})
            with pytest.raises(RuntimeError):
                sender.deliver(message(SERVICES[name].recipient))
        assert elsewhere.asked == []
    finally:
        elsewhere.close()


REFUSALS_WITHIN_2XX: dict[str, tuple[int, Any]] = {
    "twilio": (201, {"sid": "SM1", "status": "failed", "error_code": 30006}),
    "atalk": (
        201,
        {"SMSMessageData": {"Recipients": [{"statusCode": 403, "number": PHONE, "status": "InvalidPhoneNumber"}]}},
    ),
    "seven": (200, {"success": "100", "messages": [{"success": False, "error": "202"}]}),
    "telesign": (200, {"status": {"code": 10033, "description": "Invalid Status"}}),
    "msgbird": (201, {"id": "1", "recipients": {"items": [{"recipient": 49151, "status": "delivery_failed"}]}}),
    "plivo": (202, {"message": "message(s) queued", "message_uuid": [], "invalid_number": ["4915112345678"]}),
    "telnyx": (200, {"data": {"to": [{"phone_number": "+4915112345678", "status": "sending_failed"}]}}),
    "sinch": (201, {"id": "1", "error": {"code": "syntax_invalid_parameter_format"}}),
    "infobip": (200, {"messages": [{"status": {"groupId": 5, "groupName": "REJECTED", "id": 12}}]}),
    "whatsapp": (200, {"error": {"message": "(#131026) Message undeliverable", "code": 131026}}),
    "signal": (201, {"error": "Unregistered user"}),
    "tgram": (200, {"ok": False, "error_code": 403, "description": "Forbidden"}),
    "slack": (200, {"ok": False, "error": "channel_not_found"}),
    "resend": (200, {"error": {"name": "validation_error"}}),
}


@pytest.mark.parametrize("service", REFUSALS_WITHIN_2XX)
def test_a_refusal_within_a_2xx_is_an_error(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(service, monkeypatch) as (provider, url):
        provider.answer = lambda asked: REFUSALS_WITHIN_2XX[service]
        with pytest.raises(RuntimeError):
            channel(url).deliver(message((SERVICES | TELLING_IN_THE_BODY)[service].recipient))


@pytest.mark.parametrize("name", TELLING_IN_THE_BODY)
def test_what_the_body_tells_decides_what_becomes_of_a_code(
    name: str, make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = TELLING_IN_THE_BODY[name]
    with serving(name, monkeypatch) as (provider, url):
        app = make_app(OTP_CHANNELS={"other": url}, OTP_SMS_COUNTRIES=["DE"], OTP_COOLDOWN=0)
        client = app.test_client()
        told: list[str] = []
        with contextlib.ExitStack() as stack:
            for signal in (code_sent, delivery_failed):
                stack.enter_context(signal.connected_to(lambda *_, name=signal.name, **__: told.append(name), app))
            sent = client.post("/otp/send", json={"identifier": service.recipient})
            provider.answer = lambda asked: service.refused
            refused = client.post("/otp/send", json={"identifier": service.recipient})
        assert (sent.status_code, refused.status_code) == (200, 503)
        assert refused.get_json()["reason"] == "delivery_failed"
        assert told == [code_sent.name, delivery_failed.name]
        recipient, text = service.read(provider.asked[0])
        assert str(recipient).lstrip("+") == service.wire
        code = re.search(r"\d{6}", text)
        assert code
        assert client.post("/otp/verify", json={"code": code[0]}).status_code == 200


@pytest.mark.parametrize("recipient", ["general", "a@b", "@ann", "+u1"])
def test_a_name_that_zulip_would_take_for_a_channel_gets_nothing(
    recipient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving("zulip", monkeypatch) as (provider, url):
        assert apprise.Apprise.instantiate(f"{url}/{recipient}").notify(body=TEXT)
        assert provider.asked.pop().form["type"] == "stream"
        with pytest.raises(RecipientRefused, match="not one address"):
            channel(url).deliver(message(recipient))
        assert provider.asked == []
        channel(url).deliver(message("ann.lee+otp@mail.example.com"))
        assert provider.asked.pop().form["type"] == "private"


@pytest.mark.parametrize("service", ["vonage", "clickatell", "clicksend", *TELLING_IN_THE_BODY])
def test_a_200_that_does_not_say_that_it_was_taken_is_an_error(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(service, monkeypatch) as (provider, url):
        for body in ("", "OK", "[]", "{}", '{"messages": []}', '{"messages": null}', '{"data": 1}'):
            provider.answer = lambda asked, body=body: (200, body)
            with pytest.raises(RuntimeError, match="did not take it"):
                channel(url).deliver(message((SERVICES | TELLING_IN_THE_BODY)[service].recipient))
        assert len(provider.asked) == 7


def test_a_success_without_an_answer_to_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(N_MGR["vonage"], "send", lambda self, **arguments: True)
    with pytest.raises(RuntimeError, match="did not take it"):
        channel(SERVICES["vonage"].url).deliver(message())


def test_msg91_fills_a_template_with_the_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider()
    monkeypatch.setattr(N_MGR["msg91"], "notify_url", provider.base + "/api/v5/flow/")
    try:
        sender = channel(f"msg91://0123456789abcdef01234567@{KEY}/?:body=otp")
        provider.answer = lambda asked: (200, {"message": "3763646c3058373530393938", "type": "success"})
        sender.deliver(message())
        (recipient,) = provider.asked[0].json["recipients"]
        assert (recipient["mobiles"], recipient["otp"]) == (PHONE[1:], "482913")
        assert TEXT not in repr(provider.asked)
        provider.answer = lambda asked: (200, {"message": "template id missing", "type": "error"})
        with pytest.raises(RuntimeError):
            sender.deliver(message())
    finally:
        provider.close()


def test_a_whatsapp_template_is_filled_with_the_code_as_people_should_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("whatsapp", monkeypatch) as (provider, _):
        channel(f"whatsapp://login_code:{KEY}@106540352242922/?:body=1").deliver(message(code="0123456789ABC"))
        template = provider.asked[0].json["template"]
        assert template["name"] == "login_code"
        assert [part["text"] for part in template["components"][0]["parameters"]] == ["0123-4567-89ABC"]


def test_an_email_has_the_subject_and_no_html(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("resend", monkeypatch) as (provider, url):
        channel(url).deliver(message("ann@example.com"))
        assert provider.asked[0].json["subject"] == "Your code"
        assert "html" not in provider.asked[0].json


def test_a_site_may_have_any_name(twilio: Provider) -> None:
    channel(TWILIO, site_name="Bücher 日本").deliver(message())
    assert twilio.asked[0].headers["User-Agent"] == "flask_otp"
    channel(TWILIO, site_name="Bob & Sons").deliver(message())
    assert twilio.asked[1].headers["User-Agent"] == "Bob & Sons"


# One recipient

OTHER = "+15005550006"
SECOND_RECIPIENTS = [
    f"{PHONE},{OTHER}",
    f"{PHONE}, {OTHER}",
    f"{PHONE} {OTHER}",
    f"{PHONE}\n{OTHER}",
    f"{PHONE}/{OTHER}",
    f"{PHONE}?to={OTHER}",
    f"{PHONE}&to={OTHER}",
    f"{PHONE}%2C{OTHER}",
    f"{PHONE};{OTHER}",
    f"{PHONE}\n",
    f" {PHONE}",
    f"w:{PHONE}",
    PHONE[1:],
    "+0123456789",
    "+1234567890123456",
    "+４９15112345678",
    "#room",
    "group.abcdef",
    "ann@example.com",
    "",
]


@pytest.mark.parametrize("service", ["twilio", "signal", "whatsapp"])
def test_what_is_not_one_phone_number_gets_nothing(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(service, monkeypatch) as (provider, url):
        sender = channel(url)
        for recipient in SECOND_RECIPIENTS:
            with pytest.raises(RecipientRefused, match="not one address"):
                sender.deliver(message(recipient))
        assert provider.asked == []


def test_apprise_itself_would_write_to_both(twilio: Provider) -> None:
    """The trap is real: without our check two people get the code."""
    assert apprise.Apprise.instantiate(f"{TWILIO}/{PHONE},{OTHER}").notify(body=TEXT)
    assert [asked.form["To"] for asked in twilio.asked] == [PHONE, OTHER]


SECOND_CHATS = ["1,2", "1 2", "1/2", "1?to=2", "1;2", "1%2C2", PHONE, "1\n", "1&2", "#1", "", "x" * 300]


@pytest.mark.parametrize("service", ["tgram", "slack"])
def test_what_is_not_one_chat_gets_nothing(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(service, monkeypatch) as (provider, url):
        sender = channel(url)
        for recipient in SECOND_CHATS:
            with pytest.raises(RecipientRefused, match="not one address"):
                sender.deliver(message(recipient))
        assert provider.asked == []


@pytest.mark.parametrize("service", ["twilio", "vonage", "sinch"])
def test_a_number_that_apprise_drops_is_an_error_and_not_a_message_to_the_sender(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = "+2901234"  # right by E.164, and too short for Apprise
    with serving(service, monkeypatch) as (provider, url):
        assert apprise.Apprise.instantiate(f"{url}/{short}").notify(body=TEXT)
        assert SERVICES[service].read(provider.asked.pop())[0].lstrip("+") == SENDER
        with pytest.raises(RecipientRefused, match="would not write to this recipient alone"):
            channel(url).deliver(message(short))
        assert provider.asked == []


@pytest.mark.parametrize("recipient", ["general", "U0G9QF9C6", "@ann", "+u1"])
def test_a_name_that_slack_would_take_for_a_channel_gets_nothing(
    recipient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving("slack", monkeypatch) as (provider, url):
        assert apprise.Apprise.instantiate(f"{url}/general").notify(body=TEXT)
        assert provider.asked.pop().json["channel"] == "#general"
        with pytest.raises(RecipientRefused, match="not one address"):
            channel(url).deliver(message(recipient))
        assert provider.asked == []


def test_slack_finds_a_member_by_the_email_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("slack", monkeypatch) as (provider, url):
        provider.answer = lambda asked: (200, {"ok": True, "user": {"id": "U0G9QF9C6"}})
        channel(url).deliver(message("ann@example.com"))
        look_up, post = provider.asked
        assert look_up.query == {"email": "ann@example.com"}
        assert post.json["channel"] == "U0G9QF9C6"


def test_whatever_an_object_says_of_a_second_recipient_is_believed() -> None:
    def changed(service: str, /, **attributes: Any) -> bool:
        plugin = channel(service).make(PHONE)
        assert plugin is not None
        assert writes_to(plugin, PHONE)
        for name, value in attributes.items():
            setattr(plugin, name, value)
        return writes_to(plugin, PHONE)

    signal = SERVICES["signal"].url.replace("PORT", "8080") + "?batch=yes"
    one = f"{signal.partition('?')[0]}/{PHONE}"
    assert changed(signal, targets=[PHONE])
    assert not changed(signal, targets=[OTHER])
    assert not changed(signal, targets=[PHONE, OTHER])  # in one batch, and so of length 1
    assert not changed(signal, targets=[PHONE, OTHER], url=lambda privacy: one)
    assert not changed(TWILIO, retry=1)
    assert not changed(TWILIO, _invalid_targets=[OTHER])
    assert not changed(TWILIO, url=lambda privacy: "no URL")


def test_an_unknown_chat_is_an_error_and_not_a_message_to_the_owner_of_the_bot(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("tgram", monkeypatch) as (provider, url):
        with pytest.raises(RecipientRefused, match="would not write to this recipient alone"):
            channel(url).deliver(message("ann@example.com"))
        assert provider.asked == []


def test_eight_threads_at_once_mix_nothing(twilio: Provider) -> None:
    sender = channel(TWILIO)
    barrier = threading.Barrier(8)
    people = {f"+49151{number:08d}": f"{number:06d}" for number in range(1000, 1040)}

    def run(share: list[str]) -> None:
        barrier.wait(10)
        for phone in share:
            sender.deliver(message(phone, people[phone], f"{people[phone]} is your code"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, [list(people)[start::8] for start in range(8)]))
    assert {asked.form["To"]: asked.form["Body"][:6] for asked in twilio.asked} == people
    assert len(twilio.asked) == len(people)


# What stops the app at start

REFUSED = {
    f"{TWILIO}/{OTHER}": "names a recipient",
    f"{TWILIO}?to={OTHER}": "names a recipient",
    f"{TWILIO}/,": "names a recipient",
    f"signal://localhost/+{SENDER}/{OTHER}": "names a recipient",
    f"tgram://123456789:{KEY}abc/987654321": "names a recipient",
    f"clicksend://somebody:{KEY}": "names a recipient",
    f"resend://{KEY}:codes@example.com?cc=boss@example.com": "names a recipient",
    f"resend://{KEY}:codes@example.com?bcc=boss@example.com": "names a recipient",
    f"{TWILIO}?verify=no": "verify=no",
    f"slack://T0A1B2C3D/A1B2C3D4E/{KEY[:24]}": "one room",
    f"https://hooks.slack.com/services/T0A1B2C3D/A1B2C3D4E/{KEY[:24]}": "one room",
    f"mmosts://chat.example.com/{KEY}": "one room",
    f"discord://412345678901234567/{KEY}": "all messages to one recipient",
    f"json://{KEY}@localhost/otp": "all messages to one recipient",
    f"gotifys://localhost/{KEY}": "all messages to one recipient",
    f"dingtalk://{KEY}": "people other than the recipient",
    f"mastodons://{KEY}@localhost": "people other than the recipient",
    f"mailtos://somebody:{KEY}@gmail.com": "channel 'email'",
    f"kavenegar://{KEY}": "unencrypted",
    f"whatsapp://login_code:{KEY}@106540352242922": "does not contain the code",
    f"smpp://somebody:{KEY}@localhost/{SENDER}": "another package",
    f"twilio://{ACCOUNT}:{KEY}@12": "rejects part of the URL",
    f"twilio://{ACCOUNT}:{KEY}@w%3A12345": "rejects part of the URL",
    f"twilio://{KEY}:{ACCOUNT}@+{SENDER}": "rejects part of the URL",
    f"twillio://{ACCOUNT}:{KEY}@+{SENDER}": "not a URL that Apprise understands",
    f"cliq://{KEY}@bot?broadcast=yes": "names a recipient",
    f"twilio://{ACCOUNT}:{KEY}@[": "not a URL that Apprise understands",
    f"://{KEY}": "not a URL that Apprise understands",
    f"{KEY}://": "not a URL that Apprise understands",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_will_not_do_stops_the_app_without_being_quoted(make_app: AppFactory, url: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(REFUSED[url])) as stopped:
        make_app(OTP_CHANNELS={"sms": [TWILIO, url]})
    told = str(stopped.value)
    assert told.startswith(WHERE)
    for secret in (KEY, KEY[:24], ACCOUNT, OTHER, "boss", SENDER):
        assert secret not in told


def test_not_even_an_error_of_apprise_quotes_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_otp.channels.apprise.url_to_dict", lambda url: int(url))
    with pytest.raises(ConfigError, match="not a URL that Apprise understands") as stopped:
        channel(TWILIO)
    assert stopped.value.__context__ is None


def test_the_app_needs_the_extra_and_is_told_so(make_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(
        ConfigError, match=r"OTP_CHANNELS\['sms'\].*pip install 'flask-otp-codes\[apprise\]'"
    ) as stopped:
        make_app(OTP_CHANNELS={"sms": TWILIO})
    assert KEY not in str(stopped.value)


# Phones


def phone_services() -> set[str]:
    """By what Apprise calls the recipient, in English."""
    return {
        plugin.__name__
        for plugin in N_MGR.plugins(include_disabled=True)
        for token in plugin.template_tokens.values()
        if token.get("map_to") == "targets" and re.search("phone|sms", str(token["name"]), re.IGNORECASE)
    }


def test_every_service_that_takes_phone_numbers_takes_nothing_else() -> None:
    phones = phone_services()
    assert {"NotifyTwilio", "NotifySignalAPI", "NotifyWhatsApp", "NotifyThreema", "NotifySFR"} < phones
    assert len(phones) > 40
    plugins = N_MGR.plugins(include_disabled=True)
    assert {kind_of(plugin) for plugin in plugins if plugin.__name__ in phones} == {"phone"}


def test_whatever_its_name_a_phone_service_is_under_the_rules_for_phones(
    make_app: AppFactory, twilio: Provider
) -> None:
    app = make_app(OTP_CHANNELS={"pager": TWILIO}, OTP_SMS_COUNTRIES=["DE"], OTP_COOLDOWN=0)
    client = app.test_client()
    assert client.post("/otp/send", json={"identifier": "ann@example.com"}).status_code == 400
    assert client.post("/otp/send", json={"phone": "+33612345678"}).status_code == 200
    assert twilio.asked == []
    assert client.post("/otp/send", json={"phone": PHONE}).status_code == 200
    code = re.search(r"^\d{6}", twilio.asked[0].form["Body"])
    assert code
    assert client.post("/otp/verify", json={"code": code[0]}).status_code == 200


# When it fails


def test_the_next_of_several_is_tried_and_the_user_sees_one_outcome(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch, twilio: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    twilio.answer = lambda asked: SERVICES["twilio"].refused
    with serving("vonage", monkeypatch) as (vonage, second):
        client = make_app(
            OTP_CHANNELS={"sms": [TWILIO, second]}, OTP_SMS_COUNTRIES=["DE"], OTP_COOLDOWN=0
        ).test_client()
        assert client.post("/otp/send", json={"phone": PHONE}).status_code == 200
        assert (len(twilio.asked), len(vonage.asked)) == (1, 1)
        assert client.post("/otp/verify", json={"code": vonage.asked[0].form["text"][:6]}).status_code == 200
        assert "failed: RuntimeError: the service refused it: error 21211" in caplog.text
        vonage.answer = lambda asked: SERVICES["vonage"].refused
        answer = client.post("/otp/send", json={"phone": PHONE})
        assert (answer.status_code, answer.get_json()["reason"]) == (503, "delivery_failed")


def test_a_slow_service_is_given_up_after_the_channel_timeout(
    make_app: AppFactory, twilio: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    twilio.open.clear()
    app = make_app(
        OTP_CHANNELS={"sms": f"{TWILIO}?rto=60&cto=60&retry=3"}, OTP_SMS_COUNTRIES=["DE"], OTP_CHANNEL_TIMEOUT="1s"
    )
    began = time.monotonic()
    assert app.test_client().post("/otp/send", json={"phone": PHONE}).status_code == 503
    assert 0.9 < time.monotonic() - began < 5
    assert len(twilio.asked) == 1


def test_a_service_that_is_not_there_is_told_as_that(twilio: Provider) -> None:
    sender = channel(TWILIO)
    twilio.close()
    with pytest.raises(ProviderDown, match="could not be reached, or did not answer in time"):
        sender.deliver(message())


def test_an_error_within_apprise_goes_no_further(twilio: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = channel(TWILIO)
    monkeypatch.setattr(N_MGR["twilio"], "send", lambda self, body, **others: int(body))
    with pytest.raises(RuntimeError, match=r"^ValueError in Apprise$") as failed:
        sender.deliver(message())
    assert failed.value.__context__ is None


def test_what_an_object_does_to_its_settings_is_forgotten(twilio: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = channel(f"{TWILIO}?method=sms")
    make = apprise.Apprise.instantiate

    def spoil(fields: dict[str, Any], **others: Any) -> Any:
        assert fields["qsd"] == {"method": "sms"}
        made = make(fields, **others)
        fields["qsd"].clear()
        return made

    monkeypatch.setattr(apprise.Apprise, "instantiate", spoil)
    sender.deliver(message())
    sender.deliver(message())


def test_it_cannot_be_tried_without_sending() -> None:
    assert channel(TWILIO).probe() is False


# Logs


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that is logged from here on, by any logger at any level: :func:`mute_loggers` must not depend on levels."""
    caplog.set_level(1)
    for name in ("apprise", "urllib3", "urllib3.connectionpool", "requests"):
        caplog.set_level(1, logger=name)
    return lambda: "\n".join([caplog.text, *(f"{record.__dict__!r}" for record in caplog.records)])


@pytest.mark.parametrize("outcome", ["accepted", "refused", "silent"])
def test_r34_nothing_of_a_delivery_is_in_any_log(
    name: str, outcome: str, served: tuple[Provider, str], everything: Callable[[], str]
) -> None:
    provider, url = served
    service = SERVICES[name]
    sender = channel(url)
    if outcome == "silent":
        provider.close()
    else:
        provider.answer = lambda asked: getattr(service, outcome)
    try:
        sender.deliver(message(service.recipient))
    except (RuntimeError, ProviderDown) as error:
        logging.getLogger("site").error("it failed", exc_info=error)
    text = everything()
    assert "apprise: " not in text
    for secret in ("482913", service.wire, *service.secrets):
        assert secret not in text


def test_the_app_may_log_what_it_sends_by_apprise_itself(twilio: Provider, everything: Callable[[], str]) -> None:
    """The trap is real, and other uses of the same libraries are not touched, even in the middle of a delivery."""
    sender = channel(TWILIO)
    inside = threading.Event()

    def alert() -> None:
        assert apprise.Apprise.instantiate(f"{TWILIO}/{OTHER}").notify(body="the disk is full")
        inside.set()

    def answer(asked: Asked) -> tuple[int, Any]:
        if asked.form["To"] == PHONE:
            thread = threading.Thread(target=alert)
            thread.start()
            thread.join()
        return SERVICES["twilio"].accepted

    twilio.answer = answer
    sender.deliver(message())
    assert inside.is_set()
    text = everything()
    assert "the disk is full" in text
    assert "482913" not in text


def test_hush_ends(everything: Callable[[], str]) -> None:
    logger = logging.getLogger("urllib3.connectionpool")
    with contextlib.suppress(KeyError), mute_loggers() as heard:
        logger.debug("a secret")
        logger.warning("a %s", "warning")
        raise KeyError
    assert heard == ["a warning"]
    assert "secret" not in everything()
    logger.debug("no secret")
    assert "no secret" in everything()
    assert (
        len(
            [item for item in logger.filters if getattr(item, "__module__", "") == "flask_otp.channels.apprise_logging"]
        )
        == 1
    )
