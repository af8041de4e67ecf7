"""The pages in a real browser: the main job with and without JavaScript, accessibility, widths, colours, policies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PHONE, DESKTOP = {"width": 320, "height": 640}, {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("FLASK_OTP_REQUIRE_BROWSER"):
            pytest.fail("no Chromium was found, and FLASK_OTP_REQUIRE_BROWSER is set")
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
        )
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Browser, example: tuple[str, Any]) -> Iterator[Callable[..., Page]]:
    """``new_page(**context options)``: a page on the example; at the end its console must be empty of complaints."""
    contexts, complaints = [], []

    def make(**options: Any) -> Page:
        context = chromium.new_context(base_url=example[0], **options)
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


@pytest.mark.parametrize("scripts", [True, False], ids=["with-scripts", "without-scripts"])
def test_the_main_job(new_page: Callable[..., Page], scripts: bool) -> None:
    page = new_page(java_script_enabled=scripts)
    page.goto("/account")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.get_by_label("E-mail address").fill("Ann@example.com")
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Enter your code")
    expect(page.locator("main")).to_contain_text("a***@example.com")
    outbox = page.context.new_page()
    outbox.goto("/outbox")
    code = next(word for word in outbox.inner_text("body").split() if word.isdigit() and len(word) == 6)
    page.get_by_label("Code").fill(f"{code[:3]} {code[3:]}")
    page.get_by_role("button", name="Continue").click()
    expect(page).to_have_url(page.url.split("/account")[0] + "/account")
    expect(page.get_by_role("heading")).to_have_text("Welcome, ann@example.com")
    page.get_by_role("button", name="Log out").click()
    page.goto("/account")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_the_keyboard_is_enough(new_page: Callable[..., Page], example: tuple[str, Any]) -> None:
    page = new_page()
    page.goto("/account")
    page.keyboard.type("ann@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Code")).to_be_focused()
    page.keyboard.type(example[1]["outbox"][-1].code)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading")).to_have_text("Welcome, ann@example.com")


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
    page.get_by_label("Code").fill("000 000")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Code")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#code-error")).to_contain_text("not right, or no longer valid")


def test_a_double_click_sends_one_message(new_page: Callable[..., Page], example: tuple[str, Any]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/account")
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").dblclick()
    expect(page.get_by_label("Code")).to_be_visible()
    outbox = example[1]["outbox"]
    assert len(outbox) == 1
    page.get_by_label("Code").fill(outbox[0].code)
    page.get_by_role("button", name="Continue").click()
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


def test_send_again_without_scripts_says_when(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/account")
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").click()
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("alert")).to_contain_text("wait")
    expect(page.get_by_label("Code")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_axe_finds_nothing_and_nothing_overflows(
    new_page: Callable[..., Page], scheme: Any, viewport: dict[str, int]
) -> None:
    # Without motion, since a colour half-way through its change is nobody's contrast.
    page = new_page(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")

    def check() -> None:
        for direction in ("ltr", "rtl"):
            page.evaluate("direction => document.documentElement.dir = direction", direction)
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not page.evaluate(wide)

    page.goto("/account")
    check()
    page.get_by_label("E-mail address").fill("a@b")
    page.get_by_role("button").click()
    expect(page.get_by_label("E-mail address")).to_have_attribute("aria-invalid", "true")
    check()
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_role("button").click()
    expect(page.get_by_label("Code")).to_be_visible()
    check()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Code")).to_have_attribute("aria-invalid", "true")
    check()
    page.goto("/otp/nothing-here")
    check()
