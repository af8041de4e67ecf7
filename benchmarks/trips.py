"""Round trips of one request, counted on the wire: the store's and the limits' go through a proxy of their own each.

Of a database, the statements are counted, by SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Iterator

from flask_otp.state import AppState
from tests.support.proxy import Proxy

from .bench import Bench
from .measure import Case, Spread, spread
from .report import Row, exact
from .servers import SQL, databases
from .sites import Plan, Site
from .traffic import Traffic

_REQUESTS = 20
_WARM_UP = 3


def rows(bench: Bench) -> Iterator[Row]:
    yield from _redis(bench.servers.valkey.port)
    for name, uri in bench.stores():
        if name in SQL:
            yield from _sql(name, Plan(uri, bench.servers.valkey.uri))


def _redis(port: int) -> Iterator[Row]:
    with Proxy(port) as store, Proxy(port) as other:
        plan = Plan(_uri(store), _uri(other), rules=True)
        for name, traffic, case, trips, counts in _ours(plan):
            for proxy, whose, goal in ((store, "store", trips), (other, "limits", counts)):
                yield Row(name, f"redis, {whose}", _trips(traffic.site, case, proxy), goal=exact(goal))
        traffic = Traffic(Site(plan))
        for name, case in _naive(traffic).items():
            yield Row(name, "redis", _trips(traffic.site, case, other))


def _sql(store: str, plan: Plan) -> Iterator[Row]:
    for name, _, case, _, _ in _ours(plan):
        yield Row(f"{name}: statements", store, _statements(case))


def _ours(plan: Plan) -> Iterator[tuple[str, Traffic, Case, int, int]]:
    """What, and how many trips to the store and to the limits: one for each rule of a network, and of the site."""
    traffic = Traffic(Site(plan))
    yield "verify, right", traffic, traffic.right(), 1, 1
    yield "verify, wrong", traffic, traffic.wrong(), 1, 3
    yield "send", traffic, traffic.send(), 1, 2
    yield "guard, lag 0 s", traffic, traffic.guard(), 1, 0
    trusting = Traffic(Site(Plan(plan.storage_uri, plan.redis_uri, rules=plan.rules, lag=10)))
    yield "guard, lag 10 s", trusting, trusting.guard(), 0, 0


def _naive(traffic: Traffic) -> dict[str, Case]:
    return {
        "naive verify, right": traffic.naive_right(),
        "naive verify, wrong": traffic.naive_wrong(),
        "naive send": traffic.naive_send(),
        "naive + 3 limits: verify, right": traffic.naive_right("limited"),
    }


def _statements(case: Case) -> Spread:
    counts = []
    for environ in case.prepare(_REQUESTS):
        with databases().statements() as asked:
            case.check(case.call(environ))
        counts.append(len(asked))
    return spread(counts)


def _trips(site: Site, case: Case, proxy: Proxy) -> Spread:
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


def _uri(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}"
