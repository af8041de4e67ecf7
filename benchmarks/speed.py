"""How many of our requests are served in the time of one "JSON in, one Redis GET, JSON out" in the same app."""

from __future__ import annotations

from collections.abc import Iterator

from .bench import Bench
from .measure import Case, Rounds
from .report import Goal, Row, at_least
from .sites import Plan, Site
from .traffic import Traffic

#: SPEC section 11; its baselines were measured in an app that has a Limiter, on Redis.
_RIGHT_WITHOUT_RULE, _RIGHT_WITH_RULE = at_least(0.70), at_least(0.58)
_NO_GOAL: dict[str, Goal] = {}


def rows(bench: Bench) -> Iterator[Row]:
    for store, uri in bench.stores():
        for limiter in (True, False) if store == "redis" else (True,):
            for rules in (False, True):
                plan = Plan(uri, bench.servers.valkey.uri, limiter=limiter, rules=rules)
                yield from _codes(bench, store, plan)
            yield from _guard(bench, store, uri, limiter)
    yield from bench.missing("verify, send, guard")


def _codes(bench: Bench, store: str, plan: Plan) -> Iterator[Row]:
    traffic = Traffic(Site(plan))
    cases = {"verify, right": traffic.right(), "verify, wrong": traffic.wrong(), "send": traffic.send()}
    goals = _NO_GOAL
    if store == "redis" and plan.limiter:
        goals = {"verify, right": _RIGHT_WITH_RULE if plan.rules else _RIGHT_WITHOUT_RULE}
    if store == "redis" and not plan.rules:
        cases |= _naive(traffic)
    where = f"{store}, {_limiter(plan.limiter)}, {'network rules' if plan.rules else 'no network rule'}"
    yield from _compare(bench, traffic, cases, where, goals)


def _guard(bench: Bench, store: str, uri: str, limiter: bool) -> Iterator[Row]:
    for lag in (0, 10):
        traffic = Traffic(Site(Plan(uri, bench.servers.valkey.uri, limiter=limiter, lag=lag)))
        where = f"{store}, {_limiter(limiter)}, lag {lag} s"
        yield from _compare(bench, traffic, {"guard": traffic.guard()}, where, _NO_GOAL)


def _naive(traffic: Traffic) -> dict[str, Case]:
    """What people write otherwise, without digest, limit of attempts or atomic step; and the floor under all of it."""
    cases = {
        "the least: one script, session written": traffic.least(),
        "the same duties by hand: verify, right": traffic.right_by_hand(),
        "naive verify, right": traffic.naive_right(),
        "naive verify, wrong": traffic.naive_wrong(),
        "naive send": traffic.naive_send(),
    }
    if traffic.site.limiter is not None:
        cases |= {
            "naive + 3 limits: verify, right": traffic.naive_right("limited"),
            "naive + 3 limits: verify, wrong": traffic.naive_wrong("limited"),
            "naive + 3 limits: send": traffic.naive_send("limited"),
        }
    return cases


def _compare(
    bench: Bench, traffic: Traffic, cases: dict[str, Case], where: str, goals: dict[str, Goal]
) -> Iterator[Row]:
    measured = Rounds(cases | {"": traffic.reference()}, bench.scale.rounds, bench.scale.block)
    for name in cases:
        yield Row(name, where, measured.rate(name, ""), "x", goals.get(name))


def _limiter(present: bool) -> str:
    return "Limiter" if present else "no Limiter"
