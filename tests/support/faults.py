"""The faults that a networked store meets, and what must come of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from flask import Flask

from flask_otp.testing import Clock
from tests.support.backends import REDIS_BACKENDS, TIMEOUT, Backend, ClusterBackend, LimiterBackend, RedisBackend
from tests.support.sql_backends import SQL_BACKENDS

BACKENDS: tuple[type[Backend], ...] = (*REDIS_BACKENDS, *SQL_BACKENDS)

HOUR = 3600

#: Status of each verb where nothing is amiss. Those that begin with ``otp`` are calls in Python, by the error's status.
USUAL = {
    "send": 200,
    "resend": 200,
    "verify right": 200,
    "verify wrong": 400,
    "app right": 200,
    "app wrong": 400,
    "guard": 200,
    "guard once": 200,
    "log out": 204,
    "otp.send": 200,
    "otp.verify": 200,
    "otp.revoke": 204,
}
DOWN = dict.fromkeys(USUAL, 503)
#: The store answers, and knows nothing of what was before. Codes of an app need nothing of it.
FORGOTTEN = USUAL | {"resend": 400, "verify right": 400, "otp.verify": 400, "guard": 401, "guard once": 401}


_NEVER = frozenset({0})
_ONCE = frozenset({1})
_PERHAPS = frozenset({0, 1})


@dataclass(frozen=True)
class Site:
    """An app over a backend, and its clock."""

    backend: Backend
    app: Flask
    clock: Clock

    def close(self) -> None:
        self.app.extensions["otp"].store.close()


@dataclass(frozen=True)
class Fault:
    """
    :param inject: the fault lasts as long as its context.
    :param answers: status meanwhile of each verb to try.
    :param charged: how often what was answered with 503 may have been counted, spent or ended all the same.
    :param seconds: every answer comes within this time.
    :param waits: answers take long, and so all verbs are tried at once.
    :param apart: each verb meets a fault of its own.
    """

    title: str
    inject: Callable[[Site], AbstractContextManager[object]]
    answers: Mapping[str, int] = field(default_factory=lambda: DOWN)
    charged: frozenset[int] = _NEVER
    seconds: float = 2 * TIMEOUT
    waits: bool = False
    apart: bool = False

    @property
    def forgets(self) -> bool:
        """Whether all that was before is gone."""
        return self.answers is FORGOTTEN


@contextmanager
def _refused(site: Site) -> Iterator[None]:
    site.backend.proxy.refuse()
    try:
        yield
    finally:
        site.backend.proxy.listen()


@contextmanager
def _hung(site: Site) -> Iterator[None]:
    site.backend.proxy.hang()
    try:
        yield
    finally:
        site.backend.proxy.resume()


def _slow(seconds: float) -> Callable[[Site], AbstractContextManager[None]]:
    @contextmanager
    def inject(site: Site) -> Iterator[None]:
        site.backend.proxy.delay(seconds)
        try:
            yield
        finally:
            site.backend.proxy.delay(0)

    return inject


_slow_within = _slow(0.4 * TIMEOUT)


def _lost(how: str) -> Callable[[Site], AbstractContextManager[None]]:
    @contextmanager
    def inject(site: Site) -> Iterator[None]:
        site.backend.proxy.lose_replies(site.backend.charging, how)
        try:
            yield
        finally:
            site.backend.proxy.keep_replies()

    return inject


@contextmanager
def _killed(site: Site) -> Iterator[None]:
    backend = site.backend
    backend.proxy.lose_replies(backend.charging, backend.kill)
    try:
        yield
    finally:
        backend.proxy.keep_replies()
        backend.kill()
        backend.start()


@contextmanager
def _cut_while_idle(site: Site) -> Iterator[None]:
    site.backend.proxy.cut()
    yield


@contextmanager
def _emptied(site: Site) -> Iterator[None]:
    site.backend.empty()
    yield


def _out_of_memory(site: Site) -> AbstractContextManager[None]:
    return site.backend.out_of_memory()


def _read_only(site: Site) -> AbstractContextManager[None]:
    return site.backend.read_only()


@contextmanager
def _scripts_forgotten(site: Site) -> Iterator[None]:
    backend = site.backend
    assert isinstance(backend, RedisBackend)
    backend.server.ask("SCRIPT", "FLUSH")
    yield


def _clock(seconds: int) -> Callable[[Site], AbstractContextManager[None]]:
    @contextmanager
    def inject(site: Site) -> Iterator[None]:
        site.clock.now += seconds
        try:
            yield
        finally:
            site.clock.now -= seconds

    return inject


@contextmanager
def _server_clock_ahead(site: Site) -> Iterator[None]:
    """All that the server's clock decides is when keys end: an hour sooner, as if it had been set forward."""
    backend = site.backend
    assert isinstance(backend, RedisBackend)
    with contextlib.closing(backend.server.client()) as client:
        for key in client.scan_iter():
            client.pexpireat(key, client.pexpiretime(key) - HOUR * 1000)
    yield


# Reading goes on without memory, and so does whatever takes away and adds nothing.
_STARVED = DOWN | {"guard": 200, "guard once": 200, "log out": 204, "otp.revoke": 204}
_READING = DOWN | {"guard": 200}
#: What was begun at another time.
_OLD = {"resend": 400, "verify right": 400, "otp.verify": 400, "app right": 400}

FAULTS = (
    Fault("refused", _refused, seconds=0.05),
    Fault("hung", _hung, charged=_PERHAPS, waits=True),
    Fault("slow, within the time-out", _slow_within, USUAL, seconds=8 * TIMEOUT, waits=True),
    Fault("slow, beyond the time-out", _slow(1.6 * TIMEOUT), charged=_PERHAPS, waits=True),
    Fault("cut, reply lost", _lost("cut"), _READING, _ONCE),
    Fault("silent, reply lost", _lost("silence"), _READING, _ONCE, waits=True),
    Fault("killed after the charge", _killed, _READING, _ONCE, apart=True),
    Fault("cut while idle", _cut_while_idle, USUAL),
    Fault("out of memory", _out_of_memory, _STARVED),
    Fault("read-only replica", _read_only, DOWN),
    Fault("script cache flushed", _scripts_forgotten, USUAL),
    Fault("restarted empty", _emptied, FORGOTTEN),
    Fault(
        "app's clock an hour back",
        _clock(-HOUR),
        USUAL | _OLD | {"guard": 401, "guard once": 401},
    ),
    Fault(
        "app's clock an hour ahead",
        _clock(HOUR),
        USUAL | _OLD,
    ),
    Fault("server's clock an hour ahead", _server_clock_ahead, USUAL),
)


def meant_for(kind: type[Backend], fault: Fault) -> Fault | None:
    """What a fault is for this kind of backend; ``None`` where there is no such thing."""
    if kind is LimiterBackend:
        return _for_the_limiter(fault)
    if fault.apart and kind not in REDIS_BACKENDS[:1]:
        # Others take seconds to start.
        return replace(fault, answers={"verify right": fault.answers["verify right"]})
    if kind in SQL_BACKENDS:
        return _for_a_database(fault)
    if kind is ClusterBackend and fault.inject is _read_only:
        return None  # it sends everybody to its master, and test_topologies.py sees to that
    return fault


def _for_the_limiter(fault: Fault) -> Fault | None:
    if "clock" in fault.title:
        return None
    limited = ("send", "resend", "verify right", "verify wrong", "app right", "app wrong")
    answers = {verb: 503 if verb in limited and fault.answers[verb] == 503 else USUAL[verb] for verb in USUAL}
    # Without a network they are limited too, but only once a second, when the failures over the site are looked up.
    del answers["otp.send"], answers["otp.verify"]
    # What was stopped by a limit never came to the store.
    return replace(fault, answers=answers, charged=_NEVER)


def _for_a_database(fault: Fault) -> Fault | None:
    if fault.inject in (_scripts_forgotten, _server_clock_ahead):
        return None
    if fault.inject is _out_of_memory:
        return replace(fault, answers=_READING)
    if fault.inject is _slow_within:
        # Its time-out is for all round trips together, those of connecting too.
        return replace(fault, inject=_slow(0.1 * TIMEOUT))
    return fault
