"""Bytes: of a live code with its subject's counters, and of what else a subject may have behind it."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from flask_otp.stores.memory import MemoryStore
from tests.support.apps import ValkeyServer

from .ceiling import both_kinds
from .measure import Scale, exactly
from .people import HISTORIES, SubjectDriver, subject_of
from .report import Row
from .servers import Servers, open_store
from .sites import Site, our_way
from .traffic import call, environ, new_email


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    for name, others in both_kinds(servers):
        for what, history in HISTORIES.items():
            # A server that was emptied gives its memory back only slowly, so each history has a new one.
            server = others.new_valkey()
            size = _in_redis(scale.codes, server, history)
            goal = "<= 330" if what == "a live code" else ""
            yield Row(what, f"{name}, {scale.codes:,} subjects", exactly(size), "B", goal)
    count = scale.codes // 10
    yield Row("the limits of a network", f"redis, {count:,} networks", exactly(_networks(count, servers)), "B")
    yield from _memory(10 * scale.codes)


def _in_redis(count: int, server: ValkeyServer, history: Callable[[SubjectDriver], None]) -> float:
    """Bytes of a subject with this history, of ``used_memory``."""
    store = open_store(server.uri)
    return _growth(server, count, lambda number: history(SubjectDriver(store, subject_of(number))))


def _networks(count: int, servers: Servers) -> float:
    """What the limits of networks keep: each network asks for a code, and verifies."""
    server = servers.new_valkey()
    # Codes are in memory, so that the server has the limits' counters alone.
    site = Site("memory://", server.uri)

    def visit(number: int) -> None:
        asked = site.traffic(our_way()).ask(new_email())
        typed = environ("/otp/verify", {"code": "0", "challenge": "none"})
        for request in (asked, typed | {"REMOTE_ADDR": asked["REMOTE_ADDR"]}):
            call(site.app, request)

    return _growth(server, count, visit)


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


def _memory(count: int) -> Iterator[Row]:
    where = f"memory, {count:,} subjects"
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    store = _filled(count)
    size = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    yield Row("a live code", where, exactly(size), "B", "<= 200")
    del store
    # Another one, since the tracer's own books take time too. A sweep over the whole dict took 126 ms in the prototype.
    yield Row("the longest step while they expire", where, exactly(_longest(_filled(count))), "ms", "<= 10")


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
