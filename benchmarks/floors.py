"""Floors: views that do only what no library could leave out, with our store and our limits, and nothing around it."""

from __future__ import annotations

import hmac
import secrets
import time

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from flask import Flask, Response, after_this_request, jsonify, request, session
from flask.typing import ResponseReturnValue

from flask_otp.errors import PAGE_HEADERS
from flask_otp.state import AppState
from flask_otp.stores import Attempt

from .people import POLICY

#: As a verification leaves the session: a proof and a secret.
_KEPT = {"proof": {"login": "x" * 166}, "secret": "y" * 24}
#: Of an answer that only this browser may see.
_PRIVATE = {"Cache-Control": "no-store"}


def add_floors(app: Flask, state: AppState) -> None:
    cipher, key = AESSIV(secrets.token_bytes(64)), secrets.token_bytes(32)
    sealed = cipher.encrypt(bytes(128), [b"handle"])

    @app.post("/floor/verify")
    def floor_verify() -> ResponseReturnValue:
        """JSON in, a sealed handle, the HMACs of subject, code and proof, the verb with the limits, JSON out."""
        asked, now = request.get_json(), int(time.time())
        cipher.decrypt(sealed, [b"handle"])
        for _ in range(3):
            hmac.digest(key, bytes(90), "sha256")
        entry = state.limits.enter_verify(request.remote_addr, state.store, is_short=True)
        attempt = Attempt(secrets.token_bytes(16), True, secrets.token_bytes(12), now + 1000)
        redeemed = entry.store.redeem(secrets.token_bytes(16), attempt, POLICY, now)
        return _with(jsonify(value=asked["key"], outcome=redeemed.outcome.name), PAGE_HEADERS)

    @app.post("/floor/verify/session")
    def floor_verify_in_session() -> ResponseReturnValue:
        session["_otp"] = _KEPT
        return floor_verify()

    @app.get("/floor/guarded")
    def floor_guarded() -> ResponseReturnValue:
        """The session is read, the store is asked unless it was lately, and the answer is private."""
        session.get("_otp")
        if not state.settings.revocation_lag:
            state.store.holds(secrets.token_bytes(16), secrets.token_bytes(12), int(time.time()))
        after_this_request(lambda response: _with(response, _PRIVATE))
        return "hello"


def _with(response: Response, headers: dict[str, str]) -> Response:
    for name, value in headers.items():
        response.headers.add(name, value)
    return response
