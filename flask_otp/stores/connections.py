"""Clients for Redis and Valkey, as every user of a ``OTP_STORAGE_URI`` gets them: the store, and the limits."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import ConfigError

SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "redis+unix": "unix",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
    "valkey+unix": "unix",
}


def connect(uri: str, options: dict[str, Any]) -> redis.Redis:
    """A client with short time-outs and without any retry, since a script whose answer was lost would run twice.

    :raises ConfigError: redis-py does not take the URI or the options.
    """
    scheme, _, rest = uri.partition("://")
    # One connection for each busy thread: at redis-py's own limit of 100 a healthy server would look unavailable.
    defaults = {"socket_timeout": 0.25, "socket_connect_timeout": 0.25, "max_connections": 10_000}
    try:
        client: redis.Redis = redis.Redis.from_url(f"{SCHEMES[scheme]}://{rest}", **defaults | options)
        pool = client.connection_pool
        # Set last, since in redis-py a query in the URI outranks the options.
        pool.connection_kwargs.update(retry=Retry(NoBackoff(), 0), decode_responses=False)
        # Made, but not opened: a misspelt option is told now, and not by the first request.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, redis.RedisError):
        # What redis-py says may quote the URI, and so a password.
        raise ConfigError("OTP_STORAGE_URI or OTP_STORAGE_OPTIONS is not what redis-py takes") from None
    return client
