"""How it grows: with threads, with gunicorn's workers of every kind, and with the live codes of a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

from flask_otp.stores import Attempt, RedeemOutcome, Store, store_from_uri
from flask_otp.stores.memory import MemoryStore

from .capacity import ID, POLICY, fill, server_seconds, subject_of
from .measure import Case, Rounds, Scale, spread
from .report import Row
from .servers import PATIENCE, Gunicorn, Servers
from .sites import Site, our_way

#: gunicorn's arguments: kinds of workers, processes, and what each process does at one time.
WORKERS = {
    "sync, 1 process": ("sync", 1, 1),
    "sync, 2 processes": ("sync", 2, 1),
    "sync, 4 processes": ("sync", 4, 1),
    "gthread, 1 process, 4 threads": ("gthread", 1, 4),
    "gthread, 1 process, 32 threads": ("gthread", 1, 32),
    "gthread, 2 processes, 4 threads": ("gthread", 2, 4),
    "gevent, 1 process": ("gevent", 1, 32),
    "gevent, 2 processes": ("gevent", 2, 32),
}
_WARM_UP = 32
#: Attempts never run out: it is the same verb each time.
_ENDLESS = replace(POLICY, max_attempts=10**9, failure_budget=((10**9, 3600),))


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    uri = servers.valkey.uri
    traffic = Site(uri, uri).traffic(our_way(session=False))
    cases = {"send": traffic.send(), "verify": traffic.verify()}
    for threads in (1, 2, 4, 8, 16, 32):
        with ThreadPoolExecutor(threads) as pool:
            for what, case in cases.items():
                cost = _cost(case, scale.calls // 2, time.process_time, partial(pool.map, case.call))
                yield Row(f"{what}: processor time of the app", f"{threads} threads", spread(cost), "us")
    for name, workers in WORKERS.items():
        with closing(Gunicorn(servers.directory, "benchmarks.sites", *workers, BENCHMARK_URI=uri)) as server:
            costs = {what: _cost(case, scale.calls, server.cpu_seconds, server.ask) for what, case in cases.items()}
        for what, cost in costs.items():
            yield Row(f"{what}: processor time of the app", name, spread(cost), "us")
        yield Row("login, send and verify", name, spread(sum(costs.values())), "us")
    yield from _codes(scale, servers)


def _cost(case: Case, count: int, clock: Callable[[], float], ask: Callable[[Sequence[Any]], Iterable[Any]]) -> float:
    """Microseconds for each of so many calls, which ``ask`` makes at the same time."""
    clocked = replace(case, clock=clock)
    clocked.seconds(_WARM_UP, ask)
    return clocked.seconds(count, ask) * 1e6


def _codes(scale: Scale, servers: Servers) -> Iterator[Row]:
    """The time of one verb in a full store, relative to one with a thousand live codes."""
    stores = {"memory, {:,} codes": _in_memory, "redis, {:,} codes, processor time of the server": _in_redis}
    for where, make in stores.items():
        few = make(servers, 1_000)
        for count in (number for number in (10_000, 100_000, 1_000_000) if number <= scale.many):
            # A verb takes a tenth of a request, or less.
            measured = Rounds({"few": few, "many": make(servers, count)}, scale.rounds, scale.block * 10)
            # A rate is the reciprocal of a time: how often the small one answers while the large one does once.
            ratio = measured.rate("few", "many")
            yield Row("verify, wrong (the verb), over 1,000 codes", where.format(count), ratio, "x")


def _in_memory(servers: Servers, count: int) -> Case:
    store = MemoryStore(max_subjects=count)
    fill(store, count)
    return _case(store, count)


def _in_redis(servers: Servers, count: int) -> Case:
    """On a server of its own. By the wall's clock, it costs twice as much once it has moved to the other core."""
    server = servers.new_valkey()
    store, client = store_from_uri(server.uri, "otp", PATIENCE), server.client()
    fill(store, count, client)
    return replace(_case(store, count), clock=lambda: server_seconds(client))


def _case(store: Store, count: int) -> Case:
    numbers, attempt = cycle(range(0, count, max(1, count // 997))), Attempt(ID, False, b"", 0)
    now = int(time.time())

    def check(answer: Any) -> None:
        if answer.outcome is not RedeemOutcome.WRONG:
            raise RuntimeError(f"the live code was not there: {answer}")

    return Case(
        lambda size: [subject_of(next(numbers)) for _ in range(size)],
        lambda subject: store.redeem(subject, attempt, _ENDLESS, now),
        check,
    )
