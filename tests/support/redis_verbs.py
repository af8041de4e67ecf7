"""Every verb of a store, warmed up and tried, and how long a store that is out of reach takes to say so."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_otp.errors import StoreUnavailable
from flask_otp.stores import OpenResult, Store
from flask_otp.testing import Clock
from flask_otp.testing.stores import NO_LIMITS, SubjectDriver

VERBS: dict[str, Callable[[SubjectDriver, OpenResult], object]] = {
    "open": lambda ann, _: ann.open(b"another bucket"),
    "reopen": lambda ann, opened: ann.reopen(opened, b"another bucket"),
    "redeem right": lambda ann, opened: ann.right(opened),
    "redeem wrong": lambda ann, opened: ann.wrong(opened),
    "check right": lambda ann, _: ann.check(b"step"),
    "check wrong": lambda ann, _: ann.check(b"step", matches=False),
    "is_live": lambda ann, opened: ann.is_live(opened),
    "note": lambda ann, _: ann.note(b"mark"),
    "noted": lambda ann, _: ann.noted(b"ma"),
    "holds": lambda ann, _: ann.holds(b"proof"),
    "spend": lambda ann, _: ann.spend(b"proof"),
    "discard": lambda ann, opened: ann.discard(opened),
    "drop": lambda ann, opened: ann.drop(opened),
    "revoke": lambda ann, _: ann.revoke(),
    "inspect": lambda ann, _: ann.inspect(),
    "unlock": lambda ann, _: ann.unlock(),
}


#: These only ask.
QUESTIONS = ("holds", "inspect", "is_live", "noted")


#: The person who calls a verb, and the challenge that they use.
Caller = tuple[SubjectDriver, OpenResult]


def warm(store: Store, clock: Clock) -> Caller:
    """A person with a proof and a live challenge, over a connection that knows every script."""
    _learn(store, clock)
    return _caller(SubjectDriver(store, clock))


def warm_each(connect: Callable[[], Store], clock: Clock) -> dict[str, Caller]:
    """For each verb a person of its own, as above, in the store that ``connect`` gives for it."""
    stores = {verb: connect() for verb in VERBS}
    _learn(next(iter(stores.values())), clock)
    return {
        verb: _caller(SubjectDriver(store, clock, subject=b"%016d" % number))
        for number, (verb, store) in enumerate(stores.items())
    }


def _learn(store: Store, clock: Clock) -> None:
    warmer = SubjectDriver(store, clock, NO_LIMITS, subject=b"warmer")
    opened = warmer.open()
    for verb in VERBS.values():
        verb(warmer, opened)


def _caller(ann: SubjectDriver) -> Caller:
    ann.prove(b"proof", b"bucket1")
    return ann, ann.open(b"bucket2")


def failing(callers: dict[str, Caller], threads: int = 1) -> dict[str, Exception]:
    """The verbs that raise, and what; each called once."""

    def call(verb: str) -> Exception | None:
        try:
            VERBS[verb](*callers[verb])
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(threads) as pool:
        errors = dict(zip(callers, pool.map(call, callers), strict=True))
    return {verb: error for verb, error in errors.items() if error is not None}


def seconds_to_fail(call: Callable[[], object], enough: float, tries: int = 5) -> float:
    """How long until the store is known to be out of reach: the best of some tries, since the machine may be busy."""
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        with pytest.raises(StoreUnavailable):
            call()
        best = min(best, time.perf_counter() - start)
        if best < enough:
            break
    return best
