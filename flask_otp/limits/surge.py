"""Detects a surge: so many wrong codes, over the whole site or from one network, that short codes must stop.

One network must not be able to stop everyone else's short codes. So its failures count for the site only until the
network itself is in a surge, after a tenth of ``OTP_SURGE_LIMIT``. From then on its short codes are not compared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..processes import lock_per_process
from .keys import PLACE, KeyMould

if TYPE_CHECKING:
    from limits import RateLimitItem

logger = logging.getLogger("flask_otp")

#: Maximum networks that a process remembers.
_NETWORKS = 10_000


def network_share(item: RateLimitItem) -> int:
    """Failures in one window that put a network in a surge."""
    return max(1, item.amount // 10)


def most_of_one_network(item: RateLimitItem) -> int:
    """Maximum failures of one network that count for the site, in one window of the network.

    Guesses that the servers compare at the same moment can exceed the share. They count like those of other networks,
    but one network can never cause a surge of the site.
    """
    return max(network_share(item), item.amount // 2)


class _Answer:
    """A yes or no that a process asks for at most once a second."""

    def __init__(self) -> None:
        self._lock = lock_per_process()
        self._known = (float("-inf"), False)

    def get(self, ask: Callable[[], bool]) -> bool:
        known = self._known
        if time.monotonic() - known[0] < 1:
            return known[1]
        answer = ask()
        with self._lock.get():
            # A thread that was delayed here must not overwrite what another thread has found since.
            if self._known is known:
                self._known = (time.monotonic(), answer)
            return self._known[1]

    def is_yes(self) -> None:
        with self._lock.get():
            self._known = (time.monotonic(), True)


class Surge:
    """Counts failures at short codes in the limits' storage.

    :param items: ``OTP_SURGE_LIMIT``.
    :param ask: calls a method of the limits' storage, or raises StoreUnavailable.
    :param ids: makes the parts of a key from ``"surge"`` and what it counts.
    """

    def __init__(
        self, items: Sequence[RateLimitItem], ask: Callable[..., Any], ids: Callable[[str, str], tuple[str, ...]]
    ) -> None:
        self._items = items
        #: In the format that ``gates.lua`` reads.
        self._shares = b"".join(
            network_share(item).to_bytes(4, "little")
            + most_of_one_network(item).to_bytes(4, "little")
            + item.get_expiry().to_bytes(5, "little")
            for item in items
        )
        self._ask = ask
        self._counters = [_Counters(item, KeyMould(item, ids("surge", PLACE))) for item in items]
        self._site = _Answer()
        self._any_network = _Answer()
        self._networks: dict[str, _Answer] = {}

    def count(self, network: str | None) -> bool:
        """Count a wrong short code. Returns ``True`` for the one that exceeds the site's limit.

        :param network: the client's network. ``None`` means the app itself.
        """
        return self.note(network, [self._count(counters, network) for counters in self._counters])

    def gate(self, network: str) -> tuple[list[str], bytes]:
        """The keys on which ``gates.lua`` counts a failure, three for each item, and the parameters that it needs."""
        keys: list[str] = []
        for counters in self._counters:
            keys += [counters.of(network), counters.site, counters.mark()]
        return keys, self._shares

    def note(self, network: str | None, counts: Sequence[tuple[int, int]]) -> bool:
        """Evaluate a failure that was counted. Returns ``True`` if it exceeded the site's limit.

        :param counts: for each item, the failures of the network and those of the site. 0 means not counted there.
        """
        for item, (of_network, of_site) in zip(self._items, counts, strict=True):
            if network is not None and of_network >= network_share(item):
                self._any_network.is_yes()
                self._network(network).is_yes()
            if of_network == network_share(item):
                logger.warning(
                    "one network's failures reached a tenth of OTP_SURGE_LIMIT (%s): its codes are strong until the "
                    "window ends",
                    item,
                )
            if of_site > item.amount:
                self._site.is_yes()
        return any(of_site == item.amount + 1 for item, (_, of_site) in zip(self._items, counts, strict=True))

    def is_on(self, network: str | None) -> bool:
        """Whether unknown browsers on this network get no short codes. ``None``: whether this holds on every network.

        The storage is asked about networks only while some network is in a surge.
        """
        if self._site.get(self._is_site):
            return True
        if network is None or not self._any_network.get(self._is_any_network):
            return False
        return self._network(network).get(lambda: self._is_network(network))

    def _count(self, counters: _Counters, network: str | None) -> tuple[int, int]:
        """Count one failure on its network, and on the site unless the network has reached its maximum there."""
        item = counters.item
        if network is None:
            return 0, self._incr(counters.site, item)
        of_network = self._incr(counters.of(network), item)
        if of_network >= network_share(item):
            # Set by each of these failures, because the process of the first may die before setting it.
            self._ask("storage.incr", counters.mark(), 2 * item.get_expiry())
        return of_network, self._incr(counters.site, item) if of_network <= most_of_one_network(item) else 0

    def _is_site(self) -> bool:
        return any(self._ask("storage.get", each.site) > each.item.amount for each in self._counters)

    def _is_any_network(self) -> bool:
        # A network that was marked in the previous period may still be in its surge.
        return any(self._ask("storage.get", each.mark(ago)) > 0 for each in self._counters for ago in (0, 1))

    def _is_network(self, network: str) -> bool:
        return any(self._ask("storage.get", each.of(network)) >= network_share(each.item) for each in self._counters)

    def _network(self, network: str) -> _Answer:
        if len(self._networks) >= _NETWORKS:
            self._networks = {}
        return self._networks.setdefault(network, _Answer())

    def _incr(self, key: str, item: RateLimitItem) -> int:
        count: int = self._ask("storage.incr", key, item.get_expiry())
        return count


class _Counters:
    """The keys of one item's counters."""

    def __init__(self, item: RateLimitItem, mould: KeyMould) -> None:
        self.item = item
        #: Of the whole site.
        self.site = mould.fill("site")
        #: Of one network.
        self.of = mould.fill
        self._expiry = item.get_expiry()

    def mark(self, ago: int = 0) -> str:
        """The key that marks a network's surge in this period of the clock, or ``ago`` periods earlier."""
        return self.of(f"networks/{int(time.time() // self._expiry) - ago}")
