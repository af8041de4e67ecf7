"""Servers of our own, each empty: started when first asked for, gone at the end."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import cached_property, partial
from http.client import HTTPConnection
from pathlib import Path
from shutil import which

from redis.connection import AbstractConnection

from flask_otp.stores import Store
from tests.support.apps import ValkeyServer
from tests.support.at_once import at_once
from tests.support.databases import PostgreSQLServer
from tests.support.web_server import GUNICORN, WebServer

from .traffic import Answer, Environ

#: Options of a store in Redis: other work on the machine does not end a measurement.
PATIENCE = {"socket_timeout": 10, "socket_connect_timeout": 10}


class Servers(ExitStack):
    """Starts what is asked for. Leaving the ``with`` stops it all, and closes what the stores left open."""

    def __init__(self) -> None:
        super().__init__()
        self.callback(_close_connections)

    @cached_property
    def directory(self) -> Path:
        return Path(self.enter_context(tempfile.TemporaryDirectory()))

    @cached_property
    def valkey(self) -> ValkeyServer:
        return self.new_valkey()

    def new_valkey(self, binary: str | None = None) -> ValkeyServer:
        """By default the Valkey that the test extra brings."""
        server = ValkeyServer(self.directory, binary)
        server.start()
        self.callback(server.stop)
        return server

    def new_postgresql(self) -> PostgreSQLServer:
        server = PostgreSQLServer()
        self.callback(server.remove)
        server.start()
        return server

    def both_kinds(self) -> Iterator[tuple[str, str | None]]:
        """Name and binary: the Valkey has libc's allocator, and the Redis of this machine mostly has jemalloc."""
        for binary in dict.fromkeys((None, which("redis-server") or which("valkey-server"))):
            with self.new_valkey(binary).client() as client:
                told, allocator = client.info("server"), client.info("memory")["mem_allocator"].partition("-")[0]
            kind = "Valkey" if "valkey_version" in told else "Redis"
            yield f"{kind} {told.get('valkey_version', told['redis_version'])}, {allocator}", binary


def _close_connections() -> None:
    # Apps have no way to be closed: look for what they left open. Else it goes in the middle of something else.
    for thing in gc.get_objects():
        if issubclass(type(thing), Store):
            thing.close()
        elif issubclass(type(thing), AbstractConnection):
            thing.disconnect()


class Gunicorn(WebServer):
    """And its clients.

    :param module: the one whose ``create_app`` makes the app.
    :param kind: of the workers.
    :param threads: what each process does at one time.
    """

    def __init__(self, directory: Path, module: str, kind: str, processes: int, threads: int, **environment: str):
        # Without --preload the workers would make the tables of one database all at the same time.
        many = ["--threads", str(threads), "--preload"] if kind == "gthread" else ["--worker-connections", str(threads)]
        command = [*GUNICORN, "-k", kind, "-w", str(processes), *many, "--keep-alive", "30", f"{module}:create_app()"]
        super().__init__(command, directory, **environment)

    def call(self, request: Environ) -> Answer:
        return self.ask([request], clients=1)[0]

    def ask(self, requests: Sequence[Environ], clients: int = 8) -> list[Answer]:
        """Shared out among the clients, which have a connection each and start at the same moment."""
        connections = [self.connect() for _ in range(clients)]
        shares = (partial(_asked, each, requests[number::clients]) for number, each in enumerate(connections))
        return [answer for answers in at_once(*shares) for answer in answers]

    def cpu_seconds(self) -> float:
        """Processor time of all workers, as Linux counts it."""
        ticks = 0
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _asked(connection: HTTPConnection, requests: Sequence[Environ]) -> list[Answer]:
    answers = []
    with closing(connection):
        for request in requests:
            names = {"Content-Type": "CONTENT_TYPE", "Cookie": "HTTP_COOKIE"}
            headers = {name: request[key] for name, key in names.items() if request.get(key)}
            body = request["wsgi.input"].getvalue()
            connection.request(request["REQUEST_METHOD"], request["PATH_INFO"], body, headers)
            answer = connection.getresponse()
            answers.append(Answer(str(answer.status), answer.read(), answer.getheaders()))
    return answers
