"""The page behind a message's link: one button, in the browser that asked for the code.

Mail scanners open links, run scripts and press buttons, and any program that fetches a link may be one. So opening one
asks the store nothing and counts nothing, and only the session that holds the challenge gets a form.
"""

from __future__ import annotations

import hmac

from flask import Response, request, url_for
from werkzeug.exceptions import NotFound

from ..crypto.payloads import Handle
from ..languages import tell_language
from ..state import AppState, current_state
from . import session


def show(secret: str) -> Response:
    """The page for a link: a button where this session holds its challenge, else where to go with it."""
    state = current_state()
    if not state.settings.links:
        raise NotFound
    purpose = request.args.get("purpose", "login")
    handle = _challenge(state, purpose, secret)
    again = purpose if purpose in state.settings.purposes and purpose != "login" else None
    page = state.render_page(
        "link.html",
        purpose=purpose,
        link=secret,
        challenge=None if handle is None else state.service.describe(handle),
        context_values=handle.context_values
        if handle is not None and isinstance(handle.context_values, dict)
        else None,
        verify_url=url_for(".verify"),
        start_url=url_for(".start", purpose=again),
    )
    # The address must not go on in a Referer, not even to our own log; "no-referrer" would take the form's Origin too.
    response = Response(page, headers={"Referrer-Policy": "strict-origin"})
    tell_language(response)
    return response


def _challenge(state: AppState, purpose: str, secret: str) -> Handle | None:
    """This session's challenge, if the link is of it. Nobody guesses 144 bits, so looking is not an attempt."""
    handle = state.tokens.load_handle(session.get("challenge", purpose))
    if handle is None or handle.expires_at <= state.clock():
        return None
    return handle if hmac.compare_digest(secret.encode(), handle.link.encode()) else None
