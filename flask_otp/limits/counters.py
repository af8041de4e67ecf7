"""Limits for networks, channels and the whole site, counted with Flask-Limiter's machinery.

If the app has its own Limiter, its storage and strategy are used, whichever of the two was initialised first. Otherwise
the library under it, ``limits``, counts at ``OTP_STORAGE_URI``. Nothing is decorated or hooked: a second Limiter on the
app would count the app's limits twice and slow down every route. The limits that protect a code are counted in the
store.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from math import ceil
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ..config.settings import Settings
from ..errors import StoreUnavailable
from ..lazy import lazy
from ..processes import PerProcess
from ..stores import Store
from .gates import Entry, NetworkGates, NetworkRule, refuse
from .surge import Surge

if TYPE_CHECKING:
    import limits
    import redis
    from limits import RateLimitItem
    from limits.strategies import RateLimiter

    from ..redis_clients import server as redis_server
    from . import storages
else:
    limits = lazy("limits")
    redis = lazy("redis")
    redis_server = lazy("..redis_clients.server", __package__)
    storages = lazy(".storages", __package__)


class Limits:
    """Counts with the app's Limiter, or in a storage of our own.

    :param extensions: ``app.extensions``. It is read on each request, because a Limiter may be initialised after us.
    """

    def __init__(self, settings: Settings, extensions: Mapping[str, Any]) -> None:
        self._settings = settings
        self._extensions = extensions
        self._own = PerProcess(lambda: storages.own_limiter(settings))
        #: Counts wrong short codes.
        self.surge = Surge(settings.surge_limit, self._ask, self._ids)
        self._send = NetworkRule("send", settings.ip_send_limit, self._ids)
        self._verify = NetworkRule("verify", settings.ip_verify_limit, self._ids)

    def count_send(self, network: str | None) -> None:
        """Count a request to send from this network.

        :raises RateLimited: the network's limit is reached.
        """
        if network is not None:
            self._count("send", self._send.items, network)

    def count_verify(self, network: str | None) -> None:
        """Count a request to verify from this network.

        :raises RateLimited: the network's limit is reached.
        """
        if network is not None:
            self._count("verify", self._verify.items, network)

    def enter_send(self, network: str | None, store: Store) -> Entry:
        """Count a request to send, either now or in the same step as the next verb of ``entry.store``.

        :raises RateLimited: the network's limit is reached. If the store is on the same server, its verb raises this
            error.
        """
        return self._enter(self._send, network, store, surge=None)

    def enter_verify(self, network: str | None, store: Store, *, is_short: bool) -> Entry:
        """Like :meth:`enter_send`, for checking a code.

        :param is_short: whether a failure counts towards the surge.
        """
        return self._enter(self._verify, network, store, surge=self.surge if is_short else None)

    def _enter(self, rule: NetworkRule, network: str | None, store: Store, surge: Surge | None) -> Entry:
        if network is not None:
            storage = self._shared(store)
            if storage is not None:
                gates = NetworkGates(rule, surge, network, storage.prefixed_key)
                return Entry(store.gated(gates), gates.is_surge_passed)
            self._count(rule.name, rule.items, network)
        return Entry(store, lambda: surge is not None and surge.count(network))

    def _shared(self, store: Store) -> Any:
        """The limits' storage, if the store can count there (fixed windows, same server); otherwise ``None``."""
        limiter = self._limiter()
        storage: Any = limiter.storage
        if not storages.counts_as_scripts_do(limiter):
            return None
        return storage if store.is_on_server_of(storage.get_connection()) else None

    def count_channel(self, channel: str) -> None:
        """Count one message of the channel.

        :raises RateLimited: the channel's limit is reached.
        """
        self._count("channel", self._settings.channel_budget.get(channel, ()), channel)

    def count_prefix(self, prefix: str, *, is_decoy: bool = False) -> bool:
        """Count a message to phone numbers with this prefix. Returns ``False`` once the limit is reached.

        :param is_decoy: count a decoy, which does not count towards the prefix's limit.
        """
        ids = self._ids("nobody" if is_decoy else "prefix", prefix)
        return all(self._ask("hit", item, *ids) for item in self._settings.prefix_budget[prefix])

    # Reading without counting

    def wait_to_send(self, network: str) -> int:
        """Seconds until the network's limits allow a request to send."""
        return self._wait("send", self._settings.ip_send_limit, network)

    def wait_for_channel(self, channel: str) -> int:
        """Seconds until the channel's limit has room for a message."""
        return self._wait("channel", self._settings.channel_budget.get(channel, ()), channel)

    def has_prefix_room(self, prefix: str) -> bool:
        """Whether the limit of phone numbers with this prefix has room for a message."""
        return not self._wait("prefix", self._settings.prefix_budget[prefix], prefix)

    def tallied(self, name: str) -> int:
        """Value of a counter of :meth:`tally`."""
        count: int = self._ask("storage.get", self._tally_key(name))
        return count

    def _wait(self, rule: str, items: Sequence[RateLimitItem], key: str) -> int:
        ids = self._ids(rule, key)
        full = [item for item in items if not self._ask("test", item, *ids)]
        ends = [self._ask("get_window_stats", item, *ids).reset_time - time.time() for item in full]
        return max(1, *map(ceil, ends)) if ends else 0

    def _tally_key(self, name: str) -> str:
        return "/".join(("LIMITER", *self._ids("tally", name)))

    # Counting

    def tally(self, name: str, amount: int, life: int) -> int:
        """Add to a counter that lives ``life`` seconds and return its new value, in one step and one round trip."""
        count: int = self._ask("storage.incr", self._tally_key(name), life, amount)
        return count

    def is_surge(self, network: str | None = None) -> bool:
        """Whether the site or this network has so many failures that short codes must stop."""
        return self.surge.is_on(network)

    def probe(self) -> None:
        """Read a counter that does not exist.

        :raises StoreUnavailable: the limits' storage does not answer.
        """
        self.tallied("health")

    @property
    def storage(self) -> Any:
        """The storage of the app's Limiter, or our own."""
        return self._limiter().storage

    def _count(self, rule: str, items: Sequence[RateLimitItem], key: str) -> None:
        ids = self._ids(rule, key)
        for item in items:
            if not self._ask("hit", item, *ids):
                stats = self._ask("get_window_stats", item, *ids)
                refuse(rule, item, ceil(stats.reset_time - time.time()))

    def _ids(self, rule: str, key: str) -> tuple[str, ...]:
        return "flask_otp", self._settings.key_prefix, rule, key

    def _ask(self, question: str, *args: Any) -> Any:
        limiter = self._limiter()
        failures: Any = limiter.storage.base_exceptions
        failures = failures if isinstance(failures, tuple) else (failures,)
        ask = attrgetter(question)(limiter)
        try:
            try:
                return ask(*args)
            except redis.exceptions.ReadOnlyError:
                # Nothing was counted. The app's Limiter's client would keep its connection to a replica for ever.
                if not _drop_idle(limiter.storage):
                    raise
            return ask(*args)
        except (*failures, limits.errors.StorageError, *redis_server.OUTAGES) as error:
            raise StoreUnavailable(part="the storage of the limits") from error

    def _limiter(self) -> RateLimiter:
        for limiter in self._extensions.get("limiter", ()):
            # Uses the storage. ``limiter.limiter`` may have fallen back to this process's memory.
            strategy: type[RateLimiter] = type(limiter.limiter)
            return strategy(limiter.storage)
        return self._own.get()


def _drop_idle(storage: Any) -> bool:
    """Close the idle connections of a Redis storage. Returns ``False`` if it has no pool that we know of."""
    pool = getattr(getattr(storage, "storage", None), "connection_pool", None)
    if not isinstance(pool, redis.ConnectionPool):
        return False
    pool.disconnect(inuse_connections=False)
    return True
