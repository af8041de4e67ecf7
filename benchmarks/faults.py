"""A store that refuses or hangs, many right codes at once, and many wrong ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask_otp.state import AppState
from flask_otp.stores import RedeemOutcome, RedeemResult
from tests.support.proxy import Proxy

from .bench import Bench
from .measure import exactly, spread
from .report import Goal, Row, at_most, exact
from .sites import Plan, Site
from .traffic import Environ, Traffic, call, wrong_for

#: Milliseconds. A client waits 250 for an answer, unless told otherwise.
_REFUSED, _HUNG = at_most(50), at_most(500)
_GUESSERS = 20


def rows(bench: Bench) -> Iterator[Row]:
    with Proxy(bench.servers.valkey.port) as proxy:
        traffic = Traffic(Site(Plan(f"redis://127.0.0.1:{proxy.port}", bench.servers.valkey.uri, patient=False)))
        cases = {"verify": traffic.right(), "send": traffic.send(), "guard": traffic.guard()}
        tries = bench.scale.tries
        ready = {name: case.prepare(2 * tries) for name, case in cases.items()}
        proxy.hang()
        for name in cases:
            yield _failing(traffic, name, "hung", ready[name][:tries], _HUNG)
        proxy.close()
        for name in cases:
            yield _failing(traffic, name, "refused", ready[name][tries:], _REFUSED)
    for store, uri in bench.stores():
        yield _right_at_once(store, uri, bench)
        yield _wrong_at_once(store, uri, bench)


def _failing(traffic: Traffic, name: str, how: str, environs: Sequence[Environ], goal: Goal) -> Row:
    times = []
    for environ in environs:
        began = time.perf_counter()
        status, _, _ = call(traffic.site, environ)
        times.append((time.perf_counter() - began) * 1000)
        if not status.startswith("503"):
            raise RuntimeError(f"expected 503, not {status}")
    return Row(f"503 from {name}", f"redis, {how}", spread(times), "ms", goal)


def _right_at_once(store: str, uri: str, bench: Bench) -> Row:
    traffic = Traffic(Site(Plan(uri, bench.servers.valkey.uri)))
    handle, code = traffic.challenge()
    count = bench.scale.at_once
    answers = _at_once([traffic.post_code(handle, code) for _ in range(count)], traffic, count)
    passed = sum(status.startswith("200") for status in answers)
    return Row(f"{count} right codes at once: accepted", store, exactly(passed), goal=exact(1))


def _wrong_at_once(store: str, uri: str, bench: Bench) -> Row:
    """How many of them were compared is the store's to say: over HTTP all get the one answer."""
    traffic = Traffic(Site(Plan(uri, bench.servers.valkey.uri)))
    state = traffic.site.app.extensions["otp"]
    assert isinstance(state, AppState)
    redeem, compared = state.store.redeem, []

    def counting(*arguments: Any) -> RedeemResult:
        redeemed = redeem(*arguments)
        if redeemed.outcome is RedeemOutcome.WRONG:
            compared.append(redeemed)
        return redeemed

    state.store.redeem = counting  # type: ignore[assignment, method-assign]
    handle, code = traffic.challenge()
    guesses = bench.scale.guesses
    answers = _at_once([traffic.post_code(handle, wrong_for(code)) for _ in range(guesses)], traffic, _GUESSERS)
    if not all(status.startswith("400") for status in answers):
        raise RuntimeError(f"expected 400 for each, not {set(answers)}")
    return Row(f"{guesses:,} wrong codes: compared", store, exactly(len(compared)), goal=exact(5))


def _at_once(environs: Sequence[Environ], traffic: Traffic, threads: int) -> list[str]:
    barrier = threading.Barrier(threads)

    def run(environ: Environ) -> str:
        return call(traffic.site, environ)[0]

    with ThreadPoolExecutor(threads, initializer=barrier.wait) as pool:
        return list(pool.map(run, environs))
