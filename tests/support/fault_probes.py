"""People at a site: what they do, and what can be seen of it afterwards."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_otp import OTP, otp_required
from flask_otp.errors import OTPError
from flask_otp.stores import Attempt, Claim, Policy, RedeemOutcome, RedeemResult
from flask_otp.testing import Clock, Outbox
from tests.support.apps import SECRET, START
from tests.support.backends import TIMEOUT, Backend
from tests.support.factor_site import Phone, Table
from tests.support.faults import USUAL, Fault, Site

#: Of the policy that the sites here have: the defaults, but without a cooldown.
MESSAGES = 5
ATTEMPTS = 5
BUDGET = 20

_numbers = itertools.count(1)


def make_site(backend: Backend, **config: Any) -> Site:
    """An app with a guarded view, and one that each verification opens once."""
    clock = Clock(START)
    app = Flask("site")
    app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_COOLDOWN=0, OTP_SURGE_LIMIT="1000000/hour")
    app.config.update(backend.config() | config)
    otp = OTP(app, clock=clock)
    Everybody().register(otp)
    backend.set_up(app)
    app.add_url_rule("/account", "account", otp_required(lambda: "ok"))
    app.add_url_rule("/once", "once", otp_required(once=True)(lambda: "ok"))
    return Site(backend, app, clock)


class Everybody(Table):
    """A table of users that has every requested person."""

    def save(self, identifier: str, new: str | None, old: str | None) -> bool:
        self.rows.setdefault(identifier, None)
        return super().save(identifier, new, old)


@dataclass
class Answer:
    status: int
    reason: str | None = None
    retry_after: int | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, response: TestResponse) -> Answer:
        body = response.json if response.is_json and response.status_code >= 400 else {}
        if body:
            assert response.headers.get("Retry-After", type=int) == body.get("retry_after")
        return cls(response.status_code, body.get("reason"), body.get("retry_after"))


class Busy(Exception):
    """The store was given up for being late where nothing was amiss: the machine was busy, and nothing is shown."""


class Visitor:
    """A person with a network and an address of their own. The messages they got are in the ``outbox``."""

    #: The site has no fault now. A late answer then means that the machine is busy, and :class:`Busy` is raised.
    at_peace = False

    def __init__(self, site: Site, outbox: Outbox) -> None:
        number = next(_numbers)
        self.site = site
        self.outbox = outbox
        self.address = f"visitor{number}@example.com"
        self.network = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self.client = site.app.test_client()
        self.handle = ""
        #: The app's one, and one that it never shows.
        self.right_and_wrong = ("", "")

    def enrol(self) -> None:
        """Get an app, with an expired code, and ask for the next."""
        otp = OTP()
        with self.site.app.app_context():
            enrolment = otp.totp.begin(self.address, "phone")
            phone = Phone(enrolment.uri, self.site.clock)
            otp.totp.confirm(enrolment.token, phone.code(-1))
        self.right_and_wrong = phone.code(), phone.wrong()
        assert self.post("send", identifier=self.address, channel="totp").status == 200

    def app_right(self) -> Answer:
        return self.post("verify", code=self.right_and_wrong[0], challenge=self.handle)

    def app_wrong(self) -> Answer:
        return self.post("verify", code=self.right_and_wrong[1], challenge=self.handle)

    @property
    def codes(self) -> list[str]:
        return [message.code for message in self.outbox if message.recipient == self.address]

    def _timed(self, act: Callable[[], Answer]) -> Answer:
        start = time.perf_counter()
        answer = act()
        answer.seconds = time.perf_counter() - start
        if self.at_peace and answer.status == 503 and answer.seconds >= TIMEOUT:
            raise Busy
        return answer

    def post(self, path: str, **body: str) -> Answer:
        return self._timed(lambda: self._post(path, body))

    def _post(self, path: str, body: dict[str, str]) -> Answer:
        answer = self.client.post(f"/otp/{path}", json=body, environ_base={"REMOTE_ADDR": self.network})
        self.handle = answer.json["challenge"] if path == "send" and answer.status_code == 200 else self.handle
        return Answer.of(answer)

    def get(self, path: str) -> Answer:
        return self._timed(lambda: Answer.of(self.client.get(path)))

    def send(self) -> Answer:
        return self.post("send", identifier=self.address)

    def right(self) -> Answer:
        return self.post("verify", code=self.codes[-1], challenge=self.handle)

    def wrong(self) -> Answer:
        return self.post("verify", code="111111" if self.codes[-1] == "000000" else "000000", challenge=self.handle)

    def call(self, function: Callable[[OTP], object], done: int) -> Answer:
        """A call in Python, outside of any request."""
        return self._timed(lambda: self._call(function, done))

    def _call(self, function: Callable[[OTP], object], done: int) -> Answer:
        with self.site.app.app_context():
            try:
                function(OTP())
            except OTPError as error:
                return Answer(error.code, error.reason, error.retry_after)
        return Answer(done)

    # For the books

    def messages_left(self, send: Callable[[Visitor], Answer]) -> int:
        """How many more they may have in this hour. Takes them, each from a browser that was never here."""
        taken = -1
        status = 200
        while status == 200:
            taken += 1
            self.client = self.site.app.test_client()
            status = send(self).status
        assert status == 429
        return taken

    def attempts_left(self) -> int:
        """How many more wrong codes would be compared. Takes them."""
        state = self.site.app.extensions["otp"]
        handle = state.tokens.load_handle(self.handle)
        policy: Policy = state.service._policies["login"]
        attempt = Attempt(handle.challenge_id, False, b"", 0)
        now = int(self.site.clock())
        return self._compared(ATTEMPTS + 1, lambda: state.store.redeem(handle.subject, attempt, policy, now))

    def budget_left(self) -> int:
        """How many more wrong codes of the app would be compared. Takes them."""
        state = self.site.app.extensions["otp"]
        handle = state.tokens.load_handle(self.handle)
        policy: Policy = state.service._policies["login"]
        now = int(self.site.clock())
        return self._compared(BUDGET + 1, lambda: state.store.check(handle.subject, Claim(False), policy, now))

    def _compared(self, times: int, guess: Callable[[], RedeemResult]) -> int:
        outcomes: list[RedeemOutcome] = []
        answers = [self.call(lambda otp: outcomes.append(guess().outcome), 200) for _ in range(times)]
        assert [answer.status for answer in answers] == [200] * times
        return outcomes.count(RedeemOutcome.WRONG)


VERBS: dict[str, Callable[[Visitor], Answer]] = {
    "send": Visitor.send,
    "resend": lambda visitor: visitor.post("resend"),
    "verify right": Visitor.right,
    "verify wrong": Visitor.wrong,
    "app right": Visitor.app_right,
    "app wrong": Visitor.app_wrong,
    "guard": lambda visitor: visitor.get("/account"),
    "guard once": lambda visitor: visitor.get("/once"),
    "log out": lambda visitor: visitor.post("logout"),
    "otp.send": lambda visitor: visitor.call(lambda otp: otp.send(visitor.address), 200),
    "otp.verify": lambda visitor: visitor.call(
        lambda otp: otp.verify(visitor.codes[-1], challenge=visitor.handle), 200
    ),
    "otp.revoke": lambda visitor: visitor.call(lambda otp: otp.revoke(visitor.address), 204),
}
assert VERBS.keys() == USUAL.keys()


def prepared(site: Site, outbox: Outbox, verb: str) -> Visitor:
    """A visitor who has done all that comes before the verb."""
    visitor = Visitor(site, outbox)
    visitor.at_peace = True
    if verb.startswith("app"):
        visitor.enrol()
        return visitor
    if verb.endswith("send") and verb != "resend":
        return visitor
    assert visitor.send().status == 200
    if verb.startswith("guard") or verb in ("log out", "otp.revoke"):
        assert visitor.right().status == 200
    return visitor


# What came of a verb, seen after the fault: how often it was charged beyond what its answer says.


def after_sending(
    fault: Fault, answer: Answer, visitor: Visitor, before: int = 0, send: Callable[[Visitor], Answer] = Visitor.send
) -> int:
    """No message went out for a challenge that was not saved."""
    sent = int(answer.status == 200)
    assert len(visitor.codes) == before + sent
    return MESSAGES - before - sent - visitor.messages_left(send)


def after_right(
    fault: Fault, answer: Answer, visitor: Visitor, right: Callable[[Visitor], Answer] = Visitor.right
) -> int:
    later = [right(visitor).status for _ in range(2)]
    passed = [answer.status, *later].count(200)
    assert set(later) <= {200, 400}, later
    assert passed <= 1
    if answer.status != 200:
        assert (visitor.get("/account").status == 200) is (200 in later)
    return 1 - passed


def after_wrong(fault: Fault, answer: Answer, visitor: Visitor) -> int:
    return ATTEMPTS - visitor.attempts_left()


def after_app_wrong(fault: Fault, answer: Answer, visitor: Visitor) -> int:
    return BUDGET - visitor.budget_left()


def after_guard(fault: Fault, answer: Answer, visitor: Visitor) -> int:
    assert visitor.get("/account").status == (401 if fault.forgets else 200)
    return 0


def after_once(fault: Fault, answer: Answer, visitor: Visitor) -> int:
    later = [visitor.get("/once").status for _ in range(2)]
    passed = [answer.status, *later].count(200)
    assert set(later) <= {200, 401}, later
    assert passed <= 1
    return 1 - passed


def after_ending(fault: Fault, answer: Answer, visitor: Visitor) -> int:
    """If signing out failed, it can be repeated. If it succeeded, the visitor is signed out."""
    ended = visitor.get("/account").status == 401
    assert ended or answer.status == 503
    assert visitor.post("logout").status == 204
    assert visitor.get("/account").status == 401
    return int(ended)


AFTER: dict[str, Callable[[Fault, Answer, Visitor], int]] = {
    "send": after_sending,
    "resend": partial(after_sending, before=1),
    "verify right": after_right,
    "verify wrong": after_wrong,
    "app right": partial(after_right, right=Visitor.app_right),
    "app wrong": after_app_wrong,
    "guard": after_guard,
    "guard once": after_once,
    "log out": after_ending,
    "otp.send": partial(after_sending, send=VERBS["otp.send"]),
    "otp.verify": after_right,
    "otp.revoke": after_ending,
}
