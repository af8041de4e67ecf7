"""The beginnings of a URI of Redis or Valkey."""

from __future__ import annotations

#: With the scheme that redis-py has for one server of it.
SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "redis+unix": "unix",
    "unix": "unix",
    "redis+cluster": "redis",
    "rediss+cluster": "rediss",
    "redis+sentinel": "redis",
    "rediss+sentinel": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "valkey+unix": "unix",
    "valkey+cluster": "redis",
    "valkeys+cluster": "rediss",
    "valkey+sentinel": "redis",
    "valkeys+sentinel": "rediss",
}
