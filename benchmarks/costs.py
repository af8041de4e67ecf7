"""Microseconds: what the guard adds to a view that reads the session, and what our presence adds to any other view."""

from __future__ import annotations

from collections.abc import Iterator

from .bench import Bench
from .measure import Rounds
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
        cookie = traffic.verified_cookie()
        cases = {"guard": traffic.get_case("/guarded", cookie), "read": traffic.get_case("/session", cookie)}
        measured = Rounds(cases, bench.scale.rounds, bench.scale.block * _TIMES)
        yield Row("guard, over a plain session read", f"redis, lag {lag} s", measured.cost("guard", "read"), "us", goal)
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
