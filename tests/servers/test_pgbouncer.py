"""PgBouncer in transaction mode before PostgreSQL: what must be set, and that the store then keeps its promises."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from flask_otp.errors import StoreUnavailable
from flask_otp.stores import Store, store_from_uri
from flask_otp.testing import Clock
from flask_otp.testing.stores import MATCH, NO_LIMITS, REFUSED, SubjectDriver
from flask_otp.testing.stores.races import RaceTests, claims
from flask_otp.testing.stores.racing import Track
from tests.support.databases import DatabaseServer, free_port
from tests.support.programs import program
from tests.support.servers import wait_until

pytestmark = [pytest.mark.server, pytest.mark.long]

#: Fewer connections than a race has threads, so PgBouncer gives the transactions of one thread different connections.
SETTINGS = """
[databases]
* = host=127.0.0.1 port={upstream}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 5
max_client_conn = 500
"""
#: As docs/operate/sql.md says.
UNPREPARED = {"connect_args": {"prepare_threshold": None}}

_numbers = count()

Connect = Callable[..., Store]


@pytest.fixture(scope="module")
def bouncer(postgresql_server: DatabaseServer) -> Iterator[int]:
    """The port of PgBouncer, before the shared server."""
    path, port = program("pgbouncer"), free_port()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        users, settings = directory / "users", directory / "pgbouncer.ini"
        users.write_text('"postgres" ""\n')
        settings.write_text(SETTINGS.format(upstream=postgresql_server.port, port=port, users=users))
        options: dict[str, Any] = {}
        if os.geteuid() == 0:  # PgBouncer does not run as root
            shutil.chown(directory, "nobody")
            options["user"] = "nobody"
        process = subprocess.Popen([path, "-q", settings], stderr=subprocess.DEVNULL, **options)
        try:
            wait_until(lambda: _is_open(port))
            yield port
        finally:
            process.terminate()
            process.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def connect(bouncer: int, postgresql: DatabaseServer) -> Iterator[Connect]:
    """A store with a table of its own."""
    with ExitStack() as stack:

        def make(driver: str, **options: Any) -> Store:
            uri = f"postgresql+{driver}://postgres@127.0.0.1:{bouncer}/postgres"
            store = store_from_uri(uri, f"bouncer{next(_numbers)}", {"timeout": 30, **options})
            stack.callback(store.close)
            return store

        yield make


@pytest.fixture
def track(connect: Connect) -> Track:
    """The store as it must be set: psycopg prepares no statements."""
    store = connect("psycopg", **UNPREPARED)
    store.prepare()
    return Track(store, lambda: store, two_processes=False)


class TestRacesThroughPgBouncer(RaceTests):
    """The races of every store."""


def test_two_hundred_people_at_once_disturb_nobody(track: Track, clock: Clock) -> None:
    """Each race above is about one row. Here the transactions are of different rows."""
    people = [SubjectDriver(track.store, clock, NO_LIMITS, subject=b"%016d" % number) for number in range(200)]
    calls = [call for ann in people for call in claims(ann, [True] * 2, uses=((b"step",),))]
    answers = track.run(calls, threads=100)
    pairs = zip(answers[0::2], answers[1::2], strict=True)
    assert [{first.outcome, second.outcome} for first, second in pairs] == [{MATCH, REFUSED}] * 200


def test_pg8000_is_refused(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """It sends a statement in three steps, each of which may reach another connection, and then a code passes twice."""
    with pytest.raises(StoreUnavailable):
        connect("pg8000").prepare()
    assert "pg8000 must not be used through a connection pooler such as PgBouncer; install psycopg" in caplog.messages
