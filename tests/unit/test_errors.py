"""The tree of errors, and the response to a client if it is not caught."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort
from werkzeug.exceptions import HTTPException

import flask_otp
from flask_otp import (
    ChallengeRequired,
    ConfigError,
    CrossOrigin,
    DeliveryFailed,
    FactorsUnavailable,
    IdempotencyConflict,
    InvalidCode,
    InvalidIdentifier,
    InvalidRequest,
    InvalidWebhook,
    Message,
    OTPError,
    RateLimited,
    StoreUnavailable,
    VerificationRequired,
    otp_required,
)
from flask_otp.testing import Outbox, capture_codes

ANN = "ann@example.com"
HTML = {"Accept": "text/html"}
AppFactory = Callable[..., Flask]

STATUSES = {
    InvalidRequest: 400,
    InvalidIdentifier: 400,
    IdempotencyConflict: 422,
    ChallengeRequired: 400,
    InvalidCode: 400,
    InvalidWebhook: 400,
    VerificationRequired: 401,
    CrossOrigin: 403,
    RateLimited: 429,
    DeliveryFailed: 503,
    FactorsUnavailable: 503,
    StoreUnavailable: 503,
}
ERRORS = list(STATUSES)


def no_one(message: Message) -> None:
    """A channel that takes everything."""


@pytest.fixture
def app(make_app: AppFactory) -> Flask:
    return make_app(OTP_CHANNELS={"email": no_one})


def raising(app: Flask, error: Exception) -> None:
    @app.route("/own", methods=["GET", "POST"])
    def own() -> str:
        raise error


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def test_the_tree_is_complete_and_public() -> None:
    public = [thing for thing in vars(flask_otp).values() if type(thing) is type]
    found = {thing for thing in public if issubclass(thing, OTPError)}
    assert found == {OTPError, *ERRORS}


@pytest.mark.parametrize("kind", ERRORS)
def test_each_error_is_an_http_exception_with_its_status_and_reason(kind: type[OTPError]) -> None:
    error = kind()
    assert isinstance(error, OTPError)
    assert isinstance(error, HTTPException)
    assert error.code == STATUSES[kind]
    assert error.reason == snake(kind.__name__)
    assert error.title
    assert error.description
    assert error.get_response().status_code == STATUSES[kind]


def test_an_invalid_identifier_is_an_invalid_request() -> None:
    assert issubclass(InvalidIdentifier, InvalidRequest)
    assert not issubclass(InvalidCode, InvalidRequest)


def test_reasons_are_not_shared() -> None:
    assert len({kind.reason for kind in ERRORS}) == len(ERRORS)


def test_a_config_error_is_a_value_error_and_no_answer_to_a_request() -> None:
    assert issubclass(ConfigError, ValueError)
    assert not issubclass(ConfigError, HTTPException)


@pytest.mark.parametrize("kind", ERRORS)
def test_uncaught_in_the_apps_own_view_it_is_a_problem_for_api_clients(app: Flask, kind: type[OTPError]) -> None:
    raising(app, kind())
    answer = app.test_client().get("/own")
    assert (answer.status_code, answer.content_type) == (STATUSES[kind], "application/problem+json")
    assert answer.headers["Cache-Control"] == "no-store"
    problem = answer.get_json(force=True)
    assert problem["type"] == f"urn:flask-otp:{snake(kind.__name__)}"
    assert problem["status"] == STATUSES[kind]
    assert problem["detail"] == kind.description
    assert problem["title"] == kind.title


@pytest.mark.parametrize("kind", ERRORS)
def test_uncaught_in_the_apps_own_view_it_is_a_page_for_browsers(app: Flask, kind: type[OTPError]) -> None:
    raising(app, kind())
    answer = app.test_client().get("/own", headers=HTML)
    assert (answer.status_code, answer.mimetype) == (STATUSES[kind], "text/html")
    assert kind.description in answer.text
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("kind", [RateLimited, DeliveryFailed, StoreUnavailable])
@pytest.mark.parametrize("headers", [{}, HTML], ids=["API", "browser"])
def test_retry_after_is_a_member_and_a_header(app: Flask, kind: type[OTPError], headers: dict[str, str]) -> None:
    raising(app, kind(retry_after=17))
    answer = app.test_client().get("/own", headers=headers)
    assert answer.headers["Retry-After"] == "17"
    assert kind(retry_after=17).retry_after == 17
    if not headers:
        assert answer.get_json(force=True)["retry_after"] == 17


@pytest.mark.parametrize("kind", [DeliveryFailed, StoreUnavailable])
def test_503_always_says_when_to_come_back(kind: type[OTPError]) -> None:
    assert int(kind().get_response().headers["Retry-After"]) > 0


@pytest.mark.parametrize("kind", [InvalidRequest, InvalidIdentifier, InvalidCode, ChallengeRequired, CrossOrigin])
def test_400_and_403_do_not(kind: type[OTPError]) -> None:
    assert "Retry-After" not in kind().get_response().headers
    assert "retry_after" not in kind().problem()


def test_the_authentication_header_is_that_of_rfc_9470(app: Flask) -> None:
    raising(app, VerificationRequired(max_age=300, channels=["email"], requirement="r", purpose="login"))
    answer = app.test_client().get("/own")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_user_authentication", max_age=300'
    problem = answer.get_json(force=True)
    assert (problem["max_age"], problem["channels"], problem["requirement"]) == (300, ["email"], "r")
    plain = VerificationRequired().get_response().headers["WWW-Authenticate"]
    assert plain == 'Bearer error="insufficient_user_authentication"'


def test_a_message_of_ones_own_is_shown_and_escaped(app: Flask) -> None:
    raising(app, InvalidRequest("<b>No</b>"))
    assert app.test_client().get("/own").get_json(force=True)["detail"] == "<b>No</b>"
    page = app.test_client().get("/own", headers=HTML).text
    assert "<b>No" not in page
    assert "&lt;b&gt;No" in page


@pytest.mark.parametrize("kind", [OTPError, InvalidCode])
def test_the_app_can_handle_them_as_any_http_exception(app: Flask, kind: type[OTPError]) -> None:
    raising(app, InvalidCode())

    @app.errorhandler(kind)
    def handle(error: OTPError) -> tuple[str, int]:
        return f"mine: {error.reason}", 422

    answer = app.test_client().get("/own")
    assert (answer.status_code, answer.text) == (422, "mine: invalid_code")


def test_the_apps_own_errors_are_left_alone(app: Flask) -> None:
    @app.get("/own")
    def own() -> None:
        abort(403)

    answer = app.test_client().get("/own")
    assert (answer.status_code, answer.mimetype) == (403, "text/html")
    assert "Content-Security-Policy" not in answer.headers


@pytest.mark.parametrize("headers", [{}, HTML], ids=["API", "browser"])
def test_what_send_and_verify_raise_in_the_apps_own_view_is_already_the_answer(
    make_app: AppFactory, headers: dict[str, str]
) -> None:
    otp = flask_otp.OTP()
    app = make_app(otp, OTP_CHANNELS={"email": no_one})
    app.add_url_rule("/send/<to>", "send", lambda to: otp.send(to).destination, methods=["POST"])
    app.add_url_rule("/verify/<code>", "verify", lambda code: otp.verify(code).channel, methods=["POST"])
    with capture_codes(app):
        client = app.test_client()

        def post(path: str) -> int:
            answer = client.post(path, headers=headers)
            assert answer.mimetype == (
                "text/html" if headers or answer.status_code < 400 else "application/problem+json"
            )
            return answer.status_code

        assert post("/verify/123456") == 400
        assert post("/send/nobody") == 400
        assert post(f"/send/{ANN}") == 200
        assert post("/verify/abc") == 400
        assert app.test_client().post(f"/send/{ANN}").status_code == 429


def flow(app: Flask, sent: Outbox) -> dict[str, Any]:
    """A challenge and a verification, with all the secrets of theirs."""
    otp = flask_otp.OTP.__new__(flask_otp.OTP)  # its methods only look at the current app
    with app.test_request_context():
        challenge = otp.send(ANN)
        verification = otp.verify(sent.code, challenge=challenge.handle)
    return {"challenge": challenge, "verification": verification, "code": sent.code}


def test_r34_no_repr_gives_a_secret_away(app: Flask) -> None:
    with capture_codes(app) as sent:
        found = flow(app, sent)
        tokens = app.extensions["otp"].tokens
        handle = tokens.load_handle(found["challenge"].handle)
        proof = tokens.load_proof(found["verification"].proof)
        things = [found["challenge"], found["verification"], sent[0], handle, proof, tokens.keys, app.extensions["otp"]]
    assert handle is not None
    assert proof is not None
    secrets = [found["code"], found["challenge"].handle, found["verification"].proof, ANN, app.secret_key]
    for thing in things:
        for text in (repr(thing), str(thing), f"{thing}"):
            assert not any(str(secret) in text for secret in secrets), text


def test_r34_no_error_quotes_what_was_typed_or_held(app: Flask) -> None:
    @app.get("/guarded")
    @otp_required
    def guarded() -> str:
        return ""

    otp = flask_otp.OTP.__new__(flask_otp.OTP)
    with capture_codes(app) as sent, app.test_request_context():
        challenge = otp.send(ANN)
        attempts: list[Callable[[], Any]] = [
            lambda: otp.verify("31415926", challenge=challenge.handle),
            lambda: otp.verify("31415926", challenge=challenge.handle + "x"),
            lambda: otp.send("31415926@"),
            lambda: otp.resend(challenge.handle),
            lambda: app.view_functions["guarded"](),
        ]
        for attempt in attempts:
            with pytest.raises(OTPError) as caught:
                attempt()
            error = caught.value
            for text in (str(error), repr(error), str(error.args), error.description):
                assert "31415926" not in text
                assert challenge.handle not in text
                assert sent.code not in text
                assert getattr(error, "requirement", None) not in (text, "")


def test_challenge_and_verification_are_frozen(app: Flask) -> None:
    with capture_codes(app) as sent:
        found = flow(app, sent)
    for name in ("challenge", "verification"):
        with pytest.raises(AttributeError):
            found[name].purpose = "transfer"


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_pickling_for_queues(kind: type[OTPError]) -> None:
    again = pickle.loads(pickle.dumps(kind()))
    assert type(again) is kind
    assert again.code == STATUSES[kind]


def test_the_python_api_outside_of_a_request_raises_and_never_answers_false(app: Flask) -> None:
    otp = flask_otp.OTP.__new__(flask_otp.OTP)
    with capture_codes(app) as sent, app.app_context():
        challenge = otp.send(ANN)
        with pytest.raises(InvalidCode):
            otp.verify("x", challenge=challenge.handle)
        with pytest.raises(ChallengeRequired):
            otp.verify(sent.code)
        with pytest.raises(InvalidRequest):
            otp.send(ANN, purpose="nosuch")
        with pytest.raises(RateLimited) as limited:
            otp.send(ANN)
        assert limited.value.retry_after == 30


def test_an_app_without_otp_says_so() -> None:
    with Flask("bare").app_context(), pytest.raises(ConfigError, match="init_app"):
        flask_otp.OTP.__new__(flask_otp.OTP).send(ANN)
