"""Every store of ours passes the suite. What only one of them has is in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, select

from flask_otp.stores import Policy, Store
from flask_otp.testing import Clock
from flask_otp.testing.stores import POLICY, REFUSE, StoreSuite, SubjectDriver
from flask_otp.testing.stores.checking import CheckingTests
from flask_otp.testing.stores.races import RaceTests
from flask_otp.testing.stores.random_walk import TIGHT, WalkTests
from tests.support.apps import ValkeyServer
from tests.support.databases import DatabaseServer
from tests.support.examples import at_night
from tests.support.sqlite import UNSYNCED


@pytest.fixture(scope="module")
def opened() -> Iterator[dict[str, Any]]:
    """The SQL stores that are open, by their URI."""
    stores: dict[str, Any] = {}
    yield stores
    for store in stores.values():
        store.close()


@pytest.fixture(scope="module")
def sqlite_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'otp.db'}"


CHANGING = (TIGHT, replace(TIGHT, failure_budget=()), REFUSE)


class OneWalk(StoreSuite):
    """It decides by the functions of the memory store: one walk of nine shows that it keeps what they decide."""

    @pytest.mark.parametrize("policies", [CHANGING], ids=["changing"])
    @pytest.mark.parametrize("seed", [1], ids="seed{}".format)
    def test_it_answers_as_the_memory_store_does_step_by_step(
        self, store: Store, seed: int, policies: tuple[Policy, ...]
    ) -> None:
        super().test_it_answers_as_the_memory_store_does_step_by_step(store, seed, policies)

    @pytest.mark.parametrize("seed", [1], ids="seed{}".format)
    def test_it_answers_claims_as_the_memory_store_does_step_by_step(self, store: Store, seed: int) -> None:
        super().test_it_answers_claims_as_the_memory_store_does_step_by_step(store, seed)


class TestMemory(OneWalk):
    shared = False

    @pytest.fixture
    def storage_uri(self) -> str:
        return "memory://"

    def size_of(self, store: Any) -> int:
        return sum(len(packed) for table in store._tables.values() for packed in table.values())


class ProcessesWithThreads:
    """In a race of two processes, half of the threads of a race in one race there as well."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "track" in metafunc.fixturenames:
            metafunc.parametrize("track", [*at_night("threads"), "two-processes"], indirect=True)


class TestRedis(ProcessesWithThreads, StoreSuite):
    """It decides by scripts of its own: one walk under each policy, and at night three."""

    @pytest.mark.parametrize("seed", [1, *at_night(2, 3)], ids="seed{}".format)
    @pytest.mark.parametrize(
        "policies", [(TIGHT,), (replace(TIGHT, refuse=True),), CHANGING], ids=["tight", "refusing", "changing"]
    )
    def test_it_answers_as_the_memory_store_does_step_by_step(
        self, store: Store, seed: int, policies: tuple[Policy, ...]
    ) -> None:
        super().test_it_answers_as_the_memory_store_does_step_by_step(store, seed, policies)

    @pytest.mark.parametrize("seed", [1, *at_night(2, 3)], ids="seed{}".format)
    def test_it_answers_claims_as_the_memory_store_does_step_by_step(self, store: Store, seed: int) -> None:
        super().test_it_answers_claims_as_the_memory_store_does_step_by_step(store, seed)

    @pytest.fixture
    def storage_uri(self, valkey: ValkeyServer) -> str:
        return valkey.uri

    @pytest.fixture
    def storage_options(self) -> dict[str, Any]:
        return {"socket_timeout": 30, "socket_connect_timeout": 30}

    def size_of(self, store: Any) -> int:
        return sum(store.client.memory_usage(key) for key in store.client.scan_iter())


class SQLSuite(OneWalk):
    """A class of its own for each database, since each asks for another server."""

    @pytest.fixture
    def storage_options(self) -> dict[str, Any]:
        return {"timeout": 30}

    @pytest.fixture
    def store(self, storage_uri: str, connect: Callable[[], Any], opened: dict[str, Any]) -> Store:
        """One for all tests, empty: to make and connect one takes longer than most of them."""
        if storage_uri not in opened:
            opened[storage_uri] = connect()
        store: Any = opened[storage_uri]
        with store.engine.connect() as connection:
            connection.execute(delete(store._table))
        return store  # type: ignore[no-any-return]

    def size_of(self, store: Any) -> int:
        with store.engine.connect() as connection:
            return sum(len(row.state) for row in connection.execute(select(store._table)))


class ThreadsOnly:
    """PostgreSQL shows with every change that the statements hold between processes."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "track" in metafunc.fixturenames:
            # What forks the two listens for orders.
            processes = pytest.param("two-processes", marks=[pytest.mark.long, pytest.mark.server])
            metafunc.parametrize("track", ["threads", processes], indirect=True)


class TestSQLite(ThreadsOnly, SQLSuite):
    @pytest.fixture
    def storage_uri(self, sqlite_uri: str) -> str:
        return sqlite_uri

    @pytest.fixture
    def storage_options(self) -> dict[str, Any]:
        return {"timeout": 30, **UNSYNCED}


#: The parts of the suite that the other databases pass each time: races, walks, and codes without a challenge. What
#: else there is, SQLite passes by the same statements, and at night they do. tests/stores/conftest.py marks it so.
USUAL = (RaceTests, WalkTests, CheckingTests)


class TestPostgreSQL(ProcessesWithThreads, SQLSuite):
    usual = USUAL

    @pytest.fixture
    def storage_uri(self, postgresql_server: DatabaseServer) -> str:
        return postgresql_server.uri


class TestMariaDB(ThreadsOnly, SQLSuite):
    usual = USUAL

    @pytest.fixture
    def storage_uri(self, mariadb_server: DatabaseServer) -> str:
        return mariadb_server.uri


def test_the_last_attempt_is_told(any_store: Store, clock: Clock) -> None:
    """Other stores may leave it out."""
    ann = SubjectDriver(any_store, clock, replace(POLICY, max_attempts=3))
    opened = ann.open()
    assert [ann.redeem(opened, False).is_last for _ in range(3)] == [False, False, True]
