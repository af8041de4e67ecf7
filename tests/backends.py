"""Real servers behind a proxy, and how an app uses them: what the faults are tried on."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from conftest import ValkeyServer
from flask import Flask
from flask_limiter import Limiter
from proxy import Proxy
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Seconds: what our clients wait at most, by default.
TIMEOUT = 0.25


class Backend(ABC):
    """A server of one kind behind a proxy, and an app's way to it."""

    #: Head of its column in the table.
    title: str
    #: Found in each request that changes a subject's state, or else in the reply to it.
    charging: re.Pattern[bytes]
    proxy: Proxy

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The settings of an app that uses it."""

    def set_up(self, app: Flask) -> None:  # noqa: B027
        """What else the app needs, when it has its ``OTP``."""

    @abstractmethod
    def kill(self) -> None:
        """As ``kill -9`` does."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def empty(self) -> None:
        """Start again, with nothing left."""

    @abstractmethod
    def out_of_memory(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def read_only(self) -> AbstractContextManager[None]: ...


class RedisBackend(Backend):
    """One server for the store and for the limits.

    It has written down whatever it has answered, and is never held up by a disk.
    """

    title = "Redis"
    # A server that does not know the script has not run it.
    charging = re.compile(rb"\A(?!.*-NOSCRIPT).*EVAL.*otp:\{", re.DOTALL)

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.server = ValkeyServer(directory, "--appendonly", "yes", "--appendfsync", "no")
        self.start()
        stack.callback(self.kill)
        self.proxy = stack.enter_context(Proxy(self.server.port))

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.proxy.port}"

    def config(self) -> dict[str, Any]:
        return {"OTP_STORAGE_URI": self.uri}

    def kill(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server.start()

    def empty(self) -> None:
        self.run("FLUSHALL")
        self.kill()
        self.start()

    def run(self, *commands: str) -> None:
        with contextlib.closing(self.server.client()) as client:
            for command in commands:
                client.execute_command(*command.split())

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        self.run("CONFIG SET maxmemory 1")
        try:
            yield
        finally:
            self.run("CONFIG SET maxmemory 0")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """A replica whose master is gone: nobody listens at port 1."""
        self.run("REPLICAOF 127.0.0.1 1")
        try:
            yield
        finally:
            self.run("REPLICAOF NO ONE")


class LimiterBackend(RedisBackend):
    """A server for the app's own Flask-Limiter only. The store is well."""

    title = "limits only"
    charging = re.compile(rb"EVAL.*LIMITER", re.DOTALL)

    def config(self) -> dict[str, Any]:
        return {"OTP_STORAGE_URI": "memory://"}

    def set_up(self, app: Flask) -> None:
        options: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
        options["retry"] = Retry(NoBackoff(), 0)
        Limiter(lambda: "anybody", app=app, storage_uri=self.uri, storage_options=options)


BACKENDS: tuple[type[RedisBackend], ...] = (RedisBackend, LimiterBackend)
