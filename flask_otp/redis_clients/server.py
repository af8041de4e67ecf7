"""One Redis or Valkey server: one round trip to it, and the scripts that it runs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Protocol

import redis
from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException

from .pool import Pool

Command = tuple[Any, ...]

#: What redis-py, and the clients that apps make of it, raise when a server is out of reach or will not do something;
#: ``UnicodeError``: a cluster has named a host that cannot be looked up.
OUTAGES = (redis.RedisError, RedisClusterException, OSError, UnicodeError)

#: Seconds for a connection to come about, and for a reply to come.
DEFAULT_TIMEOUT = 0.25


class NotSent(redis.ConnectionError):
    """There is no connection, so no server has seen the commands: they may be sent again, to another one."""


class NotReplicated(redis.RedisError):
    """It is done, but too few replicas have said in time that they know."""


class Server(redis.Redis):
    """A client of one server."""

    connection_pool: Pool

    @property
    def timeout(self) -> float:
        """How long it waits for a reply, in seconds."""
        return float(self.connection_pool.connection_kwargs.get("socket_timeout") or DEFAULT_TIMEOUT)

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]:
        """Send the commands in one go, and give their replies.

        What was certainly not carried out is sent once more, over a new connection: the server has refused it as a
        replica, or the old connection did not take it. Everything else is sent once.

        :param key: what the commands are about. One server has all keys; it is here for the :class:`Client` protocol.
        :raises NotSent: nothing was sent.
        :raises redis.RedisError: the first error among the replies; or the connection broke, and the commands may have
            been carried out.
        """
        connection, was_used = self._take()
        try:
            return self._converse(connection, commands)
        except (NotSent, ReadOnlyError):
            # A name that leads to another server since a failover is looked up when a connection is made.
            if not was_used:
                raise
        return self._converse(self._take()[0], commands)

    def _take(self) -> tuple[Any, bool]:
        try:
            return self.connection_pool.take()
        except OUTAGES as error:
            raise NotSent("no connection to the server") from error

    def _converse(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        pool = self.connection_pool
        try:
            self._send(connection, commands)
            replies = [_reply(connection) for _ in commands]
        except BaseException as error:
            # What still arrives on it would be taken for the answer to the next command.
            pool.discard(connection)
            if isinstance(error, OUTAGES):
                # The idle ones rest on the same way: each would fail a request of its own.
                pool.drop_idle()
            raise
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # All of them lead to a server that is no master any more.
            pool.discard(connection)
            pool.drop_idle()
        else:
            pool.release(connection)
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return replies

    def _send(self, connection: Any, commands: Sequence[Command]) -> None:
        try:
            connection.send_packed_command([pack(commands)], check_health=False)
        except OUTAGES as error:
            if len(commands) > 1:
                raise
            # The system has refused at least the last byte, and a command without its end is none.
            raise NotSent("the connection did not take the command") from error

    # Beside ``exchange``, what ``limits`` asks of a client of redis-py for a fixed window.

    def get(self, name: Any) -> Any:
        return self.exchange(name, ("GET", name))[0]

    def ttl(self, name: Any) -> Any:
        return self.exchange(name, ("TTL", name))[0]

    def register_script(self, script: Any) -> Any:
        return Script(self, script)

    def servers(self) -> list[Server]:
        return [self]


def pack(commands: Sequence[Command]) -> bytes:
    """The commands as they go over the wire: bytes as they are, anything else as text.

    redis-py's own packer calls sixteen functions for each argument; this one, three.
    """
    parts = []
    for command in commands:
        values = [value if isinstance(value, bytes) else str(value).encode() for value in command]
        parts.append(b"*%d\r\n" % len(values))
        parts += [b"$%d\r\n%b\r\n" % (len(value), value) for value in values]
    return b"".join(parts)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        # Before version 7 a server wraps what a script has met.
        is_replica = "-READONLY " in str(error)
        return ReadOnlyError(*error.args) if is_replica else error


class Client(Protocol):
    """What the store needs: a :class:`Server`, or a :class:`~flask_otp.redis_clients.cluster.Topology` of them."""

    @property
    def timeout(self) -> float: ...

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]: ...

    def close(self) -> None: ...


class Replicated:
    """A client whose replies count only when some replicas have acknowledged all that was written before.

    It costs no round trip: ``WAIT`` goes with the commands.

    :param replicas: how many.
    """

    def __init__(self, client: Client, replicas: int) -> None:
        self.timeout = client.timeout
        self._client = client
        self._replicas = replicas
        # Its answer must come before the connection is given up; nought would be for ever.
        self._wait: Command = ("WAIT", replicas, max(1, int(client.timeout * 1000 * 0.8)))

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]:
        """As :meth:`Server.exchange`.

        :raises NotReplicated: the commands were carried out, but too few replicas know.
        """
        *replies, acknowledged = self._client.exchange(key, *commands, self._wait)
        if acknowledged < self._replicas:
            raise NotReplicated("too few replicas have acknowledged a change")
        return replies

    def close(self) -> None:
        self._client.close()


class Script:
    """A Lua script, called by its digest; in full where a server does not know it.

    redis-py's own loads a script on all masters of a cluster first, so that one that is down stops the others.
    """

    def __init__(self, client: Client, source: str | bytes) -> None:
        self._client = client
        self._source = source.encode() if isinstance(source, str) else source
        self.sha = sha1(self._source, usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run it, once."""
        rest = (len(keys), *keys, *args)
        try:
            return self._client.exchange(keys[0], ("EVALSHA", self.sha, *rest))[0]
        except NoScriptError:
            # It was not run, so it may be sent again.
            return self._client.exchange(keys[0], ("EVAL", self._source, *rest))[0]
