"""Bytes: of a live code with its subject's counters, and of what else a subject may have behind it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

from flask_otp.stores.memory import MemoryStore
from tests.support.apps import ValkeyServer

from .measure import Scale, spread
from .report import Row
from .servers import Servers
from .sites import Site, our_way
from .stores import fill
from .traffic import wrong_for

#: What a subject may have behind it: which codes were typed, right or wrong.
_HISTORIES: dict[str, list[bool]] = {
    "a live code": [],
    "a code verified, its proof": [True],
    "a live code, one failure": [False],
    "a code used up by five failures": [False] * 5,
}


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    for name, binary in servers.both_kinds():
        for what, typed in _HISTORIES.items():
            # A server that was emptied gives its memory back only slowly, so each time there is a new one.
            server = servers.new_valkey(binary)
            # The Limiter has the counters of the limits elsewhere.
            size = _growth(scale.codes, server, Site(server.uri, servers.uri, limiter=True), typed)
            yield Row(what, f"{name}, {scale.codes:,} subjects", spread(size), "B", "" if typed else "<= 330")
    count, server = scale.codes // 10, servers.new_valkey()
    # And here the codes are elsewhere.
    size = _growth(count, server, Site("memory://", server.uri, limiter=True), [True])
    yield Row("the limits of a network", f"redis, {count:,} networks", spread(size), "B")
    yield Row(
        "a live code", f"memory, {10 * scale.codes:,} subjects", spread(_in_memory(10 * scale.codes)), "B", "<= 200"
    )


def _growth(count: int, server: ValkeyServer, site: Site, typed: Sequence[bool]) -> float:
    """Bytes for each person who has asked for a code, and typed the right or a wrong one so often."""
    traffic = site.traffic(our_way(session=False))

    def visit() -> None:
        request_with, code = traffic.sent()
        for right in typed:
            traffic.call(request_with(code if right else wrong_for(code)))

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


def _in_memory(count: int) -> float:
    store = MemoryStore(max_subjects=2 * count)
    tracemalloc.start()
    fill(store, count)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / count
