"""What visitors do, in a real browser: tabs that poll, links from other sites, pages of another origin, no cookies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cachelib import FileSystemCache
from flask import Flask, request, session
from flask_session import Session
from playwright.sync_api import Browser, BrowserContext, Page, expect

from flask_otp import otp_required
from flask_otp.testing import Outbox, capture_codes
from tests.support.apps import AppFactory
from tests.support.code_page import enter
from tests.support.examples import at_night
from tests.support.slow_site import serving

pytestmark = pytest.mark.server

PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}}
NO_LIMITS = {"OTP_COOLDOWN": 0, "OTP_IP_SEND_LIMIT": None, "OTP_IP_VERIFY_LIMIT": None}

#: A page that polls a guarded address, and one that writes the session, every half second.
DASHBOARD = """<!doctype html><html lang=en><title>Dashboard</title><h1>Dashboard</h1><script>
const poll = () => { for (const path of ["/api/news", "/api/count"]) fetch(path).catch(() => {}); };
poll(); setInterval(poll, 500);
</script>"""


def make_site(make_app: AppFactory, kind: str, directory: Path, **config: Any) -> Flask:
    app = make_app(None, OTP_PURPOSES=PURPOSES, **NO_LIMITS, **config)
    if kind == "server side":
        app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=FileSystemCache(str(directory), threshold=5000))
        Session(app)

    @app.before_request
    def make_permanent() -> None:
        if kind == "permanent":
            session.permanent = True

    @app.get("/api/count")
    def count() -> str:
        session["count"] = session.get("count", 0) + 1
        return "counted"

    app.add_url_rule("/dashboard", "dashboard", lambda: DASHBOARD)
    app.add_url_rule("/api/news", "news", otp_required(lambda: "[]"))
    app.add_url_rule("/account", "account", otp_required(lambda: "<!doctype html><title>In</title><h1>Signed in</h1>"))
    pay = otp_required(purpose="transfer", context=lambda: {"amount": request.values["amount"]})
    app.add_url_rule("/pay", "pay", pay(lambda: f"<h1>Paid {request.values['amount']}</h1>"))
    return app


@pytest.fixture
def contexts(chromium: Browser) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def context_of(chromium: Browser, contexts: ExitStack, **options: Any) -> BrowserContext:
    context = chromium.new_context(**options)
    context.set_default_timeout(20_000)
    contexts.callback(context.close)
    return context


def ask(page: Page, who: str = "ann@example.com") -> None:
    page.get_by_label(re.compile("E-mail address")).fill(who)
    page.get_by_role("button", name="Send me a code").click()
    expect(page.get_by_label("Code")).to_be_visible()


# A dashboard that polls


def sign_ins(chromium: Browser, url: str, sent: Outbox, count: int) -> int:
    """How many of so many sign-ins beside a polling tab were lost."""
    lost = 0
    for number in range(count):
        with ExitStack() as contexts:
            context = context_of(chromium, contexts, base_url=url)
            context.new_page().goto("/dashboard")
            page = context.new_page()
            page.goto("/account")
            who = f"a{number}@example.com"
            page.get_by_label("E-mail address").fill(who)
            page.get_by_role("button", name="Send me a code").click()
            enter(page, sent_to(page, sent, who))
            # Each answer that left before the sign-in has arrived by then.
            page.wait_for_timeout(600)
            page.goto("/account")
            lost += page.get_by_role("heading", name="Signed in").count() != 1
    return lost


def sent_to(page: Page, sent: Outbox, who: str) -> str:
    expect(page.get_by_label("Code")).to_be_visible()
    return sent.code_for(who)


@pytest.mark.parametrize("kind", ["cookie", *at_night("permanent", "server side")])
@pytest.mark.parametrize(("count", "round_trip"), [(2, 0.08), *at_night((200, 0), (200, 0.08), (200, 0.4))])
def test_no_sign_in_is_lost_beside_a_tab_that_polls(
    make_app: AppFactory, chromium: Browser, tmp_path: Path, kind: str, count: int, round_trip: float
) -> None:
    app = make_site(make_app, kind, tmp_path)
    with capture_codes(app) as sent, serving(app, round_trip=round_trip) as url:
        assert sign_ins(chromium, url, sent, count) == 0


# A double click


def test_a_double_click_on_the_code_form_signs_in_without_scripts_too(
    make_app: AppFactory, chromium: Browser, contexts: ExitStack, tmp_path: Path
) -> None:
    """The second one would cancel the first, whose answer has the cookie, and would find its code used."""
    app = make_site(make_app, "cookie", tmp_path)
    with capture_codes(app) as sent, serving(app, round_trip=0.4) as url:
        page = context_of(chromium, contexts, base_url=url, java_script_enabled=False).new_page()
        page.goto("/account")
        ask(page)
        page.get_by_label("Code").fill(sent_to(page, sent, "ann@example.com"))
        page.wait_for_load_state()  # a user cannot click before the style sheet is loaded
        box = page.get_by_role("button", name="Continue").bounding_box()
        assert box is not None
        for _ in range(2):
            page.mouse.click(box["x"] + 20, box["y"] + 10)
            page.wait_for_timeout(60)
        expect(page.get_by_role("heading", name="Signed in")).to_be_visible()


# Links from another site


def other_site(links: dict[str, str]) -> Flask:
    app = Flask("elsewhere")
    page = "<!doctype html><title>Mail</title>" + "".join(f'<a href="{to}">{name}</a> ' for name, to in links.items())
    app.add_url_rule("/", "mail", lambda: page)
    return app


def test_a_link_from_another_site_finds_the_session_though_it_is_strict(
    make_app: AppFactory, chromium: Browser, contexts: ExitStack, tmp_path: Path
) -> None:
    app = make_site(make_app, "cookie", tmp_path, SESSION_COOKIE_SAMESITE="Strict")
    with capture_codes(app) as sent, serving(app, host="127.0.0.1") as url:
        mail = other_site({"account": f"{url}/account", "pay": f"{url}/pay?amount=3"})
        with serving(mail, host="127.0.0.2") as elsewhere:
            context = context_of(chromium, contexts)
            page = context.new_page()
            page.goto(f"{url}/account")
            ask(page)
            enter(page, sent.code)
            expect(page.get_by_role("heading")).to_have_text("Signed in")
            for _ in range(2):
                page.goto(elsewhere)
                page.get_by_role("link", name="account").click()
                expect(page.get_by_role("heading")).to_have_text("Signed in")
            # Where there is something left to verify, it is asked for, and the way back is known.
            page.goto(elsewhere)
            page.get_by_role("link", name="pay").click()
            expect(page.get_by_text("Please check what you are confirming")).to_be_visible()
            ask(page)
            enter(page, sent.code)
            expect(page.get_by_role("heading")).to_have_text("Paid 3")
            page.goto(f"{url}/account")
            expect(page.get_by_role("heading")).to_have_text("Signed in")


def test_a_mailed_link_works_though_the_session_is_strict(
    make_app: AppFactory, chromium: Browser, contexts: ExitStack, tmp_path: Path
) -> None:
    app = make_site(
        make_app,
        "cookie",
        tmp_path,
        SESSION_COOKIE_SAMESITE="Strict",
        OTP_LINKS=True,
        OTP_BASE_URL="https://shop.example",
    )
    with capture_codes(app) as sent, serving(app) as url:
        context = context_of(chromium, contexts)
        page = context.new_page()
        page.goto(f"{url}/account")
        ask(page)
        mail = other_site({"link": sent.link.replace("https://shop.example", url)})
        with serving(mail, host="127.0.0.2") as elsewhere:
            webmail = context.new_page()
            webmail.goto(elsewhere)
            webmail.get_by_role("link").click()
            webmail.get_by_role("button", name="Continue").click()
            expect(webmail.get_by_role("heading")).to_have_text("Signed in")


# Tabs, cookies, scripts


@pytest.mark.parametrize("scripts", [True, *at_night(False)])
def test_two_payments_in_two_tabs(
    make_app: AppFactory, chromium: Browser, contexts: ExitStack, tmp_path: Path, scripts: bool
) -> None:
    app = make_site(make_app, "cookie", tmp_path)
    with capture_codes(app) as sent, serving(app) as url:
        context = context_of(chromium, contexts, base_url=url, java_script_enabled=scripts)
        tabs, codes = [], []
        for amount in (10, 20):
            tab = context.new_page()
            tab.goto(f"/pay?amount={amount}")
            ask(tab)
            tabs.append(tab)
            codes.append(sent.code)
        for tab, code, amount in zip(tabs, codes, (10, 20), strict=True):
            expect(tab.get_by_text(str(amount))).to_be_visible()
            enter(tab, code)
            expect(tab.get_by_role("heading")).to_have_text(f"Paid {amount}")


@pytest.mark.parametrize("scripts", [True, *at_night(False)])
def test_a_browser_without_cookies_is_told(
    make_app: AppFactory, chromium: Browser, contexts: ExitStack, tmp_path: Path, scripts: bool
) -> None:
    app = make_site(make_app, "cookie", tmp_path)
    with capture_codes(app) as sent, serving(app, has_cookies=False) as url:
        page = context_of(chromium, contexts, base_url=url, java_script_enabled=scripts).new_page()
        page.goto("/account")
        page.get_by_label("E-mail address").fill("ann@example.com")
        page.get_by_role("button", name="Send me a code").click()
        expect(page.get_by_role("heading")).to_have_text("Cookies are blocked")
        assert len(sent) == 1


def test_a_code_page_that_stayed_open_says_that_its_code_has_expired(
    make_app: AppFactory, chromium: Browser, contexts: ExitStack, tmp_path: Path, clock: Any
) -> None:
    app = make_site(make_app, "cookie", tmp_path)
    with capture_codes(app) as sent, serving(app) as url:
        page = context_of(chromium, contexts, base_url=url, java_script_enabled=False).new_page()
        page.goto("/account")
        ask(page)
        clock.advance("20m")
        enter(page, sent.code)
        expect(page.get_by_role("heading")).to_have_text("That code no longer works")
        page.get_by_role("button", name="Send a new code").click()
        enter(page, sent.code)
        expect(page.get_by_role("heading")).to_have_text("Signed in")


# A page of another origin

SPA = """<!doctype html><html lang=en><title>SPA</title><script>
const call = async (api, path, body, method = "POST") => {
  const answer = await fetch(api + path, {
    method, credentials: "include", body: body && JSON.stringify(body),
    headers: body ? {"Content-Type": "application/json"} : {},
  });
  return {status: answer.status, body: answer.status === 204 ? null : await answer.json()};
};
</script>"""


@pytest.mark.parametrize("trusted", [True, *at_night(False)])
def test_a_page_of_another_origin(
    make_app: AppFactory, chromium: Browser, contexts: ExitStack, tmp_path: Path, trusted: bool
) -> None:
    pages = Flask("spa")
    pages.add_url_rule("/", "spa", lambda: SPA)
    with serving(pages) as origin:
        settings = {"OTP_TRUSTED_ORIGINS": [origin]} if trusted else {}
        app = make_site(make_app, "cookie", tmp_path, **settings)
        with capture_codes(app) as sent, serving(app) as api:
            page = context_of(chromium, contexts).new_page()
            page.goto(origin)

            def call(path: str, body: dict[str, str] | None) -> Any:
                return page.evaluate("([api, path, body]) => call(api, path, body)", [api, path, body])

            if not trusted:
                with pytest.raises(Exception, match="Failed to fetch"):
                    call("/otp/send", {"email": "ann@example.com"})
                assert not sent
                return
            # The preflight and the cookies: the second call finds the challenge of the first.
            assert call("/otp/send", {"email": "ann@example.com"})["status"] == 200
            assert call("/otp/verify", {"code": "x"})["body"]["reason"] == "invalid_code"
            assert call("/otp/verify", {"code": sent.code})["status"] == 200
            page.goto(f"{api}/account")
            expect(page.get_by_role("heading")).to_have_text("Signed in")
            page.goto(origin)
            assert call("/otp/logout", None)["status"] == 204
            page.goto(f"{api}/account")
            expect(page.get_by_role("heading")).to_have_text("Sign in")
