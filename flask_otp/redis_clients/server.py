"""A client of one Redis or Valkey server: one round trip per exchange, and the scripts."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Protocol

import redis
from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException

from .pool import Pool

Command = tuple[Any, ...]

#: The errors of redis-py, and of clients that apps make with it, when a server is unreachable or refuses a command.
#: ``UnicodeError``: a cluster named a host that cannot be looked up.
OUTAGES = (redis.RedisError, RedisClusterException, OSError, UnicodeError)

#: Seconds to connect, and to wait for a reply.
DEFAULT_TIMEOUT = 0.25


class NotSent(redis.ConnectionError):
    """There is no connection, so no server has seen the commands. They may be sent again to another server."""


class NotReplicated(redis.RedisError):
    """The command was executed, but too few replicas confirmed it in time."""


class Server(redis.Redis):
    """A client of one server."""

    connection_pool: Pool

    @property
    def timeout(self) -> float:
        """Seconds that it waits for a reply."""
        return float(self.connection_pool.connection_kwargs.get("socket_timeout") or DEFAULT_TIMEOUT)

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]:
        """Send the commands together and return their replies.

        A command that was certainly not executed is sent once more over a new connection: the server refused it as a
        replica, or the old connection did not accept it. Everything else is sent only once.

        :param key: the key of the commands. One server has all keys; the parameter is here for the :class:`Client`
            protocol.
        :raises NotSent: nothing was sent.
        :raises redis.RedisError: the first error among the replies, or the connection broke and the commands may have
            been executed.
        """
        connection, was_used = self._take()
        try:
            return self._converse(connection, commands)
        except (NotSent, ReadOnlyError):
            # A host name that points to another server since a failover is looked up again for each new connection.
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
            # A late reply on this connection would be taken for the answer to the next command.
            pool.discard(connection)
            if isinstance(error, OUTAGES):
                # The idle connections took the same path: each would fail another request.
                pool.drop_idle()
            raise
        errors = [reply for reply in replies if isinstance(reply, redis.ResponseError)]
        if any(isinstance(error, ReadOnlyError) for error in errors):
            # All of them lead to a server that is no longer the master.
            pool.discard(connection)
            pool.drop_idle()
        else:
            pool.release(connection)
        if errors:
            raise errors[0]
        return replies

    def _send(self, connection: Any, commands: Sequence[Command]) -> None:
        try:
            connection.send_packed_command([pack(commands)], check_health=False)
        except OUTAGES as error:
            if len(commands) > 1:
                raise
            # The system refused at least the last byte, and an incomplete command is not executed.
            raise NotSent("the connection did not take the command") from error

    # Besides ``exchange``, the methods of a redis-py client that ``limits`` needs for a fixed window.

    def get(self, name: Any) -> Any:
        return self.exchange(name, ("GET", name))[0]

    def ttl(self, name: Any) -> Any:
        return self.exchange(name, ("TTL", name))[0]

    def register_script(self, script: Any) -> Any:
        return Script(self, script)

    def servers(self) -> list[Server]:
        return [self]


def pack(commands: Sequence[Command]) -> bytes:
    """Encode commands for the wire: bytes unchanged, anything else as text.

    redis-py's own packer calls sixteen functions per argument, this one two.
    """
    parts = []
    for command in commands:
        values = [value if type(value) is bytes else str(value).encode() for value in command]
        parts.append(b"*%d\r\n" % len(values))
        parts += [b"$%d\r\n%b\r\n" % (len(value), value) for value in values]
    return b"".join(parts)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        # Before version 7, a server wraps errors inside a script.
        is_replica = "-READONLY " in str(error)
        return ReadOnlyError(*error.args) if is_replica else error


class Client(Protocol):
    """The client that the store needs: a :class:`Server`, or a :class:`~flask_otp.redis_clients.cluster.Topology`."""

    @property
    def timeout(self) -> float: ...

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]: ...

    def close(self) -> None: ...


class Replicated:
    """A client whose replies count only after some replicas have confirmed all previous writes.

    This takes no extra round trip: ``WAIT`` is sent with the commands.

    :param replicas: number of replicas.
    """

    def __init__(self, client: Client, replicas: int) -> None:
        self.timeout = client.timeout
        self._client = client
        self._replicas = replicas
        # WAIT must answer before the connection is given up. A timeout of 0 would wait for ever.
        self._wait: Command = ("WAIT", replicas, max(1, int(client.timeout * 1000 * 0.8)))

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]:
        """Like :meth:`Server.exchange`.

        :raises NotReplicated: the commands were executed, but too few replicas confirmed them.
        """
        *replies, acknowledged = self._client.exchange(key, *commands, self._wait)
        if acknowledged < self._replicas:
            raise NotReplicated("too few replicas have acknowledged a change")
        return replies

    def close(self) -> None:
        self._client.close()


class Script:
    """A Lua script, called by its digest. The full source is sent to servers that do not know it.

    redis-py loads a script on all masters of a cluster first, so one master that is down stops the others.
    """

    def __init__(self, client: Client, source: str | bytes) -> None:
        self._client = client
        self._source = source.encode() if isinstance(source, str) else source
        self.sha = sha1(self._source, usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script once."""
        rest = (len(keys), *keys, *args)
        try:
            return self._client.exchange(keys[0], ("EVALSHA", self.sha, *rest))[0]
        except NoScriptError:
            # The script was not run, so it may be sent again.
            return self._client.exchange(keys[0], ("EVAL", self._source, *rest))[0]
