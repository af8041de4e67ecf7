"""The keys of the library ``limits``, made once for each rule: only what is counted is filled in at each request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limits import RateLimitItem

#: Stands for what is filled in. Nothing that is counted has such a character in its name.
PLACE = "\0"


class KeyMould:
    """The key of one item, with a place in it.

    :param ids: as for ``item.key_for``, with :data:`PLACE` among them.
    """

    def __init__(self, item: RateLimitItem, ids: Sequence[str]) -> None:
        self._before, _, self._after = item.key_for(*ids).partition(PLACE)

    def fill(self, name: str) -> str:
        return self._before + name + self._after
