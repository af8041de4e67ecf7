"""The channel for the app's own sender service: each message is posted to it, signed. The receiver:
``docs/channels/webhook.md``."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from copy import copy
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from secrets import token_urlsafe
from urllib.parse import SplitResult, urlsplit

from .. import webhooks
from ..config import parsers
from ..errors import ConfigError
from ..models import Message
from ..urls import is_loopback
from . import tls
from .base import Channel, RecipientRefused, accepted_under
from .deadline import Deadline, cut_when_late, impersonal

_PORTS = {"http": 80, "https": 443}


class WebhookChannel(Channel):
    """Posts each message as JSON, signed by the Standard Webhooks specification::

        OTP_CHANNELS = {"sms": WebhookChannel("https://sender.example.com/otp", secret=SECRET)}

    Any 2xx is a success, any other answer a failure. Redirects are failures too, because the code must not go to
    another server. Certificates are checked against the system's authorities, or the file in the environment variable
    ``SSL_CERT_FILE``. Proxy settings of the environment are ignored.

    :param url: an ``https`` URL; ``http`` is allowed only for this machine.
    :param secret: ``whsec_`` and base64, or any text, of at least 24 bytes. With several secrets, during a rotation,
        each one signs.
    :param accepts: ``"email"`` or ``"phone"``, the kind of recipient. By default the channel's name decides.
    :param timeout: maximum duration of the whole delivery, 1 to 60 seconds. By default ``OTP_CHANNEL_TIMEOUT``.
    :param proxy: ``"http://host:port"`` of a proxy that connects to the server (CONNECT). It sees only the server's
        name.
    :raises ConfigError: an argument is wrong. The error shows neither the URL, which may hold a key, nor a secret.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | Sequence[str],
        accepts: str | None = None,
        timeout: str | int | timedelta | None = None,
        proxy: str | None = None,
    ) -> None:
        if accepts not in (None, "email", "phone"):
            raise ConfigError(f'a webhook: accepts must be "email" or "phone", not {accepts!r}')
        self.accepts = accepts
        self._keys = webhooks.read_secrets(secret)
        parts, self._server = _address("url", url, ("http", "https"))
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "http" and not is_loopback(self._server[0]):
            raise ConfigError("a webhook: url must be https, or http to this machine: else the code goes unencrypted")
        self._tls = tls.verifying() if parts.scheme == "https" else None
        self._proxy = None if proxy is None else _address("proxy", proxy, ("http",))[1]
        if self._proxy and self._tls is None:
            raise ConfigError("a webhook: url must be https when a proxy is used: otherwise the proxy sees the code")
        try:
            self.timeout = None if timeout is None else parsers.duration(1, 60)(timeout)
        except ValueError as error:
            raise ConfigError(f"a webhook: timeout {error}, not {timeout!r}") from None

    def under(self, name: str) -> Channel:
        named = copy(self)
        named.accepts = self.accepts or accepted_under(name)
        return named

    def deliver(self, message: Message) -> None:
        """
        :raises RecipientRefused: the answer was 422.
        :raises OSError: the message was not accepted. The error shows only the answer's status, because the rest may
            quote the code.
        """
        body = json.dumps(asdict(message)).encode()
        with self._connected() as connection:
            status = self._post(connection, body, self._headers(message.id or token_urlsafe(16), body))
        if status == 422:
            raise RecipientRefused("the webhook was answered with 422")
        if not 200 <= status <= 299:
            raise OSError(f"the webhook was answered with {status}")

    def probe(self) -> bool:
        """Connect as a delivery would, without posting.

        :raises OSError: the server cannot be reached, or its certificate does not match.
        """
        Deadline(self._seconds()).run(self._try_connection)
        return True

    def _try_connection(self) -> None:
        with self._connected():
            pass

    def _seconds(self) -> float:
        return self.timeout or self.default_timeout

    @contextmanager
    def _connected(self) -> Iterator[HTTPConnection]:
        host, port = self._proxy or self._server
        if self._tls is None:
            connection = HTTPConnection(host, port, self._seconds())
        else:
            connection = HTTPSConnection(host, port, timeout=self._seconds(), context=self._tls)
        if self._proxy is not None:
            connection.set_tunnel(*self._server)
        cut = partial(_cut, connection)
        cut_when_late(cut)
        with closing(connection):
            with impersonal(), _speaking():
                connection.connect()
            # Again, because there may have been no socket to cut: nothing must be posted after the deadline.
            cut_when_late(cut)
            yield connection

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        # The time of this try by the system clock, because the receiver checks it against its own.
        timestamp = str(int(time.time()))
        return {
            "Content-Type": "application/json",
            "User-Agent": "flask_otp",
            "Connection": "close",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": webhooks.sign(self._keys, message_id, timestamp, body),
        }

    def _post(self, connection: HTTPConnection, body: bytes, headers: dict[str, str]) -> int:
        with _speaking():
            connection.request("POST", self._target, body, headers)
            # The response body is not read.
            with connection.getresponse() as response:
                return response.status


@contextmanager
def _speaking() -> Iterator[None]:
    """A response that is not HTTP may quote anything, so only the error's type is shown."""
    try:
        yield
    except HTTPException as error:
        raise OSError(f"the webhook's answer was not HTTP: {type(error).__name__}") from None


def _cut(connection: HTTPConnection) -> None:
    if connection.sock is not None:
        with suppress(OSError):
            # The plain socket's method: the TLS method is not safe to call from a second thread.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _address(what: str, url: object, schemes: Sequence[str]) -> tuple[SplitResult, tuple[str, int]]:
    """
    :raises ConfigError: ``url`` is not a URL of this form.
    """
    try:
        parts = urlsplit(url if isinstance(url, str) and re.fullmatch(r"[!-~]+", url) else "")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in schemes or "@" in parts.netloc or parts.fragment or port == 0:
        raise ConfigError(f"a webhook: {what} must look like {schemes[-1]}://host.example.com, without a password")
    return parts, (host, port or _PORTS[parts.scheme])
