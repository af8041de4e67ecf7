"""The table of goals: ours beside the code that people write by hand, and beside the same with a Flask-Limiter."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from flask_otp.observability.otel import instrument
from tests.support.calls import usual_calls
from tests.support.proxy import Proxy

from .measure import Case, Rounds, Scale, exactly, spread
from .report import Row
from .servers import Servers
from .sites import Site, our_way, way_by_hand
from .traffic import call

_REQUESTS, _WARM_UP = 20, 5
#: Calls of a guarded view are short, so that more of them fit into a block.
_TIMES = 5
_LIMITS = "redis, all limits"
#: Prints the milliseconds that the first message of a process takes longer than a later one.
_FIRST = """
import time
import flask, flask_otp
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


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    uri = servers.uri
    yield from _rates(scale, Site(uri, uri))
    yield from _guard(scale, uri)
    yield from _elsewhere(scale, uri)
    yield from _counts(Site(uri, uri, limiter=False))
    yield from _observed(scale, uri)
    yield from _trips(servers.valkey.port)
    yield from _sizes(Site("memory://", uri, limiter=False))
    tries = range(max(1, scale.rounds // 20))
    first = spread(float(_python(_FIRST)) for _ in tries)
    yield Row("first message of a process, over a later one", "memory", first, "ms", "<= 10")
    seconds = spread(_import_time("flask_otp") - _import_time("flask") for _ in tries)
    yield Row("import flask_otp, over import flask", "", seconds, "s", "<= 0.1")


def our_cases(site: Site) -> dict[str, Case]:
    browser, client = site.traffic(our_way()), site.traffic(our_way(session=False))
    return {
        'verify, right, "session": false': client.verify(),
        "verify, right": browser.verify(),
        'verify, wrong, "session": false': client.verify(right=False),
        'send, "session": false': client.send(),
        "send": browser.send(),
    }


_GOALS = {
    'verify, right, "session": false': ">= 0.55",
    "verify, right": ">= 0.43",
    'verify, wrong, "session": false': ">= 0.48",
    'send, "session": false': ">= 0.36",
}


def _rates(scale: Scale, site: Site) -> Iterator[Row]:
    """How many are served in the time of one "JSON in, one Redis GET, JSON out" in the same app."""
    ours = our_cases(site)
    cases = dict(ours)
    for where, name in (("naive", "by hand, no limit"), ("limited", "by hand, 3 limits of Flask-Limiter")):
        traffic = site.traffic(way_by_hand(where))
        cases |= {f"{name}: verify, right": traffic.verify(), f"{name}: verify, wrong": traffic.verify(right=False)}
        cases |= {f"{name}: send": traffic.send()}
    plain = site.traffic(our_way())
    cases['floor of: verify, right, "session": false'] = plain.open("/floor/verify", key="nothing")
    cases["floor of: verify, right"] = plain.open("/floor/verify/session", key="nothing")
    measured = Rounds(cases | {"": plain.open("/reference", key="nothing")}, scale.rounds, scale.block)
    for name in cases:
        yield Row(name, "redis, all limits, Limiter", measured.rate(name, ""), "x", _GOALS.get(name, ""))
        if name in ours:
            yield Row(name, "the same, processor time of the app", measured.rate(name, "", of_processor=True), "x")


def _guard(scale: Scale, uri: str) -> Iterator[Row]:
    """What a guarded view takes longer than one that reads the same session."""
    for lag, goal in ((10, "<= 9"), (0, "<= 100")):
        site = Site(uri, uri, limiter=False, OTP_REVOCATION_LAG=lag)
        cookie, traffic = site.verified_cookie(), site.traffic(our_way())
        paths = {"guard": "/guarded", "floor of: guard": "/floor/guarded", "": "/session"}
        cases = {name: traffic.open(path, cookie) for name, path in paths.items()}
        measured = Rounds(cases, scale.rounds, scale.block * _TIMES)
        for name in ("guard", "floor of: guard"):
            what = f"{name}, over a session read"
            yield Row(what, f"redis, lag {lag} s", measured.cost(name, ""), "us", goal if name == "guard" else "")
            cost = measured.cost(name, "", of_processor=True)
            yield Row(what, f"redis, lag {lag} s, processor time of the app", cost, "us")


def _elsewhere(scale: Scale, uri: str) -> Iterator[Row]:
    """What our presence costs a route that has nothing to do with us."""
    sites = {
        "": Site(None, uri, limiter=False),
        "our extension": Site(uri, uri, limiter=False),
        "an empty after_request": Site(None, uri, limiter=False),
        "a Flask-Limiter": Site(None, uri),
    }
    sites["an empty after_request"].app.after_request(lambda response: response)
    cases = {name: site.traffic(our_way()).open("/plain") for name, site in sites.items()}
    measured = Rounds(cases, scale.rounds, scale.block * _TIMES)
    for name in [*sites][1:]:
        cost, goal = measured.cost(name, "", of_processor=True), "<= 2" if name == "our extension" else ""
        yield Row(f"another route, with {name}", "processor time of the app", cost, "us", goal)


def _counts(site: Site) -> Iterator[Row]:
    """Function calls of a request, those written in C included: exact."""
    goals = {'verify, right, "session": false': "<= 1080", 'send, "session": false': "<= 1870"}
    guard = site.traffic(our_way()).open("/guarded", site.verified_cookie())
    for name, case in (our_cases(site) | {"guard": guard}).items():
        yield Row(f"function calls: {name}", _LIMITS, exactly(_calls(case)), "", goals.get(name, ""))


def _observed(scale: Scale, uri: str) -> Iterator[Row]:
    """What ``instrument`` costs in a process without an SDK."""

    def case(*, otel: bool) -> Case:
        site = Site(uri, uri, limiter=False)
        if otel:
            instrument(site.app)
        return site.traffic(our_way(session=False)).verify()

    # Caches find the limits of the first site by identity, and those of a later one by two calls more.
    _calls(case(otel=False))
    cases = {"bare": case(otel=False), "otel": case(otel=True)}
    measured = Rounds(cases, scale.rounds, scale.block * _TIMES)
    pairs = zip(*(measured.seconds(name, of_processor=True) for name in ("otel", "bare")), strict=True)
    more, what = spread((otel / bare - 1) * 100 for otel, bare in pairs), "OpenTelemetry without an SDK"
    yield Row(f"{what}, over verify, right", f"{_LIMITS}, processor time of the app", more, "%", "<= 1")
    calls = exactly(_calls(cases["otel"]) - _calls(cases["bare"]))
    yield Row(f"function calls: {what}", _LIMITS, calls, "", "= 0")


def _calls(case: Case) -> int:
    requests = case.prepare(_WARM_UP + _REQUESTS)
    for request in requests[:_WARM_UP]:
        case.check(case.call(request))
    return usual_calls([partial(case.call, request) for request in requests[_WARM_UP:]])


def _trips(port: int) -> Iterator[Row]:
    """Round trips to one Redis server that has the codes and the limits, counted on the wire."""
    with Proxy(port) as proxy:
        uri = f"redis://127.0.0.1:{proxy.port}"
        site = Site(uri, uri, limiter=False)
        traffic = site.traffic(our_way())
        cases = {"verify, right": traffic.verify(), "verify, wrong": traffic.verify(right=False)}
        cases |= {"send": traffic.send(), "guard, lag 0 s": traffic.open("/guarded", site.verified_cookie())}

        def counted(case: Case) -> Iterator[float]:
            for number, request in enumerate(case.prepare(_WARM_UP + _REQUESTS)):
                # Asked once a second for all requests: not one request's.
                site.state.limits.is_surge("127.0.0.1")
                proxy.reset()
                case.check(case.call(request))
                if number >= _WARM_UP:
                    yield proxy.round_trips

        for name, case in cases.items():
            yield Row(f"round trips: {name}", _LIMITS, spread(counted(case)), "", "= 1")


def _sizes(site: Site) -> Iterator[Row]:
    answer = site.traffic(our_way()).log_in()
    request = site.traffic(our_way()).enter()
    handle = request["wsgi.input"].getvalue().partition(b'"challenge": "')[2].partition(b'"')[0]
    proof = call(site.app, request).body.partition(b'"proof":"')[2].partition(b'"')[0]
    known = next(cookie for cookie in answer.cookies.split("; ") if "_known=" in cookie).partition("=")[2]
    for name, size, most in (("handle", handle, 210), ("proof", proof, 170), ("known browser", known, 119)):
        yield Row(f"characters: {name}", "", exactly(len(size)), "", f"<= {most}")


def _python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def _import_time(package: str) -> float:
    program = f"import time; began = time.perf_counter(); import {package}; print(time.perf_counter() - began)"
    return statistics.median(float(_python(program)) for _ in range(3))
