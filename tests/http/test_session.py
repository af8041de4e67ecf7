"""What a browser session holds, how it is renewed and ended, and the cookie of a known browser (R24, R25, R49)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import redis
from cachelib import FileSystemCache
from flask import Flask, Response, request
from flask import session as flask_session
from flask.testing import FlaskClient
from flask_session import Session
from werkzeug.test import TestResponse

from flask_otp import OTP, Verification, current_verification, otp_required
from flask_otp.http import session as kept_session
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import SECRET, AppFactory, ValkeyServer
from tests.support.visits import bearer

ANN = "ann@example.com"
BOB = "bob@example.com"
HTML = {"Accept": "text/html"}
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}}
KNOWN = "otp_known"


def guarded(app: Flask) -> Flask:
    @app.get("/account")
    @otp_required
    def account() -> str:
        return current_verification.identifier

    @app.get("/transfer")
    @otp_required(purpose="transfer")
    def transfer() -> str:
        return "in"

    return app


@pytest.fixture
def site(make_app: AppFactory) -> Flask:
    """An app over each store, with a login and a transfer."""
    return guarded(make_app(OTP_COOLDOWN=0, OTP_PURPOSES=PURPOSES))


@pytest.fixture
def codes(site: Flask) -> Iterator[Outbox]:
    with capture_codes(site) as outbox:
        yield outbox


def ask(client: FlaskClient, identifier: str = ANN, purpose: str = "login", **kwargs: Any) -> TestResponse:
    return client.post("/otp/send", json={"identifier": identifier, "purpose": purpose}, **kwargs)


def verify(client: FlaskClient, outbox: Outbox, purpose: str = "login", **kwargs: Any) -> TestResponse:
    return client.post("/otp/verify", json={"code": outbox.code, "purpose": purpose}, **kwargs)


def sign_in(client: FlaskClient, outbox: Outbox, identifier: str = ANN, purpose: str = "login") -> str:
    assert ask(client, identifier, purpose).status_code == 200
    answer = verify(client, outbox, purpose)
    assert answer.status_code == 200
    return str(answer.json["proof"])  # type: ignore[index]


def cookie_of(client: FlaskClient, name: str = "session") -> str:
    cookie = client.get_cookie(name)
    assert cookie is not None
    return cookie.value


def replay(app: Flask, path: str, session: str) -> int:
    """What a saved session cookie still gets."""
    client = app.test_client()
    client.set_cookie("session", session)
    return client.get(path).status_code


# What the session holds


def opened(token: str) -> str:
    """The text within a token, as anyone can read it."""
    payload = token[1:].split(".")[0] if token.startswith(".") else token.split(".")[0]
    data = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    return (zlib.decompress(data) if token.startswith(".") else data).decode(errors="replace")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, str):
        yield value
    elif value is not None:
        raise AssertionError(f"the session holds a {type(value).__name__}: a counter?")


def tokens(session: Any) -> list[str]:
    return [text for text in strings(session) if len(text) > 60]


def traces(code: str) -> Iterator[str]:
    yield code
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, code.encode()).digest()
        yield digest.hex()
        yield base64.b64encode(digest).decode().rstrip("=")
        yield base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_r17_r35_the_session_holds_no_code_no_digest_and_no_counter(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    client.get("/account")
    ask(client)
    with client.session_transaction() as session:
        before = json.loads(json.dumps(dict(session)))
    everything = json.dumps(before) + "".join(map(opened, tokens(before)))
    assert not [trace for trace in traces(codes.code) if trace in everything]
    assert len(tokens(before)) == 2  # a handle and a requirement
    for _ in range(3):
        assert client.post("/otp/verify", json={"code": "x"}).status_code == 400
        assert client.post("/otp/verify", json={"code": f"{(int(codes.code) + 1) % 10**6:06d}"}).status_code == 400
        with client.session_transaction() as session:
            assert dict(session) == before
    verify(client, codes)
    with client.session_transaction() as session:
        after = dict(session)
    everything = json.dumps(after) + "".join(map(opened, tokens(after)))
    assert not [trace for trace in traces(codes.code) if trace in everything]


def test_r07_replaying_an_old_session_gives_no_attempt_back(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    ask(client)
    saved = cookie_of(client)
    wrong = f"{(int(codes.code) + 1) % 10**6:06d}"
    for _ in range(5):
        client.set_cookie("session", saved)
        client.post("/otp/verify", json={"code": wrong})
    client.set_cookie("session", saved)
    assert verify(client, codes).status_code == 400


def test_after_a_verification_the_session_holds_the_proof_only(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    client.get("/account")
    sign_in(client, codes)
    with client.session_transaction() as session:
        assert {kind for kind, value in session["_otp"].items() if value} == {"proof", "secret"}


def test_the_session_keeps_the_challenge_that_another_tab_has_asked_for_since(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    first, code = ask(client).json["challenge"], codes.code  # type: ignore[index]
    second = ask(client, BOB).json["challenge"]  # type: ignore[index]
    assert client.post("/otp/verify", json={"code": code, "challenge": first}).status_code == 200
    with client.session_transaction() as kept:
        assert kept["_otp"]["challenge"] == {"login": second}
    assert verify(client, codes).status_code == 200


def test_an_app_that_clears_its_session_leaves_no_cookie_of_what_we_kept_in_the_same_request(
    make_app: AppFactory,
) -> None:
    otp = OTP()
    app = make_app(otp)

    @app.post("/send-and-leave")
    def leave() -> str:
        otp.send(ANN)
        flask_session.clear()
        return "bye"

    client = app.test_client()
    assert client.post("/send-and-leave").text == "bye"
    assert not [cookie.key for cookie in client._cookies.values() if "_otp_" in cookie.key]


def test_the_app_keeps_what_it_has_in_the_session(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    with client.session_transaction() as session:
        session["basket"] = [1, 2]
    sign_in(client, codes)
    client.post("/otp/logout")
    with client.session_transaction() as session:
        assert session["basket"] == [1, 2]


@pytest.mark.parametrize("kind", ["challenge", "requirement"])
def test_r49_the_oldest_make_room_in_the_session_for_the_newest(site: Flask, kind: str) -> None:
    """A cookie that is too long is dropped whole by the browser."""

    def purposes_after(purpose: str, size: int) -> str:
        kept_session.set(kind, purpose, "x" * size)
        return "".join(kept_session.get_all(kind))

    with site.test_request_context():
        assert [purposes_after(purpose, 400) for purpose in "abcd"] == ["a", "ab", "abc", "bcd"]
        assert purposes_after("e", 401) == "de"
        assert purposes_after("f", 3000) == "f"


def test_proofs_make_no_room_in_the_session(site: Flask) -> None:
    with site.test_request_context():
        for purpose in "abcd":
            kept_session.set("proof", purpose, "x" * 400)
        assert list(kept_session.get_all("proof")) == list("abcd")


# Renewal


def test_r24_a_cookie_saved_before_the_verification_has_no_proof_after_it(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    ask(client)
    saved = cookie_of(client)
    verify(client, codes)
    assert client.get("/account").status_code == 200
    assert replay(site, "/account", saved) == 401


def test_r24_who_shared_the_session_before_does_not_share_its_challenges_after(site: Flask, codes: Outbox) -> None:
    """An attacker who planted a session knows its secret, by which a second send finds the first one's challenge."""
    victim, attacker = site.test_client(), site.test_client()
    ask(attacker, "eve@example.com")
    victim.set_cookie("session", cookie_of(attacker))
    sign_in(victim, codes)
    ask(victim)
    theirs = codes.code
    ask(attacker, ANN)
    assert codes.code != theirs
    assert attacker.post("/otp/verify", json={"code": theirs}).status_code == 400
    assert victim.post("/otp/verify", json={"code": theirs}).status_code == 200


@pytest.fixture(params=["files", "redis"])
def server_side(
    request: pytest.FixtureRequest, make_app: AppFactory, valkey: ValkeyServer, tmp_path: Path
) -> Iterator[Flask]:
    """An app with Flask-Session."""
    where: dict[str, Any]
    with contextlib.closing(valkey.client()) as client:
        if request.param == "files":
            where = {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": FileSystemCache(str(tmp_path))}
        else:
            where = {"SESSION_TYPE": "redis", "SESSION_REDIS": client}
        app = guarded(make_app(OTP_COOLDOWN=0, OTP_PURPOSES=PURPOSES, **where))
        Session(app)
        yield app


def test_r24_a_server_side_session_gets_a_new_id_on_success(server_side: Flask) -> None:
    client = server_side.test_client()
    with capture_codes(server_side) as outbox:
        with client.session_transaction() as session:
            session["basket"] = "full"
        ask(client)
        before = cookie_of(client)
        ask(client)
        assert cookie_of(client) == before
        assert verify(client, outbox).status_code == 200
    assert cookie_of(client) != before
    assert client.get("/account").text == ANN
    with client.session_transaction() as session:
        assert session["basket"] == "full"
    assert replay(server_side, "/account", before) == 401


def test_r24_a_wrong_code_renews_nothing(server_side: Flask) -> None:
    client = server_side.test_client()
    with capture_codes(server_side):
        ask(client)
        before = cookie_of(client)
        assert client.post("/otp/verify", json={"code": "wrong"}).status_code == 400
    assert cookie_of(client) == before


def test_r25_logging_out_of_a_server_side_session_ends_its_proof(server_side: Flask) -> None:
    client = server_side.test_client()
    with capture_codes(server_side) as outbox:
        proof = sign_in(client, outbox)
    assert client.post("/otp/logout").status_code == 204
    assert client.get("/account").status_code == 401
    assert server_side.test_client().get("/account", headers=bearer(proof)).status_code == 401


# Logging out


def test_r25_a_cookie_saved_before_logging_out_is_worth_nothing_after(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    proof = sign_in(client, codes)
    saved = cookie_of(client)
    assert replay(site, "/account", saved) == 200
    assert client.post("/otp/logout").status_code == 204
    assert client.get("/account").status_code == 401
    assert replay(site, "/account", saved) == 401
    assert site.test_client().get("/account", headers=bearer(proof)).status_code == 401


def test_r25_logging_out_ends_the_proofs_that_a_later_one_replaced(site: Flask, codes: Outbox, clock: Clock) -> None:
    """A step-up verifies again: the cookie from before it must not outlive the log-out."""
    client = site.test_client()
    first = sign_in(client, codes)
    saved = cookie_of(client)
    clock.advance("10m")
    sign_in(client, codes)
    client.post("/otp/logout")
    assert replay(site, "/account", saved) == 401
    assert site.test_client().get("/account", headers=bearer(first)).status_code == 401


def test_r25_logging_out_ends_the_proof_of_the_sessions_previous_user(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    sign_in(client, codes, ANN)
    saved = cookie_of(client)
    sign_in(client, codes, BOB)
    client.post("/otp/logout")
    assert replay(site, "/account", saved) == 401


def test_logging_out_ends_every_purpose_and_nobody_else(site: Flask, codes: Outbox) -> None:
    client, other = site.test_client(), site.test_client()
    sign_in(client, codes)
    sign_in(client, codes, purpose="transfer")
    sign_in(other, codes)
    client.post("/otp/logout")
    assert [client.get(path).status_code for path in ("/account", "/transfer")] == [401, 401]
    assert other.get("/account").status_code == 200


def test_logging_out_drops_the_outstanding_challenge(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    handle = ask(client).json["challenge"]  # type: ignore[index]
    client.post("/otp/logout")
    refused = site.test_client().post("/otp/verify", json={"code": codes.code, "challenge": handle})
    assert refused.json["reason"] == "invalid_code"  # type: ignore[index]
    assert client.post("/otp/verify", json={"code": codes.code}).json["reason"] == "challenge_required"  # type: ignore[index]


def test_logging_out_ends_the_proof_that_an_api_client_shows(site: Flask, codes: Outbox) -> None:
    client = site.test_client(use_cookies=False)
    handle = ask(client).json["challenge"]  # type: ignore[index]
    proof = client.post("/otp/verify", json={"code": codes.code, "challenge": handle}).json["proof"]  # type: ignore[index]
    assert client.get("/account", headers=bearer(proof)).text == ANN
    assert client.post("/otp/logout", headers=bearer(proof)).status_code == 204
    assert client.get("/account", headers=bearer(proof)).status_code == 401


def test_logging_out_is_safe_twice_and_without_anything(site: Flask) -> None:
    client = site.test_client()
    assert [client.post("/otp/logout").status_code for _ in range(2)] == [204, 204]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that the test may stop."""
    server = ValkeyServer(tmp_path)
    server.start()
    yield server
    server.stop()


def test_r37_logging_out_without_the_store_is_503_and_says_so(make_app: AppFactory, own_server: ValkeyServer) -> None:
    app = guarded(make_app(OTP_STORAGE_URI=own_server.uri, OTP_PURPOSES=PURPOSES))
    client = app.test_client()
    with capture_codes(app) as outbox:
        sign_in(client, outbox)
    before = cookie_of(client)
    own_server.stop()
    refused = client.post("/otp/logout")
    assert refused.status_code == 503
    assert refused.get_json(force=True)["reason"] == "store_unavailable"
    assert int(refused.headers["Retry-After"]) > 0
    assert cookie_of(client) == before  # the user must not believe that they are logged out
    page = client.post("/otp/logout", headers=HTML)
    assert (page.status_code, page.mimetype) == (503, "text/html")


def test_r37_logging_out_without_the_store_while_a_code_is_out_is_503(
    make_app: AppFactory, own_server: ValkeyServer
) -> None:
    app = make_app(OTP_STORAGE_URI=own_server.uri)
    client = app.test_client()
    with capture_codes(app):
        ask(client)
    own_server.stop()
    assert client.post("/otp/logout").status_code == 503


# forget and revoke


def add_routes_for(app: Flask, otp: OTP) -> Flask:
    app.add_url_rule("/forget/<purpose>", "forget", lambda purpose: otp.forget(purpose) or "done")
    app.add_url_rule("/revoke/<who>", "revoke", lambda who: otp.revoke(who) or "done")
    return guarded(app)


def test_forget_ends_the_proof_of_one_purpose(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = add_routes_for(make_app(otp, OTP_PURPOSES=PURPOSES), otp)
    client = app.test_client()
    with capture_codes(app) as outbox:
        sign_in(client, outbox)
        proof = sign_in(client, outbox, purpose="transfer")
    saved = cookie_of(client)
    assert client.get("/forget/transfer").text == "done"
    assert client.get("/account").status_code == 200
    assert client.get("/transfer").status_code == 401
    assert replay(app, "/transfer", saved) == 401
    assert replay(app, "/account", saved) == 200
    assert app.test_client().get("/transfer", headers=bearer(proof)).status_code == 401


def test_r25_revoke_ends_every_proof_and_challenge_at_once(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = add_routes_for(make_app(otp, OTP_PURPOSES=PURPOSES, OTP_COOLDOWN=0, OTP_REVOCATION_LAG="1h"), otp)
    first, second, bob, admin = (app.test_client() for _ in range(4))
    with capture_codes(app) as outbox:
        sign_in(first, outbox)
        proof = sign_in(second, outbox)
        sign_in(second, outbox, purpose="transfer")
        sign_in(bob, outbox, BOB)
        handle = ask(first).json["challenge"]  # type: ignore[index]
    assert [c.get("/account").status_code for c in (first, second, bob)] == [200] * 3
    admin.get("/revoke/Ann@Example.com")
    assert [c.get("/account").status_code for c in (first, second, bob)] == [401, 401, 200]
    assert second.get("/transfer").status_code == 401
    assert app.test_client().get("/account", headers=bearer(proof)).status_code == 401
    refused = app.test_client().post("/otp/verify", json={"code": outbox.code, "challenge": handle})
    assert refused.json["reason"] == "invalid_code"  # type: ignore[index]


def test_a_bearer_proof_that_another_request_ends_meanwhile_is_no_longer_found(make_app: AppFactory) -> None:
    otp = OTP()
    app = make_app(otp)
    other = app.test_client()

    @app.get("/slow")
    def slow() -> list[bool]:
        found = [otp.verification() is not None]
        other.post("/otp/logout", headers={"Authorization": request.headers["Authorization"]})
        return [*found, otp.verification() is not None]

    with capture_codes(app) as sent:
        client = app.test_client()
        handle = client.post("/otp/send", json={"email": ANN}).get_json()["challenge"]
        body = {"challenge": handle, "code": sent.code, "session": False}
        proof = client.post("/otp/verify", json=body).get_json()["proof"]
    assert client.get("/slow", headers=bearer(proof)).get_json() == [True, False]


def test_a_bearer_token_that_the_app_sets_during_the_request_counts(make_app: AppFactory) -> None:
    """As an app does that moves the token from a cookie into the header."""
    otp = OTP()
    app = make_app(otp)

    @app.get("/moved")
    def moved() -> list[bool]:
        found = [otp.verification() is not None]
        request.environ["HTTP_AUTHORIZATION"] = f"Bearer {request.args['token']}"
        return [*found, otp.verification() is not None]

    with capture_codes(app) as sent:
        client = app.test_client(use_cookies=False)
        handle = client.post("/otp/send", json={"email": ANN}).get_json()["challenge"]
        proof = client.post("/otp/verify", json={"challenge": handle, "code": sent.code}).get_json()["proof"]
    assert client.get("/moved", query_string={"token": proof}).get_json() == [False, True]
    assert client.get("/moved", query_string={"token": "another"}, headers=bearer(proof)).get_json() == [True, False]


def test_after_revoke_the_owner_verifies_again_within_the_same_second(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = add_routes_for(make_app(otp, OTP_PURPOSES=PURPOSES, OTP_COOLDOWN=0), otp)
    client = app.test_client()
    with capture_codes(app) as outbox:
        sign_in(client, outbox)
        client.get(f"/revoke/{ANN}")
        clock.now += 0.002
        sign_in(client, outbox)
        assert client.get("/account").status_code == 200
        clock.now += 0.002
        client.get(f"/revoke/{ANN}")
        assert client.get("/account").status_code == 401


def test_revoke_shows_at_once_in_the_request_that_revokes(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp)

    @app.get("/leave")
    @otp_required
    def leave() -> str:
        otp.revoke(current_verification.identifier)
        return str(otp.verification())

    client = app.test_client()
    with capture_codes(app) as outbox:
        sign_in(client, outbox)
    assert client.get("/leave").text == "None"


def test_r25_revoke_on_one_machine_ends_what_another_has(make_app: AppFactory, valkey: ValkeyServer) -> None:
    here, there = (guarded(make_app(OTP_STORAGE_URI=valkey.uri, OTP_PURPOSES=PURPOSES)) for _ in range(2))
    client = here.test_client()
    with capture_codes(here) as outbox:
        sign_in(client, outbox)
        saved = cookie_of(client)
        handle = ask(client, purpose="transfer").json["challenge"]  # type: ignore[index]
    assert replay(there, "/account", saved) == 200
    with there.app_context():
        there.extensions["otp"].service.revoke(ANN)
    assert replay(here, "/account", saved) == 401
    refused = here.test_client().post("/otp/verify", json={"code": outbox.code, "challenge": handle})
    assert refused.status_code == 400


OTHER_PROCESS = """
    import sys
    from flask import Flask, Response, request
    from flask_otp import OTP
    uri, secret, who, now = sys.argv[1:]
    app = Flask("site")
    app.config.update(SECRET_KEY=secret, OTP_STORAGE_URI=uri)
    otp = OTP(app, clock=lambda: float(now))
    with app.app_context():
        otp.revoke(who)
"""


def test_r25_revoke_in_another_process_ends_what_this_one_has(
    make_app: AppFactory, valkey: ValkeyServer, clock: Clock
) -> None:
    app = guarded(make_app(OTP_STORAGE_URI=valkey.uri, OTP_PURPOSES=PURPOSES))
    client, bob = app.test_client(), app.test_client()
    with capture_codes(app) as outbox:
        sign_in(client, outbox)
        sign_in(bob, outbox, BOB)
    assert client.get("/account").status_code == 200
    script = textwrap.dedent(OTHER_PROCESS)
    subprocess.run([sys.executable, "-c", script, valkey.uri, SECRET, ANN, str(clock.now + 1)], check=True, timeout=30)
    assert client.get("/account").status_code == 401
    assert bob.get("/account").status_code == 200


def test_r25_after_an_empty_restart_of_the_store_nothing_old_passes(
    make_app: AppFactory, own_server: ValkeyServer
) -> None:
    app = guarded(make_app(OTP_STORAGE_URI=own_server.uri, OTP_PURPOSES=PURPOSES, OTP_COOLDOWN=0))
    kept, revoked = app.test_client(), app.test_client()
    with capture_codes(app) as outbox:
        sign_in(kept, outbox, BOB)
        sign_in(revoked, outbox, ANN)
        handle = ask(revoked).json["challenge"]  # type: ignore[index]
        with app.app_context():
            app.extensions["otp"].service.revoke(ANN)
        port = own_server.port
        own_server.stop()
        own_server.start()
        assert own_server.port == port
        assert revoked.get("/account").status_code == 401
        assert kept.get("/account").status_code == 401
        refused = app.test_client().post("/otp/verify", json={"code": outbox.code, "challenge": handle})
        assert refused.status_code == 400
        sign_in(kept, outbox, BOB)
        assert kept.get("/account").status_code == 200


# The cookie of a known browser


def known_cookies(answer: TestResponse) -> list[Any]:
    jar = [SimpleCookie(line) for line in answer.headers.getlist("Set-Cookie")]
    return [morsel for cookie in jar for name, morsel in cookie.items() if name.endswith(KNOWN)]


def test_r49_the_cookie_of_a_known_browser_is_out_of_reach_of_scripts_and_other_sites(
    site: Flask, codes: Outbox
) -> None:
    client = site.test_client()
    assert known_cookies(ask(client)) == []
    (cookie,) = known_cookies(verify(client, codes))
    assert cookie.key == KNOWN
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "Lax"
    assert cookie["path"] == "/"
    assert cookie["domain"] == ""
    assert int(cookie["max-age"]) == 180 * 86400
    assert len(cookie.value) < 1000


def test_r49_on_a_site_with_secure_cookies_it_is_secure_and_of_this_host(make_app: AppFactory) -> None:
    app = make_app(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_DOMAIN="localhost")
    client = app.test_client()
    with capture_codes(app) as outbox:
        ask(client, base_url="https://localhost")
        (cookie,) = known_cookies(verify(client, outbox, base_url="https://localhost"))
    assert cookie.key == f"__Host-{KNOWN}"
    assert cookie["secure"] is True
    assert cookie["path"] == "/"
    assert cookie["domain"] == ""


def test_the_cookie_stands_beside_one_of_the_apps_own_answer(make_app: AppFactory) -> None:
    otp = OTP()

    @otp.verified_handler
    def answer(verification: Verification) -> Response:
        response = Response()
        response.set_cookie("theirs", "kept")
        return response

    app = make_app(otp)
    client = app.test_client()
    with capture_codes(app) as outbox:
        ask(client)
        assert len(known_cookies(verify(client, outbox))) == 1
    assert cookie_of(client, "theirs") == "kept"


def test_the_cookie_holds_no_identifier(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    sign_in(client, codes)
    text = opened(cookie_of(client, KNOWN))
    assert "ann" not in text
    assert "example" not in text
    for name in ("md5", "sha1", "sha256"):
        digest = hashlib.new(name, ANN.encode()).digest()
        assert digest.hex()[:32] not in text
        assert base64.urlsafe_b64encode(digest).decode()[:16] not in text


def test_a_refused_code_makes_nobody_known(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    ask(client)
    refused = client.post("/otp/verify", json={"code": f"{(int(codes.code) + 1) % 10**6:06d}"})
    assert known_cookies(refused) == []


STRANGERS = {"OTP_RECIPIENT_LIMIT": "3/hour", "OTP_SEND_LIMIT": "20/hour", "OTP_COOLDOWN": 0}


@pytest.fixture
def crowded(make_app: AppFactory) -> Flask:
    """A site where three messages of strangers exhaust a recipient."""
    return guarded(make_app(OTP_PURPOSES=PURPOSES, **STRANGERS))


def exhaust(app: Flask, identifier: str = ANN) -> None:
    """Strangers on many networks ask for codes until an unknown browser gets none any more."""
    statuses = [
        ask(app.test_client(), identifier, environ_base={"REMOTE_ADDR": f"198.51.100.{number}"}).status_code
        for number in range(5)
    ]
    assert statuses[-1] == 429


def with_known_cookie(app: Flask, value: str) -> FlaskClient:
    client = app.test_client()
    client.set_cookie(KNOWN, value)
    return client


def test_r11_a_known_browser_gets_its_code_when_strangers_have_used_up_all_of_them(crowded: Flask) -> None:
    client = crowded.test_client()
    with capture_codes(crowded) as outbox:
        sign_in(client, outbox)
        client.post("/otp/logout")
        exhaust(crowded)
        assert ask(crowded.test_client()).status_code == 429
        sign_in(client, outbox)
    assert client.get("/account").status_code == 200


def test_r11_a_known_browser_keeps_its_short_codes_when_strangers_spent_the_budget(make_app: AppFactory) -> None:
    app = make_app(OTP_FAILURE_BUDGET="2/30 days", OTP_COOLDOWN=0)
    client, stranger = app.test_client(), app.test_client()
    with capture_codes(app) as outbox:
        sign_in(client, outbox)
        ask(stranger, environ_base={"REMOTE_ADDR": "198.51.100.7"})
        wrong = f"{(int(outbox.code) + 1) % 10**6:06d}"
        for _ in range(2):
            stranger.post("/otp/verify", json={"code": wrong})
        assert ask(app.test_client()).json["code_length"] == 13  # type: ignore[index]
        assert ask(client).json["code_length"] == 6  # type: ignore[index]


def test_the_cookie_is_worth_nothing_for_another_identifier_or_purpose(crowded: Flask) -> None:
    client = crowded.test_client()
    with capture_codes(crowded) as outbox:
        sign_in(client, outbox, ANN)
        exhaust(crowded, BOB)
        assert ask(client, BOB).status_code == 429
        assert ask(client, ANN).status_code == 200
        for number in range(4):
            sent = ask(
                crowded.test_client(), ANN, "transfer", environ_base={"REMOTE_ADDR": f"198.51.100.{number}"}
            ).status_code
        assert sent == 429
        assert ask(client, ANN, "transfer").status_code == 429


def test_the_cookie_dies_with_revoke(crowded: Flask, clock: Clock) -> None:
    client = crowded.test_client()
    with capture_codes(crowded) as outbox:
        sign_in(client, outbox)
        clock.now += 0.5
        with crowded.app_context():
            crowded.extensions["otp"].service.revoke(ANN)
        exhaust(crowded)
        assert ask(client).status_code == 429
        clock.advance("1h")
        sign_in(client, outbox)
        exhaust(crowded)
        assert ask(client).status_code == 200


def test_the_cookie_dies_of_age(crowded: Flask, clock: Clock) -> None:
    client = crowded.test_client()
    with capture_codes(crowded) as outbox:
        sign_in(client, outbox)
        value = cookie_of(client, KNOWN)
        clock.advance(180 * 86400 - 1)
        exhaust(crowded)
        assert ask(with_known_cookie(crowded, value)).status_code == 200
        clock.advance(1)
        assert ask(with_known_cookie(crowded, value)).status_code == 429


@pytest.mark.parametrize("tamper", ["", "x", "a.b", "[]", "e30.e30", "é", "\x00", "A" * 4000])
def test_a_cookie_that_is_not_ours_is_ignored(crowded: Flask, tamper: str) -> None:
    with capture_codes(crowded) as outbox:
        client = with_known_cookie(crowded, tamper)
        sign_in(client, outbox)
        exhaust(crowded)
        assert ask(client).status_code == 200  # it has a good one now
        assert ask(with_known_cookie(crowded, tamper)).status_code == 429


def test_a_changed_cookie_is_ignored_wherever_it_is_changed(crowded: Flask) -> None:
    client = crowded.test_client()
    with capture_codes(crowded) as outbox:
        sign_in(client, outbox)
        value = cookie_of(client, KNOWN)
        tokens = crowded.extensions["otp"].tokens
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for place, letter in enumerate(value):
            other = alphabet[alphabet.index(letter) ^ 32] if letter in alphabet else "A"
            assert tokens.load_known(value[:place] + other + value[place + 1 :]) == []
        exhaust(crowded)
        assert ask(with_known_cookie(crowded, value[:-5] + "AAAAA")).status_code == 429
        assert ask(with_known_cookie(crowded, value)).status_code == 200


def test_a_cookie_signed_by_another_app_or_as_another_token_is_ignored(crowded: Flask, make_app: AppFactory) -> None:
    other = make_app(OTP_KEY_PREFIX="other", OTP_COOLDOWN=0)
    with capture_codes(crowded) as outbox, capture_codes(other) as others:
        client = crowded.test_client()
        proof = sign_in(client, outbox)
        elsewhere = other.test_client()
        sign_in(elsewhere, others)
        exhaust(crowded)
        for value in (proof, cookie_of(elsewhere, "other_known"), cookie_of(client)):
            assert ask(with_known_cookie(crowded, value)).status_code == 429


def buckets(app: Flask, client: FlaskClient) -> list[bytes]:
    return [entry.bucket for entry in app.extensions["otp"].tokens.load_known(cookie_of(client, KNOWN))]


def test_the_bucket_stays_the_same_over_successes(site: Flask, codes: Outbox) -> None:
    """Otherwise an attacker with one account could sign in to get a new bucket, whose budget is unspent, each time."""
    client = site.test_client()
    sign_in(client, codes)
    first = buckets(site, client)
    sign_in(client, codes)
    assert buckets(site, client) == first
    sign_in(client, codes, BOB)
    sign_in(client, codes, ANN)
    assert first[0] in buckets(site, client)
    assert len(buckets(site, client)) == 2


def test_r08_the_bucket_stays_the_same_when_the_code_was_asked_for_without_the_cookie(
    site: Flask, codes: Outbox
) -> None:
    client = site.test_client()
    sign_in(client, codes, BOB)
    sign_in(client, codes, ANN)
    before = buckets(site, client)
    assert [len(bucket) for bucket in before] == [8, 8]
    assert before[0] != before[1]
    asked = ask(site.test_client(), ANN, environ_base={"REMOTE_ADDR": "198.51.100.7"}).get_json()
    answer = client.post("/otp/verify", json={"challenge": asked["challenge"], "code": codes.code})
    assert answer.status_code == 200
    assert buckets(site, client) == before


def test_the_bucket_of_a_known_browser_has_limits_of_its_own(make_app: AppFactory) -> None:
    app = make_app(OTP_SEND_LIMIT="3/hour", OTP_COOLDOWN=0)
    client = app.test_client()
    with capture_codes(app) as outbox:
        sign_in(client, outbox)
        statuses = []
        for _ in range(5):
            statuses.append(ask(client).status_code)
            verify(client, outbox)
    assert statuses == [200, 200, 200, 429, 429]


def test_the_cookie_does_not_grow_without_end(site: Flask, codes: Outbox) -> None:
    client = site.test_client()
    for number in range(12):
        sign_in(client, codes, f"user{number}@example.com")
    assert len(buckets(site, client)) == 6
    assert len(cookie_of(client, KNOWN)) < 1000


def test_the_servers_memory_of_a_known_browser_is_in_redis_without_an_address(
    make_app: AppFactory, valkey: ValkeyServer
) -> None:
    app = make_app(OTP_STORAGE_URI=valkey.uri)
    with capture_codes(app) as outbox:
        sign_in(app.test_client(), outbox)
        code = outbox.code
    client: redis.Redis = valkey.client()
    dump = b"".join(key + (client.dump(key) or b"") for key in client.scan_iter())
    client.close()
    assert b"ann" not in dump
    assert b"example" not in dump
    assert code.encode() not in dump
