"""Connections of pg8000 that wait no longer than a deadline allows. pg8000's time-out is for one read of several."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from pg8000.dbapi import Connection
from pg8000.exceptions import InterfaceError

from ..deadline import SHORTEST, left


class BoundedConnection(Connection):  # type: ignore[misc]
    def __init__(self, *args: Any, **named: Any) -> None:
        # A socket of ours, since pg8000 leaves its own open where a server does not answer the question for TLS.
        own = None if named.get("unix_sock") else _connect_socket(named)
        try:
            super().__init__(*args, **named, sock=own)
        except BaseException:
            if own is not None:
                own.close()
            raise
        self._sock: Any = _BoundedFile(self._sock, self._usock)

    def close(self) -> None:
        file = self._sock
        # It says goodbye, which fails where the server is gone, and closes the socket but not its file.
        with contextlib.suppress(InterfaceError, OSError):
            super().close()
        with contextlib.suppress(OSError):
            file.close()


def _connect_socket(named: dict[str, Any]) -> socket.socket:
    own = socket.create_connection(
        (named.get("host", "localhost"), named.get("port", 5432)), named.get("timeout"), named.get("source_address")
    )
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, named.get("tcp_keepalive", True))
    return own


class _BoundedFile:
    """The buffers around the socket, by which pg8000 reads and writes."""

    def __init__(self, file: Any, socket: socket.socket) -> None:
        self._file = file
        self._socket = socket
        self.write = file.write
        self.close = file.close

    def read(self, size: int) -> Any:
        return self._bounded(self._file.read, size)

    def flush(self) -> None:
        self._bounded(self._file.flush)

    def _bounded(self, call: Callable[..., Any], *args: Any) -> Any:
        self._socket.settimeout(max(left(), SHORTEST))
        try:
            return call(*args)
        except OSError as error:
            # pg8000 lets some time-outs out as they are. By these words, SQLAlchemy knows that the connection is lost.
            raise InterfaceError("network error") from error


connect = BoundedConnection
