"""Detects that the app has cleared its session, as at its own log-out, and clears our cookies too."""

from __future__ import annotations

from typing import Any

from flask import Response, has_request_context
from flask.globals import request_ctx

from ...state import AppState, current_state
from .. import companions
from ..companions import Companion
from ..requests import this_request

#: The key of our part of the session.
KEY = "_otp"
_WRITTEN = "flask_otp.session_written"


def finish(response: Response) -> Response:
    """Runs after the app's last change of the session and before it is saved: write the companion cookies.

    It is called after every view of the app, so it takes as few steps as it can where nothing of ours has changed.
    """
    context: Any = request_ctx._get_current_object()  # type: ignore[attr-defined]
    asking, session = context.request, _unseen(context)
    if companions.has_pending(asking) or session.modified:
        notice_a_cleared_session()
        if companions.has_pending(asking):
            companions.write(current_state(), response, permanent=bool(session.permanent))
    return response


def notice_a_cleared_session() -> None:
    """If the app has cleared its session, as at its own log-out, clear our companion cookies too.

    A late response that removed our part is a different case: then the session arrived without it.
    """
    if not has_request_context() or KEY in unseen_session():
        return
    asking = this_request()
    if not (asking.cookies or companions.has_pending(asking)):
        return  # there is nothing to clear
    state = current_state()
    if companions.have_come(state) and (_WRITTEN in vars(asking) or _came_with_ours(state)):
        companions.drop_all(state)
        vars(asking).pop(_WRITTEN, None)


def companions_of(state: AppState, kind: str) -> list[Companion]:
    """This browser's companion cookies, unless the app has cleared the session in this request."""
    notice_a_cleared_session()
    return companions.find_all(state, kind)


def note_our_own_write() -> None:
    if has_request_context():
        vars(this_request())[_WRITTEN] = True


def _came_with_ours(state: AppState) -> bool:
    before: Any = state.app.session_interface.open_session(state.app, this_request())
    return bool(before) and (KEY in before or not unseen_session())


def unseen_session() -> Any:
    """The session, without counting this access: each access adds ``Vary: Cookie`` to the response."""
    return _unseen(request_ctx._get_current_object())  # type: ignore[attr-defined]


def _unseen(context: Any) -> Any:
    # Flask 3.1.3 counts accesses through the public name.
    seen = context.__dict__.get("_session")
    return context.session if seen is None else seen
