"""The guard's short way for the usual case lets in exactly what its long way lets in, and leaves the same behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from flask import Flask, Response
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from flask_otp import OTP, otp_required
from flask_otp.crypto.payloads import Proof
from flask_otp.guard import passing
from flask_otp.signals import guard_decided
from flask_otp.state import AppState
from flask_otp.stores.base import LEEWAY
from flask_otp.testing import Clock
from tests.support.apps import SECRET, START
from tests.support.examples import examples

ANN, BOB = "ann@example.com", "bob@example.com"


@dataclass(frozen=True)
class Held:
    """A proof that a client shows, and what has become of it."""

    purpose: str
    identifier: str
    channel: str
    is_bound: bool
    #: Seconds since it was verified, and until it expires.
    age: int
    left: int
    #: The store does not know it any more.
    is_ended: bool
    #: Where the client has it: its session, a cookie beside that, or ``Authorization``.
    place: str

    def proof(self, state: AppState, number: int) -> Proof:
        context = b"c" * 32 if self.is_bound else b""
        verified_at, expires_at = START - self.age, START + self.left
        keys = state.tokens.keys
        return Proof(
            bytes([number]) * 12, self.purpose, self.channel, context, verified_at, expires_at, self.identifier, keys
        )


USUAL = Held("login", ANN, "email", False, 10, 3600, False, "session")
#: Usual proofs as often as all others together.
held = st.sampled_from(["session", "cookie", "bearer"]).flatmap(
    lambda place: st.sampled_from(
        [
            *[replace(USUAL, place=place, identifier=who) for who in (ANN, ANN, BOB) for _ in range(4)],
            replace(USUAL, place=place, purpose="transfer"),
            replace(USUAL, place=place, channel="sms"),
            replace(USUAL, place=place, is_bound=True),
            replace(USUAL, place=place, is_ended=True),
            replace(USUAL, place=place, is_ended=True, identifier=BOB),
            *[replace(USUAL, place=place, age=age) for age in (300, 301, 5000, -1, -60)],
            *[replace(USUAL, place=place, left=left) for left in (1, 0, -1)],
        ]
    )
)
rules = st.sampled_from(
    [
        {},
        {"max_age": "5m"},
        {"channels": ("email",)},
        {"channels": ("sms",), "max_age": "5m"},
        {"purpose": "transfer"},
        {"context": lambda: {"amount": 1}},
        {"identifier": lambda: ANN},
        {"once": True},
    ]
)
requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]),
        "headers": st.sampled_from(
            [
                {},
                {"Accept": "text/html"},
                {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"},
                {"Accept": "text/html", "Sec-Fetch-Site": "cross-site"},
                {"Authorization": "Bearer nothing"},
            ]
        ),
    }
)
users = st.sampled_from(["no loader", "no loader", None, ANN, BOB])


def answer(proofs: list[Held], rule: dict[str, Any], asked: dict[str, Any], user: str | None, lag: int) -> Any:
    """What a guarded view answers in an app of its own, what it found verified, and what the session is after it."""
    app, told = Flask("site"), []
    app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://", OTP_REVOCATION_LAG=lag)
    app.config.update(OTP_PURPOSES={"login": {}, "transfer": {}}, OTP_CHANNELS={"email": [print], "sms": [print]})
    otp = OTP(app, clock=Clock(START))
    if user != "no loader":
        otp.identifier_loader(lambda: user)
    found: list[object] = []

    @app.route("/", methods=["GET", "POST"], provide_automatic_options=False)
    @otp_required(**rule)
    def view() -> Response:
        found.append(otp.verification(rule.get("purpose", "login")))
        return Response("in")

    client = app.test_client()
    with app.test_request_context():
        state = app.extensions["otp"]
        kept = {}
        for number, each in enumerate(proofs):
            proof = each.proof(state, number)
            token = state.tokens.dump_proof(proof)
            if not each.is_ended:
                state.store.note(proof.subject, proof.proof_id, START + 9000, START)
            if each.place == "session":
                kept[proof.purpose] = token
            elif each.place == "cookie":
                client.set_cookie(f"session_otp_p_{'AAAAAAA'}{number}", f"{START * 1000:x}..{token}")
            else:
                asked = asked | {"headers": asked["headers"] | {"Authorization": f"Bearer {token}"}}
    if kept:
        with client.session_transaction() as before:
            # A form that is kept, which the guard forgets when it lets it in.
            before["_otp"] = {"proof": kept, "secret": "s" * 24, "repeat": {"login": "a form"}}

    def hear(sender: object, **arguments: Any) -> None:
        told.append((arguments["event"].outcome, arguments["event"].reason, arguments["event"].subject))

    with guard_decided.connected_to(hear, app):
        given_back: TestResponse = client.open("/", **asked)
        again = client.open("/", **asked).status_code
    with client.session_transaction() as after:
        after.pop("_permanent", None)
        left = {kind: sorted(table) for kind, table in after.get("_otp", {}).items() if isinstance(table, dict)}
        proofs_left = after.get("_otp", {}).get("proof")
    headers = {name for name, _ in given_back.headers}
    vary = given_back.vary.to_header()
    return given_back.status_code, again, given_back.data[:2], headers, vary, found, told, left, proofs_left


@examples(100, 2000)
@given(st.lists(held, max_size=3), rules, requests, users, st.sampled_from([0, 10]))
def test_both_ways_agree(
    proofs: list[Held], rule: dict[str, Any], asked: dict[str, Any], user: str | None, lag: int
) -> None:
    short = answer(proofs, rule, asked, user, lag)
    way, passing._passes_at_once = passing._passes_at_once, lambda state, rule: False
    try:
        assert answer(proofs, rule, asked, user, lag) == short
    finally:
        passing._passes_at_once = way


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_usual_case_goes_the_short_way(monkeypatch: Any, method: str) -> None:
    monkeypatch.setattr(passing, "asked_by", None)
    status, *_ = answer([USUAL], {"max_age": "5m"}, {"method": method, "headers": {}}, "no loader", 0)
    assert status == 200


@pytest.mark.parametrize(
    ("changes", "rule", "user", "reason"),
    [
        ({"is_bound": True}, {}, "no loader", "context"),
        ({"identifier": BOB}, {"identifier": lambda: ANN}, "no loader", "identifier"),
        ({"identifier": BOB}, {}, ANN, "identifier"),
        ({"channel": "sms"}, {"channels": ("email",)}, "no loader", "channel"),
        ({"left": 0}, {}, "no loader", "expired"),
        ({"age": -LEEWAY - 1}, {}, "no loader", "expired"),
        ({"age": 301}, {"max_age": "5m"}, "no loader", "age"),
        ({"is_ended": True}, {}, "no loader", "ended"),
        ({"is_ended": True, "age": 300}, {"max_age": "5m"}, "no loader", "ended"),
        ({"is_ended": True, "age": -LEEWAY}, {}, "no loader", "ended"),
    ],
)
def test_a_refusal_says_why(changes: dict[str, Any], rule: dict[str, Any], user: str | None, reason: str) -> None:
    """Each proof has exactly one fault. A refusal with another reason would therefore be a mistake."""
    *_, told, _, _ = answer([replace(USUAL, **changes)], rule, {"method": "GET", "headers": {}}, user, 0)
    assert {(outcome, why) for outcome, why, _ in told} == {("refused", reason)}
    for near in ({"left": 1}, {"age": -LEEWAY}, {"age": 300}):
        if near.keys() == changes.keys():
            *_, told, _, _ = answer([replace(USUAL, **near)], rule, {"method": "GET", "headers": {}}, user, 0)
            assert told[0][0] == "passed"
