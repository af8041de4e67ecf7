"""Servers that take a connection and then say nothing, before, during and after the TLS handshake."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from flask_otp.errors import StoreUnavailable
from flask_otp.outages import Cause
from flask_otp.stores import store_from_uri
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import Clock
from flask_otp.testing.stores import MATCH, NO_LIMITS, SubjectDriver
from tests.support.apps import AppFactory, ValkeyServer, certified
from tests.support.proxy import Proxy
from tests.support.redis_verbs import seconds_to_fail
from tests.support.servers import TlsFront
from tests.support.talks import talking

pytestmark = pytest.mark.server

TIMEOUT = 0.3


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def hang(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def postgresql_that_hangs_in_tls(sock: socket.socket) -> None:
    """It agrees to TLS, and does not answer the handshake."""
    sock.recv(8)
    sock.sendall(b"S")
    hang(sock)


def mysql_that_hangs_in_tls(sock: socket.socket) -> None:
    """It greets, and offers TLS with all else that a client may want."""
    greeting = b"".join(
        (
            b"\x0a8.0.30\0" + struct.pack("<I", 1) + b"a" * 8 + b"\0",
            struct.pack("<HBHHB", 0xFFFF, 0x21, 2, 0xFFFF, 21) + bytes(10),
            b"b" * 12 + b"\0mysql_native_password\0",
        )
    )
    sock.sendall(len(greeting).to_bytes(3, "little") + b"\0" + greeting)
    hang(sock)


Talk = Callable[[socket.socket], None]
SILENT: dict[str, tuple[str, Talk, str]] = {
    "rediss": ("rediss://localhost:{}", hang, "tls"),
    "rediss+cluster": ("rediss+cluster://localhost:{}", hang, "tls"),
    "rediss+sentinel": ("rediss+sentinel://localhost:{}/codes", hang, "tls"),
    "psycopg": ("postgresql+psycopg://u@localhost:{}/d", hang, "timeout"),
    "psycopg, TLS": ("postgresql+psycopg://u@localhost:{}/d?sslmode=require", postgresql_that_hangs_in_tls, "tls"),
    "pg8000": ("postgresql+pg8000://u@localhost:{}/d", hang, "timeout"),
    "pg8000, TLS": ("postgresql+pg8000://u@localhost:{}/d", postgresql_that_hangs_in_tls, "tls"),
    "pymysql": ("mysql+pymysql://u:p@localhost:{}/d", hang, "timeout"),
    "pymysql, TLS": ("mysql+pymysql://u:p@localhost:{}/d", mysql_that_hangs_in_tls, "tls"),
}


def options(what: str, ca: str) -> dict[str, Any]:
    if what.startswith("rediss"):
        return {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, "ssl_ca_certs": ca}
    return {
        "timeout": TIMEOUT,
        "connect_args": {
            "pg8000, TLS": {"ssl_context": ssl.create_default_context(cafile=ca)},
            "pymysql, TLS": {"ssl": {"ca": ca}},
        }.get(what, {}),
    }


@pytest.mark.parametrize("what", SILENT)
def test_r37_a_server_that_is_silent_after_the_accept_is_given_up_in_time_and_told(
    what: str, ca: str, make_app: AppFactory, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    uri, talk, kind = SILENT[what]
    with talking(talk) as port:
        app = make_app(
            OTP_STORAGE_URI=uri.format(port),
            OTP_STORAGE_OPTIONS=options(what, ca),
            OTP_IP_SEND_LIMIT=None,
        )
        with contextlib.closing(app.extensions["otp"].store):
            assert app.test_client().post("/otp/send", json={"email": "ann@example.com"}).status_code == 503
            ann = SubjectDriver(app.extensions["otp"].store, clock)
            assert seconds_to_fail(lambda: ann.holds(b"proof"), enough=2 * TIMEOUT) < 2 * TIMEOUT
    # The surge is read in the storage of the limits, which may be the same server.
    told = {record.getMessage().partition(": ")[2] for record in caplog.records if record.name == "flask_otp"}
    # The driver may be the first to give up, or we.
    assert told <= {str(Cause(kind, "TimeoutError")), str(Cause("timeout", "TimeoutError"))}
    assert told


@pytest.mark.parametrize("what", ["psycopg", "pg8000", "pymysql"])
def test_a_connection_that_was_given_up_is_closed_although_nobody_collects_garbage(
    what: str, ca: str, clock: Clock
) -> None:
    closed = threading.Event()

    def hang_and_tell(sock: socket.socket) -> None:
        hang(sock)
        closed.set()

    gc.collect()
    gc.disable()
    try:
        with talking(hang_and_tell) as port:
            store = store_from_uri(SILENT[what][0].format(port), "otp", options(what, ca))
            with contextlib.closing(store), pytest.raises(StoreUnavailable):
                SubjectDriver(store, clock).holds(b"proof")
            assert closed.wait(10)  # libpq waits for two seconds at least
    finally:
        gc.enable()


# Redis behind TLS


@pytest.fixture
def path(valkey: ValkeyServer, authority: trustme.CA) -> Iterator[tuple[Proxy, Proxy]]:
    """The network before TLS, which carries the handshake, and the one behind it, which carries commands alone."""
    front = TlsFront(certified(authority))
    try:
        with Proxy(valkey.port) as behind, Proxy(front.port) as before:
            front.upstream = behind.port
            yield before, behind
    finally:
        front.close()


@pytest.fixture
def store(path: tuple[Proxy, Proxy], ca: str) -> Iterator[RedisStore]:
    with contextlib.closing(RedisStore(f"rediss://localhost:{path[0].port}", "otp", options("rediss", ca))) as store:
        yield store


@pytest.mark.parametrize("is_connected", [True, False])
@pytest.mark.parametrize("silent", ["in the handshake", "after the handshake"])
def test_r37_a_server_behind_tls_that_falls_silent_is_given_up_in_time_and_nothing_is_lost(
    path: tuple[Proxy, Proxy], store: RedisStore, clock: Clock, silent: str, is_connected: bool
) -> None:
    network = path[silent == "after the handshake"]
    ann = SubjectDriver(store, clock, NO_LIMITS)
    ann.prove(b"proof")
    opened = ann.open()

    def holds() -> None:
        if not is_connected:
            store.client.connection_pool.drop_idle()  # type: ignore[union-attr]
        ann.holds(b"proof")

    network.hang()
    assert seconds_to_fail(holds, enough=2 * TIMEOUT) < 2 * TIMEOUT
    network.resume()
    assert ann.holds(b"proof")
    assert ann.right(opened) is MATCH


def test_one_connection_by_tls_serves_many_verbs(path: tuple[Proxy, Proxy], store: RedisStore, clock: Clock) -> None:
    """What TLS itself sends after the handshake is no unread reply."""
    ann = SubjectDriver(store, clock, NO_LIMITS)
    ann.prove(b"proof")
    for _ in range(5):
        assert ann.holds(b"proof")
    assert path[0].connections == 1
