"""Whether a store gets slower with what it holds: one verb on a store of 1,000 live codes, and on one of a million."""

from __future__ import annotations

import random
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace

from flask_otp.stores import Attempt, ChallengeRequest, RedeemOutcome, Store
from flask_otp.stores.memory import MemoryStore

from .bench import Bench
from .measure import Case, Rounds
from .people import POLICY, subject_of
from .report import Goal, Row, at_most
from .servers import databases, open_store

_FEW = 1_000
#: Every subject has its one challenge under the same id, so that nobody has to remember a million.
_ID = b"the id of a code"
_GOALS = {"redis": at_most(1.2), "sqlite": at_most(1.6), "postgresql": at_most(1.6), "memory": at_most(3)}
#: Nobody's attempts run out: it is the same verb each time.
_ENDLESS = replace(POLICY, max_attempts=10**9, failure_budget=((10**9, 3600),))
_BATCH = 10_000
#: Lua cannot take more at one time.
_KEYS = 1000
_COPY = "for _, key in ipairs(KEYS) do redis.call('RESTORE', key, ARGV[2], ARGV[1]) end"
#: A verb takes a tenth of a request, or less.
_TIMES = 10


def rows(bench: Bench) -> Iterator[Row]:
    for name, uri in bench.stores():
        yield _grown(bench, name, name, uri)
    yield from bench.missing("verify, wrong (the verb)")


def grown_redis(bench: Bench, where: str) -> Row:
    """Of the server that the bench starts, whichever that is."""
    return _grown(bench, "redis", where, "")


def _grown(bench: Bench, store: str, where: str, uri: str) -> Row:
    few, many = (_FILLS[store](bench, uri, count) for count in (_FEW, bench.scale.many))
    return _compare(bench, where, few, many, _GOALS[store])


def _compare(bench: Bench, where: str, few: Store, many: Store, goal: Goal) -> Row:
    cases = {"few": _case(few, min(_FEW, bench.scale.many)), "many": _case(many, bench.scale.many)}
    measured = Rounds(cases, bench.scale.rounds, bench.scale.block * _TIMES)
    # A rate is the reciprocal of a time: how often the small one answers while the large one does once.
    ratio = measured.rate("few", "many")
    return Row("verify, wrong (the verb)", f"{where}, {bench.scale.many:,} against {_FEW:,}", ratio, "x", goal)


def _case(store: Store, count: int) -> Case:
    chosen = random.Random(1)
    attempt = Attempt(_ID, False, b"", 0)
    now = int(time.time())

    def check(answer: RedeemOutcome) -> None:
        if answer is not RedeemOutcome.WRONG:
            raise RuntimeError(f"the live code was not there: {answer}")

    return Case(
        lambda size: [subject_of(chosen.randrange(count)) for _ in range(size)],
        lambda subject: store.redeem(subject, attempt, _ENDLESS, now).outcome,
        check,
    )


def _fill_memory(bench: Bench, uri: str, count: int) -> Store:
    store = MemoryStore(max_subjects=count)
    for number in range(count):
        _open(store, number)
    return store


def _fill_redis(bench: Bench, uri: str, count: int) -> Store:
    """On a server of its own. One record is the store's; the others are copies of it under other keys."""
    server = bench.servers.new_valkey()
    store = open_store(server.uri)
    _open(store, 0)
    with server.client() as client:
        model = client.keys()[0]
        value, life = client.dump(model), client.pttl(model)
        own = _in_key(subject_of(0))
        copy = client.register_script(_COPY)
        for start in range(1, count, _KEYS):
            numbers = range(start, min(start + _KEYS, count))
            copy([model.replace(own, _in_key(subject_of(number))) for number in numbers], [value, life])
    return store


def _fill_sql(bench: Bench, uri: str, count: int) -> Store:
    """In a table of its own, filled in the same way."""
    prefix = f"with_{count}_codes"
    store = open_store(uri, prefix)
    _open(store, 0)
    for start in range(1, count, _BATCH):
        subjects = [subject_of(number) for number in range(start, min(start + _BATCH, count))]
        databases().copy_row(uri, prefix, subject_of(0), subjects)
    return store


def _in_key(subject: bytes) -> bytes:
    return urlsafe_b64encode(subject).rstrip(b"=")


_FILLS: dict[str, Callable[[Bench, str, int], Store]] = {
    "memory": _fill_memory,
    "redis": _fill_redis,
    "sqlite": _fill_sql,
    "postgresql": _fill_sql,
}


def _open(store: Store, number: int) -> None:
    store.open(subject_of(number), ChallengeRequest(_ID, b"a bucket 8"), POLICY, int(time.time()))
