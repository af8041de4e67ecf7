"""The faults that a networked store meets, what must come of each, and the real servers that they are tried on."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conftest import ValkeyServer
from flask import Flask
from flask_limiter import Limiter
from proxy import Proxy
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_otp.testing import Clock

#: Seconds: what our clients wait at most, by default.
TIMEOUT = 0.25
HOUR = 3600

#: Status of each verb where nothing is amiss. Those that begin with ``otp`` are calls in Python, by the error's status.
USUAL = {
    "send": 200,
    "resend": 200,
    "verify right": 200,
    "verify wrong": 400,
    "guard": 200,
    "guard once": 200,
    "log out": 204,
    "otp.send": 200,
    "otp.verify": 200,
    "otp.revoke": 204,
}
DOWN = dict.fromkeys(USUAL, 503)
#: The store answers, and knows nothing of what was before.
FORGOTTEN = USUAL | {"resend": 400, "verify right": 400, "otp.verify": 400, "guard": 401, "guard once": 401}


class Backend(ABC):
    """A server of one kind behind a proxy, and an app's way to it."""

    #: Head of its column in the table.
    title: str
    verbs = tuple(USUAL)
    #: Found in each request that changes a subject's state, or else in the reply to it.
    charging: re.Pattern[bytes]
    proxy: Proxy

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The settings of an app that uses it."""

    def set_up(self, app: Flask) -> None:  # noqa: B027
        """What else the app needs, when it has its ``OTP``."""

    @abstractmethod
    def kill(self) -> None:
        """As ``kill -9`` does."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def empty(self) -> None:
        """Start again, with nothing left."""

    @abstractmethod
    def out_of_memory(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def read_only(self) -> AbstractContextManager[None]: ...

    @classmethod
    def adapt(cls, fault: Fault) -> Fault | None:
        """What it has of a fault; ``None`` where it cannot have it."""
        return fault


@dataclass(frozen=True)
class Site:
    """An app over a backend, and its clock."""

    backend: Backend
    app: Flask
    clock: Clock


@dataclass(frozen=True)
class Fault:
    """
    :param inject: the fault lasts as long as its context.
    :param answers: status of each verb meanwhile.
    :param charged: how often what was answered with 503 may have been counted, spent or ended all the same.
    :param seconds: every answer comes within this time.
    :param waits: answers take long, so that all verbs are tried at once.
    :param apart: each verb meets a fault of its own.
    """

    title: str
    inject: Callable[[Site], AbstractContextManager[object]]
    answers: Mapping[str, int] = field(default_factory=lambda: DOWN)
    charged: frozenset[int] = frozenset({0})
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


@contextmanager
def _scripts_forgotten(site: Site) -> Iterator[None]:
    backend = site.backend
    assert isinstance(backend, RedisBackend)
    backend.run("SCRIPT FLUSH")
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
_ONCE = frozenset({1})
_PERHAPS = frozenset({0, 1})

FAULTS = (
    Fault("refused", _refused, seconds=0.05),
    Fault("hung", _hung, charged=_PERHAPS, waits=True),
    Fault("slow: 100 ms", _slow(0.1), USUAL, seconds=4 * TIMEOUT, waits=True),
    Fault("slow: 400 ms", _slow(0.4), charged=_PERHAPS, waits=True),
    Fault("cut, reply lost", _lost("cut"), _READING, _ONCE),
    Fault("silent, reply lost", _lost("silence"), _READING, _ONCE, waits=True),
    Fault("killed after the charge", _killed, _READING, _ONCE, apart=True),
    Fault("cut while idle", _cut_while_idle, USUAL),
    Fault("out of memory", lambda site: site.backend.out_of_memory(), _STARVED),
    Fault("read-only replica", lambda site: site.backend.read_only(), _READING),
    Fault("script cache flushed", _scripts_forgotten, USUAL),
    Fault("restarted empty", _emptied, FORGOTTEN),
    Fault(
        "app's clock an hour back",
        _clock(-HOUR),
        USUAL | {"resend": 400, "verify right": 400, "otp.verify": 400, "guard": 401, "guard once": 401},
    ),
    Fault(
        "app's clock an hour ahead",
        _clock(HOUR),
        USUAL | {"resend": 400, "verify right": 400, "otp.verify": 400},
    ),
    Fault("server's clock an hour ahead", _server_clock_ahead, USUAL),
)


class RedisBackend(Backend):
    """One server for the store and for the limits. It writes its data down, as a site's server should."""

    title = "Redis"
    # A server that does not know the script has not run it.
    charging = re.compile(rb"\A(?!.*-NOSCRIPT).*EVAL.*otp:\{", re.DOTALL)

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.server = ValkeyServer(directory, "--appendonly", "yes", "--appendfsync", "always")
        self.start()
        stack.callback(self.kill)
        self.proxy = stack.enter_context(Proxy(self.server.port))

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.proxy.port}"

    def config(self) -> dict[str, Any]:
        return {"OTP_STORAGE_URI": self.uri}

    def kill(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server.start()

    def empty(self) -> None:
        self.run("FLUSHALL")
        self.kill()
        self.start()

    def run(self, *commands: str) -> None:
        with contextlib.closing(self.server.client()) as client:
            for command in commands:
                client.execute_command(*command.split())

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        self.run("CONFIG SET maxmemory 1")
        try:
            yield
        finally:
            self.run("CONFIG SET maxmemory 0")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """A replica whose master is gone: nobody listens at port 1."""
        self.run("REPLICAOF 127.0.0.1 1")
        try:
            yield
        finally:
            self.run("REPLICAOF NO ONE")


class LimiterBackend(RedisBackend):
    """A server for the app's own Flask-Limiter only. The store is well."""

    title = "limits only"
    # Without a network there is no limit but those of the whole site.
    verbs = tuple(verb for verb in USUAL if not verb.startswith("otp."))
    charging = re.compile(rb"EVAL.*LIMITER", re.DOTALL)

    def config(self) -> dict[str, Any]:
        return {"OTP_STORAGE_URI": "memory://"}

    def set_up(self, app: Flask) -> None:
        options: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
        options["retry"] = Retry(NoBackoff(), 0)
        Limiter(lambda: "anybody", app=app, storage_uri=self.uri, storage_options=options)

    @classmethod
    def adapt(cls, fault: Fault) -> Fault | None:
        if "clock" in fault.title:
            return None
        if fault.answers in (USUAL, FORGOTTEN):
            return replace(fault, answers=USUAL)
        # What needs no limit goes on, and what a limit stopped never came to the store.
        unlimited = {verb: USUAL[verb] for verb in ("guard", "guard once", "log out")}
        return replace(fault, answers=DOWN | unlimited, charged=frozenset({0}))


BACKENDS: tuple[type[RedisBackend], ...] = (RedisBackend, LimiterBackend)
