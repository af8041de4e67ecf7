"""What a store holds, and what one core of Redis bears: a send, a verify and a guard with all limits.

Asked by one client at a time, the server sleeps between two calls and wakes up cold; that is *idle*. *Busy* is the same
calls over one connection without a pause between them.
"""

from __future__ import annotations

import re
import time
import tracemalloc
from base64 import urlsafe_b64encode
from codecs import escape_decode
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from secrets import token_bytes
from typing import Any
from unittest.mock import patch

from flask_otp.config.settings import Settings
from flask_otp.redis_clients.server import Command
from flask_otp.stores import ChallengeRequest, Store
from flask_otp.stores.memory import MemoryStore
from tests.support.apps import ValkeyServer

from .measure import Case, Scale, spread
from .report import Row
from .servers import Servers
from .sites import Site, our_way
from .traffic import wrong_for

#: The default one.
POLICY = Settings.from_config({}).purposes["login"].policy()
#: Of the one challenge that each subject has.
ID = b"the id of a code"
#: Commands that are on the way at one time, and keys that a script gets: Lua cannot take more.
_MANY = 1000
_COPY = "for _, key in ipairs(KEYS) do redis.call('RESTORE', key, ARGV[2], ARGV[1], 'REPLACE') end"
_GOALS = {"send": "<= 25", "verify": "<= 14"}
#: What a subject may have behind it: which codes were typed, right or wrong.
_HISTORIES: dict[str, list[bool]] = {
    "a live code": [],
    "a code verified, its proof": [True],
    "a live code, one failure": [False],
    "a code used up by five failures": [False] * 5,
}


def sizes(scale: Scale, servers: Servers) -> Iterator[Row]:
    for name, binary in servers.both_kinds():
        for what, typed in _HISTORIES.items():
            # A server that was emptied gives its memory back only slowly, so each time there is a new one.
            server = servers.new_valkey(binary)
            # The Limiter has the counters of the limits elsewhere.
            size = _growth(scale.codes, server, Site(server.uri, servers.valkey.uri, limiter=True), typed)
            yield Row(what, f"{name}, {scale.codes:,} subjects", spread(size), "B", "" if typed else "<= 330")
    count, server = scale.codes // 10, servers.new_valkey()
    # And here the codes are elsewhere.
    size = _growth(count, server, Site("memory://", server.uri, limiter=True), [True])
    yield Row("the limits of a network", f"redis, {count:,} networks", spread(size), "B")
    count, store = scale.codes * 10, MemoryStore(max_subjects=scale.codes * 20)
    tracemalloc.start()
    fill(store, count)
    size = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    yield Row("a live code", f"memory, {count:,} subjects", spread(size), "B", "<= 200")


def _growth(count: int, server: ValkeyServer, site: Site, typed: Sequence[bool]) -> float:
    """Bytes for each person who has asked for a code, and typed the right or a wrong one so often."""
    traffic = site.traffic(our_way(session=False))

    def visit() -> None:
        request_with, code = traffic.sent()
        for right in typed:
            traffic.call(request_with(code if right else wrong_for(code)))

    visit()  # connections and their buffers are there now
    with server.client() as client:
        before = _used(client)
        for _ in range(count):
            visit()
        return (_used(client) - before) / count


def _used(client: Any) -> int:
    # The heap of the scripts comes and goes, and has nothing to do with the codes.
    client.script_flush("SYNC")
    return int(client.info("memory")["used_memory"])


def ceiling(scale: Scale, servers: Servers) -> Iterator[Row]:
    for name, binary in servers.both_kinds():
        server = servers.new_valkey(binary)
        site = Site(server.uri, server.uri)
        with server.client() as client:
            idle, recorded = _recorded(scale.calls, client, site)
            floor = _floor(scale.calls, client, site)
            _empty(client)
            busy = _replayed(scale.calls, client, recorded)
            _empty(client)
            fill(site.state.store, scale.many, client)
            full = _replayed(scale.calls, client, recorded)
        for what, (script, _) in idle.items():
            if what in _GOALS:
                yield Row(f"{what}: in the command", f"{name}, idle", spread(script), "us", _GOALS[what])
            for state, loads in (("idle", idle), ("busy", busy), (f"busy, {scale.many:,} live codes", full)):
                yield Row(f"{what}: processor time", f"{name}, {state}", spread(loads[what][1]), "us")
        yield Row("send: its commands alone", f"{name}, idle", spread(floor), "us")


#: Microseconds of one call: in the script, and of the server's processor time in all.
Loads = dict[str, tuple[float, float]]


def _recorded(count: int, client: Any, site: Site) -> tuple[Loads, dict[str, list[Command]]]:
    """Requests one by one, and the commands that they sent to the store, beside those that led up to them."""
    loads: Loads = {}
    recorded, sent = dict[str, list[Command]](), list[Command]()
    traffic, store = site.traffic(our_way(session=False)), site.state.store.client
    exchange = store.exchange

    def exchange_and_keep(key: Any, *commands: Command) -> Any:
        sent.extend(commands)
        return exchange(key, *commands)

    site.verified_cookie()  # the server knows the scripts from here on
    with patch.object(store, "exchange", exchange_and_keep):
        guard = traffic.open("/guarded", site.verified_cookie())
        for what, case in {"send": traffic.send(), "verify": traffic.verify(), "guard": guard}.items():
            requests = case.prepare(count)
            recorded[f"before {what}"], sent = sent, []
            began = _begin(client)
            for request in requests:
                case.check(case.call(request))
            loads[what] = _load(client, began, count)
            recorded[what], sent = sent, []
    return loads, recorded


def _floor(count: int, client: Any, site: Site) -> float:
    """Microseconds in a script that calls the commands of a send, with a send's arguments, and computes nothing."""
    calls, keys, arguments = list[str](), list[bytes](), list[bytes]()
    for name, key, *more in _commands_of(site.traffic(our_way(session=False)).send(), client):
        keys.append(key)
        given = [f"KEYS[{len(keys)}]", *(f"ARGV[{len(arguments) + 1 + place}]" for place in range(len(more)))]
        calls.append(f"redis.call('{name.decode()}', {', '.join(given)})")
        arguments += more
    script, began = client.register_script("\n".join(calls)), 0.0
    # As long as an app computes between two calls.
    pause = Site("memory://", "redis://").traffic(our_way(session=False)).send()
    for number, request in enumerate(pause.prepare(count + 1)):
        if number == 1:  # the server knows the script from here on
            began = _begin(client)
        pause.check(pause.call(request))
        script([b"%d:%s" % (number, key) for key in keys], arguments)
    return _load(client, began, count)[0]


def _commands_of(case: Case, client: Any) -> Iterator[list[bytes]]:
    """What the script of one call runs: the words of each command."""
    with client.monitor() as monitor:
        case.check(case.call(case.prepare(1)[0]))
        client.ping()
        while b'"PING"' not in (line := monitor.connection.read_response(disable_decoding=True)):
            if b" lua] " in line:
                yield [escape_decode(word)[0] for word in re.findall(rb'"((?:[^"\\]|\\.)*)"', line)]


def _replayed(count: int, client: Any, recorded: dict[str, list[Command]]) -> Loads:
    """The same commands, one after the other without a pause."""
    loads: Loads = {}
    for what, commands in recorded.items():
        began = _begin(client)
        for start in range(0, len(commands), _MANY):
            pipeline = client.pipeline(transaction=False)
            for command in commands[start : start + _MANY]:
                pipeline.execute_command(*command)
            pipeline.execute()  # raises the first error among the answers
        loads[what] = _load(client, began, count)
    return loads


def _empty(client: Any) -> None:
    # At once: what is freed in the background would be taken for the time of what is measured next.
    client.execute_command("FLUSHALL", "SYNC")


def _begin(client: Any) -> float:
    client.config_resetstat()
    return server_seconds(client)


def _load(client: Any, began: float, count: int) -> tuple[float, float]:
    processor = (server_seconds(client) - began) * 1e6 / count
    script = client.info("commandstats").get("cmdstat_evalsha", {"usec": 0})["usec"] / count
    # The server counts in steps; few calls may fall between two of them.
    return script, max(processor, script, 0.01)


def server_seconds(client: Any) -> float:
    """Processor time that the server has had."""
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def fill(store: Store, count: int, client: Any = None) -> None:
    """Give so many subjects a live code each. With the client of a Redis they are copies of the first one's record."""
    for number in range(1 if client else count):
        # Each has an object of its own for the id, as each has in an app.
        asked = ChallengeRequest(bytes(bytearray(ID)), token_bytes(8), token_bytes(8))
        store.open(subject_of(number), asked, POLICY, int(time.time()))
    if client:
        model = next(client.scan_iter(f"*{_in_key(0).decode()}*"))
        value, life, copy = client.dump(model), client.pttl(model), client.register_script(_COPY)
        names = [model.replace(_in_key(0), _in_key(number)) for number in range(1, count)]
        for start in range(0, len(names), _MANY):
            copy(names[start : start + _MANY], [value, life])


def subject_of(number: int) -> bytes:
    """The subject with this number: spread over the key space, as real ones are."""
    return blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


def _in_key(number: int) -> bytes:
    return urlsafe_b64encode(subject_of(number)).rstrip(b"=")
