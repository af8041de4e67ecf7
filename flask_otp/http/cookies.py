"""Writes our cookies. Werkzeug formats all attributes of a cookie each time; here that is done once for each app."""

from __future__ import annotations

from functools import lru_cache

from flask import Response, after_this_request
from werkzeug.http import dump_cookie

from ..state import AppState


def own_name(state: AppState, part: str) -> str:
    """The name of one of our own cookies. If the site has TLS, no other host can set it."""
    app = state.app
    return f"{'__Host-' if app.session_interface.get_cookie_secure(app) else ''}{state.settings.key_prefix}_{part}"


def set_own(state: AppState, part: str, value: str, *, max_age: int) -> None:
    """Set one of our own cookies with the response to this request. The arguments are those of :func:`set_cookie`."""
    name = own_name(state, part)

    @after_this_request
    def send_cookie(response: Response) -> Response:
        set_cookie(response, name, value, max_age=max_age, attributes=attributes(secure=name.startswith("__Host-")))
        return response


def set_cookie(response: Response, name: str, value: str, *, max_age: int | None, attributes: str) -> None:
    """
    :param value: characters that a cookie may have without quotes.
    :param max_age: seconds. ``None``: until the browser is closed.
    :param attributes: from :func:`attributes`.
    """
    life = "" if max_age is None else f"; Max-Age={max_age}"
    response.headers.add("Set-Cookie", f"{name}={value}{life}{attributes}")


@lru_cache(maxsize=32)
def attributes(
    *, path: str = "/", domain: str | None = None, secure: bool, samesite: str = "Lax", partitioned: bool = False
) -> str:
    """The attributes of a cookie that scripts cannot read, as they follow its value."""
    empty = dump_cookie(
        "name",
        path=path,
        domain=domain,
        secure=secure,
        httponly=True,
        samesite=samesite,
        partitioned=partitioned,
    )
    return empty.removeprefix("name=")
