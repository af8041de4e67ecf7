"""Draw the pictures of the documentation into docs/pictures, with a browser.

    nox -s pictures                  # all of them
    nox -s pictures -- hero email    # some
    nox -s pictures -- --check       # draw them, compare with the committed ones, and write nothing

A picture above 80 KB is a failure. What they show is in picture_app.py, how they are put together in picture_sheets.py.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import chromium
import pyotp
from jinja2 import DictLoader
from picture_app import ANN, LOCAL, NOW, Bank, Visitor, seeded
from picture_sheets import hero, sheet, side_by_side, terminal
from playwright.sync_api import Browser, sync_playwright

DOCS = Path(__file__).resolve().parent
LIMIT = 80 * 1024
#: In place of the file that the guide loads from another host.
BOOTSTRAP = DOCS.parent / "tests" / "browser" / "frameworks" / "bootstrap.min.css"

#: The shots of a way through the pages: by name, and for each the pictures by screen and scheme.
Shots = dict[str, dict[str, bytes]]
LOOKS: tuple[tuple[Literal["phone", "desktop"], Literal["light", "dark"]], ...] = (
    ("phone", "light"),
    ("phone", "dark"),
    ("desktop", "light"),
    ("desktop", "dark"),
)


def looks(visitor: Visitor) -> dict[str, bytes]:
    return {f"{screen}-{scheme}": visitor.look(screen, scheme) for screen, scheme in LOOKS}


def sign_in(browser: Browser, locale: str = "en") -> Shots:
    """The address, the code, a wrong code, and a code that was tried too often."""
    visitor, shots = Visitor(browser, Bank().app, locale=locale), {}
    visitor.open("/account")
    shots["send"] = looks(visitor)
    visitor.fill_in(identifier=ANN)
    shots["verify"] = looks(visitor)
    visitor.fill_in(code="000000")
    shots["wrong"] = looks(visitor)
    while visitor.page.locator("input[name=code]").count():
        visitor.fill_in(code="000000")
    shots["dead"] = looks(visitor)
    return shots


def transfer(browser: Browser, locale: str = "en") -> Shots:
    """A form that needs a code for just what it says."""
    bank = Bank(OTP_PURPOSES={"login": {}, "transfer": {}})
    visitor, shots = Visitor(browser, bank.app, locale=locale), {}
    visitor.open("/transfer")
    visitor.press()
    shots["send"] = looks(visitor)
    visitor.fill_in(identifier=ANN)
    shots["verify"] = looks(visitor)
    visitor.fill_in(code=bank.sent[-1].code)
    shots["repeat"] = looks(visitor)
    shots["email"] = mail(browser, bank.sent[-1].html)
    return shots


def mail(browser: Browser, text: str) -> dict[str, bytes]:
    """The HTML part of a message as a mail program shows it, in both schemes."""
    context = browser.new_context(viewport={"width": 520, "height": 300}, device_scale_factor=2)
    page = context.new_page()
    page.set_content(text)
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found[scheme] = page.screenshot(full_page=True)
    context.close()
    return found


def link(browser: Browser, locale: str = "en") -> Shots:
    """The page behind a link: where it was requested, and in another browser; and a purpose without a code to type."""
    bank = Bank(OTP_LINKS=True, OTP_PURPOSES={"login": {"typed": False}})
    visitor, shots = Visitor(browser, bank.app, locale=locale), {}
    visitor.open("/account")
    visitor.fill_in(identifier=ANN)
    shots["mail"] = looks(visitor)
    visitor.open(bank.sent[-1].link or "")
    shots["here"] = looks(visitor)
    elsewhere = Visitor(browser, bank.app, locale=locale)
    elsewhere.open(bank.sent[-1].link or "")
    shots["elsewhere"] = looks(elsewhere)
    return shots


def apps(browser: Browser, locale: str = "en") -> Shots:
    """An authenticator app: added, its recovery codes, and used."""
    bank = Bank(apps=True)
    visitor, shots = Visitor(browser, bank.app, locale=locale), {}
    visitor.open("/otp/app")
    shots["app"] = looks(visitor)
    app = pyotp.TOTP(visitor.page.locator("code.key").inner_text().replace(" ", ""))
    visitor.fill_in(name="my phone", code=app.at(NOW))
    shots["recovery"] = looks(visitor)
    bank.clock.advance("1m")
    visitor.open("/apps-only")
    if not visitor.page.locator("input[name=code]").count():
        visitor.press()
    shots["use"] = looks(visitor)
    return shots


def troubles(browser: Browser, locale: str = "en") -> Shots:
    """What a visitor sees when something is wrong."""
    visitor, shots = Visitor(browser, Bank().app, locale=locale), {}
    visitor.open("/otp/not-here")
    shots["error"] = looks(visitor)
    without = Visitor(browser, Bank().app, locale=locale, cookies=False)
    without.open("/otp/")
    without.fill_in(identifier=ANN)
    shots["blocked"] = looks(without)
    from_elsewhere = Visitor(browser, Bank(SESSION_COOKIE_SAMESITE="Strict").app, locale=locale, site="cross-site")
    from_elsewhere.open("/otp/", stays=True)
    shots["once_more"] = looks(from_elsewhere)
    return shots


def outbox(browser: Browser) -> Shots:
    """The developers' page with the last messages."""
    bank = Bank(OTP_OUTBOX=True, DEBUG=True)
    visitor = Visitor(browser, bank.app)
    visitor.open("/account")
    visitor.fill_in(identifier=ANN)
    developer = Visitor(browser, bank.app, origin=LOCAL)
    developer.open("/otp/outbox")
    return {"outbox": looks(developer)}


Files = dict[str, bytes]


def sheets(browser: Browser, name: str, shots: Shots, screens: str, *, kind: str = "phone", width: int = 300) -> Files:
    """The same row of screens twice: the site shows the one that fits the reader's scheme.

    :param screens: names of shots, with spaces between them.
    """
    return {
        f"{name}-{scheme}.png": sheet(
            browser, scheme, [shots[screen][f"{kind}-{scheme}"] for screen in screens.split()], width=width
        )
        for scheme in ("light", "dark")
    }


def draw_hero(browser: Browser) -> Files:
    """The end of the first program of the README, and the page that it shows."""
    source = re.search(
        r"```python\n.*?(otp = OTP\(app\)\n.*?)```", (DOCS.parent / "README.md").read_text("utf-8"), re.DOTALL
    )
    assert source
    visitor = Visitor(browser, Bank().app)
    visitor.open("/account")
    visitor.fill_in(identifier=ANN)
    visitor.type("4071")
    light, dark = (visitor.look("phone", scheme) for scheme in ("light", "dark"))
    return {"hero.png": hero(browser, source[1], light, dark)}


#: Each way through the pages, with the names of its screens.
WAYS: dict[str, tuple[Callable[..., Shots], str]] = {
    "sign-in": (sign_in, "send verify wrong dead"),
    "transfer": (transfer, "send verify repeat"),
    "link": (link, "mail here elsewhere"),
    "apps": (apps, "app recovery use"),
    "troubles": (troubles, "error blocked once_more"),
}


def draw_way(name: str, browser: Browser, *, locale: str = "en", kind: str = "phone", ending: str = "") -> Files:
    go, screens = WAYS[name]
    width = 420 if kind == "desktop" else 270 if name == "apps" else 300
    return sheets(browser, f"{name}{ending}", go(browser, locale), screens, kind=kind, width=width)


def draw_email(browser: Browser) -> Files:
    message = transfer(browser)["email"]
    return {"email.png": side_by_side(browser, message["light"], message["dark"], width=440)}


def draw_outbox(browser: Browser) -> Files:
    shown = outbox(browser)["outbox"]
    return {"outbox.png": side_by_side(browser, shown["desktop-light"], shown["desktop-dark"], width=480)}


def draw_doctor(browser: Browser) -> Files:
    """An app whose settings are not ready for production."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bank = Bank(OTP_FAILURE_BUDGET="100 per 30 days", SESSION_COOKIE_SECURE=False)
    printed = bank.app.test_cli_runner().invoke(args=["otp", "doctor"]).output
    return {"doctor.svg": terminal("flask otp doctor", printed)}


def draw_own_look(browser: Browser) -> Files:
    """The code page with our look, and with the brand and the layout of the guide."""
    guide = (DOCS / "guides" / "own-look.md").read_text("utf-8")
    layout = re.search(r"```html\+jinja\n\{# templates/flask_otp/base.html #\}\n(.*?)```", guide, re.DOTALL)
    accent = re.search(r'"accent": "(#\w+)"', guide)
    cdn = re.search(r'href="(https://[^"]+bootstrap\.min\.css)"', guide)
    assert layout
    assert accent
    assert cdn
    brand = {"accent": accent[1], "help": "https://example.com/help"}
    own = Bank(OTP_BRAND=brand, OTP_CSP={"style-src": ["https://cdn.jsdelivr.net"], "img-src": ["data:"]})
    own.app.jinja_loader = DictLoader({"flask_otp/base.html": layout[1]})
    pictures = []
    for bank in (Bank(), own):
        visitor = Visitor(browser, bank.app)
        visitor.page.route(cdn[1], lambda route: route.fulfill(path=BOOTSTRAP, content_type="text/css"))
        visitor.open("/account")
        visitor.fill_in(identifier=ANN)
        pictures.append(visitor.look("desktop", "light"))
    return {"own-look.png": sheet(browser, "light", pictures, width=480)}


PICTURES: dict[str, Callable[[Browser], Files]] = {
    "hero": draw_hero,
    **{name: partial(draw_way, name) for name in WAYS},
    **{f"{name}-desktop": partial(draw_way, name, kind="desktop", ending="-desktop") for name in WAYS},
    **{f"{name}-arabic": partial(draw_way, name, locale="ar", ending="-arabic") for name in WAYS},
    "email": draw_email,
    "outbox": draw_outbox,
    "doctor": draw_doctor,
    "own-look": draw_own_look,
}


def drawn(names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Draw each picture from the same start. A picture that is drawn alone is the same as one drawn among all."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.path(), args=["--no-sandbox", "--font-render-hinting=none"]
        )
        for name in names:
            with seeded():
                files = PICTURES[name](browser)
            yield from files.items()
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(PICTURES)}")
    parser.add_argument("--check", action="store_true", help="compare with the files, and write nothing")
    parser.add_argument("--folder", type=Path, default=DOCS / "pictures", help="where they are, or go")
    options = parser.parse_args()
    if unknown := set(options.names) - PICTURES.keys():
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    wrong = []
    options.folder.mkdir(exist_ok=True)
    for name, picture in drawn(options.names or list(PICTURES)):
        file = options.folder / name
        print(f"{name}: {len(picture) / 1024:.1f} KB", flush=True)
        if len(picture) > LIMIT:
            wrong.append(f"{name} has more than {LIMIT // 1024} KB")
        if not options.check:
            file.write_bytes(picture)
        elif not file.exists() or file.read_bytes() != picture:
            wrong.append(f"{name} is not what this machine draws")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
