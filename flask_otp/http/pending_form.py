"""A browser's form that the guard refused: kept, and sent again when the person has verified and says so.

It waits in the session, sealed, so the server stores nothing and the cookie shows nothing. We never send it:
our page holds its fields, and the person's click posts them to the view, whose guard looks at everything anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from flask import request

from ..crypto.payloads import Handle, Proof, Requirement
from ..errors import accepts_html
from ..state import AppState
from ..urls import is_safe_path
from . import companions, session
from .requests import is_own_page, request_path

#: Characters of the token, and so bytes of the form at most. It takes the place of a ``next`` in the cookie.
MAX_KEPT = 1024
#: Characters of the pseudonym of a sender.
_SENDER = 16
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
    #: Pseudonym of whom the first code after it went to; empty: none has been asked for yet.
    sender: str = ""

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
    _save_companion(state, kept, token)
    for other in companions.too_many(state, "repeat"):
        companions.drop(state, "repeat", other.id)
    return True


def tie(state: AppState, handle: Handle) -> None:
    """A code was sent: what this browser keeps for just that is tied to whom it went to, or is theirs no more.

    On a shared machine, whoever asks for a code next must not read what the person before has filled in.
    """
    sender = _sender(handle)
    for kept in list(_all(state, handle.purpose)):
        if kept.context != handle.context or kept.sender == sender:
            continue
        is_own = _load(state, session.get("repeat", kept.purpose)) == kept
        if kept.sender:
            companions.drop(state, "repeat", id_of(kept))
            if is_own:
                session.delete("repeat", kept.purpose)
        else:
            tied = replace(kept, sender=sender)
            token = _dump(state, tied)
            _save_companion(state, tied, token)
            if is_own:
                session.set("repeat", kept.purpose, token)


def _save_companion(state: AppState, kept: Repeat, token: str) -> None:
    companions.save(state, "repeat", id_of(kept), token, life=kept.expires_at - int(state.clock()))


def _sender(of: Handle | Proof) -> str:
    return of.keys.tag(of.subject, b"kept form").hex()


def find(
    state: AppState, purpose: str, *, id: str | None = None, new: Proof | None = None
) -> tuple[Repeat, Proof] | None:
    """What this browser keeps for the purpose, and its proof for just that, while both are fresh.

    The store was not asked whether the proof was ended; nor does it have to be one that the view's guard accepts.

    :param id: the form that an address names; by default any.
    :param new: the proof that it must be for; by default any of this browser.
    """
    now, own = state.clock(), state.own_identifier()
    for kept in _all(state, purpose):
        for proof in session.proofs(state, purpose) if new is None else (new,):
            bound = (kept.purpose, kept.context, kept.host) == (proof.purpose, proof.context, request.host)
            in_time = now < min(kept.expires_at, proof.expires_at)
            is_sender = kept.sender in ("", _sender(proof)) and _is_the_same_person(kept, proof, own)
            if bound and in_time and is_sender and id in (None, id_of(kept)):
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
    # With a sender it is as long as without one: what fits once fits always.
    sender = kept.sender or "-" * _SENDER
    values = (kept.purpose, kept.host, kept.path, kept.context_values, kept.fields, kept.expires_at, kept.user, sender)
    return state.tokens.dump_repeat(kept.context, values)


def _load(state: AppState, token: str | None) -> Repeat | None:
    def build(context: bytes, values: list[Any]) -> Repeat:
        purpose, host, path, context_values, fields, expires_at, user, sender = values
        fields = tuple(fields)
        return Repeat(purpose, host, path, context, context_values, fields, expires_at, user, sender.strip("-"))

    return state.tokens.load_repeat(token, build)
