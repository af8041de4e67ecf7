"""A browser's form that the guard refused. It is kept, and submitted again when the person has verified and agrees.

It waits in the session, sealed, so the server stores nothing and the cookie reveals nothing. We never submit it
ourselves: our page holds its fields, and the person's click posts them to the view, whose guard checks everything
again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from flask import request

from ..crypto.payloads import Handle, Proof, Requirement
from ..errors import accepts_html
from ..state import AppState
from ..urls import is_safe_path
from . import companions, session
from .requests import is_own_page, request_path

#: Maximum characters of the token, and so maximum bytes of the form. It replaces a ``next`` in the cookie.
MAX_KEPT = 1024
#: Characters of a sender's pseudonym.
_SENDER = 16
#: Characters that a hidden field would change: a NUL, or a line break in another form than a form's own.
_CHANGED_BY_HTML = re.compile(r"\0|\r(?!\n)|(?<!\r)\n")


@dataclass(frozen=True)
class Repeat:
    """A form that the guard refused."""

    purpose: str
    #: The host that it was posted to. It may be submitted again only there.
    host: str
    #: Path and query.
    path: str
    context: bytes
    #: The context values, to show them to the person.
    context_values: Any
    #: Names and values in turn.
    fields: tuple[str, ...]
    expires_at: int
    #: The user who was signed in when the guard refused, if the app tells it.
    user: str | None
    #: Pseudonym of the identifier that got the first code after it. Empty until a code is requested.
    sender: str = ""

    def __repr__(self) -> str:
        return f"<Repeat {self.purpose}>"


def keep(state: AppState, asked: Requirement) -> bool:
    """Keep the form of the current request, which the guard refuses. Returns ``False`` if it cannot be repeated.

    Only forms from a page of this origin are kept: another site could otherwise leave its own order here for the person
    to confirm. Nor can another site remove a form that is kept already.
    """
    if request.method != "POST" or not (accepts_html() and state.is_mounted and is_own_page(state.settings.base_url)):
        return False
    # A form submitted earlier is no longer what the person wants.
    session.delete("repeat", asked.purpose)
    companions.drop(state, "repeat", _id(request.host, request_path(), asked.context))
    kept = _from_request(asked)
    if kept is None or len(token := _dump(state, kept)) > MAX_KEPT:
        return False
    session.set("repeat", asked.purpose, token)
    # Another tab may keep a form for another context, so each form has its own cookie.
    _save_companion(state, kept, token)
    for other in companions.too_many(state, "repeat"):
        companions.drop(state, "repeat", other.id)
    return True


def tie(state: AppState, handle: Handle) -> None:
    """A code was sent: bind the matching kept form to its identifier, or drop the form if it is bound to another one.

    On a shared machine, the next person who requests a code must not see what the previous person filled in.
    """
    for kept in list(_all(state, handle.purpose)):
        sender = _sender(handle)
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
    state: AppState, purpose: str, *, id: str | None = None, new: str | None = None
) -> tuple[Repeat, Proof] | None:
    """This browser's kept form for the purpose, and its matching proof, while both are fresh.

    The store is not asked whether the proof was ended, and the view's guard may still refuse it.

    :param id: the form's name in a URL. By default any form.
    :param new: the token of the proof that it must be for. By default any proof of this browser.
    """
    now, own = state.clock(), state.own_identifier()
    for kept in _all(state, purpose):
        for proof in session.proofs(state, purpose) if new is None else _proofs(state, new):
            bound = (kept.purpose, kept.context, kept.host) == (proof.purpose, proof.context, request.host)
            in_time = now < min(kept.expires_at, proof.expires_at)
            is_sender = kept.sender in ("", _sender(proof)) and _is_the_same_person(kept, proof, own)
            if bound and in_time and is_sender and id in (None, id_of(kept)):
                return kept, proof
    return None


def _proofs(state: AppState, token: str) -> Iterable[Proof]:
    proof = state.tokens.load_proof(token)
    return () if proof is None else (proof,)


def forget_if_this_is_it(state: AppState, proof: Proof) -> None:
    """The guard lets the current request pass: if it is the form kept for the proof's purpose, drop that form."""
    if request.method != "POST":
        return
    path, own = request_path(), session.get("repeat", proof.purpose)
    kept = _load(state, own)
    if own is not None and (kept is None or (kept.path == path and kept.context == proof.context)):
        session.delete("repeat", proof.purpose)
    companions.drop(state, "repeat", _id(request.host, path, proof.context))


def id_of(kept: Repeat) -> str:
    """The name of a kept form in URLs."""
    return _id(kept.host, kept.path, kept.context)


def _id(host: str, path: str, context: bytes) -> str:
    return companions.id_of(hashlib.sha256(b"\0".join([host.encode(), path.encode(), context])).digest())


def _all(state: AppState, purpose: str) -> Iterator[Repeat]:
    """The forms that this browser keeps for a purpose: first the session's, then those of its other tabs."""
    tokens = [session.get("repeat", purpose), *[each.token for each in companions.find_all(state, "repeat")]]
    for token in dict.fromkeys(tokens):
        kept = _load(state, token)
        if kept is not None and kept.purpose == purpose:
            yield kept


def _from_request(asked: Requirement) -> Repeat | None:
    """The current form, or ``None`` if it has files, is too long or of unknown length, or would change."""
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
    # A user who was not signed in may be so now, through this verification.
    return own == kept.user or (kept.user is None and own == proof.identifier)


def _dump(state: AppState, kept: Repeat) -> str:
    # The token has the same length with and without a sender, so it fits always or never.
    sender = kept.sender or "-" * _SENDER
    values = (kept.purpose, kept.host, kept.path, kept.context_values, kept.fields, kept.expires_at, kept.user, sender)
    return state.tokens.dump_repeat(kept.context, values)


def _load(state: AppState, token: str | None) -> Repeat | None:
    def build(context: bytes, values: list[Any]) -> Repeat:
        purpose, host, path, context_values, fields, expires_at, user, sender = values
        fields = tuple(fields)
        return Repeat(purpose, host, path, context, context_values, fields, expires_at, user, sender.strip("-"))

    return state.tokens.load_repeat(token, build)
