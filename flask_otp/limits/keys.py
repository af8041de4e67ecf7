"""The keys of the library ``limits``, made once per rule. Each request only fills in what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limits import RateLimitItem

#: Placeholder for the name of what is counted. Such names never contain this character.
PLACE = "\0"


class KeyMould:
    """The key of one item, with a placeholder.

    :param ids: as for ``item.key_for``, including :data:`PLACE`.
    """

    def __init__(self, item: RateLimitItem, ids: Sequence[str]) -> None:
        self._before, _, self._after = item.key_for(*ids).partition(PLACE)

    def fill(self, name: str) -> str:
        return self._before + name + self._after
