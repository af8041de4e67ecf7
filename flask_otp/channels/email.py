"""E-mail by Flask-Mail, with what Flask-Mail 0.10 lacks: verified TLS, and a deadline for the whole delivery.

Trust comes from the system's certificate authorities, or from the file that the environment's ``SSL_CERT_FILE`` names.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.charset import QP, Charset
from email.header import Header
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime, formataddr, getaddresses, make_msgid, parseaddr, quote
from types import TracebackType
from typing import Any

from flask import Flask, current_app
from flask_mail import Connection, Mail, sanitize_address
from flask_mail import Message as MailMessage

from ..config.parsers import ADDRESS, flag_in_words
from ..errors import ConfigError
from ..models import Message
from .base import Channel, ProviderDown, RecipientRefused
from .deadline import Deadline, cut_when_late, impersonal
from .smtp import Conversation, SecureConversation

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


#: Those that want an access token in place of a password.
PASSWORDLESS = ("outlook", "office365")

#: Gives an access token.
OAuth = Callable[[], str]

#: The keys of Flask-Mail that are yes or no. It takes any text for yes, "False" too.
_FLAGS = ("MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_SUPPRESS_SEND")


def read_flags(config: MutableMapping[str, Any]) -> None:
    """Put what text says in place of the text, as it comes from the environment.

    :raises ConfigError: it says neither yes nor no.
    """
    for key in _FLAGS:
        if config.get(key) is not None:
            try:
                config[key] = flag_in_words(config[key])
            except ValueError as error:
                raise ConfigError(f"{key} {error}, not {config[key]!r}") from None


def fill_service(config: MutableMapping[str, Any], service: str | None) -> None:
    """Fill in the ``MAIL_*`` keys that are not set from ``OTP_EMAIL_SERVICE``.

    :raises ConfigError: the service is unknown, both kinds of TLS are asked for, or a flag is none.
    """
    read_flags(config)
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


@dataclass(frozen=True)
class MailOptions:
    """How we talk to the mail server, beside ``MAIL_*``.

    :param name: what we greet with (``EHLO``); ``None``: the sender's domain.
    :param ca: a file with the certificate authorities that are trusted, in place of the system's.
    :param oauth: gives an access token, which takes the place of the password.
    """

    name: str | None = None
    ca: str | None = None
    oauth: OAuth | None = None

    def check(self, config: Mapping[str, Any]) -> None:
        """
        :raises ConfigError: they do not fit each other, or a file is none.
        """
        if self.oauth is not None and not config.get("MAIL_USERNAME"):
            raise ConfigError("OTP_EMAIL_OAUTH needs MAIL_USERNAME: a token is one account's")
        try:
            ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise ConfigError(f"OTP_EMAIL_CA cannot be read: {type(error).__name__}") from None


class EmailChannel(Channel):
    """Sends by the app's ``MAIL_*`` settings.

    :param timeout: seconds for the whole delivery, from the name look-up to the server's last word.
    :param reply_to: where an answer goes, if not to the sender.
    :raises ConfigError: the options do not fit each other.
    """

    accepts = "email"

    def __init__(
        self, app: Flask, timeout: float, reply_to: str | None = None, options: MailOptions | None = None
    ) -> None:
        self._app = app
        self.timeout: float = timeout
        self._reply_to = reply_to
        self._options = options or MailOptions()
        self._options.check(app.config)

    def deliver(self, message: Message) -> None:
        """
        :raises RecipientRefused: it is not one plain address.
        :raises Exception: what smtplib or ssl raised.
        """
        mail = _mail(message, self._reply_to)
        self._converse(lambda connection: connection.send(mail))

    def probe(self) -> bool:
        """Connect and sign in as a delivery would.

        :raises TimeoutError: the deadline passed.
        :raises Exception: what smtplib or ssl raised.
        """
        Deadline(self.timeout).run(lambda: self._converse(lambda connection: None))
        return True

    def _converse(self, talk: Callable[[Connection], None]) -> None:
        settings = Mail().init_mail(self._app.config, False, self._app.testing)
        settings.max_emails = None
        options = self._options
        if options.name is None:
            options = replace(options, name=_sender_domain())
        connection = _VerifiedConnection(settings, self.timeout, options)
        cut_when_late(connection.cut)
        with connection:
            talk(connection)


def _mail(message: Message, reply_to: str | None) -> _Mail:
    if not re.fullmatch(ADDRESS, message.recipient):
        raise RecipientRefused("it is not one plain address")
    name, address = _sender()
    # The sender's domain, not this machine's name, which differs from worker to worker and counts against the mail.
    domain = address.rpartition("@")[2]
    mail = _Mail(
        subject=message.subject,
        recipients=[message.recipient],
        body=message.text,
        html=message.html or None,
        sender=f'"{quote(name)}" <{address}>' if name else address,
        reply_to=reply_to,
        extra_headers={
            "Auto-Submitted": "auto-generated",  # RFC 3834 5: no out-of-office answers
            "X-Auto-Response-Suppress": "All",  # the same, for Exchange
            # To nothing: else Gmail takes the next mail for a part of this conversation, and hides what is in both.
            "References": make_msgid(domain=domain),
        },
    )
    mail.msgId = make_msgid(domain=domain)
    return mail


def _sender_domain() -> str | None:
    """What to greet with: a container's name is one that many servers refuse."""
    try:
        return _sender()[1].rpartition("@")[2]
    except ConfigError:
        return None


def _sender() -> tuple[str, str]:
    """The name, perhaps empty, and the address of ``MAIL_DEFAULT_SENDER``."""
    sender = current_app.config.get("MAIL_DEFAULT_SENDER")
    if not sender:
        raise ConfigError("MAIL_DEFAULT_SENDER is not set: an e-mail needs a sender")
    senders = [sender] if isinstance(sender, (tuple, list)) else getaddresses([sender])
    name, address = senders[0]
    address = str(sanitize_address(("", address)))
    if len(senders) > 1 or not re.fullmatch(ADDRESS, address):
        raise ConfigError("MAIL_DEFAULT_SENDER is not one address: write ('Shop, Inc.', 'codes@example.com')")
    return str(name or ""), address


class _Mail(MailMessage):
    """Flask-Mail's message, but ``multipart/alternative`` itself, and in lines that every server takes.

    Flask-Mail wraps it into a ``multipart/mixed``, so that clients show an attachment. Its headers go by the newer
    policies of the standard library, which lose the quotes of a long name, and with them may make two senders of one
    (python/cpython#121284).
    """

    def _message(self) -> MIMEBase:
        mail: MIMEBase = self._mimetext(self.body)
        if self.html is not None:
            mail = MIMEMultipart("alternative", None, [mail, self._mimetext(self.html, "html")])
        mail.policy = compat32.clone(linesep="\r\n")
        headers = {
            "Subject": _header("Subject", self.subject),
            "From": _mailbox("From", str(self.sender)),
            "To": _mailbox("To", str(self.recipients[0])),
            "Date": format_datetime(datetime.fromtimestamp(self.date or time.time(), timezone.utc)),
            "Message-ID": self.msgId,
        }
        if self.reply_to is not None:
            headers["Reply-To"] = _mailbox("Reply-To", str(self.reply_to))
        for name, value in (headers | (self.extra_headers or {})).items():
            mail[name] = value
        return mail

    def _mimetext(self, text: str | None, subtype: str = "plain") -> MIMEText:
        # Flask-Mail sends the text as it is, and servers refuse its long lines (RFC 5321 4.5.3.1.6).
        charset = Charset("utf-8")
        charset.body_encoding = QP
        return MIMEText(text or "", subtype, charset)  # type: ignore[arg-type]


def _header(name: str, text: str, address: str = "") -> str:
    """``text`` in lines that fit, and in encoded words where it must be, and then ``address``."""
    header = Header(text, "us-ascii" if text.isascii() else "utf-8", header_name=name)
    if address:
        header.append(address, "us-ascii")
    return header.encode()


def _mailbox(name: str, mailbox: str) -> str:
    person, address = parseaddr(mailbox)
    address = str(sanitize_address(("", address)))  # its domain as IDNA
    return _header(name, formataddr((person, address))) if person.isascii() else _header(name, person, f"<{address}>")


class _VerifiedConnection(Connection):
    """Flask-Mail's connection over a socket that checks certificates, and that can be cut from another thread."""

    def __init__(self, mail: Any, timeout: float, options: MailOptions) -> None:
        super().__init__(mail)
        self._timeout = timeout
        self._options = options
        self._socket: socket.socket | None = None
        self._is_cut = False

    def __enter__(self) -> _VerifiedConnection:
        with impersonal():
            super().__enter__()
        return self

    def configure_host(self) -> smtplib.SMTP:
        mail, context = self.mail, self._tls_context()
        where = (mail.server, int(mail.port), self._timeout, self._options.name)
        host = SecureConversation(*where, self.watch, context) if mail.use_ssl else Conversation(*where, self.watch)
        try:
            if mail.use_tls:
                host.starttls(context=context)
            if self._options.oauth is not None:
                host.sign_in_by_token(mail.username, _token(self._options.oauth))
            elif mail.username and mail.password:
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

        context = ssl.create_default_context(cafile=self._options.ca)
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


def _token(oauth: OAuth) -> str:
    """
    :raises ProviderDown: the app's function gave none. What it raised may quote its secret.
    """
    try:
        token = oauth()
    except Exception as error:
        reason = f"raised a {type(error).__name__}"
    else:
        if isinstance(token, str) and re.fullmatch("[!-~]+", token):
            return token
        reason = "gave no token"
    raise ProviderDown(f"OTP_EMAIL_OAUTH {reason}")
