"""The same for databases: PostgreSQL and MariaDB behind a proxy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.support.backends import TIMEOUT, Backend
from tests.support.databases import TABLE, DatabaseServer
from tests.support.proxy import Proxy
from tests.support.servers import wait_until


class SQLBackend(Backend):
    #: The fixture of its server, which all tests share.
    fixture: str
    #: To have every change fail as it does on a full disk, and what ends that; with the table's name.
    full: tuple[str, ...]
    empty_again: tuple[str, ...]

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        self.server: DatabaseServer = request.getfixturevalue(self.fixture)
        self.proxy = stack.enter_context(Proxy(self.server.port))

    @property
    def uri(self) -> str:
        return self.server.uri_at(self.proxy.port)

    def config(self) -> dict[str, Any]:
        return {"OTP_STORAGE_URI": self.uri, "OTP_STORAGE_OPTIONS": {"timeout": TIMEOUT}}

    def kill(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server.start()

    def empty(self) -> None:
        """In place: a database takes seconds to start."""
        self.server.run(f"DELETE FROM {TABLE}")
        self.proxy.cut()

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        self.server.run(*self.full)
        try:
            yield
        finally:
            self.server.run(*self.empty_again)


class PostgreSQLBackend(SQLBackend):
    title = "PostgreSQL"
    fixture = "postgresql_server"
    charging = re.compile(rb"(INSERT 0|UPDATE|DELETE) 1\0")
    full = (
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$",
        f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {TABLE} EXECUTE FUNCTION full_disk()",
    )
    empty_again = ("DROP FUNCTION full_disk CASCADE",)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._set("ALTER SYSTEM SET default_transaction_read_only = on", "on")
        try:
            yield
        finally:
            self._set("ALTER SYSTEM RESET default_transaction_read_only", "off")

    def _set(self, statement: str, value: str) -> None:
        """Sessions hear of it one after the other; one that begins now has heard."""
        self.server.run(statement, "SELECT pg_reload_conf()")
        wait_until(lambda: self.server.run("SHOW default_transaction_read_only") == [(value,)])
        self.proxy.cut()


class MariaDBBackend(SQLBackend):
    title = "MariaDB"
    fixture = "mariadb_server"
    charging = re.compile(rb"(INSERT INTO|UPDATE|DELETE FROM) `?" + TABLE.encode())
    full = tuple(
        f"CREATE TRIGGER full_disk_{event} BEFORE {event} ON {TABLE} FOR EACH ROW "
        "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021"
        for event in ("INSERT", "UPDATE")
    )
    empty_again = ("DROP TRIGGER full_disk_INSERT", "DROP TRIGGER full_disk_UPDATE")

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        super().__init__(request, stack)
        # ``root`` may write even where writing is turned off, so the app needs another user.
        self.server.run("CREATE USER shop@'127.0.0.1'", f"GRANT ALL ON test.{TABLE} TO shop@'127.0.0.1'")
        stack.callback(self.server.run, "DROP USER shop@'127.0.0.1'")

    @property
    def uri(self) -> str:
        return super().uri.replace("root@", "shop@")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.server.run("SET GLOBAL read_only = 1")
        try:
            yield
        finally:
            self.server.run("SET GLOBAL read_only = 0")


SQL_BACKENDS = (PostgreSQLBackend, MariaDBBackend)
