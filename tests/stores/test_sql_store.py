"""What only the SQL store has: conditional writes, failures of databases, its table, and what a dump of it shows."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import pytest
from flask import Flask
from sqlalchemy import Engine, event, select
from sqlalchemy.pool import NullPool, QueuePool

from flask_otp import OTP
from flask_otp.errors import ConfigError, StoreUnavailable
from flask_otp.stores import OpenResult, store_from_uri
from flask_otp.stores.sql import SQLStore, drivers
from flask_otp.stores.sql.deadline import connect_within
from flask_otp.testing import Clock, capture_codes
from flask_otp.testing.stores import HOUR, MATCH, NO_LIMITS, REFUSED, SEND, WRONG, SubjectDriver
from tests.support.apps import START, AppFactory
from tests.support.databases import DatabaseServer, PostgreSQLServer, free_port
from tests.support.examples import at_night
from tests.support.leaks import Dump, issue
from tests.support.proxy import Proxy
from tests.support.redis_verbs import QUESTIONS, VERBS, failing, seconds_to_fail, warm_each
from tests.support.sqlite import UNSYNCED

pytestmark = pytest.mark.server

#: For tests on a busy machine that are not about time.
PATIENT = {"timeout": 10}
HUNG = 0.4

T = TypeVar("T")
StoreFactory = Callable[..., SQLStore]

networked = pytest.mark.parametrize("server", ["postgresql", "mariadb"], indirect=True)
each_driver = pytest.mark.parametrize("server", ["postgresql", "pg8000", "mariadb"], indirect=True)
each_database = pytest.mark.parametrize("uri", ["sqlite", "postgresql", "mariadb"], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """The shared server of a kind."""
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def uri(request: pytest.FixtureRequest, sqlite_uri: str) -> str:
    """An empty database of a kind."""
    return sqlite_uri if request.param == "sqlite" else str(request.getfixturevalue(request.param).uri)


@pytest.fixture
def connect() -> Iterator[StoreFactory]:
    """``connect(uri, prefix, **options)``: a store with its table, closed after the test."""
    stores = []

    def make(uri: str, prefix: str = "otp", *, prepared: bool = True, **options: Any) -> SQLStore:
        if uri.startswith("sqlite") and options == PATIENT:
            options |= UNSYNCED
        store = SQLStore(uri, prefix, options)
        stores.append(store)
        if prepared:
            store.prepare()
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def proxy(server: DatabaseServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def sqlite_uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'otp.db'}"


def rows(store: SQLStore) -> list[Any]:
    with store.engine.connect() as connection:
        return list(connection.execute(select(store._table)))


# Statements


@networked
def test_a_verb_that_changes_something_is_two_round_trips_and_one_that_asks_is_one(
    server: DatabaseServer, proxy: Proxy, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(server.uri_at(proxy.port), **PATIENT)
    # psycopg has the server prepare a statement at its fifth use, which is a round trip more, once.
    for _ in range(6):
        other = SubjectDriver(store, clock, NO_LIMITS, subject=os.urandom(16))
        other.drop(other.open())
    for verb, caller in warm_each(lambda: store, clock).items():
        proxy.reset()
        VERBS[verb](*caller)
        assert (proxy.round_trips, proxy.connections) == (1 if verb in QUESTIONS else 2, 0), verb


@networked
def test_what_is_refused_is_one_round_trip(
    server: DatabaseServer, proxy: Proxy, connect: StoreFactory, clock: Clock
) -> None:
    ann = SubjectDriver(connect(server.uri_at(proxy.port), **PATIENT), clock)
    opened = ann.open()
    assert ann.wrong(opened, 5) == [WRONG] * 5
    ann.check(b"step")
    for refused in (
        lambda: ann.wrong(opened),
        lambda: ann.right(opened),
        lambda: ann.check(b"step"),
        lambda: ann.check(b"stranger", surge=True),
        lambda: ann.spend(b"none"),
    ):
        proxy.reset()
        refused()
        assert proxy.round_trips == 1


@each_database
def test_a_row_changed_by_another_caller_is_read_and_judged_again(
    uri: str, connect: StoreFactory, clock: Clock
) -> None:
    store, elsewhere = connect(uri, **PATIENT), connect(uri, **PATIENT)
    ann, other = SubjectDriver(store, clock, NO_LIMITS), SubjectDriver(elsewhere, clock, NO_LIMITS)
    opened = ann.open()
    seen = []

    def verb(record: Any) -> int:
        seen.append(record.challenges[opened.challenge_id].attempts)
        if len(seen) == 1:
            assert other.wrong(opened, 2) == [WRONG, WRONG]
        record.challenges[opened.challenge_id].attempts += 1
        return len(seen)

    assert store.change(ann.subject, ann.now, verb) == 2
    assert seen == [0, 2]
    assert ann.wrong(opened, 3) == [WRONG, WRONG, REFUSED]


@each_database
@pytest.mark.parametrize("end", ["made", "gone"])
def test_a_row_that_comes_or_goes_in_between_is_no_error(
    uri: str, connect: StoreFactory, clock: Clock, end: str
) -> None:
    store, elsewhere = connect(uri, **PATIENT), connect(uri, **PATIENT)
    ann, other = SubjectDriver(store, clock, NO_LIMITS), SubjectDriver(elsewhere, clock, NO_LIMITS)
    first = ann.open() if end == "gone" else None
    known = []

    def verb(record: Any) -> None:
        known.append(len(record.challenges))
        if len(known) == 1:
            other.drop(first) if first else other.open()
        record.revoked_ms = 1000 * ann.now

    store.change(ann.subject, ann.now, verb)
    assert known == ([1, 0] if first else [0, 1])
    assert len(rows(store)) == 1


@each_database
def test_what_never_comes_to_rest_is_given_up_in_time(uri: str, connect: StoreFactory, clock: Clock) -> None:
    store, elsewhere = connect(uri, timeout=0.3), connect(uri, **PATIENT)
    ann, other = SubjectDriver(store, clock, NO_LIMITS), SubjectDriver(elsewhere, clock, NO_LIMITS)
    opened = ann.open()

    def verb(record: Any) -> None:
        other.open()
        record.challenges.pop(opened.challenge_id)

    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.change(ann.subject, ann.now, verb)
    assert 0.3 <= time.monotonic() - start < 3
    assert ann.right(opened) is MATCH


def test_serialisation_failures_are_tried_again_and_charge_once(
    postgresql: DatabaseServer, connect: StoreFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(postgresql.uri + "?options=-c%20default_transaction_isolation%3Dserializable", **PATIENT)
    ann = SubjectDriver(store, clock, replace(NO_LIMITS, max_attempts=10))
    opened = ann.open()
    failures = []
    write = store._write

    def spy(*args: Any) -> bool:
        failures.append(write(*args))
        return failures[-1]

    monkeypatch.setattr(store, "_write", spy)
    outcomes: list[Any] = []
    barrier = threading.Barrier(10)

    def work() -> None:
        barrier.wait(10)
        outcomes.extend(ann.wrong(opened, 5))

    run_all([work] * 10)
    assert outcomes.count(WRONG) == 10
    assert outcomes.count(REFUSED) == 40


def run_all(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_locked_row_is_tried_again_until_it_is_free(
    mariadb: DatabaseServer, connect: StoreFactory, clock: Clock
) -> None:
    no_waiting = {"init_command": "SET innodb_lock_wait_timeout = 0"}
    ann = SubjectDriver(connect(mariadb.uri, connect_args=no_waiting, **PATIENT), clock, NO_LIMITS)
    opened = ann.open()
    with contextlib.closing(mariadb.connect()) as locker:
        cursor = locker.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM otp_subject FOR UPDATE")
        release = threading.Timer(0.2, locker.rollback)
        release.start()
        start = time.monotonic()
        assert ann.wrong(opened, 6) == [WRONG] * 5 + [REFUSED]
        assert time.monotonic() - start > 0.1
        release.join()


# What databases say


class Said(sqlite3.ProgrammingError):
    """As a driver tells it: in its arguments, or in an attribute."""

    def __init__(self, *args: object, **attributes: str) -> None:
        super().__init__(*args)
        vars(self).update(attributes)


CLOSED = Said("Cannot operate on a closed database.")
TROUBLE = [Said(), Said("disk I/O error"), Said(1021, "disk full"), Said(sqlstate="53100")]


def say(engine: Engine, kind: str, *errors: Exception) -> list[str]:
    """The next statements of this kind fail, one for each error. What comes of them all is added to the answer."""
    left, seen = list(errors), []

    def execute(cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(kind):
            seen.append(statement)
            if left:
                raise left.pop(0)

    event.listen(engine, "do_execute", execute)
    return seen


@pytest.mark.parametrize(
    "said",
    [
        Said(sqlstate="40001"),
        Said(sqlstate="40P01"),
        Said(sqlstate="55P03"),
        Said({"C": "40P01"}),
        Said({"C": "23505"}),  # pg8000: another one made the row
        Said(1020, "Record has changed since last read"),
        Said(1205, "Lock wait timeout exceeded"),
        Said(1213, "Deadlock found"),
        Said("database is locked"),
    ],
    ids=str,
)
def test_what_the_database_has_rolled_back_is_tried_again_and_charged_once(
    sqlite_uri: str, connect: StoreFactory, clock: Clock, said: Said
) -> None:
    store = connect(sqlite_uri, **PATIENT)
    ann = SubjectDriver(store, clock, NO_LIMITS)
    opened = ann.open()
    tried = say(store.engine, "UPDATE", said, said)
    assert ann.wrong(opened, 6) == [WRONG] * 5 + [REFUSED]
    assert len(tried) == 2 + 5


@pytest.mark.parametrize("said", [*TROUBLE, CLOSED], ids=str)
def test_r07_a_write_that_fails_for_another_reason_is_not_tried_again(
    sqlite_uri: str, connect: StoreFactory, clock: Clock, caplog: pytest.LogCaptureFixture, said: Said
) -> None:
    store = connect(sqlite_uri, **PATIENT)
    ann = SubjectDriver(store, clock)
    opened = ann.open()
    tried = say(store.engine, "UPDATE", said)
    with pytest.raises(StoreUnavailable):
        ann.wrong(opened)
    assert len(tried) == 1
    assert [message for message in caplog.messages if not message.startswith("the store is unavailable")] == []


def test_a_sqlite_row_that_others_always_change_first_is_given_up(
    sqlite_uri: str, connect: StoreFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(sqlite_uri, timeout=0.1)
    monkeypatch.setattr(store, "_write", lambda *arguments: False)
    with pytest.raises(StoreUnavailable) as given_up:
        SubjectDriver(store, clock).open()
    assert given_up.value.cause == ("timeout", "contention")


def test_a_write_that_a_read_only_server_refuses_is_done_once_by_another_connection(
    sqlite_uri: str, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(sqlite_uri, **PATIENT)
    ann = SubjectDriver(store, clock)
    opened = ann.open()
    tried = say(store.engine, "UPDATE", Said(sqlstate="25006"))
    assert ann.wrong(opened) == [WRONG]
    assert len(tried) == 2


def test_sqlite_writes_nothing_when_the_time_is_up_after_reading(
    sqlite_uri: str, connect: StoreFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(sqlite_uri, **PATIENT)
    ann, read = SubjectDriver(store, clock), store._read_first

    def read_slowly(connection: Any, subject: bytes, deadline: Any) -> bytes | None:
        state = read(connection, subject, deadline)
        deadline._end = 0
        return state

    with monkeypatch.context() as patch:
        patch.setattr(store, "_read_first", read_slowly)
        with pytest.raises(StoreUnavailable) as late:
            ann.open()
    assert late.value.cause == ("timeout", "TimeoutError")
    assert ann.inspect().sends == []
    assert ann.open().outcome is SEND


def test_a_closed_connection_is_replaced_once_to_read(sqlite_uri: str, connect: StoreFactory, clock: Clock) -> None:
    store = connect(sqlite_uri, **PATIENT)
    ann = SubjectDriver(store, clock)
    tried = say(store.engine, "SELECT", CLOSED, CLOSED, CLOSED)
    with pytest.raises(StoreUnavailable):
        ann.open()
    assert len(tried) == 2
    assert ann.open().outcome is SEND
    assert len(tried) == 4


@pytest.mark.parametrize("said", TROUBLE, ids=str)
def test_a_read_that_fails_for_another_reason_is_not_tried_again(
    sqlite_uri: str, connect: StoreFactory, clock: Clock, said: Said
) -> None:
    store = connect(sqlite_uri, **PATIENT)
    tried = say(store.engine, "SELECT", said)
    with pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock).open()
    assert len(tried) == 1


def test_a_connection_that_is_found_closed_too_late_is_not_replaced(
    sqlite_uri: str, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(sqlite_uri, timeout=1e-9)
    tried = say(store.engine, "SELECT", CLOSED)
    with pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock).open()
    assert len(tried) == 1


@pytest.mark.parametrize("said", [Said(sqlstate="42P01"), Said(1146, "Table 'shop_subject' doesn't exist")], ids=str)
def test_a_missing_table_is_named_in_the_log(
    sqlite_uri: str, connect: StoreFactory, clock: Clock, caplog: pytest.LogCaptureFixture, said: Said
) -> None:
    store = connect(sqlite_uri, "shop")
    say(store.engine, "SELECT", said)
    with pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock).open()
    message = "the table shop_subject does not exist: run 'flask otp init-db'"
    assert ("flask_otp", logging.ERROR, message) in caplog.record_tuples


def test_what_is_tried_again_waits_for_two_milliseconds_at_most(
    sqlite_uri: str, connect: StoreFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(sqlite_uri, **PATIENT)
    say(store.engine, "INSERT", *[Said("database is locked")] * 10)
    pauses: list[float] = []
    here, sleep = threading.get_ident(), time.sleep

    def pause(seconds: float) -> None:
        if threading.get_ident() == here:  # a thread of an earlier test may still be on watch
            pauses.append(seconds)
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", pause)
    assert SubjectDriver(store, clock).open().outcome is SEND
    assert len(set(pauses)) == 10
    assert all(0 <= pause <= 0.002 for pause in pauses)


# Replies that are lost


def patiently(call: Callable[[], T]) -> T:
    """What it gives, by whichever try: on a busy machine, to connect may take longer than a test's short time-out."""
    for _ in range(20):
        with contextlib.suppress(StoreUnavailable):
            return call()
    return call()


#: The reply to a write that has changed a row, by any driver; and the request for one.
CHANGED = {"postgresql": rb"(INSERT 0|UPDATE|DELETE) 1\0", "mariadb": rb"(INSERT INTO|UPDATE|DELETE FROM) `?otp_"}


def lose_the_replies_to_writes(server: DatabaseServer, proxy: Proxy, how: str) -> None:
    proxy.lose_replies(re.compile(CHANGED[server.uri_form.partition("+")[0]]), how)


@each_driver
@pytest.mark.parametrize("how", ["cut", "silence"])
def test_r07_a_write_whose_reply_was_lost_is_not_tried_again(
    server: DatabaseServer,
    proxy: Proxy,
    connect: StoreFactory,
    clock: Clock,
    how: str,
) -> None:
    store = connect(server.uri_at(proxy.port), timeout=0.5)
    ann = SubjectDriver(store, clock, NO_LIMITS)
    opened = ann.open()
    ann.wrong(opened)
    proxy.reset()
    lose_the_replies_to_writes(server, proxy, how)
    with pytest.raises(StoreUnavailable):
        ann.wrong(opened)
    # pg8000 has each statement parsed, described and executed.
    assert (proxy.round_trips, proxy.connections) == (6 if "pg8000" in server.uri else 2, 0)
    proxy.keep_replies()
    patiently(lambda: ann.holds(b"none"))
    assert ann.wrong(opened, 4) == [WRONG] * 3 + [REFUSED]


@each_driver
@pytest.mark.parametrize("how", ["cut", "silence"])
def test_r37_a_right_code_whose_reply_was_lost_is_consumed_and_passes_nobody(
    server: DatabaseServer,
    proxy: Proxy,
    connect: StoreFactory,
    clock: Clock,
    how: str,
) -> None:
    store = connect(server.uri_at(proxy.port), timeout=0.5)
    ann = SubjectDriver(store, clock, NO_LIMITS)
    opened = ann.open()
    lose_the_replies_to_writes(server, proxy, how)
    with pytest.raises(StoreUnavailable):
        ann.right(opened)
    proxy.keep_replies()
    patiently(lambda: ann.holds(b"none"))
    assert ann.right(opened) is REFUSED


@each_driver
def test_a_connection_that_was_cut_while_idle_is_replaced_before_anything_is_charged(
    server: DatabaseServer, proxy: Proxy, connect: StoreFactory, clock: Clock
) -> None:
    ann = SubjectDriver(connect(server.uri_at(proxy.port), **PATIENT), clock, NO_LIMITS)
    opened = ann.open()
    for _ in range(5):
        proxy.cut()
        time.sleep(0.02)
        assert ann.wrong(opened) == [WRONG]
    assert ann.right(opened) is REFUSED


# Servers out of reach


@networked
def test_the_first_verb_after_a_restart_works_on_an_old_connection(
    server: DatabaseServer, connect: StoreFactory, clock: Clock
) -> None:
    """Whichever verb it is: each has a store of its own."""
    callers = warm_each(lambda: connect(server.uri, **PATIENT), clock)
    server.stop()
    try:
        for ann, _ in callers.values():
            with pytest.raises(StoreUnavailable):
                ann.holds(b"proof")
    finally:
        server.start()
    assert failing(callers) == {}


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql+pg8000", "mariadb+pymysql"])
@pytest.mark.parametrize("verb", ["open", "redeem right", "holds"])
def test_r37_a_refused_connection_is_known_at_once(connect: StoreFactory, clock: Clock, scheme: str, verb: str) -> None:
    plain = (
        {"ssl_disabled": True} if "pymysql" in scheme else {}
    )  # it would read certificates first, which is no waiting
    ann = SubjectDriver(connect(f"{scheme}://me@127.0.0.1:{free_port()}/x", prepared=False, connect_args=plain), clock)
    assert seconds_to_fail(lambda: VERBS[verb](ann, OpenResult(SEND, b"id", bucket=b"bucket")), enough=0.05) < 0.05


@each_driver
@pytest.mark.parametrize("connected", [True, False])
def test_r37_a_hung_server_is_given_up_within_twice_the_time_out(
    server: DatabaseServer, proxy: Proxy, connect: StoreFactory, clock: Clock, connected: bool
) -> None:
    connect(server.uri)
    store = connect(server.uri_at(proxy.port), prepared=False, timeout=HUNG)
    ann, opened = SubjectDriver(store, clock), OpenResult(SEND, b"id", bucket=b"bucket")
    if connected:
        opened = patiently(ann.open)
    proxy.hang()

    def seconds(verb: str) -> float:
        return seconds_to_fail(lambda: VERBS[verb](ann, opened), enough=2 * HUNG)

    with ThreadPoolExecutor(3) as threads:
        for waited in threads.map(seconds, ("open", "redeem right", "holds")):
            assert HUNG * 0.9 < waited < 2 * HUNG
    proxy.resume()


@each_driver
def test_r37_a_server_that_stopped_and_came_back_serves_again(
    server: DatabaseServer, proxy: Proxy, connect: StoreFactory, clock: Clock
) -> None:
    ann = SubjectDriver(connect(server.uri_at(proxy.port), timeout=0.5), clock, NO_LIMITS)
    patiently(lambda: ann.prove(b"proof"))
    proxy.hang()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            ann.holds(b"proof")
    proxy.resume()
    assert ann.holds(b"proof")


def threads() -> set[threading.Thread]:
    """All but the timers, of which an app may have one that counts."""
    return {thread for thread in threading.enumerate() if not isinstance(thread, threading.Timer)}


def test_r37_a_hung_server_costs_no_thread_and_no_connection_for_good(
    postgresql: DatabaseServer, connect: StoreFactory, clock: Clock
) -> None:
    before = threads()
    descriptors = len(os.listdir("/proc/self/fd"))
    with Proxy(postgresql.port) as proxy:
        store = connect(postgresql.uri_at(proxy.port), prepared=False, timeout=0.1)
        proxy.hang()
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                SubjectDriver(store, clock).holds(b"proof")
        store.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        # Something of an earlier test may end meanwhile.
        if not threads() - before and len(os.listdir("/proc/self/fd")) <= descriptors:
            return
        time.sleep(0.05)
    pytest.fail(f"left behind: {threading.enumerate()}")


def test_a_connection_that_comes_too_late_is_closed() -> None:
    class Late:
        closed = threading.Event()

        def close(self) -> None:
            self.closed.set()

    go = threading.Event()

    def connect() -> Late:
        go.wait(5)
        return Late()

    with pytest.raises(StoreUnavailable):
        connect_within(0.01, connect)
    assert not Late.closed.is_set()
    go.set()
    assert Late.closed.wait(5)


@each_driver
def test_r37_more_threads_than_connections_wait_their_turn_and_no_longer(
    server: DatabaseServer, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(server.uri, timeout=1, pool_size=1)
    with store.engine.connect():
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            SubjectDriver(store, clock).holds(b"proof")
        assert 0.25 < time.monotonic() - start < 2
    assert not SubjectDriver(store, clock).holds(b"proof")


@each_driver
def test_a_driver_that_cannot_take_the_options_is_an_outage_and_no_crash(
    server: DatabaseServer, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(server.uri, prepared=False, connect_args={"colour": "red"})
    with pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock).open()


def test_r37_a_database_that_refuses_to_write_passes_nobody_and_is_left_for_another(
    postgresql: DatabaseServer, connect: StoreFactory, clock: Clock
) -> None:
    ann = SubjectDriver(connect(postgresql.uri, **PATIENT), clock, NO_LIMITS)
    opened = ann.open()
    postgresql.run("ALTER ROLE postgres SET default_transaction_read_only = on")
    ann.store.close()  # type: ignore[attr-defined]
    try:
        with pytest.raises(StoreUnavailable):
            ann.right(opened, b"proof")
        with pytest.raises(StoreUnavailable):
            ann.holds(b"proof")
        with pytest.raises(StoreUnavailable):
            ann.right(opened, b"proof")
    finally:
        postgresql.run(
            "SET default_transaction_read_only = off", "ALTER ROLE postgres RESET default_transaction_read_only"
        )
    # The connection on which it refused is not used any more, although it still works.
    assert ann.right(opened) is MATCH


# SQLite


@pytest.mark.parametrize(
    ("journal", "lock", "verb"),
    [
        ("WAL", "IMMEDIATE", "redeem right"),
        ("WAL", "EXCLUSIVE", "open"),
        ("DELETE", "IMMEDIATE", "open"),
        ("DELETE", "EXCLUSIVE", "redeem right"),
        *at_night(
            ("WAL", "IMMEDIATE", "open"),
            ("WAL", "EXCLUSIVE", "redeem right"),
            ("DELETE", "IMMEDIATE", "redeem right"),
            ("DELETE", "EXCLUSIVE", "open"),
        ),
    ],
)
def test_an_sqlite_file_that_stays_locked_is_given_up_within_two_seconds(
    sqlite_uri: str, tmp_path: Path, connect: StoreFactory, clock: Clock, verb: str, lock: str, journal: str
) -> None:
    store = connect(sqlite_uri)
    ann = SubjectDriver(store, clock)
    opened = ann.open()
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "otp.db", isolation_level=None)) as locker:
        locker.execute(f"PRAGMA journal_mode = {journal}")
        locker.execute(f"BEGIN {lock}")
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            VERBS[verb](ann, opened)
        assert time.monotonic() - start < 2
        locker.rollback()
    assert ann.right(opened) is MATCH


def test_an_sqlite_file_that_is_locked_for_a_moment_is_waited_for(
    sqlite_uri: str, tmp_path: Path, connect: StoreFactory, clock: Clock
) -> None:
    ann = SubjectDriver(connect(sqlite_uri, **PATIENT), clock)
    opened = ann.open()
    with contextlib.closing(
        sqlite3.connect(tmp_path / "otp.db", isolation_level=None, check_same_thread=False)
    ) as locker:
        locker.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.1, locker.rollback)
        release.start()
        assert ann.wrong(opened, 6) == [WRONG] * 5 + [REFUSED]
        release.join()


def test_sqlite_makes_its_own_table_on_first_use(sqlite_uri: str, tmp_path: Path, clock: Clock) -> None:
    store = SQLStore(sqlite_uri)
    assert not (tmp_path / "otp.db").exists()
    ann = SubjectDriver(store, clock)
    assert ann.right(ann.open()) is MATCH
    assert store.prepare()
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "otp.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")}
    assert names == {"otp_subject", "ix_otp_subject_expires_at"}


def test_a_new_sqlite_file_that_another_process_is_making_is_waited_for(
    sqlite_uri: str, tmp_path: Path, connect: StoreFactory, clock: Clock
) -> None:
    with contextlib.closing(
        sqlite3.connect(tmp_path / "otp.db", isolation_level=None, check_same_thread=False)
    ) as other:
        # SQLite does not wait, whatever the time-out, where two would turn a file to WAL.
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.1, other.rollback)
        release.start()
        assert not SubjectDriver(connect(sqlite_uri, **PATIENT), clock).holds(b"proof")
        release.join()


def test_the_journal_mode_of_a_file_that_has_the_table_is_left_alone(
    sqlite_uri: str, tmp_path: Path, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(sqlite_uri)
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "otp.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        SubjectDriver(store, clock).open()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_an_sqlite_file_that_cannot_be_made_is_an_outage(tmp_path: Path, clock: Clock) -> None:
    store = SQLStore(f"sqlite:///{tmp_path / 'nowhere' / 'otp.db'}")
    with pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock).open()


# Processes

FORKING = """
import os, sys, threading
from flask_otp.stores.sql import SQLStore
from flask_otp.stores import ChallengeRequest, Policy
store = SQLStore(sys.argv[1], "otp", {"timeout": 10})
policy = Policy(300, 5, 0, (), (), ())
request = lambda: ChallengeRequest(os.urandom(16), b"bucket")
opened = lambda: store.open(os.urandom(16), request(), policy, 1790000000).outcome.name
store.prepare()
assert opened() == "SEND"
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        for _ in range(8):
            assert opened() == "SEND"
        assert not any(thread.name == "flask_otp connect" for thread in threading.enumerate())
        os._exit(0)
    children.append(child)
for _ in range(8):
    assert opened() == "SEND"
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
assert opened() == "SEND"
store.close()
"""


@pytest.mark.parametrize("uri", ["postgresql", *at_night("sqlite", "mariadb")], indirect=True)
def test_processes_that_fork_after_the_first_use_have_connections_of_their_own(uri: str, connect: StoreFactory) -> None:
    # Python 3.12 warns of every fork beside a thread, and the deadlines have one.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORKING, uri]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert len(rows(connect(uri))) == 26


# The table


@each_database
def test_times_are_whole_seconds_and_a_row_ends_with_what_it_holds(
    uri: str, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(uri, **PATIENT)
    ann = SubjectDriver(store, clock, replace(NO_LIMITS, failure_budget=((20, 90 * 86400),)))
    opened = ann.open()
    assert [(row.subject, row.expires_at) for row in rows(store)] == [(ann.subject, START + 300)]
    ann.right(opened, b"proof")
    assert [row.expires_at for row in rows(store)] == [START + 12 * HOUR]
    ann.wrong(ann.open())
    assert [row.expires_at for row in rows(store)] == [START + 90 * 86400]


@each_database
def test_a_subject_that_means_nothing_any_more_leaves_no_row(uri: str, connect: StoreFactory, clock: Clock) -> None:
    store = connect(uri, **PATIENT)
    ann = SubjectDriver(store, clock, NO_LIMITS)
    ann.drop(ann.open())
    ann.prove(b"proof")
    assert ann.spend(b"proof")
    assert not ann.holds(b"proof")
    ann.wrong(OpenResult(SEND, b"unknown"))
    assert rows(store) == []


@each_database
def test_apps_with_prefixes_of_their_own_share_nothing(uri: str, connect: StoreFactory, clock: Clock) -> None:
    shop, bank = (SubjectDriver(connect(uri, name, **PATIENT), clock) for name in ("shop", "Bank"))
    shop.prove(b"proof")
    assert not bank.holds(b"proof")
    assert bank.open().outcome is SEND


@networked
def test_a_missing_table_is_an_outage_that_says_what_to_run(
    server: DatabaseServer, make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(OTP_STORAGE_URI=server.uri, OTP_KEY_PREFIX="shop", OTP_STORAGE_OPTIONS=PATIENT)
    client, cli = app.test_client(), app.test_cli_runner()
    with closing_store(app), capture_codes(app):
        response = client.post("/otp/send", json={"email": "ann@example.com"})
        assert (response.status_code, response.json["reason"]) == (503, "store_unavailable")
        assert "the table shop_subject does not exist: run 'flask otp init-db'" in caplog.text
        assert cli.invoke(args=["otp", "init-db"]).output == "The store is ready.\n"
        assert client.post("/otp/send", json={"email": "ann@example.com"}).status_code == 200


@networked
def test_the_table_is_made_once_by_the_first_caller_and_repaired(server: DatabaseServer, connect: StoreFactory) -> None:
    stores = [connect(server.uri, "shop", prepared=False) for _ in range(4)]
    done: list[bool] = []
    run_all([lambda store=store: done.append(store.prepare()) for store in stores])  # type: ignore[misc]
    assert done == [True] * 4
    index = "DROP INDEX ix_shop_subject_expires_at"
    server.run(index if isinstance(server, PostgreSQLServer) else f"{index} ON shop_subject")
    stores[0].prepare()
    with pytest.raises(Exception, match=r"(?i)exists|duplicate"):
        server.run("CREATE INDEX ix_shop_subject_expires_at ON shop_subject (expires_at)")


@each_database
def test_a_foreign_row_is_an_outage_and_no_crash(
    uri: str, connect: StoreFactory, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = connect(uri, **PATIENT)
    ann = SubjectDriver(store, clock)
    opened = ann.open()
    for junk in (b"", b"\xff", b"what is this?"):
        with store.engine.connect() as connection:
            connection.execute(store._table.update().values(state=junk))
        with pytest.raises(StoreUnavailable):
            ann.right(opened)
    assert caplog.messages.count("a row of the store was not written by flask_otp") == 3


# What has expired


@each_database
def test_purging_removes_what_has_expired_in_batches_and_nothing_else(
    uri: str, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(uri, **PATIENT)
    people = [SubjectDriver(store, clock, NO_LIMITS, b"%016d" % number) for number in range(25)]
    for person in people[:20]:
        person.open()
    clock.advance(100)
    for person in people[15:]:
        person.open()
    clock.advance(200)
    assert [store.purge(int(clock()), limit=10) for _ in range(3)] == [10, 5, 0]
    assert {row.subject for row in rows(store)} == {person.subject for person in people[15:]}


def test_purging_an_sqlite_table_where_nothing_has_expired_removes_nothing(
    sqlite_uri: str, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(sqlite_uri)
    tried = say(store._patient_engines.get(), "DELETE")
    assert store.purge(int(clock()), limit=10) == 0
    assert tried == []


@each_database
def test_a_row_that_comes_to_life_while_it_is_being_purged_stays(uri: str, connect: StoreFactory, clock: Clock) -> None:
    store, elsewhere = connect(uri, **PATIENT), connect(uri, **PATIENT)
    ann, other = (SubjectDriver(one, clock, NO_LIMITS) for one in (store, elsewhere))
    ann.open()
    clock.advance(300)
    opened = []

    def revive(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            opened.append(other.open())

    event.listen(store._patient_engines.get(), "before_cursor_execute", revive)
    assert store.purge(ann.now, limit=10) == 0
    assert ann.right(opened[0]) is MATCH


@each_database
def test_purging_beside_live_writers_loses_nothing_of_theirs(uri: str, connect: StoreFactory, clock: Clock) -> None:
    store, cleaner = connect(uri, **PATIENT), connect(uri, **PATIENT)
    now, expired = int(clock()), threading.Semaphore(0)
    for number in range(20):
        SubjectDriver(store, Clock(now - 1000), NO_LIMITS, b"expired%d" % number).open()
    removed: list[int] = []
    results: list[Any] = []

    def purge() -> None:
        for _ in range(60):
            # Not all the time: on SQLite, one writer that never rests keeps all others out.
            expired.acquire()
            removed.append(cleaner.purge(now, limit=5))

    def write(number: int) -> None:
        for turn in range(15):
            # The row has expired when it is used again, and is purged at any moment of that.
            ann = SubjectDriver(store, Clock(now - 1000), NO_LIMITS, b"%08d%08d" % (number, turn))
            ann.open()
            ann.clock.advance(1000)
            expired.release()
            opened = ann.open()
            results.append((ann.wrong(opened), ann.right(opened, b"proof"), ann.holds(b"proof")))

    purger = threading.Thread(target=purge)
    purger.start()
    run_all([lambda number=number: write(number) for number in range(4)])  # type: ignore[misc]
    purger.join()
    removed.append(cleaner.purge(now, limit=100))
    assert results == [([WRONG], MATCH, True)] * 60
    assert len(rows(store)) == 60
    assert sum(removed) >= 20


# R17


def test_r17_a_dump_of_the_database_gives_no_code_and_no_address_away(
    sqlite_uri: str, tmp_path: Path, make_app: AppFactory
) -> None:
    app = make_app(OTP_STORAGE_URI=sqlite_uri)
    with closing_store(app):
        challenge_id, code = issue(app, "ann@example.com")
        dump = Dump([path.read_bytes() for path in tmp_path.glob("otp.db*")])
    assert challenge_id in dump.everything
    for identifier in (b"ann@example.com", b"carol@example.com"):
        assert identifier not in dump.everything
        assert sha256(identifier).digest()[:8] not in dump.windows
    for form in (int(code).to_bytes(4, "big"), int(code).to_bytes(4, "little"), code[::-1].encode()):
        assert form not in dump.everything
    assert dump.finds([b"", b"ann@example.com", challenge_id], [int(code)]) == []


@contextlib.contextmanager
def closing_store(app: Flask) -> Iterator[None]:
    try:
        yield
    finally:
        app.extensions["otp"].store.close()


# URIs and options


@pytest.mark.parametrize(
    "uri",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true", "sqlite:///file::memory:?uri=true"],
)
def test_sqlite_in_memory_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="use memory://"):
        store_from_uri(uri, "otp", {})


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("postgresql://localhost:port/db", {}),
        ("postgresql+nothing://localhost/db", {}),
        ("sqlite:///x.db", {"colour": "red"}),
        ("sqlite:///x.db", {"timeout": 0}),
        ("sqlite:///x.db", {"timeout": "1s"}),
        ("postgresql+asyncpg://localhost/db", {}),
        ("sqlite+aiosqlite:///x.db", {}),
    ],
)
def test_a_wrong_uri_or_option_stops_the_app(uri: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="OTP_STORAGE"):
        store_from_uri(uri, "otp", options)


def test_what_the_time_out_for_a_uri_must_be_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        store_from_uri("sqlite:///x.db", "otp", {"timeout": 0})
    assert caught.value.args[0] == "OTP_STORAGE_OPTIONS: timeout must be a number of seconds above 0"


@pytest.mark.parametrize(
    ("uri", "options", "seconds"),
    [
        ("postgresql://localhost/db", {}, 0.25),
        ("mariadb://localhost/db", {}, 0.25),
        ("sqlite:///x.db", {}, 0.75),
        ("sqlite:///x.db", {"timeout": 3}, 3),
    ],
)
def test_by_its_uri_a_server_has_a_quarter_of_a_second_a_file_three_and_maintenance_a_minute(
    uri: str, options: dict[str, Any], seconds: float
) -> None:
    store = SQLStore(uri, "otp", options)
    pools = store.engine.pool, store._patient_engines.get().pool
    assert [pool.timeout() for pool in pools if isinstance(pool, QueuePool)] == [0.75 * seconds, 45]


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pg8000", None)
    with pytest.raises(ConfigError, match="needs the database driver pg8000"):
        store_from_uri("postgresql+pg8000://localhost/db", "otp", {})


@pytest.mark.parametrize("uri", ["postgresql://me:hunter2@localhost:port/db", "mysql+hunter2://me:hunter2@localhost"])
def test_r34_a_wrong_uri_does_not_show_its_password(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        store_from_uri(uri, "otp", {})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "driver"),
    [
        ("postgresql://localhost/db", "psycopg"),
        ("postgres://localhost/db", "psycopg"),
        ("postgresql+psycopg://localhost/db", "psycopg"),
        ("mysql://localhost/db", "pymysql"),
        ("mariadb://localhost/db", "pymysql"),
        ("sqlite:///x.db", "pysqlite"),
    ],
)
def test_a_uri_that_names_no_driver_gets_the_one_that_is_tested(uri: str, driver: str) -> None:
    store = store_from_uri(uri, "otp", {})
    assert isinstance(store, SQLStore)
    assert store.engine.dialect.driver == driver


def test_where_psycopg_is_missing_pg8000_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "find_spec", lambda name: None if name == "psycopg" else name)
    assert SQLStore("postgresql://me@localhost/db").engine.dialect.driver == "pg8000"


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        (
            "postgresql+psycopg2://localhost/db",
            "the driver psycopg2 may wait for ever; install and name psycopg or pg8000",
        ),
        ("mysql+mysqldb://localhost/db", "the driver mysqldb may wait for ever; install and name pymysql"),
    ],
)
def test_a_driver_that_nothing_ends_is_refused(uri: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        store_from_uri(uri, "otp", {})
    assert caught.value.args[0] == f"OTP_STORAGE_URI: {named}"


def test_options_reach_the_engine_and_the_driver_but_cannot_open_a_transaction(
    postgresql: DatabaseServer, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(
        postgresql.uri,
        poolclass=NullPool,
        isolation_level="SERIALIZABLE",
        connect_args={"application_name": "the-shop", "connect_timeout": 5},
        **PATIENT,
    )
    SubjectDriver(store, clock).open()
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "the-shop"
        assert connection.connection.driver_connection.autocommit  # type: ignore[union-attr]
    assert len(postgresql.run("SELECT * FROM otp_subject")) == 1


# A whole app, and the command line


@each_database
def test_an_app_sends_verifies_guards_and_revokes(uri: str, make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp, OTP_STORAGE_URI=uri, OTP_STORAGE_OPTIONS=PATIENT)
    client, cli = app.test_client(), app.test_cli_runner()
    app.add_url_rule("/me", "me", lambda: str(otp.verification() is not None))
    with closing_store(app), capture_codes(app) as codes:
        assert cli.invoke(args=["otp", "init-db"]).exit_code == 0
        client.post("/otp/send", json={"email": "ann@example.com"})
        assert client.post("/otp/verify", json={"code": codes.code}).status_code == 200
        assert client.get("/me").text == "True"
        result = cli.invoke(args=["otp", "revoke", "Ann@Example.com"])
        assert (result.exit_code, result.output) == (
            0,
            "Ended all proofs, codes and known browsers of A***@Example.com.\n",
        )
        assert client.get("/me").text == "False"
        clock.advance(181 * 86400)
        assert cli.invoke(args=["otp", "purge"]).output == "1 expired rows removed.\n"


def test_sql_is_told_to_be_an_extra_where_it_is_not_installed() -> None:
    program = """
import sys
sys.modules["sqlalchemy"] = None
from flask_otp.stores import store_from_uri
try:
    store_from_uri("sqlite:///x.db", "otp", {})
except ValueError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "OTP_STORAGE_URI names a database: install flask-otp-codes[sql] (see: " in result.stdout, result.stderr
