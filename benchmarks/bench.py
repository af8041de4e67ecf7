"""What every group of rows is handed: the servers, and how much to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .report import Row
from .servers import STORES, Missing, Servers


@dataclass(frozen=True)
class Scale:
    """How much to measure.

    :param rounds: pairs for each ratio.
    :param block: calls of one kind in a row.
    :param codes: live codes in a store of which the size is measured.
    :param codes_in_memory: the same in the memory store.
    :param many: live codes in the store that is compared with one of 1,000.
    :param at_once: right codes for one challenge at the same time.
    :param guesses: wrong codes for one challenge.
    :param tries: requests to a store that fails.
    :param stores: which ones, as far as they are installed.
    """

    rounds: int
    block: int
    codes: int
    codes_in_memory: int
    many: int
    at_once: int
    guesses: int
    tries: int
    stores: tuple[str, ...] = STORES


FULL = Scale(
    rounds=100, block=10, codes=10_000, codes_in_memory=100_000, many=1_000_000, at_once=200, guesses=1000, tries=5
)
QUICK = Scale(rounds=25, block=5, codes=1_000, codes_in_memory=10_000, many=100_000, at_once=200, guesses=1000, tries=3)
TINY = Scale(
    rounds=2, block=1, codes=20, codes_in_memory=20, many=20, at_once=20, guesses=20, tries=1, stores=STORES[:3]
)


@dataclass(frozen=True)
class Bench:
    scale: Scale
    servers: Servers

    def stores(self) -> Iterator[tuple[str, str]]:
        """Name and URI of each store that is here."""
        for name in self.scale.stores:
            try:
                yield name, self.servers.uri(name)
            except Missing:
                continue

    def missing(self, what: str) -> Iterator[Row]:
        """A row for each store that is not."""
        for name in self.scale.stores:
            try:
                self.servers.uri(name)
            except Missing as why:
                yield Row(what, name, None, note=str(why))
