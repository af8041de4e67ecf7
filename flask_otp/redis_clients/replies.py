"""Reads the replies of a server from a connection of redis-py, in RESP2: the protocol of all Redis and Valkey servers.

redis-py's own reader calls nine functions for each item of a reply, and fourteen to see that nothing is left unread.
Each verb waits for both. With ``hiredis``, redis-py takes less time than we do, so it reads.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import redis
from redis.connection import DefaultParser

#: The protocol that it reads.
PROTOCOL = 2
_SIZE = 65536
_NOTHING_THERE = (BlockingIOError, ssl.SSLWantReadError)


class Replies:
    """What redis-py takes as the ``parser_class`` of a connection: one object for each connection."""

    def __init__(self, socket_read_size: int) -> None:
        self._socket: socket.socket | None = None
        self._timeout: float | None = None
        #: What was received and not read yet.
        self._unread = b""

    def on_connect(self, connection: Any) -> None:
        # A private name, but the one that redis-py gives to all its parsers.
        self._socket = connection._sock
        self._timeout = connection.socket_timeout
        self._unread = b""

    def on_disconnect(self) -> None:
        self._socket = None

    def can_read(self, timeout: float = 0) -> bool:
        """Whether there is something to read, or the server has closed the connection.

        What it finds may be lost: a connection that was idle and has something to read must not be used.
        """
        if self._unread:
            return True
        connected = self._connected()
        connected.settimeout(timeout)
        try:
            connected.recv(1)
        except _NOTHING_THERE:
            return False
        finally:
            connected.settimeout(self._timeout)
        return True

    def read_response(self, disable_decoding: bool = False, **_: Any) -> Any:
        """The next reply. An error is returned, as redis-py's parsers do, and raised only if no command can follow."""
        if not self._unread:
            self._receive()
        while True:
            try:
                reply, end = _read(self._unread, 0)
                break
            except _Incomplete:
                self._receive()
        self._unread = self._unread[end:]
        if isinstance(reply, redis.ConnectionError):
            raise reply
        return reply

    def _receive(self) -> None:
        received = self._connected().recv(_SIZE)
        if not received:
            raise redis.ConnectionError("the server has closed the connection")
        self._unread += received

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise redis.ConnectionError("the connection is closed")
        return self._socket


class _Incomplete(Exception):
    """The rest of the reply has not been received yet."""


def _read(received: bytes, start: int) -> tuple[Any, int]:
    """The reply that starts there, and where it ends.

    :raises _Incomplete: it is not all there.
    """
    end = received.find(b"\r\n", start)
    if end < 0:
        raise _Incomplete
    kind, line, end = received[start : start + 1], received[start + 1 : end], end + 2
    if kind == b":":
        return int(line), end
    if kind == b"$":
        return _read_text(received, end, int(line))
    if kind == b"*":
        return _read_list(received, end, int(line))
    if kind == b"+":
        return line, end
    if kind == b"-":
        error: Exception = DefaultParser.parse_error(line.decode(errors="replace"))  # type: ignore[no-untyped-call]
        return error, end
    raise redis.InvalidResponse("not a reply of Redis")


def _read_text(received: bytes, start: int, length: int) -> tuple[bytes | None, int]:
    if length < 0:
        return None, start
    end = start + length
    if len(received) < end + 2:
        raise _Incomplete
    return received[start:end], end + 2


def _read_list(received: bytes, start: int, count: int) -> tuple[list[Any] | None, int]:
    if count < 0:
        return None, start
    items = []
    for _ in range(count):
        item, start = _read(received, start)
        items.append(item)
    return items, start
