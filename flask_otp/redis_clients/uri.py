"""Creates the Redis and Valkey clients for an ``OTP_STORAGE_URI``, for the store and the limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import ConfigError
from .cluster import Address, Cluster, Factory, Sentinel, Topology
from .pool import Pool
from .schemes import SCHEMES
from .server import DEFAULT_TIMEOUT, Server

_DEFAULTS = {
    "socket_timeout": DEFAULT_TIMEOUT,
    "socket_connect_timeout": DEFAULT_TIMEOUT,
    # One connection per busy thread: with redis-py's limit of 100, a healthy server would look unavailable.
    "max_connections": 10_000,
}

#: The only option that is ours and not redis-py's: see ``docs/operate/redis.md``.
WAIT_OPTION = "wait_for_replicas"


def connect(uri: str, options: Mapping[str, Any]) -> Server | Topology:
    """A client with short timeouts and without retries, because a script whose answer was lost would run twice.

    :raises ConfigError: the URI or the options are wrong.
    """
    name, _, rest = uri.partition("://")
    make = {"cluster": _cluster, "sentinel": _sentinel}.get(name.partition("+")[2], _server)
    try:
        return make(SCHEMES[name], rest, {key: value for key, value in options.items() if key != WAIT_OPTION})
    except (ValueError, TypeError, redis.RedisError):
        # redis-py's message may quote the URI, and so a password.
        raise ConfigError(
            "OTP_STORAGE_URI or OTP_STORAGE_OPTIONS is not accepted by redis-py: write special characters of a "
            "password as %23 and the like, and check the port and the options"
        ) from None


def replicas_to_wait_for(options: Mapping[str, Any]) -> int:
    """How many replicas must confirm a change.

    :raises ConfigError: the option is not a whole number.
    """
    replicas = options.get(WAIT_OPTION, 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise ConfigError(f"OTP_STORAGE_OPTIONS: {WAIT_OPTION} must be a whole number, 0 or more")
    return replicas


def _server(scheme: str, rest: str, options: Mapping[str, Any]) -> Server:
    database = urlsplit(f"{scheme}://{rest}").path.strip("/")
    if scheme != "unix" and database and not database.isdecimal():
        raise ValueError("not a number of a database")  # redis-py would take 0 instead
    pool = Pool.from_url(f"{scheme}://{rest}", **_DEFAULTS | dict(options))
    # Set last, because in redis-py a query in the URI takes precedence over the options.
    pool.connection_kwargs.update(retry=Retry(NoBackoff(), 0), decode_responses=False)
    # Created but not opened, so a misspelt option is reported now and not on the first request.
    pool.connection_class(**pool.connection_kwargs)
    # A host name that cannot even be looked up is not an outage either.
    str(pool.connection_kwargs.get("host", "")).encode("idna")
    client = Server(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


class _Places(NamedTuple):
    """The parts of a URI with several servers. All but the addresses are still percent-encoded."""

    user: str
    addresses: list[Address]
    path: str
    query: str

    def factory(self, scheme: str, database: str, options: Mapping[str, Any]) -> Factory:
        """A factory for clients with the same credentials, database and options, one for each server."""
        rest = f"{self.user}@/{database}?{self.query}"
        return lambda host, port: _server(scheme, rest, {**options, "host": host, "port": port})


def _places(rest: str, default_port: int) -> _Places:
    where, _, query = rest.partition("?")
    authority, _, path = where.partition("/")
    user, _, hosts = authority.rpartition("@")
    return _Places(user, [_address(host, default_port) for host in hosts.split(",")], path, query)


def _address(text: str, default_port: int) -> Address:
    parts = urlsplit(f"//{text}")
    host = unquote(parts.hostname or "")
    if not host or parts.netloc != text or parts.port == 0:
        raise ValueError("not a host and a port")
    return host, parts.port or default_port


def _cluster(scheme: str, rest: str, options: Mapping[str, Any]) -> Cluster:
    places = _places(rest, default_port=6379)
    make = places.factory(scheme, "", options)
    first, *_ = [make(*address) for address in places.addresses]
    if places.path not in ("", "0") or first.connection_pool.connection_kwargs.get("db"):
        raise ValueError("a cluster has database 0 only")
    halved = _half(first.timeout)

    def make_seed(host: str, port: int) -> Server:
        server = make(host, port)
        server.connection_pool.connection_kwargs.update(halved)
        return server

    return Cluster(places.addresses, make_seed, make, first.timeout)


def _sentinel(scheme: str, rest: str, options: Mapping[str, Any]) -> Sentinel:
    places = _places(rest, default_port=26379)
    service, _, database = places.path.partition("/")
    if not service or not (database or "0").isdecimal():
        raise ValueError("not a service and a database")
    own = {"sentinel_kwargs": {}, **options}
    sentinel_options = own.pop("sentinel_kwargs")
    make = places.factory(scheme, database, own)
    first, *_ = [make(*address) for address in places.addresses]
    # A Sentinel has its own accounts. TLS and timeouts are the same.
    settings = first.connection_pool.connection_kwargs.items()
    shared = {key: value for key, value in settings if key.startswith(("socket_", "ssl_"))}
    asking = {**shared, **_half(first.timeout), **sentinel_options}

    def make_seed(host: str, port: int) -> Server:
        return _server(scheme, "", {**asking, "host": host, "port": port})

    make_seed(*places.addresses[0])
    return Sentinel(unquote(service), places.addresses, make_seed, make, first.timeout)


def _half(timeout: float) -> dict[str, float]:
    return {"socket_timeout": timeout / 2, "socket_connect_timeout": timeout / 2}
