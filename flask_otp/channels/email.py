"""E-mail with Flask-Mail, plus what Flask-Mail 0.10 lacks: verified TLS, and a deadline for the whole delivery.

Certificates are checked against the system's authorities, or the file in the environment variable ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
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
from . import tls
from .base import Channel, ProviderDown, RecipientRefused
from .deadline import Deadline, cut_when_late, impersonal
from .smtp import Conversation, SecureConversation

#: Submission servers of well-known providers, from their help pages.
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


#: Services that need an access token instead of a password.
PASSWORDLESS = ("outlook", "office365")

#: A function that returns an access token.
OAuth = Callable[[], str]

#: Flask-Mail's boolean keys. Flask-Mail treats any text as true, even "False".
_FLAGS = ("MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_SUPPRESS_SEND")


def read_flags(config: MutableMapping[str, Any]) -> None:
    """Replace textual booleans, as they come from the environment, with ``True`` or ``False``.

    :raises ConfigError: a text is neither a yes nor a no.
    """
    for key in _FLAGS:
        if config.get(key) is not None:
            try:
                config[key] = flag_in_words(config[key])
            except ValueError as error:
                raise ConfigError(f"{key} {error}, not {config[key]!r}", see="settings/mail-settings") from None


def fill_service(config: MutableMapping[str, Any], service: str | None) -> None:
    """Fill in the ``MAIL_*`` keys that are not set from ``OTP_EMAIL_SERVICE``.

    :raises ConfigError: the service is unknown, both kinds of TLS are set, or a flag is not a boolean.
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
    """Options for the connection to the mail server, besides ``MAIL_*``.

    :param name: host name for ``EHLO``. ``None`` means the sender's domain.
    :param ca: a file with trusted certificate authorities, used instead of the system's.
    :param oauth: returns an access token, used instead of the password.
    """

    name: str | None = None
    ca: str | None = None
    oauth: OAuth | None = None

    def check(self, config: Mapping[str, Any]) -> None:
        """
        :raises ConfigError: the options contradict each other, a file cannot be read, or ``MAIL_PORT`` is no port.
        """
        try:
            int(config.get("MAIL_PORT", 25))
        except (TypeError, ValueError):
            raise ConfigError(f"MAIL_PORT must be a number such as 587, not {config['MAIL_PORT']!r}") from None
        if self.oauth is not None and not config.get("MAIL_USERNAME"):
            raise ConfigError("OTP_EMAIL_OAUTH needs MAIL_USERNAME, because a token belongs to one account")
        if self.ca is None and not (config.get("MAIL_USE_TLS") or config.get("MAIL_USE_SSL")):
            return
        try:
            tls.verifying(self.ca)  # The first message does not have to load them.
        except OSError as error:
            raise ConfigError(f"OTP_EMAIL_CA cannot be read: {type(error).__name__}") from None


class EmailChannel(Channel):
    """Sends e-mail with the app's ``MAIL_*`` settings.

    :param timeout: seconds for the whole delivery, from the DNS lookup to the server's last reply.
    :param reply_to: address for replies, if not the sender.
    :raises ConfigError: the options contradict each other.
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
        :raises RecipientRefused: the recipient is not one plain address.
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
    name, address = sender_of(current_app.config)
    # The sender's domain. This machine's name differs between workers and would raise the mail's spam score.
    domain = address.rpartition("@")[2]
    mail = _Mail(
        subject=message.subject,
        recipients=[message.recipient],
        body=message.text,
        html=message.html or None,
        sender=f'"{quote(name)}" <{address}>' if name else address,
        reply_to=reply_to,
        extra_headers={
            "Auto-Submitted": "auto-generated",  # RFC 3834 5: no out-of-office replies
            "X-Auto-Response-Suppress": "All",  # the same, for Exchange
            # Refers to no message, so Gmail starts a new conversation and does not collapse repeated text.
            "References": make_msgid(domain=domain),
        },
    )
    mail.msgId = make_msgid(domain=domain)
    return mail


def _sender_domain() -> str | None:
    """The name for ``EHLO``. Many servers refuse a container's host name."""
    try:
        return sender_of(current_app.config)[1].rpartition("@")[2]
    except ConfigError:
        return None


def sender_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """The display name (may be empty) and the address of ``MAIL_DEFAULT_SENDER``.

    :raises ConfigError: it is not set, or is not one address.
    """
    sender = config.get("MAIL_DEFAULT_SENDER")
    if not sender:
        raise ConfigError("MAIL_DEFAULT_SENDER is not set, and an e-mail needs a sender")
    senders = [sender] if isinstance(sender, (tuple, list)) else getaddresses([sender])
    name, address = senders[0] if len(senders) == 1 and len(senders[0]) == 2 else ("", "")
    address = str(sanitize_address(("", str(address))))
    if not re.fullmatch(ADDRESS, address):
        raise ConfigError("MAIL_DEFAULT_SENDER is not one address: write ('Shop, Inc.', 'codes@example.com')")
    return str(name or ""), address


class _Mail(MailMessage):
    """Flask-Mail's message as a plain ``multipart/alternative``, in lines that every server accepts.

    Flask-Mail wraps it in a ``multipart/mixed``, so clients show an attachment. It writes headers with the standard
    library's newer policies, which lose the quotes of a long name and can turn one sender into two
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
        # Flask-Mail sends the text unchanged, and servers refuse long lines (RFC 5321 4.5.3.1.6).
        charset = Charset("utf-8")
        charset.body_encoding = QP
        return MIMEText(text or "", subtype, charset)  # type: ignore[arg-type]


def _header(name: str, text: str, address: str = "") -> str:
    """``text`` wrapped to fit, encoded where necessary, followed by ``address``."""
    header = Header(text, "us-ascii" if text.isascii() else "utf-8", header_name=name)
    if address:
        header.append(address, "us-ascii")
    return header.encode()


def _mailbox(name: str, mailbox: str) -> str:
    person, address = parseaddr(mailbox)
    address = str(sanitize_address(("", address)))  # with the domain in IDNA
    return _header(name, formataddr((person, address))) if person.isascii() else _header(name, person, f"<{address}>")


class _VerifiedConnection(Connection):
    """Flask-Mail's connection over a socket that verifies certificates and that another thread can close."""

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
        mail, ca = self.mail, self._options.ca
        where = (mail.server, int(mail.port), self._timeout, self._options.name, self.watch)
        host = SecureConversation(*where, tls.verifying(ca)) if mail.use_ssl else Conversation(*where)
        try:
            if mail.use_tls:
                host.upgrade(tls.verifying(ca))
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
        # The reply to QUIT is not needed: by now the message is accepted or has failed.
        if error is None:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                self.host.putcmd("quit")
        self.host.close()

    def watch(self, sock: socket.socket) -> None:
        self._socket = sock
        if self._is_cut:
            self.cut()

    def cut(self) -> None:
        """End the connection at once, whatever it is waiting for."""
        self._is_cut = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # The plain socket's method: the TLS method is not safe to call from a second thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _token(oauth: OAuth) -> str:
    """
    :raises ProviderDown: the app's function returned no token. Its exception is not shown, because it may quote a
        secret.
    """
    try:
        token = oauth()
    except Exception as error:
        reason = f"raised a {type(error).__name__}"
    else:
        if isinstance(token, str) and re.fullmatch("[!-~]+", token):
            return token
        reason = "returned no token"
    raise ProviderDown(f"OTP_EMAIL_OAUTH {reason}")
