"""Only a test with the marker ``server`` starts one: else ``pytest -m "not server"`` is slow, or needs what is missing.

This is done once in a process: a program that measures tests runs pytest in it several times.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest

from tests.support.apps import ValkeyServer
from tests.support.databases import DatabaseServer
from tests.support.servers import Server
from tests.support.web_server import WebServer


class Running:
    """The test that runs now."""

    is_marked = True


def _where_it_is_marked(start: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(start)
    def start_or_fail(*args: Any, **kwargs: Any) -> Any:
        if not Running.is_marked:
            pytest.fail("a test that starts a server has the marker `server`")
        return start(*args, **kwargs)

    return start_or_fail


_STARTS = [(socket.socket, "listen"), (WebServer, "__init__")]
_STARTS += [(server, "start") for server in (ValkeyServer, Server, DatabaseServer)]
for owner, name in _STARTS:
    setattr(owner, name, _where_it_is_marked(getattr(owner, name)))
