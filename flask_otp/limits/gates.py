"""A network's limits, counted in the same step as the store's verb if both are on one Redis server.

Otherwise the limits are counted first, separately. Both ways use the counters of the library ``limits``, so the app's
Flask-Limiter and ours agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from ..errors import RateLimited
from ..stores import Store
from .keys import PLACE, KeyMould
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


class NetworkRule:
    """The limits of a network's requests of one kind.

    :param name: what the items limit: ``"send"`` or ``"verify"``.
    :param ids: makes the parts of a key from the name and what is counted.
    """

    def __init__(self, name: str, items: Sequence[RateLimitItem], ids: Callable[[str, str], tuple[str, ...]]) -> None:
        self.name = name
        self.items = items
        #: In the format that ``gates.lua`` reads.
        self.packed = b"".join(
            item.amount.to_bytes(4, "little") + item.get_expiry().to_bytes(5, "little") for item in items
        )
        self._moulds = [KeyMould(item, ids(name, PLACE)) for item in items]

    def keys(self, network: str) -> list[str]:
        return [mould.fill(network) for mould in self._moulds]


class NetworkGates:
    """The limits that the store counts together with its verb. See :class:`flask_otp.stores.base.Gates`.

    :param surge: counts wrong short codes. ``None``: failures are not counted.
    """

    def __init__(self, rule: NetworkRule, surge: Surge | None, network: str, prefixed: Callable[[str], str]) -> None:
        self._rule, self._surge, self._network = rule, surge, network
        surge_keys, shares = ([], b"") if surge is None else surge.gate(network)
        self.keys = [prefixed(name) for name in rule.keys(network) + surge_keys]
        self.arguments = (rule.packed, shares)
        self._is_surge_passed = False

    def refuse(self, rule: int, retry_after: int) -> NoReturn:
        refuse(self._rule.name, self._rule.items[rule], retry_after)

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
