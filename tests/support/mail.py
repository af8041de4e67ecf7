"""A real mail server that keeps what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import email
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default as parsing
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.apps import free_port

SENDER = "codes@shop.example"


PASSWORD = "hunter2-hunter2"


TIMEOUT = 1


#: What a busy machine may need on top of it. A server that drips goes on for longer than both.
SLACK = 4


@dataclass
class Inbox:
    """An aiosmtpd handler: keeps the envelopes and the logins, and says what the test wants it to say."""

    rcpt_reply: str = "250 OK"
    data_reply: str = "250 OK"
    login_ok: bool = True
    envelopes: list[Envelope] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    over_tls: list[bool] = field(default_factory=list)
    connections: int = 0
    open: set[SMTP] = field(default_factory=set)
    port: int = 0

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return responses

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if self.rcpt_reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return self.rcpt_reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.data_reply.startswith("2"):
            self.envelopes.append(envelope)
            self.over_tls.append(session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None)
        return self.data_reply

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=self.login_ok, handled=self.login_ok)

    def content(self) -> bytes:
        assert len(self.envelopes) == 1
        content = self.envelopes[0].content
        assert isinstance(content, bytes)
        return content

    def mail(self) -> EmailMessage:
        parsed = email.message_from_bytes(self.content(), policy=parsing)
        assert isinstance(parsed, EmailMessage)
        return parsed

    def text(self) -> str:
        return body(self.mail(), "plain")

    def code(self) -> str:
        return re.findall(r"\b\d{6}\b", self.text())[0]


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


class _Server(SMTP):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.event_handler.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.event_handler.open.discard(self)


class _Controller(Controller):
    def factory(self) -> SMTP:
        self.handler.connections += 1
        return _Server(self.handler, **self.SMTP_kwargs)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextlib.contextmanager
def serving(
    inbox: Inbox | None = None,
    *,
    starttls: ssl.SSLContext | None = None,
    implicit: ssl.SSLContext | None = None,
    auth: bool = False,
    exclude: Iterable[str] = (),
) -> Iterator[Inbox]:
    """
    :param exclude: ways to sign in that it does not offer.
    """
    inbox = inbox or Inbox()
    inbox.port = free_port()
    options: dict[str, Any] = {"authenticator": inbox.authenticate, "auth_require_tls": False} if auth else {}
    if exclude:
        options["auth_exclude_mechanism"] = exclude
    if starttls is not None:
        options["tls_context"] = starttls
    controller = _Controller(inbox, hostname="127.0.0.1", port=inbox.port, ssl_context=implicit, **options)
    controller.start()  # and connects once, to see that it works
    inbox.connections = 0
    try:
        yield inbox
    finally:
        # Give the server time to see that its clients have gone. Otherwise it leaves a socket open.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.03), controller.loop).result()
        wait_until(lambda: not inbox.open)
        controller.stop()


def mail_config(port: int, **config: Any) -> dict[str, Any]:
    return {
        "MAIL_SERVER": "localhost",
        "MAIL_PORT": port,
        "MAIL_DEFAULT_SENDER": SENDER,
        "MAIL_SUPPRESS_SEND": False,
        "OTP_EMAIL_TIMEOUT": 5,
        **config,
    }
