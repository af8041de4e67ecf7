"""What one purpose has is its own: limits, budgets, channels; and only the purposes that are named exist (R08, R12)."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import OTP, InvalidRequest, otp_required
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import AppFactory

ANN = "ann@example.com"
PHONE = "+4915123456789"
HTML = {"Accept": "text/html"}
BOTH: dict[str, Any] = {"login": {}, "transfer": {}}


def send(app: Flask, purpose: str, client: FlaskClient | None = None, **body: str) -> TestResponse:
    """Ask for a code. By default a new browser asks, which has no challenge that could be sent again."""
    return (client or app.test_client()).post("/otp/send", json={"email": ANN, "purpose": purpose} | body)


def verify(app: Flask, code: str, handle: str) -> TestResponse:
    return app.test_client().post("/otp/verify", json={"code": code, "challenge": handle})


# Limits and budgets


def test_r08_a_failure_budget_that_is_spent_for_one_purpose_leaves_the_others_alone(make_app: AppFactory) -> None:
    app = make_app(OTP_PURPOSES=BOTH, OTP_FAILURE_BUDGET="3/30 days", OTP_COOLDOWN=0)
    with capture_codes(app) as codes:
        before = send(app, "login").get_json()["challenge"]
        code = codes.code
        handle = send(app, "transfer").get_json()["challenge"]
        assert [verify(app, "0", handle).status_code for _ in range(3)] == [400] * 3
        wrong = "1" * 6 if codes.code != "1" * 6 else "2" * 6
        assert [verify(app, wrong, handle).status_code for _ in range(3)] == [400] * 3
        assert send(app, "transfer").get_json()["code_length"] == 13
        assert send(app, "login").get_json()["code_length"] == 6
        assert verify(app, code, before).status_code == 200


@pytest.mark.parametrize("limit", ["OTP_SEND_LIMIT", "OTP_RECIPIENT_LIMIT"])
def test_r15_messages_of_one_purpose_use_up_nothing_of_another(make_app: AppFactory, limit: str) -> None:
    app = make_app(OTP_PURPOSES=BOTH, OTP_COOLDOWN=0, **{limit: "2/hour"})
    with capture_codes(app) as codes:
        assert [send(app, "login").status_code for _ in range(3)] == [200, 200, 429]
        assert [send(app, "transfer").status_code for _ in range(3)] == [200, 200, 429]
    assert len(codes) == 4


def test_r15_the_cooldown_of_one_purpose_holds_up_no_other(make_app: AppFactory) -> None:
    app = make_app(OTP_PURPOSES=BOTH)
    with capture_codes(app):
        assert [send(app, "login").status_code for _ in range(2)] == [200, 429]
        assert send(app, "transfer").status_code == 200


@pytest.mark.parametrize(
    ("overrides", "seen"),
    [
        ({"send_limit": "1/hour", "cooldown": 0}, [200, 429]),
        ({"recipient_limit": "1/hour", "cooldown": 0}, [200, 429]),
        ({"cooldown": "1m"}, [200, 429]),
        ({"cooldown": 0}, [200, 200]),
    ],
    ids=str,
)
def test_a_purposes_own_limits_are_no_other_purposes(
    make_app: AppFactory, clock: Clock, overrides: dict[str, Any], seen: list[int]
) -> None:
    app = make_app(OTP_PURPOSES={"login": {}, "transfer": overrides})
    with capture_codes(app):
        statuses = []
        for _ in range(2):
            statuses.append(send(app, "transfer").status_code)
            assert send(app, "login").status_code == 200
            clock.advance(30)
    assert statuses == seen


def test_a_purpose_may_refuse_where_the_others_escalate(make_app: AppFactory) -> None:
    strict = {"failure_budget": "1/day", "on_budget": "refuse"}
    app = make_app(OTP_PURPOSES={"login": {}, "transfer": strict}, OTP_COOLDOWN=0)
    with capture_codes(app) as codes:
        handle = send(app, "transfer").get_json()["challenge"]
        verify(app, "000000" if codes.code != "000000" else "111111", handle)
        assert send(app, "transfer").status_code == 429
        assert send(app, "login").get_json()["code_length"] == 6


# Proofs and channels


def test_r51_a_proof_lives_as_long_as_its_purpose_says(make_app: AppFactory, clock: Clock) -> None:
    app = make_app(OTP_PURPOSES={"login": {}, "transfer": {"verified_for": "5m"}})
    for purpose in BOTH:
        app.add_url_rule(f"/{purpose}", purpose, otp_required(purpose=purpose)(lambda: "in"))
    client = app.test_client()
    with capture_codes(app) as codes:
        for purpose in BOTH:
            send(app, purpose, client)
            client.post("/otp/verify", json={"code": codes.code, "purpose": purpose})
    clock.advance(299)
    assert [client.get(f"/{purpose}").status_code for purpose in BOTH] == [200, 200]
    clock.advance(1)
    assert [client.get(f"/{purpose}").status_code for purpose in BOTH] == [200, 401]


def test_a_purpose_goes_out_by_its_own_channels_only(make_app: AppFactory, clock: Clock) -> None:
    otp, sent = OTP(clock=clock), []
    for name in ("email", "sms"):
        otp.channel(name)(sent.append)
    app = make_app(otp, OTP_PURPOSES={"login": {}, "transfer": {"channels": ["sms"]}}, OTP_SMS_COUNTRIES=["DE"])
    assert send(app, "transfer").status_code == 400
    assert send(app, "transfer", channel="email").status_code == 400
    assert sent == []
    client = app.test_client()
    answer = client.post("/otp/send", json={"phone": PHONE, "purpose": "transfer"})
    assert (answer.status_code, [message.channel for message in sent]) == (200, ["sms"])
    assert 'autocomplete="tel"' in client.get("/otp/?purpose=transfer", headers=HTML).text
    assert 'autocomplete="tel"' not in client.get("/otp/", headers=HTML).text


# Only the purposes that are named


def test_r12_what_belongs_to_a_purpose_that_was_taken_away_is_worth_nothing(make_app: AppFactory, clock: Clock) -> None:
    """Handles, requirements and proofs outlive a deployment; the purpose that they are for may not."""
    otp = OTP(clock=clock)
    config: dict[str, Any] = {"OTP_COOLDOWN": 0}
    before, after = make_app(otp, OTP_PURPOSES=BOTH, **config), make_app(**config)
    after.extensions["otp"].store = before.extensions["otp"].store
    before.add_url_rule("/transfer", "transfer", otp_required(purpose="transfer")(lambda: "in"))
    requirement = before.test_client().get("/transfer").get_json(force=True)["requirement"]
    with capture_codes(before) as codes, capture_codes(after) as later:
        client = before.test_client()
        handle = send(before, "transfer", client).get_json()["challenge"]
        answers = {
            "verify": verify(after, codes.code, handle),
            "resend": after.test_client().post("/otp/resend", json={"challenge": handle}),
            "send": after.test_client().post("/otp/send", json={"requirement": requirement, "email": ANN}),
            "page": after.test_client().get("/otp/?purpose=transfer"),
        }
        assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 400)
        assert later == []
        assert verify(before, codes.code, handle).status_code == 200


def test_a_purpose_that_is_not_named_exists_for_the_python_api_neither(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    with make_app(otp).app_context(), pytest.raises(InvalidRequest):
        otp.send(ANN, purpose="transfer")


def test_the_log_names_a_purpose_that_is_not_named_and_the_nearest_that_is(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(OTP_PURPOSES=BOTH)
    assert send(app, "transfers").get_json(force=True)["detail"] == "There is no such purpose."
    assert send(app, "x" * 41).status_code == 400
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("flask_otp", "no purpose 'transfers' in OTP_PURPOSES: did you mean transfer?"),
        ("flask_otp", f"no purpose '{'x' * 40}' in OTP_PURPOSES: known are login, transfer"),
    ]
