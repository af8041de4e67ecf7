"""What was ended stays ended: on every machine and process, at once or within the lag, and over a restart (R25)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_otp import OTP, otp_required
from flask_otp.stores.base import LEEWAY
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import SECRET, AppFactory, ValkeyServer
from tests.support.attack_site import OWNER, Caller, Stage
from tests.support.visits import bearer

ANN = "ann@example.com"
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}}
#: Time-outs for a busy test machine, not for a site.
PATIENT = {"socket_timeout": 10, "socket_connect_timeout": 10}
WAYS = ["revoke", "forget", "logout", "once"]


def site(app: Flask, otp: OTP) -> Flask:
    """``/account`` is guarded; each of :data:`WAYS` is a route that ends the proof it comes with."""
    app.add_url_rule("/account", "account", otp_required(lambda: "in"))
    app.add_url_rule("/transfer", "transfer", otp_required(purpose="transfer")(lambda: "in"))
    app.add_url_rule("/once", "once", otp_required(once=True)(lambda: "done"), methods=["POST"])
    app.add_url_rule("/revoke", "revoke", lambda: otp.revoke(ANN) or "done", methods=["POST"])
    app.add_url_rule("/forget", "forget", lambda: otp.forget("login") or "done", methods=["POST"])
    return app


@pytest.fixture
def make_site(make_app: AppFactory, clock: Clock) -> Callable[..., Flask]:
    """``make_site(uri, lag)``: one machine of the site."""

    def make(uri: str, lag: int = 0) -> Flask:
        otp = OTP(clock=clock)
        config = {"OTP_STORAGE_URI": uri, "OTP_REVOCATION_LAG": lag, "OTP_PURPOSES": PURPOSES, "OTP_COOLDOWN": 0}
        config["OTP_STORAGE_OPTIONS"] = {} if uri == "memory://" else PATIENT
        return site(make_app(otp, **config), otp)

    return make


def new_proof(app: Flask, client: FlaskClient | None = None, **body: str) -> str:
    client = client or app.test_client()
    with capture_codes(app) as codes:
        assert client.post("/otp/send", json={"email": ANN} | body).status_code == 200
        return str(client.post("/otp/verify", json={"code": codes.code, **body}).get_json()["proof"])


def passes(app: Flask, proof: str, path: str = "/account") -> bool:
    return app.test_client().get(path, headers=bearer(proof)).status_code == 200


def end(app: Flask, how: str, proof: str) -> None:
    path = "/otp/logout" if how == "logout" else f"/{how}"
    assert app.test_client().post(path, headers=bearer(proof)).status_code in (200, 204)


def move_session(client: FlaskClient, app: Flask) -> FlaskClient:
    """The same browser, whose next request is answered by another machine."""
    cookie = client.get_cookie("session")
    assert cookie is not None
    other = app.test_client()
    other.set_cookie("session", cookie.value)
    return other


# Every machine, at once or within the lag


@pytest.mark.parametrize("how", WAYS)
def test_r25_without_a_lag_what_one_machine_ended_no_other_lets_pass(
    make_site: Callable[..., Flask], valkey: ValkeyServer, how: str
) -> None:
    here, there = make_site(valkey.uri), make_site(valkey.uri)
    proof = new_proof(here)
    assert passes(here, proof)
    assert passes(there, proof)
    end(here, how, proof)
    assert not passes(here, proof)
    assert not passes(there, proof)


@pytest.mark.parametrize("lag", [1, 3600])
@pytest.mark.parametrize("how", WAYS)
def test_r25_no_machine_lets_pass_for_longer_than_the_lag_whenever_it_last_asked(
    make_site: Callable[..., Flask], valkey: ValkeyServer, clock: Clock, how: str, lag: int
) -> None:
    here = make_site(valkey.uri, lag)
    proof = new_proof(here)
    asked = [make_site(valkey.uri, lag) for _ in range(5)]
    for machine in asked:  # each asks the store at another time, the last one just before the end
        assert passes(machine, proof)
        clock.now += lag / 5
    assert passes(here, proof)
    assert passes(asked[-1], proof)
    end(here, how, proof)
    assert not passes(here, proof)
    ended, late = clock.now, set()
    for step in range(12):
        clock.now = ended + step * lag / 10
        late |= {clock.now - ended for machine in asked if passes(machine, proof)}
    assert late
    assert max(late) <= lag


@pytest.mark.parametrize("how", ["forget", "logout"])
def test_r25_what_the_log_out_left_outstanding_verifies_on_no_machine(
    make_site: Callable[..., Flask], valkey: ValkeyServer, how: str
) -> None:
    here, there = make_site(valkey.uri), make_site(valkey.uri)
    client = here.test_client()
    proof = new_proof(here, client)
    with capture_codes(here) as codes:
        handle = client.post("/otp/send", json={"email": ANN}).get_json()["challenge"]
    leaving = move_session(client, there)
    assert leaving.post("/otp/logout" if how == "logout" else "/forget").status_code in (200, 204)
    for app in (here, there):
        assert not passes(app, proof)
        assert move_session(client, app).get("/account").status_code == 401
        refused = app.test_client().post("/otp/verify", json={"code": codes.code, "challenge": handle})
        assert refused.get_json(force=True)["reason"] == "invalid_code"


def test_forget_of_one_purpose_leaves_the_challenge_of_another(make_site: Callable[..., Flask]) -> None:
    app = make_site("memory://")
    client = app.test_client()
    handles = {}
    with capture_codes(app) as codes:
        for purpose in PURPOSES:
            answer = client.post("/otp/send", json={"email": ANN, "purpose": purpose})
            handles[purpose] = answer.get_json()["challenge"]
    client.post("/forget")
    answers = [
        app.test_client().post("/otp/verify", json={"code": message.code, "challenge": handles[message.purpose]})
        for message in codes
    ]
    assert [answer.status_code for answer in answers] == [400, 200]


# Another process


OTHER_PROCESS = """
    import sys
    from flask import Flask
    from flask_otp import OTP, otp_required
    uri, secret, lag = sys.argv[1:]
    now = 0.0
    app = Flask("site")
    app.config.update(SECRET_KEY=secret, OTP_STORAGE_URI=uri, OTP_REVOCATION_LAG=int(lag))
    OTP(app, clock=lambda: now)
    app.add_url_rule("/account", "account", otp_required(lambda: "in"))
    for line in sys.stdin:
        now, proof = float(line.split()[0]), line.split()[1]
        answer = app.test_client().get("/account", headers={"Authorization": "Bearer " + proof})
        print(answer.status_code, flush=True)
"""


class Process:
    """A worker of its own, asked over its standard input."""

    def __init__(self, uri: str, lag: int, clock: Clock) -> None:
        self.clock = clock
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(OTHER_PROCESS), uri, SECRET, str(lag)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def passes(self, proof: str) -> bool:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{self.clock()} {proof}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip() == "200"

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture
def make_process(valkey: ValkeyServer, clock: Clock) -> Iterator[Callable[[int], Process]]:
    processes: list[Process] = []

    def make(lag: int) -> Process:
        processes.append(Process(valkey.uri, lag, clock))
        return processes[-1]

    yield make
    for process in processes:
        process.close()


def test_r25_another_process_lets_pass_for_its_lag_and_without_one_not_at_all(
    make_site: Callable[..., Flask], make_process: Callable[[int], Process], valkey: ValkeyServer, clock: Clock
) -> None:
    here, strict, trusting = make_site(valkey.uri), make_process(0), make_process(30)
    proof, other = new_proof(here), new_proof(here)
    assert all(process.passes(token) for process in (strict, trusting) for token in (proof, other))
    end(here, "logout", other)
    assert (strict.passes(other), trusting.passes(other)) == (False, True)
    end(here, "revoke", proof)
    assert (strict.passes(proof), trusting.passes(proof)) == (False, True)
    clock.now += 29.9
    assert trusting.passes(proof)
    clock.now += 0.1
    assert [trusting.passes(token) for token in (proof, other)] == [False, False]


# A restart of the store


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that the test may restart; it keeps nothing over it."""
    server = ValkeyServer(tmp_path)
    server.start()
    yield server
    server.stop()


def restart(server: ValkeyServer) -> None:
    server.stop()
    server.start()


@pytest.mark.parametrize("how", WAYS)
def test_r25_an_empty_restart_brings_nothing_back_however_it_was_ended(
    make_site: Callable[..., Flask], own_server: ValkeyServer, how: str
) -> None:
    """The store has a record of each proof that is good, and not of those that are not: without it, none is."""
    app, other = make_site(own_server.uri), make_site(own_server.uri)
    client = app.test_client()
    proof, kept = new_proof(app, client), new_proof(app, purpose="transfer")
    with capture_codes(app) as codes:
        handle = app.test_client().post("/otp/send", json={"email": ANN}).get_json()["challenge"]
    end(app, how, proof)
    restart(own_server)
    for machine in (app, other):
        assert not passes(machine, proof)
        assert not passes(machine, kept, "/transfer")
        assert move_session(client, machine).get("/account").status_code == 401
        answer = machine.test_client().post("/otp/verify", json={"code": codes.code, "challenge": handle})
        assert answer.status_code == 400
    assert passes(other, new_proof(app))


def test_r25_over_an_empty_restart_the_lag_is_still_the_bound(
    make_site: Callable[..., Flask], own_server: ValkeyServer, clock: Clock
) -> None:
    here, there = make_site(own_server.uri, 30), make_site(own_server.uri, 30)
    proof = new_proof(here)
    assert passes(here, proof)
    assert passes(there, proof)
    end(here, "revoke", proof)
    restart(own_server)
    assert not passes(here, proof)
    clock.advance(29)
    assert passes(there, proof)
    clock.advance(1)
    assert not passes(there, proof)
    assert not passes(here, proof)


# A browser that is known


@pytest.mark.parametrize(("behind", "length"), [(0, 13), (20, 13), (LEEWAY, 13), (LEEWAY + 1, 6)])
def test_r25_a_machine_that_is_behind_revokes_a_known_browser_too(stage: Stage, behind: int, length: int) -> None:
    """Strangers get strong codes here. The length of a code shows whether the browser is known."""
    otp = OTP(clock=stage.clock)
    app = stage.app(otp, OTP_FAILURE_BUDGET="1/30 days")
    browser, stranger = Caller(app, browser=True), Caller(app)
    browser.send()
    assert browser.verify(stage.sent.code).status_code == 200
    stranger.send()
    stranger.guess(stage.sent.code)
    assert browser.send().get_json()["code_length"] == 6
    stage.clock.now -= behind
    with app.app_context():
        otp.revoke(OWNER)
    stage.clock.advance(f"{behind + 120}s")
    assert browser.send().get_json()["code_length"] == length
