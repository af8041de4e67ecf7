"""The guard: no request passes without a matching proof, on any view, with any method (R27, R28, R36, R37)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import wraps
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Blueprint, Flask, Response, abort, redirect, request
from flask.testing import FlaskClient
from flask.views import MethodView, View
from werkzeug.test import TestResponse

from flask_otp import OTP, ConfigError, VerificationRequired, current_verification, otp_required
from flask_otp.testing import Clock, OTPClient, Outbox, capture_codes
from tests.support.apps import SECRET, AppFactory, ValkeyServer, free_port
from tests.support.visits import bearer

ANN = "ann@example.com"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}}

Runs = list[str]


@pytest.fixture
def app(make_app: AppFactory, clock: Clock) -> Flask:
    otp = OTP(clock=clock)
    for name in ("email", "letter"):
        otp.channel(name)(lambda message: None)
    return make_app(otp)


def verified(app: Flask, **options: Any) -> FlaskClient:
    """A client with a fresh proof in its session."""
    app.test_client_class = OTPClient
    return app.test_client(verified=ANN, **options)


def proof_of(client: FlaskClient, purpose: str = "login") -> str:
    with client.session_transaction() as session:
        return str(session["_otp"]["proof"][purpose])


def guard_view(app: Flask, **options: Any) -> Runs:
    """``/guarded`` behind the guard; the list grows with each time its body runs."""
    runs: Runs = []

    @app.route("/guarded", methods=METHODS)
    @otp_required(**options)
    def guarded() -> str:
        runs.append(request.method)
        return "in"

    return runs


# Views of every kind


def bare_function(runs: Runs) -> Any:
    @otp_required
    def view() -> str:
        runs.append(request.method)
        return "in"

    return view


def function_with_arguments(runs: Runs) -> Any:
    @otp_required(purpose="login", max_age="5m")
    def view() -> str:
        runs.append(request.method)
        return "in"

    return view


def empty_parentheses(runs: Runs) -> Any:
    @otp_required()
    def view() -> str:
        runs.append(request.method)
        return "in"

    return view


def async_function(runs: Runs) -> Any:
    @otp_required
    async def view() -> str:
        runs.append(request.method)
        return "in"

    return view


def method_view(runs: Runs) -> type[MethodView]:
    class Account(MethodView):
        def get(self) -> str:
            runs.append(request.method)
            return "in"

        post = put = patch = delete = get

    return Account


def class_by_its_decorators(runs: Runs) -> Any:
    view = method_view(runs)
    view.decorators = [otp_required]
    return view.as_view("account")


def class_by_decorators_with_arguments(runs: Runs) -> Any:
    view = method_view(runs)
    view.decorators = [otp_required(max_age=300)]
    return view.as_view("account")


def class_itself(runs: Runs) -> Any:
    return otp_required(method_view(runs)).as_view("account")


def class_itself_with_arguments(runs: Runs) -> Any:
    return otp_required(max_age="5m")(method_view(runs)).as_view("account")


def subclass_of_a_guarded_class(runs: Runs) -> Any:
    class Child(otp_required(method_view(runs))):  # type: ignore[misc]
        pass

    return Child.as_view("account")


def each_method_of_a_class(runs: Runs) -> Any:
    class Account(MethodView):
        @otp_required
        def get(self) -> str:
            runs.append(request.method)
            return "in"

        @otp_required(max_age="5m")
        async def post(self) -> str:
            runs.append(request.method)
            return "in"

        put = patch = delete = post

    return Account.as_view("account")


def plain_view_class(runs: Runs) -> Any:
    @otp_required
    class Account(View):
        methods = METHODS

        async def dispatch_request(self) -> str:
            runs.append(request.method)
            return "in"

    return Account.as_view("account")


def view_function_of_a_class(runs: Runs) -> Any:
    return otp_required(method_view(runs).as_view("account"))


KINDS = [
    bare_function,
    function_with_arguments,
    empty_parentheses,
    async_function,
    class_by_its_decorators,
    class_by_decorators_with_arguments,
    class_itself,
    class_itself_with_arguments,
    subclass_of_a_guarded_class,
    each_method_of_a_class,
    plain_view_class,
    view_function_of_a_class,
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def mounted(request: pytest.FixtureRequest, app: Flask) -> tuple[Flask, Runs]:
    runs: Runs = []
    kind: Callable[[Runs], Any] = request.param
    app.add_url_rule("/guarded", "account", kind(runs), methods=METHODS)
    return app, runs


@pytest.mark.parametrize("method", METHODS)
def test_r27_no_method_reaches_the_body_without_a_proof(mounted: tuple[Flask, Runs], method: str) -> None:
    app, runs = mounted
    refused = app.test_client().open("/guarded", method=method)
    assert refused.status_code == 401
    assert runs == []


def test_every_method_of_every_view_runs_with_a_proof(mounted: tuple[Flask, Runs]) -> None:
    app, runs = mounted
    client = verified(app)
    assert [client.open("/guarded", method=method).status_code for method in METHODS] == [200] * 6
    assert runs == METHODS


def test_options_is_answered_without_a_proof_and_without_the_body(mounted: tuple[Flask, Runs]) -> None:
    app, runs = mounted
    answer = app.test_client().options("/guarded")
    assert answer.status_code == 200
    assert "POST" in answer.headers["Allow"]
    assert runs == []


def test_r27_a_view_that_lists_options_itself_does_not_run_by_it(app: Flask) -> None:
    """``methods=["POST", "OPTIONS"]`` is what people write for CORS: OPTIONS must be no way around the guard."""
    runs: Runs = []

    @app.route("/transfer", methods=["POST", "OPTIONS"])
    @otp_required
    def transfer() -> str:
        runs.append(request.method)
        return "sent"

    assert app.test_client().options("/transfer", json={"amount": 5}).status_code < 400
    assert runs == []


def test_r27_a_protected_view_that_lists_options_itself_does_not_run_by_it(make_app: AppFactory, clock: Clock) -> None:
    otp, runs = OTP(clock=clock), []
    app = make_app(otp)
    otp.protect(app)
    app.add_url_rule("/transfer", "transfer", lambda: runs.append("ran") or "sent", methods=["POST", "OPTIONS"])
    assert app.test_client().options("/transfer", json={"amount": 5}).status_code < 400
    assert runs == []


def test_options_that_flask_answers_ask_the_store_nothing(
    make_app: AppFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp)
    otp.protect(app)
    app.add_url_rule("/", "home", lambda: "home")
    client = verified(app)
    monkeypatch.setattr(app.extensions["otp"], "store", None)
    assert client.options("/").status_code == 200


def test_trust_without_a_loader_is_told(make_app: AppFactory, clock: Clock) -> None:
    app = make_app(OTP(clock=clock))
    app.add_url_rule("/", "home", otp_required(trust="30d")(lambda: "home"))
    with pytest.raises(ConfigError, match="otp_required: trust needs an identifier_loader"):
        app.test_client().get("/")


@pytest.mark.parametrize("how", ["otp_required", "protect", "class", "page for a 404"])
def test_a_view_with_options_of_its_own_is_reached_with_a_proof(make_app: AppFactory, clock: Clock, how: str) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp)

    class Calendar(MethodView):
        def options(self) -> Response:
            return Response("own", headers={"DAV": "1"})

    def own() -> Response:
        return Response("own", headers={"DAV": "1"})

    if how == "protect":
        otp.protect(app)
        app.add_url_rule("/dav", "dav", own, methods=["OPTIONS"])
    elif how == "class":
        app.add_url_rule("/dav", view_func=otp_required(Calendar).as_view("dav"))
    elif how == "page for a 404":
        app.register_error_handler(404, otp_required(lambda error: own()))
    else:
        app.add_url_rule("/dav", "dav", otp_required(own), methods=["OPTIONS"])
    refused, reached = app.test_client().options("/dav"), verified(app).options("/dav")
    assert (refused.status_code, refused.text, "DAV" in refused.headers) == (200, "", False)
    assert (reached.text, reached.headers["DAV"], reached.headers["Cache-Control"]) == ("own", "1", "no-store")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "OPTIONS"},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer null"},
        {"Authorization": "Bearer " + "A" * 100_000},
        {"Authorization": "Bearer \xe9\xff"},
    ],
)
def test_r27_no_header_opens_the_guard(app: Flask, headers: dict[str, str]) -> None:
    runs = guard_view(app)
    assert app.test_client().post("/guarded", headers=headers).status_code == 401
    assert runs == []


@pytest.mark.parametrize(
    "kept",
    [
        None,
        1,
        "x",
        [],
        {},
        {"proof": None},
        {"proof": "x"},
        {"proof": ["login"]},
        {"proof": {"login": None}},
        {"proof": {"login": True}},
        {"proof": {"login": {"identifier": ANN}}},
        {"proof": {"login": ["a", "b"]}},
        {"verified": True},
    ],
    ids=repr,
)
def test_r27_a_malformed_session_is_no_proof(app: Flask, kept: object) -> None:
    runs = guard_view(app)
    client = app.test_client()
    with client.session_transaction() as session:
        session["_otp"] = kept
    assert client.get("/guarded").status_code == 401
    assert runs == []


def test_r27_a_proof_is_a_bearer_token_and_passes_as_nothing_else(app: Flask) -> None:
    guard_view(app)
    proof = proof_of(verified(app))
    for scheme, status in {"Bearer": 200, "bearer ": 200, "Basic": 401, "Token": 401, "": 401}.items():
        answer = app.test_client().get("/guarded", headers={"Authorization": f"{scheme} {proof}"})
        assert answer.status_code == status, scheme


def test_the_view_sees_whom_the_guard_let_in(app: Flask) -> None:
    @app.get("/who")
    @otp_required
    def who() -> str:
        return current_verification.identifier

    assert verified(app).get("/who").text == ANN


def test_the_guard_keeps_the_name_and_the_arguments_of_the_view(app: Flask) -> None:
    @app.get("/page/<int:number>")
    @otp_required
    def page(number: int) -> str:
        """Words."""
        return str(number + 1)

    assert (page.__name__, page.__doc__) == ("page", "Words.")
    assert verified(app).get("/page/6").text == "7"


# max_age and expiry


@pytest.mark.parametrize("max_age", ["5m", "300s", "300", 300, timedelta(minutes=5)], ids=repr)
def test_max_age_is_exact_to_its_last_moment(app: Flask, clock: Clock, max_age: Any) -> None:
    runs = guard_view(app, max_age=max_age)
    client = verified(app)
    clock.advance(300)
    assert client.get("/guarded").status_code == 200
    clock.now += 0.001
    refused = client.get("/guarded")
    assert refused.status_code == 401
    assert refused.json is not None
    assert refused.json["max_age"] == 300
    assert runs == ["GET"]


def test_an_old_proof_passes_again_after_a_new_verification(app: Flask, clock: Clock, outbox: Outbox) -> None:
    runs = guard_view(app, max_age="5m")
    client = verified(app)
    clock.advance("6m")
    assert client.get("/guarded").status_code == 401
    client.post("/otp/send", json={"identifier": ANN})
    client.post("/otp/verify", json={"code": outbox.code})
    assert client.get("/guarded").status_code == 200
    assert runs == ["GET"]


@pytest.mark.parametrize("lag", [0, 5])
def test_a_proof_lives_for_otp_verified_for_and_not_a_second_longer(
    make_app: AppFactory, clock: Clock, lag: int
) -> None:
    app = make_app(OTP_VERIFIED_FOR="10m", OTP_REVOCATION_LAG=lag)
    runs = guard_view(app)
    client = verified(app)
    clock.advance(599)
    assert client.get("/guarded").status_code == 200
    clock.advance(1)
    assert client.get("/guarded").status_code == 401
    assert runs == ["GET"]


def test_a_proof_from_the_future_is_refused_but_a_minute_of_clock_skew_is_not(app: Flask, clock: Clock) -> None:
    guard_view(app)
    client = verified(app)
    clock.now -= 60
    assert client.get("/guarded").status_code == 200
    clock.now -= 1
    assert client.get("/guarded").status_code == 401


# channels


@pytest.mark.parametrize(
    ("channels", "status"), [((), 200), (("email",), 200), (["letter", "email"], 200), (("letter",), 401)]
)
def test_r42_the_guard_takes_only_the_channels_it_names(app: Flask, channels: Any, status: int) -> None:
    runs = guard_view(app, channels=channels)
    assert verified(app, channel="email").get("/guarded").status_code == status
    assert len(runs) == (status == 200)


@pytest.mark.parametrize(
    "iterable", [iter, lambda names: (name for name in names), set], ids=["iterator", "generator", "set"]
)
def test_r42_the_channels_may_come_in_any_iterable_and_are_never_lost(
    app: Flask, iterable: Callable[[list[str]], Iterable[str]]
) -> None:
    runs = guard_view(app, channels=iterable(["letter"]))
    for _ in range(2):
        assert verified(app, channel="email").get("/guarded").status_code == 401
    assert runs == []


def test_the_form_after_a_refusal_uses_a_channel_that_the_guard_accepts(make_app: AppFactory) -> None:
    sent: list[str] = []
    app = make_app(OTP_CHANNELS={"email": lambda message: None, "letter": lambda message: sent.append(message.code)})
    guard_view(app, channels=("letter",))
    client = app.test_client()
    assert client.get("/guarded").json["channels"] == ["letter"]  # type: ignore[index]
    assert client.post("/otp/send", json={"identifier": ANN, "channel": "email"}).status_code == 400
    client.post("/otp/send", json={"identifier": ANN})
    client.post("/otp/verify", json={"code": sent[0]})
    assert client.get("/guarded").status_code == 200


# once


@pytest.mark.parametrize("lag", ["0s", "1m"])
def test_r27_of_50_requests_at_once_on_one_proof_exactly_one_passes(make_app: AppFactory, lag: str) -> None:
    app = make_app(OTP_REVOCATION_LAG=lag)
    runs = guard_view(app, once=True)
    app.add_url_rule("/open", "open", otp_required(lambda: "in"))
    proof = proof_of(verified(app))
    app.test_client_class = FlaskClient
    assert app.test_client().get("/open", headers=bearer(proof)).status_code == 200  # the process trusts it now
    barrier = Barrier(50)

    def ask(_: int) -> int:
        client = app.test_client()
        barrier.wait()
        return client.post("/guarded", headers=bearer(proof)).status_code

    with ThreadPoolExecutor(50) as pool:
        statuses = sorted(pool.map(ask, range(50)))
    assert statuses == [200] + [401] * 49
    assert runs == ["POST"]
    assert app.test_client().get("/open", headers=bearer(proof)).status_code == 401


def test_a_proof_that_does_not_fit_is_not_used_up(app: Flask, clock: Clock) -> None:
    runs = guard_view(app, once=True, channels=("letter",))
    app.add_url_rule("/open", "open", otp_required(lambda: "in"))
    client = verified(app)
    assert client.get("/guarded").status_code == 401
    assert client.get("/open").status_code == 200
    assert runs == []


def test_the_view_behind_once_still_sees_who_it_is(app: Flask) -> None:
    @app.get("/who")
    @otp_required(once=True)
    def who() -> str:
        return current_verification.identifier

    client = verified(app)
    assert client.get("/who").text == ANN
    assert client.get("/who").status_code == 401


# How it refuses


def test_r28_an_api_client_gets_401_as_rfc_9470_and_rfc_9457_say(app: Flask) -> None:
    guard_view(app, max_age="15m")
    refused = app.test_client().get("/guarded", headers={"Accept": "application/json"})
    assert refused.status_code == 401
    assert refused.mimetype == "application/problem+json"
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="insufficient_user_authentication", max_age=900'
    body = refused.get_json(force=True)
    assert {name: body[name] for name in body if name not in ("detail", "title", "requirement")} == {
        "type": "urn:flask-otp:verification_required",
        "status": 401,
        "reason": "verification_required",
        "purpose": "login",
        "max_age": 900,
    }
    assert isinstance(body["requirement"], str)


def test_r28_without_max_age_the_header_names_none(app: Flask) -> None:
    guard_view(app)
    refused = app.test_client().get("/guarded")
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="insufficient_user_authentication"'
    assert "max_age" not in refused.get_json(force=True)


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "image/png", "text/html;q=0"])
def test_without_an_accept_that_names_html_it_is_an_api_client(app: Flask, accept: str | None) -> None:
    guard_view(app)
    headers = {} if accept is None else {"Accept": accept}
    assert app.test_client().get("/guarded", headers=headers).status_code == 401


def way_back(client: FlaskClient, refused: TestResponse, outbox: Outbox) -> str:
    """Through the form as a browser goes; where it ends."""
    assert refused.status_code == 303
    assert refused.headers["Location"].startswith("/otp/")
    assert client.get(refused.headers["Location"], headers=HTML).status_code == 200
    sent = client.post("/otp/send", data={"identifier": ANN}, headers=HTML)
    assert sent.status_code == 303
    done = client.post("/otp/verify", data={"code": outbox.code}, headers=HTML)
    assert done.status_code == 303
    return done.headers["Location"]


@pytest.mark.parametrize(
    "path",
    ["/page/1", "/page/1?tab=2&q=%C3%A9%20x", "/page/a+b;c=d", "/page/two%20words", "/page/caf%C3%A9", "/page/a%3Fb"],
)
def test_a_browser_is_sent_to_the_form_and_comes_back(app: Flask, outbox: Outbox, path: str) -> None:
    @app.get("/page/<name>")
    @otp_required
    def page(name: str) -> str:
        return name

    client = app.test_client()
    back = way_back(client, client.get(path, headers=HTML), outbox)
    assert back == path
    assert client.get(back).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_on_another_site_leads_to_the_form_and_back(app: Flask, method: str) -> None:
    """It writes nothing into the session: what another site has sent would take the place of what is there."""
    guard_view(app)
    client = app.test_client()
    refused = client.open("/guarded", method=method, headers=HTML | {"Sec-Fetch-Site": "cross-site"})
    assert refused.headers["Location"] == "/otp/?next=/guarded"
    assert "Set-Cookie" not in refused.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_guard_of_channels_says_so_in_the_address(app: Flask, method: str) -> None:
    """Which needs no session: a link on another site leads here too."""
    guard_view(app, channels=["letter"])
    headers = HTML | {"Sec-Fetch-Site": "cross-site"}
    location = app.test_client().open("/guarded", method=method, headers=headers).headers["Location"]
    query = parse_qs(urlsplit(location).query)
    assert query["next"] == ["/guarded"]
    assert app.extensions["otp"].tokens.load_requirement(*query["requirement"]).channels == ("letter",)


@pytest.mark.parametrize("origin", ["https://shop.example", "http://localhost", "https://evil.example"])
def test_what_the_guard_asks_of_a_form_is_kept_if_the_base_url_is_its_origin(make_app: AppFactory, origin: str) -> None:
    app = make_app(OTP_BASE_URL="https://shop.example")
    guard_view(app)
    client = app.test_client()
    assert client.post("/guarded", headers=HTML | {"Origin": origin}).status_code == 303
    with client.session_transaction() as session:
        assert ("_otp" in session) is (origin != "https://evil.example")


def test_the_way_back_keeps_the_mount_point_of_the_app(app: Flask, outbox: Outbox) -> None:
    guard_view(app)
    refused = app.test_client().get("/guarded", headers=HTML, environ_overrides={"SCRIPT_NAME": "/shop"})
    assert refused.headers["Location"] == "/shop/otp/?next=/shop/guarded"


def test_a_refused_form_leads_back_to_the_page_it_stood_on(app: Flask, outbox: Outbox) -> None:
    guard_view(app)
    client = app.test_client()
    refused = client.post("/guarded", headers=HTML | {"Referer": "http://localhost/form?step=2"}, data={"amount": "1"})
    assert way_back(client, refused, outbox) == "/form?step=2"


@pytest.mark.parametrize(
    "referer",
    [
        "https://evil.example/form",
        "http://evil.test/form",
        "http://localhost.evil.example/form",
        "http://localhost//evil.example",
        "http://localhost/\\evil.example",
        "http://localhost/\t/evil.example",
        "http://localhost@evil.example/",
        "//evil.example",
        "",
    ],
)
def test_r30_a_foreign_referer_is_no_way_back(app: Flask, outbox: Outbox, referer: str) -> None:
    guard_view(app)
    client = app.test_client()
    refused = client.post("/guarded", headers=HTML, environ_overrides={"HTTP_REFERER": referer})
    assert refused.headers["Location"] == "/otp/"
    assert way_back(client, refused, outbox) == "/"


@pytest.mark.parametrize("path", ["//evil.example/x", "/%5Cevil.example", "/%09/evil.example", "/%0d%0aSet-Cookie:x"])
def test_r30_no_path_of_ours_leads_elsewhere(app: Flask, path: str) -> None:
    app.url_map.merge_slashes = False

    @app.get("/<path:anything>")
    @otp_required
    def page(anything: str) -> str:
        return "in"

    refused = app.test_client().get("http://localhost" + path, headers=HTML)
    location = refused.headers.get("Location", "/otp/")
    assert re.fullmatch(r"/otp/(\?next=/(?![/\\])[!-\[\]-~]*)?", location)
    assert not re.search(r"next=(/|%2F)(/|%2F|\\|%5C|%09|%0D)", location, re.IGNORECASE)


def test_a_browser_is_told_the_purpose_of_the_form(make_app: AppFactory) -> None:
    app = make_app(OTP_PURPOSES=PURPOSES)
    guard_view(app, purpose="transfer")
    location = app.test_client().get("/guarded", headers=HTML).headers["Location"]
    assert "purpose=transfer" in location


def test_without_our_pages_a_browser_gets_401(make_app: AppFactory, clock: Clock) -> None:
    app = make_app(OTP(register_blueprint=False, clock=clock))
    runs = guard_view(app)
    assert app.test_client().get("/guarded", headers=HTML).status_code == 401
    assert runs == []


# unauthorized_handler


def test_the_unauthorized_handler_answers_in_our_place(make_app: AppFactory, clock: Clock) -> None:
    otp, errors = OTP(clock=clock), []

    @otp.unauthorized_handler
    def refuse(error: VerificationRequired) -> tuple[str, int]:
        errors.append(error)
        return "no", 418

    app = make_app(otp, OTP_PURPOSES=PURPOSES)
    runs = guard_view(app, purpose="transfer", max_age=60, channels=("email",))
    answer = app.test_client().get("/guarded")
    assert (answer.status_code, answer.text) == (418, "no")
    assert answer.headers["Cache-Control"] == "no-store"
    assert (errors[0].purpose, errors[0].max_age, errors[0].channels) == ("transfer", 60, ("email",))
    assert errors[0].requirement
    assert runs == []


@pytest.mark.parametrize("whole_app", [False, True])
def test_r27_an_unauthorized_handler_that_returns_nothing_opens_nothing(
    make_app: AppFactory, clock: Clock, whole_app: bool
) -> None:
    otp = OTP(clock=clock)
    otp.unauthorized_handler(lambda error: None)
    app = make_app(otp)
    if whole_app:
        runs: Runs = []
        otp.protect(app)
        app.add_url_rule("/guarded", "guarded", lambda: runs.append("ran") or "in")
    else:
        runs = guard_view(app)
    assert app.test_client().get("/guarded").status_code == 401
    assert runs == []


def test_r27_an_unauthorized_handler_that_breaks_opens_nothing(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    otp.unauthorized_handler(lambda error: 1 / 0)
    app = make_app(otp, PROPAGATE_EXCEPTIONS=False)
    runs = guard_view(app)
    assert app.test_client().get("/guarded").status_code == 500
    assert runs == []


# otp.protect


def protected_app(make_app: AppFactory, clock: Clock, **options: Any) -> tuple[Flask, Runs]:
    otp, runs = OTP(clock=clock), []
    app = make_app(otp, OTP_PURPOSES=PURPOSES)
    otp.protect(app, **options)

    @app.route("/inside", methods=METHODS)
    def inside() -> str:
        runs.append(request.method)
        return "in"

    @app.get("/health")
    def health() -> str:
        return "up"

    return app, runs


@pytest.mark.parametrize("method", METHODS)
def test_protect_guards_every_view_of_an_app(make_app: AppFactory, clock: Clock, method: str) -> None:
    app, runs = protected_app(make_app, clock)
    assert app.test_client().open("/inside", method=method).status_code == 401
    assert app.test_client().get("/health").status_code == 401
    assert runs == []
    assert verified(app).open("/inside", method=method).status_code == 200


def test_protect_leaves_our_pages_the_static_files_and_the_exempt_open(make_app: AppFactory, clock: Clock) -> None:
    app, _ = protected_app(make_app, clock, exempt=["health"])
    client = app.test_client()
    assert client.get("/health").status_code == 200
    assert client.get("/otp/").status_code == 200
    with client.get("/otp/static/otp.css") as style:
        assert style.status_code == 200
    assert client.get("/static/missing.css").status_code == 404
    assert client.get("/nowhere").status_code == 404
    assert client.options("/inside").status_code == 200
    assert client.get("/inside").status_code == 401


@pytest.mark.parametrize("replaced", [False, True])
def test_r27_protect_guards_a_view_that_is_named_static(clock: Clock, replaced: bool) -> None:
    """Only the route of Flask's own static folder is open, and not a name."""
    app = Flask("site", static_folder="static" if replaced else None)
    app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://")
    otp = OTP(app, clock=clock)
    otp.protect(app)
    if replaced:
        app.view_functions["static"] = lambda filename: "inside"
    else:
        app.add_url_rule("/static/<path:filename>", "static", lambda filename: "inside")
    assert app.test_client().get("/static/x").status_code == 401
    assert verified(app).get("/static/x").text == "inside"


def test_protect_leaves_the_static_folder_open_wherever_it_is(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("body {}")
    app = Flask("site", static_folder=tmp_path, static_url_path="/assets")
    app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://")
    otp = OTP(app, clock=clock)
    otp.protect(app)
    with app.test_client().get("/assets/x.css") as answer:
        assert answer.text == "body {}"


def test_protect_takes_the_options_of_the_guard(make_app: AppFactory, clock: Clock) -> None:
    app, _ = protected_app(make_app, clock, purpose="transfer", max_age="1m")
    assert verified(app).get("/inside").status_code == 401
    client = verified(app, purpose="transfer")
    assert client.get("/inside").status_code == 200
    clock.advance(61)
    assert client.get("/inside").headers["WWW-Authenticate"].endswith("max_age=60")


def test_protect_marks_what_it_guards_as_private(make_app: AppFactory, clock: Clock) -> None:
    app, _ = protected_app(make_app, clock)
    for client in (app.test_client(), verified(app)):
        assert client.get("/inside").headers["Cache-Control"] == "no-store"


def blueprint_with(*endpoints: str, name: str = "shop") -> Blueprint:
    blueprint = Blueprint(name, __name__)
    for endpoint in endpoints:
        blueprint.add_url_rule(f"/{name}/{endpoint}", endpoint, lambda: "in")
    return blueprint


@pytest.mark.parametrize("exempt", ["prices", "shop.prices"])
def test_protect_guards_a_blueprint_and_nothing_else(make_app: AppFactory, clock: Clock, exempt: str) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp)
    shop = blueprint_with("cart", "prices")
    otp.protect(shop, exempt=[exempt])
    app.register_blueprint(shop)
    app.add_url_rule("/", "home", lambda: "in")
    app.add_url_rule("/prices", "prices", lambda: "in")
    client = app.test_client()
    assert client.get("/shop/cart").status_code == 401
    assert client.get("/shop/prices").status_code == 200
    assert client.get("/").status_code == 200
    assert verified(app).get("/shop/cart").status_code == 200


def test_protect_reaches_the_blueprints_within_a_blueprint(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp)
    outer, inner = blueprint_with("cart"), blueprint_with("refund", name="desk")
    otp.protect(outer)
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    assert app.test_client().get("/desk/refund").status_code == 401
    assert verified(app).get("/desk/refund").status_code == 200


def test_exempt_on_a_blueprint_works_wherever_that_is_mounted(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp)
    outer, inner = blueprint_with("cart"), blueprint_with("refund", "rules", name="desk")
    otp.protect(inner, exempt=["rules"])
    outer.register_blueprint(inner)
    app.register_blueprint(outer, name="mall")
    assert app.test_client().get("/desk/refund").status_code == 401
    assert app.test_client().get("/desk/rules").status_code == 200


@pytest.mark.parametrize("whole", [True, False], ids=["app", "blueprint"])
def test_r27_another_blueprints_endpoint_of_the_same_name_is_not_exempt(
    make_app: AppFactory, clock: Clock, whole: bool
) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp)
    outer, inner = blueprint_with("rules"), blueprint_with("rules", name="desk")
    app.add_url_rule("/rules", "rules", lambda: "in")
    otp.protect(app if whole else outer, exempt=["rules"])
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    statuses = [app.test_client().get(path).status_code for path in ("/rules", "/shop/rules", "/desk/rules")]
    assert statuses == ([200, 401, 401] if whole else [200, 200, 401])


def test_protect_does_not_open_a_blueprint_of_the_app_that_has_our_name(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(register_blueprint=False, clock=clock)
    app = make_app(otp)
    otp.protect(app)
    app.register_blueprint(blueprint_with("secret", name="otp"))
    assert app.test_client().get("/otp/secret").status_code == 401


# Misuse stops the app; it never serves unprotected


def first_request(app: Flask) -> None:
    app.test_client().get("/guarded")


def test_the_guard_above_the_route_stops_the_app(app: Flask) -> None:
    runs: Runs = []

    @otp_required
    @app.get("/guarded")
    def guarded() -> str:
        runs.append("ran")
        return "in"

    for _ in range(2):
        with pytest.raises(ConfigError, match="above the route decorator of 'guarded'"):
            first_request(app)
    assert runs == []


def test_the_guard_above_the_route_of_a_blueprint_stops_the_app(app: Flask) -> None:
    shop = Blueprint("shop", __name__)
    otp_required(purpose="login")(shop.get("/guarded")(lambda: "in"))
    app.register_blueprint(shop)
    with pytest.raises(ConfigError, match="above the route"):
        first_request(app)


def test_the_guard_above_another_decorator_above_the_route_stops_the_app(app: Flask) -> None:
    def logged(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        return wrapper

    @otp_required
    @logged
    @app.get("/guarded")
    def guarded() -> str:
        return "in"

    with pytest.raises(ConfigError, match="above the route"):
        first_request(app)


def test_the_guard_on_a_class_that_is_already_routed_stops_the_app(app: Flask) -> None:
    """A class decorator of the app that adds the route, with ours above it."""
    view = method_view([])
    app.add_url_rule("/guarded", view_func=view.as_view("account"))
    otp_required(view)
    with pytest.raises(ConfigError):
        first_request(app)


def test_a_subclass_that_replaces_the_decorators_does_not_serve_unguarded(make_app: AppFactory) -> None:
    app, runs = make_app(PROPAGATE_EXCEPTIONS=False), []

    class Child(otp_required(method_view(runs))):  # type: ignore[misc]
        decorators = [lambda view: view]  # noqa: RUF012

    app.add_url_rule("/guarded", view_func=Child.as_view("account"))
    assert app.test_client().get("/guarded").status_code in (401, 500)
    assert runs == []


def test_outside_of_testing_a_misused_guard_is_500_and_never_the_view(make_app: AppFactory) -> None:
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    otp_required(app.get("/guarded")(lambda: "in"))
    app.add_url_rule("/other", "other", lambda: "in")
    client = app.test_client()
    assert [client.get(path).status_code for path in ("/guarded", "/other", "/guarded")] == [500] * 3


def mistaken_purpose_on_the_view(app: Flask, otp: OTP) -> None:
    guard_view(app, purpose="transfr")


def mistaken_purpose_under_another_decorator(app: Flask, otp: OTP) -> None:
    inner = otp_required(purpose="transfr")(lambda: "in")
    app.add_url_rule("/guarded", "guarded", lambda: inner())


def mistaken_purpose_on_a_class(app: Flask, otp: OTP) -> None:
    app.add_url_rule("/guarded", view_func=otp_required(purpose="transfr")(method_view([])).as_view("account"))


def mistaken_purpose_on_a_method(app: Flask, otp: OTP) -> None:
    class Account(MethodView):
        @otp_required(purpose="transfr")
        def get(self) -> str:
            return "in"

    app.add_url_rule("/guarded", view_func=Account.as_view("account"))


def mistaken_purpose_on_the_app(app: Flask, otp: OTP) -> None:
    otp.protect(app, purpose="transfr")
    app.add_url_rule("/guarded", "guarded", lambda: "in")


def mistaken_purpose_on_a_blueprint(app: Flask, otp: OTP) -> None:
    shop = Blueprint("shop", __name__)
    shop.add_url_rule("/guarded", "guarded", lambda: "in")
    otp.protect(shop, purpose="transfr")
    app.register_blueprint(shop)


@pytest.mark.parametrize(
    "mistake",
    [
        mistaken_purpose_on_the_view,
        mistaken_purpose_under_another_decorator,
        mistaken_purpose_on_a_class,
        mistaken_purpose_on_a_method,
        mistaken_purpose_on_the_app,
        mistaken_purpose_on_a_blueprint,
    ],
)
def test_a_purpose_that_does_not_exist_stops_the_app(
    make_app: AppFactory, clock: Clock, mistake: Callable[[Flask, OTP], None]
) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp, OTP_PURPOSES=PURPOSES)
    mistake(app, otp)
    with pytest.raises(ConfigError, match="transfr"):
        first_request(app)


async def late() -> str:
    return ANN


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"context": {"amount": 5}}, "context must be a function"),
        ({"context": "amount"}, "context must be a function"),
        ({"identifier": ANN}, "identifier must be a function"),
        ({"identifier": lambda user: user}, "without arguments"),
        ({"context": late}, r"not async, because it is called on each request \(see: "),
        ({"channels": "sms"}, r'such as \("sms",\)'),
        ({"channels": None}, "channels"),
        ({"channels": (1,)}, "channels"),
        ({"max_age": "5 minutes"}, "max_age"),
        ({"max_age": "5x"}, "max_age"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"max_age": 1.5}, "max_age"),
        ({"max_age": timedelta(seconds=-1)}, "max_age"),
        ({"max_age": timedelta(milliseconds=1500)}, "max_age"),
        ({"purpose": None}, "purpose"),
        ({"purpose": ["login"]}, "purpose"),
    ],
)
def test_a_wrong_argument_is_told_at_import(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        otp_required(**options)
    with pytest.raises(ConfigError, match=words):
        OTP().protect(Flask("site"), **options)


def test_a_built_in_that_does_not_tell_its_arguments_may_give_the_context() -> None:
    otp_required(context=dict)


@pytest.mark.parametrize("view", ["transfer", 5, object()], ids=["text", "number", "object"])
def test_the_guard_refuses_to_be_put_on_what_is_no_view(view: Any) -> None:
    with pytest.raises(ConfigError, match=r"^otp_required must be put on a view function or class \(see: "):
        otp_required(view)


def test_an_unknown_argument_is_told_at_import() -> None:
    with pytest.raises(TypeError, match="maxage"):
        otp_required(maxage=5)  # type: ignore[call-overload]


def test_a_guard_in_an_app_without_otp_does_not_serve() -> None:
    app = Flask("site")
    app.testing = True
    runs = guard_view(app)
    with pytest.raises(ConfigError, match="not set up") as raised:
        first_request(app)
    assert raised.value.see == "python/otp"
    assert runs == []


@pytest.mark.parametrize("fault", ["context", "identifier"])
def test_r27_an_argument_that_breaks_at_the_request_opens_nothing(make_app: AppFactory, fault: str) -> None:
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    runs = guard_view(app, **{fault: lambda: 1 / 0})
    assert verified(app).get("/guarded").status_code == 500
    assert runs == []


# no-store and Vary


@pytest.fixture
def noisy(make_app: AppFactory) -> Iterator[Flask]:
    """A guarded view of each ending."""
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    endings: dict[str, Callable[[], Any]] = {
        "page": lambda: "in",
        "public": lambda: ("in", {"Cache-Control": "public, max-age=600", "Vary": "Accept"}),
        "missing": lambda: abort(404),
        "gone": lambda: redirect("/elsewhere"),
        "broken": lambda: 1 / 0,
    }
    for name, ending in endings.items():
        app.add_url_rule(f"/{name}", name, otp_required(ending))
    return app


@pytest.mark.parametrize(
    ("path", "status"), [("/page", 200), ("/public", 200), ("/missing", 404), ("/gone", 302), ("/broken", 500)]
)
def test_r36_whatever_a_guarded_view_answers_is_not_stored(noisy: Flask, path: str, status: int) -> None:
    for client, expected in ((verified(noisy), status), (noisy.test_client(), 401)):
        answer = client.get(path)
        assert answer.status_code == expected
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Cookie" in answer.vary


def test_r36_what_an_argument_of_the_guard_answers_is_not_stored(app: Flask) -> None:
    """Even if nothing has read the session before."""
    runs = guard_view(app, context=lambda: abort(404))
    answer = app.test_client().get("/guarded")
    assert (answer.status_code, runs) == (404, [])
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Cookie" in answer.vary


def test_r36_the_redirect_to_the_form_is_not_stored(noisy: Flask) -> None:
    answer = noisy.test_client().get("/page", headers=HTML)
    assert answer.status_code == 303
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Cookie" in answer.vary


def test_the_apps_other_routes_keep_their_headers(app: Flask) -> None:
    app.add_url_rule("/open", "open", lambda: ("in", {"Cache-Control": "public"}))
    answer = app.test_client().get("/open")
    assert answer.headers["Cache-Control"] == "public"
    assert "Cookie" not in answer.vary


# Without the store no request passes


@pytest.mark.parametrize("once", [False, True])
def test_r37_without_the_store_the_guard_denies_with_503(
    make_app: AppFactory, valkey: ValkeyServer, once: bool
) -> None:
    proof = proof_of(verified(make_app(OTP_STORAGE_URI=valkey.uri)))
    app = make_app(OTP_STORAGE_URI=f"redis://127.0.0.1:{free_port()}", OTP_REVOCATION_LAG="1h")
    runs = guard_view(app, once=once)
    for headers in (bearer(proof), bearer(proof) | HTML):
        refused = app.test_client().post("/guarded", headers=headers)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["Cache-Control"] == "no-store"
        assert "Cookie" in refused.vary
        assert "WWW-Authenticate" not in refused.headers
    assert runs == []


@pytest.mark.server
def test_r37_a_store_that_dies_between_two_requests_ends_the_second(make_app: AppFactory, tmp_path: Any) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    try:
        app = make_app(OTP_STORAGE_URI=server.uri)
        runs = guard_view(app)
        client = verified(app)
        assert client.get("/guarded").status_code == 200
        server.stop()
        refused = client.get("/guarded")
        assert refused.status_code == 503
        assert refused.get_json(force=True)["reason"] == "store_unavailable"
    finally:
        server.stop()
    assert runs == ["GET"]


def test_who_is_verified_in_one_app_is_not_in_another_that_it_hands_its_request_to(make_app: AppFactory) -> None:
    outer, inner = make_app(), make_app(SECRET_KEY="the secret of another app")
    inner.add_url_rule("/who", "who", lambda: "somebody" if current_verification else "nobody")

    @outer.get("/who")
    @otp_required
    def hand_on() -> Response:
        assert current_verification
        return Response.from_app(inner, request.environ)

    assert verified(outer).get("/who").text == "nobody"


def test_r37_current_verification_does_not_guess_without_the_store(make_app: AppFactory, valkey: ValkeyServer) -> None:
    proof = proof_of(verified(make_app(OTP_STORAGE_URI=valkey.uri)))
    app = make_app(OTP_STORAGE_URI=f"redis://127.0.0.1:{free_port()}")
    app.add_url_rule("/who", "who", lambda: "somebody" if current_verification else "nobody")
    assert app.test_client().get("/who", headers=bearer(proof)).status_code == 503
    assert app.test_client().get("/who").text == "nobody"


def test_capture_is_not_needed_to_be_refused(app: Flask) -> None:
    """A refusal sends nothing: a message goes out only when the user asks for it."""
    guard_view(app)
    with capture_codes(app) as codes:
        app.test_client().get("/guarded")
        app.test_client().get("/guarded", headers=HTML)
    assert codes == []


@pytest.mark.parametrize("way", ["session", "bearer"])
@pytest.mark.parametrize(("signed_in", "status"), [(ANN, 200), ("bob@example.com", 401), (None, 200)])
def test_r12_a_proof_is_worth_nothing_while_another_user_is_signed_in(
    make_app: AppFactory, clock: Clock, way: str, signed_in: str | None, status: int
) -> None:
    otp = OTP(clock=clock)
    otp.channel("email")(lambda message: None)
    otp.identifier_loader(lambda: signed_in)
    app = make_app(otp)
    runs = guard_view(app)
    client = verified(app)
    if way == "bearer":
        proof = proof_of(client)
        client = app.test_client(verified=None)
        answer = client.get("/guarded", headers=bearer(proof))
    else:
        answer = client.get("/guarded")
    assert (answer.status_code, len(runs)) == (status, status == 200)
