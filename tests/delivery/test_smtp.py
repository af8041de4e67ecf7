"""The conversation with a mail server: addresses that are dead, names that are refused, passwords and tokens."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from flask import Flask
from werkzeug.test import TestResponse

from flask_otp import ConfigError
from flask_otp.channels import tls
from flask_otp.channels.smtp import connect_to_any
from tests.support.apps import AppFactory, certified, free_port
from tests.support.mail import SENDER, Inbox, mail_config, serving

pytestmark = pytest.mark.server

NAME = "smtp.shop.example"


def send(app: Flask, email: str = "ann@example.com") -> TestResponse:
    return app.test_client().post("/otp/send", json={"email": email})


# Addresses


@contextlib.contextmanager
def swallowing(port: int, address: str = "127.0.0.9") -> Iterator[str]:
    """An address that takes no connection and refuses none, as if packets were lost: a listener whose queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((address, port))
        time.sleep(0.1)
        yield address


@contextlib.contextmanager
def answering_nothing(port: int, hangs_up: bool = False) -> Iterator[None]:
    """An address that takes connections and says nothing, as a balancer's whose servers are gone."""
    with socket.create_server(("127.0.0.9", port)) as listener:
        hanging_up = threading.Thread(target=lambda: listener.accept()[0].close())
        if hangs_up:
            hanging_up.start()
        yield
        if hangs_up:
            hanging_up.join()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``names("127.0.0.9", "127.0.0.1")``: the addresses of the mail server's name, in this order."""
    real = socket.getaddrinfo

    def lead_to(*addresses: str) -> None:
        def look_up(host: str, *rest: Any, **more: Any) -> Any:
            return (
                [found for a in addresses for found in real(a, *rest, **more)]
                if host == NAME
                else real(host, *rest, **more)
            )

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return lead_to


@pytest.mark.parametrize("tls", ["plain", "starttls", "implicit"])
@pytest.mark.parametrize("dead", ["swallows", "refuses", "unreachable", "never greets", "hangs up"])
def test_a_mail_server_is_tried_at_all_its_addresses_within_the_one_deadline(
    make_app: AppFactory,
    names: Callable[..., None],
    authority: trustme.CA,
    tmp_path: Path,
    dead: str,
    tls: str,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = certified(authority, NAME)
    options = {"plain": {}, "starttls": {"starttls": context}, "implicit": {"implicit": context}}[tls]
    with contextlib.ExitStack() as stack:
        inbox = stack.enter_context(serving(**options))  # type: ignore[arg-type]
        first = {"refuses": "127.0.0.8", "unreachable": "2001:db8::1"}.get(dead, "127.0.0.9")
        if dead == "swallows":
            stack.enter_context(swallowing(inbox.port))
        elif first == "127.0.0.9":
            stack.enter_context(answering_nothing(inbox.port, hangs_up=dead == "hangs up"))
        names(first, "127.0.0.1")
        config = mail_config(inbox.port, MAIL_SERVER=NAME, OTP_EMAIL_TIMEOUT=3, OTP_EMAIL_CA=str(tmp_path / "ca.pem"))
        config |= {"MAIL_USE_TLS": tls == "starttls", "MAIL_USE_SSL": tls == "implicit"}
        assert send(make_app(**config)).status_code == 200
        assert len(inbox.envelopes) == 1


def test_a_mail_server_without_a_living_address_is_given_up_in_time(
    make_app: AppFactory, names: Callable[..., None]
) -> None:
    port = free_port()
    with swallowing(port) as first, swallowing(port, "127.0.0.10") as second:
        names(first, second)
        start = time.monotonic()
        assert send(make_app(**mail_config(port, MAIL_SERVER=NAME, OTP_EMAIL_TIMEOUT=1))).status_code == 503
        assert time.monotonic() - start < 4


def test_a_mail_server_that_greets_late_is_waited_for(names: Callable[..., None]) -> None:
    """Many do so on purpose, since spammers do not wait. The next address, which says nothing, takes nothing away."""
    with socket.create_server(("127.0.0.8", 0)) as late, answering_nothing(port := late.getsockname()[1]):
        names("127.0.0.8", "127.0.0.9")

        def greet() -> None:
            with late.accept()[0] as connection:
                time.sleep(0.6)
                connection.sendall(b"220 at last\r\n")

        greeting = threading.Thread(target=greet)
        greeting.start()
        with connect_to_any(NAME, port, 20) as sock:
            assert sock.getpeername()[0] == "127.0.0.8"
        greeting.join()


def test_refused_addresses_are_given_up_at_once(names: Callable[..., None]) -> None:
    names("127.0.0.8", "127.0.0.9")
    start = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        connect_to_any(NAME, free_port(), 20)
    assert time.monotonic() - start < 5


# What we greet with


class Picky(Inbox):
    """Knows which names it lets greet it."""

    def __init__(self, *known: str) -> None:
        super().__init__()
        self.known = known

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        if hostname not in self.known:
            return ["550 5.7.1 Helo command rejected: Host not found"]
        return await super().handle_EHLO(server, session, envelope, hostname, responses)

    async def handle_HELO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str) -> str:
        return "550 5.7.1 Helo command rejected: Host not found"


@pytest.mark.parametrize(
    ("known", "config"),
    [
        (SENDER.partition("@")[2], {}),
        ("mail.example.com", {"OTP_EMAIL_EHLO": "mail.example.com"}),
        ("[192.0.2.1]", {"OTP_EMAIL_EHLO": "[192.0.2.1]"}),
        ("xn--mnchen-3ya.example", {"MAIL_DEFAULT_SENDER": ("Stadt", "codes@münchen.example")}),
    ],
)
def test_a_server_is_greeted_with_the_senders_domain_or_what_the_setting_says(
    make_app: AppFactory, known: str, config: dict[str, Any]
) -> None:
    with serving(Picky(known)) as inbox:
        app = make_app(**mail_config(inbox.port, **config))
        assert send(app).status_code == 200
        findings = json.loads(app.test_cli_runner().invoke(args=["otp", "doctor", "--json"]).stdout)["findings"]
        assert not [finding for finding in findings if finding["check"] == "channels_reachable"]
    assert len(inbox.envelopes) == 1


# An authority for mail alone


def test_an_authority_for_mail_alone_is_trusted_and_no_other(
    make_app: AppFactory, authority: trustme.CA, trusted: Any, tmp_path: Path
) -> None:
    """``trusted`` is the environment's authority, which the setting takes the place of."""
    other = trustme.CA()
    other.cert_pem.write_to_path(str(tmp_path / "mail.pem"))
    for context, status in ((certified(other), 200), (trusted, 503)):
        with serving(starttls=context) as inbox:
            app = make_app(**mail_config(inbox.port, MAIL_USE_TLS=True, OTP_EMAIL_CA=str(tmp_path / "mail.pem")))
            assert send(app).status_code == status


def test_the_authorities_are_loaded_once_and_again_when_their_file_has_changed(
    make_app: AppFactory, trusted: Any, tmp_path: Path
) -> None:
    old, new = trustme.CA(), trustme.CA()
    path = tmp_path / "mail.pem"
    old.cert_pem.write_to_path(str(path))
    assert tls.verifying(str(path)) is tls.verifying(str(path)) is not tls.verifying()
    with serving(starttls=certified(new)) as inbox:
        app = make_app(**mail_config(inbox.port, MAIL_USE_TLS=True, OTP_EMAIL_CA=str(path)))
        assert send(app, "ann@example.com").status_code == 503
        new.cert_pem.write_to_path(str(path))
        os.utime(path, (1, 1))  # another time, however coarse the clock of the files is
        assert send(app, "bob@example.com").status_code == 200


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_stops_the_app(
    make_app: AppFactory, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "mail.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"^OTP_EMAIL_CA cannot be read"):
        make_app(**mail_config(25, OTP_EMAIL_CA=str(path)))


# Passwords and tokens


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_password_with_umlauts_signs_in(make_app: AppFactory, mechanism: str) -> None:
    with serving(auth=True, exclude={"PLAIN", "LOGIN"} - {mechanism}) as inbox:
        app = make_app(**mail_config(inbox.port, MAIL_USERNAME="müller@shop.example", MAIL_PASSWORD="Schlüssel€"))
        assert send(app).status_code == 200
    assert inbox.logins == [("müller@shop.example".encode(), "Schlüssel€".encode())]


class TokenInbox(Inbox):
    """Takes one token by XOAUTH2, and tells why it refuses another as Google and Microsoft do."""

    tokens: list[str]

    def __init__(self, *tokens: str) -> None:
        super().__init__()
        self.tokens = list(tokens)
        self.heard: list[bytes] = []

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:
        self.heard.append(base64.b64decode(args[1]))
        if self.heard[-1] in (f"user={SENDER}\1auth=Bearer {token}\1\1".encode() for token in self.tokens):
            return AuthResult(success=True, auth_data=SENDER)
        await server.push("334 " + base64.b64encode(b'{"status":"401","schemes":"bearer"}').decode())
        assert (await server._reader.readline()) == b"\r\n"
        await server.push("535 5.7.8 Username and Password not accepted")
        return AuthResult(success=False, handled=True)


def config_of(inbox: Inbox, oauth: Callable[[], Any], **config: Any) -> dict[str, Any]:
    return mail_config(inbox.port, MAIL_USERNAME=SENDER, MAIL_PASSWORD=None, OTP_EMAIL_OAUTH=oauth, **config)


def test_an_access_token_signs_in_and_is_asked_for_each_time(make_app: AppFactory) -> None:
    tokens = iter(["first-token", "second-token"])
    with serving(TokenInbox("first-token", "second-token"), auth=True) as inbox:
        app = make_app(**config_of(inbox, lambda: next(tokens), OTP_COOLDOWN=0))
        assert [send(app).status_code for _ in range(2)] == [200, 200]
        assert len(inbox.heard) == 2  # type: ignore[attr-defined]
    assert inbox.logins == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: "expired-token", "SMTPAuthenticationError"),
        (lambda: 1 / 0, "ProviderDown: OTP_EMAIL_OAUTH raised a ZeroDivisionError"),
        (lambda: None, "ProviderDown: OTP_EMAIL_OAUTH returned no token"),
        (lambda: "two\r\nlines", "ProviderDown: OTP_EMAIL_OAUTH returned no token"),
    ],
)
def test_an_invalid_or_refused_token_fails_and_is_in_no_log(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture, answer: Callable[[], Any], words: str
) -> None:
    with serving(TokenInbox("right-token"), auth=True) as inbox:
        assert send(make_app(**config_of(inbox, answer))).status_code == 503
    assert words in caplog.text
    assert "expired-token" not in caplog.text


def test_a_server_without_xoauth2_is_told(make_app: AppFactory, caplog: pytest.LogCaptureFixture) -> None:
    with serving(auth=True) as inbox:
        assert send(make_app(**config_of(inbox, lambda: "token"))).status_code == 503
    assert "SMTPNotSupportedError: the server does not offer XOAUTH2" in caplog.text


def test_a_token_without_an_account_stops_the_app(make_app: AppFactory) -> None:
    with pytest.raises(ConfigError, match=r"^OTP_EMAIL_OAUTH needs MAIL_USERNAME"):
        make_app(MAIL_SERVER="localhost", OTP_EMAIL_OAUTH=lambda: "token")


@pytest.mark.parametrize("service", ["outlook", "office365"])
@pytest.mark.parametrize("oauth", [None, lambda: "token"])
def test_doctor_says_that_microsoft_takes_no_password(
    make_app: AppFactory, service: str, oauth: Callable[[], str] | None
) -> None:
    account = {"MAIL_USERNAME": SENDER, "MAIL_PASSWORD": "secret", "MAIL_SERVER": "127.0.0.1", "MAIL_PORT": free_port()}
    app = make_app(OTP_EMAIL_SERVICE=service, OTP_EMAIL_OAUTH=oauth, **account)
    findings = json.loads(app.test_cli_runner().invoke(args=["otp", "doctor", "--json"]).stdout)["findings"]
    assert ["Microsoft" in finding["what"] for finding in findings].count(True) == (0 if oauth else 1)


# Flags as text


@pytest.mark.parametrize("no", [False, "False", "false", " no ", "off", "0", 0])
@pytest.mark.parametrize("key", ["MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_SUPPRESS_SEND"])
def test_a_flag_of_mail_that_says_no_means_no(make_app: AppFactory, key: str, no: Any) -> None:
    with serving() as inbox:
        assert send(make_app(**mail_config(inbox.port, **{key: no}))).status_code == 200
        assert len(inbox.envelopes) == 1


@pytest.mark.parametrize("yes", [True, "True", "yes", "ON", "1", 1])
def test_a_flag_of_mail_that_says_yes_means_yes(make_app: AppFactory, yes: Any) -> None:
    with serving() as inbox:
        assert send(make_app(**mail_config(inbox.port, MAIL_SUPPRESS_SEND=yes))).status_code == 200
        assert len(inbox.envelopes) == 0


@pytest.mark.parametrize("neither", ["", "maybe", 2, [], "None"])
@pytest.mark.parametrize("key", ["MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_SUPPRESS_SEND"])
def test_a_flag_of_mail_that_says_neither_stops_the_app(make_app: AppFactory, key: str, neither: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{key} must be True or False"):
        make_app(MAIL_SERVER="localhost", **{key: neither})
