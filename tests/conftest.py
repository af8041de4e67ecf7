"""Fixtures: a real Valkey, an app over each store, a clock that stands still, and the codes that were sent."""

from __future__ import annotations

import gc
import os
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
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import SECRET, START, AppFactory, ValkeyServer, certified, finish
from tests.support.attack_site import stage
from tests.support.databases import mariadb, mariadb_server, pg8000, postgresql, postgresql_server
from tests.support.examples import load_profile
from tests.support.routes import compile_each_route_once
from tests.support.scheduler import Scheduler
from tests.support.server_marker import Running
from tests.support.sqlite import UNSYNCED

load_profile()
compile_each_route_once()

#: A test that has one of these fixtures starts another program, and need not have the marker itself.
_STARTING = {"postgresql_server", "postgresql", "pg8000", "mariadb_server", "mariadb", "chromium"}
_STARTING |= {"valkey", "valkey_server", "own_server", "example", "built"}

pytest_plugins = ["flask_otp.testing.fixtures"]

# What they compare is told, as in a test.
pytest.register_assert_rewrite("tests.support.fault_probes")


__all__ = ["mariadb", "mariadb_server", "pg8000", "postgresql", "postgresql_server", "stage"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not _wanted(item).isdisjoint(_STARTING):
            item.add_marker("server")
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    return Scheduler(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two more than there are cores, since tests with servers wait for a good part of their time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if "not server" in config.option.markexpr else cores + 2


def _wanted(item: pytest.Item) -> set[str]:
    """The names of its fixtures, also of those that it gets by a parameter."""
    call = getattr(item, "callspec", None)
    values = call.params.values() if call else ()
    named = (value if isinstance(value, str) else getattr(value, "fixture", None) for value in values)
    return {*getattr(item, "fixturenames", ()), *filter(None, named)}


def pytest_configure(config: pytest.Config) -> None:
    """`-m "not server"` takes the place of the `-m "not long"` of setup.cfg, and is to mean both. `-m ""` means all."""
    chosen = config.option.markexpr
    if chosen and "long" not in chosen:
        config.option.markexpr = f"({chosen}) and not long"


def pytest_sessionstart() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """What was collected stays. To look through it for garbage again and again takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests/http/test_calls.py has counted, wherever it ran."""
    for report in terminalreporter.stats.get("passed", ()):
        if report.nodeid.startswith("tests/http/test_calls.py"):
            counts = ", ".join(f"{name} {count:,}" for name, count in report.user_properties)
            terminalreporter.write_line(f"Function calls on the memory store: {counts}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    Running.is_marked = item.get_closest_marker("server") is not None


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> ValkeyServer:
    """The shared server, empty, with its settings as at the start."""
    valkey_server.empty()
    return valkey_server


@pytest.fixture
def store() -> Store:
    return MemoryStore()


def _on_a_server(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.server) for name in names]


@pytest.fixture(params=["memory", "sqlite", *_on_a_server("redis", "postgresql", "mariadb")])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each of our stores, with time enough on a busy machine."""
    kind = request.param
    local = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'otp.db'}"}
    uri = local.get(kind) or request.getfixturevalue("valkey" if kind == "redis" else kind).uri
    options = {"memory": {}, "redis": {"socket_timeout": 30}}.get(kind, {"timeout": 30})
    options |= UNSYNCED if kind == "sqlite" else {}
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


@pytest.fixture(autouse=True)
def _every_app_is_finished() -> Iterator[None]:
    """Also the apps that a test makes without ``make_app``."""
    apps: list[Flask] = []
    init = Flask.__init__

    def init_and_note(app: Flask, *args: Any, **kwargs: Any) -> None:
        apps.append(app)
        init(app, *args, **kwargs)

    Flask.__init__ = init_and_note  # type: ignore[method-assign]
    yield
    Flask.__init__ = init  # type: ignore[method-assign]
    for app in apps:
        finish(app)


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
    """``example_app.py`` on a real server, in debug mode as when it is run: its address, and its names."""
    path = Path(__file__).parent.parent / "example_app.py"
    names: dict[str, Any] = {"__name__": "example_app"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    names["app"].debug = True
    server = make_server("127.0.0.1", 0, names["app"], threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", names
    server.shutdown()
    thread.join()
    server.server_close()
