"""The groups of rows: name for ``--only``, title, and what measures them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import capacity, costs, faults, growth, installed, server, sizes, speed, trips
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
    "trips": Group("Round trips of one request", trips.rows),
    "speed": Group("Rate, relative to a view with one Redis GET in the same app", speed.rows),
    "costs": Group("Cost of the guard, and of our presence", costs.rows),
    "sizes": Group("Bytes of a subject", sizes.rows),
    "growth": Group("Time of a verb in a full store, relative to a store with few codes", growth.rows),
    "installed": Group("Size and growth on the Redis that is installed here", installed.rows),
    "faults": Group("Failing stores, and many requests at once", faults.rows),
    "server": Group("What a verb costs the Redis server", server.rows),
    "capacity": Group("What a site needs", capacity.rows),
}
