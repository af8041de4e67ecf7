"""Whole logins by e-mail code, beside other packages: how fast they are, and what 200 requests at once get out of one.

For the speed, all run in this process and take turns by blocks, each without a server. For the race, each runs below
gunicorn, and 200 requests submit one right code at the same moment. A request counts as accepted if its cookies then
sign a user in.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from . import peers
from .measure import Case, Rounds, Scale, spread
from .report import Row
from .servers import Gunicorn, Servers, gunicorn
from .sites import Mailbox, Site, our_way, way_by_hand
from .traffic import Traffic, Way, environ, new_email

#: What a peer is called, by its module.
_NAMES = {"flask_security": "Flask-Security", "allauth": "django-allauth"}
_INSTALLED = [module for module in _NAMES if find_spec(module) is not None]
_MISSING = [_NAMES[module] for module in _NAMES if module not in _INSTALLED]
_AT_ONCE = 200
#: Those of gunicorn: 32 requests are under way at one moment.
_PROCESSES, _THREADS = 4, 8


def speed(scale: Scale, servers: Servers) -> Iterator[Row]:
    sites: dict[str, Traffic] = {}
    for name, uri in (("flask_otp, Redis", servers.uri), ("flask_otp, memory", "memory://")):
        sites[name] = Site(uri, servers.uri, limiter=False).traffic(our_way(keeps_cookies=True))
    for module in _INSTALLED:
        codes: list[str] = []
        app = peers.APPS[module](f"sqlite:///{servers.directory}/{module}.sqlite", codes)
        sites[f"{_NAMES[module]}, SQLite"] = Traffic(app, peers.WAYS[module], codes)
    gc.freeze()  # no site pays for the objects of the others
    cases: dict[str, Case] = {}
    for name, traffic in sites.items():
        cases[f"{name}: bare"] = traffic.open("/plain")
        cases |= {f"{name}: send": traffic.send(), f"{name}: verify": traffic.verify()}
    measured = Rounds(cases, scale.rounds // 2, scale.block)
    gc.unfreeze()
    for name in sites:
        steps = [f"{name}: send", f"{name}: verify"]
        for step in steps:
            ratio = measured.rate(step, f"{name}: bare")
            yield Row(f"{step.rpartition(' ')[2]}, over its own bare view", name, ratio, "x")
        both = zip(*map(measured.seconds, steps), strict=True)
        yield Row("whole logins", name, spread(1 / sum(pair) for pair in both), "a second")
    yield from (Row("whole logins", name, None, note="not installed") for name in _MISSING)


def race(scale: Scale, servers: Servers) -> Iterator[Row]:
    settings = {"BENCHMARK_URI": servers.uri}
    ways = {
        "flask_otp, Redis": our_way(keeps_cookies=True),
        "by hand, code in Redis": way_by_hand("naive"),
        "by hand, code in the session": way_by_hand("in-session"),
    }
    yield from _race(scale, "benchmarks.sites", ways, settings)
    for module in _INSTALLED:
        settings |= {"BENCHMARK_PEER": module, "BENCHMARK_DATABASE": servers.new_postgresql().uri}
        yield from _race(scale, "benchmarks.peers", {f"{_NAMES[module]}, PostgreSQL": peers.WAYS[module]}, settings)
    yield from (Row("accepted of 200 at once", name, None, note="not installed") for name in _MISSING)


def _race(scale: Scale, module: str, ways: Mapping[str, Way], settings: Mapping[str, str]) -> Iterator[Row]:
    codes = Mailbox(settings["BENCHMARK_URI"])
    with gunicorn(module, "gthread", _PROCESSES, _THREADS, **settings) as server:
        for name, way in ways.items():
            accepted = [_accepted(server, way, codes) for _ in range(max(1, scale.rounds // 10))]
            note = f"{min(accepted)} to {max(accepted)}"
            yield Row(f"accepted of {_AT_ONCE} at once", name, spread(accepted), note=note)


def _accepted(server: Gunicorn, way: Way, codes: Mailbox) -> int:
    """How many of the requests that submit one right code at once sign its owner in."""
    email = new_email()
    if way.join is not None:
        server.ask([way.request(*way.join(email))], clients=1)
    [sent] = server.ask([way.request(*way.send(email))], clients=1)
    request = way.request(*way.verify(email, codes.pop(), sent), sent)
    answers = server.ask([request] * _AT_ONCE, clients=_AT_ONCE)
    visits = server.ask([environ("/who", cookie=answer.cookies) for answer in answers if answer.cookies])
    return sum(visit.body == email.encode() for visit in visits)
