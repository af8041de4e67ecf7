"""pg8000 connections that wait no longer than a deadline. pg8000's own timeout covers only one of several reads."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

from pg8000.dbapi import Connection
from pg8000.exceptions import InterfaceError

from ..deadline import SHORTEST, left

logger = logging.getLogger("flask_otp")


class BoundedConnection(Connection):  # type: ignore[misc]
    def __init__(self, *args: Any, **named: Any) -> None:
        # We create the socket, because pg8000 leaves its own open if a server does not answer the TLS request.
        own = None if named.get("unix_sock") else _connect_socket(named)
        try:
            super().__init__(*args, **named, sock=own)
        except BaseException:
            if own is not None:
                own.close()
            raise
        self._sock: Any = _BoundedFile(self._sock, self._usock)
        try:
            self._refuse_pooler()
        except BaseException:
            self.close()
            raise

    def _refuse_pooler(self) -> None:
        """Through a pooler, each of the three steps of a statement may reach another connection of the server. A code
        would then pass more than once.

        :raises InterfaceError: the other end has not named its process at connect, as PostgreSQL does, or another one.
        """
        key = self._backend_key_data or b""
        ((process,),) = self.execute_simple("SELECT pg_backend_pid()").rows
        if int.from_bytes(key[:4], "big") != process:
            reason = "pg8000 must not be used through a connection pooler such as PgBouncer; install psycopg"
            logger.error(reason)
            raise InterfaceError(reason)

    def close(self) -> None:
        file = self._sock
        # It says goodbye, which fails if the server is gone, and closes the socket but not its file.
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
    """The buffered file around the socket, with which pg8000 reads and writes."""

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
            # pg8000 lets some timeouts pass unchanged. SQLAlchemy knows from this text that the connection is lost.
            raise InterfaceError("network error") from error


connect = BoundedConnection
