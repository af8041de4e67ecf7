"""A browser's form that the guard refused: kept, and sent again when the person has verified and says so.

It waits in the session, sealed, so the server stores nothing and the cookie shows nothing. We never send it:
our page holds its fields, and the person's click posts them to the view, whose guard looks at everything anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flask import request

from ..crypto.payloads import Proof, Requirement
from ..errors import accepts_html
from ..state import AppState
from ..urls import is_safe_path
from . import session
from .requests import is_own_page, request_path

#: Characters of the token, and so bytes of the form at most. It takes the place of a ``next`` in the cookie.
MAX_KEPT = 1024
#: What a hidden field would give back in another form: a NUL, or a line break that is not a form's own.
_CHANGED_BY_HTML = re.compile(r"\0|\r(?!\n)|(?<!\r)\n")


@dataclass(frozen=True)
class Repeat:
    """A form that the guard refused."""

    purpose: str
    #: Where it was posted: there alone it may be sent again.
    host: str
    #: Path and query.
    path: str
    context: bytes
    #: The context's own values, to be shown to the person.
    context_values: Any
    #: Names and values in turn.
    fields: tuple[str, ...]
    expires_at: int
    #: Who was signed in when the guard refused, where the app says so.
    user: str | None

    def __repr__(self) -> str:
        return f"<Repeat {self.purpose}>"


def keep(state: AppState, asked: Requirement) -> bool:
    """Keep the form of the current request, which the guard refuses. ``False``: it cannot be repeated.

    Only what a page of this origin has sent: any other site could leave an order of its own here, for the person to
    confirm. It cannot even take away what is kept already.
    """
    if request.method != "POST" or not (accepts_html() and state.is_mounted and is_own_page(state.settings.base_url)):
        return False
    # What was sent before is not what the person wants now.
    session.delete("repeat", asked.purpose)
    kept = _from_request(asked)
    if kept is None or len(token := _dump(state, kept)) > MAX_KEPT:
        return False
    session.set("repeat", asked.purpose, token)
    return True


def find(state: AppState, purpose: str) -> tuple[Repeat, Proof] | None:
    """What this session keeps for the purpose, and its proof for just that, while both are fresh.

    The store was not asked whether the proof was ended; nor does it have to be one that the view's guard accepts.
    """
    kept = _load(state, session.get("repeat", purpose))
    if kept is None:
        return None
    proof = state.tokens.load_proof(session.get("proof", purpose))
    if proof is None or state.clock() >= min(kept.expires_at, proof.expires_at):
        return None
    bound = (kept.purpose, kept.context, kept.host) == (proof.purpose, proof.context, request.host)
    return (kept, proof) if bound and _is_the_same_person(kept, proof, state.own_identifier()) else None


def forget_if_this_is_it(state: AppState, purpose: str) -> None:
    """The guard lets the current request pass: if it is what was kept for the purpose, that is done."""
    token = session.get("repeat", purpose) if request.method == "POST" else None
    if token is None:
        return
    kept = _load(state, token)
    if kept is None or kept.path == request_path():
        session.delete("repeat", purpose)


def _from_request(asked: Requirement) -> Repeat | None:
    """The current form, or ``None``: it has files, is long or of unknown length, or would not come back the same."""
    size = request.content_length
    if request.mimetype != "application/x-www-form-urlencoded" or size is None or size > MAX_KEPT:
        return None
    path = request_path()
    fields = tuple(text for pair in request.form.items(multi=True) for text in pair)
    if not is_safe_path(path) or "" in fields[::2] or any(map(_CHANGED_BY_HTML.search, fields)):
        return None
    return Repeat(
        asked.purpose, request.host, path, asked.context, asked.context_values, fields, asked.expires_at, asked.user
    )


def _is_the_same_person(kept: Repeat, proof: Proof, own: str | None) -> bool:
    # Who was not signed in may be now, by this very verification.
    return own == kept.user or (kept.user is None and own == proof.identifier)


def _dump(state: AppState, kept: Repeat) -> str:
    values = (kept.purpose, kept.host, kept.path, kept.context_values, kept.fields, kept.expires_at, kept.user)
    return state.tokens.dump_repeat(kept.context, values)


def _load(state: AppState, token: str | None) -> Repeat | None:
    def build(context: bytes, values: list[Any]) -> Repeat:
        purpose, host, path, context_values, fields, expires_at, user = values
        return Repeat(purpose, host, path, context, context_values, tuple(fields), expires_at, user)

    return state.tokens.load_repeat(token, build)
