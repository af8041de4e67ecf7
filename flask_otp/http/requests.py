"""Reads requests safely: bodies, origins, and the next page."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from typing import Any

from flask import Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.urls import iri_to_uri

from ..crypto.payloads import Once
from ..errors import CrossOrigin, InvalidRequest, accepts_html
from ..languages import N_
from .routes import IDEMPOTENCY_KEY, Member, Route

MAX_BODY = 4096
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_PAIRS = json.JSONDecoder(object_pairs_hook=tuple)


def request_path() -> str:
    """The current request's path and query from the host's root, in ASCII. Not safe for redirects without a check."""
    return iri_to_uri(request.url)[len(iri_to_uri(request.host_url)) - 1 :]


def own_origin() -> str:
    """The origin that the request was sent to, as browsers write it in ``Origin`` and ``Referer``."""
    return f"{request.scheme}://{request.host.lower()}"


def wants_html() -> bool:
    """How the views answer: forms get pages, JSON gets JSON, and for anything else ``Accept`` decides."""
    asking = this_request()
    if _is_json(asking):
        return False
    if asking.mimetype in _FORMS:
        return accepts_html() or "application/json" not in asking.accept_mimetypes.values()
    return accepts_html()


def is_navigation() -> bool:
    """Whether a person waits for a page and will see the response next: not a ``fetch``, poll or image.

    Turbo and similar libraries navigate by ``fetch``, with ``text/html`` in ``Accept``, and only within their own
    origin. A client without ``Accept`` is not a browser, because all browsers send it, and does one thing at a time.
    """
    mode = request.headers.get("Sec-Fetch-Mode", "navigate")
    is_page = accepts_html() or "Accept" not in request.headers
    return is_page and (mode == "navigate" or request.headers.get("Sec-Fetch-Site") == "same-origin")


def is_meant() -> bool:
    """Whether the browser says that a person opens this page: no other site, frame, script or prefetch asks for it."""
    said = request.headers
    return (
        said.get("Sec-Fetch-Site") in ("same-origin", "none")
        and said.get("Sec-Fetch-Mode") == "navigate"
        and said.get("Sec-Fetch-Dest") == "document"
        and not any(name in said for name in ("Sec-Purpose", "Purpose", "X-Moz"))
    )


def refuse_cross_origin(base_url: str | None, trusted: Collection[str] = ()) -> None:
    """Allow a state change only from this origin, a trusted one, or a client that is not a browser.

    :raises CrossOrigin: the browser says that another origin sent it.
    """
    if is_cross_origin(base_url) and request.environ.get("HTTP_ORIGIN") not in trusted:
        raise CrossOrigin


def allow_trusted_origin(response: Response, trusted: Collection[str]) -> None:
    """Let pages of a trusted origin read our response and send cookies: the CORS protocol of the Fetch standard.

    If the app's own CORS extension has set its headers, they are kept.
    """
    if not trusted:
        return
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin not in trusted or "Access-Control-Allow-Origin" in response.headers:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Allow-Credentials"] = "true"
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Idempotency-Key"
        response.headers["Access-Control-Max-Age"] = "600"
    else:
        response.headers["Access-Control-Expose-Headers"] = "Retry-After, WWW-Authenticate"


def is_cross_origin(base_url: str | None) -> bool:
    """Whether the browser says that another origin sent the request.

    ``same-site`` is another origin too: a neighbouring host is not this one (OWASP ASVS 5.0 V3.5.1).
    """
    # Read from the environ, because a request object parses its headers on each access.
    environ = request.environ
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and origin not in _own_origins(base_url)


def is_own_page(base_url: str | None) -> bool:
    """Whether the browser says that a page of this origin sent the request. A missing header does not count."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Origin", "") in _own_origins(base_url)


def read_body(route: Route) -> dict[str, str]:
    """The members of a JSON object or a form that the route knows, each given at most once.

    A flag is included only if it differs from its default.

    A JSON object may have no other members. A form may, because CSRF tokens, button names and captcha fields belong to
    the page. But a field whose name is similar to a member's is a typing error and is refused.

    :raises InvalidRequest: malformed JSON, not an object, a wrong type, null, too long, a name given twice (or in the
        query), or a name that the route does not know.
    :raises RequestEntityTooLarge: over 4 KiB.
    :raises UnsupportedMediaType: neither ``application/json`` nor a form.
    """
    asking = this_request()
    pairs, is_form = _pairs(asking), not _is_json(asking) and asking.mimetype in _FORMS
    members = {member.name: member for member in route.members if not (is_form and member.is_json_only)}
    if asking.query_string and any(name in asking.args for name in members):
        raise InvalidRequest(N_("Put the values into the body, not into the query."))
    values: dict[str, str] = {}
    for name, value in pairs:
        member = members.get(name)
        if member is None:
            _refuse_unknown(name, list(members), 0.8 if is_form else 0.0)
        elif not (is_form and value == "" and member.least):
            if name in values:
                raise InvalidRequest(N_("%(name)s is given twice.", name=name))
            values[name] = _read_flag(member, value, is_form) if member.is_flag else _checked(member, value)
    return {
        name: value
        for name, value in values.items()
        if not members[name].is_flag or bool(value) is not members[name].default
    }


def read_idempotency_key(body: dict[str, str]) -> Once | None:
    """The header ``Idempotency-Key`` together with the parsed body. ``None`` if there is no such header.

    :raises InvalidRequest: the key is shorter or longer than :data:`~.routes.IDEMPOTENCY_KEY`, or not printable ASCII.
    """
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    least, most = IDEMPOTENCY_KEY
    if not (least <= len(key) <= most and key.isascii() and key.isprintable()):
        raise InvalidRequest(N_("Idempotency-Key must have %(least)s to %(most)s characters.", least=least, most=most))
    return Once(key.encode(), json.dumps(body, sort_keys=True).encode())


def this_request() -> Request:
    """The request object itself: each access through Flask's proxy calls five functions."""
    asking: Request = request._get_current_object()  # type: ignore[attr-defined]
    return asking


def _pairs(request: Request) -> list[tuple[Any, Any]]:
    """Names and values as received. A name may appear twice."""
    request.max_content_length = request.max_form_memory_size = MAX_BODY + 1
    # Read completely before parsing: without a Content-Length, Werkzeug would cut a long body and parse the rest.
    body = request.get_data()
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge
    if _is_json(request):
        return _json_pairs(body)
    # The app may have read the form before us, and then no body is left.
    size = request.content_length or 0
    if size > MAX_BODY:
        raise RequestEntityTooLarge
    if not (request.mimetype or size or body):
        return []
    if request.mimetype not in _FORMS:
        raise UnsupportedMediaType
    if request.files:
        raise InvalidRequest(N_("A file is not expected here."))
    return list(request.form.items(multi=True))


def _is_json(asking: Request) -> bool:
    # As almost all clients write it, which needs no parsing.
    return asking.environ.get("CONTENT_TYPE") == "application/json" or asking.mimetype == "application/json"


def _refuse_unknown(name: str | None, known: list[str], closeness: float) -> None:
    """
    :param closeness: similarity to a known name, from 0 to 1, from which a name is refused.
    """
    # A broken form has fields without a name, and half of a surrogate pair could not be written into an answer.
    shown = (name or "")[:64].encode(errors="replace").decode()
    if nearest := difflib.get_close_matches(shown, known, 1, closeness):
        raise InvalidRequest(
            N_("%(name)s is not expected here. Did you mean %(nearest)s?", name=shown, nearest=nearest[0])
        )
    if closeness == 0:
        raise InvalidRequest(N_("%(name)s is not expected here.", name=shown))


def _read_flag(member: Member, value: Any, is_form: bool) -> str:
    """In forms any text means true, and a missing field false."""
    if not isinstance(value, str if is_form else bool):
        raise InvalidRequest(N_("%(name)s must be true or false.", name=member.name))
    return str(value) if value else ""


def _checked(member: Member, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(N_("%(name)s must be a string.", name=member.name))
    if len(value) > member.most:
        raise InvalidRequest(N_("%(name)s is too long.", name=member.name))
    if len(value) < member.least:
        raise InvalidRequest(N_("%(name)s must not be empty.", name=member.name))
    return value


def _own_origins(base_url: str | None) -> tuple[str | None, ...]:
    return own_origin(), base_url


def _json_pairs(data: bytes) -> list[tuple[str, Any]]:
    try:
        # Each object becomes a tuple of pairs, because a dict would hide duplicate names.
        root = _PAIRS.decode(data.decode())
    except (ValueError, RecursionError):
        raise InvalidRequest(N_("The body is not valid JSON.")) from None
    if not isinstance(root, tuple):
        raise InvalidRequest(N_("The body must be a JSON object."))
    return list(root)
