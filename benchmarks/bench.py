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
    """

    rounds: int
    block: int
    stores: tuple[str, ...] = STORES


FULL = Scale(rounds=200, block=10)
QUICK = Scale(rounds=40, block=5)
TINY = Scale(rounds=2, block=1)


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
