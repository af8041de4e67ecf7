"""The table of goals: ours beside the code that people write by hand, and beside the same with a Flask-Limiter."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from flask_otp.state import AppState
from tests.support.calls import usual_calls
from tests.support.proxy import Proxy

from .bench import Bench
from .measure import Case, Rounds, Spread, exactly, spread
from .report import Goal, Row, at_least, at_most, exact
from .sites import Plan, Site
from .traffic import Traffic, call

_REQUESTS, _WARM_UP = 20, 5
#: Calls of a guarded view are short, so that more of them fit into a block.
_TIMES = 5
#: Prints the milliseconds of the first message of a process, and of a later one.
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


def rows(bench: Bench) -> Iterator[Row]:
    uri = bench.servers.valkey.uri
    yield from _rates(bench, Traffic(Site(Plan(uri, uri, rules=True))))
    yield from _guard(bench, uri)
    yield from _counts(Traffic(Site(Plan(uri, uri, limiter=False, rules=True))))
    yield from _observed(bench, uri)
    yield from _trips(bench.servers.valkey.port)
    yield from _sizes(Traffic(Site(Plan("memory://", uri, limiter=False))))
    tries = range(bench.scale.tries)
    first = spread(float(_python(_FIRST)) for _ in tries)
    yield Row("first message of a process, over a later one", "memory", first, "ms", at_most(10))
    seconds = spread(_import_time("flask_otp") - _import_time("flask") for _ in tries)
    yield Row("import flask_otp, over import flask", "", seconds, "s", at_most(0.1))


def _ours(traffic: Traffic) -> dict[str, tuple[Case, Goal | None]]:
    return {
        'verify, right, "session": false': (traffic.right(session=False), at_least(0.55)),
        "verify, right": (traffic.right(), at_least(0.43)),
        'verify, wrong, "session": false': (traffic.wrong(session=False), at_least(0.48)),
        'send, "session": false': (traffic.send(session=False), at_least(0.36)),
        "send": (traffic.send(), None),
    }


def _rates(bench: Bench, traffic: Traffic) -> Iterator[Row]:
    """How many are served in the time of one "JSON in, one Redis GET, JSON out" in the same app."""
    ours = _ours(traffic)
    cases = {name: case for name, (case, _) in ours.items()}
    for where, name in (("naive", "by hand, no limit"), ("limited", "by hand, 3 limits of Flask-Limiter")):
        cases |= {
            f"{name}: verify, right": traffic.naive_right(where),
            f"{name}: verify, wrong": traffic.naive_wrong(where),
            f"{name}: send": traffic.naive_send(where),
        }
    cases['floor of: verify, right, "session": false'] = traffic.floor("verify")
    cases["floor of: verify, right"] = traffic.floor("verify/session")
    measured = Rounds(cases | {"": traffic.reference()}, bench.scale.rounds, bench.scale.block)
    for name in cases:
        goal = ours[name][1] if name in ours else None
        yield Row(name, "redis, all limits, Limiter", measured.rate(name, ""), "x", goal)
        if name in ours:
            yield Row(name, "the same, processor time of the app", measured.rate(name, "", of_processor=True), "x")


def _guard(bench: Bench, uri: str) -> Iterator[Row]:
    """What a guarded view takes longer than one that reads the same session, and what our presence costs elsewhere."""
    for lag, goal in ((10, at_most(9)), (0, at_most(100))):
        traffic = Traffic(Site(Plan(uri, uri, limiter=False, lag=lag)))
        cookie = traffic.verified_cookie()
        paths = {"guard": "/guarded", "floor of: guard": "/floor/guarded", "": "/session"}
        cases = {name: traffic.get_case(path, cookie) for name, path in paths.items()}
        measured = Rounds(cases, bench.scale.rounds, bench.scale.block * _TIMES)
        for name in ("guard", "floor of: guard"):
            for word, of_processor in (("", False), (", processor time of the app", True)):
                cost = measured.cost(name, "", of_processor=of_processor)
                most = goal if name == "guard" and not of_processor else None
                yield Row(f"{name}, over a session read", f"redis, lag {lag} s{word}", cost, "us", most)
    bare = Plan(None, uri, limiter=False)
    sites = {
        "": Site(bare),
        "hook": Site(bare),
        "ours": Site(Plan(uri, uri, limiter=False)),
        "limiter": Site(Plan(None, uri)),
    }
    sites["hook"].app.after_request(lambda response: response)
    cases = {name: Traffic(site).get_case("/plain") for name, site in sites.items()}
    measured = Rounds(cases, bench.scale.rounds, bench.scale.block * _TIMES)
    for what, name in (("ours", "our extension"), ("hook", "an empty after_request"), ("limiter", "a Flask-Limiter")):
        cost = measured.cost(what, "", of_processor=True)
        most = at_most(2) if what == "ours" else None
        yield Row(f"another route, with {name}", "processor time of the app", cost, "us", most)


def _counts(traffic: Traffic) -> Iterator[Row]:
    """Function calls of a request, those written in C included: exact."""
    goals = {'verify, right, "session": false': at_most(1080), 'send, "session": false': at_most(1870)}
    cases = {name: case for name, (case, _) in _ours(traffic).items()} | {"guard": traffic.guard()}
    for name, case in cases.items():
        yield Row(f"function calls: {name}", "redis, all limits", exactly(_calls(case)), "", goals.get(name))


def _observed(bench: Bench, uri: str) -> Iterator[Row]:
    """What ``instrument`` costs in a process without an SDK."""
    # Caches find the limits of the first site by identity, and those of a later one by two calls more.
    _calls(Traffic(Site(Plan(uri, uri, limiter=False, rules=True))).right(session=False))
    plans = {name: Plan(uri, uri, limiter=False, rules=True, otel=name == "otel") for name in ("bare", "otel")}
    cases = {name: Traffic(Site(plan)).right(session=False) for name, plan in plans.items()}
    measured = Rounds(cases, bench.scale.rounds, bench.scale.block * _TIMES)
    what, more = "OpenTelemetry without an SDK", measured.more("otel", "bare", of_processor=True)
    yield Row(f"{what}, over verify, right", "redis, all limits, processor time of the app", more, "%", at_most(1))
    calls = {name: _calls(case) for name, case in cases.items()}
    yield Row(f"function calls: {what}", "redis, all limits", exactly(calls["otel"] - calls["bare"]), "", exact(0))


def _calls(case: Case) -> int:
    environs = case.prepare(_WARM_UP + _REQUESTS)
    for environ in environs[:_WARM_UP]:
        case.check(case.call(environ))
    return usual_calls([partial(case.call, environ) for environ in environs[_WARM_UP:]])


def _trips(port: int) -> Iterator[Row]:
    """Round trips to one Redis server that has the codes and the limits, counted on the wire."""
    with Proxy(port) as proxy:
        uri = f"redis://127.0.0.1:{proxy.port}"
        traffic = Traffic(Site(Plan(uri, uri, limiter=False, rules=True)))
        cases = {"verify, right": traffic.right(), "verify, wrong": traffic.wrong(), "send": traffic.send()}
        for name, case in (cases | {"guard, lag 0 s": traffic.guard()}).items():
            counted = _counted(traffic.site, case, proxy)
            yield Row(f"round trips: {name}", "redis, all limits", counted, "", exact(1))


def _counted(site: Site, case: Case, proxy: Proxy) -> Spread:
    state = site.app.extensions["otp"]
    assert isinstance(state, AppState)
    counts = []
    for number, environ in enumerate(case.prepare(_WARM_UP + _REQUESTS)):
        # Asked once a second for all requests: not one request's.
        state.limits.is_surge("127.0.0.1")
        proxy.reset()
        case.check(case.call(environ))
        if number >= _WARM_UP:
            counts.append(proxy.round_trips)
    return spread(counts)


def _sizes(traffic: Traffic) -> Iterator[Row]:
    handle, code = traffic.challenge()
    _, body, headers = call(traffic.site, traffic.post("/otp/verify", code=code, challenge=handle))
    proof = body.partition(b'"proof":"')[2].partition(b'"')[0]
    known = next(value for name, value in headers if name == "Set-Cookie" and "_known=" in value)
    value = known.partition("=")[2].partition(";")[0]
    for name, size, most in (("handle", handle, 210), ("proof", proof, 170), ("known browser", value, 119)):
        yield Row(f"characters: {name}", "", exactly(len(size)), "", at_most(most))


def _python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def _import_time(package: str) -> float:
    program = f"import time; began = time.perf_counter(); import {package}; print(time.perf_counter() - began)"
    return statistics.median(float(_python(program)) for _ in range(3))
