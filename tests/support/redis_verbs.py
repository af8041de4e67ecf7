"""Every verb of a store, warmed up, and how long a store that is out of reach takes to say so."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from flask_otp.errors import StoreUnavailable
from flask_otp.stores import OpenResult
from flask_otp.stores.redis import RedisStore
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


every_verb = pytest.mark.parametrize("verb", VERBS)


def warm(store: RedisStore, clock: Clock) -> tuple[SubjectDriver, OpenResult]:
    """A person with a proof and a live challenge, over a connection that knows every script."""
    warmer = SubjectDriver(store, clock, NO_LIMITS, subject=b"warmer")
    for verb in VERBS.values():
        verb(warmer, warmer.open())
    ann = SubjectDriver(store, clock)
    ann.prove(b"proof", b"bucket1")
    return ann, ann.open(b"bucket2")


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
