"""The e-mail channel against real servers: what arrives, whom it trusts, and how long a bad server can hold it."""

from __future__ import annotations

import contextlib
import email
import itertools
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from email.header import decode_header, make_header
from email.policy import default as parsing
from email.utils import getaddresses
from pathlib import Path
from typing import Any

import pytest
import trustme
from flask import Flask
from flask_mail import Mail
from werkzeug.test import TestResponse

from flask_otp import OTP, ConfigError
from flask_otp.testing import Clock
from tests.support.apps import SECRET, AppFactory, certified, free_port
from tests.support.mail import (
    PASSWORD,
    SENDER,
    SLACK,
    TIMEOUT,
    Inbox,
    body,
    mail_config,
    serving,
    wait_until,
)

pytestmark = pytest.mark.server

ANN = "ann@example.com"


# A real server that keeps what it gets


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """A server without encryption."""
    with serving() as inbox:
        yield inbox


LOGIN = {"MAIL_USERNAME": SENDER, "MAIL_PASSWORD": PASSWORD}


def send(app: Flask, identifier: str = ANN) -> TestResponse:
    return app.test_client().post("/otp/send", json={"email": identifier})


def reason(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, (answer.get_json() or {}).get("reason")


SENT = (200, None)
FAILED = (503, "delivery_failed")


# What arrives


def test_a_code_arrives_by_mail_and_verifies(make_app: AppFactory, inbox: Inbox) -> None:
    client = make_app(**mail_config(inbox.port)).test_client()
    assert client.post("/otp/send", json={"email": ANN}).status_code == 200
    assert client.post("/otp/verify", json={"code": inbox.code()}).status_code == 200


def test_r31_it_goes_to_exactly_one_recipient(make_app: AppFactory, inbox: Inbox) -> None:
    send(make_app(**mail_config(inbox.port)), " Ann@EXAMPLE.com")
    assert inbox.envelopes[0].rcpt_tos == [ANN]
    assert inbox.mail()["To"] == ANN
    assert inbox.mail()["Cc"] is None
    assert inbox.mail()["Bcc"] is None


@pytest.mark.parametrize(
    "loaded", [f"{ANN}, eve@evil.example", f"{ANN}\r\nBcc: eve@evil.example", f"{ANN}\nTo: eve@evil.example"]
)
def test_r31_not_even_the_apps_own_loader_makes_two_recipients(make_app: AppFactory, inbox: Inbox, loaded: str) -> None:
    otp = OTP()
    otp.recipient_loader(lambda identifier, channel: loaded)
    assert reason(send(make_app(otp, **mail_config(inbox.port, OTP_DELIVERY="inline")))) == FAILED
    assert inbox.envelopes == []


def test_the_mail_has_a_text_and_an_html_part_with_the_same_code(make_app: AppFactory, inbox: Inbox) -> None:
    send(make_app(**mail_config(inbox.port)))
    assert inbox.mail().is_multipart()
    assert inbox.code() in body(inbox.mail(), "html")
    assert body(inbox.mail(), "html").startswith("<!doctype html>")


def test_the_subject_holds_no_code(make_app: AppFactory, inbox: Inbox) -> None:
    send(make_app(**mail_config(inbox.port)))
    assert inbox.mail()["Subject"] == "Your code to sign in to site"
    headers = str(inbox.mail()).partition("\n\n")[0]
    assert inbox.code() not in headers


def test_the_mail_says_that_a_machine_wrote_it(make_app: AppFactory, inbox: Inbox) -> None:
    send(make_app(**mail_config(inbox.port)))
    assert inbox.mail()["Auto-Submitted"] == "auto-generated"
    assert inbox.mail()["Date"] is not None


def test_its_headers_are_these_and_no_others(make_app: AppFactory, inbox: Inbox) -> None:
    """No X-Mailer, no List-Unsubscribe, no Precedence, nothing that counts who opens it."""
    send(make_app(**mail_config(inbox.port, OTP_EMAIL_REPLY_TO="help@käufer.example")))
    mail = inbox.mail()
    assert set(map(str.lower, mail.keys())) - {"x-peer", "x-mailfrom", "x-rcptto"} == {
        "subject", "from", "to", "reply-to", "date", "message-id", "references", "auto-submitted",
        "x-auto-response-suppress", "mime-version", "content-type",
    }  # fmt: skip
    assert mail["Reply-To"] == "help@xn--kufer-gra.example"
    assert mail["X-Auto-Response-Suppress"] == "All"
    assert mail["Date"].datetime.utcoffset() == timedelta(0)
    assert abs(mail["Date"].datetime.timestamp() - time.time()) < 60


def test_without_a_reply_address_answers_go_to_the_sender(make_app: AppFactory, inbox: Inbox) -> None:
    send(make_app(**mail_config(inbox.port)))
    assert inbox.mail()["Reply-To"] is None


@pytest.mark.parametrize("address", ["", "help", "a@b.example, c@d.example", "a@b.example\nBcc: c@d.example", 7])
def test_r31_a_reply_address_that_is_not_one_stops_the_app(make_app: AppFactory, address: Any) -> None:
    with pytest.raises(ConfigError, match="OTP_EMAIL_REPLY_TO"):
        make_app(OTP_EMAIL_REPLY_TO=address)


def test_it_is_an_alternative_of_two_texts_and_nothing_around_it(make_app: AppFactory, inbox: Inbox) -> None:
    send(make_app(**mail_config(inbox.port, OTP_SITE_NAME="Café")))
    mail = inbox.mail()
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    for part in mail.iter_parts():
        assert part.get_content_charset() == "utf-8"
        assert part["Content-Transfer-Encoding"] == "quoted-printable"
        assert part["Content-Disposition"] is None
    content = inbox.content()
    assert content.isascii()
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert max(map(len, content.split(b"\r\n"))) <= 78


def test_in_both_texts_the_code_is_a_line_of_its_own_on_the_wire(make_app: AppFactory, inbox: Inbox) -> None:
    """Elsewhere in a long line, the encoding might part it, and a log that quotes the mail show it in two pieces."""
    send(make_app(**mail_config(inbox.port)))
    lines = [line.strip() for line in inbox.content().decode().splitlines()]
    assert lines.count(inbox.code()) == 2


def test_an_empty_html_template_makes_plain_mails(tmp_path: Path, inbox: Inbox) -> None:
    (tmp_path / "flask_otp").mkdir()
    (tmp_path / "flask_otp" / "email.html").write_text("", encoding="utf-8")
    app = Flask("site", template_folder=str(tmp_path))
    app.config.update(SECRET_KEY=SECRET, TESTING=True, OTP_STORAGE_URI="memory://", **mail_config(inbox.port))
    OTP(app)
    assert reason(send(app)) == SENT
    assert inbox.mail().get_content_type() == "text/plain"
    assert inbox.code() in inbox.mail().get_content()


def test_each_mail_begins_a_conversation_of_its_own(make_app: AppFactory, inbox: Inbox, clock: Clock) -> None:
    """Gmail puts mails of one subject together, unless they refer to different ones, and hides what they repeat."""
    client = make_app(**mail_config(inbox.port)).test_client()
    client.post("/otp/send", json={"email": ANN})
    clock.advance("30s")
    client.post("/otp/resend", json={})
    first, second = (email.message_from_bytes(envelope.content, policy=parsing) for envelope in inbox.envelopes)
    assert first["Subject"] == second["Subject"]
    named = [mail[name] for mail in (first, second) for name in ("Message-ID", "References")]
    assert len(set(named)) == 4
    for name in named:
        assert re.fullmatch(r"<[^@<>\s]+@shop\.example>", name)


def test_the_name_of_the_machine_is_not_in_the_mail(
    make_app: AppFactory, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda name="": "worker-7.internal")
    send(make_app(**mail_config(inbox.port)))
    assert b"worker-7" not in inbox.content()


@pytest.mark.parametrize(
    "name",
    [
        "Shop, Inc. of a very long name, one that goes on and on <eve@evil.example>, and on, until it is too long",
        'A "quoted" name (of a shop); a: b',
        "日本語のとても長い店の名前" * 5,
        "Café, the very long name of a shop that goes on and on, and on, ünd on until it is too long",
    ],
)
def test_r31_a_long_name_is_folded_and_stays_one_sender(make_app: AppFactory, inbox: Inbox, name: str) -> None:
    """The standard library's newer policies lose the quotes of such names, and make several senders of one."""
    config = mail_config(inbox.port, MAIL_DEFAULT_SENDER=(name, SENDER), OTP_SITE_NAME=name)
    assert reason(send(make_app(**config))) == SENT
    assert inbox.envelopes[0].mail_from == SENDER
    head = inbox.content().partition(b"\r\n\r\n")[0]
    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert not re.search(rb"^[\w-]+: *\r", head, re.MULTILINE)  # no header that looks empty at first
    # As it is on the wire, since the newer parser puts spaces between encoded words.
    plain = email.message_from_bytes(inbox.content())
    assert str(make_header(decode_header(plain["Subject"]))).replace("\r\n", "") == f"Your code to sign in to {name}"
    [(shown, address)] = getaddresses([plain["From"].replace("\r\n", "")])
    assert str(make_header(decode_header(shown))) == name
    assert address == SENDER


@pytest.mark.parametrize(
    "sender", ["Shop, Inc. <codes@shop.example>", "shop", ("Shop", ""), ("Shop",), (SENDER, "Shop"), f"{SENDER}, {ANN}"]
)
def test_r31_a_sender_that_is_not_one_address_sends_nothing_and_the_log_says_why(
    make_app: AppFactory, inbox: Inbox, caplog: pytest.LogCaptureFixture, sender: Any
) -> None:
    assert reason(send(make_app(**mail_config(inbox.port, MAIL_DEFAULT_SENDER=sender)))) == FAILED
    assert inbox.envelopes == []
    assert "MAIL_DEFAULT_SENDER is not one address" in caplog.text


@pytest.mark.parametrize("port", ["", "abc", None, [587]])
def test_a_port_that_is_no_number_is_named(make_app: AppFactory, port: Any) -> None:
    with pytest.raises(ConfigError, match="MAIL_PORT must be a number such as 587"):
        send(make_app(MAIL_SERVER="localhost", MAIL_DEFAULT_SENDER=SENDER, MAIL_PORT=port))


def test_a_domain_beyond_ascii_is_written_in_ascii_throughout(make_app: AppFactory, inbox: Inbox) -> None:
    assert reason(send(make_app(**mail_config(inbox.port, MAIL_DEFAULT_SENDER="codes@käufer.example")))) == SENT
    assert inbox.envelopes[0].mail_from == "codes@xn--kufer-gra.example"
    assert inbox.mail()["From"] == "codes@xn--kufer-gra.example"
    assert str(inbox.mail()["Message-ID"]).endswith("@xn--kufer-gra.example>")


@pytest.mark.parametrize(
    ("sender", "header"),
    [
        (SENDER, SENDER),
        (f"Shop <{SENDER}>", f"Shop <{SENDER}>"),
        (("Shop", SENDER), f"Shop <{SENDER}>"),
        (("Shop, Inc.", SENDER), f'"Shop, Inc." <{SENDER}>'),
        (["Shop", SENDER], f"Shop <{SENDER}>"),  # as a TOML or JSON file gives it
        (("Café", SENDER), f"Café <{SENDER}>"),
    ],
)
def test_the_sender_may_have_a_name_and_the_message_id_is_of_its_domain(
    make_app: AppFactory, inbox: Inbox, sender: Any, header: str
) -> None:
    assert reason(send(make_app(**mail_config(inbox.port, MAIL_DEFAULT_SENDER=sender)))) == SENT
    assert inbox.mail()["From"] == header
    assert inbox.envelopes[0].mail_from == SENDER
    assert re.fullmatch(r"<[^@<>\s]+@shop\.example>", str(inbox.mail()["Message-ID"]).strip())


def test_a_user_name_that_is_an_address_is_the_sender(make_app: AppFactory) -> None:
    with serving(auth=True) as inbox:
        send(make_app(**mail_config(inbox.port, **LOGIN) | {"MAIL_DEFAULT_SENDER": None}))
    assert inbox.envelopes[0].mail_from == SENDER


def test_a_user_name_that_is_no_address_never_becomes_the_sender(make_app: AppFactory) -> None:
    """At some providers it is a secret token."""
    config = {"MAIL_USERNAME": "token-1234", "MAIL_PASSWORD": PASSWORD, "MAIL_DEFAULT_SENDER": None}
    with serving(auth=True) as inbox:
        assert reason(send(make_app(**mail_config(inbox.port) | config))) == FAILED
    assert inbox.envelopes == []


def test_without_a_sender_the_log_says_what_to_set(
    make_app: AppFactory, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    assert reason(send(make_app(**mail_config(inbox.port, MAIL_DEFAULT_SENDER=None)))) == FAILED
    assert "MAIL_DEFAULT_SENDER" in caplog.text


def test_a_site_name_beyond_ascii_arrives_whole(make_app: AppFactory, inbox: Inbox) -> None:
    send(make_app(**mail_config(inbox.port, OTP_SITE_NAME="Café <&> Söhne")))
    assert inbox.mail()["Subject"] == "Your code to sign in to Café <&> Söhne"
    assert "Café <&> Söhne" in inbox.text()
    assert "Café &lt;&amp;&gt; Söhne" in body(inbox.mail(), "html")


@pytest.mark.parametrize("fact", ["", "<" * 480, "é" * 80])
def test_no_line_of_a_mail_is_longer_than_smtp_allows(make_app: AppFactory, inbox: Inbox, fact: str) -> None:
    """RFC 5321 4.5.3.1.6: servers refuse such a mail, or break the line, and with it the HTML, anywhere."""
    otp = OTP()
    with make_app(otp, **mail_config(inbox.port)).app_context():
        otp.send(ANN, context={"payee": fact})
    assert max(map(len, inbox.content().split(b"\r\n"))) <= 998
    assert fact in inbox.text()


def test_one_message_takes_one_connection_whatever_mail_max_emails_says(make_app: AppFactory, inbox: Inbox) -> None:
    assert reason(send(make_app(**mail_config(inbox.port, MAIL_MAX_EMAILS=1)))) == SENT
    assert inbox.connections == 1


# Encryption and log-in


def test_starttls_with_a_trusted_certificate_logs_in_and_sends(make_app: AppFactory, trusted: ssl.SSLContext) -> None:
    with serving(starttls=trusted, auth=True) as inbox:
        assert reason(send(make_app(**mail_config(inbox.port, MAIL_USE_TLS=True, **LOGIN)))) == SENT
    assert inbox.over_tls == [True]
    assert inbox.logins == [(SENDER.encode(), PASSWORD.encode())]


def test_implicit_tls_with_a_trusted_certificate_logs_in_and_sends(
    make_app: AppFactory, trusted: ssl.SSLContext
) -> None:
    with serving(implicit=trusted, auth=True) as inbox:
        assert reason(send(make_app(**mail_config(inbox.port, MAIL_USE_SSL=True, **LOGIN)))) == SENT
    assert inbox.over_tls == [True]
    assert inbox.logins == [(SENDER.encode(), PASSWORD.encode())]


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
@pytest.mark.parametrize("flaw", ["untrusted authority", "other host", "untrusted in debug"])
def test_a_bad_certificate_is_refused_before_the_password_is_sent(
    make_app: AppFactory, trusted: ssl.SSLContext, authority: trustme.CA, kind: str, flaw: str
) -> None:
    bad = certified(authority, "elsewhere.example") if flaw == "other host" else certified(trustme.CA())
    uses = {"MAIL_USE_TLS": kind == "starttls", "MAIL_USE_SSL": kind == "implicit"}
    with serving(**{kind: bad}, auth=True) as inbox:  # type: ignore[arg-type]
        app = make_app(**mail_config(inbox.port, **uses, **LOGIN, DEBUG=flaw.endswith("debug")))
        assert reason(send(app)) == FAILED
    assert inbox.logins == []
    assert inbox.envelopes == []


def test_a_server_that_hides_starttls_gets_no_password(make_app: AppFactory) -> None:
    with serving(auth=True) as inbox:
        assert reason(send(make_app(**mail_config(inbox.port, MAIL_USE_TLS=True, **LOGIN)))) == FAILED
    assert inbox.logins == []
    assert inbox.envelopes == []


# What the server refuses


def test_a_refusal_is_delivery_failed_and_the_next_code_is_another(make_app: AppFactory, clock: Clock) -> None:
    made: list[str] = []
    otp = OTP(clock=clock)
    otp.before_send(lambda message: made.append(message.code))
    with serving(Inbox(rcpt_reply="550 no such user")) as inbox:
        client = make_app(otp, **mail_config(inbox.port)).test_client()
        answer = client.post("/otp/send", json={"email": ANN})
        assert reason(answer) == FAILED
        assert answer.content_type == "application/problem+json"
        assert int(answer.headers["Retry-After"]) > 0
        assert reason(client.post("/otp/verify", json={"code": made[0]})) == (400, "challenge_required")
        inbox.rcpt_reply = "250 OK"
        clock.advance("30s")
        assert reason(client.post("/otp/send", json={"email": ANN})) == SENT
    # The same session would have got the same code again, had its challenge still been there.
    assert made[1] != made[0]
    assert inbox.code() == made[1]


@pytest.mark.parametrize(
    "refusal",
    [
        {"rcpt_reply": "550 no such user"},
        {"rcpt_reply": "450 try later"},
        {"data_reply": "552 too much"},
        {"login_ok": False},
    ],
    ids=str,
)
def test_a_refusal_gives_the_count_back_but_not_the_cooldown(
    make_app: AppFactory, clock: Clock, refusal: dict[str, Any]
) -> None:
    with serving(Inbox(**refusal), auth=True) as inbox:
        app = make_app(**mail_config(inbox.port, OTP_SEND_LIMIT="1/day", **LOGIN))
        assert reason(send(app)) == FAILED
        cooling = send(app)
        assert reason(cooling) == (429, "rate_limited")
        assert int(cooling.headers["Retry-After"]) == 30
        inbox.rcpt_reply = inbox.data_reply = "250 OK"
        inbox.login_ok = True
        clock.advance("30s")
        assert reason(send(app)) == SENT
        clock.advance("30s")
        assert reason(send(app)) == (429, "rate_limited")
    assert len(inbox.envelopes) == 1


@pytest.mark.parametrize("quoted", [ANN, ANN.upper(), f"<{ANN}>"])
def test_r34_a_refusal_that_quotes_the_address_is_logged_without_it(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture, quoted: str
) -> None:
    with serving(Inbox(rcpt_reply=f"550 {quoted} is unknown here")) as inbox:
        assert reason(send(make_app(**mail_config(inbox.port)))) == FAILED
    assert "550" in caplog.text
    assert ANN not in caplog.text.lower()


def test_nobody_listening_is_delivery_failed(make_app: AppFactory) -> None:
    assert reason(send(make_app(**mail_config(free_port())))) == FAILED


# Servers that hang or drip


class SlowServer:
    """Speaks SMTP as far as one stage; there it says nothing more, or one byte at a time, until it is cut off."""

    def __init__(self, stage: str, *, drips: bool, tls: ssl.SSLContext) -> None:
        self.stage = stage
        self.tls = tls
        self.drips = drips
        self.cut = threading.Event()
        self.content: bytes | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def config(self) -> dict[str, Any]:
        config = mail_config(self.port, OTP_EMAIL_TIMEOUT=TIMEOUT)
        if self.stage in ("implicit", "tls-banner"):
            config["MAIL_USE_SSL"] = True
        if self.stage in ("starttls", "handshake", "tls-ehlo"):
            config["MAIL_USE_TLS"] = True
        if self.stage == "auth":
            config |= LOGIN
        return config

    def _serve(self) -> None:
        self.listener.settimeout(20)
        with contextlib.suppress(OSError), self.listener, contextlib.ExitStack() as opened:
            connection = opened.enter_context(self.listener.accept()[0])
            connection.settimeout(20)
            try:
                self._talk(connection, opened)
            except OSError:
                self.cut.set()  # before it got as far as its stage: the machine is busy

    def _talk(self, connection: socket.socket, opened: contextlib.ExitStack) -> None:
        def say(stage: str, reply: str) -> None:
            if stage == self.stage:
                self._stall(connection, b"2")
            else:
                connection.sendall(f"{reply}\r\n".encode())

        if self.stage == "implicit":
            return self._stall(connection, b"\0", b"\x16\x03\x03\x3f\xff")
        if self.stage == "tls-banner":
            connection = opened.enter_context(self.tls.wrap_socket(connection, server_side=True))
        say("tls-banner" if self.stage == "tls-banner" else "banner", "220 slow")
        lines = opened.enter_context(connection.makefile("rb"))
        for line in lines:
            verb = line[:4].upper().decode()
            if verb == "EHLO":
                say("ehlo", "250-slow\r\n250-STARTTLS\r\n250 AUTH PLAIN")
            elif verb == "STAR":
                say("starttls", "220 go")
                if self.stage == "handshake":
                    return self._stall(connection, b"\0", b"\x16\x03\x03\x3f\xff")
                connection = opened.enter_context(self.tls.wrap_socket(connection, server_side=True))
                connection.recv(100)  # EHLO once more
                say("tls-ehlo", "")
            elif verb == "AUTH":
                say("auth", "235 welcome")
            elif verb == "DATA":
                say("data", "354 go on")
                content = list(itertools.takewhile(lambda line: line != b".\r\n", lines))
                self.content = b"".join(content) or None
                say("content", "250 taken")
            elif verb == "QUIT":
                return say("quit", "221 bye")
            else:
                say("other", "250 OK")
        return self.cut.set()  # before it got as far as its stage, as above

    def _stall(self, connection: socket.socket, drop: bytes, first: bytes = b"") -> None:
        end = time.monotonic() + TIMEOUT + 2 * SLACK
        try:
            connection.sendall(first if self.drips else b"")
            while time.monotonic() < end:
                if select.select([connection], [], [], 0.1)[0] and connection.recv(4096) == b"":
                    return self.cut.set()
                if self.drips:
                    connection.sendall(drop)
        except OSError:
            self.cut.set()
        return None


@dataclass
class Outcome:
    answer: tuple[int, str | None]
    seconds: float
    server: SlowServer


STAGES = (
    "banner", "ehlo", "starttls", "handshake", "tls-ehlo", "implicit", "tls-banner", "auth", "data", "content", "quit",
)  # fmt: skip
CASES = [(stage, drips) for stage in STAGES for drips in (False, True)]


def case_name(value: object) -> str:
    return {False: "hangs", True: "drips"}[value] if isinstance(value, bool) else str(value)


def slow_site(config: dict[str, Any]) -> Flask:
    app = Flask("site")
    app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://", **config)
    OTP(app)
    return app


def timed(app: Flask) -> tuple[tuple[int, str | None], float]:
    started = time.monotonic()
    answer = reason(send(app))
    return answer, time.monotonic() - started


def wait_for_mail_threads() -> None:
    wait_until(lambda: not any(thread.name == "flask_otp-channel" for thread in threading.enumerate()))


@pytest.fixture(scope="module")
def outcomes(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Outcome]:
    """Ask all slow servers at the same time. Together they then take no longer than one."""

    def ask(case: tuple[str, bool]) -> Outcome:
        server = SlowServer(case[0], drips=case[1], tls=certified(authority))
        return Outcome(*timed(slow_site(server.config)), server)

    path = str(tmp_path_factory.mktemp("slow") / "ca.pem")
    authority.cert_pem.write_to_path(path)
    with pytest.MonkeyPatch.context() as environment, ThreadPoolExecutor(len(CASES)) as pool:
        environment.setenv("SSL_CERT_FILE", path)
        return dict(zip(CASES, pool.map(ask, CASES), strict=True))


@pytest.mark.parametrize(("stage", "drips"), CASES, ids=case_name)
def test_a_slow_server_holds_the_request_no_longer_than_the_timeout(
    outcomes: dict[tuple[str, bool], Outcome], stage: str, drips: bool
) -> None:
    outcome = outcomes[stage, drips]
    assert outcome.seconds < TIMEOUT + SLACK
    # By the time of QUIT the server has taken the message: to call that a failure would void a code that arrives.
    assert outcome.answer == (SENT if stage == "quit" else FAILED)


@pytest.mark.parametrize(("stage", "drips"), CASES, ids=case_name)
def test_the_connection_to_a_slow_server_is_cut_and_nothing_is_delivered_late(
    outcomes: dict[tuple[str, bool], Outcome], stage: str, drips: bool
) -> None:
    server = outcomes[stage, drips].server
    assert server.cut.wait(TIMEOUT + SLACK)
    if stage not in ("content", "quit"):  # there it had all of the message before it stalled
        assert server.content is None


def test_no_thread_is_left_with_a_slow_server(outcomes: dict[tuple[str, bool], Outcome]) -> None:
    wait_for_mail_threads()


def test_a_server_that_takes_no_connection_holds_the_request_no_longer_than_the_timeout() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # fills the queue of connections that wait to be accepted
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        config = mail_config(listener.getsockname()[1], MAIL_SERVER="127.0.0.1", OTP_EMAIL_TIMEOUT=TIMEOUT)
        answer, seconds = timed(slow_site(config))
    assert answer == FAILED
    assert seconds < TIMEOUT + SLACK


def test_a_slow_name_lookup_holds_nobody_and_delivers_nothing_late(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, release = socket.getaddrinfo, threading.Event()

    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.example":
            release.wait(30)
            host = "127.0.0.1"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    config = mail_config(inbox.port, MAIL_SERVER="slow.example", OTP_EMAIL_TIMEOUT=TIMEOUT)
    answer, seconds = timed(slow_site(config))
    assert answer == FAILED
    assert seconds < TIMEOUT + SLACK
    release.set()
    wait_for_mail_threads()
    assert inbox.envelopes == []


# Beside Flask-Mail


@pytest.mark.parametrize("made", ["before", "after", "never"])
def test_flask_mail_may_be_set_up_before_or_after_or_not_at_all(make_app: AppFactory, inbox: Inbox, made: str) -> None:
    app = Flask("site")
    app.config.update(SECRET_KEY=SECRET, TESTING=True, OTP_STORAGE_URI="memory://", **mail_config(inbox.port))
    if made == "before":
        Mail(app)
    OTP(app)
    if made == "after":
        Mail(app)
    assert reason(send(app)) == SENT
    assert len(inbox.envelopes) == 1


def test_what_a_service_fills_in_counts_although_flask_mail_was_there_first(trusted: ssl.SSLContext) -> None:
    with serving(starttls=trusted) as inbox:
        app = Flask("site")
        config = mail_config(inbox.port, OTP_EMAIL_SERVICE="gmail")
        app.config.update(SECRET_KEY=SECRET, TESTING=True, OTP_STORAGE_URI="memory://", **config)
        Mail(app)
        OTP(app)
        assert reason(send(app)) == SENT
    assert inbox.over_tls == [True]


@pytest.mark.parametrize("made", ["before", "after"])
def test_record_messages_sees_the_mail_of_a_testing_app_and_nothing_is_sent(inbox: Inbox, made: str) -> None:
    config = mail_config(inbox.port)
    del config["MAIL_SUPPRESS_SEND"]
    app = Flask("site")
    app.config.update(SECRET_KEY=SECRET, TESTING=True, OTP_STORAGE_URI="memory://", **config)
    mail = Mail(app) if made == "before" else Mail()
    OTP(app)
    if made == "after":
        mail.init_app(app)
    with mail.record_messages() as recorded:
        assert reason(send(app)) == SENT
    assert [message.recipients for message in recorded] == [[ANN]]
    assert re.search(r"\b\d{6}\b", recorded[0].body or "")
    assert inbox.connections == 0


@pytest.mark.parametrize("config", [{"MAIL_SUPPRESS_SEND": True, "TESTING": False}, {"TESTING": True}], ids=str)
def test_suppressed_mail_opens_no_connection(make_app: AppFactory, inbox: Inbox, config: dict[str, Any]) -> None:
    wanted = mail_config(inbox.port)
    del wanted["MAIL_SUPPRESS_SEND"]
    assert reason(send(make_app(**wanted | config))) == SENT
    assert inbox.connections == 0


def test_an_app_that_begins_testing_late_sends_no_mail_either(make_app: AppFactory, inbox: Inbox) -> None:
    wanted = mail_config(inbox.port, TESTING=False)
    del wanted["MAIL_SUPPRESS_SEND"]
    app = make_app(**wanted)
    app.testing = True
    assert reason(send(app)) == SENT
    assert inbox.connections == 0


@pytest.mark.parametrize("config", [{"MAIL_DEBUG": 1}, {"MAIL_DEBUG": True, "DEBUG": True}, {"DEBUG": True}], ids=str)
def test_r34_debugging_prints_neither_the_code_nor_the_password(
    make_app: AppFactory, capfd: pytest.CaptureFixture[str], config: dict[str, Any]
) -> None:
    with serving(auth=True) as inbox:
        assert reason(send(make_app(**mail_config(inbox.port, **LOGIN, **config)))) == SENT
    printed = "".join(capfd.readouterr())
    assert inbox.code() not in printed
    assert "Auto-Submitted" not in printed
    assert PASSWORD not in printed
    assert ANN not in printed


# OTP_EMAIL_SERVICE

SERVICES = {
    "gmail": ("smtp.gmail.com", 587),
    "outlook": ("smtp-mail.outlook.com", 587),
    "office365": ("smtp.office365.com", 587),
    "icloud": ("smtp.mail.me.com", 587),
    "yahoo": ("smtp.mail.yahoo.com", 465),
    "zoho": ("smtp.zoho.com", 465),
    "fastmail": ("smtp.fastmail.com", 465),
    "sendgrid": ("smtp.sendgrid.net", 587),
    "mailgun": ("smtp.mailgun.org", 587),
    "postmark": ("smtp.postmarkapp.com", 587),
}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_fills_in_server_port_and_encryption(make_app: AppFactory, service: str) -> None:
    config = make_app(OTP_EMAIL_SERVICE=service).config
    assert (config["MAIL_SERVER"], config["MAIL_PORT"]) == SERVICES[service]
    kind = "MAIL_USE_SSL" if config["MAIL_PORT"] == 465 else "MAIL_USE_TLS"
    assert config[kind] is True


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_leaves_what_the_app_has_set(make_app: AppFactory, service: str) -> None:
    own: dict[str, Any] = {"MAIL_SERVER": "relay.example", "MAIL_PORT": 2525, "MAIL_DEFAULT_SENDER": "me@shop.example"}
    own |= {"MAIL_USE_TLS": False, "MAIL_USE_SSL": False}
    for key, value in own.items():
        assert make_app(OTP_EMAIL_SERVICE=service, MAIL_USERNAME=SENDER, **{key: value}).config[key] == value


def test_a_service_fills_in_what_is_set_to_none(make_app: AppFactory) -> None:
    """As ``app.config["MAIL_SERVER"] = os.environ.get("MAIL_SERVER")`` leaves it."""
    config = make_app(OTP_EMAIL_SERVICE="gmail", MAIL_SERVER=None, MAIL_PORT=None).config
    assert (config["MAIL_SERVER"], config["MAIL_PORT"]) == SERVICES["gmail"]


def test_a_service_does_not_add_the_other_kind_of_tls(make_app: AppFactory) -> None:
    config = make_app(OTP_EMAIL_SERVICE="gmail", MAIL_PORT=465, MAIL_USE_SSL=True).config
    assert not config.get("MAIL_USE_TLS")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_fills_in_its_port_although_the_app_repeats_its_encryption(
    make_app: AppFactory, service: str
) -> None:
    port = SERVICES[service][1]
    kind = "MAIL_USE_SSL" if port == 465 else "MAIL_USE_TLS"
    assert make_app(OTP_EMAIL_SERVICE=service, **{kind: True}).config.get("MAIL_PORT") == port


def test_the_user_name_is_the_sender_of_a_service_where_it_is_an_address(make_app: AppFactory) -> None:
    config = make_app(OTP_EMAIL_SERVICE="gmail", MAIL_USERNAME="me@gmail.com").config
    assert config["MAIL_DEFAULT_SENDER"] == "me@gmail.com"
    assert "MAIL_DEFAULT_SENDER" not in make_app(OTP_EMAIL_SERVICE="sendgrid", MAIL_USERNAME="apikey").config


def test_an_unknown_service_stops_the_app_and_names_the_known_ones(make_app: AppFactory) -> None:
    with pytest.raises(ConfigError, match=r"OTP_EMAIL_SERVICE.*gmial.*gmail"):
        make_app(OTP_EMAIL_SERVICE="gmial")


def test_both_kinds_of_tls_stop_the_app(make_app: AppFactory) -> None:
    with pytest.raises(ConfigError, match="MAIL_USE_TLS and MAIL_USE_SSL"):
        make_app(MAIL_SERVER="mail.example", MAIL_USE_TLS=True, MAIL_USE_SSL=True)


@pytest.mark.parametrize("config", [{"MAIL_SERVER": "mail.example"}, {"OTP_EMAIL_SERVICE": "gmail"}], ids=str)
def test_email_is_the_channel_where_mail_is_configured(make_app: AppFactory, config: dict[str, Any]) -> None:
    answer = send(make_app(MAIL_DEFAULT_SENDER=SENDER, **config))  # testing: nothing goes out
    assert answer.get_json()["channel"] == "email"
