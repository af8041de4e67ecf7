"""What a verb costs the Redis server, as the server measures it: time in the command, and processor time in all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flask_otp.stores import Store

from .bench import Bench
from .measure import exactly
from .people import SubjectDriver, subject_of
from .report import Row
from .servers import open_store

Verb = Callable[[SubjectDriver], Any]

#: What comes before, for everybody, and what is measured.
_VERBS: dict[str, tuple[tuple[Verb, ...], Verb]] = {
    "open": ((), SubjectDriver.ask),
    "redeem, right": ((SubjectDriver.ask,), lambda person: person.type(right=True)),
    "redeem, wrong": ((SubjectDriver.ask,), lambda person: person.type(right=False)),
    "holds (the guard)": ((SubjectDriver.ask, lambda person: person.type(right=True)), SubjectDriver.visit),
    "spend (log out, once)": ((SubjectDriver.ask, lambda person: person.type(right=True)), SubjectDriver.log_out),
}


@dataclass(frozen=True)
class Load:
    """What one call of a verb is to the server.

    :param command: microseconds in the script, or in the one command.
    :param processor: microseconds of the server's processor time, all in.
    :param traffic: bytes to the server and back.
    """

    command: float
    processor: float
    traffic: float


def rows(bench: Bench) -> Iterator[Row]:
    where = f"redis, {bench.scale.codes:,} calls"
    for name, load in loads(bench).items():
        yield Row(f"{name}: in the command", where, exactly(load.command), "us")
        yield Row(f"{name}: processor time", where, exactly(load.processor), "us")
        yield Row(f"{name}: a core can do", where, exactly(round(1e6 / load.processor)), "a second")
        yield Row(f"{name}: to the server and back", where, exactly(load.traffic), "B")


def loads(bench: Bench) -> dict[str, Load]:
    """By verb. The server has one client, and so sleeps and wakes for each call: under load it does better."""
    store = open_store(bench.servers.valkey.uri)
    with bench.servers.valkey.client() as client:
        return {name: _load(client, store, verb, before, bench.scale.codes) for name, (before, verb) in _VERBS.items()}


def _load(client: Any, store: Store, verb: Verb, before: tuple[Verb, ...], count: int) -> Load:
    client.flushall()
    people = [SubjectDriver(store, subject_of(number)) for number in range(count)]
    for step in before:
        _each(step, people)
    verb(SubjectDriver(store, b"the script is loaded"))
    client.config_resetstat()
    began = server_seconds(client)
    _each(verb, people)
    microseconds = (server_seconds(client) - began) * 1e6
    command = _in_commands(client) / count
    # The server counts in steps; few calls may fall between two of them.
    return Load(command, max(microseconds / count, command), server_traffic(client) / count)


def _in_commands(client: Any) -> float:
    """Microseconds in all that clients asked for since the counts were reset."""
    usec = {name: stats["usec"] for name, stats in client.info("commandstats").items()}
    # What a script calls is counted twice, by itself and in the script.
    return float(usec.get("cmdstat_evalsha") or sum(usec.values()))


def _each(step: Verb, people: list[SubjectDriver]) -> None:
    for person in people:
        step(person)


def server_seconds(client: Any) -> float:
    """Processor time that the server has had."""
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def server_traffic(client: Any) -> int:
    """Bytes to the server and back since its counts were reset."""
    network = client.info("stats")
    return int(network["total_net_input_bytes"] + network["total_net_output_bytes"])
