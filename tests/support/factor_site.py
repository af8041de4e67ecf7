"""A site whose people have authenticator apps: a table of users in memory, and phones that show codes."""

from __future__ import annotations

import hmac
import struct
import threading
from base64 import b32decode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask import Flask, request, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import OTP, otp_required
from flask_otp.testing import Clock

ANN, BOB = "ann@example.com", "bob@example.com"
HTML = {"Accept": "text/html"}

#: A column of ANN's, sealed by version 1 of the layout with the key of the tests: one app, and ten recovery codes.
SEALED = (
    "1.8nM99IzwyBg7TubfqNzAjy33JVpKYrnZn3FImGV6muwjUa-DVAJCcrxu8d5RdliH5swFogDfkqVZZIqXhRJUBfgAptytwe3ZDc"
    "B3D_dJh4GnjovG70xUzFAQUKmTu2IThw5gAPtwdhSDOp980nez87Yk67_CzE8iqCQB0Hfh3rCTFczAZOPOor6LF5KUxlEdBBXXI14"
)


def code_at(secret: str, now: float, steps: int = 0) -> str:
    """A code by the text of RFC 6238: HMAC-SHA-1, 30 seconds, six digits. It shares nothing with the package."""
    digest = hmac.digest(b32decode(secret), struct.pack(">Q", int(now) // 30 + steps), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


@dataclass
class Phone:
    """An authenticator app: it has nothing but what the QR code says, and a clock."""

    uri: str = field(repr=False)
    clock: Clock

    @property
    def secret(self) -> str:
        return parse_qs(urlsplit(self.uri).query)["secret"][0]

    def code(self, steps: int = 0) -> str:
        return code_at(self.secret, self.clock(), steps)

    def pair(self, steps: int = 0) -> str:
        """Two codes in a row, of which the second is shown now."""
        return self.code(steps - 1) + self.code(steps)

    def wrong(self) -> str:
        shown = {self.code(steps) for steps in range(-4, 5)}
        return next(f"{number:06d}" for number in range(10**6) if f"{number:06d}" not in shown)


class Table:
    """One column of the app's table of users, changed by compare and swap."""

    def __init__(self, *people: str) -> None:
        self.rows: dict[str, str | None] = dict.fromkeys(people)
        self.lock = threading.Lock()
        self.saves = 0

    def load(self, identifier: str) -> str | None:
        return self.rows.get(identifier)

    def save(self, identifier: str, new: str | None, old: str | None) -> bool:
        with self.lock:
            if identifier not in self.rows or self.rows[identifier] != old:
                return False
            self.rows[identifier] = new
            self.saves += 1
            return True

    def register(self, otp: OTP) -> None:
        otp.factors_loader(self.load)
        otp.factors_saver(self.save)


def make_otp(clock: Clock, table: Table) -> OTP:
    """An ``OTP`` of a site with passwords: ``session["user"]`` says who has signed in with one."""
    otp = OTP(clock=clock)
    table.register(otp)
    otp.identifier_loader(lambda: session.get("user"))
    otp.recipient_loader(lambda identifier, channel: identifier if identifier in table.rows else None)
    return otp


def add_views(app: Flask, **guards: dict[str, Any]) -> None:
    """``POST /password`` signs in; further views by name, each behind ``@otp_required`` with these arguments."""

    def password() -> str:
        session["user"] = request.form["user"]
        return "ok"

    app.add_url_rule("/password", view_func=password, methods=["POST"])
    for name, options in guards.items():
        app.add_url_rule(f"/{name}", name, otp_required(**options)(lambda: "welcome"))


class Browser:
    """A client of such a site, in JSON."""

    def __init__(self, app: Flask, user: str | None = None, network: str = "192.0.2.1") -> None:
        self.client: FlaskClient = app.test_client()
        self.network = {"REMOTE_ADDR": network}
        if user is not None:
            self.client.post("/password", data={"user": user}, environ_base=self.network)

    def post(self, path: str, **body: Any) -> TestResponse:
        return self.client.post(f"/otp/{path}", json=body, environ_base=self.network)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, environ_base=self.network, **options)

    def send(self, channel: str = "totp", **body: Any) -> TestResponse:
        return self.post("send", channel=channel, **body)

    def verify(self, code: str, **body: Any) -> TestResponse:
        return self.post("verify", code=code, **body)


def enrol(app: Flask, clock: Clock, identifier: str = ANN, name: str = "phone") -> tuple[Phone, tuple[str, ...]]:
    """Add an app in Python. The clock is left where the confirming code is used already."""
    otp = OTP()
    with app.app_context():
        enrolment = otp.totp.begin(identifier, name)
        phone = Phone(enrolment.uri, clock)
        codes = otp.totp.confirm(enrolment.token, phone.code())
    clock.advance(60)
    return phone, codes
