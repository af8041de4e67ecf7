"""Servers of our own, each empty: started when first asked for, gone at the end."""

from __future__ import annotations

import gc
import tempfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from redis.connection import AbstractConnection

from flask_otp.stores import Store, store_from_uri
from tests.support.apps import ValkeyServer


class Servers(ExitStack):
    """Starts what is asked for. Leaving the ``with`` stops it all.

    :param binary: of the Redis or Valkey server; by default the Valkey that the test extra brings.
    """

    def __init__(self, binary: str | None = None) -> None:
        super().__init__()
        self._binary = binary

    @cached_property
    def directory(self) -> Path:
        return Path(self.enter_context(tempfile.TemporaryDirectory()))

    @cached_property
    def valkey(self) -> ValkeyServer:
        return self.new_valkey()

    def new_valkey(self) -> ValkeyServer:
        server = ValkeyServer(self.directory, self._binary)
        server.start()
        self.callback(server.stop)
        return server


def open_store(uri: str, prefix: str = "otp") -> Store:
    """The store, with its table if it needs one."""
    store = keep(store_from_uri(uri, prefix, patience(uri)))
    store.prepare()
    return store


_open: list[Store] = []


def keep(store: Store) -> Store:
    """Have the store closed at the end of the group of rows that it was opened for."""
    _open.append(store)
    return store


def close_connections() -> None:
    while _open:
        _open.pop().close()
    # Apps have no way to be closed: look for what they left open. Else it goes in the middle of something else.
    for thing in gc.get_objects():
        if issubclass(type(thing), AbstractConnection):
            thing.disconnect()


def patience(uri: str) -> dict[str, Any]:
    """Options with time-outs so long that other work on the machine does not end a measurement."""
    if uri.startswith("memory"):
        return {}
    return {"socket_timeout": 10, "socket_connect_timeout": 10} if uri.startswith("redis") else {"timeout": 10}
