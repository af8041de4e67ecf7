"""Authenticator apps in a real browser: added, used, trusted, lost, and replaced by a recovery code."""

from __future__ import annotations

import itertools
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from flask_otp.testing import Clock
from tests.support.apps import AppFactory
from tests.support.code_page import enter
from tests.support.examples import at_night
from tests.support.factor_site import ANN, Phone, Table, add_views, make_otp
from tests.support.programs import program

pytestmark = pytest.mark.server

SIZES = {"phone": {"width": 320, "height": 640}, "desktop": {"width": 1280, "height": 800}}


@pytest.fixture
def site(make_app: AppFactory, clock: Clock) -> Iterator[str]:
    otp = make_otp(clock, Table(ANN))
    otp.may_enrol(lambda: True)
    app = make_app(otp, OTP_SITE_NAME="Bank")
    add_views(app, account={"channels": ("totp", "recovery"), "trust": "30d"})
    form = f'<form method=post action=/password><input name=user value="{ANN}"><button>Sign in</button></form>'
    app.add_url_rule("/", "home", lambda: f"<!doctype html><html lang=en><title>Bank</title>{form}")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def new_page(chromium: Browser, site: str) -> Iterator[Callable[..., Page]]:
    """A page on the site; at the end its console must be empty of complaints."""
    contexts, complaints = [], []

    def make(**options: Any) -> Page:
        context = chromium.new_context(**{"base_url": site} | options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert [text for text in complaints if "Failed to load resource" not in text] == []


def sign_in(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Sign in").click()


def read_qr(page: Page, directory: Path) -> str:
    """What another program reads in a picture of the page."""
    picture = directory / "page.png"
    page.screenshot(path=picture, full_page=True)
    command = [program("zbar-tools"), "--quiet", "--raw", str(picture)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def enrol(page: Page, clock: Clock, directory: Path) -> tuple[Phone, list[str]]:
    page.goto("/otp/app")
    uri = read_qr(page, directory)
    phone = Phone(uri, clock)
    assert page.locator("code.key").inner_text().replace(" ", "") == phone.secret
    assert uri == f"otpauth://totp/Bank:ann%40example.com?secret={phone.secret}&issuer=Bank"
    page.get_by_label("Name of this app").fill("my phone")
    page.get_by_label("Code that the app shows now").fill(phone.code())
    page.get_by_role("button", name="Add this app").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your recovery codes")
    codes = page.locator("ol.recovery code").all_inner_texts()
    clock.advance(60)
    return phone, codes


@pytest.mark.parametrize("scripts", [True, *at_night(False)])
def test_the_life_of_a_phone(new_page: Callable[..., Page], clock: Clock, tmp_path: Path, scripts: bool) -> None:
    page = new_page(java_script_enabled=scripts, device_scale_factor=2)
    sign_in(page)
    phone, codes = enrol(page, clock, tmp_path)
    assert len(set(codes)) == 10
    expect(page.get_by_role("button", name="Print")).to_be_visible(visible=scripts)
    page.get_by_role("link", name="I have saved them").click()
    # Sign in with it, and trust the browser.
    page.goto("/account")
    page.get_by_label("Code", exact=True).fill(phone.code())
    box = page.get_by_role("checkbox")
    expect(box).not_to_be_checked()
    box.check()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("welcome")).to_be_visible()
    # Sign in again, after the session has gone.
    trust = [cookie for cookie in page.context.cookies() if cookie["name"] == "otp_trust"]
    page.context.clear_cookies()
    page.context.add_cookies(trust)  # type: ignore[arg-type]
    clock.advance(86400)
    sign_in(page)
    page.goto("/account")
    expect(page.get_by_text("welcome")).to_be_visible()
    # Another browser, and the phone is lost.
    page.context.clear_cookies()
    sign_in(page)
    page.goto("/account")
    page.get_by_role("button", name="Use a recovery code").click()
    enter(page, codes[0])
    expect(page.get_by_text("welcome")).to_be_visible()
    page.goto("/otp/app")
    expect(page.get_by_text("You have 9 recovery codes left.")).to_be_visible()
    page.get_by_role("button", name=re.compile("Remove")).click()
    expect(page.get_by_text("You have 9 recovery codes left.")).to_have_count(0)


@pytest.mark.long
def test_the_codes_are_copied_and_printed_at_a_click(
    new_page: Callable[..., Page], clock: Clock, tmp_path: Path
) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"], device_scale_factor=2)
    sign_in(page)
    page.add_init_script("window.print = () => { window.printed = true; };")
    _, codes = enrol(page, clock, tmp_path)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").split("\n") == codes
    page.get_by_role("button", name="Print").click()
    assert page.evaluate("window.printed") is True


def visit(page: Page, clock: Clock, directory: Path) -> Iterator[str]:
    """Each page that there is, by name."""
    sign_in(page)
    page.goto("/otp/app")
    yield "first app"
    key = page.locator("code.key").inner_text().replace(" ", "")
    phone = Phone(f"otpauth://totp/x?secret={key}", clock)
    page.locator("#code").fill(phone.wrong())
    page.locator("form:has(#code) button").click()
    yield "wrong code"
    page.locator("#name").fill("The blue phone with a long name")
    page.locator("#code").fill(phone.code())
    page.locator("form:has(#code) button").click()
    yield "recovery codes"
    clock.advance(60)
    page.goto("/otp/")
    yield "start"
    page.goto("/account")
    yield "code"
    enter(page, phone.code())
    page.goto("/otp/app")
    yield "apps"
    page.context.clear_cookies()
    sign_in(page)
    page.goto("/account")
    for _ in range(10):
        enter(page, phone.wrong())
    yield "two codes in a row"
    page.locator("form:has(input[value=recovery]) button").click()
    yield "recovery code"


#: Words of which a part is on the next line, sentences whose full stop is, and codes on top of others.
MISFITS = """() => {
  const found = [];
  const lines = (node, start, end) => {
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, end);
    return new Set([...range.getClientRects()].map((box) => Math.round(box.bottom)));
  };
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest(".unseen, svg")) continue;
    for (const word of node.data.matchAll(/[\\p{Script=Latin}\\p{Script=Arabic}0-9]+/gu))
      if (lines(node, word.index, word.index + word[0].length).size > 1) found.push(word[0]);
    const before = node.previousSibling;
    if (/^[.,]/.test(node.data) && before) {
      const box = before.getBoundingClientRect();
      if (![...lines(node, 0, 1)].some((bottom) => bottom > box.top && bottom <= box.bottom + 2)) found.push(node.data);
    }
  }
  const codes = [...document.querySelectorAll(".recovery li")].map((item) => item.getBoundingClientRect());
  const list = document.querySelector(".recovery")?.getBoundingClientRect();
  for (const a of codes) {
    if (a.left < list.left || a.right > list.right) found.push("a code outside of the list");
    for (const b of codes)
      if (a !== b && a.left < b.right && b.left < a.right && a.top < b.bottom - 1 && b.top < a.bottom - 1)
        found.push("a code on top of another");
  }
  for (const code of document.querySelectorAll(".recovery code"))
    if (code.getBoundingClientRect().right > code.parentElement.getBoundingClientRect().right + 1)
      found.push("a code wider than its column");
  return found;
}"""


def looks() -> list[Any]:
    """What a page can look like; one of these is tried each time."""
    usual = [("phone", "dark", "ar")]
    every = itertools.product(("phone", "desktop"), ("light", "dark"), ("en", "ar"))
    return [pytest.param(*look, marks=() if look in usual else pytest.mark.long) for look in every]


@pytest.mark.parametrize(("size", "scheme", "locale"), looks())
def test_every_page_is_accessible_and_fits(
    new_page: Callable[..., Page], clock: Clock, tmp_path: Path, size: str, scheme: str, locale: str
) -> None:
    page = new_page(locale=locale, color_scheme=scheme, viewport=SIZES[size])
    for name in visit(page, clock, tmp_path):
        assert page.locator("html").get_attribute("dir") == ("rtl" if locale == "ar" else "ltr")
        found = Axe().run(page)
        assert found.violations_count == 0, (name, found.generate_report())
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[size]["width"], name
        assert page.evaluate(MISFITS) == [], name
        page.screenshot(path=tmp_path / f"{name}-{locale}-{scheme}-{size}.png", full_page=True)
