"""Apps of ``docs/guides`` beside those of test_examples.py: used as people and phones do, and attacked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask, request
from werkzeug.test import TestResponse

from flask_otp import ChallengeRequired
from flask_otp.testing import Clock, capture_codes
from tests.support.pages import DOCS, ROOT, programs
from tests.support.users import Browser, Example, Forms, at

ANN, BOB = "ann@example.com", "bob@example.com"


def api(example: Example) -> Any:
    return example.app.test_client(use_cookies=False)


# step-up


@pytest.fixture
def site(open_page: Callable[[str], Example]) -> Example:
    return open_page("step-up")


def signed_in(site: Example, who: str = ANN) -> tuple[Browser, TestResponse]:
    browser = site.browser()
    return browser, browser.prove(browser.open("/"), identifier=who)


def ask_to_delete(browser: Browser, page: TestResponse, project: str) -> TestResponse:
    return browser.submit(page, action="/delete", project=project)


def test_step_up_settings_need_a_code_of_the_last_five_minutes(site: Example, clock: Clock) -> None:
    browser, page = signed_in(site)
    assert at(browser.open("/settings")) == "/settings"
    clock.advance("6m")
    assert at(browser.open("/")) == "/"
    page = browser.open("/settings")
    assert at(page) == "/otp/"
    assert at(browser.prove(page, identifier=ANN)) == "/settings"


def test_step_up_a_project_is_deleted_after_a_code_and_one_click(site: Example) -> None:
    browser, page = signed_in(site)
    page = browser.prove(ask_to_delete(browser, page, "boat"))
    assert (at(page), "boat" in page.text) == ("/otp/repeat", True)
    message = site.outbox[-1]
    assert message.recipient == ANN
    for shown in ("Deleting a project", "Project: boat"):
        assert shown in message.text
    assert site.names.projects == {"garden", "boat"}
    assert browser.submit(page).text == "boat is deleted."
    assert site.names.projects == {"garden"}


def test_step_up_a_code_for_one_project_deletes_no_other_and_nothing_twice(site: Example) -> None:
    browser, home = signed_in(site)
    browser.prove(ask_to_delete(browser, home, "boat"))
    home = browser.open("/")
    assert at(ask_to_delete(browser, home, "garden")) == "/otp/"
    assert ask_to_delete(browser, home, "boat").text == "boat is deleted."
    site.names.projects.add("boat")
    assert at(ask_to_delete(browser, browser.open("/"), "boat")) == "/otp/"
    assert site.names.projects == {"garden", "boat"}


def test_step_up_the_sign_in_deletes_nothing_and_bobs_code_is_no_code_of_anns(site: Example, clock: Clock) -> None:
    browser, home = signed_in(site)
    values = Forms(home.text).found[0][1] | {"project": "boat"}
    refused = browser.client.post("/delete", data=values, headers={"Accept": "application/json"})
    assert refused.status_code == 401
    asked = {"requirement": refused.get_json(force=True)["requirement"], "email": BOB}
    assert browser.client.post("/otp/send", json=asked).status_code == 400
    assert site.names.projects == {"garden", "boat"}


# spa-mobile


@pytest.fixture
def service(open_page: Callable[[str], Example]) -> Example:
    return open_page("spa-mobile")


def test_spa_mobile_a_phone_keeps_the_handle_and_the_proof(service: Example) -> None:
    phone = service.app.test_client()
    body = {"email": ANN, "session": False}
    sent = [phone.post("/otp/send", json=body, headers={"Idempotency-Key": "8e03978e-40d5-43dd"}) for _ in range(2)]
    assert [answer.status_code for answer in sent] == [200, 200]
    assert len(service.outbox) == 1
    code = {"code": service.outbox.code, "challenge": sent[0].json["challenge"], "session": False}
    proved = phone.post("/otp/verify", json=code)
    assert "Set-Cookie" not in proved.headers
    assert proved.json["proof_expires_in"] > 0
    assert phone.get("/me").status_code == 401
    bearer = {"Authorization": f"Bearer {proved.json['proof']}"}
    assert phone.get("/me", headers=bearer).json == {"email": ANN}
    assert phone.post("/otp/logout", headers=bearer).status_code == 204
    assert phone.get("/me", headers=bearer).status_code == 401


def test_spa_mobile_a_link_opens_the_app_that_has_the_challenge(
    open_page: Callable[[str], Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_OTP_LINKS", "true")
    monkeypatch.setenv("FLASK_OTP_BASE_URL", "http://localhost")
    service = open_page("spa-mobile")
    sent = api(service).post("/otp/send", json={"email": ANN, "session": False}).json
    path = urlsplit(service.outbox.link).path
    assert path.startswith("/otp/link/")
    link = {"link": path.rpartition("/")[2], "session": False}
    assert api(service).post("/otp/verify", json=link).status_code == 400
    assert api(service).post("/otp/verify", json=link | {"challenge": sent["challenge"]}).status_code == 200


def test_spa_mobile_only_the_named_origins_may_call(service: Example) -> None:
    for origin, allowed in (("https://app.example.com", True), ("capacitor://localhost", True), ("null", False)):
        answer = service.app.test_client().post("/otp/send", json={"email": ANN}, headers={"Origin": origin})
        assert (answer.status_code != 403) is allowed
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


# moving


@pytest.fixture
def moved(open_page: Callable[[str], Example]) -> Example:
    return open_page("moving")


def test_moving_own_routes_and_pages_do_with_two_calls(moved: Example) -> None:
    browser = moved.browser()
    page = browser.submit(browser.open("/"), email="Ann@example.com")
    assert (at(page), len(moved.outbox)) == ("/code", 1)
    page = browser.submit(page, code="000000" if moved.outbox.code != "000000" else "000001")
    assert (page.status_code, "role" in page.text) == (400, True)
    assert browser.submit(page, code=moved.outbox.code).text == f"Hello {ANN}"
    other = moved.browser()
    page = other.submit(other.open("/login"), email="no address")
    assert (page.status_code, len(moved.outbox)) == (400, 1)


def test_moving_a_code_of_before_is_told_from_a_wrong_one(moved: Example) -> None:
    with moved.app.test_request_context(method="POST"), pytest.raises(ChallengeRequired):
        moved.names.otp.verify("407113")


# The examples at the top of the pages on the Python API and on hooks, after the README's app.


class _Gateway:
    def send(self, recipient: str, text: str) -> None:
        raise AssertionError("capture_codes takes the messages")


@pytest.fixture
def first_examples() -> Flask:
    signed_in: list[str] = []
    names: dict[str, Any] = {
        "__name__": "first_examples",
        "request": request,
        "sms_gateway": _Gateway(),
        "find_user": lambda identifier: SimpleNamespace(email=identifier),
        "login_user": lambda user: signed_in.append(user.email),
        "settings": {"TESTING": True, "MAIL_SERVER": "localhost", "MAIL_DEFAULT_SENDER": "codes@example.com"},
    }
    for page in [ROOT / "README.md", *(DOCS / "reference" / f"{name}.md" for name in ("python", "hooks"))]:
        source = programs(page)[0].replace("otp = OTP(app)", "app.config.update(settings)\notp = OTP(app)")
        exec(compile(source, str(page), "exec"), names)
    app: Flask = names["app"]
    app.extensions["signed in"] = signed_in
    return app


def test_the_first_examples_send_and_verify_and_sign_in(first_examples: Flask) -> None:
    client = first_examples.test_client()
    with capture_codes(first_examples) as sent:
        assert client.post("/invite", data={"email": BOB}).text == "We sent a code to b***@example.com"
        assert client.post("/join", data={"code": sent.code}).text == f"Welcome {BOB}"
        assert first_examples.extensions["signed in"] == []
        client.post("/otp/send", json={"email": ANN})
        client.post("/otp/verify", json={"code": sent.code})
        assert client.get("/account").text == f"Hello {ANN}"
        assert first_examples.extensions["signed in"] == [ANN]
