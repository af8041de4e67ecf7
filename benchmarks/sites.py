"""The apps that are measured: ours and the naive one beside each other, and a reference view that both are held to."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from typing import Any

import redis
from flask import Flask, jsonify, request, session
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from flask_otp import OTP, Message, otp_required

from .servers import PATIENCE
from .traffic import Answer, Request, Traffic, Way, call, post

#: Never reached: what is measured is the counting.
_HIGH = "100000000/hour"


def our_way(*, keeps_cookies: bool = False, **more: object) -> Way:
    """``session=False``, for a client that keeps the handle itself."""

    def verify(email: str, code: str, sent: Answer) -> Request:
        return post("/otp/verify", code=code, challenge=json.loads(sent.body)["challenge"], **more)

    return Way(lambda email: post("/otp/send", email=email, **more), verify, keeps_cookies=keeps_cookies)


def way_by_hand(where: str) -> Way:
    """``naive``, ``limited`` or ``in-session``."""
    return Way(
        lambda email: post(f"/{where}/send", email=email),
        lambda email, code, sent: post(f"/{where}/verify", email=email, code=code),
        keeps_cookies=where == "in-session",
    )


class Site:
    """An app, and the codes that it sent.

    :param storage_uri: of the store under test; ``None``: no OTP at all.
    :param redis_uri: of the reference view, the naive ones, and the Limiter.
    :param limiter: the app has a Flask-Limiter.
    :param codes: where codes go; by default into a list.
    :param settings: of the OTP. The limits of networks have their defaults.
    """

    def __init__(
        self, storage_uri: str | None, redis_uri: str, *, limiter: bool = False, codes: Any = None, **settings: object
    ) -> None:
        self.codes: Any = [] if codes is None else codes
        self.app = Flask("site")
        self.app.config.update(SECRET_KEY="a secret that is only for benchmarks")
        self.redis = redis.Redis.from_url(redis_uri)
        self._add_plain_views()
        self._add_naive_views(Limiter(get_remote_address, app=self.app, storage_uri=redis_uri) if limiter else None)
        if storage_uri is not None:
            self.app.config.update(
                OTP_STORAGE_URI=storage_uri,
                OTP_STORAGE_OPTIONS=PATIENCE if storage_uri.startswith("redis") else {},
                OTP_REVOCATION_LAG=0,
                OTP_CHANNELS={"email": self._deliver},
                # Thousands of wrong codes are a surge, in which the right ones of strangers would be refused.
                OTP_SURGE_LIMIT=_HIGH,
            )
            self.app.config.update(settings)
            self._add_otp(OTP(self.app))
        self.state: Any = self.app.extensions.get("otp")

    def traffic(self, way: Way) -> Traffic:
        return Traffic(lambda request: call(self.app, request), way, self.codes)

    def verified_cookie(self) -> str:
        """The cookies of a browser that has verified."""
        return call(self.app, self.traffic(our_way()).enter()).cookies

    def _deliver(self, message: Message) -> None:
        self.codes.append(message.code)

    def _add_otp(self, otp: OTP) -> None:
        @self.app.get("/guarded")
        @otp_required
        def guarded() -> ResponseReturnValue:
            return "hello"

        @self.app.get("/who")
        def who() -> ResponseReturnValue:
            proven = otp.verification()
            return proven.identifier if proven else session.get("email", "")

    def _add_plain_views(self) -> None:
        self.app.add_url_rule("/plain", "plain", lambda: "hello")

        @self.app.post("/reference")
        def reference() -> ResponseReturnValue:
            """JSON in, one Redis GET, JSON out: the least that a view with a store does."""
            return jsonify(value=self.redis.get(request.get_json()["key"]) is not None)

        @self.app.get("/session")
        def read_session() -> ResponseReturnValue:
            session.get("_otp")
            return "hello"

    def _add_naive_views(self, limiter: Limiter | None) -> None:
        """The code that people write without a library: in Redis, or in the session."""

        def new_code() -> str:
            code = f"{secrets.randbelow(10**6):06d}"
            self.codes.append(code)
            return code

        def send() -> ResponseReturnValue:
            self.redis.set("naive:" + request.get_json()["email"], new_code(), ex=300)
            return jsonify(sent=True)

        def verify() -> ResponseReturnValue:
            data = request.get_json()
            key = "naive:" + data["email"]
            code = self.redis.get(key)
            if code is None or not hmac.compare_digest(code, data["code"].encode()):
                return jsonify(error="wrong"), 400
            self.redis.delete(key)
            session["email"] = data["email"]
            return jsonify(verified=True)

        def send_in_session() -> ResponseReturnValue:
            session["code"] = new_code()
            return jsonify(sent=True)

        def verify_in_session() -> ResponseReturnValue:
            data = request.get_json()
            if not hmac.compare_digest(session.pop("code", ""), data["code"]):
                return jsonify(error="wrong"), 400
            session["email"] = data["email"]
            return jsonify(verified=True)

        views = {"naive/send": send, "naive/verify": verify}
        views |= {"in-session/send": send_in_session, "in-session/verify": verify_in_session}
        if limiter is not None:
            views |= {"limited/send": _limited(limiter, send), "limited/verify": _limited(limiter, verify)}
        for path, view in views.items():
            self.app.add_url_rule(f"/{path}", path, view, methods=["POST"])


def _limited(limiter: Limiter, view: Any) -> Any:
    """With the three limits that the tutorials put on such a view: two of the network, one of the person."""
    for rule, key in ((_HIGH, None), ("90000000/day", None), (_HIGH, lambda: request.get_json()["email"])):
        view = limiter.limit(rule, key_func=key)(view)
    return view


class Mailbox:
    """Codes that the workers of another process sent, in Redis."""

    def __init__(self, uri: str) -> None:
        self._client = redis.Redis.from_url(uri)

    def append(self, code: str) -> None:
        self._client.rpush("mailbox", code)

    def pop(self) -> str:
        code = self._client.rpop("mailbox")
        assert isinstance(code, bytes)
        return code.decode()


def create_app() -> Flask:
    """For gunicorn: our site."""
    uri = os.environ["BENCHMARK_URI"]
    # All clients are on one network: its limits are counted, and never reached.
    return Site(uri, uri, codes=Mailbox(uri), OTP_IP_SEND_LIMIT=_HIGH, OTP_IP_VERIFY_LIMIT=_HIGH).app
