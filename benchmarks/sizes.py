"""Bytes: of a live code with its subject's counters, and of what else a subject may have behind it."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask_otp.stores.memory import MemoryStore
from tests.support.apps import ValkeyServer

from .bench import Bench
from .ceiling import servers
from .measure import exactly
from .people import HISTORIES, SubjectDriver, subject_of
from .report import Row, at_most
from .servers import open_store
from .sites import Plan, Site
from .traffic import Traffic, call

_IN_REDIS, _MEMORY = at_most(330), at_most(200)
#: Milliseconds. A sweep over the whole dict took 126 in the prototype.
_NO_STALL = at_most(10)


def rows(bench: Bench) -> Iterator[Row]:
    for name, server in servers(bench):
        for number, (what, history) in enumerate(HISTORIES.items()):
            size = in_redis(bench, server, history)
            yield Row(
                what, f"{name}, {bench.scale.codes:,} subjects", exactly(size), "B", None if number else _IN_REDIS
            )
    networks = bench.scale.codes // 10
    size = of_networks(bench, bench.servers.valkey)
    yield Row("the limits of a network", f"redis, {networks:,} networks", exactly(size), "B")
    yield from _memory(bench)


def in_redis(bench: Bench, server: ValkeyServer, history: Callable[[SubjectDriver], None]) -> float:
    """Bytes of a subject with this history, of ``used_memory``."""
    with _another(server) as empty:
        store = open_store(empty.uri)
        return _growth(empty, bench.scale.codes, lambda number: history(SubjectDriver(store, subject_of(number))))


def of_networks(bench: Bench, server: ValkeyServer) -> float:
    """What the limits of networks keep: each network asks for a code, and verifies."""
    with _another(server) as empty:
        # Codes are in memory, so that the server has the limits' counters alone.
        traffic = Traffic(Site(Plan("memory://", empty.uri, rules=True)))

        def visit(number: int) -> None:
            asked = traffic.post("/otp/send", email="one@example.com")
            typed = traffic.post("/otp/verify", code="0", challenge="none") | {"REMOTE_ADDR": asked["REMOTE_ADDR"]}
            for environ in (asked, typed):
                call(traffic.site, environ)

        return _growth(empty, bench.scale.codes // 10, visit)


@contextmanager
def _another(server: ValkeyServer) -> Iterator[ValkeyServer]:
    """An empty server of the same kind: one that was emptied gives its memory back by and by."""
    empty = ValkeyServer(server.directory, str(server.binary))
    empty.start()
    try:
        yield empty
    finally:
        empty.stop()


def _growth(server: ValkeyServer, count: int, visit: Callable[[int], None]) -> float:
    """Bytes for each of ``count`` visits."""
    visit(count)  # connections and their buffers are there now
    with server.client() as client:
        before = _used(client)
        for number in range(count):
            visit(number)
        return (_used(client) - before) / count


def _used(client: Any) -> int:
    # The heap of the scripts comes and goes, and has nothing to do with the codes.
    client.script_flush("SYNC")
    return int(client.info("memory")["used_memory"])


def _memory(bench: Bench) -> Iterator[Row]:
    count = 10 * bench.scale.codes
    where = f"memory, {count:,} subjects"
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    store = _filled(count)
    size = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    yield Row("a live code", where, exactly(size), "B", _MEMORY)
    del store
    # Another one, since the tracer's own books take time too.
    yield Row("the longest step while they expire", where, exactly(_longest(_filled(count))), "ms", _NO_STALL)


def _filled(count: int) -> MemoryStore:
    store = MemoryStore(max_subjects=2 * count)
    for number in range(count):
        SubjectDriver(store, subject_of(number)).ask()
    return store


def _longest(store: MemoryStore) -> float:
    """Milliseconds of processor time of the slowest of 1,000 changes, when all that there was has expired."""
    longest, after_all = 0.0, int(time.time()) + 2 * 86400
    # The collector's rounds are through all of this process, and have nothing to do with the store.
    gc.collect()
    gc.disable()
    try:
        for number in range(1000):
            began = time.thread_time()
            store.drop(subject_of(number), b"", after_all)
            longest = max(longest, time.thread_time() - began)
    finally:
        gc.enable()
    return longest * 1000
