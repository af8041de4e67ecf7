"""What one core of Redis bears: a send, a verify and a guard as the server sees them, with all limits.

Asked by one client at a time, the server sleeps between two calls and wakes up cold; that is *idle*. *Busy* is the same
calls over one connection without a pause between them.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest.mock import patch

from flask_otp.redis_clients.server import Command, pack

from .measure import Scale, spread
from .report import Row
from .servers import Servers
from .sites import Site, our_way
from .stores import fill

#: Commands that are on the way at one time.
_WINDOW = 100
_ERROR = re.compile(rb"^-[A-Z]{3,} .*", re.MULTILINE)
_GOALS = {"send": "<= 25", "verify": "<= 14"}


class Load(NamedTuple):
    """What one call is to the server: microseconds in the script, and of processor time in all."""

    script: float
    processor: float


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    for name, binary in servers.both_kinds():
        server = servers.new_valkey(binary)
        site = Site(server.uri, server.uri)
        with server.client() as client:
            idle, recorded = _recorded(scale.calls, client, site)
            _empty(client)
            busy = _replayed(scale.calls, client, server.port, recorded)
            _empty(client)
            fill(site.state.store, scale.many, client)
            full = _replayed(scale.calls, client, server.port, recorded)
        for what in idle:
            if what in _GOALS:
                yield Row(f"{what}: in the command", f"{name}, idle", spread(idle[what].script), "us", _GOALS[what])
            for state, loads in (("idle", idle), ("busy", busy), (f"busy, {scale.many:,} live codes", full)):
                yield Row(f"{what}: processor time", f"{name}, {state}", spread(loads[what].processor), "us")


def _recorded(count: int, client: Any, site: Site) -> tuple[dict[str, Load], dict[str, list[Command]]]:
    """Requests one by one, and the commands that they sent to the store, beside those that led up to them."""
    loads, recorded, sent = dict[str, Load](), dict[str, list[Command]](), list[Command]()
    traffic, store = site.traffic(our_way(session=False)), site.state.store.client  # type: ignore[attr-defined]
    exchange = store.exchange

    def exchange_and_keep(key: Any, *commands: Command) -> Any:
        sent.extend(commands)
        return exchange(key, *commands)

    site.verified_cookie()  # the server knows the scripts from here on
    with patch.object(store, "exchange", exchange_and_keep):
        guard = traffic.open("/guarded", site.verified_cookie())
        for what, case in {"send": traffic.send(), "verify": traffic.verify(), "guard": guard}.items():
            requests = case.prepare(count)
            recorded[f"before {what}"] = [*sent]
            sent.clear()
            began = _begin(client)
            for request in requests:
                case.check(case.call(request))
            loads[what] = _load(client, began, count)
            recorded[what] = [*sent]
            sent.clear()
    return loads, recorded


def _replayed(count: int, client: Any, port: int, recorded: dict[str, list[Command]]) -> dict[str, Load]:
    """The same commands, one after the other without a pause."""
    loads = {}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for what, commands in recorded.items():
            began = _begin(client)
            for start in range(0, len(commands), _WINDOW):
                # The answer to the last one comes after all the others.
                connection.sendall(pack([*commands[start : start + _WINDOW], ("ECHO", "the end")]))
                answer = b""
                while not answer.endswith(b"the end\r\n"):
                    answer += connection.recv(1 << 20)
                error = _ERROR.search(answer)
                if error is not None:
                    raise RuntimeError(f"an error is among the answers: {error[0]!r}")
            loads[what] = _load(client, began, count)
    return loads


def _empty(client: Any) -> None:
    # At once: what is freed in the background would be taken for the time of what is measured next.
    client.execute_command("FLUSHALL", "SYNC")


def _begin(client: Any) -> float:
    client.config_resetstat()
    return server_seconds(client)


def _load(client: Any, began: float, count: int) -> Load:
    processor = (server_seconds(client) - began) * 1e6 / count
    script = client.info("commandstats").get("cmdstat_evalsha", {"usec": 0})["usec"] / count
    # The server counts in steps; few calls may fall between two of them.
    return Load(script, max(processor, script, 0.01))


def server_seconds(client: Any) -> float:
    """Processor time that the server has had."""
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
