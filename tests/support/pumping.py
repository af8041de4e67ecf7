"""A site that sends text messages, and crowds who ask for them: honest people, and those who pump numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from heapq import heappop, heappush
from math import log
from typing import Any
from zlib import crc32

from flask import Flask

from flask_otp import Challenge
from flask_otp.crypto.payloads import Client, Handle, KnownBrowser
from flask_otp.testing import Clock, Outbox
from tests.support.apps import START

MINIMUM, COUNTRY_MINIMUM = 30, 100
HOUR = 3600
BLOCK = "+491511234"

#: With one purpose's limits out of the way: what is tried here stops before them, or would.
CONFIG: dict[str, Any] = {"OTP_SMS_COUNTRIES": ["DE"], "OTP_COOLDOWN": 0, "OTP_IP_SEND_LIMIT": None}


def german(number: int, block: int = 1234) -> str:
    return f"+49151{block:04d}{number:04d}"


class Town:
    """A site that sends text messages, and the people who ask for them: each from a network of their own."""

    def __init__(self, app: Flask, outbox: Outbox, clock: Clock) -> None:
        self.app = app
        self.outbox = outbox
        self.clock = clock
        self.state = app.extensions["otp"]
        self.service = self.state.service
        self._networks = iter(range(1, 1 << 24))

    def ask(self, phone: str, channel: str | None = None, **client: Any) -> Challenge:
        number = next(self._networks)
        network = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        client = {"network": network} | client
        challenge: Challenge = self.service.send(
            phone,
            channel=channel,
            purpose="login",
            context=b"",
            context_values=None,
            client=Client(**client),
            is_typed=True,
        )
        return challenge

    def is_sent(self, phone: str, **client: Any) -> bool:
        """Ask, and say whether a message went out."""
        before = len(self.outbox)
        self.ask(phone, **client)
        return len(self.outbox) > before

    def handle(self, challenge: Challenge) -> Handle:
        handle: Handle = self.state.tokens.load_handle(challenge.handle)
        return handle

    def type(self, challenge: Challenge) -> KnownBrowser:
        """Type the code that came, and be a known browser from then on."""
        code = self.outbox.code_for(self.handle(challenge).identifier)
        proof = self.service.verify(code, challenge.handle, purpose=None, network=None).proof
        return KnownBrowser(proof.subject, b"bucket", int(self.clock() * 1000))

    def fill(self, count: int, block: int = 1234) -> list[Challenge]:
        """So many ask for messages to one range."""
        return [self.ask(german(number, block)) for number in range(count)]


def start_of_window(name: str) -> int:
    """A moment when the range has its minimum, and nothing more: what the worst figures are from."""
    return START - (START + crc32(f"sms/{name}".encode())) % HOUR


class Crowd:
    """Many people in little time: what counts their messages, without the site around it.

    :param start: what their time is counted from.
    """

    def __init__(self, town: Town, start: int) -> None:
        self._pumping = town.state.sms_pumping
        self._handle = town.handle(town.ask(german(0, block=9999)))
        self._start = start
        self._codes: list[tuple[float, str]] = []
        self.asked = self.withheld = 0
        #: When the last message was withheld.
        self.last = 0.0

    def ask(self, phone: str, now: float, verified_at: float | None = None) -> bool:
        """Ask, and type the code later if it came."""
        while self._codes and self._codes[0][0] <= now:
            at, owner = heappop(self._codes)
            self._pumping.count_verified(self._to(owner), self._start + int(at))
        admitted: bool = self._pumping.admits(phone, self._to(phone), known=False, now=self._start + int(now))
        if admitted and verified_at is not None:
            heappush(self._codes, (verified_at, phone))
        return admitted

    def _to(self, phone: str) -> Handle:
        return replace(self._handle, numbers=self._pumping.numbers(phone))

    def ask_honestly(self, phone: str, now: float, chance: float, luck: random.Random) -> None:
        """As people do: some never type the code; of the others half do within 20 seconds, and 44 of 45 within 90."""
        seconds = min(300, luck.lognormvariate(log(20), 0.75))
        self.asked += 1
        if not self.ask(phone, now, now + seconds if luck.random() < chance else None):
            self.withheld += 1
            self.last = now


def arrivals(rate: float, until: float, luck: random.Random) -> Iterator[float]:
    now = luck.expovariate(rate)
    while now < until:
        yield now
        now += luck.expovariate(rate)
