"""What a browser keeps for us in its session: handles, proofs and the like.

None of it is believed for being there: what matters is signed, and the store has the last word.
Neither a code, nor anything made from one, nor a counter is among it.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
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
    remember_browser(state, proof, bucket)


@dataclass(frozen=True)
class Checked:
    """What a request found for a purpose: a good proof, or none."""

    proof: Proof | None
    #: Who was signed in, and which proofs the client showed.
    shown: tuple[str | None, ...]
    #: How often something had been ended before (:class:`~flask_otp.state.Trust`).
    ends: int
    #: The guard has spent the proof for this request, so the store does not know it any more.
    is_spent: bool = False


def checked_proofs(state: AppState) -> dict[str, Checked]:
    """What this request has found already, by purpose.

    It belongs to the request object. An environ may be handed on: Flask-SocketIO makes the request of each event from
    the environ of the handshake, and a view may give its own to the request of another client.
    """
    by_app: dict[int, dict[str, Checked]] = vars(request).setdefault("_flask_otp_checked", {})
    return by_app.setdefault(id(state), {})


def note_checked(state: AppState, purpose: str, proof: Proof | None, ends: int, *, is_spent: bool = False) -> None:
    """Remember for the rest of this request what was found for the purpose, when ``ends`` things had been ended."""
    checked_proofs(state)[purpose] = Checked(proof, _shown(state, purpose), ends, is_spent)


def find_checked(state: AppState, purpose: str) -> Checked | None:
    """What this request has found for the purpose, if that is still so.

    It is not after another user has signed in, after the proof's end, and after the session has got another proof.
    """
    found = checked_proofs(state).get(purpose)
    if found is None or found.shown != _shown(state, purpose):
        return None
    if found.proof is None or found.is_spent or found.ends == state.trust.ends:
        is_good = True
    else:
        # Something was ended since, perhaps this one.
        is_good = state.vouches(found.proof)
    return found if is_good and (found.proof is None or state.clock() < found.proof.expires_at) else None


def forget_checked(state: AppState, identifier: str) -> None:
    """The identifier was revoked: what this request has found of it is not so any more."""
    checked = checked_proofs(state)
    for purpose, found in list(checked.items()):
        if found.proof is not None and found.proof.identifier == identifier:
            del checked[purpose]


def _shown(state: AppState, purpose: str) -> tuple[str | None, ...]:
    return state.own_identifier(), request.headers.get("Authorization"), get("proof", purpose)


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
