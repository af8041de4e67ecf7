"""The URLs of our style sheets and script. Each names the content that it gives, so browsers may keep it for ever."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from flask import url_for

from .site import BLUEPRINT, current_site

_FOLDER = Path(__file__).parent / "static"
#: The names of our files. A client may ask for any other path.
NAMES = frozenset(path.name for path in _FOLDER.iterdir())


def address(filename: str) -> str:
    """The URL of one of our static files."""
    return url_for(f"{BLUEPRINT}.static", filename=filename, v=version(filename))


def brand_address() -> str | None:
    """The URL of the sheet with the brand's colours, if there is one."""
    site = current_site()
    sheet = "" if site is None else site.brand.style_sheet
    return url_for(f"{BLUEPRINT}.brand_sheet", v=digest(sheet)) if sheet else None


@cache
def version(filename: str) -> str:
    """The version of one of our static files.

    :param filename: one of :data:`NAMES`.
    """
    return digest((_FOLDER / filename).read_bytes().decode())


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:12]
