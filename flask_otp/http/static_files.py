"""How our style sheets and script are served, and the sheet with the brand's colours."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from .. import assets
from ..site import BLUEPRINT
from ..state import current_state

_STATIC, _SHEET = f"{BLUEPRINT}.static", f"{BLUEPRINT}.brand_sheet"
#: "private": the app may set a cookie with any response, which a shared cache must not give to others.
_FOR_A_YEAR, _FOR_A_WHILE = "private, max-age=31536000, immutable", "private, max-age=300"


def add_routes(blueprint: Blueprint) -> None:
    """Add the sheet of the brand. Flask itself adds the route of the static files."""
    blueprint.add_url_rule("/brand.css", "brand_sheet", brand_sheet, methods=["GET"], provide_automatic_options=False)


def brand_sheet() -> Response:
    """The accent colour as a style sheet, because the pages' policy admits no inline style.

    :raises NotFound: ``OTP_BRAND`` has no accent.
    """
    sheet = current_state().settings.brand.style_sheet
    if not sheet:
        raise NotFound
    return Response(sheet, content_type="text/css; charset=utf-8")


def let_cache(response: Response) -> bool:
    """If the response is one of these files, set its headers for the cache and return ``True``."""
    if request.endpoint not in (_STATIC, _SHEET) or response.status_code not in (200, 206, 304):
        return False
    if request.endpoint == _STATIC:
        name = (request.view_args or {}).get("filename")
        # Flask itself answers OPTIONS with 200 for any path, and a hook of the app may answer any request.
        if request.method not in ("GET", "HEAD") or name not in assets.NAMES:
            return False
        version = assets.version(name)
    else:
        version = assets.digest(current_state().settings.brand.style_sheet)
    response.headers["Cache-Control"] = _FOR_A_YEAR if request.args.get("v") == version else _FOR_A_WHILE
    # The same for everybody: another cookie must not make the browser load it again.
    response.headers.pop("Vary", None)
    return True
