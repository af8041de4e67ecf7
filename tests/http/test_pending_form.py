"""A browser's form that the guard refused is sent again by the person's click, as it was, and by nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from random import Random
from string import ascii_letters
from threading import Barrier
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from flask import Flask, redirect, request, url_for
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect
from flask_wtf.csrf import generate_csrf
from werkzeug import Response
from werkzeug.test import TestResponse

from flask_otp import OTP, VerificationRequired, otp_required
from flask_otp.http import pending_form
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.answers import place
from tests.support.apps import AppFactory

ANN = "ann@example.com"
BOB = "bob@example.com"
HTML = {"Accept": "text/html"}
OWN = {**HTML, "Origin": "http://localhost"}
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}}
ORDER = [("amount", "5"), ("payee", "Bob")]

Fields = list[tuple[str, str]]


class Form(HTMLParser):
    """The one form of a page, as a browser would send it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action, self.method, self.fields = "", "", []
        self.forms = self.buttons = 0
        self.feed(page)

    action: str
    method: str
    fields: Fields

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms += 1
            self.action, self.method = given["action"], given["method"]
        elif tag == "input":
            self.fields.append((given["name"], given["value"]))
        elif tag == "button":
            self.buttons += 1


class Bank:
    """An app whose orders need a code; ``orders`` are those that it carried out."""

    def __init__(self, app: Flask, **options: Any) -> None:
        self.app = app
        self.orders: list[Fields] = []
        rule: dict[str, Any] = {
            "purpose": "transfer",
            "context": lambda: {name: request.form.get(name, "")[:50] for name in ("amount", "payee")},
        }

        @app.route("/transfer", methods=["POST", "PUT"])
        @otp_required(**rule | options)
        def transfer() -> str:
            self.orders.append(list(request.form.items(multi=True)))
            return "done"

        @app.post("/plain")
        @otp_required(purpose="transfer")
        def plain() -> str:
            self.orders.append(list(request.form.items(multi=True)))
            return "done"

        @app.post("/note")
        @otp_required(purpose="transfer")
        def note() -> str:
            return "noted"

        @app.get("/page")
        @otp_required(purpose="transfer")
        def page() -> str:
            return "page"


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


@pytest.fixture
def bank(make_app: AppFactory, otp: OTP) -> Bank:
    return Bank(make_app(otp, OTP_PURPOSES=PURPOSES, OTP_COOLDOWN=0, OTP_DEFAULT_NEXT="/home"), once=True)


@pytest.fixture
def sent(bank: Bank) -> Iterator[Outbox]:
    with capture_codes(bank.app) as codes:
        yield codes


def post(client: FlaskClient, path: str = "/transfer", fields: Fields = ORDER, **options: Any) -> TestResponse:
    options = {"headers": OWN, "content_type": "application/x-www-form-urlencoded"} | options
    return client.post(path, data=urlencode(fields), **options)


def ask(client: FlaskClient, identifier: str = ANN) -> None:
    answer = client.post("/otp/send", data={"identifier": identifier, "purpose": "transfer"}, headers=OWN)
    assert answer.status_code == 303


def verify(client: FlaskClient, sent: Outbox) -> str:
    answer = client.post("/otp/verify", data={"code": sent.code, "purpose": "transfer"}, headers=OWN)
    assert answer.status_code == 303
    return str(place(answer))


def confirm(client: FlaskClient, sent: Outbox) -> TestResponse:
    """Type the code, and open the page that one comes to."""
    ask(client)
    location = verify(client, sent)
    assert location == "/otp/repeat?purpose=transfer"
    page = client.get(location, headers=HTML)
    assert page.status_code == 200
    return page


def click(client: FlaskClient, page: TestResponse) -> TestResponse:
    form = Form(page.text)
    assert (form.forms, form.buttons, form.method) == (1, 1, "post")
    return post(client, form.action, form.fields)


def kept(client: FlaskClient) -> str | None:
    with client.session_transaction() as session:
        token: str | None = session.get("_otp", {}).get("repeat", {}).get("transfer")
        return token


# The way of a form


def test_a_refused_form_is_carried_out_by_the_persons_click(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    refused = post(client)
    assert (refused.status_code, place(refused)) == (303, "/otp/?purpose=transfer")
    page = confirm(client, sent)
    assert bank.orders == []
    assert click(client, page).text == "done"
    assert bank.orders == [ORDER]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("a", ""), ("b", " "), ("c", "0")],
        [("tag", "1"), ("tag", "2"), ("tag", "1"), ("z", "1"), ("b", "2")],
        [("text", "one\r\n\r\n two\r\n"), ("name\r\n", "x")],
        [("q", "\"'<>&amp;&#34;</form><script>alert(1)</script>"), ('"><b x="', "=&+%2B%00;")],
        [("umlaut", "Ünïcödé"), ("far", "\U0001f600 \u202e\u200d\ufeff"), ("tab", "\t\x01\x7f")],
        [("action", "x"), ("submit", "y"), ("_method", "DELETE"), ("_charset_", "utf-8")],
    ],
    ids=["empty", "blank", "twice", "lines", "markup", "unicode", "names"],
)
def test_it_is_sent_again_exactly_as_it_was(bank: Bank, sent: Outbox, fields: Fields) -> None:
    client = bank.app.test_client()
    query = "a=1&b=%26%23%2B%25%3D+%20%3F&a=%C3%BC%00%FF&a"
    post(client, f"/plain?{query}", fields)
    page = confirm(client, sent)
    form = Form(page.text)
    path, _, again = form.action.partition("?")
    assert path == "/plain"
    assert parse_qsl(again, keep_blank_values=True) == parse_qsl(query, keep_blank_values=True)
    assert form.fields == fields
    assert click(client, page).text == "done"
    assert bank.orders == [fields]


def test_the_page_shows_what_is_confirmed_and_the_message_did_too(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client, fields=[("amount", "5 <EUR>"), ("payee", "<b>Bob</b>")])
    asked = client.get("/otp/?purpose=transfer", headers=HTML)
    ask(client)
    code_page = client.get("/otp/verify?purpose=transfer", headers=HTML)
    last = client.get(verify(client, sent), headers=HTML)
    for shown in (asked.text, code_page.text, last.text, sent[-1].html):
        assert re.search(r"Amount</dt>\s*<dd[^>]*><bdi>5 &lt;EUR&gt;</bdi>", shown)
        assert "&lt;b&gt;Bob&lt;/b&gt;" in shown
        assert "<b>Bob" not in shown
    assert "Amount: 5 <EUR>" in sent[-1].text


def test_without_a_context_the_page_shows_where_it_goes(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client, "/plain?to=<Bob>")
    assert '<bdi dir="ltr">/plain?to=%3CBob%3E</bdi>' in confirm(client, sent).text


def test_r36_nobody_else_keeps_or_frames_the_page(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client)
    headers = confirm(client, sent).headers
    assert headers["Cache-Control"] == "no-store"
    assert "Cookie" in headers["Vary"]
    assert headers["X-Frame-Options"] == "DENY"
    assert "script-src 'self'" in headers["Content-Security-Policy"]


def test_a_client_that_verifies_by_json_is_told_where_to_go_on(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client)
    client.post("/otp/send", json={"email": ANN, "purpose": "transfer"})
    answer = client.post("/otp/verify", json={"code": sent.code, "purpose": "transfer"})
    assert place(answer.get_json()["next"]) == "/otp/repeat?purpose=transfer"


def test_below_a_script_name_it_goes_back_to_where_it_came_from(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    below = {"base_url": "http://localhost/shop/"}
    client.post("/transfer", data=dict(ORDER), headers=OWN, **below)
    client.post("/otp/send", data={"email": ANN, "purpose": "transfer"}, headers=OWN, **below)
    answer = client.post("/otp/verify", data={"code": sent.code, "purpose": "transfer"}, headers=OWN, **below)
    assert place(answer) == "/shop/otp/repeat?purpose=transfer"
    assert Form(client.get("/otp/repeat?purpose=transfer", **below).text).action == "/shop/transfer"


@pytest.mark.parametrize("csrf_first", [True, False])
def test_beside_csrf_protect_the_form_is_sent_again_with_a_token_of_the_renewed_session(
    otp: OTP, csrf_first: bool
) -> None:
    app = Flask("site")
    app.config.update(TESTING=True, SECRET_KEY="x" * 32, OTP_STORAGE_URI="memory://", OTP_PURPOSES=PURPOSES)
    for extension in sorted((CSRFProtect(), otp), key=lambda each: (each is otp) is csrf_first):
        extension.init_app(app)
    bank = Bank(app, once=True)
    app.add_url_rule("/token", "token", generate_csrf)
    client = app.test_client()
    fields = [*ORDER, ("csrf_token", client.get("/token").text)]
    with capture_codes(app) as sent:
        assert post(client).status_code == 400
        assert post(client, fields=fields).status_code == 303
        page = confirm(client, sent)
        assert click(client, page).text == "done"
    [ordered] = bank.orders
    assert ordered[:-1] == fields[:-1]
    assert ordered[-1][0] == "csrf_token"
    assert ordered[-1][1] != fields[-1][1]


def test_a_whole_app_that_is_protected_keeps_its_forms_too(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp, OTP_PURPOSES=PURPOSES)
    otp.protect(app, purpose="transfer")
    seen: list[str] = []
    app.add_url_rule("/save", "save", lambda: seen.append(request.form["text"]) or "saved", methods=["POST"])
    client = app.test_client()
    with capture_codes(app) as sent:
        post(client, "/save", [("text", "hello")])
        assert click(client, confirm(client, sent)).text == "saved"
    assert seen == ["hello"]


def test_an_app_with_a_code_page_of_its_own_sends_people_on_to_ours(bank: Bank, otp: OTP, sent: Outbox) -> None:
    @bank.app.post("/check")
    def check() -> Response:
        otp.verify(request.form["code"], purpose="transfer")
        return redirect(url_for("otp.repeat", purpose="transfer"), 303)

    client = bank.app.test_client()
    post(client, "/plain")
    ask(client)
    location = client.post("/check", data={"code": sent.code}).location
    assert click(client, client.get(location)).text == "done"
    assert bank.orders == [ORDER]


# Never automatically


def test_nothing_but_the_click_carries_it_out(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client)
    confirm(client, sent)
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
        answer = client.open("/otp/repeat?purpose=transfer", method=method, headers=OWN)
        assert answer.status_code == (200 if method in ("GET", "HEAD", "OPTIONS") else 405)
    assert bank.orders == []
    page = client.get("/otp/repeat?purpose=transfer")
    assert "<script" not in page.text.split("<body")[1]
    assert "refresh" not in page.text.lower()


def test_before_the_code_there_is_nothing_to_confirm(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client)
    ask(client)
    answer = client.get("/otp/repeat?purpose=transfer")
    assert (answer.status_code, answer.location) == (303, "/home")
    assert bank.orders == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin, same-origin"},
        {"Sec-Fetch-Site": ""},
        {"Origin": "null"},
        {"Origin": "https://localhost"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": ""},
        {"Referer": "http://localhost/page"},
        {},
    ],
    ids=str,
)
def test_r29_no_other_site_leaves_an_order_to_be_confirmed(bank: Bank, sent: Outbox, headers: dict[str, str]) -> None:
    client = bank.app.test_client()
    planted = post(client, fields=[("amount", "9000"), ("payee", "Eve")], headers=HTML | headers)
    assert planted.status_code == 303
    assert kept(client) is None
    post(client)
    own = kept(client)
    assert own is not None
    post(client, fields=[("amount", "9000"), ("payee", "Eve")], headers=HTML | headers)
    assert kept(client) == own
    # What another site asked for is no requirement of this session. A client that does not say where it comes from may
    # ask for Eve's order, as page and message then say: a code for that confirms nothing of ours.
    ask(client)
    unknown = headers in ({"Sec-Fetch-Site": "none"}, {"Referer": "http://localhost/page"}, {})
    assert verify(client, sent) == ("/home" if unknown else "/otp/repeat?purpose=transfer")
    page = client.get("/otp/repeat?purpose=transfer", headers=HTML)
    assert page.location == ("/home" if unknown else None)
    assert "Eve" not in page.text


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {"Origin": "https://a.b"}])
def test_a_page_of_this_origin_is_told_by_the_browser_or_the_base_url(
    make_app: AppFactory, headers: dict[str, str]
) -> None:
    app = make_app(OTP_PURPOSES=PURPOSES, OTP_BASE_URL="https://a.b")
    Bank(app)
    client = app.test_client()
    post(client, headers=HTML | headers)
    assert kept(client) is not None


def test_a_changed_form_is_a_new_challenge(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client)
    form = Form(confirm(client, sent).text)
    refused = post(client, form.action, [("amount", "5000"), ("payee", "Bob")])
    assert place(refused) == "/otp/?purpose=transfer"
    assert bank.orders == []
    assert post(client, form.action, form.fields).text == "done"


def test_a_code_offers_its_own_order_and_no_other(bank: Bank, sent: Outbox) -> None:
    """Two tabs: the first one's code is typed when the second one's form is kept."""
    client = bank.app.test_client()
    post(client)
    ask(client)
    post(client, fields=[("amount", "7"), ("payee", "Cy")])
    assert verify(client, sent) == "/otp/repeat?purpose=transfer"
    assert Form(client.get("/otp/repeat?purpose=transfer").text).fields == ORDER


def test_a_code_for_another_purpose_does_not_offer_it(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client, "/plain")
    client.post("/otp/send", data={"email": ANN}, headers=OWN)
    answer = client.post("/otp/verify", data={"code": sent.code, "purpose": "login"}, headers=OWN)
    assert answer.location == "/home"
    for purpose in ("transfer", "login"):
        assert client.get(f"/otp/repeat?purpose={purpose}").location == "/home"


@pytest.mark.parametrize("purpose", ["nothing", "", "../x", "<b>"])
def test_an_unknown_purpose_is_400(bank: Bank, purpose: str) -> None:
    assert bank.app.test_client().get("/otp/repeat", query_string={"purpose": purpose}).status_code == 400


# Once, for an hour, for one person


@pytest.mark.parametrize("path", ["/transfer", "/plain"], ids=["once", "as often as one likes"])
def test_it_may_be_reloaded_until_it_was_carried_out(bank: Bank, sent: Outbox, path: str) -> None:
    client = bank.app.test_client()
    post(client, path)
    first = confirm(client, sent)
    client.get("/page")  # another request with the same proof is not it
    if path == "/plain":
        assert post(client, "/note").text == "noted"
    again = client.get("/otp/repeat?purpose=transfer")
    assert again.text == first.text
    assert click(client, again).text == "done"
    assert client.get("/otp/repeat?purpose=transfer").location == "/home"
    assert kept(client) is None


def test_a_look_at_the_page_of_the_same_path_is_not_it(bank: Bank, sent: Outbox) -> None:
    view = otp_required(purpose="transfer")(lambda: request.method)
    bank.app.add_url_rule("/form", "form", view, methods=["GET", "POST"])
    client = bank.app.test_client()
    post(client, "/form")
    page = confirm(client, sent)
    assert client.get("/form").text == "GET"
    assert kept(client) is not None
    assert click(client, page).text == "POST"
    assert kept(client) is None


def test_a_proof_that_passes_once_does_so_however_often_it_is_clicked(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client)
    page = confirm(client, sent)
    cookie = client.get_cookie("session")
    assert cookie is not None
    assert [click(client, page).status_code for _ in range(3)] == [200, 303, 303]
    thief = bank.app.test_client()
    thief.set_cookie("session", cookie.value)  # with what was kept still in it
    assert thief.get("/otp/repeat?purpose=transfer").location == "/home"
    assert click(thief, page).status_code == 303
    assert bank.orders == [ORDER]


def test_r06_of_50_clicks_at_once_exactly_one_is_carried_out(make_app: AppFactory, otp: OTP) -> None:
    bank = Bank(make_app(otp, OTP_PURPOSES=PURPOSES), once=True)
    client = bank.app.test_client()
    with capture_codes(bank.app) as sent:
        post(client)
        page = confirm(client, sent)
    cookie, barrier = client.get_cookie("session"), Barrier(50)
    assert cookie is not None

    def one(_: int) -> int:
        tab = bank.app.test_client()
        tab.set_cookie("session", cookie.value)
        barrier.wait()
        return click(tab, page).status_code

    with ThreadPoolExecutor(50) as pool:
        assert sorted(pool.map(one, range(50))) == [200] + [303] * 49
    assert bank.orders == [ORDER]


def test_it_ends_with_the_requirement(bank: Bank, sent: Outbox, clock: Clock) -> None:
    client = bank.app.test_client()
    post(client)
    confirm(client, sent)
    clock.advance(3599)
    assert client.get("/otp/repeat?purpose=transfer").status_code == 200
    clock.advance(1)
    assert client.get("/otp/repeat?purpose=transfer").location == "/home"


@pytest.mark.parametrize("end", ["log out", "revoke", "expire"])
def test_it_ends_with_the_proof(make_app: AppFactory, otp: OTP, clock: Clock, end: str) -> None:
    purposes = {"transfer": {"verified_for": "10m"}}
    # A lag may prolong what the store says, never what the proof says of itself.
    lag = "1h" if end == "expire" else 0
    bank = Bank(make_app(otp, OTP_PURPOSES=purposes, OTP_DEFAULT_NEXT="/home", OTP_REVOCATION_LAG=lag))
    client = bank.app.test_client()
    with capture_codes(bank.app) as sent:
        post(client)
        page = confirm(client, sent)
        if end == "log out":
            assert client.post("/otp/logout").status_code == 204
            assert kept(client) is None
        elif end == "revoke":
            with bank.app.app_context():
                otp.revoke(ANN)
        else:
            clock.advance("10m")
        assert client.get("/otp/repeat?purpose=transfer").location == "/home"
        assert click(client, page).status_code == 303
    assert bank.orders == []


@pytest.mark.parametrize(
    ("before", "after", "offered"),
    [
        (None, None, True),
        (ANN, ANN, True),
        (None, ANN, True),  # signed in by this very code
        (ANN, None, False),
        (ANN, BOB, False),
        (BOB, ANN, False),
        (None, BOB, False),
    ],
)
def test_it_is_offered_to_the_person_who_sent_it_only(
    bank: Bank, otp: OTP, sent: Outbox, before: str | None, after: str | None, offered: bool
) -> None:
    user = [before]
    otp.identifier_loader(lambda: user[0])
    client = bank.app.test_client()
    post(client)
    client.post("/otp/send", data={"identifier": before or ANN, "purpose": "transfer"}, headers=OWN)
    verify(client, sent)
    user[0] = after
    answer = client.get("/otp/repeat?purpose=transfer")
    # Bob's own code was for bob, so ann's page would be no use: what is checked is who sent the form.
    assert (answer.status_code == 200) is offered
    assert ("Bob" in answer.text) is offered


def test_who_types_an_older_code_of_their_own_is_not_offered_the_form_of_another(bank: Bank, sent: Outbox) -> None:
    """On a shared machine without a sign-in: bob's code was sent before ann filled in the form and asked for hers."""
    client = bank.app.test_client()
    handle = client.post("/otp/send", json={"email": BOB, "purpose": "transfer"}, headers=OWN).json["challenge"]
    post(client, "/plain")
    ask(client)
    answer = client.post("/otp/verify", json={"code": sent.code_for(BOB), "challenge": handle}, headers=OWN)
    assert answer.status_code == 200
    assert client.get("/page").text == "page"  # bob has verified
    assert client.get("/otp/repeat?purpose=transfer").location == "/home"
    # Ann's own code still finds it.
    assert verify(client, sent) == "/otp/repeat?purpose=transfer"
    assert Form(client.get("/otp/repeat?purpose=transfer").text).fields == ORDER


def test_who_signs_in_after_another_and_verifies_is_not_offered_the_others_form(
    bank: Bank, otp: OTP, sent: Outbox
) -> None:
    user = [ANN]
    otp.identifier_loader(lambda: user[0])
    client = bank.app.test_client()
    post(client, "/plain")
    user[0] = BOB
    client.post("/otp/send", data={"purpose": "transfer"}, headers=OWN)
    assert verify(client, sent) == "/home"
    assert client.get("/page").text == "page"  # bob has verified
    assert client.get("/otp/repeat?purpose=transfer").location == "/home"


def test_who_is_signed_in_by_the_verified_handler_goes_on(bank: Bank, otp: OTP, sent: Outbox) -> None:
    user: list[str | None] = [None]
    otp.identifier_loader(lambda: user[0])
    otp.verified_handler(lambda verification: user.__setitem__(0, verification.identifier))
    client = bank.app.test_client()
    post(client)
    assert click(client, confirm(client, sent)).text == "done"


def test_it_is_offered_on_the_host_that_it_was_sent_to_only(bank: Bank, sent: Outbox) -> None:
    bank.app.config["SESSION_COOKIE_DOMAIN"] = "example.com"
    client = bank.app.test_client()
    shop, blog = ({"base_url": f"http://{name}.example.com/"} for name in ("shop", "blog"))
    own = HTML | {"Sec-Fetch-Site": "same-origin"}
    client.post("/transfer", data=dict(ORDER), headers=own, **shop)
    client.post("/otp/send", data={"email": ANN, "purpose": "transfer"}, headers=own, **shop)
    client.post("/otp/verify", data={"code": sent.code, "purpose": "transfer"}, headers=own, **shop)
    assert client.get("/otp/repeat?purpose=transfer", **shop).status_code == 200
    assert client.get("/otp/repeat?purpose=transfer", **blog).status_code == 303


# What is not kept goes back to its page, as ever


def goes_back(client: FlaskClient, answer: TestResponse) -> bool:
    assert answer.status_code == 303
    return kept(client) is None and place(answer) == "/otp/?next=/form&purpose=transfer"


def test_what_a_form_could_not_give_back_is_not_kept(bank: Bank) -> None:
    headers = {**OWN, "Referer": "http://localhost/form"}
    plain = {"content_type": "application/x-www-form-urlencoded"}
    bodies: list[dict[str, Any]] = [
        {"data": "amount=5&payee=" + "x" * 1100, **plain},
        {"data": "amount=5&payee=" + "x" * 900, **plain},  # fits a cookie, but not with all that goes along
        {"data": {"amount": "5", "payee": "Bob"}, "content_type": "multipart/form-data"},
        {"json": {"amount": "5"}},
        {"data": "amount=5", "content_type": "text/plain"},
        {"data": "amount=5"},
        {"data": "amount=5&payee=a%0Ab", **plain},
        {"data": "amount=5&payee=a%0Db", **plain},
        {"data": "amount=5&payee=a%00b", **plain},
        {"data": "amount=5&pa%0Ayee=b", **plain},
        {"data": "amount=5&=b", **plain},
    ]
    for body in bodies:
        client = bank.app.test_client()
        assert goes_back(client, client.post("/transfer", headers=headers, **body)), body


@pytest.mark.parametrize(("name", "is_kept"), [("abc", True), ("abcd", False)])
def test_a_form_of_1024_bytes_is_kept_and_none_of_more(bank: Bank, name: str, is_kept: bool) -> None:
    client = bank.app.test_client()
    body = f"{name}={'%41' * 340}"
    assert len(body) == (1024 if is_kept else 1025)
    client.post("/plain", data=body, headers=OWN, content_type="application/x-www-form-urlencoded")
    assert (kept(client) is not None) is is_kept


def test_what_fits_exactly_into_the_cookie_is_kept(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    client = bank.app.test_client()
    post(client)
    length = len(kept(client) or "")
    monkeypatch.setattr(pending_form, "MAX_KEPT", length)
    post(client)
    assert len(kept(client) or "") == length
    monkeypatch.setattr(pending_form, "MAX_KEPT", length - 1)
    post(client)
    assert kept(client) is None


def test_a_body_of_unknown_length_is_not_read(bank: Bank) -> None:
    client = bank.app.test_client()
    headers = {**OWN, "Referer": "http://localhost/form", "Transfer-Encoding": "chunked"}
    assert goes_back(client, post(client, "/plain", headers=headers, environ_overrides={"wsgi.input_terminated": True}))


@pytest.mark.parametrize("path", ["//evil.example/x", "/%5Cevil.example/", "/%09/evil.example", "/%2Fevil.example/"])
def test_r30_the_form_never_goes_to_what_a_browser_reads_as_a_host(make_app: AppFactory, path: str) -> None:
    app = make_app(OTP_PURPOSES=PURPOSES)
    app.url_map.merge_slashes = False
    app.add_url_rule("/<path:any>", "any", otp_required(purpose="transfer")(lambda any: "done"), methods=["POST"])
    client = app.test_client()
    with capture_codes(app) as sent:
        assert client.post(f"http://localhost{path}", data={"a": "1"}, headers=OWN).status_code == 303
        action = Form(confirm(client, sent).text).action
    assert re.fullmatch(r"/[!-.0-[\]-~][!-[\]-~]*", action)


def test_other_methods_and_other_clients_are_not_kept(bank: Bank) -> None:
    for method, headers in (("PUT", OWN), ("POST", {"Origin": "http://localhost"}), ("POST", {})):
        client = bank.app.test_client()
        client.open("/transfer", method=method, data=dict(ORDER), headers=headers)
        assert kept(client) is None


def test_a_form_that_cannot_be_kept_takes_the_earlier_one_away(bank: Bank) -> None:
    """Else the person would be shown, after the code, what they have since changed."""
    client = bank.app.test_client()
    post(client, "/plain")
    assert kept(client) is not None
    post(client, "/plain", [("text", "x" * 2000)])
    assert kept(client) is None


def test_the_newest_way_on_is_the_one(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    client.get(client.get("/page", headers=HTML).location)
    post(client, "/plain")
    assert Form(confirm(client, sent).text).action == "/plain"
    client.post("/otp/logout")
    post(client, "/plain")
    client.get(client.get("/page", headers=HTML).location)
    ask(client)
    assert verify(client, sent) == "/page"


def test_a_form_that_is_kept_leads_on_to_itself_and_not_to_its_page(bank: Bank) -> None:
    refused = post(bank.app.test_client(), headers=OWN | {"Referer": "http://localhost/page"})
    assert place(refused) == "/otp/?purpose=transfer"


def test_the_apps_own_answer_to_a_refusal_may_lead_to_the_form_as_well(bank: Bank, otp: OTP) -> None:
    locations: list[str | None] = []

    @otp.unauthorized_handler
    def answer(error: VerificationRequired) -> str:
        locations.append(place(error.location))
        return "please verify"

    client = bank.app.test_client()
    assert post(client).text == "please verify"
    assert locations == ["/otp/?purpose=transfer"]
    assert kept(client) is not None


# What the session holds


def test_the_kept_form_cannot_be_read_nor_made(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client, fields=[*ORDER, ("password", "hunter2-hunter2")])
    token = kept(client)
    assert token is not None
    hidden = base64.urlsafe_b64decode(token.partition(".")[0] + "==")
    for word in (b"hunter2", b"Bob", b"/transfer"):
        assert word not in hidden
    with bank.app.test_request_context():
        loaded = pending_form._load(bank.app.extensions["otp"], token)
        assert loaded is not None
        assert "hunter2-hunter2" in loaded.fields
        assert repr(loaded) == "<Repeat transfer>"
    confirm(client, sent)
    with client.session_transaction() as session:
        others = [value for kind in ("proof", "known") for value in session["_otp"].get(kind, {}).values()]
    # Not its last character: that has bits which do not count.
    changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    with client.session_transaction() as session:
        ours = session["_otp"]
    for forged in (changed, token[1:], "", "x" * 5000, "ü", *others):
        forger = bank.app.test_client()
        with forger.session_transaction() as session:
            session["_otp"] = ours | {"repeat": {"transfer": forged}}
        assert forger.get("/otp/repeat?purpose=transfer").location == "/home", forged
    with forger.session_transaction() as session:
        session["_otp"] = ours
    assert Form(forger.get("/otp/repeat?purpose=transfer").text).action == "/transfer"


def test_a_form_kept_for_one_purpose_does_not_do_for_another(bank: Bank, sent: Outbox) -> None:
    client = bank.app.test_client()
    post(client, "/plain")
    client.post("/otp/send", data={"email": ANN}, headers=OWN)
    client.post("/otp/verify", data={"code": sent.code, "purpose": "login"}, headers=OWN)
    with client.session_transaction() as session:
        session["_otp"] = session["_otp"] | {"repeat": {"login": session["_otp"]["repeat"]["transfer"]}}
    assert client.get("/otp/repeat").location == "/home"


@pytest.mark.parametrize("length", [100, 300, 500])
def test_r49_a_session_with_a_form_in_it_fits_into_a_cookie(make_app: AppFactory, otp: OTP, length: int) -> None:
    bank = Bank(make_app(otp, OTP_PURPOSES=PURPOSES, OTP_COOLDOWN=0), context=lambda: {"note": request.form["note"]})
    client, random = bank.app.test_client(), Random(1)
    with capture_codes(bank.app) as sent:
        for purpose in PURPOSES:
            client.get(f"/otp/?purpose={purpose}&next=/{'x' * 1000}")
            client.post("/otp/send", json={"email": ANN, "purpose": purpose})
            client.post("/otp/verify", json={"code": sent.code, "purpose": purpose})
        for _ in range(2):
            note = "".join(random.choices(ascii_letters, k=length // 2))
            post(client, fields=[("note", note), ("more", note)])
            ask(client)
            cookie = client.get_cookie("session")
            assert cookie is not None
            assert len(f"session={cookie.value}; HttpOnly; Path=/") < 4093
    assert (kept(client) is not None) is (length <= 300)
