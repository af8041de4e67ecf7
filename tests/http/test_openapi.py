"""The table of routes, the document made of it, and the app that runs: none knows what the others do not."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from flask_otp import OTP, InvalidRequest, Message, StoreUnavailable, otp_required
from flask_otp.http import routes
from flask_otp.http.openapi import document
from flask_otp.http.requests import read_body
from flask_otp.outages import Cause
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.record import Record
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import START
from tests.support.factor_site import Phone, Table, enrol

ANN, BOB = "ann@example.com", "bob@example.com"
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


def refuses_what_is_wrong(context: Any, answer: Any, case: Any) -> bool | None:
    """Of two things that are wrong, it may be the size that is told, or that a code is missing."""
    needs_code = answer.status_code == 303 and "requirement=" in answer.headers["location"][0]
    return None if answer.status_code == 413 or needs_code else checks.negative_data_rejection(context, answer, case)


CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    refuses_what_is_wrong,
]
AppFactory = Callable[..., Flask]


def described(app: Flask) -> dict[str, Any]:
    with app.app_context():
        return document(app.extensions["otp"])


EVERYTHING: dict[str, Any] = {
    "OTP_OPENAPI": True,
    "OTP_HEALTH": True,
    "OTP_LINKS": True,
    "OTP_AUDIT": True,
    "OTP_STATS": True,
    "OTP_OUTBOX": True,
    "OTP_BASE_URL": "http://localhost",
    "OTP_PURPOSES": {
        "login": {"next_channel_after": "45s"},
        "transfer": {"code_length": 8},
        "delete": {"typed": False, "channels": ["email"]},
        "app": {"channels": ["totp", "recovery"]},
    },
    "OTP_CHANNELS": {name: lambda message: None for name in ("email", "sms", "voice")},
    "OTP_SMS_COUNTRIES": ("DE",),
    "OTP_DELIVERY": "inline",
    "OTP_IP_SEND_LIMIT": None,
    "OTP_IP_VERIFY_LIMIT": None,
    "OTP_SEND_LIMIT": "1000/hour",
    "OTP_RECIPIENT_LIMIT": "1000/hour",
}


#: At night, each operation is asked 2,000 times in each mode: 500 times by each of them.
VISITORS = ["strangers", "signed in", "with an app", "with an app, while much fails"]


class Visitors:
    """A site with everything on, and who comes to it: strangers, or a person who is signed in, with an app or not.

    To the last of :data:`VISITORS`, the person with an app comes while the store and the table of users often fail.
    """

    def __init__(self, make_app: AppFactory, clock: Clock, who: str) -> None:
        self.clock, self.who, self.handle, self.proof, self.calls = clock, who, "", "", 0
        self.table, self.otp = Table(ANN), OTP(clock=clock)
        self.otp.factors_loader(self.table.load)
        self.otp.factors_saver(self.save)
        self.otp.identifier_loader(lambda: None if who == VISITORS[0] else ANN)
        self.otp.may_enrol(lambda: True)
        self.app = make_app(self.otp, **EVERYTHING)
        self.phone, self.recovery = enrol(self.app, clock) if who in VISITORS[2:] else (None, ())

    def is_failing(self) -> bool:
        """Every fourth time that it is asked."""
        self.calls += 1
        return self.calls % 4 == 0

    def save(self, identifier: str, new: str | None, old: str | None) -> bool:
        is_failing = self.who == VISITORS[-1] and self.is_failing()
        return not is_failing and self.table.save(identifier, new, old)

    def fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        load = MemoryStore.load

        def load_or_fail(store: MemoryStore, subject: bytes) -> Record:
            if self.is_failing():
                raise StoreUnavailable(cause=Cause("unreachable", "test"))
            return load(store, subject)

        monkeypatch.setattr(MemoryStore, "load", load_or_fail)

    def headers(self) -> dict[str, str]:
        """A proof by the app, never older than the routes of apps demand; in turn those of a page and of an API."""
        minute = int(self.clock() - START) // 60
        if self.phone is not None and minute % 8 == 0:
            client = self.app.test_client()
            client.post("/otp/send", json={"channel": "totp"})
            told = client.post("/otp/verify", json={"code": self.phone.code()}).get_json()
            self.proof = told.get("proof", self.proof)
        page = {"Accept": "text/html"} if minute // 2 % 2 else {}
        return page | ({"Authorization": f"Bearer {self.proof}"} if self.proof else {})

    def learn(self, answer: Any) -> None:
        """What a client would keep of an answer."""
        told = json.loads(answer.data) if answer.data[:1] == b"{" else {}
        self.handle = told.get("challenge", self.handle)

    def improve(self, path: str, body: dict[str, Any], sent: Outbox) -> dict[str, Any]:
        """The body as that of a client that uses the API well: with values that are right, or come from the site."""
        minute = int(self.clock() - START) // 60
        who = ANN if self.who != VISITORS[0] or minute % 2 else f"person{minute}@example.com"
        if path.endswith(("verify", "resend")):
            self.learn(self.app.test_client().post("/otp/send", json={"identifier": who, "channel": "email"}))
        named = body.keys() & {"identifier", "email", "phone"}
        left = (
            {"requirement", "form", "email", "phone", "challenge"} if named else {"link"} if "code" in body else set()
        )
        better = {name: value for name, value in body.items() if name not in left}
        if path.endswith("verify"):
            better = {name: value for name, value in better.items() if name not in ("purpose", "session", "trust")}
        better |= {"identifier": who} if named else {}
        known = {"challenge": self.handle, "code": sent[-1].code if sent else "", "name": "phone"}
        return better | {name: value for name, value in known.items() if name in better and value}


@pytest.fixture
def open_app(make_app: AppFactory, clock: Clock) -> Flask:
    return Visitors(make_app, clock, VISITORS[0]).app


# The document


def test_it_is_what_the_routes_and_the_parser_know(open_app: Flask) -> None:
    told = described(open_app)
    assert told == open_app.test_client().get("/otp/openapi.json").get_json()
    validate(told)
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in open_app.url_map.iter_rules()
        if rule.endpoint.startswith("otp.")
        and not rule.endpoint.startswith(("otp.unknown", "otp.static", "otp.brand_sheet", "otp.outbox"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, item in told["paths"].items() for method in item} == served
    for route in routes.ROUTES:
        if route.method == "POST":
            operation = told["paths"][f"/otp{route.path}"]["post"]
            content = operation["requestBody"]["content"]
            known = set(content["application/json"]["schema"]["properties"])
            assert known == set(_names_read(open_app, route))
            assert content["application/json"]["schema"]["additionalProperties"] is False


def _names_read(app: Flask, route: routes.Route) -> Iterator[str]:
    every = {member.name for each in routes.ROUTES for member in each.members}
    for name in every | {"context", "user", "code2"}:
        value = {"trust": True, "session": False}.get(name, "x")
        with app.test_request_context(method="POST", json={name: value}):
            try:
                assert read_body(route) == {name: str(value or "")}
            except InvalidRequest:
                continue
        yield name


def test_it_says_what_the_settings_say(make_app: AppFactory) -> None:
    plain = described(make_app())
    assert not [path for path in plain["paths"] if re.search("link|openapi|health|app", path)]
    assert make_app().test_client().get("/otp/openapi.json").status_code == 404
    app = make_app(
        OTP_URL_PREFIX="/code",
        OTP_PURPOSES={"login": {}, "payout": {"code_length": 9, "channels": ["sms"]}},
        OTP_CHANNELS={"sms": lambda message: None},
    )
    told = described(app)
    assert "/code/send" in told["paths"]
    members = told["paths"]["/code/send"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert members["purpose"]["enum"] == ["login", "payout"]
    assert members["channel"]["enum"] == ["sms"]
    assert told["components"]["schemas"]["Challenge"]["properties"]["code_length"]["enum"] == [6, 9, 13]


def test_it_knows_where_the_app_has_mounted_the_blueprint() -> None:
    app = Flask("site")
    app.config.update(TESTING=True, SECRET_KEY="x" * 16, OTP_STORAGE_URI="memory://")
    otp = OTP(app, register_blueprint=False)
    app.register_blueprint(otp.blueprint, url_prefix="/my/codes")
    with app.app_context():
        told = otp.openapi()
    validate(told)
    assert "/my/codes/verify" in told["paths"]


def test_the_command_prints_it(open_app: Flask) -> None:
    result = open_app.test_cli_runner().invoke(args=["otp", "openapi"])
    assert json.loads(result.output) == described(open_app)


def test_an_answer_has_all_the_members_that_are_described_and_no_others(app: Flask, outbox: Outbox) -> None:
    schemas, client = described(app)["components"]["schemas"], app.test_client()
    for name, path in (("Challenge", "/otp/send"), ("Verification", "/otp/verify")):
        answer = client.post(path, json={"email": ANN} if name == "Challenge" else {"code": outbox.code})
        assert answer.get_json().keys() == schemas[name]["properties"].keys()


@pytest.mark.filterwarnings("ignore")
def test_all_that_a_person_does_with_apps_is_described(make_app: AppFactory, clock: Clock) -> None:
    visitors = Visitors(make_app, clock, VISITORS[2])
    schema = schemathesis.openapi.from_wsgi("/otp/openapi.json", visitors.app)
    clock.advance(480 - (clock() - START) % 480)
    headers = visitors.headers()

    def ask(method: str, path: str, **body: str) -> tuple[int, dict[str, Any]]:
        case = schema[f"/otp/{path}"][method].Case(body=body, headers=headers, media_type="application/json")
        answer = case.call_and_validate(checks=CHECKS[:-1])
        return answer.status_code, answer.json()

    for number in range(2, 6):
        _, begun = ask("GET", "app")
        code = Phone(begun["uri"], clock).code()
        status, told = ask("POST", "app", enrolment=begun["enrolment"], code=code, name=f"app {number}")
        assert (status, len(told["apps"])) == (200, number)
    assert ask("GET", "app")[0] == 400  # no room for a sixth
    status, told = ask("POST", "recovery")
    assert (status, len(told["recovery_codes"])) == (200, 10)
    status, told = ask("POST", "app/remove", name="app 5")
    assert (status, len(told["apps"])) == (200, 4)


def test_a_page_that_must_wait_or_cannot_send_is_described(make_app: AppFactory, clock: Clock) -> None:
    """The first page sends at once if there is nothing to choose, and the second shows a spent budget."""
    otp, broken = OTP(clock=clock), [True]
    otp.identifier_loader(lambda: ANN)
    otp.factors_loader(lambda identifier: None)

    @otp.channel("email")
    def deliver(message: Message) -> None:
        if broken:
            raise OSError

    purposes = {"login": {"channels": ["email"]}, "app": {"channels": ["totp"], "failure_budget": "1/day"}}
    app = make_app(otp, OTP_PURPOSES=purposes, OTP_SEND_LIMIT="1/hour", OTP_ON_BUDGET="refuse", OTP_COOLDOWN=0)
    app.add_url_rule("/account", "account", otp_required(lambda: "account"))
    page = {"Accept": "text/html", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    def step_up() -> int:
        client = app.test_client()
        return client.get(client.get("/account", headers=page).location, headers=page).status_code

    first = [step_up()]
    broken.clear()
    first += [step_up(), step_up()]
    assert first == [503, 303, 429]
    client = app.test_client()
    client.post("/otp/send", json={"purpose": "app"})
    client.post("/otp/verify", json={"code": "000000"})
    second = client.get("/otp/verify?purpose=app", headers=page).status_code
    assert second == 429
    told = described(app)["paths"]
    assert set(map(str, first)) <= told["/otp/"]["get"]["responses"].keys()
    assert str(second) in told["/otp/verify"]["get"]["responses"]


# Whatever is sent


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("most", [3, pytest.param(500, marks=pytest.mark.long)])
@pytest.mark.parametrize("who", VISITORS)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_answer_is_outside_of_the_document_and_no_bad_input_sends(
    make_app: AppFactory,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    mode: GenerationMode,
    who: str,
    most: int,
) -> None:
    visitors = Visitors(make_app, clock, who)
    caplog.set_level(logging.INFO, "flask_otp.audit")
    schema = schemathesis.openapi.from_wsgi("/otp/openapi.json", visitors.app)
    checked = CHECKS
    if who == VISITORS[-1]:
        visitors.fail(monkeypatch)
        # A 503 comes before what is wrong is seen, and is described.
        checked = [check for check in CHECKS if check not in (not_a_server_error, refuses_what_is_wrong)]
    seen: set[tuple[str, int]] = set()
    with capture_codes(visitors.app) as sent:

        def check(case: Any) -> None:
            clock.advance(60)
            caplog.clear()
            headers = visitors.headers()
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and int(clock()) // 60 % 3:
                case.body = visitors.improve(case.path, case.body, sent)
            before = len(sent)
            answer = case.call_and_validate(checks=checked, headers=headers)
            seen.add((case.path, answer.status_code))
            assert len(sent) == before or (
                case.path in ("/otp/send", "/otp/resend") and answer.status_code in (200, 303)
            )

        for found in schema.get_all_operations():
            operation = found.ok()
            if mode is GenerationMode.POSITIVE or operation.method == "post":
                bounded = settings(max_examples=most, deadline=None, database=None, suppress_health_check=HealthCheck)
                bounded(given(case=operation.as_strategy(generation_mode=mode))(check))()
    assert {path for path, status in seen if status == 400} >= {"/otp/send", "/otp/verify", "/otp/resend"}
    if mode is GenerationMode.POSITIVE and most > 5:
        assert {path for path, status in seen if status == 200} >= {"/otp/send", "/otp/verify", "/otp/resend"}
    print(sorted(seen))


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/otp/send", {"identifer": ANN}, "Did you mean identifier?"),
        ("/otp/send", {"identifier": ANN, "chanel": "sms"}, "Did you mean channel?"),
        ("/otp/send", {"identifier": ANN, "\ud800": "x"}, "? is not expected here. Did you mean"),
        ("/otp/verify", {"code": "123456", "chalenge": "x"}, "Did you mean challenge?"),
        ("/otp/logout", {"purpose": "login"}, "purpose is not expected here."),
    ],
)
def test_a_member_that_the_route_does_not_know_is_400_and_names_the_nearest(
    app: Flask, outbox: Outbox, path: str, body: dict[str, str], told: str
) -> None:
    answer = app.test_client().post(path, json=body)
    assert (answer.status_code, answer.get_json()["reason"]) == (400, "invalid_request")
    assert told in answer.get_json()["detail"]
    assert not outbox


def test_a_form_may_have_fields_of_its_own_but_no_slip(app: Flask, outbox: Outbox) -> None:
    """Tokens against CSRF, buttons and captchas are the page's business."""
    own = {"csrf_token": "x", "submit": "Send", "g-recaptcha-response": "x", "_charset_": "utf-8", "channel": ""}
    client = app.test_client()
    assert client.post("/otp/send", data={"identifier": ANN, **own}).status_code == 303
    assert len(outbox) == 1
    assert client.post("/otp/send", data={"identifier": BOB, "purpse": "login"}).status_code == 400
    assert len(outbox) == 1


# Idempotency-Key


def keyed(app: Flask, key: str = KEY, **body: str) -> Any:
    """A client without cookies sends."""
    return app.test_client().post("/otp/send", json={"email": ANN} | body, headers={"Idempotency-Key": key})


def test_a_repeated_request_is_one_challenge_and_one_message(app: Flask, outbox: Outbox, clock: Clock) -> None:
    first = keyed(app)
    handles = {app.extensions["otp"].tokens.load_handle(first.get_json()["challenge"]).challenge_id}
    for wait in ("0s", "31s", "4m"):
        clock.advance(wait)
        again = keyed(app)
        assert again.status_code == 200
        handles.add(app.extensions["otp"].tokens.load_handle(again.get_json()["challenge"]).challenge_id)
    assert (len(handles), len(outbox)) == (1, 1)
    answer = app.test_client().post(
        "/otp/verify", json={"challenge": again.get_json()["challenge"], "code": outbox.code}
    )
    assert answer.status_code == 200


def test_a_repeated_request_for_a_new_code_is_one_challenge_and_one_message(
    app: Flask, outbox: Outbox, clock: Clock
) -> None:
    client = app.test_client(use_cookies=False)
    expired = client.post("/otp/send", json={"email": ANN}).get_json()["challenge"]
    clock.advance("6m")
    for body in ({"challenge": expired}, {"challenge": expired, "session": False}):
        handles, before = set(), len(outbox)
        for _ in range(2):
            answer = client.post("/otp/send", json=body, headers={"Idempotency-Key": f"{KEY}{len(body)}"})
            assert answer.status_code == 200
            handles.add(app.extensions["otp"].tokens.load_handle(answer.get_json()["challenge"]).challenge_id)
            clock.advance("31s")
        assert (len(handles), len(outbox) - before) == (1, 1)
        other = client.post("/otp/send", json={"email": BOB}, headers={"Idempotency-Key": f"{KEY}{len(body)}"})
        assert other.status_code == 422


def test_r12_a_challenge_starts_another_for_its_own_user_and_for_an_hour(make_app: AppFactory, clock: Clock) -> None:
    otp, signed_in = OTP(clock=clock), [ANN]
    otp.identifier_loader(lambda: signed_in[0])
    app = make_app(otp)
    client = app.test_client(use_cookies=False)

    def start_again(handle: str) -> str:
        answer = client.post("/otp/send", json={"challenge": handle})
        return str(answer.get_json().get("reason", answer.status_code))

    with capture_codes(app):
        handle = client.post("/otp/send", json={}).get_json()["challenge"]
        clock.advance("6m")
        assert start_again(handle) == "200"
        signed_in[0] = BOB
        assert start_again(handle) == "challenge_required"
        signed_in[0] = ANN
        clock.advance("58m")
        assert start_again(handle) == "200"
        clock.advance("1m")
        assert start_again(handle) == "challenge_required"


def test_a_repeated_request_for_what_a_guard_asked_is_one_message(make_app: AppFactory, clock: Clock) -> None:
    app = make_app()
    app.add_url_rule("/pay", "pay", otp_required(context=lambda: {"amount": 3})(lambda: "paid"))
    token = app.test_client().get("/pay").get_json()["requirement"]
    with capture_codes(app) as sent:
        for _ in range(2):
            assert keyed(app, requirement=token).status_code == 200
            clock.advance("31s")
    assert len(sent) == 1


def test_repeated_at_once_it_is_still_one(app: Flask, outbox: Outbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [answer.status_code for answer in pool.map(lambda _: keyed(app), range(24))]
    # The network's own limit counts all of them.
    assert set(answers) <= {200, 429}
    assert answers.count(200) == 20
    assert len(outbox) == 1


def test_another_key_is_another_challenge(app: Flask, outbox: Outbox, clock: Clock) -> None:
    first = keyed(app)
    clock.advance("31s")
    second = keyed(app, KEY[::-1])
    codes = {message.code for message in outbox}
    assert (first.status_code, second.status_code, len(codes)) == (200, 200, 2)


def test_another_body_under_the_same_key_is_422_and_sends_nothing(app: Flask, outbox: Outbox, clock: Clock) -> None:
    keyed(app)
    for body in ({"email": BOB}, {"next": "/other"}):
        answer = keyed(app, **body)
        assert (answer.status_code, answer.get_json()["reason"]) == (422, "idempotency_conflict")
    assert len(outbox) == 1
    clock.advance("6m")
    assert keyed(app, email=BOB).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 15, "x" * 256, "ü" * 20, "x\ty" * 10])
def test_a_key_out_of_bounds_is_400(app: Flask, outbox: Outbox, key: str) -> None:
    assert keyed(app, key).status_code == 400
    assert not outbox


def test_keys_fill_the_store_no_faster_than_the_network_may_send(app: Flask) -> None:
    store: MemoryStore = app.extensions["otp"].store
    answers = [keyed(app, f"{number:016d}").status_code for number in range(40)]
    assert answers.count(429) >= 20
    # Twenty keys, and the one subject.
    assert store._size <= 21


def test_known_and_unknown_are_one_with_a_key_too(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    otp.recipient_loader(lambda identifier, channel: identifier if identifier == ANN else None)
    app = make_app(otp, OTP_DELIVERY="inline")
    with capture_codes(app):
        for body in ({"email": ANN}, {"email": BOB}):
            key = f"{body['email']:0>20}"
            members = [sorted(keyed(app, key, **body).get_json()) for _ in range(2)]
            assert members[0] == members[1]
            clock.advance("31s")
            assert keyed(app, key, **body).get_json()["resend_in"] == 0
            assert keyed(app, key, next="/x", **body).status_code == 422
