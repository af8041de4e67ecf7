"""Open pages of the built site in a browser, as a reader does: on a dark phone, and on a wide light screen.

    python docs/look_at_site.py docs/_build                       # some pages
    python docs/look_at_site.py docs/_build reference/python      # these

No page may ask another host for anything, write an error to the console, be wider than its screen, or have a fault that
axe finds. The search must find a page, and the button of a code block must copy it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import chromium
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

#: A page of each kind: cards, pictures, long code, wide tables, docstrings, formulas, a list. The longest pages are not
#: among them, because axe takes a minute for each. Give their names to look at them.
PAGES = (
    "index",
    "start/five-minutes",
    "start/which-flow",
    "guides/transfer",
    "reference/templates",
    "reference/signals",
    "protection/odds",
    "operate/before-live",
)
_LOOKS = (("dark", {"width": 375, "height": 800}), ("light", {"width": 1360, "height": 900}))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Requests are no news."""


def look(browser: Browser, site: str, names: tuple[str, ...]) -> Iterator[str]:
    """One line for each fault."""
    for scheme, screen in _LOOKS:
        options = {"base_url": site, "color_scheme": scheme, "viewport": screen, "reduced_motion": "reduce"}
        context = browser.new_context(**options)  # type: ignore[arg-type]
        page = context.new_page()
        heard = _listen(page, site)
        for name in names:
            page.goto(f"{name}.html", wait_until="networkidle")
            for fault in (*heard, *_faults(page)):
                yield f"{name}, {scheme}, {screen['width']}: {fault}"
            heard.clear()
        context.close()


def _listen(page: Page, site: str) -> list[str]:
    """The list that gets the page's requests to other hosts, and its errors."""
    heard: list[str] = []
    page.on("request", lambda request: None if _is_own(request.url, site) else heard.append(request.url))
    page.on("console", lambda message: heard.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


def _is_own(url: str, site: str) -> bool:
    return url.startswith((site, "data:", "blob:"))


def _faults(page: Page) -> Iterator[str]:
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wider > 0:
        yield f"{wider} pixels wider than the screen"
    for found in Axe().run(page).response["violations"]:
        yield f"{found['id']}: {found['nodes'][0]['html'][:160]} ({len(found['nodes'])})"


def use(browser: Browser, site: str) -> Iterator[str]:
    """Search, and copy a block of code."""
    context = browser.new_context(base_url=site, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto("search.html?q=OTP_FAILURE_BUDGET")
    if page.locator("#search-results li a").first.text_content(timeout=20_000) is None:
        yield "the search finds nothing"
    page.goto("index.html")
    page.locator("div.highlight").first.hover()
    page.locator("button.copybtn").first.click()
    if "OTP(app)" not in page.evaluate("navigator.clipboard.readText()"):
        yield "the button copies no code"
    context.close()


def main(folder: str, *names: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{server.server_port}/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.path(), args=["--no-sandbox"])
        found = [*look(browser, site, names or PAGES), *use(browser, site)]
        browser.close()
    server.shutdown()
    print(*found, f"{len(found)} faults", sep="\n")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
