"""The app that the pictures show, and a visitor whose browser asks it without a network.

Nothing here is random: the clock stands still, and what the package takes from ``secrets`` comes from a seed. The same
browser with the same fonts draws the same pictures each time.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from unittest import mock
from urllib.parse import urlsplit

from flask import Flask, request
from playwright.sync_api import Browser, Page, Route

from flask_otp import OTP, Message, otp_required
from flask_otp.testing import Clock

#: 15 January 2027, 09:00 UTC.
NOW = 1_800_003_600
ANN = "ann@example.com"
ORIGIN = "https://bank.example"
#: The developers' page is shown on this machine only.
LOCAL = "http://localhost:5000"

PHONE, DESKTOP = {"width": 360, "height": 420}, {"width": 900, "height": 480}

_TRANSFER = """<!doctype html><html lang=en><title>Transfer</title><form method=post>
<input name=amount value="250.00 EUR"><input name=payee value="Bob Miller"><button>Transfer</button></form>"""


@contextmanager
def seeded() -> Iterator[None]:
    """``secrets`` of a fixed seed. A picture with a code shows the same code again."""
    source = random.Random(2027)  # noqa: S311
    drawn = {
        "token_bytes": lambda size=32: source.randbytes(size),
        "token_hex": lambda size=32: source.randbytes(size).hex(),
        "token_urlsafe": lambda size=32: source.randbytes(size).hex(),
    }
    with mock.patch.multiple(secrets, **drawn):
        yield


class Bank:
    """A bank whose people sign in and transfer money.

    :param apps: people sign in with a password, and have authenticator apps.
    :param config: further settings.
    """

    def __init__(self, *, apps: bool = False, **config: Any) -> None:
        self.clock = Clock(NOW)
        self.sent: list[Message] = []
        self.app = Flask("bank")
        self.app.config.update(SECRET_KEY=secrets.token_hex(), OTP_STORAGE_URI="memory://")
        self.app.config.update(OTP_SITE_NAME="Example Bank", OTP_BASE_URL=ORIGIN, OTP_DELIVERY="inline")
        self.app.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")
        self.app.config.update(config)
        otp = OTP(clock=self.clock)
        otp.channel("email")(self.sent.append)
        self._apps = apps
        if apps:
            self._keep_factors(otp)
        otp.init_app(self.app)
        self._add_views()

    def _keep_factors(self, otp: OTP) -> None:
        column: dict[str, str | None] = {ANN: None}

        def save(identifier: str, new: str | None, old: str | None) -> bool:
            if column[identifier] != old:
                return False
            column[identifier] = new
            return True

        otp.factors_loader(column.get)
        otp.factors_saver(save)
        otp.identifier_loader(lambda: ANN)
        otp.recipient_loader(lambda identifier, channel: identifier if identifier in column else None)
        otp.may_enrol(lambda: True)

    def _add_views(self) -> None:
        app = self.app

        @app.get("/account")
        @otp_required
        def account() -> str:
            return "<!doctype html><html lang=en><title>Account</title><h1>Your account</h1>"

        if self._apps:

            @app.get("/apps-only")
            @otp_required(channels=("totp", "recovery"), trust="30d")
            def apps_only() -> str:
                return "<!doctype html><html lang=en><title>Account</title><h1>Your account</h1>"

        if "transfer" in app.config.get("OTP_PURPOSES", {}):
            app.add_url_rule("/transfer", "form", view_func=lambda: _TRANSFER)

            @app.post("/transfer")
            @otp_required(
                purpose="transfer",
                context=lambda: {"amount": request.form["amount"], "payee": request.form["payee"]},
                once=True,
            )
            def transfer() -> str:
                return "<!doctype html><html lang=en><title>Done</title><h1>Done</h1>"


class Visitor:
    """A browser whose requests the app answers in this process: no port, and no other host.

    The test client follows redirects and keeps cookies, because the browser does neither for intercepted requests.

    :param cookies: ``False`` for a browser that blocks them.
    :param site: ``Sec-Fetch-Site`` of what it opens.
    """

    def __init__(
        self,
        browser: Browser,
        app: Flask,
        *,
        locale: str = "en",
        cookies: bool = True,
        site: str = "same-origin",
        origin: str = ORIGIN,
    ) -> None:
        self._client = app.test_client(use_cookies=cookies)
        self._headers = {"Accept-Language": locale, "Sec-Fetch-Site": site}
        self._origin = origin
        self._pages_left: int | None = None
        self.context = browser.new_context(
            base_url=origin, locale=locale, device_scale_factor=2, reduced_motion="reduce", viewport=PHONE
        )
        self.page: Page = self.context.new_page()
        self.page.clock.set_fixed_time(NOW)
        self.page.route("**/*", self._answer)

    def _answer(self, route: Route) -> None:
        asked = route.request
        if self._pages_left is not None and asked.is_navigation_request():
            self._pages_left -= 1
            if self._pages_left < 0:
                route.fulfill(status=204)
                return
        url = urlsplit(asked.url)
        headers = {**self._headers, "Accept": "text/html" if asked.is_navigation_request() else "*/*"}
        if asked.method != "GET":
            headers |= {"Origin": self._origin, "Content-Type": asked.headers.get("content-type", "")}
        response = self._client.open(
            f"{url.path}?{url.query}" if url.query else url.path,
            method=asked.method,
            headers=headers,
            data=asked.post_data_buffer,
            base_url=self._origin,
            follow_redirects=True,
        )
        kept = {name: value for name, value in response.headers if name.lower() not in ("set-cookie", "content-length")}
        route.fulfill(status=response.status_code, headers=kept, body=response.data)

    def type(self, code: str) -> None:
        """Show a code in its field, without submitting it."""
        self.page.evaluate("code => { document.querySelector('input[name=code]').value = code; }", code)

    def open(self, path: str, *, stays: bool = False) -> None:
        """Open a page. With ``stays``, the browser stays there, even if the page opens the next one automatically."""
        self._pages_left = 1 if stays else None
        self.page.goto(path)

    def fill_in(self, **values: str) -> None:
        """Fill in fields by their names and submit their form. No key is pressed, so no script acts before."""
        with self.page.expect_navigation():
            self.page.evaluate(
                """values => {
                    let form;
                    for (const [name, value] of Object.entries(values)) {
                        const field = document.querySelector(`input[name=${name}]:not([type=hidden])`);
                        field.value = value;
                        form = field.form;
                    }
                    form.requestSubmit();
                }""",
                values,
            )

    def press(self) -> None:
        """Submit the page's first form as it is."""
        with self.page.expect_navigation():
            self.page.evaluate("document.querySelector('form').requestSubmit()")

    def look(self, screen: Literal["phone", "desktop"], scheme: Literal["light", "dark"]) -> bytes:
        """A picture of the whole page."""
        self.page.set_viewport_size(PHONE if screen == "phone" else DESKTOP)  # type: ignore[arg-type]
        self.page.emulate_media(color_scheme=scheme)
        return self.page.screenshot(full_page=True, caret="hide", animations="disabled")
