"""Fixtures: a real Valkey, an app over each store, a clock that stands still, and the codes that were sent."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from flask import Flask
from werkzeug.serving import make_server

from flask_otp import OTP
from flask_otp.stores import Store, store_from_uri
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import SECRET, START, AppFactory, ValkeyServer, certified
from tests.support.attack_site import stage
from tests.support.databases import mariadb, mariadb_server, pg8000, postgresql, postgresql_server

pytest_plugins = ["flask_otp.testing.fixtures"]

# What they compare is told, as in a test.
pytest.register_assert_rewrite("tests.support.fault_probes")


__all__ = ["mariadb", "mariadb_server", "pg8000", "postgresql", "postgresql_server", "stage"]


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> ValkeyServer:
    """The shared server, empty, with its settings as at the start."""
    with contextlib.closing(valkey_server.client()) as client:
        client.flushall()
    return valkey_server


@pytest.fixture(params=["memory", "redis"])
def storage_uri(request: pytest.FixtureRequest) -> str:
    """Each store's URI in turn."""
    if request.param == "memory":
        return "memory://"
    server: ValkeyServer = request.getfixturevalue("valkey")
    return server.uri


@pytest.fixture
def store(storage_uri: str) -> Iterator[Store]:
    if storage_uri == "memory://":
        yield MemoryStore()
    else:
        # The time-out is for tests with hundreds of threads on two cores, not for a site.
        store = RedisStore(storage_uri, "otp", {"socket_timeout": 10, "socket_connect_timeout": 10})
        yield store
        store.client.close()


@pytest.fixture(params=["memory", "redis", "sqlite", "postgresql", "mariadb"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each of our stores, with time enough on a busy machine."""
    kind = request.param
    local = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'otp.db'}"}
    uri = local.get(kind) or request.getfixturevalue("valkey" if kind == "redis" else kind).uri
    options = {"memory": {}, "redis": {"socket_timeout": 30}}.get(kind, {"timeout": 30})
    store = store_from_uri(uri, "otp", options)
    store.prepare()
    yield store
    store.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server on ``localhost`` whose authority this process trusts."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return certified(authority)


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def make_app(clock: Clock) -> AppFactory:
    """``make_app(**config)``: a testing app with an ``OTP``; ``otp=`` takes one that the test has put hooks on."""

    def make(otp: OTP | None = None, **config: Any) -> Flask:
        app = Flask("site")
        app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://")
        app.config.update(config)
        otp = otp or OTP(clock=clock)
        otp.init_app(app)
        return app

    return make


@pytest.fixture
def app(make_app: AppFactory) -> Flask:
    return make_app()


@pytest.fixture
def outbox(app: Flask) -> Iterator[Outbox]:
    with capture_codes(app) as codes:
        yield codes


@pytest.fixture
def example() -> Iterator[tuple[str, dict[str, Any]]]:
    """``example_app.py`` on a real server: its address, and its names."""
    path = Path(__file__).parent.parent / "example_app.py"
    names: dict[str, Any] = {"__name__": "example_app"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    server = make_server("127.0.0.1", 0, names["app"], threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", names
    server.shutdown()
    thread.join()
    server.server_close()
