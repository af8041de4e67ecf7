"""A network's limits, counted in the same step as the store's verb if both are on one Redis server.

Otherwise the limits are counted first, separately. Both ways use the counters of the library ``limits``, so the app's
Flask-Limiter and ours agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from ..errors import RateLimited
from ..stores import Store
from .surge import Surge

if TYPE_CHECKING:
    from limits import RateLimitItem

logger = logging.getLogger("flask_otp")

#: Name of each rule's limit in errors.
_LIMITS = {"send": "network_send", "verify": "network_verify", "channel": "channel_budget"}


class Entry:
    """A request that passed its network's limits, and the store to call.

    :param count_failure: counts a wrong short code. Returns ``True`` for the one that exceeds the site's surge limit.
    """

    def __init__(self, store: Store, count_failure: Callable[[], bool]) -> None:
        self.store = store
        self.count_failure = count_failure


class NetworkGates:
    """The limits that the store counts together with its verb. See :class:`flask_otp.stores.base.Gates`.

    :param rule: what the items limit: ``"send"`` or ``"verify"``.
    :param keys: the keys of the items.
    :param surge: counts wrong short codes. ``None``: failures are not counted.
    """

    def __init__(
        self,
        rule: str,
        items: Sequence[RateLimitItem],
        keys: Sequence[str],
        surge: Surge | None,
        network: str,
        prefixed: Callable[[str], str],
    ) -> None:
        self._rule, self._items, self._surge, self._network = rule, items, surge, network
        surge_keys, shares = ((), b"") if surge is None else surge.gate(network)
        self.keys = [prefixed(name) for name in (*keys, *surge_keys)]
        self.arguments = (_packed(tuple(items)), shares)
        self._is_surge_passed = False

    def refuse(self, rule: int, retry_after: int) -> NoReturn:
        refuse(self._rule, self._items[rule], retry_after)

    def note_failures(self, counts: Sequence[int]) -> None:
        assert self._surge is not None
        self._is_surge_passed = self._surge.note(self._network, list(zip(counts[::2], counts[1::2], strict=True)))

    def is_surge_passed(self) -> bool:
        return self._is_surge_passed


def refuse(rule: str, item: RateLimitItem, retry_after: int) -> NoReturn:
    """
    :raises RateLimited: always.
    """
    logger.warning("the %s limit of %s is reached", rule, item)
    raise RateLimited(retry_after=max(1, retry_after), limit=_LIMITS[rule])


@lru_cache(maxsize=64)
def _packed(items: tuple[RateLimitItem, ...]) -> bytes:
    """The items in the format that ``gates.lua`` reads."""
    return b"".join(item.amount.to_bytes(4, "little") + item.get_expiry().to_bytes(5, "little") for item in items)
