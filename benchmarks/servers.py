"""Servers of our own, each empty: started when first asked for, gone at the end."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from redis.connection import AbstractConnection

from flask_otp.stores import Store, store_from_uri
from tests.support.apps import ValkeyServer, free_port
from tests.support.databases import PostgreSQLServer
from tests.support.servers import wait_until

from .traffic import Answer, Environ


class Servers(ExitStack):
    """Starts what is asked for. Leaving the ``with`` stops it all, and closes what the stores left open.

    :param binary: of the Redis or Valkey server; by default the Valkey that the test extra brings.
    """

    def __init__(self, binary: str | None = None) -> None:
        super().__init__()
        self._binary = binary
        self.callback(_close_connections)

    @cached_property
    def directory(self) -> Path:
        return Path(self.enter_context(tempfile.TemporaryDirectory()))

    @cached_property
    def valkey(self) -> ValkeyServer:
        return self.new_valkey()

    @cached_property
    def uri(self) -> str:
        return str(self.valkey.uri)

    def new_valkey(self) -> ValkeyServer:
        server = ValkeyServer(self.directory, self._binary)
        server.start()
        self.callback(server.stop)
        return server

    def new_postgresql(self) -> PostgreSQLServer:
        server = PostgreSQLServer()
        self.callback(server.remove)
        server.start()
        return server


def _close_connections() -> None:
    # Apps have no way to be closed: look for what they left open. Else it goes in the middle of something else.
    for thing in gc.get_objects():
        if issubclass(type(thing), Store):
            thing.close()
        elif issubclass(type(thing), AbstractConnection):
            thing.disconnect()


def open_store(uri: str, prefix: str = "otp") -> Store:
    return store_from_uri(uri, prefix, patience(uri))


def patience(uri: str) -> dict[str, Any]:
    """Options with time-outs so long that other work on the machine does not end a measurement."""
    return {} if uri.startswith("memory") else {"socket_timeout": 10, "socket_connect_timeout": 10}


@contextmanager
def gunicorn(module: str, kind: str, processes: int, threads: int, **settings: str) -> Iterator[Gunicorn]:
    """A gunicorn on a free port.

    :param module: the one whose ``create_app`` makes the app.
    :param kind: of the workers.
    :param threads: what each process does at one time.
    :param settings: environment variables for the app.
    """
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", str(processes), "-k", kind]
    # Without --preload the workers would make the tables of one database all at the same time.
    many = ["--threads", str(threads), "--preload"] if kind == "gthread" else ["--worker-connections", str(threads)]
    command += [*many, "--keep-alive", "30", f"{module}:create_app()"]
    top = Path(__file__).parent.parent
    process = subprocess.Popen(command, cwd=top, env=os.environ | settings, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), 60)
        yield Gunicorn(process.pid, port)
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


class Gunicorn:
    """A running one, and its clients."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid, self._port = pid, port

    def ask(self, requests: Sequence[Environ], clients: int = 8) -> list[Answer]:
        """Shared out among the clients, which have a connection each and start at the same moment."""
        start = threading.Barrier(clients)

        def share(number: int) -> list[Answer]:
            connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
            connection.connect()
            start.wait(60)
            with closing(connection):
                return [_asked(connection, request) for request in requests[number::clients]]

        with ThreadPoolExecutor(clients) as pool:
            return [answer for answers in pool.map(share, range(clients)) for answer in answers]

    def cpu_seconds(self) -> float:
        """Processor time of all workers, as Linux counts it."""
        ticks = 0
        for child in Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _asked(connection: HTTPConnection, request: Environ) -> Answer:
    body = request["wsgi.input"].getvalue()
    headers = {"Content-Type": request["CONTENT_TYPE"]} if body else {}
    headers |= {"Cookie": request["HTTP_COOKIE"]} if "HTTP_COOKIE" in request else {}
    connection.request(request["REQUEST_METHOD"], request["PATH_INFO"], body, headers)
    answer = connection.getresponse()
    return Answer(str(answer.status), answer.read(), answer.getheaders())
