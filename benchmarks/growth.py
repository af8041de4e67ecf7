"""How it grows: with threads, with gunicorn's workers of every kind, and with the live codes of a store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from itertools import cycle
from typing import Any

from flask_otp.stores import Attempt, RedeemOutcome, Store
from flask_otp.stores.memory import MemoryStore

from .ceiling import server_seconds
from .measure import Case, Rounds, Scale, exactly
from .people import POLICY, ask, copies, subject_of
from .report import Row
from .servers import Gunicorn, Servers, gunicorn, open_store
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
_THREADS = (1, 2, 4, 8, 16, 32)
_WARM_UP = 32
_FEW = 1_000
#: Every subject has its one challenge under the same id, so that no list of a million is needed.
_ID = b"the id of a code"
#: Attempts never run out: it is the same verb each time.
_ENDLESS = replace(POLICY, max_attempts=10**9, failure_budget=((10**9, 3600),))
#: A verb takes a tenth of a request, or less.
_TIMES = 10


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    site = Site(servers.uri, servers.uri, limiter=False)
    yield from _threads(scale, site)
    for name, (kind, processes, threads) in WORKERS.items():
        if find_spec("gevent") is None and kind == "gevent":
            yield Row("requests", name, None, note="gevent is not installed")
            continue
        with gunicorn("benchmarks.sites", kind, processes, threads, BENCHMARK_URI=servers.uri) as server:
            yield from _workers(scale, site, name, server)
    yield from _codes(scale, servers)


def _threads(scale: Scale, site: Site) -> Iterator[Row]:
    traffic = site.traffic(our_way(session=False))
    for number in _THREADS:
        for what, case in {"verify": traffic.verify(), "send": traffic.send()}.items():
            requests = case.prepare(scale.calls // 2)
            with ThreadPoolExecutor(number) as pool:
                list(pool.map(case.call, case.prepare(2 * number)))
                began = time.process_time()
                answers = list(pool.map(case.call, requests))
                seconds = time.process_time() - began
            for answer in answers:
                case.check(answer)
            cost = exactly(seconds / len(requests) * 1e6)
            yield Row(f"{what}: processor time of the app", f"{number} threads", cost, "us")


def _workers(scale: Scale, site: Site, name: str, server: Gunicorn) -> Iterator[Row]:
    traffic = site.traffic(our_way(session=False))
    cases = {"GET view": traffic.open("/reference", key="nothing"), "send": traffic.send(), "verify": traffic.verify()}
    used = {}
    for what, case in cases.items():
        requests = case.prepare(scale.calls)
        server.ask(requests[:_WARM_UP])
        before, began = server.cpu_seconds(), time.perf_counter()
        answers = server.ask(requests[_WARM_UP:])
        seconds, cpu = time.perf_counter() - began, server.cpu_seconds() - before
        for answer in answers:
            case.check(answer)
        used[what] = cpu / len(answers) * 1e6
        yield Row(f"{what}: processor time of the app", name, exactly(used[what]), "us")
        yield Row(f"{what}: answered", name, exactly(round(len(answers) / seconds)), "a second")
    yield Row("login, send and verify", name, exactly(used["send"] + used["verify"]), "us")


def _codes(scale: Scale, servers: Servers) -> Iterator[Row]:
    """The time of one verb in a full store, relative to one with a thousand live codes."""
    what, size = "verify, wrong (the verb), over 1,000 codes", scale.block * _TIMES
    few, few_there = _in_memory(_FEW), _in_redis(servers, _FEW)
    for count in (number for number in (10_000, 100_000, 1_000_000) if number <= scale.many):
        measured = Rounds({"few": few, "many": _in_memory(count)}, scale.rounds, size)
        # A rate is the reciprocal of a time: how often the small one answers while the large one does once.
        yield Row(what, f"memory, {count:,} codes", measured.rate("few", "many"), "x")
        measured = Rounds({"few": few_there, "many": _in_redis(servers, count)}, scale.rounds, size)
        where = f"redis, {count:,} codes, processor time of the server"
        yield Row(what, where, measured.rate("few", "many"), "x")


def _in_memory(count: int) -> Case:
    store = MemoryStore(max_subjects=count)
    for number in range(count):
        ask(store, number, _ID)
    return _case(store, count)


def _in_redis(servers: Servers, count: int) -> Case:
    """On a server of its own. By the wall's clock, it costs twice as much once it has moved to the other core."""
    server = servers.new_valkey()
    store = open_store(server.uri)
    ask(store, 0, _ID)
    client = server.client()
    copies(client, "otp", count)
    return replace(_case(store, count), clock=lambda: server_seconds(client))


def _case(store: Store, count: int) -> Case:
    numbers, attempt = cycle(range(0, count, max(1, count // 997))), Attempt(_ID, False, b"", 0)
    now = int(time.time())

    def check(answer: Any) -> None:
        if answer.outcome is not RedeemOutcome.WRONG:
            raise RuntimeError(f"the live code was not there: {answer}")

    return Case(
        lambda size: [subject_of(next(numbers)) for _ in range(size)],
        lambda subject: store.redeem(subject, attempt, _ENDLESS, now),
        check,
    )
