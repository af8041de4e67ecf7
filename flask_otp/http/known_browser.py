"""The cookie of a known browser: which subjects it has verified before. It is signed, and the store decides."""

from __future__ import annotations

import secrets

from flask import Response, after_this_request, request

from ..crypto.payloads import Known, Proof
from ..state import AppState
from ..stores.base import KNOWN_FOR

_KNOWN_SUBJECTS = 6


def _is_secure(state: AppState) -> bool:
    app = state.app
    return app.session_interface.get_cookie_secure(app)


def _cookie_name(state: AppState) -> str:
    return f"{'__Host-' if _is_secure(state) else ''}{state.settings.key_prefix}_known"


def known_browsers(state: AppState) -> list[Known]:
    oldest = (state.clock() - KNOWN_FOR) * 1000
    cookie = request.cookies.get(_cookie_name(state))
    return [known for known in state.tokens.load_known(cookie) if known.since > oldest]


def remember(state: AppState, proof: Proof, lane: bytes) -> None:
    tokens = state.tokens
    subject = tokens.keys.subject(proof.purpose, proof.identifier)
    known = known_browsers(state)
    # The lane stays the same, whatever cookies came along with the code: a new one would have an unspent budget.
    lane = lane or next((entry.lane for entry in known if entry.subject == subject), None) or secrets.token_bytes(8)
    newest = Known(subject, lane, int(proof.verified_at * 1000))
    others = [entry for entry in known if entry.subject != subject]
    cookie = tokens.dump_known([newest, *others][:_KNOWN_SUBJECTS])

    @after_this_request
    def set_cookie(response: Response) -> Response:
        response.set_cookie(
            _cookie_name(state),
            cookie,
            max_age=KNOWN_FOR,
            path="/",
            secure=_is_secure(state),
            httponly=True,
            samesite="Lax",
        )
        return response
