"""What a browser keeps for us in its session: handles, proofs and the like.

None of it is believed for being there: what matters is signed, and the store has the last word.
Neither a code, nor anything made from one, nor a counter is among it.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, MutableMapping
from typing import Any

from flask import has_request_context, request, session

from ..crypto.payloads import Client, Proof, Requirement
from ..networks import network_of, tell_of_proxy
from ..state import AppState, current_state
from .known_browser import known_browsers
from .known_browser import remember as remember_browser

_KEY = "_otp"
#: Characters for all handles of a session, and for all requirements.
_ROOM = 1200
#: How a verification may go on. One is enough, and two long ones would burst the cookie: the newest stays.
_WAYS_ON = ("next", "repeat")


def client(state: AppState) -> Client:
    """Who asks, by the current request if there is one."""
    if not has_request_context():
        return Client()
    return Client(network(), _session_secret(), tuple(known_browsers(state)))


def network() -> str | None:
    """The network that asks; ``None`` outside a request."""
    if not has_request_context():
        return None
    tell_of_proxy(request.environ)
    return network_of(request.remote_addr)


def set(kind: str, purpose: str, value: str, session: MutableMapping[str, Any] = session) -> None:
    """Keep a ``challenge``, ``proof``, ``requirement``, ``next`` or ``repeat`` of a purpose in the session."""
    kept = _kept(session)
    if kind in _WAYS_ON:
        kept = {name: table for name, table in kept.items() if name not in _WAYS_ON}
    table = _table(kept, kind) | {purpose: value}
    if kind in ("challenge", "requirement"):
        # A cookie that is too long is dropped whole by the browser, so the others make room for this one.
        for other in [name for name in table if name != purpose]:
            if sum(map(len, table.values())) > _ROOM:
                del table[other]
    session[_KEY] = kept | {kind: table}


def get(kind: str, purpose: str) -> str | None:
    value = _table(_kept(), kind).get(purpose)
    return value if isinstance(value, str) else None


def get_all(kind: str) -> dict[str, str]:
    return _table(_kept(), kind)


def delete(kind: str, purpose: str) -> None:
    kept = _kept()
    table = _table(kept, kind)
    if purpose in table:
        session[_KEY] = kept | {kind: _without(table, purpose)}


def requirement(purpose: str) -> Requirement | None:
    """What the guard asked of this session for the purpose, while that is fresh."""
    return load_requirement(get("requirement", purpose))


def load_requirement(token: str | None) -> Requirement | None:
    state = current_state()
    asked = state.tokens.load_requirement(token)
    if asked is None or asked.expires_at <= state.clock() or asked.user != state.own_identifier():
        return None
    return asked


def store_proof(state: AppState, proof: Proof, token: str, bucket: bytes) -> None:
    """After a verification: keep the proof, renew the session, and know this browser from now on.

    :raises StoreUnavailable: the session's earlier proof could not be ended.
    """
    purpose, kept = proof.purpose, _kept()
    proofs = _table(kept, "proof")
    earlier = state.tokens.load_proof(proofs.get(purpose))
    if earlier is not None:
        # Nobody could log it out any more, once the session has forgotten it.
        state.end(earlier)
    left = {kind: _without(_table(kept, kind), purpose) for kind in ("challenge", "requirement") if kind in kept}
    # Whoever planted or saw the session from before must not share the one from now on.
    renewed = {"secret": _new_secret(), "proof": proofs | {purpose: token}}
    session[_KEY] = kept | left | renewed
    regenerate = getattr(state.app.session_interface, "regenerate", None)
    if regenerate is not None:
        regenerate(session)
    checked_proofs(state).pop(purpose, None)
    remember_browser(state, proof, bucket)


def checked_proofs(state: AppState) -> dict[str, Proof | None]:
    """The proofs that were found good in this request, by purpose; ``None`` where none was."""
    # By app too, since one may hand its environ on to another.
    found: dict[str, Proof | None] = request.environ.setdefault(f"flask_otp.passed.{id(state)}", {})
    return found


def _kept(session: MutableMapping[str, Any] = session) -> dict[str, Any]:
    kept = session.get(_KEY)
    return kept if isinstance(kept, dict) else {}


def _table(kept: dict[str, Any], kind: str) -> dict[str, str]:
    table = kept.get(kind)
    return table if isinstance(table, dict) else {}


def _without(table: dict[str, str], purpose: str) -> dict[str, str]:
    return {name: value for name, value in table.items() if name != purpose}


def _session_secret() -> bytes:
    secret = _kept().get("secret")
    if not isinstance(secret, str):
        secret = _new_secret()
        session[_KEY] = _kept() | {"secret": secret}
    return urlsafe_b64decode(secret)


def _new_secret() -> str:
    return urlsafe_b64encode(secrets.token_bytes(18)).decode()


def bearer_proof(state: AppState) -> Proof | None:
    """The proof in ``Authorization: Bearer``; a bearer token that is not ours is simply none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return state.tokens.load_proof(token.strip()) if scheme.lower() == "bearer" else None


def proofs(state: AppState, purpose: str) -> Iterable[Proof]:
    for proof in (bearer_proof(state), state.tokens.load_proof(get("proof", purpose))):
        if proof is not None:
            yield proof
