"""Finds the Chromium that draws the pictures and looks at the site."""

from __future__ import annotations

import shutil

#: Names of the program. Without a window it takes a third of the processor time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def path() -> str | None:
    """``None``: Playwright's own."""
    return next(filter(None, map(shutil.which, NAMES)), None)
