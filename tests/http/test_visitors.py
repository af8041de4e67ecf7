"""What visitors meet: dead ends, tabs, other origins, error handlers of the app, and input as people have it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape
from typing import Any

import pytest
from flask import Flask, redirect, request
from flask_cors import CORS
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.test import TestResponse

from flask_otp import OTP, VerificationRequired, otp_required
from flask_otp.crypto.codes import STRONG_LENGTH
from flask_otp.errors import ConfigError
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.answers import place
from tests.support.apps import AppFactory
from tests.support.jar import Jar
from tests.support.users import Forms
from tests.support.visits import wrong

ANN, BOB = "ann@example.com", "bob@example.com"
HTML = {"Accept": "text/html"}
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}}


@pytest.fixture
def site(make_app: AppFactory) -> Flask:
    app = make_app(OTP_PURPOSES=PURPOSES)
    app.add_url_rule("/account", "account", otp_required(lambda: "private"))
    pay = otp_required(purpose="transfer", context=lambda: {"amount": request.values["amount"]})
    app.add_url_rule("/pay", "pay", pay(lambda: f"paid {request.values['amount']}"), methods=["GET", "POST"])
    return app


@pytest.fixture
def sent(site: Flask) -> Iterator[Outbox]:
    with capture_codes(site) as outbox:
        yield outbox


class Tab:
    """One tab: it keeps the page that it shows, and shares the cookies of its browser."""

    def __init__(self, jar: Jar, path: str) -> None:
        self.jar = jar
        self.page = self._follow(jar.go("GET", path, headers=HTML))

    def submit(self, action: str = "", **fields: str) -> Tab:
        forms = Forms(self.page.text).found
        target, values = next((t, v) for t, v in forms if action in (t, "") and fields.keys() <= v.keys())
        headers = HTML | {"Origin": "http://localhost"}
        self.page = self._follow(self.jar.go("POST", target, data=values | fields, headers=headers))
        return self

    def _follow(self, answer: TestResponse) -> TestResponse:
        while answer.location is not None:
            answer = self.jar.go("GET", answer.location, headers=HTML)
        return answer

    @property
    def says(self) -> str:
        return unescape(re.sub(r"\s+", " ", re.sub(r"(?s)<[^>]+>", " ", self.page.text.partition("<main")[2])))

    @property
    def buttons(self) -> int:
        return self.page.text.count("<button")


# Dead ends


def test_a_code_page_says_that_its_code_has_expired_and_offers_a_new_one(
    site: Flask, sent: Outbox, clock: Clock
) -> None:
    jar = Jar(site)
    tab = Tab(jar, "/account").submit(identifier=ANN)
    clock.advance("20m")
    for again in (Tab(jar, "/otp/verify"), Tab(jar, tab.page.request.full_path)):
        assert f"The code that we sent to {ANN} has expired." in again.says
        assert "works for" not in again.says
        assert again.buttons == 1
    late = tab.submit(code=sent.code)
    assert (late.page.status_code, late.buttons) == (400, 1)
    assert "has expired" in late.says
    # One button, and the way back is still known.
    assert late.submit(action="/otp/send").submit(code=sent.code).page.text == "private"
    assert len(sent) == 2


def test_a_code_page_says_that_its_attempts_are_spent(site: Flask, sent: Outbox, clock: Clock) -> None:
    jar = Jar(site)
    tab = Tab(jar, "/pay?amount=5").submit(identifier=ANN)
    for number in range(5):
        assert ("tried too often" in tab.says, tab.buttons) == (False, 2), number
        tab.submit(code=wrong(sent.code))
    for page in (tab, Tab(jar, "/otp/verify?purpose=transfer")):
        assert "was used, or tried too often." in page.says
        assert ("works for" in page.says, page.buttons) == (False, 1)
    # The new code is for the same payment.
    early = tab.submit(action="/otp/send")
    assert "The wait is 30 seconds." in early.says
    assert early.page.status_code == 429
    clock.advance("30s")
    assert early.submit(action="/otp/send").submit(code=sent.code).page.text == "paid 5"


def test_r21_the_pages_of_an_unknown_address_say_the_same(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    otp.recipient_loader(lambda identifier, channel: identifier if identifier == ANN else None)
    app = make_app(otp, OTP_DELIVERY="inline")
    seen = []
    for who in (ANN, "amy@example.com"):
        tab = Tab(Jar(app), "/otp/").submit(identifier=who)
        said = [tab.says]
        for _ in range(6):
            said.append(tab.submit(code="xxxxxx").says)
        clock.advance("31s")
        said.append(tab.submit(action="/otp/resend").says)
        with app.app_context():
            otp.revoke(who)
        clock.advance("31s")
        said.append(tab.submit(action="/otp/resend").says)
        seen.append([text.replace(who, "who") for text in said])
        clock.advance("1h")
    assert seen[0] == seen[1]
    assert "We have sent it once more." in seen[0][-2]
    assert "tried too often" in seen[0][-1]


def test_a_verified_visitor_is_sent_on(site: Flask, sent: Outbox, clock: Clock) -> None:
    jar = Jar(site)
    other, back = Tab(jar, "/account"), Tab(jar, "/account")
    code_page = other.submit(identifier=ANN)
    twice = Forms(code_page.page.text).found[0]
    assert code_page.submit(code=sent.code).page.text == "private"
    assert Tab(jar, "/otp/?next=/account").page.text == "private"
    clock.advance("11s")
    assert Tab(jar, "/otp/verify").page.text == "private"
    # Back, and the same form once more; without scripts nothing stops that.
    form = twice[1] | {"code": sent.code}
    again = jar.go("POST", twice[0], data=form, headers=HTML)
    assert (again.status_code, again.location) == (303, "/account")
    # The tab that stands at the first form may still ask, as another person.
    assert "Enter your code" in back.submit(identifier=BOB).says


def test_a_bearer_token_for_one_purpose_sends_nobody_on_for_another(site: Flask, sent: Outbox) -> None:
    client = site.test_client(use_cookies=False)
    handle = client.post("/otp/send", json={"email": ANN}).json["challenge"]
    proof = client.post("/otp/verify", json={"code": sent.code, "challenge": handle}).json["proof"]
    headers = HTML | {"Authorization": f"Bearer {proof}"}
    answers = {}
    for purpose in ("login", "transfer", "none"):
        answer = client.post("/otp/verify", data={"code": "1", "purpose": purpose, "next": "/x"}, headers=headers)
        answers[purpose] = (answer.status_code, answer.location)
    assert answers == {
        "login": (303, "/x"),
        "transfer": (303, "/otp/?purpose=transfer&next=/x"),
        "none": (400, None),
    }


def test_a_visitor_who_needs_another_proof_is_not_sent_round(site: Flask, sent: Outbox, clock: Clock) -> None:
    """An app may look at a proof by rules of its own, of which we know nothing."""
    site.add_url_rule("/picky", "picky", lambda: redirect("/otp/?next=/picky"))
    jar = Jar(site)
    Tab(jar, "/account").submit(identifier=ANN).submit(code=sent.code)
    assert "Sign in" in Tab(jar, "/picky").says
    clock.advance("9s")
    assert jar.go("GET", "/otp/?next=/picky", headers=HTML).status_code == 200
    clock.advance("1s")
    assert jar.go("GET", "/otp/?next=/picky", headers=HTML).location == "/picky"


def test_a_guard_that_wants_a_fresher_proof_is_not_taken_for_content(
    make_app: AppFactory, sent: Outbox, clock: Clock
) -> None:
    app = make_app()
    app.add_url_rule("/fresh", "fresh", otp_required(max_age="1m")(lambda: "fresh"))
    with capture_codes(app) as codes:
        jar = Jar(app)
        assert Tab(jar, "/fresh").submit(identifier=ANN).submit(code=codes.code).page.text == "fresh"
        clock.advance("2m")
        asked = Tab(jar, "/fresh")
        assert "Sign in" in asked.says
        assert asked.submit(identifier=ANN).submit(code=codes.code).page.text == "fresh"


def test_a_slip_in_the_address_can_be_seen_and_mended(site: Flask, sent: Outbox) -> None:
    jar = Jar(site)
    tab = Tab(jar, "/pay?amount=7").submit(identifier="Ann@Exmaple.com")
    assert "ann@exmaple.com" in tab.says
    link = re.search(r'<a href="([^"]+)">Use another address', tab.page.text)
    assert link is not None
    again = Tab(jar, link[1].replace("&amp;", "&"))
    assert 'value="ann@exmaple.com"' in again.page.text
    assert again.submit(identifier=ANN).submit(code=sent.code).page.text == "paid 7"


def test_an_address_that_the_app_knows_is_shown_masked(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    otp.identifier_loader(lambda: ANN)
    app = make_app(otp)
    app.add_url_rule("/ask", "ask", lambda: otp.send(BOB) and "sent")
    tab = Tab(Jar(app), "/otp/")
    assert (ANN in tab.page.text, "a***@example.com" in tab.says) == (False, True)
    tab.submit(action="/otp/send")
    assert (ANN in tab.page.text, "a***@example.com" in tab.says) == (False, True)
    jar = Jar(app)
    jar.go("GET", "/ask")
    assert BOB not in Tab(jar, "/otp/verify").page.text


def test_what_was_typed_and_chosen_is_still_there(make_app: AppFactory) -> None:
    app = make_app(OTP_CHANNELS={"email": print, "sms": print}, OTP_SMS_COUNTRIES=["DE"])
    jar = Jar(app)
    page = jar.go("POST", "/otp/send", data={"identifier": "ann@exam ple", "channel": "sms"}, headers=HTML).text
    assert 'value="ann@exam ple"' in page
    assert 'value="sms" checked' in page


def test_a_resend_as_the_countdown_ends_is_none_too_early(site: Flask, sent: Outbox, clock: Clock) -> None:
    """The machine that takes it is three seconds behind the one that told when."""
    for behind, status in ((3, 303), (4, 429)):
        jar = Jar(site)
        tab = Tab(jar, "/otp/").submit(identifier=f"a{behind}@example.com")
        clock.advance(30 - behind)
        target, form = Forms(tab.page.text).found[1]
        assert jar.go("POST", target, data=form, headers=HTML).status_code == status


def test_blocked_cookies_get_one_page_that_says_so_and_one_message(site: Flask, sent: Outbox) -> None:
    client = site.test_client(use_cookies=False)
    answer = client.post("/otp/send", data={"identifier": ANN}, headers=HTML)
    page = client.get(answer.location, headers=HTML)
    assert (page.status_code, "Cookies are blocked" in page.text, page.location) == (400, True, None)
    assert 'href="/otp/"' in page.text
    assert len(sent) == 1
    # Only a browser without cookies gets that page. This one has a cookie, and has only lost the challenge.
    jar = Jar(site)
    jar.cookies["session"] = "something"
    assert jar.go("GET", answer.location, headers=HTML).location == "/otp/"


@pytest.mark.parametrize(("config", "ends_at"), [({"OTP_MAX_ATTEMPTS": 2}, 2), ({"OTP_FAILURE_BUDGET": "3/day"}, 3)])
def test_the_page_says_that_a_code_is_over_with_the_wrong_code_that_ended_it(
    make_app: AppFactory, config: dict[str, Any], ends_at: int
) -> None:
    app = make_app(**config)
    with capture_codes(app) as codes:
        tab = Tab(Jar(app), "/otp/").submit(identifier=ANN)
        over = ["no longer works" in tab.submit(code=wrong(codes.code)).says for _ in range(ends_at)]
    assert over == [False] * (ends_at - 1) + [True]


def test_a_strong_code_survives_the_wrong_code_that_spends_the_budget(make_app: AppFactory, clock: Clock) -> None:
    app = make_app(OTP_FAILURE_BUDGET="1/hour", OTP_COOLDOWN=0)
    app.add_url_rule("/", "home", lambda: "home")
    with capture_codes(app) as codes:
        Tab(Jar(app), "/otp/").submit(identifier=ANN).submit(code=wrong(codes.code))
        clock.advance("58m")
        tab = Tab(Jar(app), "/otp/").submit(identifier=ANN)
        clock.advance("3m")  # into the budget's next window
        assert len(codes.code) == STRONG_LENGTH
        assert "no longer works" not in tab.submit(code="A" * STRONG_LENGTH).says
        assert tab.submit(code=codes.code).page.text == "home"


def test_a_form_that_waited_for_too_long_asks_the_guard_again(site: Flask, sent: Outbox, clock: Clock) -> None:
    tab = Tab(Jar(site), "/pay?amount=3")
    clock.advance("2h")
    tab.submit(identifier=ANN)
    assert "Please check what you are confirming" in tab.says
    assert tab.submit(identifier=ANN).submit(code=sent.code).page.text == "paid 3"


# Tabs


def test_what_a_guard_asks_for_in_one_tab_is_not_asked_for_in_another(make_app: AppFactory) -> None:
    app = make_app(OTP_CHANNELS={"email": lambda message: None, "sms": lambda message: None}, OTP_SMS_COUNTRIES=("DE",))
    app.add_url_rule("/phone", "phone", otp_required(channels=("sms",))(lambda: "private"))
    with capture_codes(app) as sent:
        jar = Jar(app)
        first = Tab(jar, "/otp/")
        Tab(jar, "/phone")
        first.submit(identifier=ANN, channel="email")
        assert [message.channel for message in sent] == ["email"]


def test_two_addresses_in_two_tabs_never_meet(site: Flask, sent: Outbox) -> None:
    jar = Jar(site)
    tabs = []
    for who in (ANN, BOB):
        tabs.append((Tab(jar, "/otp/?next=/account").submit(identifier=who), sent.code))
    # A wrong code in one costs the other no attempt.
    for _ in range(5):
        tabs[1][0].submit(code=wrong(tabs[1][1]))
    assert tabs[0][0].submit(code=tabs[0][1]).page.text == "private"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("first", [0, 1])
def test_two_payments_in_two_tabs_never_meet(site: Flask, sent: Outbox, clock: Clock, method: str, first: int) -> None:
    jar = Jar(site)
    tabs = []
    for amount in ("10", "20"):
        if method == "GET":
            tab = Tab(jar, f"/pay?amount={amount}")
        else:
            headers = HTML | {"Origin": "http://localhost"}
            refused = jar.go("POST", "/pay", data={"amount": amount}, headers=headers)
            tab = Tab(jar, str(refused.location))
        tabs.append(tab)
    codes = []
    for tab, amount in zip(tabs, ("10", "20"), strict=True):
        assert f'Amount "{amount}"' in tab.says
        tab.submit(identifier=ANN)
        codes.append(sent.code)
        clock.advance("31s")
    for index in (first, 1 - first):
        amount = ("10", "20")[index]
        tab = tabs[index].submit(code=codes[index])
        if method == "POST":
            assert f'Amount "{amount}"' in tab.says
    for index in (first, 1 - first):
        # Both have verified by now, and neither has lost its proof.
        tab = tabs[index].submit(action="/pay") if method == "POST" else Tab(jar, f"/pay?amount={(10, 20)[index]}")
        assert tab.page.text == f"paid {(10, 20)[index]}"


# Strict


STRICT = {"SESSION_COOKIE_SAMESITE": "Strict"}
MAIL = HTML | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("path", ["/account", "/otp/?next=/account", "/otp/verify", "/otp/link/" + "x" * 24])
def test_a_visitor_whom_strict_sends_without_a_session_writes_none(make_app: AppFactory, path: str) -> None:
    app = make_app(**STRICT, OTP_LINKS=True, OTP_BASE_URL="http://localhost")
    app.add_url_rule("/account", "account", otp_required(lambda: "private"))
    client = app.test_client(use_cookies=False)
    answer = client.get(path, headers=MAIL)
    seen = [answer]
    if answer.location:
        seen.append(client.get(answer.location, headers=MAIL))
    assert [header for answer in seen for header in answer.headers.getlist("Set-Cookie")] == []
    page = seen[-1].text
    assert re.search(r'<meta http-equiv="refresh" content="0; url=[^"]+">', page)
    # The second try is the last one, whatever the browser says of it.
    here = re.search(r'url=([^"]+)"', page)
    assert here is not None
    again = client.get(here[1].replace("&amp;", "&"), headers=MAIL)
    assert 'http-equiv="refresh"' not in again.text


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/otp/?next=/account", "/account"),
        ("/otp/?next=//evil.example", "/otp/?next=//evil.example&again=1"),
        ("/otp/verify?purpose=login", "/otp/verify?purpose=login&again=1"),
        ("/otp/verify", "/otp/verify?again=1"),
    ],
)
def test_the_second_try_is_of_the_page_that_the_visitor_wants(make_app: AppFactory, path: str, target: str) -> None:
    client = make_app(**STRICT).test_client()
    assert 'http-equiv="refresh"' not in client.get(path, headers=HTML, follow_redirects=True).text
    client.delete_cookie("session")
    answer = client.get(path, headers=MAIL)
    assert f'<meta http-equiv="refresh" content="0; url={escape(target)}">' in answer.text
    assert f'<a class="button" href="{escape(target)}">' in answer.text
    # A link's address has its secret.
    assert answer.headers["Referrer-Policy"] == "strict-origin"
    assert answer.content_type == "text/html; charset=utf-8"


def test_without_strict_a_visitor_from_elsewhere_gets_the_form_at_once(site: Flask, sent: Outbox) -> None:
    client = site.test_client()
    refused = client.get("/pay?amount=9", headers=MAIL)
    assert "Set-Cookie" not in refused.headers
    page = client.get(refused.location, headers=MAIL)
    assert "Amount" in page.text
    assert "Set-Cookie" not in page.headers
    # Two clicks on its button are one, although there was no session yet.
    target, form = Forms(page.text).found[0]
    answers = [site.test_client().post(target, data=form | {"identifier": ANN}, headers=HTML) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert len(sent) == 1


# Other origins


SPA = "https://app.example.com"
CROSS = {"Origin": SPA, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}


def test_without_the_setting_a_page_on_another_origin_can_do_nothing(make_app: AppFactory) -> None:
    client = make_app().test_client()
    answer = client.post("/otp/send", json={"email": ANN}, headers=CROSS)
    assert answer.status_code == 403
    assert granted(answer) == {}


@pytest.mark.parametrize(
    "origin", [SPA, "capacitor://localhost", "http://localhost:5173", "https://xn--bcher-kva.example"]
)
def test_a_trusted_origin_may_call_the_api_and_read_its_answers(make_app: AppFactory, origin: str) -> None:
    app = make_app(
        OTP_TRUSTED_ORIGINS=[SPA + ":443", "capacitor://localhost", "HTTP://localhost:5173", "https://Bücher.example"]
    )
    headers = CROSS | {"Origin": origin}
    client = app.test_client()
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = client.options("/otp/send", headers=headers | asks)
    assert preflight.status_code == 200
    assert granted(preflight) == {
        "Allow-Origin": [origin],
        "Allow-Credentials": ["true"],
        "Allow-Methods": ["GET, POST"],
        "Allow-Headers": ["Authorization, Content-Type, Idempotency-Key"],
        "Max-Age": ["600"],
    }
    with capture_codes(app) as sent:
        answers = [
            client.post("/otp/send", json={"email": ANN}, headers=headers | asks),
            client.post("/otp/verify", json={"code": "x"}, headers=headers),
            client.post("/otp/resend", json={}, headers=headers),
            client.post("/otp/verify", json={"code": sent.code}, headers=headers),
            client.get("/otp/nothing", headers=headers),
        ]
    assert [answer.status_code for answer in answers] == [200, 400, 429, 200, 404]
    for answer in answers:
        assert granted(answer) == {
            "Allow-Origin": [origin],
            "Allow-Credentials": ["true"],
            "Expose-Headers": ["Retry-After, WWW-Authenticate"],
        }
    for answer in (preflight, *answers):
        assert "Origin" in answer.vary


def granted(answer: TestResponse) -> dict[str, list[str]]:
    """What the answer says to the browser about other origins, by name."""
    start = "Access-Control-"
    names = {name for name, _ in answer.headers if name.startswith(start)}
    return {name.removeprefix(start): answer.headers.getlist(name) for name in names}


@pytest.mark.parametrize(
    "origin",
    ["null", "https://app.example.com.evil.example", "https://evil.example", "http://app.example.com", SPA + "/", ""],
)
def test_r29_what_is_not_exactly_a_trusted_origin_is_refused(make_app: AppFactory, origin: str) -> None:
    app = make_app(OTP_TRUSTED_ORIGINS=[SPA])
    answer = app.test_client().post("/otp/send", json={"email": ANN}, headers=CROSS | {"Origin": origin})
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_apps_own_cors_extension_comes_first(make_app: AppFactory) -> None:
    for is_first in (True, False):
        app = make_app(OTP_TRUSTED_ORIGINS=[SPA]) if is_first else Flask("site")
        CORS(app, origins=[SPA], max_age=77, supports_credentials=True)
        if not is_first:
            app.config.update(SECRET_KEY="x" * 40, TESTING=True, OTP_STORAGE_URI="memory://", OTP_TRUSTED_ORIGINS=[SPA])
            OTP(app)
        answer = app.test_client().options("/otp/send", headers=CROSS | {"Access-Control-Request-Method": "POST"})
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [SPA]
        assert answer.headers["Access-Control-Max-Age"] == "77"


@pytest.mark.parametrize("origins", ["https://a.example", ["*"], ["null"], ["https://a.example/x"], ["file://"], [5]])
def test_an_invalid_origin_stops_the_app(make_app: AppFactory, origins: Any) -> None:
    with pytest.raises(ConfigError, match="OTP_TRUSTED_ORIGINS"):
        make_app(OTP_TRUSTED_ORIGINS=origins)


# The app's error handlers


@pytest.mark.parametrize("kind", [HTTPException, Unauthorized, 401, Exception])
def test_the_guards_answer_reaches_the_client_whatever_handler_the_app_has(site: Flask, kind: Any) -> None:
    site.register_error_handler(kind, lambda error: ("<h1>Oops</h1>", 418))
    answer = site.test_client().get("/account", headers=HTML)
    assert (answer.status_code, place(answer)) == (303, "/otp/?next=/account")
    refused = site.test_client().get("/account")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert refused.content_type == "application/problem+json"


def test_a_handler_of_our_own_error_is_asked(site: Flask) -> None:
    site.register_error_handler(
        VerificationRequired, lambda error: (f"{error.code} {error.purpose} {type(error).__name__}", 418)
    )
    answer = site.test_client().get("/account", headers=HTML)
    assert (answer.status_code, answer.text) == (418, "401 login VerificationRequired")


# Input


@pytest.mark.parametrize(
    ("typed", "countries", "to"),
    [
        ("07400 123456", ["GB"], "+447400123456"),
        ("(07400) 123\u2011456", ["GB"], "+447400123456"),
        ("۰۷۴۰۰۱۲۳۴۵۶", ["GB"], "+447400123456"),
        ("0049 1511 2345678", ["DE"], "+4915112345678"),
        ("01511 2345678", ["DE"], "+4915112345678"),
        ("01511 2345678", ["DE", "FR"], None),
        ("01511 2345678", [], None),
        ("0900 1234567", ["DE"], None),
    ],
)
def test_a_number_is_read_as_people_there_write_it(
    make_app: AppFactory, typed: str, countries: list[str], to: str | None
) -> None:
    sent = Outbox()
    app = make_app(OTP_CHANNELS={"sms": sent.append}, OTP_SMS_COUNTRIES=countries)
    answer = app.test_client().post("/otp/send", json={"phone": typed})
    assert answer.status_code == (400 if to is None else 200)
    assert [message.recipient for message in sent] == ([] if to is None else [to])
    # Two spellings are one subject: the second spelling gets no limits of its own.
    if to is not None:
        assert app.test_client().post("/otp/send", json={"phone": to}).status_code == 429


def test_special_domains_are_admitted_by_name(make_app: AppFactory) -> None:
    app = make_app(OTP_EMAIL_SPECIAL_DOMAINS=["local", "home.arpa", "localhost"])
    with capture_codes(app) as sent:
        for typed in ("Ann@Corp.Local", "ann@home.arpa", "root@localhost", "a@bücher.local"):
            assert app.test_client().post("/otp/send", json={"email": typed}).status_code == 200
        for typed in ("ann@corp.test", "ann@arpa", "ann@notlocal", "ann@.local", "a b@local", "ann@example.local.test"):
            assert app.test_client().post("/otp/send", json={"email": typed}).status_code == 400, typed
    found = [message.recipient for message in sent]
    assert found == ["ann@corp.local", "ann@home.arpa", "root@localhost", "a@xn--bcher-kva.local"]


def test_an_address_is_shown_as_people_write_it_and_kept_in_ascii(site: Flask, sent: Outbox) -> None:
    tab = Tab(Jar(site), "/otp/").submit(identifier="ann@BÜCHER.example.org")
    assert "ann@bücher.example.org" in tab.says
    assert sent[-1].recipient == "ann@xn--bcher-kva.example.org"
    answer = site.test_client().post("/otp/send", json={"email": "bob@xn--bcher-kva.example.org"})
    assert answer.json["destination"] == "b***@bücher.example.org"  # type: ignore[index]


@pytest.mark.parametrize("email", ["änn@example.com", "\N{KELVIN SIGN}ate@example.com"])
def test_letters_that_no_server_takes_before_the_at_are_refused_with_the_reason(site: Flask, email: str) -> None:
    answer = site.test_client().post("/otp/send", json={"email": email})
    assert answer.status_code == 400
    assert "plain letters (a to z) before the @" in answer.json["detail"]  # type: ignore[index]
