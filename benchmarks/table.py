"""The table of goals: ours beside the code that people write by hand, and beside the same with a Flask-Limiter."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from tests.support.calls import usual_calls
from tests.support.proxy import Proxy

from .measure import Case, Rounds, Scale, spread
from .report import Row
from .servers import Servers
from .sites import Site, our_way, way_by_hand
from .traffic import call

_REQUESTS, _WARM_UP = 20, 5
#: Calls of a short view are many to a block.
_TIMES = 5
_LIMITS = "redis, all limits"
_GOALS = {
    'verify, right, "session": false': ">= 0.55",
    "verify, right": ">= 0.43",
    'verify, wrong, "session": false': ">= 0.48",
    'send, "session": false': ">= 0.36",
    'function calls: verify, right, "session": false': "<= 1080",
    'function calls: send, "session": false': "<= 1870",
}
#: Prints the milliseconds that the first message of a process takes longer than a later one.
_FIRST = """
import time, flask, flask_otp
app = flask.Flask("site")
app.config.update(TESTING=True, SECRET_KEY="x" * 16, OTP_STORAGE_URI="memory://")
app.config.update(OTP_CHANNELS={"email": [lambda message: None]})
flask_otp.OTP(app)
client, times = app.test_client(), []
client.get("/")
for number in range(12):
    began = time.perf_counter()
    client.post("/otp/send", json={"email": f"p{number}@example.com", "session": False})
    times.append((time.perf_counter() - began) * 1000)
print(times[0] - sorted(times[2:])[5])
"""
_IMPORT = "import time, flask; began = time.perf_counter(); import flask_otp; print(time.perf_counter() - began)"


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    uri = servers.valkey.uri
    yield from _rates(scale, Site(uri, uri, limiter=True))
    yield from _guard(scale, uri)
    yield from _elsewhere(scale, uri)
    yield from _counts(Site(uri, uri))
    yield from _trips(servers.valkey.port)
    yield from _sizes(Site("memory://", uri))
    for what, where, program, unit, goal in (
        ("first message of a process, over a later one", "memory", _FIRST, "ms", "<= 10"),
        ("import flask_otp, over import flask", "", _IMPORT, "s", "<= 0.1"),
    ):
        figures = (_printed(program) for _ in range(max(1, scale.rounds // 20)))
        yield Row(what, where, spread(*figures), unit, goal)


def our_cases(site: Site) -> dict[str, Case]:
    browser, client = site.traffic(our_way()), site.traffic(our_way(session=False))
    return {
        'verify, right, "session": false': client.verify(),
        "verify, right": browser.verify(),
        'verify, wrong, "session": false': client.verify(right=False),
        'send, "session": false': client.send(),
        "send": browser.send(),
    }


def _rates(scale: Scale, site: Site) -> Iterator[Row]:
    """How many are served in the time of one "JSON in, one Redis GET, JSON out" in the same app."""
    cases = our_cases(site)
    for where, name in (("naive", "by hand, no limit"), ("limited", "by hand, 3 limits of Flask-Limiter")):
        traffic = site.traffic(way_by_hand(where))
        cases |= {f"{name}: verify, right": traffic.verify(), f"{name}: verify, wrong": traffic.verify(right=False)}
        cases |= {f"{name}: send": traffic.send()}
    reference = site.traffic(our_way()).open("/reference", key="nothing")
    measured = Rounds(cases | {"": reference}, scale.rounds, scale.block)
    for name in cases:
        yield Row(name, f"{_LIMITS}, Limiter", measured.rate(name, ""), "x", _GOALS.get(name, ""))


def _guard(scale: Scale, uri: str) -> Iterator[Row]:
    """What a guarded view takes longer than one that reads the same session."""
    for lag, goal in ((10, "<= 9"), (0, "<= 100")):
        site = Site(uri, uri, OTP_REVOCATION_LAG=lag)
        cookie, traffic = site.verified_cookie(), site.traffic(our_way())
        cases = {path: traffic.open(path, cookie) for path in ("/guarded", "/session")}
        cost = Rounds(cases, scale.rounds, scale.block * _TIMES).cost("/guarded", "/session")
        yield Row("guard, over a session read", f"redis, lag {lag} s", cost, "us", goal)


def _elsewhere(scale: Scale, uri: str) -> Iterator[Row]:
    """What our presence costs a route that has nothing to do with us."""
    sites = {"bare": Site(None, uri), "our extension": Site(uri, uri), "a Flask-Limiter": Site(None, uri, limiter=True)}
    cases = {name: site.traffic(our_way()).open("/plain") for name, site in sites.items()}
    clocked = {name: replace(case, clock=time.process_time) for name, case in cases.items()}
    measured = Rounds(clocked, scale.rounds, scale.block * _TIMES)
    for name, goal in (("our extension", "<= 2"), ("a Flask-Limiter", "")):
        cost = measured.cost(name, "bare")
        yield Row(f"another route, with {name}", "processor time of the app", cost, "us", goal)


def _counts(site: Site) -> Iterator[Row]:
    """Function calls of a request, those written in C included: exact."""
    guard = site.traffic(our_way()).open("/guarded", site.verified_cookie())
    for name, case in (our_cases(site) | {"guard": guard}).items():
        requests = case.prepare(_WARM_UP + _REQUESTS)
        for request in requests[:_WARM_UP]:
            case.check(case.call(request))
        calls = usual_calls([partial(case.call, request) for request in requests[_WARM_UP:]])
        what = f"function calls: {name}"
        yield Row(what, _LIMITS, spread(calls), goal=_GOALS.get(what, ""))


def _trips(port: int) -> Iterator[Row]:
    """Round trips to one Redis server that has the codes and the limits, counted on the wire."""
    with Proxy(port) as proxy:
        uri = f"redis://127.0.0.1:{proxy.port}"
        site = Site(uri, uri)
        traffic = site.traffic(our_way())
        cases = {"verify, right": traffic.verify(), "verify, wrong": traffic.verify(right=False)}
        cases |= {"send": traffic.send(), "guard, lag 0 s": traffic.open("/guarded", site.verified_cookie())}

        def counted(case: Case) -> Iterator[int]:
            for request in case.prepare(_WARM_UP + _REQUESTS):
                # Asked once a second for all requests: not one request's.
                site.state.limits.is_surge("127.0.0.1")
                proxy.reset()
                case.check(case.call(request))
                yield proxy.round_trips

        for name, case in cases.items():
            yield Row(f"round trips: {name}", _LIMITS, spread(*[*counted(case)][_WARM_UP:]), goal="= 1")


def _sizes(site: Site) -> Iterator[Row]:
    request = site.traffic(our_way()).enter()
    handle = json.loads(request["wsgi.input"].getvalue())["challenge"]
    answer = call(site.app, request)
    known = next(cookie for cookie in answer.cookies.split("; ") if "_known=" in cookie).partition("=")[2]
    sizes = (("handle", handle, 210), ("proof", json.loads(answer.body)["proof"], 170), ("known browser", known, 119))
    for name, token, most in sizes:
        yield Row(f"characters: {name}", "", spread(len(token)), goal=f"<= {most}")


def _printed(program: str) -> float:
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
