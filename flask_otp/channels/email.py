"""E-mail by Flask-Mail, with what Flask-Mail 0.10 lacks: verified TLS, and a deadline for the whole delivery.

Trust comes from the system's certificate authorities, or from the file that the environment's ``SSL_CERT_FILE`` names.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from email.charset import QP, Charset
from email.mime.text import MIMEText
from email.utils import make_msgid, parseaddr, quote
from types import TracebackType
from typing import Any

from flask import Flask, current_app
from flask_mail import Connection, Mail
from flask_mail import Message as MailMessage

from ..errors import ConfigError
from .base import Channel, Message

#: Whatever a recipient_loader gives: no comma for a second recipient, no line break for a second header.
_ONE_ADDRESS = re.compile(r"[^\s,;:<>()\"@]+@[^\s,;:<>()\"@]+")

#: The submission servers of well-known providers, from their own help pages.
SERVICES: dict[str, dict[str, Any]] = {
    "gmail": {"MAIL_SERVER": "smtp.gmail.com", "MAIL_PORT": 587, "MAIL_USE_TLS": True},
    "outlook": {"MAIL_SERVER": "smtp-mail.outlook.com", "MAIL_PORT": 587, "MAIL_USE_TLS": True},
    "office365": {"MAIL_SERVER": "smtp.office365.com", "MAIL_PORT": 587, "MAIL_USE_TLS": True},
    "icloud": {"MAIL_SERVER": "smtp.mail.me.com", "MAIL_PORT": 587, "MAIL_USE_TLS": True},
    "yahoo": {"MAIL_SERVER": "smtp.mail.yahoo.com", "MAIL_PORT": 465, "MAIL_USE_SSL": True},
    "zoho": {"MAIL_SERVER": "smtp.zoho.com", "MAIL_PORT": 465, "MAIL_USE_SSL": True},
    "fastmail": {"MAIL_SERVER": "smtp.fastmail.com", "MAIL_PORT": 465, "MAIL_USE_SSL": True},
    "sendgrid": {"MAIL_SERVER": "smtp.sendgrid.net", "MAIL_PORT": 587, "MAIL_USE_TLS": True},
    "mailgun": {"MAIL_SERVER": "smtp.mailgun.org", "MAIL_PORT": 587, "MAIL_USE_TLS": True},
    "postmark": {"MAIL_SERVER": "smtp.postmarkapp.com", "MAIL_PORT": 587, "MAIL_USE_TLS": True},
}


def fill_service(config: MutableMapping[str, Any], service: str | None) -> None:
    """Fill in the ``MAIL_*`` keys that are not set from ``OTP_EMAIL_SERVICE``.

    :raises ConfigError: the service is unknown, or both kinds of TLS are asked for.
    """
    if service is not None:
        if service not in SERVICES:
            raise ConfigError(f"OTP_EMAIL_SERVICE: unknown service {service!r}; known are {', '.join(SERVICES)}")
        known = SERVICES[service]
        other = "MAIL_USE_SSL" if "MAIL_USE_TLS" in known else "MAIL_USE_TLS"
        if config.get(other) and config.get("MAIL_PORT") is None:
            raise ConfigError(f"OTP_EMAIL_SERVICE: {service!r} with {other} needs its own MAIL_PORT")
        for key, value in known.items():
            if config.get(key) is None and not (config.get(other) and key.startswith("MAIL_USE_")):
                config[key] = value
    if config.get("MAIL_DEFAULT_SENDER") is None and "@" in str(config.get("MAIL_USERNAME")):
        config["MAIL_DEFAULT_SENDER"] = config["MAIL_USERNAME"]
    if config.get("MAIL_USE_TLS") and config.get("MAIL_USE_SSL"):
        raise ConfigError(
            "MAIL_USE_TLS and MAIL_USE_SSL contradict each other: the first upgrades a plain connection, the second "
            "is encrypted from the start; set one"
        )


class EmailChannel(Channel):
    """Sends by the app's ``MAIL_*`` settings.

    :param timeout: seconds for the whole delivery, from the name look-up to the server's last word.
    """

    accepts = "email"

    def __init__(self, app: Flask, timeout: float) -> None:
        self._app = app
        self._timeout = timeout

    def deliver(self, message: Message) -> None:
        """
        :raises TimeoutError: the deadline passed; the connection is cut.
        :raises Exception: what smtplib or ssl raised.
        """
        mail = _mail(message)
        self._converse(lambda connection: connection.send(mail))

    def probe(self) -> bool:
        """Connect and sign in as a delivery would.

        :raises TimeoutError: the deadline passed.
        :raises Exception: what smtplib or ssl raised.
        """
        self._converse(lambda connection: None)
        return True

    def _converse(self, talk: Callable[[Connection], None]) -> None:
        settings = Mail().init_mail(self._app.config, False, self._app.testing)
        settings.max_emails = None
        connection = _VerifiedConnection(settings, self._timeout)
        done: Future[None] = Future()

        def run() -> None:
            try:
                with self._app.app_context(), connection:
                    talk(connection)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        # A socket's time-out is for one read, so a server that drips would hold us for as long as it likes.
        try:
            threading.Thread(target=run, name="flask_otp-email", daemon=True).start()
        except RuntimeError:
            run()  # the interpreter is ending and starts no thread: this is one of its last deliveries
        try:
            done.result(self._timeout)
        except FutureTimeout:
            connection.cut()
            raise TimeoutError("the mail server took too long") from None


def _mail(message: Message) -> _Mail:
    if not _ONE_ADDRESS.fullmatch(message.recipient):
        raise ValueError("the recipient is not one plain address")
    sender = current_app.config.get("MAIL_DEFAULT_SENDER")
    if not sender:
        raise ConfigError("MAIL_DEFAULT_SENDER is not set: an e-mail needs a sender")
    if isinstance(sender, (tuple, list)):
        # Quoted, not encoded: Flask-Mail encodes it again.
        sender = f'"{quote(sender[0])}" <{sender[1]}>'
    mail = _Mail(
        subject=message.subject,
        recipients=[message.recipient],
        body=message.text,
        html=message.html,
        sender=sender,
        extra_headers={"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"},
    )
    # The sender's domain, not this machine's name, which differs from worker to worker and counts against the mail.
    mail.msgId = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2] or None)
    return mail


class _Mail(MailMessage):
    def _mimetext(self, text: str | None, subtype: str = "plain") -> MIMEText:
        # Flask-Mail sends the text as it is, and servers refuse its long lines (RFC 5321 4.5.3.1.6).
        charset = Charset("utf-8")
        charset.body_encoding = QP
        return MIMEText(text or "", subtype, charset)  # type: ignore[arg-type]


class _VerifiedConnection(Connection):
    """Flask-Mail's connection over a socket that checks certificates, and that can be cut from another thread."""

    def __init__(self, mail: Any, timeout: float) -> None:
        super().__init__(mail)
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._is_cut = False

    def configure_host(self) -> smtplib.SMTP | smtplib.SMTP_SSL:
        mail, context = self.mail, self._tls_context()
        host: smtplib.SMTP = (
            smtplib.SMTP_SSL(mail.server, mail.port, timeout=self._timeout, context=context)
            if mail.use_ssl
            else _SMTP(mail.server, mail.port, self._timeout, self.watch)
        )
        try:
            if mail.use_tls:
                host.starttls(context=context)
            if mail.username and mail.password:
                host.login(mail.username, mail.password)
        except BaseException:
            host.close()
            raise
        return host

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.host is None:
            return
        # QUIT is a courtesy, so its answer is not waited for: the message is accepted by now, or has failed already.
        if error is None:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                self.host.putcmd("quit")
        self.host.close()

    def _tls_context(self) -> ssl.SSLContext:
        watch = self.watch

        class WatchedSocket(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:
                watch(self)
                super().do_handshake(block)

        context = ssl.create_default_context()
        context.sslsocket_class = WatchedSocket
        return context

    def watch(self, sock: socket.socket) -> None:
        self._socket = sock
        if self._is_cut:
            self.cut()

    def cut(self) -> None:
        """End the conversation at once, whatever it waits for."""
        self._is_cut = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # The plain socket's method: the TLS one is not made for a second thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _SMTP(smtplib.SMTP):
    def __init__(self, host: str, port: int, timeout: float, watch: Callable[[socket.socket], None]) -> None:
        self._watch = watch
        super().__init__(host, port, timeout=timeout)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc]
        self._watch(sock)
        return sock
