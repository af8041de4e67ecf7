"""Microseconds: what the guard adds to a view that reads the session, and what our presence adds to any other view."""

from __future__ import annotations

from collections.abc import Iterator

from .bench import Bench
from .measure import Rounds, Spread
from .report import Row, at_most
from .sites import Plan, Site
from .traffic import Traffic

_GUARD, _ELSEWHERE = at_most(5), at_most(2)
#: These calls are short, so that more of them fit into a block.
_TIMES = 5


def rows(bench: Bench) -> Iterator[Row]:
    uri = bench.servers.valkey.uri
    for lag, goal in ((10, _GUARD), (0, None)):
        traffic = Traffic(Site(Plan(uri, uri, limiter=False, lag=lag)))
        cost = _guard(bench, traffic, "/guarded", traffic.verified_cookie())
        yield Row("guard, over a plain session read", f"redis, lag {lag} s", cost, "us", goal)
    traffic = Traffic(Site(Plan(None, uri, limiter=False)))
    cost = _guard(bench, traffic, "/by-hand/guarded", traffic.cookie_by_hand())
    yield Row("the same duties by hand, over a plain session read", "no store", cost, "us")
    plans = {
        "bare": Plan(None, uri, limiter=False),
        "nothing more (the noise)": Plan(None, uri, limiter=False),
        "our extension": Plan(uri, uri, limiter=False),
        "a Flask-Limiter": Plan(None, uri),
    }
    cases = {name: Traffic(Site(plan)).get_case("/plain") for name, plan in plans.items()}
    measured = Rounds(cases, bench.scale.rounds, bench.scale.block * _TIMES)
    for name in list(plans)[1:]:
        goal = _ELSEWHERE if name == "our extension" else None
        yield Row(f"another route, with {name}", "", measured.cost(name, "bare"), "us", goal)


def _guard(bench: Bench, traffic: Traffic, path: str, cookie: str) -> Spread:
    """What a guarded view takes longer than one that reads the same session."""
    cases = {"guard": traffic.get_case(path, cookie), "read": traffic.get_case("/session", cookie)}
    return Rounds(cases, bench.scale.rounds, bench.scale.block * _TIMES).cost("guard", "read")
