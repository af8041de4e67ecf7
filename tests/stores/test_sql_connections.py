"""Old connections of the SQL store that are no good any more: forgotten by a balancer, or leading to a replica."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.pool import QueuePool

from flask_otp.errors import StoreUnavailable
from flask_otp.stores.sql import SQLStore
from flask_otp.stores.sql.deadline import Deadline
from flask_otp.testing import Clock
from flask_otp.testing.stores import MATCH, NO_LIMITS, REFUSED, SEND, WRONG, SubjectDriver
from tests.support.databases import TABLE, DatabaseServer, MariaDBServer
from tests.support.proxy import Proxy

TIMEOUT = 0.6
#: Seconds that a busy machine may add. Less than a time-out, so one wait too many is still noticed.
BUSY = 0.4

StoreFactory = Callable[..., SQLStore]

each_driver = pytest.mark.parametrize("server", ["postgresql", "pg8000", "mariadb"], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def proxy(server: DatabaseServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def ann(server: DatabaseServer, proxy: Proxy, clock: Clock) -> Iterator[SubjectDriver]:
    """A person whose store has one old connection."""
    with contextlib.closing(SQLStore(server.uri_at(proxy.port), "otp", {"timeout": TIMEOUT})) as store:
        store.prepare()
        person = SubjectDriver(store, clock, NO_LIMITS)
        while True:  # on a busy machine, to connect may take longer
            with contextlib.suppress(StoreUnavailable):
                person.prove(b"proof")
                break
        yield person


def seconds(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


# Encodings


@pytest.mark.parametrize("server", ["postgresql", "pg8000"], indirect=True)
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_the_encoding_of_a_postgresql_database_does_not_matter(
    server: DatabaseServer, clock: Clock, encoding: str
) -> None:
    server.run(f"CREATE DATABASE other ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    uri = f"{server.uri.removesuffix('postgres')}other"
    try:
        with contextlib.closing(SQLStore(uri, options={"timeout": 5})) as store:
            store.prepare()
            person = SubjectDriver(store, clock)
            assert person.right(person.open()) is MATCH
            store.probe(int(clock()))
    finally:
        server.run("DROP DATABASE other WITH (FORCE)")


# Forgotten


@each_driver
def test_a_forgotten_connection_is_replaced_within_the_same_verb(proxy: Proxy, ann: SubjectDriver) -> None:
    opened = ann.open()
    for _ in range(2):
        proxy.reset()
        proxy.forget()
        assert TIMEOUT * 0.9 < seconds(lambda: ann.wrong(opened)) < 2 * TIMEOUT + BUSY
        assert proxy.connections == 1
        assert seconds(lambda: ann.wrong(opened)) < TIMEOUT  # by the new one
    assert ann.wrong(opened) == [WRONG]  # the fifth: each was charged once
    assert ann.right(opened) is REFUSED


@each_driver
def test_a_server_that_hangs_is_told_as_late_by_an_old_connection(proxy: Proxy, ann: SubjectDriver) -> None:
    proxy.hang()
    with pytest.raises(StoreUnavailable) as caught:
        ann.open()
    assert caught.value.cause.kind == "timeout"


@each_driver
def test_one_forgotten_connection_has_all_of_them_replaced(proxy: Proxy, ann: SubjectDriver) -> None:
    assert isinstance(ann.store, SQLStore)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(ann.store.engine.connect())
    proxy.reset()
    proxy.forget()
    assert ann.holds(b"proof")
    for _ in range(4):
        assert seconds(lambda: ann.holds(b"proof")) < TIMEOUT
    assert proxy.connections == 1  # a connection that is in use is taken first


@each_driver
def test_a_server_that_is_silent_on_new_connections_too_is_given_up_in_time(proxy: Proxy, ann: SubjectDriver) -> None:
    proxy.hang()

    def holds() -> None:
        with pytest.raises(StoreUnavailable):
            ann.holds(b"proof")

    assert TIMEOUT * 1.7 < seconds(holds) < 2 * TIMEOUT + BUSY  # an old connection, and what is left for a new one
    assert TIMEOUT * 0.9 < seconds(holds) < TIMEOUT + BUSY  # there is none
    proxy.resume()
    assert ann.holds(b"proof")


@each_driver
def test_a_server_that_takes_connections_and_answers_nothing_is_given_up_in_time(
    proxy: Proxy, ann: SubjectDriver
) -> None:
    proxy.reset()
    proxy.lose_replies(re.compile(TABLE.encode()), "silence")

    def holds() -> None:
        with pytest.raises(StoreUnavailable):
            ann.holds(b"proof")

    assert TIMEOUT * 1.7 < seconds(holds) < 2 * TIMEOUT + BUSY
    assert proxy.connections == 1
    assert TIMEOUT * 0.9 < seconds(holds) < 2 * TIMEOUT + BUSY


@each_driver
def test_a_write_on_a_connection_that_goes_silent_is_not_sent_again(proxy: Proxy, ann: SubjectDriver) -> None:
    opened = ann.open()
    store = ann.store
    assert isinstance(store, SQLStore)
    proxy.reset()

    def verb(record: object) -> None:
        proxy.forget()
        record.challenges[opened.challenge_id].attempts += 1  # type: ignore[attr-defined]

    with pytest.raises(StoreUnavailable):
        store.change(ann.subject, ann.now, verb)
    assert proxy.connections == 0
    assert ann.right(opened) is MATCH


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_a_place_in_the_pool_is_waited_for_within_the_same_time(
    server: DatabaseServer, proxy: Proxy, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"timeout": TIMEOUT, "pool_size": 1}
    with contextlib.closing(SQLStore(server.uri_at(proxy.port), "otp", options)) as store, ExitStack() as stack:
        ann = SubjectDriver(store, clock, NO_LIMITS)
        ann.prove(b"proof")
        may_reconnect = Deadline.may_reconnect

        def another_takes_the_place(deadline: Deadline) -> bool:
            answer = may_reconnect(deadline)
            stack.enter_context(store.engine.connect())
            return answer

        monkeypatch.setattr(Deadline, "may_reconnect", another_takes_the_place)
        proxy.forget()

        def holds() -> None:
            with pytest.raises(StoreUnavailable):
                ann.holds(b"proof")

        assert TIMEOUT * 1.7 < seconds(holds) < 2 * TIMEOUT + BUSY


# Another role


@pytest.fixture(scope="module")
def successor() -> Iterator[Callable[[type[DatabaseServer]], DatabaseServer]]:
    """``successor(kind)``: a second server of this kind, empty; one for all tests, since to start one takes long."""
    started: dict[type[DatabaseServer], DatabaseServer] = {}

    def find(kind: type[DatabaseServer]) -> DatabaseServer:
        if kind not in started:
            started[kind] = kind()
            started[kind].start()
            with contextlib.closing(SQLStore(started[kind].uri)) as store:
                store.prepare()
        started[kind].clear()
        return started[kind]

    yield find
    for server in started.values():
        server.remove()


@pytest.fixture(params=["postgresql", "pg8000", "mariadb"])
def pair(
    request: pytest.FixtureRequest, successor: Callable[[type[DatabaseServer]], DatabaseServer]
) -> Iterator[tuple[DatabaseServer, DatabaseServer]]:
    """Two servers with the table, and a database user who cannot write where writing is turned off."""
    first: DatabaseServer = request.getfixturevalue(request.param)
    second = successor(type(first))
    try:
        if request.param == "mariadb":
            for server in (first, second):
                server.run("CREATE USER shop@'127.0.0.1'", f"GRANT ALL ON test.{TABLE} TO shop@'127.0.0.1'")
        yield first, second
    finally:
        if request.param == "mariadb":
            for server in (first, second):
                server.run("SET GLOBAL read_only = 0", "DROP USER shop@'127.0.0.1'")
        else:
            first.run("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


def turn_writing_off(server: DatabaseServer) -> None:
    if isinstance(server, MariaDBServer):
        server.run("SET GLOBAL read_only = 1")
    else:
        server.run("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        time.sleep(0.3)  # sessions hear of it one after the other


def idle_connections(store: SQLStore) -> int:
    pool = store.engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedin()


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_a_connection_over_which_an_error_came_is_not_used_again(
    proxy: Proxy, ann: SubjectDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lead to a server that is no longer the main one, whatever that calls it."""
    assert ann.holds(b"proof")
    proxy.reset()
    with monkeypatch.context() as patch:
        patch.setattr(ann.store, "_select", text("SELECT nonsense"))
        with pytest.raises(StoreUnavailable):
            ann.holds(b"proof")
    assert proxy.connections == 0
    assert ann.holds(b"proof")
    assert proxy.connections == 1


@contextmanager
def shop_through_a_proxy(server: DatabaseServer) -> Iterator[tuple[Proxy, SQLStore]]:
    """A store whose user may be kept from writing, by a way that may lead elsewhere later."""
    with Proxy(server.port) as proxy:
        uri = server.uri_at(proxy.port).replace("root@", "shop@")
        with contextlib.closing(SQLStore(uri, "otp", {"timeout": 5})) as store:
            yield proxy, store


def fill_pool(store: SQLStore) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(store.engine.connect())


def test_after_a_failover_what_the_old_main_server_refused_goes_to_the_new_one(
    pair: tuple[DatabaseServer, DatabaseServer], clock: Clock
) -> None:
    first, second = pair
    with shop_through_a_proxy(first) as (proxy, store):
        ann = SubjectDriver(store, clock, NO_LIMITS)
        old = ann.open()
        fill_pool(store)
        turn_writing_off(first)
        with pytest.raises(StoreUnavailable):
            ann.wrong(old)  # the name still leads to it
        with pytest.raises(StoreUnavailable):
            ann.wrong(old)
        first.run("SELECT 1")
        proxy.reset()
        proxy.lead_to(second.port)
        assert ann.open().outcome is SEND
        assert ann.open().outcome is SEND
        assert proxy.connections == 1


def test_a_verb_whose_old_connection_leads_to_a_replica_is_done_by_a_new_one(
    pair: tuple[DatabaseServer, DatabaseServer], clock: Clock
) -> None:
    first, second = pair
    with shop_through_a_proxy(first) as (proxy, store):
        ann = SubjectDriver(store, clock, NO_LIMITS)
        ann.open()
        fill_pool(store)
        turn_writing_off(first)
        proxy.lead_to(second.port)
        proxy.reset()
        opened = ann.open()
        assert idle_connections(store) == 1  # the others led to the old server, and are closed
        assert ann.wrong(opened) == [WRONG]
        assert ann.right(opened) is MATCH
        assert proxy.connections == 1


def test_what_the_old_server_refused_to_write_for_somebody_new_is_written_by_the_new_one(
    pair: tuple[DatabaseServer, DatabaseServer], clock: Clock
) -> None:
    """Nothing of theirs is there to be read, and so nothing tells before the write that the server takes none."""
    first, second = pair
    with shop_through_a_proxy(first) as (proxy, store):
        SubjectDriver(store, clock, NO_LIMITS).open()
        fill_pool(store)
        turn_writing_off(first)
        proxy.lead_to(second.port)
        proxy.reset()
        bob = SubjectDriver(store, clock, NO_LIMITS, subject=b"somebody new....")
        assert bob.right(bob.open()) is MATCH
        assert proxy.connections == 1
        with store.engine.connect(), store.engine.connect():
            assert proxy.connections == 2  # the others led to the old server


def test_the_guard_takes_nothing_from_what_is_a_replica_by_now(
    pair: tuple[DatabaseServer, DatabaseServer], clock: Clock
) -> None:
    """A proof that was revoked on the new main server is still there on the old one."""
    first, second = pair
    with shop_through_a_proxy(first) as (proxy, store):
        ann = SubjectDriver(store, clock, NO_LIMITS)
        ann.prove(b"proof")
        fill_pool(store)
        turn_writing_off(first)
        with pytest.raises(StoreUnavailable):
            ann.holds(b"proof")  # the name still leads to it
        ann.store = SQLStore(second.uri, "otp", {"timeout": 5})
        with contextlib.closing(ann.store):
            ann.prove(b"proof")
            ann.revoke()
        ann.store = store
        proxy.lead_to(second.port)
        proxy.reset()
        assert not ann.holds(b"proof")
        assert proxy.connections <= 1
