"""What one core of Redis bears: a send, a verify and a guard as the server sees them, with all limits.

Asked by one client at a time, the server sleeps between two calls and wakes up cold; that is *idle*. *Busy* is the same
calls over one connection without a pause between them.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flask_otp.redis_clients.server import Command, pack
from flask_otp.state import AppState
from tests.support.apps import ValkeyServer

from .bench import Bench
from .measure import Case, exactly
from .people import SubjectDriver, copies, subject_of
from .report import Row, at_most
from .servers import Servers, open_store
from .sites import Plan, Site
from .traffic import Traffic

#: Commands that are on the way at one time.
_WINDOW = 100
_ERROR = re.compile(rb"\r\n-[A-Z]{3,} .*")
_GOALS = {"send": at_most(25), "verify": at_most(14)}


class Load(NamedTuple):
    """What one call is to the server: microseconds in the script, and of processor time in all."""

    command: float
    processor: float


def rows(bench: Bench) -> Iterator[Row]:
    for name, server in servers(bench):
        for what, (idle, busy, full) in _loads(bench, server).items():
            yield Row(f"{what}: in the command", f"{name}, idle", exactly(idle.command), "us", _GOALS.get(what))
            for state, load in (("idle", idle), ("busy", busy), (f"busy, {bench.scale.many:,} live codes", full)):
                yield Row(f"{what}: processor time", f"{name}, {state}", exactly(load.processor), "us")
                yield Row(
                    f"{what}: a core can do", f"{name}, {state}", exactly(round(1e6 / load.processor)), "a second"
                )


def servers(bench: Bench) -> Iterator[tuple[str, ValkeyServer]]:
    """The Valkey of the test extra, with libc's allocator, and the Redis of this machine, mostly with jemalloc."""
    yield _name(bench.servers.valkey), bench.servers.valkey
    binary = next(filter(None, map(shutil.which, ("redis-server", "valkey-server"))), None)
    if binary is not None:
        with Servers(binary) as others:
            yield _name(others.valkey), others.valkey


def _name(server: ValkeyServer) -> str:
    with server.client() as client:
        told, allocator = client.info("server"), client.info("memory")["mem_allocator"]
    kind = "Valkey" if "valkey_version" in told else "Redis"
    return f"{kind} {told.get('valkey_version', told['redis_version'])}, {allocator.partition('-')[0]}"


def _loads(bench: Bench, server: ValkeyServer) -> dict[str, tuple[Load, ...]]:
    """Idle, busy, and busy beside many live codes."""
    traffic = Traffic(Site(Plan(server.uri, server.uri, limiter=False, rules=True)))
    count, found = bench.scale.calls, dict[str, tuple[Load, ...]]()
    with server.client() as client:
        makers = {"send": traffic.send, "verify": lambda: traffic.right(session=False), "guard": traffic.guard}
        for what, make in makers.items():
            case = make()
            case.check(case.call(case.prepare(1)[0]))
            environs = case.prepare(count)
            before = {key: client.dump(key) for key in client.scan_iter(count=10_000)}
            idle, commands = _recorded(client, traffic.site, case, environs)
            found[what] = idle, *(_replayed(client, server, before, commands, fill) for fill in (0, bench.scale.many))
            _empty(client)
    return found


def _recorded(client: Any, site: Site, case: Case, environs: Sequence[Any]) -> tuple[Load, list[Command]]:
    """The requests one by one, and the commands that each sends to the store."""
    state, commands = site.app.extensions["otp"], list[Command]()
    assert isinstance(state, AppState)
    redis, send = state.store.client, state.store.client.exchange  # type: ignore[attr-defined]

    def exchange(key: Any, *sent: Command) -> list[Any]:
        commands.extend(sent)
        return list(send(key, *sent))

    redis.exchange = exchange
    try:
        began = _begin(client)
        for environ in environs:
            case.call(environ)
        return _load(client, began, len(environs)), commands
    finally:
        del redis.exchange


def _replayed(
    client: Any, server: ValkeyServer, before: dict[bytes, bytes], commands: list[Command], fill: int
) -> Load:
    """The same commands on what was there before them, one after the other without a pause."""
    _empty(client)
    if fill:
        SubjectDriver(open_store(server.uri, "filled"), subject_of(0)).ask()
        copies(client, "filled", fill)
    for key, value in before.items():
        client.restore(key, 3_600_000, value)
    began = _begin(client)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for start in range(0, len(commands), _WINDOW):
            window = commands[start : start + _WINDOW]
            # Its answer comes after all the others.
            connection.sendall(pack([*window, ("ECHO", "the end")]))
            answer = b""
            while not answer.endswith(b"the end\r\n"):
                answer += connection.recv(1 << 20)
            error = _ERROR.search(b"\r\n" + answer)
            if error is not None:
                raise RuntimeError(f"an error is among the answers: {error[0]!r}")
    return _load(client, began, len(commands))


def _empty(client: Any) -> None:
    # At once: what is freed in the background would be taken for the time of what is measured next.
    client.execute_command("FLUSHALL", "SYNC")


def _begin(client: Any) -> float:
    client.config_resetstat()
    return server_seconds(client)


def _load(client: Any, began: float, count: int) -> Load:
    processor = (server_seconds(client) - began) * 1e6 / count
    usec = {name: stats["usec"] for name, stats in client.info("commandstats").items()}
    # What a script calls is counted twice, by itself and in the script.
    command = float(usec.get("cmdstat_evalsha") or usec.get("cmdstat_hget", 0)) / count
    # The server counts in steps; few calls may fall between two of them.
    return Load(command, max(processor, command, 0.01))


def server_seconds(client: Any) -> float:
    """Processor time that the server has had."""
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
