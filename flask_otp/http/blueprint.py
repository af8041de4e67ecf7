"""The blueprint: the view of each route, the checks before it, and what is added to each response."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ..errors import PAGE_HEADERS, InvalidRequest, OTPError, VerificationRequired, accepts_html
from ..site import BLUEPRINT
from ..state import current_state
from ..urls import is_own_root
from . import outbox, pages, routes, static_files, views
from .answers import Answer
from .requests import allow_trusted_origin, refuse_cross_origin, wants_html

#: Where to redirect a browser that opens a form's URL: by Back, by a bookmark, or after a sign-in elsewhere.
_PAGE_OF = {"send": "start", "resend": "enter", "logout": "start", "app/remove": "app", "recovery": "app"}
_PAGE_HEADERS = [(name.lower(), name, value) for name, value in PAGE_HEADERS.items()]
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_blueprint() -> Blueprint:
    """The routes, mounted at ``OTP_URL_PREFIX``. They look up their app's state on each request."""
    blueprint = Blueprint(BLUEPRINT, "flask_otp", template_folder="templates", static_folder="static")
    blueprint.before_request(_before)
    blueprint.after_request(_add_headers)
    blueprint.register_error_handler(HTTPException, _answer_error)
    for route in routes.ROUTES:
        if route.endpoint not in _VIEWS:
            continue  # :mod:`.factor_views` adds it
        blueprint.add_url_rule(route.path, route.endpoint, _VIEWS[route.endpoint], methods=[route.method])
    outbox.add_routes(blueprint)
    static_files.add_routes(blueprint)
    blueprint.add_url_rule("/", "unknown_root", unknown, methods=_METHODS[1:])
    blueprint.add_url_rule("/<path:rest>", "unknown", unknown, methods=_METHODS)
    return blueprint


_VIEWS: dict[str, Callable[..., Answer]] = {
    "start": views.start,
    "send": views.send,
    "enter": views.enter,
    "verify": views.verify,
    "resend": views.resend,
    "link": views.link,
    "repeat": views.confirm,
    "logout": views.logout,
    "health": views.health,
    "openapi": views.describe,
}


def unknown(rest: str = "") -> Answer:
    """Answer unknown paths in our format. Known paths get here if the method is not allowed."""
    if rest in _PAGE_OF and request.method in ("GET", "HEAD") and accepts_html():
        return redirect(url_for(f".{_PAGE_OF[rest]}"), 303)
    if methods := routes.methods_of(rest):
        raise MethodNotAllowed(methods)
    raise NotFound


def _before() -> Answer | None:
    """Checks before each view, the cheapest first: the path, the origin, and whether another site sent the visitor."""
    if not is_own_root():
        # No page, because its styles and forms would be loaded from that other host.
        return InvalidRequest().as_problem()
    state = current_state()
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        refuse_cross_origin(state.settings.base_url, state.settings.trusted_origins)
        return None
    return pages.from_our_own_origin(state)


def _add_headers(response: Response) -> Response:
    headers = response.headers
    present = {name.lower() for name, _ in headers}
    for lower, name, value in _PAGE_HEADERS:
        if lower not in present:
            headers.add(name, value)
    if "vary" in present and "Cookie" not in headers["Vary"].split(", "):
        response.vary.add("Cookie")
    if static_files.let_cache(response):
        return response
    if "cache-control" in present and headers.getlist("Cache-Control") != ["no-store"]:
        headers["Cache-Control"] = "no-store"
    return response


def answer_trusted_origins(response: Response) -> Response:
    """Runs after all functions of the app, including its CORS extension."""
    state = current_state()
    if request.blueprint == BLUEPRINT and state.is_mounted:
        allow_trusted_origin(response, state.settings.trusted_origins)
    return response


def _answer_error(error: HTTPException) -> Answer:
    if error.code is not None and error.code < 400:
        return error.get_response()
    if isinstance(error, VerificationRequired) and error.location is not None:
        return error.get_response()  # a guard of our own pages: browsers are redirected to the form
    ours = error if isinstance(error, OTPError) else OTPError.from_http(error)
    response = current_state().render_error(ours) if wants_html() else ours.as_problem()
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response
