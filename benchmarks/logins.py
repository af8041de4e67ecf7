"""Whole logins by e-mail code, beside other packages: how fast they are, and what 200 requests at once get out of one.

For the speed, all run in this process and take turns by blocks, each without a server. For the race, each runs below
gunicorn, and 200 requests submit one right code at the same moment. A request counts as accepted if its cookies then
sign a user in.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from importlib.util import find_spec

from . import peers
from .measure import Case, Rounds, Scale, spread
from .report import Row
from .servers import Gunicorn, Servers
from .sites import Mailbox, Site, our_way, way_by_hand
from .traffic import Traffic, Way, call, environ

#: What a peer is called, by its module, if it is installed.
_PEERS = {module: name for module, name in peers.NAMES.items() if find_spec(module)}
_AT_ONCE = 200
#: Those of gunicorn: 32 requests are under way at one moment.
_PROCESSES, _THREADS = 4, 8


def speed(scale: Scale, servers: Servers) -> Iterator[Row]:
    sites: dict[str, Traffic] = {}
    for name, uri in (("flask_otp, Redis", servers.uri), ("flask_otp, memory", "memory://")):
        sites[name] = Site(uri, servers.uri).traffic(our_way(keeps_cookies=True))
    for module, name in _PEERS.items():
        codes: list[str] = []
        app = peers.APPS[module](f"sqlite:///{servers.directory}/{module}.sqlite", codes)
        sites[f"{name}, SQLite"] = Traffic(partial(call, app), peers.WAYS[module], codes)
    gc.freeze()  # no site pays for the objects of the others
    cases: dict[str, Case] = {}
    for name, traffic in sites.items():
        cases[f"{name}: bare"] = traffic.open("/plain")
        cases |= {f"{name}: send": traffic.send(), f"{name}: verify": traffic.verify()}
    measured = Rounds(cases, scale.rounds // 2, scale.block)
    gc.unfreeze()
    for name in sites:
        for step in ("send", "verify"):
            ratio = measured.rate(f"{name}: {step}", f"{name}: bare")
            yield Row(f"{step}, over its own bare view", name, ratio, "x")
        logins = (1 / sum(pair) for pair in measured.pairs(f"{name}: send", f"{name}: verify"))
        yield Row("whole logins", name, spread(*logins), "a second")


def race(scale: Scale, servers: Servers) -> Iterator[Row]:
    settings = {"BENCHMARK_URI": servers.uri}
    ways = {
        "flask_otp, Redis": our_way(keeps_cookies=True),
        "by hand, code in Redis": way_by_hand("naive"),
        "by hand, code in the session": way_by_hand("in-session"),
    }
    yield from _race(scale, servers, "benchmarks.sites", ways, settings)
    for module, name in _PEERS.items():
        settings |= {"BENCHMARK_PEER": module, "BENCHMARK_DATABASE": servers.new_postgresql().uri}
        yield from _race(scale, servers, "benchmarks.peers", {f"{name}, PostgreSQL": peers.WAYS[module]}, settings)


def _race(
    scale: Scale, servers: Servers, module: str, ways: Mapping[str, Way], settings: Mapping[str, str]
) -> Iterator[Row]:
    codes = Mailbox(servers.uri)
    with closing(Gunicorn(servers.directory, module, "gthread", _PROCESSES, _THREADS, **settings)) as server:
        for name, way in ways.items():
            traffic = Traffic(server.call, way, codes)
            accepted = [_accepted(server, traffic) for _ in range(max(1, scale.rounds // 10))]
            note = f"{min(accepted)} to {max(accepted)}"
            yield Row(f"accepted of {_AT_ONCE} at once", name, spread(*accepted), note=note)


def _accepted(server: Gunicorn, traffic: Traffic) -> int:
    """How many of the requests that submit one right code at once sign its owner in."""
    answers = server.ask([traffic.enter()] * _AT_ONCE, clients=_AT_ONCE)
    visits = server.ask([environ("/who", answer.cookies) for answer in answers if answer.cookies])
    return sum(b"@" in visit.body for visit in visits)
