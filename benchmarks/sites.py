"""The apps that are measured: ours and the naive one beside each other, and a reference view that both are held to."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Any

import redis
from flask import Flask, jsonify, request, session
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from flask_otp import OTP, Message, otp_required
from flask_otp.observability.otel import instrument
from flask_otp.state import AppState

from .floors import add_floors
from .servers import keep, patience

#: Never reached: what is measured is the counting.
_HIGH = "100000000/hour"


@dataclass(frozen=True)
class Plan:
    """What an app has.

    :param storage_uri: of the store under test; ``None``: no OTP at all.
    :param redis_uri: of the reference view, the naive ones, and the Limiter.
    :param limiter: the app has a Flask-Limiter.
    :param rules: our network limits are at their defaults; else they are off.
    :param lag: ``OTP_REVOCATION_LAG`` in seconds.
    :param high: our network limits are so high that nobody reaches them.
    :param otel: the app calls ``instrument``, and the process has no SDK of OpenTelemetry.
    """

    storage_uri: str | None
    redis_uri: str
    limiter: bool = True
    rules: bool = False
    lag: int = 0
    high: bool = False
    otel: bool = False


class Site:
    """An app by its plan, and the messages that it sent."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.codes: list[str] = []
        self.app = Flask("site")
        self.app.config.update(SECRET_KEY="a secret that is only for benchmarks")
        self.redis = redis.Redis.from_url(plan.redis_uri)
        self.limiter = Limiter(get_remote_address, app=self.app, storage_uri=plan.redis_uri) if plan.limiter else None
        self._add_plain_views()
        self._add_naive_views()
        self.otp = self._add_otp(plan.storage_uri) if plan.storage_uri else None

    def _add_otp(self, storage_uri: str) -> OTP:
        self.app.config.update(
            OTP_STORAGE_URI=storage_uri,
            OTP_STORAGE_OPTIONS=patience(storage_uri),
            OTP_REVOCATION_LAG=self.plan.lag,
            OTP_CHANNELS={"email": self._deliver},
            # Thousands of wrong codes are a surge, in which the right ones of strangers would be refused.
            OTP_SURGE_LIMIT=_HIGH,
        )
        if not self.plan.rules:
            self.app.config.update(OTP_IP_SEND_LIMIT=None, OTP_IP_VERIFY_LIMIT=None)
        if self.plan.high:
            self.app.config.update(OTP_IP_SEND_LIMIT=_HIGH, OTP_IP_VERIFY_LIMIT=_HIGH)
        otp = OTP(self.app)
        if self.plan.otel:
            instrument(self.app)
        state = self.app.extensions["otp"]
        assert isinstance(state, AppState)
        keep(state.store)
        add_floors(self.app, state)

        @self.app.get("/guarded")
        @otp_required
        def guarded() -> ResponseReturnValue:
            return "hello"

        return otp

    def _deliver(self, message: Message) -> None:
        self.codes.append(message.code)

    def _add_plain_views(self) -> None:
        client = self.redis

        @self.app.post("/reference")
        def reference() -> ResponseReturnValue:
            """JSON in, one Redis GET, JSON out: the least that a view with a store does."""
            return jsonify(value=client.get(request.get_json()["key"]) is not None)

        @self.app.get("/plain")
        def plain() -> ResponseReturnValue:
            return "hello"

        @self.app.get("/session")
        def read_session() -> ResponseReturnValue:
            session.get("_otp")
            return "hello"

    def _add_naive_views(self) -> None:
        """The code that people write without a library."""
        client = self.redis

        def send() -> ResponseReturnValue:
            code = f"{secrets.randbelow(10**6):06d}"
            client.set("naive:" + request.get_json()["email"], code, ex=300)
            return jsonify(sent=True)

        def verify() -> ResponseReturnValue:
            data = request.get_json()
            key = "naive:" + data["email"]
            code = client.get(key)
            if code is None or not hmac.compare_digest(code, data["code"].encode()):
                return jsonify(error="wrong"), 400
            client.delete(key)
            session["email"] = data["email"]
            return jsonify(verified=True)

        for name, view in (("send", send), ("verify", verify)):
            self.app.add_url_rule(f"/naive/{name}", f"naive_{name}", view, methods=["POST"])
            if self.limiter is not None:
                self.app.add_url_rule(f"/limited/{name}", f"limited_{name}", self._limited(view), methods=["POST"])

    def _limited(self, view: Any) -> Any:
        """With the three limits that the tutorials put on such a view: two of the network, one of the person."""
        assert self.limiter is not None

        def email() -> str:
            return str(request.get_json()["email"])

        for rule, key in ((_HIGH, None), ("90000000/day", None), (_HIGH, email)):
            view = self.limiter.limit(rule, key_func=key)(view)
        return view
