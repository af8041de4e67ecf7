"""The pages in a real browser: the main job with and without JavaScript, accessibility, widths, colours, policies."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask, request
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from flask_otp import OTP, Message, otp_required
from flask_otp.testing import Outbox, capture_codes
from tests.support.apps import AppFactory
from tests.support.code_page import enter
from tests.support.examples import at_night

pytestmark = pytest.mark.server

PHONE, DESKTOP = {"width": 320, "height": 640}, {"width": 1280, "height": 800}


@pytest.fixture
def new_page(chromium: Browser, example: tuple[str, Any]) -> Iterator[Callable[..., Page]]:
    """``new_page(**context options)``: a page on the example; at the end its console must be empty of complaints."""
    contexts, complaints = [], []

    def make(**options: Any) -> Page:
        context = chromium.new_context(**{"base_url": example[0]} | options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    # A browser writes one such line for each answer of 4xx; anything else is ours, a broken policy first of all.
    assert [text for text in complaints if "Failed to load resource" not in text] == []


def sent_by(example: tuple[str, Any]) -> list[Message]:
    """The messages of the example app, the newest first."""
    messages: list[Message] = example[1]["app"].extensions["otp"].delivery.transport.outbox.messages()
    return messages


@dataclass
class Bank:
    """An app on a real server, whose transfers each need a code for just that amount and payee."""

    url: str
    sent: Outbox
    orders: list[list[tuple[str, str]]] = field(default_factory=list)


FORM = """<!doctype html><html lang=en><title>Transfer</title><form method=post action="/transfer?from=1">
<label>Amount <input name=amount></label> <label>Payee <input name=payee></label>
<label>Note <textarea name=note></textarea></label>
<input type=checkbox name=tag value=1 checked> <input type=checkbox name=tag value="2 &quot;&amp;" checked>
<button name=how value=now>Transfer</button></form>"""


@pytest.fixture
def bank(make_app: AppFactory) -> Iterator[Bank]:
    otp = OTP()
    for name in ("email", "post"):
        otp.channel(name, accepts="email")(lambda message: None)
    app: Flask = make_app(
        otp,
        OTP_PURPOSES={"login": {}, "transfer": {}, "deed": {"typed": False}},
        OTP_SITE_NAME="Bank",
        OTP_LINKS=True,
        OTP_BASE_URL="https://bank.example",
    )
    orders: list[list[tuple[str, str]]] = []
    app.add_url_rule("/transfer", "form", lambda: FORM)

    @app.post("/transfer")
    @otp_required(
        purpose="transfer",
        context=lambda: {"amount": request.form["amount"], "payee": request.form["payee"]},
        once=True,
    )
    def transfer() -> str:
        orders.append(list(request.form.items(multi=True)))
        return "<!doctype html><html lang=en><title>Done</title><h1>Done</h1>"

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with capture_codes(app) as sent:
        yield Bank(f"http://127.0.0.1:{server.server_port}", sent, orders)
    server.shutdown()
    thread.join()
    server.server_close()


#: Pastes, as the browser tells the page of them.
PASTE = """(field, texts) => {
    for (const text of texts) {
        field.value = text;
        field.dispatchEvent(new InputEvent("input", {bubbles: true, inputType: "insertFromPaste"}));
    }
}"""


def order(page: Page, payee: str = "Bob & <Sons>") -> None:
    """Fill in the form, and come to the page that asks for an address."""
    page.goto("/transfer")
    page.get_by_label("Amount").fill("1250.00")
    page.get_by_label("Payee").fill(payee)
    page.get_by_label("Note").fill('two\nlines, "quoted"')
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm “transfer”")
    expect(page.get_by_text(payee)).to_be_visible()


def ask(page: Page) -> None:
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").click()
    expect(page.get_by_label("Code")).to_be_visible()


def link_of(bank: Bank) -> str:
    """The newest link, as it is on the test's own server."""
    return bank.sent.link.removeprefix("https://bank.example")


@pytest.mark.parametrize("scripts", [True, False], ids=["with-scripts", "without-scripts"])
def test_the_main_job(new_page: Callable[..., Page], scripts: bool) -> None:
    page = new_page(java_script_enabled=scripts)
    page.goto("/account")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.get_by_label("E-mail address").fill("Ann@example.com")
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Enter your code")
    expect(page.locator("main")).to_contain_text("ann@example.com")
    outbox = page.context.new_page()
    outbox.goto("/otp/outbox")
    code = next(word for word in outbox.inner_text("body").split() if word.isdigit() and len(word) == 6)
    enter(page, f"{code[:3]} {code[3:]}")
    expect(page).to_have_url(page.url.split("/account")[0] + "/account")
    expect(page.get_by_role("heading")).to_have_text("Welcome, ann@example.com")
    page.get_by_role("button", name="Log out").click()
    page.goto("/account")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_the_keyboard_is_enough(new_page: Callable[..., Page], example: tuple[str, Any]) -> None:
    page = new_page()
    page.goto("/account")
    expect(page.get_by_label("E-mail address")).to_be_focused()
    page.keyboard.type("ann@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Code")).to_be_focused()
    page.keyboard.type(sent_by(example)[0].code)  # the last digit submits
    expect(page.get_by_role("heading")).to_have_text("Welcome, ann@example.com")


def test_a_complete_code_is_submitted_once(new_page: Callable[..., Page], example: tuple[str, Any]) -> None:
    page = new_page()
    page.goto("/account")
    ask(page)
    field, posts = page.get_by_label("Code"), []
    page.on("request", lambda request: posts.append(request.post_data) if request.method == "POST" else None)
    expect(field).to_have_accessible_description(re.compile("The page continues when the code is complete"))
    page.keyboard.type("000 00")
    page.keyboard.press("Backspace")
    field.dispatch_event("compositionend")
    assert posts == []
    with page.expect_navigation():
        page.keyboard.type("00")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert len(posts) == 1
    # While the answer is under way, nothing more is submitted.
    with page.expect_navigation():
        field.evaluate(PASTE, ["１２３-" + "４５６", "1", "222222"])
    assert len(posts) == 2
    enter(page, sent_by(example)[0].code)
    expect(page.get_by_role("heading")).to_have_text("Welcome, ann@example.com")


@pytest.mark.parametrize("scripts", [True, *at_night(False)])
def test_a_refused_form_is_carried_out_by_one_click(new_page: Callable[..., Page], bank: Bank, scripts: bool) -> None:
    page = new_page(base_url=bank.url, java_script_enabled=scripts)
    order(page)
    ask(page)
    expect(page.get_by_text("Bob & <Sons>")).to_be_visible()
    enter(page, bank.sent.code)
    expect(page.get_by_role("heading", level=1)).to_have_text("One click left")
    expect(page.get_by_text("Bob & <Sons>")).to_be_visible()
    page.reload()
    assert bank.orders == []
    confirm = page.get_by_role("button", name="Confirm")
    confirm.dblclick() if scripts else confirm.click()
    expect(page.get_by_role("heading")).to_have_text("Done")
    assert bank.orders == [
        [
            ("amount", "1250.00"),
            ("payee", "Bob & <Sons>"),
            ("note", 'two\r\nlines, "quoted"'),
            ("tag", "1"),
            ("tag", '2 "&'),
            ("how", "now"),
        ]
    ]


@pytest.mark.long
def test_another_site_cannot_leave_an_order_to_be_confirmed(new_page: Callable[..., Page], bank: Bank) -> None:
    page = new_page(base_url=bank.url)
    order(page, "Bob")
    # Another port is another origin, but the same site: the cookie goes along.
    page.route(
        "http://127.0.0.1:9/",
        lambda route: route.fulfill(body=FORM.replace("/transfer?", f"{bank.url}/transfer?"), content_type="text/html"),
    )
    page.goto("http://127.0.0.1:9/")
    page.get_by_label("Payee").fill("Eve")
    page.get_by_role("button").click()
    expect(page.get_by_text("Bob")).to_be_visible()
    ask(page)
    enter(page, bank.sent.code)
    expect(page.get_by_role("button", name="Confirm")).to_be_visible()
    expect(page.get_by_text("Eve")).to_have_count(0)
    assert bank.orders == []


def scan(page: Page, link: str) -> None:
    """What a mail scanner does at its worst: open it, let scripts run, press everything, follow everything."""
    for method in ("HEAD", "GET"):
        for _ in range(10):
            assert page.request.fetch(link, method=method, headers={"Accept": "text/html"}).ok
    for _ in range(10):
        page.goto(link)
    for index in range(page.locator("a, button, input[type=submit]").count()):
        page.goto(link)
        page.locator("a, button, input[type=submit]").nth(index).click()
        page.wait_for_load_state()
    page.goto(link)
    page.evaluate("for (const form of document.forms) form.submit()")
    page.wait_for_load_state()


@pytest.mark.parametrize(("way", "scripts"), [("link", True), *at_night(("code", False))])
def test_r33_after_a_scanner_the_person_still_gets_in(
    new_page: Callable[..., Page], bank: Bank, way: str, scripts: bool
) -> None:
    page = new_page(base_url=bank.url, java_script_enabled=scripts)
    order(page)
    ask(page)
    scan(new_page(base_url=bank.url), link_of(bank))
    if way == "link":
        # As from webmail: another site's page leads to it, in another tab.
        page = page.context.new_page()
        webmail = f"<!doctype html><html lang=en><title>Mail</title><a href='{bank.url}{link_of(bank)}'>Open</a>"
        page.route("http://mail.example/", lambda route: route.fulfill(body=webmail, content_type="text/html"))
        page.goto("http://mail.example/")
        page.get_by_role("link").click()
        expect(page.get_by_text("Bob & <Sons>")).to_be_visible()
        page.reload()
        page.get_by_role("button", name="Continue").click()
    else:
        enter(page, bank.sent.code)
    expect(page.get_by_role("heading", level=1)).to_have_text("One click left")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading")).to_have_text("Done")
    assert len(bank.orders) == 1


@pytest.mark.long
def test_the_secret_of_a_link_is_in_no_referer(new_page: Callable[..., Page], bank: Bank) -> None:
    page, referers = new_page(base_url=bank.url), []
    order(page)
    ask(page)
    page.goto(link_of(bank))
    page.on("request", lambda request: referers.append(request.all_headers().get("referer")))
    page.reload()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("One click left")
    assert f"{bank.url}/" in referers
    assert not [referer for referer in referers if referer and "/link/" in referer]


@pytest.mark.long
def test_errors_stand_beside_their_field(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/otp/")
    # "a@b" passes the browser's own check of an e-mail field, not ours.
    page.get_by_label("E-mail address").fill("a@b")
    page.get_by_role("button").click()
    field = page.get_by_label("E-mail address")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("a@b")
    expect(field).to_have_accessible_description("Please enter a valid e-mail address.")
    field.fill("ann@example.com")
    page.get_by_role("button").click()
    enter(page, "000 000")
    expect(page.get_by_label("Code")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#code-error")).to_contain_text("not right, or no longer valid")


def test_a_double_click_sends_one_message(new_page: Callable[..., Page], example: tuple[str, Any]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/account")
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").dblclick()
    expect(page.get_by_label("Code")).to_be_visible()
    outbox = sent_by(example)
    assert len(outbox) == 1
    enter(page, outbox[0].code)
    expect(page.get_by_role("heading")).to_have_text("Welcome, ann@example.com")


def test_send_again_counts_down_and_then_works(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.clock.install()
    page.goto("/account")
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").click()
    again = page.get_by_role("button", name="Send again")
    expect(again).to_be_disabled()
    page.clock.fast_forward(31_000)
    expect(again).to_be_enabled()
    expect(page.get_by_role("status")).to_have_text("You can have the code sent again now.")


@pytest.mark.long
def test_send_again_without_scripts_says_when(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/account")
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").click()
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("alert")).to_contain_text("wait")
    expect(page.get_by_label("Code")).to_be_visible()


def check_page(page: Page) -> None:
    """Axe finds nothing, and in either direction of writing nothing overflows."""
    page.wait_for_load_state()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    for direction in ("rtl", "ltr"):
        page.evaluate("direction => document.documentElement.dir = direction", direction)
        assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "dark"), *at_night((DESKTOP, "light"))])
def test_axe_finds_nothing_and_nothing_overflows(
    new_page: Callable[..., Page], scheme: Any, viewport: dict[str, int]
) -> None:
    # Without motion: axe would measure the contrast of a colour in the middle of its transition.
    page = new_page(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")

    page.goto("/account")
    check_page(page)
    page.get_by_label("E-mail address").fill("a@b")
    page.get_by_role("button").click()
    expect(page.get_by_label("E-mail address")).to_have_attribute("aria-invalid", "true")
    check_page(page)
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").click()
    expect(page.get_by_label("Code")).to_be_visible()
    check_page(page)
    enter(page, "000000")
    expect(page.get_by_label("Code")).to_have_attribute("aria-invalid", "true")
    check_page(page)
    page.goto("/otp/nothing-here")
    check_page(page)


def test_arabic_is_read_from_the_right_and_its_code_from_the_left(new_page: Callable[..., Page]) -> None:
    page = new_page(locale="ar", viewport=PHONE, reduced_motion="reduce")
    page.goto("/account")
    expect(page.get_by_role("heading", level=1)).to_have_text("تسجيل الدخول")
    page.get_by_label("عنوان البريد الإلكتروني").fill("ann@example.com")
    page.get_by_role("button").click()
    code = page.get_by_label("الرمز")
    expect(code).to_have_css("direction", "ltr")
    expect(page.locator("html")).to_have_css("direction", "rtl")
    expect(page.get_by_role("button", name=re.compile("إعادة الإرسال بعد 0:[0-3][0-9]"))).to_be_disabled()
    heading = "const r = document.createRange(); r.selectNodeContents(document.querySelector('label[for=code]'))"
    assert page.evaluate(f"() => {{ {heading}; return r.getBoundingClientRect().x }}") > PHONE["width"] / 2
    check_page(page)


@pytest.mark.long
def test_axe_finds_nothing_on_the_way_of_a_form(new_page: Callable[..., Page], bank: Bank) -> None:
    page = new_page(base_url=bank.url, color_scheme="dark", viewport=PHONE, reduced_motion="reduce")
    order(page, "x" * 100)
    check_page(page)
    ask(page)
    expect(page.get_by_role("button", name="Send it by Post")).to_be_visible()
    check_page(page)
    elsewhere = new_page(base_url=bank.url, color_scheme="dark", viewport=PHONE, reduced_motion="reduce")
    for tab in (page.context.new_page(), elsewhere):
        tab.goto(link_of(bank))
        check_page(tab)
    enter(page, bank.sent.code)
    expect(page.get_by_role("button", name="Confirm")).to_be_visible()
    check_page(page)
    # Without a code to type.
    page.goto("/otp/?purpose=deed")
    check_page(page)
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Open the link in your mail")
    check_page(page)
    elsewhere.goto(link_of(bank))
    expect(elsewhere.locator("main")).to_contain_text("on a page that is not ours")
    check_page(elsewhere)
    page.goto(link_of(bank))
    page.get_by_role("button", name="Continue").click()
    expect(page).to_have_url(f"{bank.url}/")
