"""No code and no person can be read from a log at any level, nor from what objects print of themselves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from werkzeug.serving import make_server

import flask_otp
from flask_otp import OTP, Message, OTPError, VerificationRequired, otp_required
from flask_otp.crypto.codes import display
from flask_otp.crypto.keys import Keys
from flask_otp.crypto.payloads import Client, Handle, KnownBrowser, Proof, Requirement
from flask_otp.identifiers import parse
from flask_otp.testing import Clock
from tests.support.answers import place
from tests.support.apps import SECRET, AppFactory, ValkeyServer, free_port
from tests.support.leaks import chain
from tests.support.mail import serving

ANN = "ann.lee@example.com"
BOB = "bob.roe@example.com"
PHONE = "+4915112345678"
LOGGERS = ("flask_otp", "werkzeug", "redis", "limits", "flask-limiter", "flask_mail", "site")


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was logged since, at any level, with arguments and tracebacks, and all that was printed."""
    caplog.set_level(logging.DEBUG)
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)

    def read() -> str:
        arguments = [f"{record.__dict__!r}" for record in caplog.records]
        return "\n".join([caplog.text, *arguments, *capfd.readouterr()])

    return read


def assert_clean(text: str, codes: list[str], identifiers: tuple[str, ...]) -> None:
    assert codes
    secrets = [*codes, *map(display, codes), *identifiers, *(name.partition("@")[0] for name in identifiers)]
    for secret in secrets:
        assert secret.lower() not in text.lower()


class Visit:
    """One browser's whole way through a site, failures included."""

    def __init__(self, app: Flask, clock: Clock) -> None:
        self.app, self.clock = app, clock
        self.messages: list[Message] = []
        self.broken = False

    def deliver(self, message: Message) -> None:
        self.messages.append(message)
        if self.broken:
            raise OSError(f"could not send {message.text} to {message.recipient.upper()}: {display(message.code)}")

    def run(self, identifier: str) -> None:
        client = self.app.test_client()

        def post(path: str, **body: str) -> int:
            return client.post(f"/otp/{path}", json=body).status_code

        def wrong() -> str:
            code = self.messages[-1].code
            return ("0" if code[0] != "0" else "1") + code[1:]

        client.get("/account")
        assert post("send", identifier=identifier) == 200
        assert post("send", identifier=identifier) == 200
        assert post("resend") == 429
        assert post("send", identifier=f"{identifier}\r\nBcc: {identifier}") == 400
        assert post("send", identifier=identifier, purpose="steal") == 400
        assert post("send", identifier=identifier, channel="owl") == 400
        client.environ_base["REMOTE_ADDR"] = "203.0.113.9"  # this network has no short codes from now on
        assert post("verify", code=wrong()) == 400
        client.environ_base["REMOTE_ADDR"] = "127.0.0.1"
        assert post("verify", code="123456", challenge="forged") == 400
        assert post("verify", code=self.messages[-1].code) == 200
        assert post("verify", code=self.messages[-1].code) == 400
        assert client.get("/account").status_code == 200
        self.clock.advance("30s")
        assert post("send", identifier=identifier) == 200
        assert post("verify", code=wrong()) == 400
        stranger = self.app.test_client()
        self.clock.advance("30s")
        stranger.post("/otp/send", json={"identifier": identifier})
        stranger.post("/otp/verify", json={"code": wrong()})
        self.clock.advance("30s")
        self.broken = True
        assert self.app.test_client().post("/otp/send", json={"identifier": identifier}).status_code == 503
        self.broken = False
        assert len(self.messages[-1].code) == 13
        assert post("logout") == 204
        with self.app.app_context():
            self.app.extensions["the otp"].revoke(identifier)


def build(clock: Clock, **config: Any) -> tuple[Visit, OTP]:
    app = Flask("site")
    app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_SMS_COUNTRIES=["DE"], OTP_STORAGE_URI="memory://")
    app.config.update(OTP_FAILURE_BUDGET="2/30 days", OTP_SURGE_LIMIT="1/day", **config)
    otp = OTP(app, clock=clock)
    app.extensions["the otp"] = otp
    visit = Visit(app, clock)
    otp.channel("any")(visit.deliver)
    app.add_url_rule("/account", "account", otp_required(lambda: "hello"))
    return visit, otp


@pytest.mark.parametrize("identifier", [ANN, PHONE])
def test_r34_a_whole_visit_logs_neither_a_code_nor_an_identifier(
    everything: Callable[[], str], clock: Clock, identifier: str
) -> None:
    visit, _ = build(clock)
    visit.run(identifier)
    text = everything()
    assert "failed: OSError" in text
    assert "budget" in text
    assert "OTP_SURGE_LIMIT" in text
    assert_clean(text, [message.code for message in visit.messages], (identifier,))


def test_r34_nor_do_the_logs_of_an_app_with_its_own_limiter(
    everything: Callable[[], str], clock: Clock, valkey: ValkeyServer
) -> None:
    visit, _ = build(clock, OTP_STORAGE_URI=valkey.uri)
    Limiter(
        get_remote_address, app=visit.app, storage_uri=valkey.uri, default_limits=["1000/day"], headers_enabled=True
    )
    visit.run(ANN)
    assert_clean(everything(), [message.code for message in visit.messages], (ANN,))


@pytest.mark.server
def test_r34_nor_does_anything_when_the_store_goes_away(
    everything: Callable[[], str], clock: Clock, tmp_path: Path
) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    visit, _ = build(clock, OTP_STORAGE_URI=server.uri)
    client = visit.app.test_client()
    try:
        client.post("/otp/send", json={"email": ANN})
    finally:
        server.stop()
    assert client.post("/otp/send", json={"email": ANN}).status_code == 503
    assert client.post("/otp/verify", json={"code": visit.messages[0].code}).status_code == 503
    assert_clean(everything(), [visit.messages[0].code], (ANN,))


def test_r34_nor_do_background_deliveries_and_pretended_ones(everything: Callable[[], str], clock: Clock) -> None:
    visit, otp = build(clock, OTP_DELIVERY="background")
    done = threading.Semaphore(0)
    codes: list[str] = []

    @otp.channel("any")
    def fail(message: Message) -> None:
        codes.append(message.code)
        done.release()
        raise OSError(f"{message.code} {message.recipient}")

    otp.recipient_loader(lambda identifier, channel: identifier if identifier == ANN else None)
    for address in (ANN, BOB):
        assert visit.app.test_client().post("/otp/send", json={"email": address}).status_code == 200
    assert done.acquire(timeout=20)
    assert_clean(everything(), codes, (ANN, BOB))


@pytest.mark.server
def test_r34_nor_does_a_mail_server_that_quotes_everything(
    everything: Callable[[], str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mail.log"), "disabled", True)  # the server's own log
    with serving() as inbox:
        inbox.rcpt_reply = f"550 5.1.1 <{ANN}>: user {ANN.upper()} unknown"
        app = Flask("site")
        app.config.update(
            TESTING=True,
            SECRET_KEY=SECRET,
            OTP_STORAGE_URI="memory://",
            MAIL_SERVER="127.0.0.1",
            MAIL_PORT=inbox.port,
            MAIL_SUPPRESS_SEND=False,
            MAIL_DEFAULT_SENDER="codes@shop.example",
        )
        otp, codes = OTP(app, clock=clock), []
        otp.before_send(lambda message: codes.append(message.code))
        assert app.test_client().post("/otp/send", json={"email": ANN}).status_code == 503
    text = everything()
    assert "550" in text
    assert_clean(text, codes, (ANN,))


@pytest.mark.server
def test_r34_a_real_server_logs_no_code_in_a_request_line(everything: Callable[[], str], clock: Clock) -> None:
    visit, _ = build(clock)
    server = make_server("127.0.0.1", free_port(), visit.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    browser = HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Accept": "text/html", "Content-Type": "application/x-www-form-urlencoded"}

    def submit(path: str, **form: str) -> str | None:
        browser.request("POST", f"/otp/{path}", urlencode(form), headers)
        answer = browser.getresponse()
        answer.read()
        assert answer.status == 303
        headers["Cookie"] = str(answer.headers["Set-Cookie"]).partition(";")[0]
        return answer.headers["Location"]

    try:
        assert place(submit("send", identifier=ANN)) == "/otp/verify"
        assert submit("verify", code=visit.messages[0].code) == "/"
    finally:
        browser.close()
        server.shutdown()
        thread.join()
        server.server_close()
    text = everything()
    assert "POST /otp/verify" in text
    assert_clean(text, [visit.messages[0].code], (ANN,))


def test_r34_line_breaks_of_a_client_do_not_forge_a_log_line(
    everything: Callable[[], str], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    visit, _ = build(clock)
    client = visit.app.test_client()
    forged = "x\nERROR    flask_otp:fake.py:1 all is well"
    for body in ({"email": ANN, "purpose": forged}, {"email": forged}, {"email": ANN, "channel": forged}):
        assert client.post("/otp/send", json=body).status_code == 400
    for record in caplog.records:
        assert "\n" not in record.getMessage()


# What objects print of themselves


@pytest.fixture
def sample(clock: Clock) -> dict[str, Any]:
    """One of each, of one real login."""
    visit, otp = build(clock)
    app = visit.app
    tokens = app.extensions["otp"].tokens
    with app.test_request_context():
        challenge = otp.send(ANN, context={"payee": BOB})
        verification = otp.verify(visit.messages[0].code, context={"payee": BOB})
    requirement = tokens.dump_requirement(Requirement("login", b"", {"payee": BOB}, ANN, (), 0))
    return {
        "challenge": challenge,
        "verification": verification,
        "message": visit.messages[0],
        "handle": tokens.load_handle(challenge.handle),
        "proof": tokens.load_proof(verification.proof),
        "requirement": tokens.load_requirement(requirement),
        "keys": tokens.keys,
        "tokens": tokens,
        "identifier": parse(ANN),
        "state": app.extensions["otp"],
        "service": app.extensions["otp"].service,
        "otp": otp,
        "refusal": VerificationRequired(requirement=requirement),
    }


KINDS = (
    "challenge", "verification", "message", "handle", "proof", "requirement", "keys", "tokens", "identifier", "state",
    "service", "otp", "refusal",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_r34_a_repr_gives_nothing_away(sample: dict[str, Any], kind: str) -> None:
    message, thing = sample["message"], sample[kind]
    assert isinstance(sample["handle"], Handle)
    assert isinstance(sample["proof"], Proof)
    assert isinstance(sample["keys"], Keys)
    secrets = [message.code, ANN, BOB, SECRET, sample["challenge"].handle, sample["verification"].proof]
    for text in (repr(thing), str(thing), f"{thing}", repr([thing]), repr({"a": thing})):
        for secret in secrets:
            assert secret not in text
            assert repr(secret.encode())[2:-1] not in text


def test_r34_who_asks_shows_nothing_that_the_browser_keeps() -> None:
    client = Client("192.0.2.1", b"the session's secret", (KnownBrowser(b"s" * 16, b"the bucket", 1),))
    assert repr(client) == "Client(network='192.0.2.1')"
    assert Client() == Client(None, b"", ())


def test_a_challenge_says_whether_its_code_is_a_strong_one(sample: dict[str, Any]) -> None:
    assert not sample["challenge"].strong
    assert replace(sample["challenge"], code_length=13).strong


ERRORS = [value for value in vars(flask_otp).values() if isinstance(value, type) and issubclass(value, OTPError)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_r34_errors_say_fixed_words(error: type[OTPError]) -> None:
    made = error()
    assert error.__name__ in repr(made)
    assert made.description == error.description


def test_r34_the_errors_of_a_visit_quote_nothing(make_app: AppFactory, clock: Clock) -> None:
    visit, otp = build(clock)
    raised: list[OTPError] = []

    def attempt(call: Callable[[], Any]) -> None:
        with pytest.raises(OTPError) as caught:
            call()
        raised.append(caught.value)

    with visit.app.app_context():
        handle = otp.send(ANN).handle
        code = visit.messages[0].code
        attempt(lambda: otp.send(ANN))
        attempt(lambda: otp.send(f"{ANN}\n"))
        attempt(lambda: otp.send(ANN, channel="owl"))
        attempt(lambda: otp.send(ANN, purpose="steal"))
        attempt(lambda: otp.verify(code, challenge=handle, identifier=BOB))
        attempt(lambda: otp.verify(code, challenge=handle + "x"))
        attempt(lambda: otp.verify(code))
        attempt(otp.resend)
        visit.broken = True
        attempt(lambda: otp.send(BOB))
    for error in raised:
        for part in chain(error):
            text = repr(part) + str(part) + repr(getattr(part, "args", ""))
            for secret in (ANN, BOB, handle, *(message.code for message in visit.messages)):
                assert secret not in text
