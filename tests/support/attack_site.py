"""A site over each store in turn, for those who attack it: run by several processes, called from many networks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_otp import OTP, Channel, Message
from flask_otp.testing import Clock, Outbox
from tests.support.backends import ClusterBackend, SentinelBackend

OWNER = "owner@example.com"
#: What is not attacked here, and would end an attack too soon.
WIDE = {"OTP_COOLDOWN": 0, "OTP_IP_SEND_LIMIT": None, "OTP_IP_VERIFY_LIMIT": None, "OTP_SURGE_LIMIT": "1000000/hour"}
STORES = [
    "memory",
    "sqlite",
    pytest.param("redis", marks=pytest.mark.server),
    *(
        pytest.param(name, marks=[pytest.mark.server, pytest.mark.long])
        for name in ("postgresql", "mariadb", "cluster", "sentinel")
    ),
]


class _Post(Channel):
    """Keeps the messages of all apps, in the order in which they were sent."""

    def __init__(self, sent: Outbox) -> None:
        self._sent = sent

    def deliver(self, message: Message) -> None:
        self._sent.append(message)


class Stage:
    """Where apps over one store are made, and all that they send is kept."""

    def __init__(self, clock: Clock, uri: str, stack: ExitStack) -> None:
        self.clock = clock
        self.uri = uri
        self.sent = Outbox()
        self._post = _Post(self.sent)
        self._stack = stack

    def app(self, otp: OTP | None = None, **config: Any) -> Flask:
        app = Flask("site")
        app.config.update(TESTING=True, SECRET_KEY="a secret that crooks do not know", OTP_STORAGE_URI=self.uri)
        app.config.update(WIDE | {"OTP_STORAGE_OPTIONS": self.options} | config)
        (otp or OTP(clock=self.clock)).init_app(app)
        app.extensions["otp"].store.prepare()
        app.extensions["otp"].delivery.transport.intercept = self._post
        return app

    def another(self, app: Flask, **config: Any) -> Flask:
        """A further process of the same site; with the memory store, there can be none."""
        return app if self.uri == "memory://" else self.app(**config)

    @property
    def options(self) -> dict[str, Any]:
        """Time-outs for a busy machine, and not for a site."""
        if self.uri == "memory://":
            return {}
        return {"socket_timeout" if self.uri.startswith("redis") else "timeout": 20}


def _uri(name: str, request: pytest.FixtureRequest, stack: ExitStack) -> str:
    if name == "memory":
        return "memory://"
    if name == "sqlite":
        path: Path = request.getfixturevalue("tmp_path")
        return f"sqlite:///{path / 'otp.db'}"
    if name in ("cluster", "sentinel"):
        kind = ClusterBackend if name == "cluster" else SentinelBackend
        return kind(request, stack).uri
    return str(request.getfixturevalue({"redis": "valkey"}.get(name, name)).uri)


@pytest.fixture(params=STORES)
def stage(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(clock, _uri(request.param, request, stack), stack)


class Caller:
    """A person on a network of their own: with a browser, or with a client that keeps no cookies."""

    _numbers = itertools.count(1)

    def __init__(self, app: Flask, *, browser: bool = False, network: str = "") -> None:
        number = next(self._numbers)
        self.client = app.test_client(use_cookies=browser)
        self.network = network or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        #: Of the newest challenge.
        self.handle = ""

    def post(self, path: str, **body: str) -> TestResponse:
        return self.client.post(f"/otp/{path}", json=body, environ_base={"REMOTE_ADDR": self.network})

    def send(self, who: str = OWNER, **body: str) -> TestResponse:
        answer = self.post("send", identifier=who, **body)
        if answer.status_code == 200:
            self.handle = answer.get_json()["challenge"]
        return answer

    def verify(self, code: str) -> TestResponse:
        return self.post("verify", code=code, challenge=self.handle)

    def guess(self, right: str, times: int = 1) -> None:
        """Wrong codes, each another one."""
        for number in range(times):
            guess = f"{(int(right) + 1 + number) % 10**6:06}" if len(right) == 6 else "A" * 13
            assert refused(self.verify(guess))


def refused(answer: TestResponse) -> bool:
    return answer.status_code == 400 and answer.get_json()["reason"] in ("invalid_code", "challenge_required")
