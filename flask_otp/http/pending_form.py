"""A browser's form that the guard refused: kept, and sent again when the person has verified and says so.

It waits in the session, sealed, so the server stores nothing and the cookie shows nothing. We never send it:
our page holds its fields, and the person's click posts them to the view, whose guard looks at everything anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import request

from ..crypto.payloads import Proof, Requirement
from ..errors import accepts_html
from ..state import AppState
from ..urls import is_safe_path
from . import companions, session
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
    companions.drop(state, "repeat", _id(request.host, request_path(), asked.context))
    kept = _from_request(asked)
    if kept is None or len(token := _dump(state, kept)) > MAX_KEPT:
        return False
    session.set("repeat", asked.purpose, token)
    # Another tab may keep a form for another context: each has a cookie of its own.
    companions.save(state, "repeat", id_of(kept), token, life=kept.expires_at - int(state.clock()))
    for other in companions.too_many(state, "repeat"):
        companions.drop(state, "repeat", other.id)
    return True


def find(state: AppState, purpose: str, id: str | None = None) -> tuple[Repeat, Proof] | None:
    """What this browser keeps for the purpose, and its proof for just that, while both are fresh.

    The store was not asked whether the proof was ended; nor does it have to be one that the view's guard accepts.

    :param id: the form that an address names; by default any.
    """
    now, own = state.clock(), state.own_identifier()
    for kept in _all(state, purpose):
        for proof in session.proofs(state, purpose):
            bound = (kept.purpose, kept.context, kept.host) == (proof.purpose, proof.context, request.host)
            in_time = now < min(kept.expires_at, proof.expires_at)
            if bound and in_time and _is_the_same_person(kept, proof, own) and id in (None, id_of(kept)):
                return kept, proof
    return None


def forget_if_this_is_it(state: AppState, proof: Proof) -> None:
    """The guard lets the current request pass: if it is what was kept for the proof's purpose, that is done."""
    if request.method != "POST":
        return
    path, own = request_path(), session.get("repeat", proof.purpose)
    kept = _load(state, own)
    if own is not None and (kept is None or (kept.path == path and kept.context == proof.context)):
        session.delete("repeat", proof.purpose)
    companions.drop(state, "repeat", _id(request.host, path, proof.context))


def id_of(kept: Repeat) -> str:
    """What an address calls a kept form."""
    return _id(kept.host, kept.path, kept.context)


def _id(host: str, path: str, context: bytes) -> str:
    return companions.id_of(hashlib.sha256(b"\0".join([host.encode(), path.encode(), context])).digest())


def _all(state: AppState, purpose: str) -> Iterator[Repeat]:
    """The forms that this browser keeps for a purpose: the session's, then those of its other tabs."""
    tokens = [session.get("repeat", purpose), *(each.token for each in companions.find_all(state, "repeat"))]
    for token in dict.fromkeys(tokens):
        kept = _load(state, token)
        if kept is not None and kept.purpose == purpose:
            yield kept


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
