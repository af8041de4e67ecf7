"""The SQL store in processes that were forked: each has its own connections, whatever forked it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flask_otp.stores.sql import SQLStore
from tests.support.databases import DatabaseServer
from tests.support.examples import at_night

BACKEND = {"sqlite": "", "postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT CONNECTION_ID()"}

#: As uWSGI does it, the C library forks, and Python's hooks are not called. Children end as Python does: it closes all.
FORKING = """
import ctypes, os, sys
from flask_otp.stores import ChallengeRequest, Policy
from flask_otp.stores.sql import SQLStore

_, uri, backend, is_used_before = sys.argv
fork = ctypes.PyDLL(None).fork
store = SQLStore(uri, "otp", {"timeout": 10})
policy = Policy(300, 5, 0, (), (), ())

def use(times=6):
    for _ in range(times):
        request = ChallengeRequest(os.urandom(16), b"bucket")
        opened = store.open(os.urandom(16), request, policy, 1790000000)
        assert opened.outcome.name == "SEND"
    if not backend:
        return id(store.engine)
    with store.engine.connect() as connection:
        return connection.exec_driver_sql(backend).scalar()

before = [use()] if is_used_before == "yes" else []
read, write = os.pipe()
children = []
for number in range(3):
    child = fork()
    if not child:
        if number:  # the first never uses it
            os.write(write, b"%d\\n" % use())
        sys.exit(0)
    children.append(child)
after = [use()]
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
after.append(use())
os.close(write)
print(*before, *after)
print(os.read(read, 1000).decode())
store.close()
"""


@pytest.mark.parametrize(
    ("kind", "used_before"),
    [
        ("postgresql", "yes"),
        ("mariadb", "yes"),
        *at_night(("sqlite", "yes"), ("postgresql", "no"), ("sqlite", "no"), ("mariadb", "no")),
    ],
)
def test_processes_that_a_c_program_forked_share_no_connection(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, used_before: str
) -> None:
    uri = f"sqlite:///{tmp_path / 'otp.db'}" if kind == "sqlite" else request.getfixturevalue(kind).uri
    with contextlib.closing(SQLStore(uri)) as store:
        store.prepare()
    command = [sys.executable, "-c", FORKING, uri, BACKEND[kind], used_before]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    parents, _, childrens = result.stdout.partition("\n")
    assert len(set(parents.split())) == 1
    if kind != "sqlite":
        assert len({*parents.split(), *childrens.split()}) == 3  # those of the parent and of two children
    elif used_before == "yes":  # else engines of several processes may lie at one address
        assert not set(parents.split()) & set(childrens.split())


def test_a_store_makes_nothing_before_its_first_use(postgresql: DatabaseServer) -> None:
    threads = set(threading.enumerate())
    backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'first-use'"
    store = SQLStore(f"{postgresql.uri}?application_name=first-use")
    assert store._engines._engines == store._patient_engines._engines == {}
    assert set(threading.enumerate()) == threads
    assert postgresql.run(backends) == [(0,)]
    store.load(b"subject")
    assert postgresql.run(backends) == [(1,)]
    store.close()
