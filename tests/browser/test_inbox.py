"""The e-mail as a person sees it, in a real browser: a phone and a desk, light, dark and inverted by the client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from itertools import product
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page

from flask_otp import OTP, Message
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import AppFactory
from tests.support.examples import at_night

pytestmark = pytest.mark.server

ANN = "ann@example.com"
LONG = "The Rather Long Named Cooperative of Booksellers & Stationers of " + "Llanfairpwllgwyngyll" * 4
FACTS = {"amount": "1,250.00 EUR", "to_account": "DE89 3704 0044 0532 0130 00", "reference": "x" * 120}
CONFIG: dict[str, Any] = {"OTP_BASE_URL": "https://shop.example", "OTP_SITE_NAME": "Shop"}
LIGHT, DARK = "rgb(243, 241, 236)", "rgb(20, 24, 27)"
OVERFLOWS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
MOST: dict[str, Any] = CONFIG | {"OTP_SITE_NAME": LONG, "OTP_LINKS": True}


def site(make_app: AppFactory, **config: Any) -> Flask:
    return make_app(OTP(clock=Clock()), OTP_COOLDOWN=0, **config)


def sent(app: Flask, client: FlaskClient, *, strong: bool = False) -> Message:
    """The mail that this client gets: with a strong code once the budget, which must be of one failure, is spent."""
    with capture_codes(app) as codes:
        client.post("/otp/send", json={"email": ANN})
        if strong:
            client.post("/otp/verify", json={"code": "000000" if codes.code != "000000" else "000001"})
            client.post("/otp/send", json={"email": ANN})
    assert (len(codes.code) == 13) is strong
    return codes[-1]


def fullest(make_app: AppFactory) -> Message:
    """A mail with all that there can be, and all of it long."""
    otp = OTP(clock=Clock())
    app = make_app(otp, **MOST, OTP_CODE_LENGTH=12)
    with app.app_context(), capture_codes(app) as codes:
        otp.send(ANN, context=FACTS)
    return codes[-1]


def mails(make_app: AppFactory) -> list[Message]:
    app = site(make_app, **MOST, OTP_FAILURE_BUDGET="1/day")
    plain = site(make_app, **CONFIG)
    return [
        sent(plain, plain.test_client()),
        sent(app, app.test_client(), strong=True),
        fullest(make_app),
    ]


@pytest.fixture
def open_mail(chromium: Browser) -> Iterator[Callable[..., Page]]:
    contexts, asked = [], []

    def open_it(html: str, **options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.set_content(html)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert asked == []  # nothing is fetched from anywhere


def test_it_fits_a_phone_and_a_desk_in_light_and_dark(open_mail: Callable[..., Page], make_app: AppFactory) -> None:
    page = open_mail("")
    for message in mails(make_app):
        page.set_content(message.html)
        for width, (scheme, ground) in product((320, 700), (("light", LIGHT), ("dark", DARK))):
            page.set_viewport_size({"width": width, "height": 600})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
            for direction in ("ltr", "rtl"):
                page.evaluate("way => document.querySelectorAll('[lang]').forEach(part => part.dir = way)", direction)
                assert not page.evaluate(OVERFLOWS)
                # The code is not broken over lines.
                assert page.evaluate("document.querySelector('.code').clientHeight") < 36 + 2 * 34


@pytest.mark.parametrize("scheme", ["light", *at_night("dark")])
def test_axe_finds_nothing(open_mail: Callable[..., Page], make_app: AppFactory, scheme: str) -> None:
    page = open_mail(fullest(make_app).html, color_scheme=scheme)
    # Landmarks are the mail program's own.
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
    assert found.violations_count == 0, found.generate_report()


CONTRASTS = """() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const behind = element => {
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour.length === 4 && colour[3] === 0 ? behind(element.parentElement) : colour;
  };
  const light = colour => colour.slice(0, 3).map(part => (255 - part) / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  return [...document.querySelectorAll("body *")]
    .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .filter(element => element.getClientRects().length)
    .map(element => [light(parse(getComputedStyle(element).color)), light(behind(element))])
    .map(([one, other]) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
}"""


def test_without_its_head_and_with_all_colours_inverted_it_can_still_be_read(
    open_mail: Callable[..., Page], make_app: AppFactory
) -> None:
    """As clients do that keep neither the style nor the meta elements, and make light mails dark themselves."""
    html = fullest(make_app).html
    bare = re.sub(r"<head>.*?</head>", "", html, flags=re.DOTALL)
    page = open_mail(bare, viewport={"width": 320, "height": 600})
    assert not page.evaluate(OVERFLOWS)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 8
    assert min(contrasts) >= 4.5


@pytest.mark.parametrize("strong", [True, *at_night(False)])
def test_the_code_is_selected_by_a_click_and_what_is_copied_verifies(
    open_mail: Callable[..., Page], make_app: AppFactory, strong: bool
) -> None:
    app = site(make_app, **CONFIG, OTP_FAILURE_BUDGET="1/day" if strong else "20/day")
    client = app.test_client()
    message = sent(app, client, strong=strong)
    page = open_mail(message.html)
    without_styles = re.sub(r' style="[^"]*"', "", message.html)
    # Where styles are lost, it takes two clicks for a word, and three for words that dashes part.
    for html, clicks in ((message.html, 1), (message.html, 2), (message.html, 3), (without_styles, 3 if strong else 2)):
        page.set_content(html)
        page.locator(".code").click(click_count=clicks)
        copied = page.evaluate("getSelection().toString()")
        assert copied.strip() == message.written_code
    assert client.post("/otp/verify", json={"code": copied}).status_code == 200


def test_what_a_list_of_mails_shows_of_it_is_useful_and_is_not_the_code(make_app: AppFactory) -> None:
    for message in mails(make_app):
        body = message.html.partition("<body")[2].partition(">")[2]
        preview = unescape(re.sub(r"<[^>]*>", "", body)).strip()[:220]
        assert preview.startswith("The code works once, for 5 minutes. Never pass the code on to anyone.")
        assert message.written_code not in preview
        assert "code to sign in" not in preview  # nor does anything come before the code that would lead to it
        assert message.written_code in message.html


def test_nothing_in_it_is_remote_and_nothing_is_taken_for_a_link(make_app: AppFactory) -> None:
    for message in mails(make_app):
        addresses = re.findall(r"[a-z]+://[^\s\"<>]+", message.html)
        assert addresses == ([message.link] if message.link else [])
        assert not re.search(r"<(img|link|script|object|iframe|form|base)\b|\bsrc=|url\(|@import", message.html)
        # Programs that make links of names look at pieces of text.
        shown = re.sub(r"<a .*?</a>", "", message.html, flags=re.DOTALL)
        assert not [piece for piece in re.findall(r">([^<]*)<", shown) if "shop.example" in piece]


def test_its_language_and_direction_are_said_where_clients_keep_them(make_app: AppFactory) -> None:
    html = mails(make_app)[0].html
    assert '<html lang="en" dir="ltr">' in html
    assert re.search(r'<div role="article" [^>]*lang="en" dir="ltr">', html)  # most clients drop the html element
    assert html.count("<table") == html.count('role="presentation"')
    assert "telephone=no" in html
