"""What a site of so many messages a second needs: the measured bytes and microseconds, multiplied.

The state is steady: as many records expire as are made. A record lives until the last of its windows is over: a day
for who asked for a code, 30 days for who mistyped one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

from .bench import Bench
from .measure import Case, exactly
from .people import HISTORIES
from .report import Row
from .server import loads, server_seconds, server_traffic
from .sites import Plan, Site
from .sizes import in_redis, of_networks
from .traffic import Traffic

_DAY = 86_400
#: Messages a second.
_RATES = (1, 100, 10_000)
#: The share of people who mistype a code at least once in 30 days: an assumption, to be replaced by your own.
_MISTYPING = 0.05
_FAILURES_LIVE = 30
#: Requests to guarded views for each sign-in: another one.
_VISITS = 20


@dataclass(frozen=True)
class SignIn:
    """One send and one verify over HTTP, all limits included, the message's delivery left out.

    :param app: microseconds of the app's processor time.
    :param server: the same of the Redis server.
    :param traffic: bytes to the server and back.
    """

    app: float
    server: float
    traffic: float


def rows(bench: Bench) -> Iterator[Row]:
    for what, unit, each in _needs(bench):
        for rate in _RATES:
            yield Row(what, f"{rate:,} a second", exactly(rate * each), unit)


def _needs(bench: Bench) -> Iterator[tuple[str, str, float]]:
    """What, its unit, and how much of it one message a second needs."""
    codes = bench.scale.codes
    code = in_redis(bench, codes, HISTORIES["a code verified, its proof"])
    mistyped = in_redis(bench, codes, HISTORIES["a live code, one failure"])
    failed = _DAY * _MISTYPING * (_FAILURES_LIVE - 1)
    yield "people who asked within a day", "", _DAY
    yield "memory: those who asked", "GB", _DAY * code / 1e9
    yield "people who mistyped in the 29 days before", "", failed
    yield "memory: those who mistyped", "GB", failed * mistyped / 1e9
    yield "memory: limits, a network for each", "GB", 3600 * of_networks(bench, codes // 10) / 1e9
    one, guard = _sign_in(bench), loads(bench)["holds (the guard)"]
    yield "Redis cores, send and verify", "", one.server / 1e6
    yield f"Redis cores, {_VISITS} guarded views each at lag 0", "", _VISITS * guard.processor / 1e6
    yield "traffic of Redis, all that", "Mbit/s", (one.traffic + _VISITS * guard.traffic) * 8 / 1e6
    yield "app processes, send and verify", "", one.app / 1e6


def _sign_in(bench: Bench) -> SignIn:
    uri = bench.servers.valkey.uri
    traffic = Traffic(Site(Plan(uri, uri, rules=True)))
    with bench.servers.valkey.client() as client:
        steps = [_step(client, case, bench.scale.codes // 10) for case in (traffic.send(), traffic.right())]
    return SignIn(*(sum(figures) for figures in zip(*map(astuple, steps), strict=True)))


def _step(client: Any, case: Case, count: int) -> SignIn:
    case.call(case.prepare(1)[0])
    inputs = case.prepare(count)
    client.config_resetstat()
    server, app = server_seconds(client), time.process_time()
    for item in inputs:
        case.call(item)
    app, server = time.process_time() - app, server_seconds(client) - server
    return SignIn(app / count * 1e6, server / count * 1e6, server_traffic(client) / count)
