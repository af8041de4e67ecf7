"""Servers that refuse writes, such as an old main server: no request passes, and the cause is reported."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from flask import Flask

import flask_otp
from flask_otp import OTP, otp_required
from flask_otp.errors import StoreUnavailable
from flask_otp.stores import store_from_uri
from flask_otp.testing import Clock, capture_codes
from flask_otp.testing.stores import MATCH, SubjectDriver
from tests.support.apps import AppFactory, ValkeyServer
from tests.support.databases import TABLE, DatabaseServer
from tests.support.redis_verbs import VERBS

pytestmark = pytest.mark.server

#: A URI, and what makes its server read-only for a while.
Place = tuple[str, Callable[[], AbstractContextManager[None]]]


@pytest.fixture(params=["redis", "postgresql", "pg8000", "mariadb"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "redis":
        valkey: ValkeyServer = request.getfixturevalue("valkey")
        yield valkey.uri, lambda: _as_a_replica(valkey)
        return
    server: DatabaseServer = request.getfixturevalue(request.param)
    if request.param != "mariadb":
        yield server.uri, lambda: _without_writes(server)
        return
    # ``root`` may write all the same.
    server.run("CREATE USER shop@'127.0.0.1'", f"GRANT ALL ON test.{TABLE} TO shop@'127.0.0.1'")
    try:
        yield server.uri.replace("root@", "shop@"), lambda: _switched(server)
    finally:
        server.run("DROP USER shop@'127.0.0.1'")


@contextlib.contextmanager
def _as_a_replica(valkey: ValkeyServer) -> Iterator[None]:
    with contextlib.closing(valkey.client()) as admin:
        admin.replicaof("127.0.0.1", 1)
        try:
            yield
        finally:
            admin.replicaof("NO", "ONE")


@contextlib.contextmanager
def _switched(server: DatabaseServer) -> Iterator[None]:
    server.run("SET GLOBAL read_only = 1")
    try:
        yield
    finally:
        server.run("SET GLOBAL read_only = 0")


@contextlib.contextmanager
def _without_writes(server: DatabaseServer) -> Iterator[None]:
    def setting() -> str:
        return str(server.run("SHOW default_transaction_read_only")[0][0])

    server.run("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    _wait_until(lambda: setting() == "on")
    try:
        yield
    finally:
        server.run("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
        _wait_until(lambda: setting() == "off")


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)  # sessions hear of it one after the other


def test_each_verb_is_refused_with_its_cause_and_changes_nothing(place: Place, clock: Clock) -> None:
    uri, read_only = place
    options = {"socket_timeout": 5} if uri.startswith("redis") else {"timeout": 5}
    with contextlib.closing(store_from_uri(uri, "otp", options)) as store:
        ann = SubjectDriver(store, clock)
        ann.prove(b"proof", b"bucket1")
        opened = ann.open(b"bucket2")
        with read_only():
            for name, verb in VERBS.items():
                # Once over the connection from before, and once over a new one.
                for _ in range(2):
                    with pytest.raises(StoreUnavailable) as refused:
                        verb(ann, opened)
                    assert (name, refused.value.cause.kind) == (name, "read_only")
        assert ann.holds(b"proof")
        assert ann.right(opened) is MATCH


def test_a_site_answers_503_to_everything_and_lets_nobody_through(
    place: Place, make_app: AppFactory, clock: Clock
) -> None:
    uri, read_only = place
    otp = OTP(clock=clock)
    options = {"socket_timeout": 5} if uri.startswith("redis") else {"timeout": 5}
    app: Flask = make_app(otp, OTP_STORAGE_URI=uri, OTP_STORAGE_OPTIONS=options, OTP_COOLDOWN=0, OTP_HEALTH=True)
    app.add_url_rule("/account", "account", otp_required(lambda: "ok"))
    app.add_url_rule("/once", "once", otp_required(once=True)(lambda: "ok"))
    with capture_codes(app) as codes, contextlib.closing(app.extensions["otp"].store):
        bob, ann = app.test_client(), app.test_client()
        for client, email in ((bob, "bob@example.com"), (ann, "ann@example.com")):
            assert client.post("/otp/send", json={"email": email}).status_code == 200
        code = codes.code_for("ann@example.com")
        bearer = {"code": codes.code_for("bob@example.com")}
        assert bob.post("/otp/verify", json=bearer).status_code == 200
        before = len(codes)
        with read_only():
            asked = [
                bob.get("/account"),
                bob.get("/account", headers={"Accept": "text/html"}),
                bob.get("/once"),
                ann.post("/otp/verify", json={"code": code}),
                ann.post("/otp/verify", json={"code": code[::-1]}),
                ann.post("/otp/resend", json={}),
                ann.post("/otp/resend", data={}, headers={"Accept": "text/html"}),
                ann.post("/otp/send", json={"email": "carl@example.com"}),
                ann.post("/otp/verify", data={"code": code}, headers={"Accept": "text/html"}),
                bob.post("/otp/logout"),
            ]
            assert [answer.status_code for answer in asked] == [503] * len(asked)
            assert {answer.headers["Retry-After"] for answer in asked} == {"5"}
            with app.app_context(), pytest.raises(StoreUnavailable):
                otp.revoke("bob@example.com")
            health = app.test_client().get("/otp/health")
            assert (health.status_code, health.get_json()["cause"]) == (503, "read_only")
            with pytest.raises(StoreUnavailable):
                flask_otp.health(app)
            report = json.loads(app.test_cli_runner().invoke(args=["otp", "doctor", "--json"]).stdout)
            assert [f["level"] for f in report["findings"] if f["check"] == "store_answers"] == ["error"]
            assert ann.get("/otp/verify", headers={"Accept": "text/html"}).status_code in (200, 503)
        assert len(codes) == before
        flask_otp.health(app)
        assert bob.get("/account").status_code == 200
        assert ann.post("/otp/verify", json={"code": code}).status_code == 200


def test_health_tells_of_a_replica_whose_user_may_write_all_the_same(mariadb: DatabaseServer, clock: Clock) -> None:
    """What this user writes to the replica never reaches the main server."""
    with contextlib.closing(store_from_uri(mariadb.uri, "otp", {"timeout": 5})) as store:
        store.probe(int(clock()))
        with _switched(mariadb), pytest.raises(StoreUnavailable) as refused:
            store.probe(int(clock()))
        assert refused.value.cause.kind == "read_only"
        store.probe(int(clock()))


def test_health_tells_of_a_file_that_cannot_be_written(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "otp.db"
    with contextlib.closing(store_from_uri(f"sqlite:///{path}", "otp", {})) as store:
        store.probe(int(clock()))
    with contextlib.closing(store_from_uri(f"sqlite:///file:{path}?mode=ro&uri=true", "otp", {})) as store:
        with pytest.raises(StoreUnavailable) as refused:
            store.probe(int(clock()))
        assert refused.value.cause.kind == "read_only"
