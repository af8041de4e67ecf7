"""Every store of ours passes the suite. What only one of them has is in a file of its own."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ValkeyServer

from flask_otp.testing.stores import StoreSuite


class TestMemory(StoreSuite):
    shared = False

    @pytest.fixture
    def storage_uri(self) -> str:
        return "memory://"

    def size_of(self, store: Any) -> int:
        return sum(len(packed) for table in store._tables.values() for packed in table.values())


class TestRedis(StoreSuite):
    @pytest.fixture
    def storage_uri(self, valkey: ValkeyServer) -> str:
        return valkey.uri

    @pytest.fixture
    def storage_options(self) -> dict[str, Any]:
        return {"socket_timeout": 30, "socket_connect_timeout": 30}

    def size_of(self, store: Any) -> int:
        return sum(store.client.memory_usage(key) for key in store.client.scan_iter())
