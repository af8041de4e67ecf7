"""What a verb costs the Redis server, as the server measures it: time in the script, and processor time in all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .bench import Bench
from .measure import exactly
from .people import Person, subject_of
from .report import Row
from .servers import open_store

Verb = Callable[[Person], Any]

#: What comes before, for everybody, and what is measured.
_VERBS: dict[str, tuple[tuple[Verb, ...], Verb]] = {
    "open": ((), Person.ask),
    "redeem, right": ((Person.ask,), lambda person: person.type(right=True)),
    "redeem, wrong": ((Person.ask,), lambda person: person.type(right=False)),
    "holds (the guard)": ((Person.ask, lambda person: person.type(right=True)), Person.visit),
    "spend (log out, once)": ((Person.ask, lambda person: person.type(right=True)), Person.log_out),
}


def rows(bench: Bench) -> Iterator[Row]:
    count = bench.scale.codes
    store = open_store(bench.servers.valkey.uri)
    with bench.servers.valkey.client() as client:
        for name, (before, verb) in _VERBS.items():
            client.flushall()
            people = [Person(store, subject_of(number)) for number in range(count)]
            for step in before:
                _each(step, people)
            verb(Person(store, b"the script is loaded"))
            yield from _measure(client, name, verb, people)


def _measure(client: Any, name: str, verb: Verb, people: list[Person]) -> Iterator[Row]:
    client.config_resetstat()
    before = _processor(client)
    _each(verb, people)
    seconds = _processor(client) - before
    script = client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    network = client.info("stats")
    count, where = len(people), f"redis, {len(people):,} calls"
    yield Row(f"{name}: in the script", where, exactly(script), "us")
    yield Row(f"{name}: processor", where, exactly(seconds / count * 1e6), "us")
    yield Row(f"{name}: a core can do", where, exactly(count / seconds if seconds else 0), "a second")
    sent, received = network["total_net_input_bytes"], network["total_net_output_bytes"]
    yield Row(f"{name}: to and from the server", where, exactly((sent + received) / count), "B")


def _each(step: Verb, people: list[Person]) -> None:
    for person in people:
        step(person)


def _processor(client: Any) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
