"""Of two requests of one browser, answered in either order, none takes what the other has got: on a site with apps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cachelib import FileSystemCache
from flask import Flask, request
from flask_session import Session
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from flask_otp import OTP, otp_required
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory
from tests.support.examples import examples
from tests.support.factor_site import HTML, Phone, Table, enrol
from tests.support.jar import Jar

POLL = {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
PHONE = "+4915112345678"
STEP = 30


class Office:
    """A site with passwords, apps, trusted browsers, and text messages beside e-mail."""

    def __init__(self, make_app: AppFactory, kind: str, directory: Path) -> None:
        self.clock = Clock()
        self.table = Table()
        otp = OTP(clock=self.clock)
        self.table.register(otp)
        # Not in the session: a session on the server ends with each verification, and a new one begins.
        otp.identifier_loader(lambda: request.cookies.get("user"))
        otp.recipient_loader(lambda identifier, channel: identifier if channel == "email" else PHONE)
        self.app: Flask = make_app(
            otp,
            OTP_DELIVERY="inline",
            OTP_CHANNELS={"email": lambda message: None, "sms": lambda message: None},
            OTP_SMS_COUNTRIES=("DE",),
            OTP_PURPOSES={"login": {}, "transfer": {}},
            OTP_COOLDOWN=0,
            OTP_SEND_LIMIT="1000/hour",
            OTP_RECIPIENT_LIMIT="1000/hour",
            OTP_IP_SEND_LIMIT=None,
            OTP_IP_VERIFY_LIMIT=None,
        )
        if kind == "server side":
            self.app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=FileSystemCache(str(directory)))
            Session(self.app)
        self.app.add_url_rule("/account", "account", otp_required(trust="30d")(lambda: "ok"))
        pay = otp_required(purpose="transfer", context=lambda: {"amount": request.values["amount"]})
        self.app.add_url_rule("/pay", "pay", pay(lambda: "paid"))

    def __repr__(self) -> str:
        return "<Office>"


class Person:
    """Someone with an app at one browser, signed in with a password."""

    _numbers = itertools.count(1)

    def __init__(self, office: Office, sent: Outbox) -> None:
        self.office, self.sent = office, sent
        self.jar = Jar(office.app)
        self.user = f"p{next(self._numbers)}@example.com"
        office.table.rows[self.user] = None
        self.phone, codes = enrol(office.app, office.clock, self.user)
        self.recovery_codes = list(codes)
        self.jar.cookies["user"] = self.user
        #: By the challenge's id: the page that needs it, its newest handle, and its code.
        self.asked: dict[bytes, tuple[str, str, str]] = {}
        self.verified: set[str] = set()
        self.is_trusted = False

    def page_of(self, purpose: str) -> str:
        return "/account" if purpose == "login" else "/pay?amount=1"

    def id_of(self, handle: str) -> bytes:
        loaded = self.office.app.extensions["otp"].tokens.load_handle(handle)
        assert loaded is not None
        return bytes(loaded.challenge_id)

    def send(self, purpose: str, channel: str = "email") -> Callable[[], TestResponse]:
        # With the requirement of its own page: the session may have that of another one.
        stranger = Jar(self.office.app)  # without what this browser has verified
        stranger.cookies["user"] = self.user
        refused = stranger.leave("GET", self.page_of(purpose), headers=POLL)
        requirement = refused.get_json(force=True)["requirement"]
        body = {"purpose": purpose, "channel": channel, "requirement": requirement}

        def leave() -> TestResponse:
            answer = self.jar.leave("POST", "/otp/send", json=body)
            assert answer.status_code == 200, answer.text
            handle = answer.get_json()["challenge"]
            code = self.sent.code if channel == "email" else ""
            self.asked.pop(self.id_of(handle), None)  # asked for again, it is the newest
            self.asked[self.id_of(handle)] = (self.page_of(purpose), handle, code)
            return answer

        return leave

    def newest(self, purpose: str, channel: str = "email") -> bytes:
        """Ask, and wait for the answer."""
        self.jar.arrive(self.send(purpose, channel)())
        return list(self.asked)[-1]

    def resend(self, purpose: str, **body: str) -> Callable[[], TestResponse]:
        id = self.newest(purpose)
        page, handle, code = self.asked[id]

        def leave() -> TestResponse:
            answer = self.jar.leave("POST", "/otp/resend", json={"challenge": handle} | body)
            # The other request of the pair may have used the challenge up.
            assert answer.status_code == (200 if id in self.asked else 400), answer.text
            if id in self.asked:
                self.asked[id] = (page, answer.get_json()["challenge"], code)
            return answer

        return leave

    def redeem(self, id: bytes, code: Callable[[], str], **more: str) -> Callable[[], TestResponse]:
        page, handle, _ = self.asked[id]

        def leave() -> TestResponse:
            data = {"challenge": handle, "code": code()} | more
            answer = self.jar.leave("POST", "/otp/verify", data=data, headers=HTML)
            if self.asked.pop(id, None) is None:  # the other request of the pair has used it up
                assert answer.status_code == 400
                return answer
            assert answer.status_code == 303, answer.text
            self.verified.add(page)
            self.is_trusted |= "trust" in more
            return answer

        return leave

    def verify(self, purpose: str) -> Callable[[], TestResponse]:
        id = self.newest(purpose)
        code = self.asked[id][2]
        return self.redeem(id, lambda: code)

    def by_app(self, purpose: str, **more: str) -> Callable[[], TestResponse]:
        return self.redeem(self.newest(purpose, "totp"), self.next_code, **more)

    def next_code(self) -> str:
        """Each code of the app is good for one use."""
        self.office.clock.advance(STEP)
        return self.phone.code()

    def by_recovery_code(self, purpose: str) -> Callable[[], TestResponse]:
        return self.redeem(self.newest(purpose, "recovery"), lambda: self.recovery_codes.pop())

    def add_app(self) -> Callable[[], TestResponse]:
        self.jar.arrive(self.by_app("login")())
        begun = self.jar.go("GET", "/otp/app").get_json()
        phone = Phone(begun["uri"], self.office.clock)
        body = {"enrolment": begun["enrolment"], "code": phone.code(), "name": f"app {next(self._numbers)}"}
        return self.change("/otp/app", body)

    def renew(self) -> Callable[[], TestResponse]:
        self.jar.arrive(self.by_app("login")())
        return self.change("/otp/recovery", {})

    def change(self, path: str, body: dict[str, str]) -> Callable[[], TestResponse]:
        def leave() -> TestResponse:
            answer = self.jar.leave("POST", path, json=body)
            if answer.status_code == 401:  # a code by e-mail has replaced the app's, in the other request of the pair
                return answer
            assert answer.status_code == 200, answer.text
            self.is_trusted = False  # a change of factors ends all trust
            self.recovery_codes = answer.get_json().get("recovery_codes", self.recovery_codes)
            return answer

        return leave

    def plain(self, path: str, headers: dict[str, str]) -> Callable[[], TestResponse]:
        return lambda: self.jar.leave("GET", path, headers=headers)

    def request(self, kind: str, purpose: str) -> Callable[[], TestResponse]:
        kinds: dict[str, Callable[[], Callable[[], TestResponse]]] = {
            "send": lambda: self.send(purpose),
            "resend": lambda: self.resend(purpose),
            "another channel": lambda: self.resend(purpose, channel="sms"),
            "verify": lambda: self.verify(purpose),
            "app": lambda: self.by_app(purpose),
            "trust": lambda: self.by_app("login", trust="yes"),
            "recovery code": lambda: self.by_recovery_code(purpose),
            "add an app": self.add_app,
            "new recovery codes": self.renew,
            "page of apps": lambda: self.plain("/otp/app", HTML),
            "navigation": lambda: self.plain(self.page_of(purpose), HTML),
            "poll": lambda: self.plain(self.page_of(purpose), POLL),
            "code page": lambda: self.plain(f"/otp/verify?purpose={purpose}", HTML),
        }
        return kinds[kind]()

    def held(self) -> set[bytes]:
        """The challenges that this browser's cookies name."""
        names = [value.split(".", 2)[2] for name, value in self.jar.cookies.items() if "_otp_c_" in name]
        return {self.id_of(handle) for handle in names}

    def has_lost_nothing(self) -> None:
        for page in self.verified:
            assert self.jar.go("GET", page, headers=HTML).status_code == 200, f"the proof for {page} is lost"
        if self.is_trusted:
            elsewhere = Jar(self.office.app)
            elsewhere.cookies = {name: self.jar.cookies[name] for name in ("user", "otp_trust")}
            assert elsewhere.go("GET", "/account", headers=POLL).status_code == 200, "the trust is lost"
        for id, (page, handle, code) in self.asked.items():
            assert id in self.held(), f"the challenge for {page} is lost"
            if code:
                answer = self.jar.go("POST", "/otp/verify", data={"challenge": handle, "code": code}, headers=HTML)
                assert answer.status_code == 303, answer.text
                assert self.jar.go("GET", page, headers=HTML).status_code == 200


#: A change of factors needs the app alone, and so no purpose.
KINDS = (
    *("send", "resend", "another channel", "verify", "app", "trust", "recovery code", "add an app"),
    *("new recovery codes", "page of apps", "navigation", "poll", "code page"),
)
requests = st.tuples(st.sampled_from(KINDS), st.sampled_from(["login", "transfer"]))


@pytest.fixture(params=["cookie", "server side"])
def office(request: pytest.FixtureRequest, make_app: AppFactory, tmp_path: Path) -> Office:
    return Office(make_app, request.param, tmp_path)


@examples(12, 400)
@given(before=st.lists(requests, max_size=1), pair=st.tuples(requests, requests), late_first=st.booleans())
def test_of_two_requests_none_takes_what_the_other_has_got(
    office: Office, before: list[Any], pair: tuple[Any, Any], late_first: bool
) -> None:
    with capture_codes(office.app) as sent:
        person = Person(office, sent)
        for kind, purpose in before:
            person.jar.arrive(person.request(kind, purpose)())
        # Both have left before either answer arrives.
        departures = [person.request(kind, purpose) for kind, purpose in pair]
        answers = [leave() for leave in departures]
        for answer in answers[::-1] if late_first else answers:
            person.jar.arrive(answer)
        person.has_lost_nothing()
