"""The SMTP connection, with what smtplib lacks.

It tries every address of the server, another thread can close its socket, the user name and password may contain any
character, and it can sign in with an access token.
"""

from __future__ import annotations

import errno
import os
import selectors
import smtplib
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

#: Seconds before the next address is tried in parallel: RFC 8305 section 5.
_NEXT_ADDRESS = 0.25

#: Seconds that a socket waits longer than the delivery may take: the delivery's own deadline ends it first.
#: smtplib reports a socket's own timeout as a server that disconnected.
_GRACE = 1.0


def connect_to_any(host: str, port: int, seconds: float, context: ssl.SSLContext | None = None) -> socket.socket:
    """Connect to the host's address that answers first, with a greeting or a TLS handshake.

    smtplib waits the whole timeout for each address, so one dead address (such as IPv6 without a route, or a load
    balancer without servers) uses up the time for the others. Here the next address is tried after a short delay, while
    the first attempt continues.

    :param seconds: until an address must have answered. Each later answer may take a second longer.
    :param context: TLS context, for TLS from the start.
    :raises OSError: no address answers in time, or the host has none.
    """
    end = time.monotonic() + seconds
    waiting = deque(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    failure = OSError("the host has no address")
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or selector.get_map():
                if waiting:
                    failure = _begin(selector, waiting.popleft(), host, context) or failure
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no address answers")
                if not selector.get_map():
                    continue
                for key, _ in selector.select(min(left, _NEXT_ADDRESS) if waiting else left):
                    attempt: _Attempt = selector.unregister(key.fileobj).data
                    try:
                        event = attempt.go_on()
                    except OSError as error:
                        attempt.sock.close()
                        failure = error
                        continue
                    if not event:
                        attempt.sock.settimeout(seconds + _GRACE)
                        return attempt.sock
                    selector.register(attempt.sock, event, attempt)
        finally:
            for key in list(selector.get_map().values()):
                key.data.sock.close()
    raise failure


class _Attempt:
    """An attempt to reach one address."""

    def __init__(self, sock: socket.socket, host: str, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self._host = host
        self._context = context
        self._is_connected = False

    def go_on(self) -> int:
        """Take the next step. Returns the event to wait for, or 0 when the server has answered.

        :raises OSError: the attempt has failed.
        """
        if not self._is_connected:
            fault = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if fault:
                raise OSError(fault, os.strerror(fault))
            self._is_connected = True
            if self._context is None:
                return selectors.EVENT_READ
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self._host, do_handshake_on_connect=False)
        if isinstance(self.sock, ssl.SSLSocket):
            return _shake_hands(self.sock)
        if not self.sock.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError("the server closed the connection instead of a greeting")
        return 0


def _shake_hands(sock: ssl.SSLSocket) -> int:
    try:
        sock.do_handshake()
    except ssl.SSLWantReadError:
        return selectors.EVENT_READ
    except ssl.SSLWantWriteError:
        return selectors.EVENT_WRITE
    return 0


def _begin(
    selector: selectors.BaseSelector, address: tuple[Any, ...], host: str, context: ssl.SSLContext | None
) -> OSError | None:
    """Start to connect. Returns the error if the connection fails at once."""
    family, kind, protocol, _, place = address
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:  # such as IPv6 on a machine without it
        return error
    sock.setblocking(False)
    fault = sock.connect_ex(place)
    if fault not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
        sock.close()
        return OSError(fault, os.strerror(fault))
    selector.register(sock, selectors.EVENT_WRITE, _Attempt(sock, host, context))
    return None


class Conversation(smtplib.SMTP):
    """SMTP over a plain connection, which may be upgraded to TLS.

    :param name: host name for ``EHLO``. ``None`` means this machine's name.
    :param watch: called with each socket as soon as it exists.
    """

    def __init__(
        self, host: str, port: int, timeout: float, name: str | None, watch: Callable[[socket.socket], None]
    ) -> None:
        self._watch = watch
        super().__init__(host, port, local_hostname=name, timeout=timeout)

    #: TLS context, for TLS from the start.
    _tls: ssl.SSLContext | None = None

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = connect_to_any(host, port, timeout, self._tls)
        self._watch(sock)
        return sock

    def upgrade(self, context: ssl.SSLContext) -> None:
        """STARTTLS.

        :raises smtplib.SMTPNotSupportedError: the server does not offer it.
        :raises ssl.SSLError: the server's certificate is not valid for its name.
        """
        self.starttls(context=cast(Any, _Watched(context, self._watch)))

    def auth(self, mechanism: str, authobject: Any, *, initial_response_ok: bool = True) -> tuple[int, bytes]:
        """Like smtplib's, but with UTF-8 instead of ASCII: RFC 4616 for PLAIN, and common practice for the others."""

        def answer(challenge: bytes | None = None) -> _Text | None:
            text = authobject() if challenge is None else authobject(challenge)
            return None if text is None else _Text(text)

        return super().auth(mechanism, cast(Any, answer), initial_response_ok=initial_response_ok)

    def login(self, user: str, password: str, *, initial_response_ok: bool = True) -> tuple[int, bytes]:
        return super().login(user, _Text(password), initial_response_ok=initial_response_ok)

    def sign_in_by_token(self, user: str, token: str) -> None:
        """XOAUTH2, as Google and Microsoft describe it: https://developers.google.com/gmail/imap/xoauth2-protocol

        :raises smtplib.SMTPNotSupportedError: the server does not offer it.
        :raises smtplib.SMTPAuthenticationError: the server refuses the token.
        """
        self.ehlo_or_helo_if_needed()
        if "XOAUTH2" not in self.esmtp_features.get("auth", "").upper().split():
            raise smtplib.SMTPNotSupportedError("the server does not offer XOAUTH2")
        words = f"user={user}\1auth=Bearer {token}\1\1"
        # After a refusal, the server sends a challenge with the reason and waits for an empty answer before the error.
        self.auth("XOAUTH2", lambda challenge=None: words if challenge is None else "")


class _Watched:
    """A TLS context that reports each socket before its handshake. Then a handshake that hangs can be cut.

    :param watch: called with each socket.
    """

    def __init__(self, context: ssl.SSLContext, watch: Callable[[socket.socket], None]) -> None:
        self._context = context
        self._watch = watch

    def wrap_socket(self, sock: socket.socket, server_hostname: str) -> ssl.SSLSocket:
        secured = self._context.wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)
        self._watch(secured)
        try:
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


class SecureConversation(Conversation, smtplib.SMTP_SSL):
    """SMTP over TLS from the start."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float,
        name: str | None,
        watch: Callable[[socket.socket], None],
        context: ssl.SSLContext,
    ) -> None:
        self._watch = watch
        self._tls = context
        smtplib.SMTP_SSL.__init__(self, host, port, local_hostname=name, timeout=timeout, context=context)


class _Text(str):
    """Text that encodes as UTF-8. smtplib would encode user name and password as ASCII."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8")
