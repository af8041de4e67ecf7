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
from unittest.mock import patch

from flask_otp.redis_clients.server import Command, pack
from tests.support.apps import ValkeyServer

from .measure import Case, Scale, exactly
from .people import ask, copies
from .report import Row
from .servers import Servers, open_store
from .sites import Site, our_way

#: Commands that are on the way at one time.
_WINDOW = 100
_ERROR = re.compile(rb"\r\n-[A-Z]{3,} .*")
_GOALS = {"send": "<= 25", "verify": "<= 14"}


class Load(NamedTuple):
    """What one call is to the server: microseconds in the script, and of processor time in all."""

    command: float
    processor: float


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    for name, others in both_kinds(servers):
        server = others.valkey
        site = Site(server.uri, server.uri, limiter=False)
        for what in ("send", "verify", "guard"):
            with server.client() as client:
                client.execute_command("FLUSHALL", "SYNC")
                loads = _loads(scale, client, server, site, _case(site, what))
            command = exactly(next(iter(loads.values())).command)
            yield Row(f"{what}: in the command", f"{name}, idle", command, "us", _GOALS.get(what, ""))
            for state, load in loads.items():
                yield Row(f"{what}: processor time", f"{name}, {state}", exactly(load.processor), "us")
                able = exactly(round(1e6 / load.processor))
                yield Row(f"{what}: a core can do", f"{name}, {state}", able, "a second")


def both_kinds(servers: Servers) -> Iterator[tuple[str, Servers]]:
    """The Valkey of the test extra, with libc's allocator, and the Redis of this machine, mostly with jemalloc."""
    yield _name(servers.valkey), servers
    binary = next(filter(None, map(shutil.which, ("redis-server", "valkey-server"))), None)
    if binary is not None:
        with Servers(binary) as others:
            yield _name(others.valkey), others


def _name(server: ValkeyServer) -> str:
    with server.client() as client:
        told, allocator = client.info("server"), client.info("memory")["mem_allocator"]
    kind = "Valkey" if "valkey_version" in told else "Redis"
    return f"{kind} {told.get('valkey_version', told['redis_version'])}, {allocator.partition('-')[0]}"


def _case(site: Site, what: str) -> Case:
    traffic = site.traffic(our_way(session=False))
    if what == "guard":
        return traffic.open("/guarded", site.verified_cookie())
    return traffic.send() if what == "send" else traffic.verify()


def _loads(scale: Scale, client: Any, server: ValkeyServer, site: Site, case: Case) -> dict[str, Load]:
    """Idle, busy, and busy beside many live codes."""
    case.check(case.call(case.prepare(1)[0]))
    requests = case.prepare(scale.calls)
    before = {key: client.dump(key) for key in client.scan_iter(count=10_000)}
    loads = {}
    loads["idle"], commands = _recorded(client, site, case, requests)
    loads["busy"] = _replayed(client, server, before, commands, 0)
    loads[f"busy, {scale.many:,} live codes"] = _replayed(client, server, before, commands, scale.many)
    return loads


def _recorded(client: Any, site: Site, case: Case, requests: Sequence[Any]) -> tuple[Load, list[Command]]:
    """The requests one by one, and the commands that each sends to the store."""
    commands, store = list[Command](), site.state.store.client  # type: ignore[attr-defined]
    send = store.exchange

    def exchange(key: Any, *sent: Command) -> Any:
        commands.extend(sent)
        return send(key, *sent)

    with patch.object(store, "exchange", exchange):
        began = _begin(client)
        for request in requests:
            case.check(case.call(request))
        return _load(client, began, len(requests)), commands


def _replayed(
    client: Any, server: ValkeyServer, before: dict[bytes, bytes], commands: list[Command], fill: int
) -> Load:
    """The same commands on what was there before them, one after the other without a pause."""
    # At once: what is freed in the background would be taken for the time of what is measured next.
    client.execute_command("FLUSHALL", "SYNC")
    if fill:
        ask(open_store(server.uri, "filled"), 0)
        copies(client, "filled", fill)
    for key, value in before.items():
        client.restore(key, 3_600_000, value)
    began = _begin(client)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for start in range(0, len(commands), _WINDOW):
            # The answer to the last one comes after all the others.
            connection.sendall(pack([*commands[start : start + _WINDOW], ("ECHO", "the end")]))
            answer = b""
            while not answer.endswith(b"the end\r\n"):
                answer += connection.recv(1 << 20)
            error = _ERROR.search(b"\r\n" + answer)
            if error is not None:
                raise RuntimeError(f"an error is among the answers: {error[0]!r}")
    return _load(client, began, len(commands))


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
