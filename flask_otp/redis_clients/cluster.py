"""Several servers as one client: Redis Cluster, and a master watched by Sentinels.

redis-py has clients for both. Its cluster client connects when it is created, so an app could not start while the
cluster is down. When a command fails, it asks every node for the slots, one thread after the other: with all six nodes
hanging and timeouts of 0.25 seconds, the last of twenty threads got its answer after 31 seconds. Here a request waits
for at most one hanging seed, for half the timeout. No thread waits for others, and no lock is copied by a fork.
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

from .server import OUTAGES, Command, NotSent, Script, Server

Address = tuple[str, int]
Factory = Callable[[str, int], Server]

#: The number of redirects for one command that the Redis Cluster specification asks clients to follow.
_REDIRECTIONS = 5


class SlotMap(NamedTuple):
    """Which server has which slots: ranges in order, and all servers that were named."""

    starts: list[int]
    ranges: list[tuple[int, Address]]
    known: list[Address]


class Topology(ABC):
    """A client that finds the server of a key, and finds the new one after a failover.

    The topology is looked up before the first command, and again at a sign that it has changed. A command goes to a
    second server only if the first refused it or was never reached. If that is not known, the command fails.

    :param seeds: servers that know the topology.
    :param make_seed: creates the client of a seed without connecting. Its timeout is half of the others'.
    :param make: creates the client of any other server.
    :param timeout: seconds that those clients wait for a reply.
    """

    def __init__(self, seeds: Sequence[Address], make_seed: Factory, make: Factory, timeout: float) -> None:
        self.timeout = timeout
        self._addresses = seeds
        self._make_seed = make_seed
        self._make = make
        self._seeds: dict[Address, Server] = {}
        self._servers: dict[Address, Server] = {}
        self._slots: SlotMap | None = None
        self._failure: Exception | None = None
        self._is_stale = True
        self._turns = count()

    @abstractmethod
    def _read_slots(self, seed: Server) -> SlotMap:
        """Ask a seed for the slots."""

    def _seeds_to_ask(self) -> Sequence[Address]:
        return self._addresses

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]:
        """Like :meth:`Server.exchange`, with the server that has the key."""
        is_stale = self._is_stale
        if is_stale:
            self._refresh_slots()
        owner = None
        try:
            owner = self._owner(key)
            return self._ask(owner, commands)
        except (NotSent, ReadOnlyError):
            # Nothing was executed. Without another try, each process that was idle during a failover would fail once
            # after it. Trying the same server again would double the waiting time.
            if is_stale or not self._refresh_slots() or self._owner(key) is owner:
                raise
        return self._ask(self._owner(key), commands)

    # Besides ``exchange``, the methods of a redis-py client that ``limits`` needs for a fixed window.

    def get(self, key: str) -> Any:
        return self.exchange(key, ("GET", key))[0]

    def ttl(self, key: str) -> Any:
        return self.exchange(key, ("TTL", key))[0]

    def register_script(self, script: str | bytes) -> Script:
        return Script(self, script)

    def servers(self) -> list[Server]:
        """A client of each server in the last known topology.

        :raises NotSent: no server has answered with the topology.
        """
        if self._is_stale:
            self._refresh_slots()
        if self._slots is None:
            raise NotSent("no server tells which other servers there are") from self._failure
        return [self._server(address) for address in self._slots.known]

    def close(self) -> None:
        for server in (*self._servers.values(), *self._seeds.values()):
            server.close()

    def _ask(self, server: Server, commands: Sequence[Command]) -> list[Any]:
        is_asking = False
        for _ in range(_REDIRECTIONS):
            # One ASKING is for one command.
            sent = [each for command in commands for each in ((("ASKING",), command) if is_asking else (command,))]
            try:
                replies = server.exchange(b"", *sent)
                return replies[1::2] if is_asking else replies
            except AskError as error:
                is_asking = not isinstance(error, MovedError)
                if not is_asking:
                    self._is_stale = True
                server = self._server((error.host or _host(server), error.port))
            except OUTAGES:
                self._is_stale = True
                raise
        raise ClusterDownError("redirected too often")

    def _owner(self, key: bytes | str) -> Server:
        slots = self._slots
        if slots is None:
            raise NotSent("no server tells which server has the key") from self._failure
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        place = bisect_right(slots.starts, slot) - 1
        if place < 0 or slot > slots.ranges[place][0]:
            self._is_stale = True
            raise NotSent("no server has the key's slot")
        return self._server(slots.ranges[place][1])

    # Two threads may each create a client. Neither is connected yet, and both threads get the same one.

    def _server(self, address: Address) -> Server:
        return self._servers.get(address) or self._servers.setdefault(address, self._make(*address))

    def _seed(self, address: Address) -> Server:
        return self._seeds.get(address) or self._seeds.setdefault(address, self._make_seed(*address))

    def _refresh_slots(self) -> bool:
        """Ask the seeds one after the other, starting with another each time. If none answers, keep what we have."""
        self._is_stale = False
        addresses, turn, start = self._seeds_to_ask(), next(self._turns), time.monotonic()
        for step in range(len(addresses)):
            try:
                slots = self._read_slots(self._seed(addresses[(turn + step) % len(addresses)]))
            except OUTAGES as error:
                self._failure = error
                if time.monotonic() - start >= self.timeout / 2:
                    break
            else:
                self._slots = slots
                # Clients of servers that are gone are dropped with their connections.
                self._servers = {address: self._server(address) for address in slots.known}
                self._seeds = {address: self._seed(address) for address in self._seeds_to_ask()}
                return True
        self._is_stale = True
        return False


class Cluster(Topology):
    """Redis Cluster. Every node knows the topology: those of the URI, and those that they named."""

    def _seeds_to_ask(self) -> Sequence[Address]:
        known = self._slots.known if self._slots else ()
        return list(dict.fromkeys((*self._addresses, *known)))

    def _read_slots(self, seed: Server) -> SlotMap:
        (rows,) = seed.exchange(b"", ("CLUSTER", "SLOTS"))
        named = sorted((row[0], row[1], [_address(node, seed) for node in row[2:]]) for row in rows)
        return SlotMap(
            starts=[start for start, _, _ in named],
            ranges=[(end, nodes[0]) for _, end, nodes in named],
            known=list(dict.fromkeys(node for _, _, nodes in named for node in nodes)),
        )


class Sentinel(Topology):
    """The master of a service, as its Sentinels report it."""

    def __init__(
        self, service: str, seeds: Sequence[Address], make_seed: Factory, make: Factory, timeout: float
    ) -> None:
        super().__init__(seeds, make_seed, make, timeout)
        self._service = service

    def _read_slots(self, seed: Server) -> SlotMap:
        (answer,) = seed.exchange(b"", ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
        if answer is None:
            raise redis.ResponseError("the Sentinel knows no such service")
        master = answer[0].decode(), int(answer[1])
        return SlotMap(starts=[0], ranges=[(REDIS_CLUSTER_HASH_SLOTS - 1, master)], known=[master])


def _address(node: Sequence[Any], seed: Server) -> Address:
    """A node that does not know its own name yet has the address that we asked."""
    return (node[0] or b"").decode() or _host(seed), node[1]


def _host(server: Server) -> str:
    return str(server.connection_pool.connection_kwargs["host"])
