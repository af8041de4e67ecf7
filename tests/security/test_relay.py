"""A page between the person and the site passes everything on: what it gets with a code, and with a link alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask, request

from flask_otp import OTP, otp_required
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory

ANN = "ann@example.com"
HTML = {"Accept": "text/html"}
PATHS = [("/", "GET"), ("/<path:path>", "GET"), ("/<path:path>", "POST")]


class Relay:
    """A site of the attacker's that looks like the true one, since each page of it is the true one's.

    What a person sends there is sent on by the attacker's own browser. So the session is the attacker's.
    """

    def __init__(self, site: Flask) -> None:
        self.browser = site.test_client()
        self.page = Flask("relay")
        for number, (path, method) in enumerate(PATHS):
            self.page.add_url_rule(path, str(number), self._pass_on, methods=[method])

    def _pass_on(self, path: str = "") -> tuple[str, int]:
        answer = self.browser.open(
            request.full_path.rstrip("?"),
            method=request.method,
            data=request.form,
            headers=HTML | {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
            follow_redirects=True,
        )
        return answer.text, answer.status_code

    def is_in(self) -> bool:
        return self.browser.get("/account").status_code == 200


Site = Callable[[bool], Flask]


@pytest.fixture
def site(make_app: AppFactory, clock: Clock) -> Site:
    def make(typed: bool) -> Flask:
        app = make_app(
            OTP(clock=clock),
            OTP_LINKS=True,
            OTP_BASE_URL="http://localhost",
            OTP_CHANNELS={"email": lambda message: None},
            OTP_PURPOSES={"login": {"typed": typed}},
        )
        app.add_url_rule("/account", "account", otp_required(lambda: "in"))
        return app

    return make


@pytest.fixture
def attacked(site: Site, request: pytest.FixtureRequest) -> Iterator[tuple[Flask, Relay, Any, Outbox]]:
    """Ann has typed her address into the page between, and has a mail of the true site."""
    app = site(request.param)
    relay = Relay(app)
    ann = relay.page.test_client()
    with capture_codes(app) as sent:
        form = ann.get("/otp/").text
        assert 'name="identifier"' in form
        page = ann.post("/otp/send", data=hidden(form) | {"identifier": ANN})
        yield app, relay, page, sent


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


with_a_code = pytest.mark.parametrize("attacked", [True], indirect=True, ids=["typed"])
with_a_link_alone = pytest.mark.parametrize("attacked", [False], indirect=True, ids=["not typed"])


@with_a_code
def test_a_code_that_is_typed_into_the_page_between_lets_the_attacker_in(
    attacked: tuple[Flask, Relay, Any, Outbox],
) -> None:
    _, relay, page, sent = attacked
    assert 'name="code"' in page.text
    relay.page.test_client().post("/otp/verify", data=hidden(page.text) | {"code": sent.code})
    assert relay.is_in()


@with_a_link_alone
def test_a_link_that_is_opened_at_the_true_site_lets_nobody_in(attacked: tuple[Flask, Relay, Any, Outbox]) -> None:
    app, relay, page, sent = attacked
    # There is nothing in the mail that the page between could ask for.
    assert 'name="code"' not in page.text
    assert "works in this browser alone" in page.text
    assert (len(sent), sent.code) == (1, "")
    assert not re.search(r"\b\d{6}\b", sent[0].text)
    # She clicks, in her own browser: there is no button, and she is told whose page it was.
    own = app.test_client()
    opened = own.get(urlsplit(sent.link).path, headers=HTML)
    assert "<form" not in opened.text
    assert "you asked on a page that is not ours" in opened.text
    secret = urlsplit(sent.link).path.rpartition("/")[2]
    assert own.post("/otp/verify", json={"link": secret}).status_code == 400
    assert own.get("/account").status_code == 401
    # The attacker has the session and the handle, and may try what comes to mind, even the code that was never sent.
    handle = hidden(page.text)["challenge"]
    code = app.extensions["otp"].tokens.load_handle(handle).code
    for guess in (code, "000000", secret[:6]):
        assert relay.browser.post("/otp/verify", json={"code": guess, "challenge": handle}).status_code == 400
    assert not relay.is_in()


@with_a_link_alone
def test_what_is_left_is_a_link_that_the_person_hands_over(attacked: tuple[Flask, Relay, Any, Outbox]) -> None:
    """The page of the documentation says so."""
    _, relay, page, sent = attacked
    secret = urlsplit(sent.link).path.rpartition("/")[2]
    relay.page.test_client().post("/otp/verify", data=hidden(page.text) | {"link": secret})
    assert relay.is_in()


def test_without_a_page_between_the_link_works_where_it_was_asked_for(site: Site) -> None:
    app = site(False)
    ann = app.test_client()
    with capture_codes(app) as sent:
        form = ann.get("/otp/", headers=HTML).text
        origin = HTML | {"Origin": "http://localhost"}
        ann.post("/otp/send", data=hidden(form) | {"identifier": ANN}, headers=origin)
        page = ann.get(urlsplit(sent.link).path, headers=HTML).text
        assert ann.post("/otp/verify", data=hidden(page), headers=origin).status_code == 303
    assert ann.get("/account").status_code == 200
