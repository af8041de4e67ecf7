"""The groups of rows: name for ``--only``, title, and what measures them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import ceiling, growth, peers, sizes, table
from .bench import Bench, Scale
from .report import Row
from .servers import Servers, close_connections


@dataclass(frozen=True)
class Group:
    title: str
    rows: Callable[[Bench], Iterator[Row]]

    def measure(self, scale: Scale) -> list[Row]:
        """On servers of its own, so that no group sees what another one left."""
        with Servers() as servers:
            try:
                return list(self.rows(Bench(scale, servers)))
            finally:
                close_connections()


GROUPS = {
    "table": Group("Ours, beside the same by hand", table.rows),
    "growth": Group("Growth with threads, workers and live codes", growth.rows),
    "ceiling": Group("What one core of Redis bears", ceiling.rows),
    "sizes": Group("Bytes of a subject", sizes.rows),
    "peers": Group("Whole logins, beside other packages", peers.rows),
}
