"""The limits' storages for an app without a Limiter, based on those of the library ``limits``."""

from __future__ import annotations

import threading
from typing import Any

from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter

from ..config.settings import Settings
from ..lazy import lazy
from ..redis_clients.schemes import SCHEMES

_redis = lazy("..redis_clients.uri", __package__)


def own_limiter(settings: Settings) -> FixedWindowRateLimiter:
    """Counts at ``OTP_STORAGE_URI`` if that is Redis, otherwise in this process."""
    uri = settings.storage_uri
    if uri.partition("://")[0] not in SCHEMES:
        return FixedWindowRateLimiter(_Memory())
    client = _redis.connect(uri, settings.storage_options)
    return FixedWindowRateLimiter(_ClientStorage(client, f"{settings.key_prefix}:limits"))


def counts_as_scripts_do(limiter: Any) -> bool:
    """Whether it counts in fixed windows in Redis under the keys of ``limits``. Then a Lua script can count as well."""
    return type(limiter) is FixedWindowRateLimiter and type(limiter.storage) in (RedisStorage, _ClientStorage)


class _Memory(MemoryStorage):
    """The in-memory counters of ``limits`` with a lock: the library's own lose counts when threads start a window."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = threading.RLock()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        with self._whole:
            return super().incr(key, expiry, amount)

    def get(self, key: str) -> int:
        with self._whole:
            return super().get(key)


class _ClientStorage(RedisStorage):
    """The counters of ``limits`` over the store's kind of client, which has short timeouts and never retries."""

    def __init__(self, client: Any, key_prefix: str) -> None:
        self._client = client
        super().__init__("redis://", key_prefix=key_prefix)

    def initialize_storage(self, uri: str) -> None:
        self.storage = self._client
        super().initialize_storage(uri)
