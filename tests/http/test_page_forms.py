"""What the forms of our pages carry and offer: a tab must not depend on what another one does to the session."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, RateLimited, otp_required
from flask_otp.crypto.payloads import REQUIREMENT_LIFE
from flask_otp.testing import Clock
from tests.support.apps import AppFactory
from tests.support.factor_site import Table, make_otp

ANN = "ann@example.com"
HTML = {"Accept": "text/html"}
CHANNELS: dict[str, Any] = {"email": lambda message: None, "sms": lambda message: None}


@pytest.fixture
def site(make_app: AppFactory, clock: Clock) -> Flask:
    app = make_app(OTP(clock=clock), OTP_PURPOSES={"login": {}, "transfer": {}})
    pay = otp_required(purpose="transfer", context=lambda: {"amount": "5"})(lambda: "paid")
    app.add_url_rule("/pay", "pay", pay)
    app.add_url_rule("/anns", "anns", otp_required(identifier=lambda: ANN)(lambda: "Ann's"))
    return app


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def test_the_form_carries_the_requirement_and_the_way_back_of_the_session(site: Flask, clock: Clock) -> None:
    client = site.test_client()
    client.get(client.get("/pay", headers=HTML).location, headers=HTML)
    with client.session_transaction() as session:
        requirement = session["_otp"]["requirement"]["transfer"]
    page = client.get("/otp/?purpose=transfer", headers=HTML).text
    assert "<dt>Amount</dt>" in page
    assert (hidden(page)["requirement"], hidden(page)["next"]) == (requirement, "/pay")
    clock.advance(REQUIREMENT_LIFE)
    assert "requirement" not in hidden(client.get("/otp/?purpose=transfer", headers=HTML).text)


def test_the_form_carries_the_way_back_of_its_own_address(site: Flask) -> None:
    client = site.test_client()
    client.get("/otp/?next=/mine", headers=HTML)
    # Another site may not write the session.
    page = client.get("/otp/?next=/other", headers=HTML | {"Sec-Fetch-Site": "cross-site"}).text
    assert hidden(page)["next"] == "/other"
    assert hidden(client.get("/otp/", headers=HTML).text)["next"] == "/mine"


def test_where_the_guard_wants_one_person_no_address_is_asked_for(site: Flask) -> None:
    client = site.test_client()
    client.get("/anns", headers=HTML)
    page = client.get("/otp/", headers=HTML).text
    assert 'name="identifier"' not in page
    assert "We will send a code to" in page
    assert ANN not in page


@pytest.mark.parametrize(("countries", "is_needed"), [(("DE",), False), (("DE", "FR"), True)])
def test_the_country_code_is_explained_where_it_is_needed(
    make_app: AppFactory, countries: tuple[str, ...], is_needed: bool
) -> None:
    app = make_app(OTP(), OTP_CHANNELS=CHANNELS, OTP_SMS_COUNTRIES=countries)
    page = app.test_client().get("/otp/", headers=HTML).text
    assert ("A phone number starts with its country code" in page) is is_needed


@pytest.fixture
def office(make_app: AppFactory, clock: Clock) -> Flask:
    """A site with apps, recovery codes, and two channels that send."""
    app = make_app(make_otp(clock, Table(ANN)), OTP_CHANNELS=CHANNELS, OTP_SMS_COUNTRIES=("DE", "FR"))
    app.add_url_rule("/lost", "lost", otp_required(channels=("recovery",))(lambda: "welcome"))
    return app


def test_recovery_codes_are_offered_at_first_only_where_nothing_else_counts(office: Flask) -> None:
    client = office.test_client()
    page = client.get("/otp/", headers=HTML).text
    assert re.findall(r'name="channel" value="(\w+)"', page) == ["email", "sms", "totp"]
    client.get("/lost", headers=HTML)
    page = client.get("/otp/", headers=HTML).text
    assert 'name="channel"' not in page
    assert "We need a code from your authenticator app" in page


def test_the_page_for_an_apps_code_leads_to_recovery_codes_and_to_one_message(office: Flask) -> None:
    client = office.test_client()
    client.post("/otp/send", data={"identifier": ANN, "channel": "totp"}, headers=HTML)
    page = client.get("/otp/verify", headers=HTML).text
    assert re.findall(r'name="channel" value="(\w+)"', page) == ["recovery", "email"]


def test_a_person_who_opens_the_code_page_sees_why_no_code_would_be_compared(
    office: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RateLimited(retry_after=90)

    client = office.test_client()
    client.post("/otp/send", data={"identifier": ANN, "channel": "totp"}, headers=HTML)
    monkeypatch.setattr(office.extensions["otp"].service, "refresh", refuse)
    answer = client.get("/otp/verify", headers=HTML)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "90")
    assert 'role="alert"' in answer.text


def test_a_code_without_a_challenge_leads_to_the_form_that_is_empty(site: Flask) -> None:
    answer = site.test_client().post("/otp/verify", data={"code": "123456", "challenge": "lost"}, headers=HTML)
    assert answer.status_code == 400
    assert '<input id="identifier" name="identifier" value=""' in answer.text


def test_the_code_form_carries_the_way_back_of_the_session(site: Flask) -> None:
    client = site.test_client()
    client.get("/otp/?next=/mine", headers=HTML)
    client.post("/otp/send", data={"identifier": ANN}, headers=HTML)
    assert hidden(client.get("/otp/verify", headers=HTML).text)["next"] == "/mine"
    assert hidden(client.get("/otp/verify?next=/other", headers=HTML).text)["next"] == "/other"
