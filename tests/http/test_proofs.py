"""Proofs as API clients hold them: what they are bound to, how they are refused, and how keys rotate (R26, R41)."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from itsdangerous import URLSafeSerializer, URLSafeTimedSerializer

from flask_otp import OTP, current_verification, otp_required
from flask_otp.events import pseudonym
from flask_otp.http import actions
from flask_otp.signals import guard_decided
from flask_otp.stores.memory import MemoryStore
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import SECRET, AppFactory, ValkeyServer

ANN = "ann@example.com"
BOB = "bob@example.com"
OLD = "the key from before the rotation"
NEW = "the key from after the rotation"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
    "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
)


def guarded(app: Flask) -> Flask:
    @app.get("/account")
    @otp_required
    def account() -> str:
        # A proof that ends while the view runs ends for the view, too.
        return current_verification.identifier if current_verification else "ended"

    @app.get("/vault")
    @otp_required(identifier=lambda: request.args["owner"])
    def vault() -> str:
        return "in"

    return app


def with_transfers(app: Flask) -> Flask:
    @app.get("/transfer")
    @otp_required(purpose="transfer", context=lambda: request.args.get("amount", type=int))
    def transfer() -> str:
        return "in"

    return guarded(app)


@pytest.fixture
def site(make_app: AppFactory) -> Flask:
    return with_transfers(make_app(OTP_COOLDOWN=0, OTP_PURPOSES={"login": {}, "transfer": {}}))


@pytest.fixture
def codes(site: Flask) -> Iterator[Outbox]:
    with capture_codes(site) as outbox:
        yield outbox


def ask(app: Flask, identifier: str = ANN, **body: Any) -> str:
    answer = app.test_client().post("/otp/send", json={"identifier": identifier, **body})
    assert answer.status_code == 200
    return str(answer.json["challenge"])  # type: ignore[index]


def verify(app: Flask, code: str, handle: str) -> Any:
    return app.test_client().post("/otp/verify", json={"code": code, "challenge": handle})


def new_proof(app: Flask, identifier: str = ANN, **body: Any) -> str:
    with capture_codes(app) as outbox:
        handle = ask(app, identifier, **body)
        return str(verify(app, outbox.code, handle).json["proof"])


def status(app: Flask, proof: str, path: str = "/account") -> int:
    return app.test_client().get(path, headers={"Authorization": f"Bearer {proof}"}).status_code


# What a proof is bound to


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_a_proof_passes_as_bearer_token(site: Flask, scheme: str) -> None:
    proof = new_proof(site)
    answer = site.test_client().get("/account", headers={"Authorization": scheme + proof})
    assert (answer.status_code, answer.text) == (200, ANN)


def test_a_bearer_proof_leaves_nothing_in_the_session(site: Flask) -> None:
    proof = new_proof(site)
    client = site.test_client()
    assert client.get("/account", headers={"Authorization": f"Bearer {proof}"}).status_code == 200
    assert client.get("/account").status_code == 401


@pytest.mark.parametrize(
    "changed", [{"OTP_KEY_PREFIX": "other"}, {"SECRET_KEY": SECRET + "2"}, {"SECRET_KEY": SECRET[:-1]}], ids=repr
)
def test_r26_a_proof_of_another_app_on_the_same_store_is_refused(
    make_app: AppFactory, valkey: ValkeyServer, changed: dict[str, str]
) -> None:
    here = guarded(make_app(OTP_STORAGE_URI=valkey.uri))
    there = guarded(make_app(**({"OTP_STORAGE_URI": valkey.uri} | changed)))
    proof = new_proof(there)
    assert status(there, proof) == 200
    assert status(here, proof) == 401


def test_r26_a_proof_of_another_purpose_is_refused(site: Flask) -> None:
    assert status(site, new_proof(site, purpose="transfer")) == 401
    assert status(site, new_proof(site), "/transfer?amount=5") == 401


def requirement_for(site: Flask, amount: object) -> str:
    return str(site.test_client().get(f"/transfer?amount={amount}").get_json(force=True)["requirement"])


def test_r12_a_proof_passes_its_own_context_only(site: Flask) -> None:
    proof = new_proof(site, requirement=requirement_for(site, 5))
    assert status(site, proof, "/transfer?amount=5") == 200
    assert status(site, proof, "/transfer?amount=6") == 401
    assert status(site, proof, "/transfer?amount=50") == 401
    assert status(site, proof, "/account") == 401


def test_r12_a_proof_without_context_never_passes_a_guard_with_one(site: Flask) -> None:
    proof = new_proof(site, purpose="transfer")
    assert status(site, proof, "/transfer?amount=5") == 401
    assert status(site, proof, "/transfer?amount=0") == 401


@pytest.mark.parametrize("path", ["/transfer", "/transfer?amount=", "/transfer?amount=five"])
def test_r12_a_context_that_comes_out_as_none_does_not_open_the_guard(make_app: AppFactory, path: str) -> None:
    """A client that leaves out what the context is made of must not get by with a proof for nothing in particular."""
    app = with_transfers(make_app(OTP_PURPOSES={"login": {}, "transfer": {}}, PROPAGATE_EXCEPTIONS=False))
    assert status(app, new_proof(app, purpose="transfer"), path) >= 400


def test_r26_a_proof_of_another_identifier_is_refused(site: Flask) -> None:
    proof = new_proof(site, BOB)
    assert status(site, proof, "/vault?owner=bob@example.com") == 200
    assert status(site, proof, "/vault?owner=BOB@Example.com") == 200
    assert status(site, proof, "/vault?owner=ann@example.com") == 401
    assert status(site, proof, "/vault?owner=") == 400


def test_r51_a_proof_ends_with_its_time(site: Flask, clock: Clock) -> None:
    proof = new_proof(site)
    clock.advance(12 * 3600 - 1)
    assert status(site, proof) == 200
    clock.advance(1)
    assert status(site, proof) == 401


def test_the_answer_tells_how_long_a_proof_lives(make_app: AppFactory, clock: Clock) -> None:
    app = guarded(make_app(OTP_VERIFIED_FOR="10m"))
    with capture_codes(app) as outbox:
        handle = ask(app)
        answer = verify(app, outbox.code, handle).json
    assert answer["proof_expires_in"] == 600
    clock.advance(answer["proof_expires_in"])
    assert status(app, answer["proof"]) == 401


def test_r26_a_proof_from_the_future_is_refused(site: Flask, clock: Clock) -> None:
    clock.advance("1h")
    proof = new_proof(site)
    assert status(site, proof) == 200
    clock.now -= 3600
    assert status(site, proof) == 401


def test_a_proof_that_the_store_never_saw_is_refused_although_it_is_signed(site: Flask) -> None:
    proof = new_proof(site)
    site.extensions["otp"].store = MemoryStore()
    assert status(site, proof) == 401


# What is no proof


def test_r26_no_other_token_is_a_proof(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    requirement = client.get("/account").get_json(force=True)["requirement"]
    handle = client.post("/otp/send", json={"identifier": ANN}).get_json()["challenge"]
    client.post("/otp/verify", json={"code": codes.code})
    session, known = client.get_cookie("session"), client.get_cookie("otp_known")
    assert session is not None
    assert known is not None
    for token in (session.value, known.value, handle, requirement, codes.code):
        assert status(site, token) == 401


def test_r26_a_token_of_another_kind_in_the_sessions_proof_is_ignored(site: Flask) -> None:
    client = site.test_client()
    requirement = client.get("/account").get_json(force=True)["requirement"]
    for token in (requirement, ask(site), JWT, ""):
        with client.session_transaction() as session:
            session["_otp"] = {"proof": {"login": token}}
        assert client.get("/account").status_code == 401


def test_a_proof_is_no_handle_and_no_requirement(site: Flask, codes: Outbox) -> None:
    proof = new_proof(site)
    ask(site, BOB)
    with capture_codes(site) as inner:
        ask(site)
    assert verify(site, inner.code, proof).json["reason"] == "invalid_code"
    client = site.test_client()
    assert client.post("/otp/resend", json={"challenge": proof}).status_code == 400
    assert client.post("/otp/send", json={"identifier": ANN, "requirement": proof}).status_code == 400


def payload_of(proof: str) -> Any:
    data = base64.urlsafe_b64decode(proof.split(".")[0] + "==")
    return json.loads(data[data.index(b'["') :])


@pytest.mark.parametrize("salt", ["itsdangerous", "cookie-session", "flask_otp.proof", "flask_otp.handle"])
def test_r26_a_proof_signed_with_the_apps_secret_itself_is_refused(site: Flask, salt: str) -> None:
    """An attacker who can make the app sign a text must not get a proof."""
    proof = new_proof(site)
    for serializer in (URLSafeSerializer, URLSafeTimedSerializer):
        assert status(site, serializer(SECRET, salt=salt).dumps(payload_of(proof))) == 401
    assert status(site, proof) == 200


def test_r26_a_proof_changed_anywhere_is_refused(site: Flask) -> None:
    proof = new_proof(site)
    load = site.extensions["otp"].tokens.load_proof
    assert load(proof) is not None
    for place, letter in enumerate(proof):
        # The lowest bits of the last letter too, which carry nothing in base64.
        for bit in (32, 16, 8, 4, 2, 1):
            other = ALPHABET[ALPHABET.index(letter) ^ bit] if letter in ALPHABET else "A"
            assert load(proof[:place] + other + proof[place + 1 :]) is None, place


def test_r26_a_proof_cut_anywhere_is_refused(site: Flask) -> None:
    proof = new_proof(site)
    load = site.extensions["otp"].tokens.load_proof
    for length in range(len(proof)):
        assert load(proof[:length]) is None
        assert load(proof[length + 1 :]) is None
    payload, signature = proof.rsplit(".", 1)
    for changed in (payload + ".", "." + signature, proof + "AAAA", proof + "." + signature, payload, proof.swapcase()):
        assert load(changed) is None
        assert status(site, changed) == 401


def test_two_halves_of_two_proofs_are_no_proof(site: Flask) -> None:
    ann, bob = new_proof(site).rsplit(".", 1), new_proof(site, BOB).rsplit(".", 1)
    assert status(site, f"{ann[0]}.{bob[1]}") == 401


@pytest.mark.parametrize("token", [JWT, "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "", "null", "a b c", "é", "." * 50])
def test_a_bearer_token_of_the_apps_own_is_no_proof_and_no_hindrance(site: Flask, codes: Outbox, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    client = site.test_client()
    assert client.get("/account", headers=headers).status_code == 401
    client.post("/otp/send", json={"identifier": ANN})
    client.post("/otp/verify", json={"code": codes.code})
    assert client.get("/account", headers=headers).text == ANN


def test_a_bearer_proof_that_does_not_fit_leaves_the_sessions_own_its_chance(site: Flask, codes: Outbox) -> None:
    other = new_proof(site, purpose="transfer")
    client = site.test_client()
    client.post("/otp/send", json={"identifier": ANN})
    client.post("/otp/verify", json={"code": codes.code})
    assert client.get("/account", headers={"Authorization": f"Bearer {other}"}).text == ANN


# Rotation of the secret


class Rotation:
    """One site before, during and after the rotation of its key, and once it has learned of it, on one store."""

    def __init__(self, make_app: AppFactory, uri: str) -> None:
        common: dict[str, Any] = {"OTP_STORAGE_URI": uri, "OTP_COOLDOWN": 0}
        self.before = guarded(make_app(SECRET_KEY=OLD, **common))
        self.learned = guarded(make_app(SECRET_KEY=OLD, SECRET_KEY_FALLBACKS=[NEW], **common))
        self.during = guarded(make_app(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=["another", OLD], **common))
        self.after = guarded(make_app(SECRET_KEY=NEW, **common))


@pytest.fixture
def rotation(make_app: AppFactory, valkey: ValkeyServer) -> Rotation:
    return Rotation(make_app, valkey.uri)


def test_r41_a_code_sent_before_a_rotation_verifies_after_it(rotation: Rotation) -> None:
    with capture_codes(rotation.before) as outbox:
        handle = ask(rotation.before)
    answer = verify(rotation.during, outbox.code, handle)
    assert answer.status_code == 200
    assert status(rotation.during, answer.json["proof"]) == 200
    assert verify(rotation.during, outbox.code, handle).status_code == 400


@pytest.mark.parametrize(("one", "other"), [("learned", "during"), ("during", "learned")])
def test_r41_while_the_new_key_is_deployed_each_process_takes_what_the_other_makes(
    rotation: Rotation, one: str, other: str
) -> None:
    maker, taker = getattr(rotation, one), getattr(rotation, other)
    with capture_codes(maker) as outbox:
        handle = ask(maker)
    code = outbox.code
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    assert [verify(app, wrong, handle).status_code for app in (maker, taker)] == [400, 400]
    answer = verify(taker, code, handle)
    assert answer.status_code == 200
    assert [status(app, answer.json["proof"]) for app in (maker, taker)] == [200, 200]
    assert verify(maker, code, handle).status_code == 400
    with taker.app_context():
        taker.extensions["otp"].service.revoke(ANN)
    assert status(maker, answer.json["proof"]) == 401


def test_r41_a_wrong_code_is_still_wrong_after_a_rotation(rotation: Rotation) -> None:
    with capture_codes(rotation.before) as outbox:
        handle = ask(rotation.before)
    wrong = f"{(int(outbox.code) + 1) % 10**6:06d}"
    assert [verify(rotation.during, wrong, handle).status_code for _ in range(5)] == [400] * 5
    assert verify(rotation.during, outbox.code, handle).status_code == 400


def test_r41_a_resend_after_a_rotation_sends_the_same_code(rotation: Rotation) -> None:
    with capture_codes(rotation.before) as first, capture_codes(rotation.during) as second:
        handle = ask(rotation.before)
        answer = rotation.during.test_client().post("/otp/resend", json={"challenge": handle})
        assert answer.status_code == 200
    assert second.code == first.code
    assert verify(rotation.during, first.code, answer.get_json()["challenge"]).status_code == 200


def test_r41_proofs_and_sessions_from_before_a_rotation_pass_after_it(rotation: Rotation) -> None:
    with capture_codes(rotation.before) as outbox:
        client = rotation.before.test_client()
        client.post("/otp/send", json={"identifier": ANN})
        proof = client.post("/otp/verify", json={"code": outbox.code}).get_json()["proof"]
    assert status(rotation.during, proof) == 200
    session = client.get_cookie("session")
    assert session is not None
    browser = rotation.during.test_client()
    browser.set_cookie("session", session.value)
    assert browser.get("/account").text == ANN


def test_r41_requirements_from_before_a_rotation_are_obeyed_after_it(rotation: Rotation) -> None:
    refused = rotation.before.test_client().get("/account").get_json(force=True)
    with capture_codes(rotation.during):
        ask(rotation.during, requirement=refused["requirement"])


def test_r41_what_a_dropped_key_signed_fails_cleanly(rotation: Rotation) -> None:
    with capture_codes(rotation.before) as outbox:
        handle = ask(rotation.before)
    proof = new_proof(rotation.before, BOB)
    assert verify(rotation.after, outbox.code, handle).json["reason"] == "invalid_code"
    assert status(rotation.after, proof) == 401
    client = rotation.after.test_client()
    assert client.post("/otp/resend", json={"challenge": handle}).status_code == 400
    assert client.post("/otp/logout", headers={"Authorization": f"Bearer {proof}"}).status_code == 204


def test_r41_new_tokens_are_signed_with_the_new_key(rotation: Rotation) -> None:
    proof = new_proof(rotation.during)
    assert status(rotation.after, proof) == 200
    assert status(rotation.before, proof) == 401
    with capture_codes(rotation.during) as outbox:
        handle = ask(rotation.during)
    assert verify(rotation.before, outbox.code, handle).status_code == 400
    assert verify(rotation.after, outbox.code, handle).status_code == 200


def test_r25_a_revocation_under_the_new_key_reaches_what_the_old_one_signed(rotation: Rotation) -> None:
    proof, spared, newer = new_proof(rotation.before), new_proof(rotation.before, BOB), new_proof(rotation.during)
    with capture_codes(rotation.before) as outbox:
        handle = ask(rotation.before)
    with rotation.during.app_context():
        rotation.during.extensions["otp"].service.revoke(ANN)
    assert [status(rotation.during, one) for one in (proof, newer, spared)] == [401, 401, 200]
    assert status(rotation.before, proof) == 401
    assert verify(rotation.during, outbox.code, handle).status_code == 400


def test_logging_out_under_the_new_key_ends_a_proof_of_the_old_one(rotation: Rotation) -> None:
    proof = new_proof(rotation.before)
    rotation.during.test_client().post("/otp/logout", headers={"Authorization": f"Bearer {proof}"})
    assert status(rotation.before, proof) == 401


# OTP_REVOCATION_LAG


def revoke(app: Flask, identifier: str = ANN) -> None:
    with app.app_context():
        actions.revoke(identifier)


@pytest.fixture
def machines(make_app: AppFactory, valkey: ValkeyServer) -> tuple[Flask, Flask]:
    """Two machines that trust the store's word for half a minute."""
    here, there = (guarded(make_app(OTP_STORAGE_URI=valkey.uri, OTP_REVOCATION_LAG="30s")) for _ in range(2))
    return here, there


def test_r25_what_another_machine_revoked_passes_here_for_the_lag_and_not_longer(
    machines: tuple[Flask, Flask], clock: Clock
) -> None:
    here, there = machines
    proof = new_proof(here)
    assert status(here, proof) == 200
    revoke(there)
    assert (status(there, proof), status(here, proof)) == (401, 200)
    clock.now += 29.999
    assert status(here, proof) == 200
    clock.now += 0.001
    assert status(here, proof) == 401


def test_r25_trust_is_not_prolonged_by_use(machines: tuple[Flask, Flask], clock: Clock) -> None:
    here, there = machines
    proof = new_proof(here)
    assert status(here, proof) == 200
    revoke(there)
    seen = []
    for _ in range(6):
        clock.advance(10)
        seen.append(status(here, proof))
    assert seen == [200, 200, 401, 401, 401, 401]


def test_r25_what_this_process_revoked_is_refused_at_once_in_spite_of_the_lag(machines: tuple[Flask, Flask]) -> None:
    here, _ = machines
    proof, mine = new_proof(here), new_proof(here, BOB)
    assert (status(here, proof), status(here, mine)) == (200, 200)
    revoke(here)
    assert (status(here, proof), status(here, mine)) == (401, 200)
    here.test_client().post("/otp/logout", headers={"Authorization": f"Bearer {mine}"})
    assert status(here, mine) == 401


def test_r51_the_lag_does_not_lengthen_the_life_of_a_proof(make_app: AppFactory, clock: Clock) -> None:
    app = guarded(make_app(OTP_REVOCATION_LAG="1h", OTP_VERIFIED_FOR="1m"))
    proof = new_proof(app)
    assert status(app, proof) == 200
    clock.advance(60)
    assert status(app, proof) == 401


def test_r25_without_a_lag_the_store_is_asked_each_time(make_app: AppFactory, valkey: ValkeyServer) -> None:
    here, there = (guarded(make_app(OTP_STORAGE_URI=valkey.uri)) for _ in range(2))
    proof = new_proof(here)
    assert status(here, proof) == 200
    revoke(there)
    assert status(here, proof) == 401


@pytest.mark.parametrize("signed_in", [None, ANN])
def test_what_the_guard_has_found_is_not_asked_again(make_app: AppFactory, signed_in: str | None) -> None:
    otp = OTP()
    app = make_app(otp)
    otp.identifier_loader(lambda: signed_in)

    @app.get("/account")
    @otp_required
    def account() -> str:
        return str(otp.verification() == otp.verification() is not None)

    asked = []

    class Counting(MemoryStore):
        def holds(self, *arguments: Any) -> bool:
            asked.append(arguments)
            return super().holds(*arguments)

    app.extensions["otp"].store = Counting()
    client = app.test_client()
    with capture_codes(app) as sent:
        client.post("/otp/send", json={"identifier": ANN})
        client.post("/otp/verify", json={"code": sent.code})
    asked.clear()
    assert client.get("/account").text == "True"
    assert len(asked) == 1


class SlowToAnswer(MemoryStore):
    """Says whether it holds a proof, but the answer takes its time on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = Event(), Event()

    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        answer = super().holds(subject, proof_id, now)
        self.asked.set()
        assert self.go.wait(10)
        return answer


@pytest.mark.parametrize("how", ["revoke", "logout"])
def test_r25_a_request_under_way_does_not_bring_back_what_was_just_ended(make_app: AppFactory, how: str) -> None:
    """The store said yes before the revocation, and the process must not remember that after it."""
    app = guarded(make_app(OTP_REVOCATION_LAG="1h"))
    store = app.extensions["otp"].store = SlowToAnswer()
    proof = new_proof(app)
    revoke(app, BOB)  # the revocation below must not be the first one of the process
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        stack.callback(store.go.set)
        under_way = pool.submit(status, app, proof)
        assert store.asked.wait(10)
        if how == "revoke":
            revoke(app)
        else:
            app.test_client().post("/otp/logout", headers={"Authorization": f"Bearer {proof}"})
        store.go.set()
        under_way.result(10)
    assert status(app, proof) == 401


def test_a_proof_names_itself_in_96_bits(site: Flask) -> None:
    proof = site.extensions["otp"].tokens.load_proof(new_proof(site))
    assert len(proof.proof_id) == 12


def test_the_memory_of_trust_is_bounded(make_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_otp.state._TRUSTED", 3)
    app = guarded(make_app(OTP_REVOCATION_LAG="1h"))
    proofs = [new_proof(app, f"user{number}@example.com") for number in range(8)]
    assert [status(app, proof) for proof in proofs * 2] == [200] * 16
    assert len(app.extensions["otp"].trust._until) <= 3


def test_a_client_without_cookies_needs_none(site: Flask, codes: Outbox) -> None:
    client: FlaskClient = site.test_client(use_cookies=False)
    handle = client.post("/otp/send", json={"identifier": ANN}).get_json()["challenge"]
    proof = client.post("/otp/verify", json={"code": codes.code, "challenge": handle}).get_json()["proof"]
    assert client.get("/account", headers={"Authorization": f"Bearer {proof}"}).text == ANN


def test_the_guard_takes_the_bearer_token_before_the_session(site: Flask, codes: Outbox) -> None:
    client, told = site.test_client(), []
    client.post("/otp/send", json={"identifier": ANN})
    client.post("/otp/verify", json={"code": codes.code})
    bobs = {"Authorization": f"Bearer {new_proof(site, BOB)}"}
    with guard_decided.connected_to(lambda sender, event: told.append(event.subject), site):
        assert client.get("/account", headers=bobs).text == BOB
        assert client.get("/account").text == ANN
    keys = site.extensions["otp"].tokens.keys
    assert told == [pseudonym(keys, BOB), pseudonym(keys, ANN)]
