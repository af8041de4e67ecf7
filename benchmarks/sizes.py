"""Bytes: of a live code with its subject's counters, and of what else a subject may have behind it."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

from flask_otp.stores.memory import MemoryStore
from tests.support.apps import ValkeyServer

from .ceiling import both_kinds
from .measure import Scale, exactly
from .people import ask, subject_of
from .report import Row
from .servers import Servers
from .sites import Site, our_way
from .traffic import call, wrong_for

#: What a subject may have behind it: which codes were typed, right or wrong.
_HISTORIES: dict[str, list[bool]] = {
    "a live code": [],
    "a code verified, its proof": [True],
    "a live code, one failure": [False],
    "a code used up by five failures": [False] * 5,
}


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    for name, others in both_kinds(servers):
        for what, typed in _HISTORIES.items():
            # A server that was emptied gives its memory back only slowly, so each time there is a new one.
            server = others.new_valkey()
            # The counters of the limits are elsewhere.
            size = exactly(_growth(scale.codes, server, Site(server.uri, servers.uri), typed))
            yield Row(what, f"{name}, {scale.codes:,} subjects", size, "B", "" if typed else "<= 330")
    count, server = scale.codes // 10, servers.new_valkey()
    # And here the codes are.
    size = exactly(_growth(count, server, Site("memory://", server.uri), [True]))
    yield Row("the limits of a network", f"redis, {count:,} networks", size, "B")
    yield from _memory(10 * scale.codes)


def _growth(count: int, server: ValkeyServer, site: Site, typed: Sequence[bool]) -> float:
    """Bytes for each person who has asked for a code, and typed the right or a wrong one so often."""
    traffic = site.traffic(our_way(session=False))

    def visit() -> None:
        request_with, code = traffic.sent()
        for right in typed:
            call(site.app, request_with(code if right else wrong_for(code)))

    visit()  # connections and their buffers are there now
    with server.client() as client:
        before = _used(client)
        for _ in range(count):
            visit()
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
        ask(store, number)
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
