"""Size and growth on the Redis or Valkey that is installed on this machine.

The server that the test extra brings is built with libc's allocator; those that people run, mostly with jemalloc.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

from .bench import Bench
from .growth import grown_redis
from .measure import exactly
from .people import HISTORIES
from .report import Row
from .servers import Servers
from .sizes import IN_REDIS, in_redis

_BINARIES = ("valkey-server", "redis-server")


def rows(bench: Bench) -> Iterator[Row]:
    binary = next(filter(None, map(shutil.which, _BINARIES)), None)
    if binary is None:
        yield Row("a live code", " or ".join(_BINARIES), None, note="not installed")
        return
    with Servers(binary) as servers:
        bench = replace(bench, servers=servers)
        name = _name(servers)
        for number, (what, history) in enumerate(HISTORIES.items()):
            size = in_redis(bench, bench.scale.codes, history)
            yield Row(what, f"{name}, {bench.scale.codes:,} subjects", exactly(size), "B", None if number else IN_REDIS)
        yield grown_redis(bench, name)


def _name(servers: Servers) -> str:
    with servers.valkey.client() as client:
        server, allocator = client.info("server"), client.info("memory")["mem_allocator"]
    kind = "Valkey" if "valkey_version" in server else "Redis"
    return f"{kind} {server.get('valkey_version', server['redis_version'])}, {allocator}"
