"""The pages and the API on which people add and remove apps: who may, what is shown, and what a slip costs."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import AppFactory
from tests.support.factor_site import ANN, BOB, HTML, Browser, Phone, Table, add_views, enrol, make_otp

FORM = {"Accept": "text/html", "Origin": "http://localhost"}


@pytest.fixture
def app(make_app: AppFactory, otp: OTP) -> Flask:
    """Deliver inline: the code has been sent when the answer comes."""
    app = make_app(otp, OTP_DELIVERY="inline")
    add_views(app, account={})
    return app


def verified(app: Flask, channel: str = "console", code: str | None = None, user: str = ANN) -> Browser:
    browser = Browser(app, user)
    with capture_codes(app) as outbox:
        assert browser.send(channel).status_code == 200
        assert browser.verify(code or outbox.code).status_code == 200
    return browser


def page(browser: Browser, path: str = "/otp/app") -> str:
    answer = browser.get(path, headers=HTML)
    assert answer.status_code == 200
    return answer.text


def form(browser: Browser, path: str, **fields: Any) -> Any:
    return browser.client.post(f"/otp/{path}", data=fields, headers=FORM, environ_base=browser.network)


def scanned(text: str, clock: Clock) -> tuple[Phone, str]:
    """The authenticator app after the user typed the key from the page, and the token of the form."""
    [key] = re.findall(r'<code class="key"[^>]*>([A-Z2-7 ]+)</code>', text)
    [token] = re.findall(r'name="enrolment" value="([^"]+)"', text)
    return Phone(f"otpauth://totp/x?secret={key.replace(' ', '')}", clock), unescape(token)


# Who may


def test_nobody_comes_here_without_being_signed_in(app: Flask) -> None:
    stranger = Browser(app)
    assert stranger.get("/otp/app").status_code == 401
    for path in ("app", "app/remove", "recovery"):
        assert stranger.post(path, name="phone").status_code == 401


def test_a_first_app_needs_a_fresh_code_by_another_channel(app: Flask, clock: Clock, table: Table) -> None:
    browser = Browser(app, ANN)
    refused = browser.get("/otp/app")
    assert (refused.status_code, refused.json["channels"], refused.json["max_age"]) == (401, ["console"], 900)
    there = browser.get("/otp/app", headers=HTML)
    assert (there.status_code, there.location.partition("&")[0]) == (303, "/otp/?next=/otp/app")
    browser = verified(app)
    assert browser.get("/otp/app").status_code == 200
    clock.advance(900)
    assert browser.get("/otp/app").status_code == 200
    clock.advance(1)
    assert browser.get("/otp/app").status_code == 401
    assert browser.post("app", enrolment="x", code="123456").status_code == 401
    assert table.saves == 0


def test_who_has_an_app_needs_it_or_a_recovery_code_and_no_mailbox_will_do(
    app: Flask, clock: Clock, table: Table
) -> None:
    phone, codes = enrol(app, clock)
    saves = table.saves
    mailbox = verified(app)
    for answer in (
        mailbox.get("/otp/app"),
        mailbox.post("app", enrolment="x", code="123456"),
        mailbox.post("app/remove", name="phone"),
        mailbox.post("recovery"),
    ):
        assert (answer.status_code, answer.json["channels"]) == (401, ["totp", "recovery"])
    assert table.saves == saves
    assert verified(app, "totp", phone.code()).get("/otp/app").status_code == 200
    assert verified(app, "recovery", codes[0]).post("app/remove", name="phone").status_code == 200


def test_the_app_may_say_that_a_password_is_enough_for_the_first(app: Flask, otp: OTP, clock: Clock) -> None:
    may = True
    otp.may_enrol(lambda: may)
    browser = Browser(app, ANN)
    assert browser.get("/otp/app").status_code == 200
    may = 1  # type: ignore[assignment]
    assert browser.get("/otp/app").status_code == 401
    may = True
    enrol(app, clock)
    assert browser.get("/otp/app").status_code == 401


def test_another_persons_proof_opens_nothing(app: Flask, clock: Clock, table: Table) -> None:
    browser = verified(app, user=BOB)
    browser.client.post("/password", data={"user": ANN})
    assert browser.get("/otp/app").status_code == 401


def test_another_site_cannot_add_or_remove_anything(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    browser = verified(app, "totp", phone.code())
    for path in ("app", "app/remove", "recovery"):
        answer = browser.client.post(f"/otp/{path}", data={"name": "phone"}, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403


def test_another_persons_enrolment_is_refused(app: Flask, otp: OTP, clock: Clock, table: Table) -> None:
    """Else a thief could have their own app confirmed as the victim's, or the other way round."""
    with app.app_context():
        enrolment = otp.totp.begin(BOB)
    code = Phone(enrolment.uri, clock).code()
    answer = verified(app).post("app", enrolment=enrolment.token, code=code)
    assert (answer.status_code, answer.json["reason"]) == (400, "invalid_request")
    assert table.rows == {ANN: None, BOB: None}


@pytest.mark.parametrize("channels", [["console"], ["totp", "recovery"]])
def test_a_purpose_that_cannot_show_it_is_passed_over_for_one_that_can(
    make_app: AppFactory, clock: Clock, table: Table, channels: list[str]
) -> None:
    """A first app needs a code that is sent, and every further one a code that is not."""
    other = ["totp", "recovery"] if channels == ["console"] else ["console"]
    app = make_app(make_otp(clock, table), OTP_PURPOSES={"one": {"channels": channels}, "two": {"channels": other}})
    add_views(app)
    browser = Browser(app, ANN)
    assert browser.get("/otp/app").json["channels"] == ["console"]
    enrol(app, clock)
    assert browser.get("/otp/app").json["channels"] == ["totp", "recovery"]


def test_where_no_purpose_takes_the_app_any_fresh_code_manages_it(
    make_app: AppFactory, clock: Clock, table: Table
) -> None:
    """It opens nothing there, and a code of it could not be asked for."""
    app = make_app(make_otp(clock, table), OTP_PURPOSES={"login": {"channels": ["console"]}})
    add_views(app)
    enrol(app, clock)
    assert Browser(app, ANN).get("/otp/app").status_code == 401
    assert verified(app).post("app/remove", name="phone").status_code == 200


# The pages


def test_a_person_adds_an_app_and_sees_the_recovery_codes_once(app: Flask, otp: OTP, clock: Clock) -> None:
    browser = verified(app)
    text = page(browser)
    assert "<svg" in text
    assert "data:" not in text
    assert "style=" not in text
    assert 'value="phone"' in text
    assert "Back to" not in text  # there is nothing to do elsewhere yet: sites send people here until they have an app
    assert 'value="Handy"' in browser.get("/otp/app", headers=HTML | {"Accept-Language": "de"}).text
    assert [unescape(path) for path in re.findall(r'action="([^"]+)"', text)] == ["/otp/app"]
    phone, token = scanned(text, clock)
    wrong = form(browser, "app", enrolment=token, code=phone.wrong(), name="my phone")
    assert wrong.status_code == 400
    assert "That code is not right" in wrong.text
    assert 'value="my phone"' in wrong.text
    assert scanned(wrong.text, clock)[0].secret == phone.secret
    done = form(browser, "app", enrolment=token, code=phone.code(), name="my phone")
    assert done.status_code == 200
    assert done.headers["Cache-Control"] == "no-store"
    assert re.findall(r'href="([^"]+)">(?:I have|Back)', done.text) == ["/", "/otp/app"]
    codes = re.findall(r"<li><code>([0-9A-Z-]{15})</code></li>", done.text)
    assert len(set(codes)) == 10
    with app.app_context():
        assert otp.factors(ANN).totp == ("my phone",)
    clock.advance(60)
    text = page(verified(app, "recovery", codes[0]))
    assert "my phone" in text
    assert "9 recovery codes left" in text
    assert '<a href="/">Back to <bdi>site</bdi></a>' in text
    assert not any(code in text for code in codes)


def test_a_person_removes_an_app_and_renews_the_codes(app: Flask, otp: OTP, clock: Clock) -> None:
    phone, codes = enrol(app, clock)
    browser = verified(app, "totp", phone.code())
    assert re.findall(r'action="([^"]+)"', page(browser)) == ["/otp/app/remove", "/otp/recovery", "/otp/app"]
    renewed = form(browser, "recovery")
    assert renewed.status_code == 200
    assert not any(code in renewed.text for code in codes)
    assert len(re.findall(r"<li><code>", renewed.text)) == 10
    missing = form(browser, "app/remove", name="another")
    assert missing.status_code == 400
    assert "There is no authenticator app of this name." in missing.text
    gone = form(browser, "app/remove", name="phone")
    assert (gone.status_code, gone.location) == (303, "/otp/app")
    with app.app_context():
        assert otp.factors(ANN).totp == ()


def test_names_from_people_are_text(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock, name="<script>x</script>")
    text = page(verified(app, "totp", phone.code()))
    assert "<script>x" not in text
    assert "&lt;script&gt;x" in text


def test_with_five_apps_the_page_offers_no_sixth(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    for number in range(4):
        enrol(app, clock, name=str(number))
    text = page(verified(app, "totp", phone.code()))
    assert 'name="enrolment"' not in text
    assert text.count("Remove") == 5
    assert "too many" not in text


def test_a_form_from_before_the_fifth_app_is_refused_in_plain_words(app: Flask, otp: OTP, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    browser = verified(app, "totp", phone.code())
    pages = [page(browser)]
    assert 'value="phone 2"' in pages[0]
    enrol(app, clock, name="phone 2")
    pages.append(page(browser))
    assert 'value="phone 3"' in pages[1]
    for name in "abc":
        enrol(app, clock, name=name)
    for text in pages:
        device, token = scanned(text, clock)
        refused = form(browser, "app", enrolment=token, code=device.code(), name="sixth")
        assert refused.status_code == 400
        assert "There are too many authenticator apps. Remove one first." in refused.text
        assert refused.text.count("Remove") == 6


def test_a_form_without_a_code_or_a_picture_says_what_is_missing(app: Flask, clock: Clock) -> None:
    browser = verified(app)
    device, token = scanned(page(browser), clock)
    for fields, words in (
        ({"enrolment": token, "code": " "}, "Please enter the code."),
        ({"code": "123456"}, "Please scan the QR code first."),
        ({"enrolment": "x", "code": "123456"}, "This took too long. Please scan the new QR code."),
    ):
        refused = form(browser, "app", **fields)
        assert refused.status_code == 400
        assert words in refused.text
        assert browser.post("app", **fields).json["detail"] == words
        assert (scanned(refused.text, clock)[0].secret == device.secret) is (fields.get("enrolment") == token)


def test_the_code_page_says_where_the_code_is_and_leads_to_another_way(app: Flask, clock: Clock) -> None:
    _, codes = enrol(app, clock)
    browser = Browser(app)
    assert form(browser, "send", identifier=ANN, channel="totp").status_code == 303
    text = page(browser, "/otp/verify")
    assert "Open your authenticator app and type the code that it shows now." in text
    assert "Send again" not in text
    assert "works for" not in text
    assert "Use a recovery code" in text
    assert "Send me a code instead" in text
    there = form(browser, "resend", channel="recovery").location
    text = page(browser, there)
    assert "Type one of your recovery codes." in text
    assert "XXXX-XXXX-XXXXX" in text
    assert form(browser, "verify", code=codes[0]).status_code == 303
    assert browser.get("/account").status_code == 200


def test_the_code_page_tells_of_two_codes_in_a_row(app: Flask, clock: Clock) -> None:
    phone, _ = enrol(app, clock)
    browser = Browser(app)
    form(browser, "send", identifier=ANN, channel="totp")
    for _ in range(20):
        answer = form(browser, "verify", code=phone.wrong())
    assert "we need two codes in a row" in answer.text
    assert "Wait until the app shows the next code." in answer.text
    assert "Twelve digits" in answer.text
    assert "we need two codes in a row" in page(browser, "/otp/verify")
    assert form(browser, "verify", code=phone.pair()).status_code == 303


def test_the_buttons_follow_what_the_guard_accepts(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp)
    add_views(app, safe={"channels": ("totp",)}, account={})
    browser = Browser(app, ANN)
    assert browser.get("/safe", headers=HTML).location.startswith("/otp/?next=/safe")
    start = page(browser, "/otp/")
    assert "We need a code from your authenticator app" in start
    assert "We will send" not in start
    form(browser, "send")
    text = page(browser, "/otp/verify")
    assert "Use a recovery code" not in text
    assert "Send me a code instead" not in text


# The API


def test_clients_without_pages_do_the_same_by_json(app: Flask, otp: OTP, clock: Clock) -> None:
    browser = verified(app)
    shown = browser.get("/otp/app").json
    assert shown.keys() == {"apps", "recovery_left", "enrolment", "uri", "secret", "svg", "expires_in"}
    phone = Phone(shown["uri"], clock)
    assert (phone.secret, shown["apps"]) == (shown["secret"], [])
    assert browser.post("app", enrolment=shown["enrolment"], code=phone.wrong()).json["reason"] == "invalid_code"
    added = browser.post("app", enrolment=shown["enrolment"], code=phone.code(), name="pad").json
    assert (added["apps"], added["recovery_left"], len(added["recovery_codes"])) == (["pad"], 10, 10)
    clock.advance(60)
    browser = verified(app, "totp", phone.code())
    assert browser.post("recovery").json["recovery_codes"] != added["recovery_codes"]
    assert browser.post("app/remove", name="pad").json == {"apps": [], "recovery_left": 0}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("app", {}),
        ("app", {"enrolment": "x"}),
        ("app", {"enrolment": "x", "code": "123456"}),
        ("app", {"enrolment": "\u00e9", "code": "123456"}),
        ("app", {"enrolment": 5, "code": "123456"}),
        ("app", {"enrolment": "x", "code": None}),
        ("app/remove", {}),
        ("app/remove", {"name": "another"}),
        ("app/remove", {"name": ["phone"]}),
        ("recovery", {}),
    ],
)
def test_bad_input_is_a_clear_answer_and_changes_nothing(
    app: Flask, table: Table, path: str, body: dict[str, Any]
) -> None:
    answer = verified(app).post(path, **body)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert table.saves == 0


def test_guesses_at_an_enrolment_count_for_the_network(make_app: AppFactory, clock: Clock, table: Table) -> None:
    otp = make_otp(clock, table)
    otp.may_enrol(lambda: True)
    app = make_app(otp, OTP_IP_VERIFY_LIMIT="3/minute")
    add_views(app)
    browser = Browser(app, ANN)
    token = browser.get("/otp/app").json["enrolment"]
    answers = [browser.post("app", enrolment=token, code="000000").status_code for _ in range(4)]
    assert answers == [400, 400, 400, 429]
    refused = form(browser, "app", enrolment=token, code="000000")
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (429, True)
