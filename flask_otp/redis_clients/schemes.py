"""URI schemes of Redis and Valkey."""

from __future__ import annotations

#: Each scheme, with redis-py's scheme for a single server of this kind.
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
