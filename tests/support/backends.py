"""Real servers behind a proxy, and how an app uses them: what the faults are tried on."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_limiter import Limiter

from tests.support.proxy import Proxy
from tests.support.servers import SERVICE, Sentinel, Server, wait_until

#: Whether docs/operate/faults.md is to be rewritten with the measurements.
WRITING = bool(os.environ.get("WRITE_FAULTS"))

#: Longest time that our clients wait, in seconds: the default, or one that a busy machine without a fault never needs.
TIMEOUT = 0.25 if WRITING else 0.5
_TIMEOUTS: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}


class Backend(ABC):
    """A server of one kind behind a proxy, and an app's way to it."""

    #: Head of its column in the table.
    title: str
    #: Found in each request that changes a subject's state, or else in the reply to it.
    charging: re.Pattern[bytes]
    proxy: Proxy

    @abstractmethod
    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        """Start; the ``stack`` ends it."""

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

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        self.directory: Path = request.getfixturevalue("tmp_path_factory").mktemp("server")
        self.server = Server(self.directory, "--appendonly", "yes", "--appendfsync", "no", *self.settings)
        self.proxy = stack.enter_context(Proxy(self.server.port))
        stack.callback(self.kill)
        self.start()

    #: Further ones of the server.
    settings: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.proxy.port}"

    def config(self) -> dict[str, Any]:
        return {"OTP_STORAGE_URI": self.uri, "OTP_STORAGE_OPTIONS": _TIMEOUTS}

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()
        wait_until(self.server.is_up)

    def empty(self) -> None:
        self.server.ask("FLUSHALL")
        self.kill()
        self.start()

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        self.server.ask("CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            self.server.ask("CONFIG", "SET", "maxmemory", 0)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """A replica whose master is gone: no server listens at port 1."""
        self.server.ask("REPLICAOF", "127.0.0.1", 1)
        try:
            yield
        finally:
            self.server.ask("REPLICAOF", "NO", "ONE")


class LimiterBackend(RedisBackend):
    """A server for the app's own Flask-Limiter only. The store is well."""

    title = "limits only"
    charging = re.compile(rb"EVAL.*LIMITER", re.DOTALL)

    def config(self) -> dict[str, Any]:
        return {"OTP_STORAGE_URI": "memory://"}

    def set_up(self, app: Flask) -> None:
        Limiter(lambda: "anybody", app=app, storage_uri=self.uri, storage_options=_TIMEOUTS)


class ClusterBackend(RedisBackend):
    """A cluster of one node, which sends everybody to the proxy."""

    title = "Cluster"
    settings = ("--cluster-enabled", "yes")

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        super().__init__(request, stack)
        self.server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(self._is_whole)

    @property
    def uri(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.proxy.port}"

    def start(self) -> None:
        super().start()
        self.server.ask("CONFIG", "SET", "cluster-announce-ip", "127.0.0.1", "cluster-announce-port", self.proxy.port)
        if self.server.ask("CLUSTER", "SLOTS"):
            wait_until(self._is_whole)

    def _is_whole(self) -> bool:
        return b"cluster_state:ok" in self.server.ask("CLUSTER", "INFO")

    def empty(self) -> None:
        """In place: a node takes no writes for the first two seconds."""
        self.server.ask("FLUSHALL")
        self.server.ask("SCRIPT", "FLUSH")
        self.proxy.cut()


class SentinelBackend(RedisBackend):
    """A master that a Sentinel names, which is well."""

    title = "Sentinel"

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        super().__init__(request, stack)
        self._sentinel = Sentinel(self.directory, 1)
        self._sentinel.write(self.proxy.port, [], [])
        stack.callback(self._sentinel.kill)
        self._sentinel.start()
        wait_until(self._sentinel.is_up)

    @property
    def uri(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self._sentinel.port}/{SERVICE}"


REDIS_BACKENDS = (RedisBackend, LimiterBackend, ClusterBackend, SentinelBackend)
