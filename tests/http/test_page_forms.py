"""What the forms of our pages carry and offer: a tab must not depend on what another one does to the session."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from flask_otp import OTP, RateLimited, otp_required
from flask_otp.crypto.payloads import REQUIREMENT_LIFE
from flask_otp.testing import Clock
from tests.support.apps import AppFactory
from tests.support.factor_site import Table, make_otp
from tests.support.users import Forms

ANN = "ann@example.com"
HTML = {"Accept": "text/html"}
CHANNELS: dict[str, Any] = {"email": lambda message: None, "sms": lambda message: None}


@pytest.fixture
def site(make_app: AppFactory, clock: Clock) -> Flask:
    app = make_app(OTP(clock=clock), OTP_PURPOSES={"login": {}, "transfer": {}})
    pay = otp_required(purpose="transfer", context=lambda: {"amount": request.args.get("amount", "5")})(lambda: "paid")
    app.add_url_rule("/pay", "pay", pay)
    app.add_url_rule("/by-mail", "by_mail", otp_required(channels=("console",))(lambda: "mailed"))
    app.add_url_rule("/anns", "anns", otp_required(identifier=lambda: ANN)(lambda: "Ann's"))
    return app


def fields(page: str) -> dict[str, str]:
    """What the first form of a page holds."""
    return Forms(page).found[0][1]


def test_the_form_carries_the_requirement_and_the_way_back_of_the_session(site: Flask, clock: Clock) -> None:
    client = site.test_client()
    client.get(client.get("/pay", headers=HTML).location, headers=HTML)
    with client.session_transaction() as session:
        requirement = session["_otp"]["requirement"]["transfer"]
    page = client.get("/otp/?purpose=transfer", headers=HTML).text
    assert "<dt>Amount</dt>" in page
    assert (fields(page)["requirement"], fields(page)["next"]) == (requirement, "/pay")
    clock.advance(REQUIREMENT_LIFE)
    assert "requirement" not in fields(client.get("/otp/?purpose=transfer", headers=HTML).text)


def test_the_form_carries_the_way_back_of_its_own_address(site: Flask) -> None:
    client = site.test_client()
    client.get("/otp/?next=/mine", headers=HTML)
    # Another site may not write the session.
    page = client.get("/otp/?next=/other", headers=HTML | {"Sec-Fetch-Site": "cross-site"}).text
    assert fields(page)["next"] == "/other"
    assert fields(client.get("/otp/", headers=HTML).text)["next"] == "/mine"


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
    assert fields(client.get("/otp/verify", headers=HTML).text)["next"] == "/mine"
    assert fields(client.get("/otp/verify?next=/other", headers=HTML).text)["next"] == "/other"


def other_address(client: FlaskClient, path: str = "/otp/verify") -> dict[str, str] | None:
    """The arguments of the link on the code page to the form for another address. ``None``: there is no link."""
    page = client.get(path, headers=HTML).text
    links = re.findall(r'<a href="([^"]+)">Use another address</a>', page)
    assert len(links) <= 1
    return {name: value for name, [value] in parse_qs(urlsplit(unescape(links[0])).query).items()} if links else None


def test_the_code_form_of_a_visitor_from_nowhere_leads_nowhere(site: Flask) -> None:
    client = site.test_client()
    client.post("/otp/send", data={"identifier": ANN}, headers=HTML)
    assert fields(client.get("/otp/verify", headers=HTML).text)["next"] == ""
    link = other_address(client, "/otp/verify?next=/other")
    assert link is not None
    assert (link.keys(), link["next"]) == ({"of", "next"}, "/other")
    assert f'value="{ANN}"' in client.get(f"/otp/?of={link['of']}", headers=HTML).text
    assert 'name="identifier" value=""' in client.get("/otp/?of=another", headers=HTML).text


def test_another_address_confirms_the_same(site: Flask, clock: Clock) -> None:
    client = site.test_client()
    client.get(client.get("/pay?amount=5", headers=HTML).location, headers=HTML)
    client.post("/otp/send", data={"identifier": ANN, "purpose": "transfer"}, headers=HTML)
    with client.session_transaction() as session:
        requirement = session["_otp"]["requirement"]["transfer"]
    link = other_address(client, "/otp/verify?purpose=transfer")
    assert link is not None
    assert link["requirement"] == requirement
    # Another tab's payment is in the session by now.
    client.get("/pay?amount=6", headers=HTML)
    link = other_address(client, "/otp/verify?purpose=transfer")
    assert link is not None
    loaded = site.extensions["otp"].tokens.load_requirement(link["requirement"])
    assert loaded.context_values == {"amount": "5"}
    assert loaded.expires_at == clock() + REQUIREMENT_LIFE


@pytest.mark.parametrize(("hours_after_the_code", "has_it"), [(0.999, True), (1, False)])
def test_r12_the_page_of_a_code_that_expired_long_ago_asks_for_nothing(
    site: Flask, clock: Clock, hours_after_the_code: float, has_it: bool
) -> None:
    client = site.test_client()
    client.get("/pay", headers=HTML)
    client.post("/otp/send", data={"identifier": ANN, "purpose": "transfer"}, headers=HTML)
    clock.advance(int(300 + 3600 * hours_after_the_code))
    link = other_address(client, "/otp/verify?purpose=transfer")
    assert link is not None
    assert ("requirement" in link) is has_it


def test_what_a_guard_wants_beside_a_context_is_in_the_session_alone(site: Flask) -> None:
    client = site.test_client()
    client.get("/by-mail", headers=HTML)
    client.post("/otp/send", data={"identifier": ANN}, headers=HTML)
    link = other_address(client)
    assert link is not None
    assert "requirement" not in link


def test_no_other_address_where_the_guard_wants_one_person(site: Flask) -> None:
    client = site.test_client()
    client.get("/anns", headers=HTML)
    client.post("/otp/send", data={}, headers=HTML)
    assert "Enter your code" in client.get("/otp/verify", headers=HTML).text
    assert other_address(client) is None


def test_an_address_that_the_app_chose_can_be_replaced(make_app: AppFactory) -> None:
    otp = OTP()
    app = make_app(otp)
    app.add_url_rule("/send", "send", lambda: otp.send(ANN) and "sent")
    client = app.test_client()
    client.get("/send")
    assert other_address(client) == {}  # nothing that the person has typed
