"""An operator reads why a store answers 503: in one log line, from ``flask otp doctor``, and from the health route."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from redis.exceptions import MovedError, ResponseError

import flask_otp
from flask_otp import outages
from flask_otp.errors import StoreUnavailable
from flask_otp.outages import Cause, cause_of
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.sql import SQLStore
from tests.support.apps import AppFactory, ValkeyServer, free_port
from tests.support.databases import DatabaseServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.server

SECRET = "hunter2-hunter2"


@pytest.fixture
def hung(valkey: ValkeyServer) -> Iterator[Proxy]:
    with Proxy(valkey.port) as proxy:
        proxy.hang()
        yield proxy


@pytest.fixture
def uris(request: pytest.FixtureRequest, valkey: ValkeyServer, hung: Proxy) -> Callable[[str], str]:
    """A URI for each thing that can be wrong."""
    with valkey.client() as admin:
        admin.acl_setuser(
            "shop", enabled=True, passwords=["+" + SECRET], keys=["*"], commands=["+@all", "-eval", "-evalsha"]
        )
        admin.acl_setuser("guest", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-get", "-hget"])

    def postgresql(port: int = 0, database: str = "postgres") -> str:
        server: DatabaseServer = request.getfixturevalue("postgresql")
        return f"postgresql+psycopg://postgres:{SECRET}@127.0.0.1:{port or server.port}/{database}"

    made: dict[str, Callable[[], str]] = {
        "redis: wrong password": lambda: f"redis://shop:wrong-{SECRET}@127.0.0.1:{valkey.port}",
        "redis: no rights": lambda: f"redis://shop:{SECRET}@127.0.0.1:{valkey.port}",
        "redis: TLS to a server without": lambda: f"rediss://shop:{SECRET}@127.0.0.1:{valkey.port}",
        "redis: no such database": lambda: f"redis://127.0.0.1:{valkey.port}/99",
        "redis: unknown host": lambda: f"redis://:{SECRET}@no-such-host.invalid:{valkey.port}",
        "redis: bad path": lambda: "redis+unix:///nonexistent/redis.sock",
        "redis: refused": lambda: f"redis://:{SECRET}@127.0.0.1:{free_port()}",
        "redis: not a cluster": lambda: f"redis+cluster://127.0.0.1:{valkey.port}",
        "redis: not a Sentinel": lambda: f"redis+sentinel://127.0.0.1:{valkey.port}/codes",
        "redis: hung": lambda: f"redis://:{SECRET}@127.0.0.1:{hung.port}",
        "cluster: refused": lambda: f"redis+cluster://:{SECRET}@127.0.0.1:{free_port()}",
        "sentinel: hung": lambda: f"redis+sentinel://127.0.0.1:{hung.port}/codes",
        "sqlite: bad path": lambda: "sqlite:////nonexistent/otp.db",
        "postgresql: refused": lambda: postgresql(free_port()),
        "postgresql: no such database": lambda: postgresql(database="nowhere"),
        "postgresql: unknown host": lambda: f"postgresql+psycopg://u:{SECRET}@no-such-host.invalid/shop",
    }
    return lambda what: made[what]()


CAUSES = {
    "redis: wrong password": Cause("login", "WRONGPASS"),
    "redis: no rights": Cause("rights", "NOPERM"),
    "redis: TLS to a server without": Cause("tls", "TimeoutError"),
    "redis: no such database": Cause("no_database", "ERR"),
    "redis: unknown host": Cause("unknown_host", "gaierror"),
    "redis: bad path": Cause("path", "ENOENT"),
    "redis: refused": Cause("refused", "ECONNREFUSED"),
    "redis: not a cluster": Cause("unsuitable", "ERR"),
    "redis: not a Sentinel": Cause("unsuitable", "ERR"),
    "redis: hung": Cause("timeout", "TimeoutError"),
    "cluster: refused": Cause("refused", "ECONNREFUSED"),
    "sentinel: hung": Cause("timeout", "TimeoutError"),
    "sqlite: bad path": Cause("path", "SQLITE_CANTOPEN"),
    "postgresql: refused": Cause("refused", "OperationalError"),
    "postgresql: no such database": Cause("no_database", "OperationalError"),
    "postgresql: unknown host": Cause("unknown_host", "OperationalError"),
}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize("what", CAUSES)
def test_a_503_of_the_store_says_why_in_one_line_and_so_do_doctor_and_health(
    uris: Callable[[str], str], make_app: AppFactory, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    uri = uris(what)
    app = make_app(OTP_STORAGE_URI=uri, OTP_IP_SEND_LIMIT=None, OTP_IP_VERIFY_LIMIT=None, OTP_HEALTH=True)
    cause = CAUSES[what]
    client = app.test_client()
    for _ in range(3):
        assert client.post("/otp/send", json={"email": "ann@example.com"}).status_code == 503
    lines = told(caplog)
    # The surge is read in the storage of the limits, which is the same server.
    assert {line.partition(": ")[2] for line in lines} == {str(cause)}
    assert len(lines) == len({line.partition(" is unavailable")[0] for line in lines}) <= 2
    report = json.loads(app.test_cli_runner().invoke(args=["otp", "doctor", "--json"]).stdout)
    (finding,) = [finding for finding in report["findings"] if finding["check"] == "store_answers"]
    assert str(cause) in finding["what"]
    answer = client.get("/otp/health")
    assert (answer.status_code, answer.get_json()["cause"]) == (503, cause.kind)
    with pytest.raises(StoreUnavailable):
        flask_otp.health(app)
    for secret in (SECRET, "127.0.0.1", "invalid", "shop", uri):
        assert secret not in "".join(lines) + str(finding) + answer.text


@pytest.mark.parametrize("seconds", [9.9, 10])
def test_a_kind_is_told_once_in_ten_seconds(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    now = 1000.0
    monkeypatch.setattr(outages, "time", SimpleNamespace(monotonic=lambda: now))
    with make_app().app_context():
        for _ in range(3):
            StoreUnavailable(cause=Cause("refused", "ECONNREFUSED"))
        StoreUnavailable(cause=Cause("timeout", "TimeoutError"))
        now += seconds
        StoreUnavailable(cause=Cause("refused", "ECONNREFUSED"))
    assert len(told(caplog)) == (2 if seconds < 10 else 3)


def test_each_app_tells_its_own_outage(make_app: AppFactory, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        app = make_app(OTP_STORAGE_OPTIONS={"max_subjects": 1}, OTP_IP_SEND_LIMIT=None)
        client = app.test_client()
        sent = [client.post("/otp/send", json={"email": f"u{n}@example.com"}).status_code for n in range(2)]
        assert sent == [200, 503]
    assert told(caplog) == ["the store is unavailable: it has no space left (max_subjects)"] * 2


def test_a_store_of_somebody_elses_need_not_say_why(make_app: AppFactory, caplog: pytest.LogCaptureFixture) -> None:
    class Theirs(MemoryStore):
        def load(self, subject: bytes) -> Any:
            try:
                socket.create_connection(("127.0.0.1", free_port()), 1)
            except OSError as error:
                raise StoreUnavailable from error

    app = make_app()
    app.extensions["otp"].store = Theirs()
    assert app.test_client().post("/otp/send", json={"email": "ann@example.com"}).status_code == 503
    assert told(caplog) == ["the store is unavailable: no server listens there (ECONNREFUSED)"]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (None, Cause("unknown", "no reason given")),
        (KeyError("otp:secret"), Cause("unknown", "KeyError")),
        (ConnectionResetError(104, "reset"), Cause("broken", "ECONNRESET")),
        (EOFError(), Cause("broken", "EOFError")),
        (Exception(1045, "Access denied for user 'shop'@'db'"), Cause("login", "1045")),
        (
            Exception(2003, "Can't connect to MySQL server on 'db' ([Errno 111] Connection refused)"),
            Cause("refused", "Exception"),
        ),
        (Exception("NOREPLICAS Not enough good replicas to write."), Cause("replicas", "NOREPLICAS")),
        (MovedError("3999 10.0.0.2:6381"), Cause("unsuitable", "MOVED")),
        (ResponseError("the Sentinel knows no such service"), Cause("unsuitable", "ResponseError")),
        (Exception(2006, "MySQL server has gone away"), Cause("broken", "Exception")),
        (Exception("BUSY Redis is busy running a script."), Cause("unknown", "BUSY")),
        (Exception("FATAL: sorry, too many clients already"), Cause("connections", "Exception")),
        (Exception('FATAL:  no pg_hba.conf entry for host "::1", no encryption'), Cause("login", "Exception")),
        (Exception("FATAL:  the database system is starting up"), Cause("starting", "Exception")),
        (
            Exception({"S": "ERROR", "C": "42P01", "M": 'relation "otp_subject" does not exist'}),
            Cause("no_table", "42P01"),
        ),
    ],
)
def test_other_causes_are_told_by_the_word_of_the_server(error: BaseException | None, cause: Cause) -> None:
    assert cause_of(error) == cause


REFUSALS = {
    "missing table": ("postgres", "no_table"),
    "no rights": ("shop", "rights"),
    "unknown user": ("nobody", "login"),
    "no place for it": ("guest", "connections"),
}


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
def test_postgresql_is_understood_by_each_driver(postgresql: DatabaseServer, driver: str, what: str) -> None:
    user, kind = REFUSALS[what]
    postgresql.run("CREATE ROLE shop LOGIN", "CREATE ROLE guest LOGIN CONNECTION LIMIT 0")
    uri = f"postgresql+{driver}://{user}@127.0.0.1:{postgresql.port}/postgres"
    try:
        store = SQLStore(uri, "none" if user == "postgres" else "otp", {"timeout": 5})
        with contextlib.closing(store), pytest.raises(StoreUnavailable) as caught:
            store.probe(0)
        assert caught.value.cause.kind == kind
    finally:
        postgresql.run("DROP ROLE shop", "DROP ROLE guest")


def test_a_postgresql_server_with_its_last_places_kept_for_others_has_too_many_connections() -> None:
    text = "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute"
    assert cause_of(Exception(text)) == Cause("connections", "Exception")


def test_mariadb_is_understood_by_its_numbers(mariadb: DatabaseServer) -> None:
    """Its SQLSTATE would be 42000, for this as for a wrong statement."""
    mariadb.run("CREATE USER shop@'127.0.0.1'")
    uri = mariadb.uri.replace("root@", "shop@").replace("/test", "/mysql")
    try:
        store = SQLStore(uri, options={"timeout": 5})
        with contextlib.closing(store), pytest.raises(StoreUnavailable) as caught:
            store.probe(0)
        assert caught.value.cause == Cause("rights", "1044")
    finally:
        mariadb.run("DROP USER shop@'127.0.0.1'")


@pytest.mark.parametrize("is_linked", [True, False])
def test_the_cause_is_found_behind_other_exceptions(is_linked: bool) -> None:
    first = ConnectionRefusedError(111, "refused")
    second = RuntimeError("a driver's own words")
    second.__cause__ = first if is_linked else None
    assert cause_of(second) == (Cause("refused", "ECONNREFUSED") if is_linked else Cause("unknown", "RuntimeError"))


# Health


def test_health_reads_and_neither_sends_nor_counts(make_app: AppFactory, valkey: ValkeyServer) -> None:
    app = make_app(OTP_STORAGE_URI=valkey.uri, OTP_HEALTH=True)
    flask_otp.health(app)
    client = app.test_client()
    with valkey.client() as admin:
        admin.flushall()
        admin.config_resetstat()
        for _ in range(3):
            answer = client.get("/otp/health")
            assert (answer.status_code, answer.data, "Set-Cookie" in answer.headers) == (204, b"", False)
        asked = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
        assert asked <= {"evalsha", "eval", "hget", "hdel", "get", "config|resetstat", "info", "flushall"}
        assert admin.dbsize() == 0


def test_without_the_setting_there_is_no_health_route(make_app: AppFactory) -> None:
    assert make_app().test_client().get("/otp/health").status_code == 404


def test_health_names_the_limits_when_it_is_their_storage(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(OTP_HEALTH=True)
    Limiter(get_remote_address, app=app, storage_uri=f"redis://127.0.0.1:{free_port()}")
    answer = app.test_client().get("/otp/health", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert {"part": "the storage of the limits", "cause": "refused"}.items() <= answer.get_json(force=True).items()
    report = json.loads(app.test_cli_runner().invoke(args=["otp", "doctor", "--json"]).stdout)
    assert [f["level"] for f in report["findings"] if f["check"] == "limits_answer"] == ["error"]
