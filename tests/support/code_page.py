"""The code page in a real browser, used as people use it."""

from __future__ import annotations

from playwright.sync_api import Page


def enter(page: Page, code: str) -> None:
    """Type a code. The last digit submits it, except without scripts and beside a box that must be ticked before."""
    page.wait_for_load_state("domcontentloaded")
    submits_itself = page.locator("[data-submits]").is_visible()
    with page.expect_navigation():
        page.locator("#code").fill(code)
        if not submits_itself:
            page.locator("form:has(#code) button").first.click()
