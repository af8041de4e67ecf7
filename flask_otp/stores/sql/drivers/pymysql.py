"""PyMySQL connections whose timeouts shrink with the time that a verb has left."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from ..deadline import SHORTEST, left


class BoundedConnection(Connection):  # type: ignore[misc]
    def query(self, sql: Any, unbuffered: bool = False) -> Any:
        # PyMySQL sets the timeouts on the socket before it reads and writes.
        self._read_timeout = self._write_timeout = max(left(), SHORTEST)
        return super().query(sql, unbuffered)


connect = BoundedConnection
