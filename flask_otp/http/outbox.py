"""``GET /otp/outbox``: a developer's page with the last messages of this process, codes included.

It is not in the table of routes, and so not in the OpenAPI document: it is no part of the API. Whenever a request is
refused, the answer is the 404 of an unknown path.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from ..errors import PAGE_HEADERS
from ..models import Message
from ..state import AppState, current_state

#: A page of another site may point its own host name at this machine (DNS rebinding). Then ``Host`` has that name.
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)

#: Headers in which proxies name their client: X-Forwarded-*, Forwarded, Via, X-Real-IP, Client-IP, CF-Connecting-IP and
#: the like. A browser on this machine sends none of them.
_FORWARDING = re.compile(r"HTTP_(.*FORWARD.*|X_ORIGINAL_.+|VIA|(.+_)?(IP|ADDR|ADDRESS))")

_FRAME_HEADERS = {
    # A mail may hold anything that a template or the app's message_builder wrote. It runs nothing, loads nothing from
    # other hosts, submits nothing, and has an origin of its own. A srcdoc frame would have our policy instead, which
    # forbids the mail's inline styles.
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
}


def add_routes(blueprint: Blueprint) -> None:
    """Add the page, and the HTML part of one message, which the page shows in a frame."""
    for path, endpoint, view in (("/outbox", "outbox", show), ("/outbox/<id>", "outbox_html", show_html)):
        blueprint.add_url_rule(path, endpoint, view, methods=["GET"], provide_automatic_options=False)


def show() -> Response:
    """The page, in English only, because only developers see it.

    :raises NotFound: the page is off, or the request may not come from this machine.
    """
    state = current_state()
    page = state.render_page("outbox.html", messages=_messages(state))
    policy = f"{PAGE_HEADERS['Content-Security-Policy']}; frame-src 'self'"
    return Response(page, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def show_html(id: str) -> Response:
    """The HTML part of a message.

    :raises NotFound: as above, or the message is not kept any more.
    """
    for message in _messages(current_state()):
        if message.id == id and message.html:
            return Response(message.html, content_type="text/html; charset=utf-8", headers=_FRAME_HEADERS)
    raise NotFound


def _messages(state: AppState) -> list[Message]:
    outbox = state.delivery.transport.outbox
    if not (outbox.is_on and is_from_this_machine(request.environ)):
        raise NotFound
    return outbox.messages()


def is_from_this_machine(environ: Mapping[str, Any]) -> bool:
    """Whether a browser on this machine sent the request, without a proxy, for itself.

    Everything must agree, both as the server received it and as the app's ``ProxyFix`` changed it. A request of another
    site's script has an ``Origin``, and the app's CORS settings might let that script read the answer.
    """
    received = {**environ, **environ.get("werkzeug.proxy_fix.orig", {})}
    return (
        all(_is_loopback(each.get("REMOTE_ADDR")) for each in (environ, received))
        and all(_LOOPBACK_HOST.fullmatch(each.get("HTTP_HOST") or "") for each in (environ, received))
        and "HTTP_ORIGIN" not in environ
        and not any(_FORWARDING.fullmatch(name) for name in environ)
    )


def _is_loopback(address: str | None) -> bool:
    """Whether a peer's address is this machine's. A Unix socket has no address: its peer is a proxy."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
