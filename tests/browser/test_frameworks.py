"""Our pages within an app's own layout: below Bootstrap, Pico and Tailwind's reset, neither restyles the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from jinja2 import DictLoader
from playwright.sync_api import Browser, Locator, Page, expect

from flask_otp import OTP
from tests.support.apps import SECRET
from tests.support.code_page import enter
from tests.support.examples import at_night
from tests.support.slow_site import serving

FRAMEWORKS = Path(__file__).parent / "frameworks"
PHONE, DESKTOP = {"width": 320, "height": 640}, {"width": 1280, "height": 800}

#: In this order, the rules of the framework come after ours: of two that count the same, the framework's wins.
LAYOUT = """<!doctype html>
<html lang="{{{{ lang }}}}" dir="{{{{ dir }}}}" data-bs-theme="{scheme}">
<head>
  {{% include "flask_otp/_head.html" %}}
  <meta name="color-scheme" content="{scheme}">
  <link rel="stylesheet" href="/static/{sheet}">
  <title>{{% block title %}}{{% endblock %}}</title>
</head>
<body>
  <nav class="navbar bg-body-tertiary"><ul><li><a class="navbar-brand" href="/">Shop</a></li></ul></nav>
  <header class="container">
    <h1>Our shop</h1>
    <p>We sell <b>tea</b>, and <a href="/cups">cups</a>. <small>Since 1850.</small></p>
    <form><label class="form-label">Search <input class="form-control" type="search" placeholder="Tea"></label>
    <label><input type="checkbox" class="form-check-input"> In stock</label>
    <select class="form-select" aria-label="Size"><option>Small</select>
    <button class="btn btn-primary">Search</button></form>
    <table class="table"><tr><th scope="row">Tea</th><td>3.00</td></tr></table>
  </header>
  <main class="otp">{{% block content %}}{{% endblock %}}{{% include "flask_otp/_footer.html" %}}</main>
</body>
</html>
"""

#: Each element with every property, as the browser computes it. One text is passed on quickly.
STYLES = r"""elements => elements.map((element, place) => {
    const style = getComputedStyle(element);
    const lines = [...style].map((property) => `${property}: ${style.getPropertyValue(property)}`);
    return `${place} ${element.localName}.${element.className}\n${lines.join("\n")}`;
}).join("\n\n")"""

#: What an app may say of its whole page, also of our part; and the place on the page.
UNSEEN = ("animation", "transition", "scroll", "-webkit-tap-highlight-color", "tab-size", "text-rendering")
UNSEEN += ("bottom", "top", "inset-block")

Styles = list[tuple[str, dict[str, str]]]


def styles(elements: Locator) -> Styles:
    """The name of each element, and its properties."""
    found = []
    for block in elements.evaluate_all(STYLES).split("\n\n"):
        name, *lines = block.split("\n")
        found.append((name, dict(line.split(": ", 1) for line in lines)))
    return found


@contextmanager
def served(layout: str | None) -> Iterator[str]:
    """The address of an app with this layout; ``None``: with our own frame."""
    app = Flask("shop", static_folder=str(FRAMEWORKS), static_url_path="/static")
    app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://")
    app.config.update(OTP_BRAND={"accent": "#8a2b6d", "help": "/help"}, OTP_CSP={"img-src": ["data:"]})
    app.jinja_loader = DictLoader({"flask_otp/base.html": layout} if layout else {})
    otp = OTP()
    otp.channel("email")(lambda message: None)
    otp.channel("post", accepts="email")(lambda message: None)
    otp.init_app(app)
    with serving(app) as url:
        yield url


def pages(page: Page, url: str) -> Iterator[Page]:
    """The page that asks for an address, and the code page, each with an error."""
    page.goto(f"{url}/otp/")
    main = page.locator(".otp")
    main.get_by_role("textbox").fill("a@b")
    main.get_by_role("button").click()
    expect(main.get_by_role("textbox")).to_have_attribute("aria-invalid", "true")
    yield page
    main.get_by_role("textbox").fill("ann@example.com")
    main.get_by_role("button").click()
    enter(page, "000000")
    expect(main.get_by_label("Code")).to_have_attribute("aria-invalid", "true")
    yield page


def styles_of_ours(page: Page) -> Styles:
    """The styles of our content, at rest and below the mouse."""
    found = styles(page.locator(":is(.card, .note), :is(.card, .note) *"))
    page.locator(".card button").first.hover()
    return found + styles(page.locator(".card button"))


def differences(one: Styles, other: Styles) -> list[tuple[str, str, str, str]]:
    assert [name for name, _ in one] == [name for name, _ in other] != []
    return [
        (name, key, value, changed[key])
        for (name, style), (_, changed) in zip(one, other, strict=True)
        for key, value in style.items()
        if changed[key] != value and not key.startswith(UNSEEN)
    ]


def check_the_apps_own(page: Page) -> None:
    """Every element around our content looks the same with and without our sheets."""
    page.evaluate("document.querySelector('.otp').style.setProperty('display', 'none', 'important')")
    around = page.locator("html, body, body :not(.otp, .otp *)")
    with_ours = styles(around)
    page.evaluate("for (const sheet of document.styleSheets) sheet.disabled = sheet.href.includes('/otp/')")
    assert differences(with_ours, styles(around)) == []


def check_page(page: Page) -> None:
    found = Axe().run(page, context=".otp")
    assert found.violations_count == 0, found.generate_report()
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


@pytest.mark.parametrize(
    ("sheet", "scheme", "viewport"),
    [
        ("bootstrap.min.css", "light", DESKTOP),
        ("pico.min.css", "dark", PHONE),
        *at_night(
            ("tailwind-preflight.css", "dark", DESKTOP),
            ("bootstrap.min.css", "dark", PHONE),
            ("pico.min.css", "light", DESKTOP),
            ("tailwind-preflight.css", "light", PHONE),
        ),
    ],
)
def test_neither_restyles_the_other(chromium: Browser, sheet: str, scheme: Any, viewport: Any) -> None:
    # Without motion: a colour in the middle of its transition would differ for no reason.
    options: Any = {"color_scheme": scheme, "viewport": viewport, "reduced_motion": "reduce"}
    with (
        served(LAYOUT.format(sheet=sheet, scheme=scheme)) as shop,
        served(None) as plain,
        chromium.new_context(**options) as one,
        chromium.new_context(**options) as other,
    ):
        for within, alone in zip(pages(one.new_page(), shop), pages(other.new_page(), plain), strict=True):
            check_page(within)
            # Sizes are in rem, and Pico's is larger on a large screen.
            size = within.evaluate("getComputedStyle(document.documentElement).fontSize")
            alone.evaluate("size => { document.documentElement.style.fontSize = size }", size)
            assert differences(styles_of_ours(alone), styles_of_ours(within)) == []
        check_the_apps_own(within)


def test_our_script_leaves_the_apps_forms_alone(chromium: Browser) -> None:
    form = '<form action="/otp/nothing"><button disabled>Later</button><button>Export</button></form>'
    layout = LAYOUT.format(sheet="pico.min.css", scheme="light").replace("<main", f"{form}<main")
    with served(layout) as shop, chromium.new_context() as context:
        page = context.new_page()
        page.route("**/otp/nothing", lambda route: route.fulfill(status=204))
        page.goto(f"{shop}/otp/")
        expect(page.get_by_role("button", name="Later")).to_be_disabled()
        with page.expect_response("**/otp/nothing?"):
            page.get_by_role("button", name="Export").click()
        page.evaluate("new Promise((done) => setTimeout(done, 50))")
        expect(page.get_by_role("button", name="Export")).to_be_enabled()
