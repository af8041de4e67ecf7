"""A pool of the idle connections to one server."""

from __future__ import annotations

import threading
import time
from typing import Any

import redis

from ..processes import PerProcess

#: Seconds that a connection may be idle and still be used without a check, unless the option ``health_check_interval``
#: says otherwise. Firewalls, NATs and load balancers drop idle connections after some minutes (Azure: 4, AWS: 6); the
#: shortest common limits are 50 to 60 seconds.
QUESTION_AFTER = 30


class _Connections:
    """The connections of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[tuple[float, Any]] = []
        self.busy: set[Any] = set()


class Pool(redis.ConnectionPool):
    """A pool that checks its connections before it uses them.

    redis-py's pool keeps connections that a failover or a firewall has broken. It also creates its locks with the pool,
    perhaps before a fork. Here each process has its own connections, and each connection is checked before use: it is
    replaced if it is broken, holds an unread reply, or does not answer after a long idle time. If one connection is
    bad, all idle ones are closed: they took the same path and were idle for longer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_process = PerProcess(_Connections)
        #: Returns the time in seconds. A test may replace it.
        self.clock = time.monotonic

    def take(self) -> tuple[Any, bool]:
        """A connection that is ready for a command, and whether it was used before.

        :raises redis.RedisError: no connection can be made.
        """
        connections = self._of_process.get()
        with connections.lock:
            since, connection = connections.idle.pop() if connections.idle else (None, None)
            if connection is None and len(connections.busy) >= self.max_connections:
                raise redis.ConnectionError("too many connections")
            connection = connection or self.connection_class(**self.connection_kwargs)
            connections.busy.add(connection)
        try:
            if since is not None:
                if self._is_good(connection, since):
                    return connection, True
                connection.disconnect()
                self.drop_idle()
            connection.connect()
        except BaseException:
            self.discard(connection)
            raise
        return connection, False

    def _is_good(self, connection: Any, since: float) -> bool:
        try:
            if connection.can_read():  # the connection has ended, or holds an unread reply
                return False
            if self.clock() - since >= (self.connection_kwargs.get("health_check_interval") or QUESTION_AFTER):
                connection.send_command("PING", check_health=False)
                connection.read_response()
        except redis.ResponseError:
            return True  # an account without the right to PING gets an answer too
        except (redis.RedisError, OSError):
            return False
        return True

    def discard(self, connection: Any) -> None:
        """Close a connection that was taken, and forget it."""
        connection.disconnect()
        connections = self._of_process.get()
        with connections.lock:
            connections.busy.discard(connection)

    def drop_idle(self) -> None:
        """Close all idle connections."""
        connections = self._of_process.get()
        with connections.lock:
            idle, connections.idle = connections.idle, []
        for _, connection in idle:
            connection.disconnect()

    # The methods that redis-py itself calls on a pool.

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        return self.take()[0]

    def release(self, connection: Any) -> None:
        """Take a connection back. A connection from before a fork belongs to the parent process and is not kept."""
        connections = self._of_process.get()
        with connections.lock:
            if connection in connections.busy:
                connections.busy.discard(connection)
                connections.idle.append((self.clock(), connection))

    def disconnect(self, inuse_connections: bool = True) -> None:
        self.drop_idle()
        if inuse_connections:
            for connection in list(self._of_process.get().busy):
                connection.disconnect()
