"""Many servers as one client: Redis Cluster, and a master that Sentinels watch.

redis-py has clients for both. Its one for clusters connects when it is made, so that an app could not start without the
cluster; and in a failing command it asks every node for the way, one thread after the other: with all six nodes
hanging and time-outs of 0.25 seconds, the last of twenty threads had its answer after 31. Here a request asks one
hanging node for the way at most, and nothing is locked, so that there is nothing to wait for, or to inherit by a fork.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError

from .servers import OUTAGES, Command, NotSent, Script, Server

Address = tuple[str, int]

#: As many as the Redis Cluster specification has clients follow for one command.
_REDIRECTIONS = 5


class Chart(NamedTuple):
    """Who has which slots: ranges in order, and all servers that were named."""

    starts: list[int]
    ranges: list[tuple[int, Address]]
    known: list[Address]


class Topology(ABC):
    """A client that finds the server of a key, and finds it anew after a failover.

    The way is asked for before the first command, and when there is a sign that it has changed. A command goes to a
    second server only where the first has refused it, or was never reached; where that is not known, it has failed.

    :param make: gives the client for an address, without connecting.
    :param timeout: seconds after which no further server is asked for the way.
    """

    def __init__(self, make: Callable[[str, int], Server], timeout: float) -> None:
        self.timeout = timeout
        self._make = make
        self._servers: dict[Address, Server] = {}
        self._chart: Chart | None = None
        self._doubtful = True
        self._turns = count()

    @abstractmethod
    def _guides(self) -> Sequence[Server]:
        """The servers that know the way."""

    @abstractmethod
    def _read_chart(self, guide: Server) -> Chart:
        """Ask one of them."""

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]:
        """As :meth:`Server.exchange`, with the server that has the key."""
        doubtful = self._doubtful
        if doubtful:
            self._find_the_way()
        try:
            return self._ask(self._owner(key), commands)
        except (NotSent, ReadOnlyError):
            # Nothing was done. Without another try, each process would fail once after a failover it slept through.
            if doubtful or not self._find_the_way():
                raise
        return self._ask(self._owner(key), commands)

    # Beside ``exchange``, what ``limits`` asks of a client of redis-py for a fixed window.

    def get(self, key: str) -> Any:
        return self.exchange(key, ("GET", key))[0]

    def ttl(self, key: str) -> Any:
        return self.exchange(key, ("TTL", key))[0]

    def register_script(self, script: str | bytes) -> Script:
        return Script(self, script)

    def close(self) -> None:
        for server in (*self._servers.values(), *self._guides()):
            server.close()

    def _ask(self, server: Server, commands: Sequence[Command]) -> list[Any]:
        first: tuple[Command, ...] = ()
        for _ in range(_REDIRECTIONS):
            try:
                return server.exchange(b"", *first, *commands)[len(first) :]
            except AskError as error:
                moved = isinstance(error, MovedError)
                self._doubtful |= moved
                first = () if moved else (("ASKING",),)
                server = self._server((error.host or _host(server), error.port))
            except (redis.ConnectionError, redis.TimeoutError, ClusterDownError, ReadOnlyError, OSError):
                self._doubtful = True
                raise
        raise ClusterDownError("redirected too often")

    def _owner(self, key: bytes | str) -> Server:
        chart = self._chart
        if chart is None:
            raise NotSent("no server tells who has the key")
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        place = bisect_right(chart.starts, slot) - 1
        if place < 0 or slot > chart.ranges[place][0]:
            self._doubtful = True
            raise NotSent("no server has the key's slot")
        return self._server(chart.ranges[place][1])

    def _server(self, address: Address) -> Server:
        # Two threads may make one each: neither is connected yet, and both are given the same.
        return self._servers.get(address) or self._servers.setdefault(address, self._make(*address))

    def _find_the_way(self) -> bool:
        """Ask one guide after the other, each time beginning with another one; if none answers, keep what there is."""
        self._doubtful = False
        guides, turn, start = self._guides(), next(self._turns), time.monotonic()
        for step in range(len(guides)):
            try:
                chart = self._read_chart(guides[(turn + step) % len(guides)])
            except OUTAGES:
                if time.monotonic() - start >= self.timeout:
                    break
            else:
                self._chart = chart
                self._servers = {address: self._server(address) for address in chart.known}
                return True
        self._doubtful = True
        return False


class Cluster(Topology):
    """Redis Cluster. Any node knows the way: those of the URI, and those that they named."""

    def __init__(self, addresses: Sequence[Address], make: Callable[[str, int], Server], timeout: float) -> None:
        super().__init__(make, timeout)
        self._addresses = addresses

    def _guides(self) -> list[Server]:
        known = self._chart.known if self._chart else []
        return [self._server(address) for address in dict.fromkeys((*self._addresses, *known))]

    def _read_chart(self, guide: Server) -> Chart:
        (rows,) = guide.exchange(b"", ("CLUSTER", "SLOTS"))
        named = sorted((row[0], row[1], [_address(node, guide) for node in row[2:]]) for row in rows)
        return Chart(
            starts=[start for start, _, _ in named],
            ranges=[(end, nodes[0]) for _, end, nodes in named],
            known=list(dict.fromkeys(node for _, _, nodes in named for node in nodes)),
        )


class Sentinel(Topology):
    """The master of a service, as its Sentinels name it."""

    def __init__(
        self, sentinels: Sequence[Server], service: str, make: Callable[[str, int], Server], timeout: float
    ) -> None:
        super().__init__(make, timeout)
        self._sentinels = sentinels
        self._service = service

    def _guides(self) -> Sequence[Server]:
        return self._sentinels

    def _read_chart(self, guide: Server) -> Chart:
        (answer,) = guide.exchange(b"", ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
        if answer is None:
            raise redis.ResponseError("the Sentinel knows no such service")
        master = answer[0].decode(), int(answer[1])
        return Chart(starts=[0], ranges=[(REDIS_CLUSTER_HASH_SLOTS - 1, master)], known=[master])


def _address(node: Sequence[Any], guide: Server) -> Address:
    """A node that has no name of its own yet is where we have asked."""
    return (node[0] or b"").decode() or _host(guide), node[1]


def _host(server: Server) -> str:
    return str(server.connection_pool.connection_kwargs["host"])
