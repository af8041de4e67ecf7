"""What a browser keeps for us in its session: handles, proofs and the like.

None of it is believed for being there: what matters is signed, and the store has the last word.
Neither a code, nor anything made from one, nor a counter is among it.
"""

from __future__ import annotations

import builtins
import hashlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from flask import Response, has_request_context, request, session
from flask.globals import request_ctx

from ..crypto.payloads import Client, Handle, KnownBrowser, Proof, Requirement
from ..networks import network_of, tell_of_proxy
from ..state import AppState, current_state
from . import companions, csrf
from .companions import Companion
from .known_browser import known_browsers
from .known_browser import remember as remember_browser

_KEY = "_otp"
_WRITTEN = "flask_otp.session_written"
#: Characters for all handles of a session, and for all requirements.
_ROOM = 1200
#: Seconds after a verification in which an answer may still come late.
_LATE = 600
#: Seconds within which nobody is sent on to the same place a second time.
_ROUND = 10
#: How a verification may go on. One is enough, and two long ones would burst the cookie: the newest stays.
_WAYS_ON = ("next", "repeat")


def client(state: AppState) -> Client:
    """Who asks, by the current request if there is one."""
    if not has_request_context():
        return Client()
    return Client(network(), _session_secret(), tuple(known_browsers(state)))


def known(state: AppState) -> tuple[KnownBrowser, ...]:
    """What this browser has verified before."""
    return tuple(known_browsers(state)) if has_request_context() else ()


def network() -> str | None:
    """The network that asks; ``None`` outside a request."""
    if not has_request_context():
        return None
    tell_of_proxy(request.environ)
    return network_of(request.remote_addr)


def set(kind: str, purpose: str, value: str, session: MutableMapping[str, Any] = session) -> None:
    """Keep a ``challenge``, ``proof``, ``requirement``, ``next`` or ``repeat`` of a purpose in the session."""
    _notice_a_cleared_session()
    kept = _kept(session)
    if kind in _WAYS_ON:
        kept = {name: table for name, table in kept.items() if name not in _WAYS_ON}
    table = _table(kept, kind) | {purpose: value}
    if kind in ("challenge", "requirement"):
        # A cookie that is too long is dropped whole by the browser, so the others make room for this one.
        for other in [name for name in table if name != purpose]:
            if sum(map(len, table.values())) > _ROOM:
                del table[other]
    _keep(kept | {kind: table}, session)


def get(kind: str, purpose: str) -> str | None:
    value = _table(_kept(), kind).get(purpose)
    return value if isinstance(value, str) else None


def get_all(kind: str) -> dict[str, str]:
    return _table(_kept(), kind)


def delete(kind: str, purpose: str) -> None:
    kept = _kept()
    table = _table(kept, kind)
    if purpose in table:
        _keep(kept | {kind: _without(table, purpose)})


def _keep(kept: dict[str, Any], session: MutableMapping[str, Any] = session) -> None:
    """Write our part of the session, if that changes anything: each write takes back what other answers have set."""
    if session.get(_KEY) != kept:
        session[_KEY] = kept
        _note_our_own_write()


# Challenges


def store_challenge(state: AppState, token: str) -> None:
    """Keep a challenge: as the session's own of its purpose, and in a companion cookie."""
    handle = state.tokens.load_handle(token)
    if handle is None:
        return
    set("challenge", handle.purpose, token)
    id, left = challenge_id(handle), handle.expires_at - int(state.clock())
    companions.save(state, "challenge", id, token, life=left)
    for other in companions.too_many(state, "challenge"):
        companions.drop(state, "challenge", other.id)


def note_on_challenge(state: AppState, handle: Handle, token: str, note: str) -> None:
    """Let the code page say what has happened to a challenge of this browser: one letter, see :mod:`.pages`."""
    if find_challenge(state, challenge_id(handle)) is not None:
        left = handle.expires_at - int(state.clock())
        companions.save(state, "challenge", challenge_id(handle), token, life=left, note=note)


def challenge_id(handle: Handle) -> str:
    """What an address calls a challenge. It is worth nothing to anybody who has not its handle."""
    return companions.id_of(handle.challenge_id)


def find_challenge(state: AppState, id: str) -> str | None:
    """The challenge of this browser that an address names."""
    found = companions.find(state, "challenge", id)
    if found is not None:
        return found.token
    handles = ((token, state.tokens.load_handle(token)) for token in get_all("challenge").values())
    return next((token for token, handle in handles if handle is not None and challenge_id(handle) == id), None)


def challenge(state: AppState, purpose: str) -> str | None:
    """The challenge that this browser asked for last, for the purpose."""
    own = get("challenge", purpose)
    others = [each.token for each in _companions(state, "challenge") if _purpose_of(state, each.token) == purpose]
    # A late answer may have put an older one of them back into the session, or none at all.
    return others[0] if others and (own is None or own in others) else own


def challenges(state: AppState) -> list[str]:
    """Every challenge of this browser, the session's first."""
    return list(
        dict.fromkeys([*get_all("challenge").values(), *(each.token for each in _companions(state, "challenge"))])
    )


def purposes_of_challenges(state: AppState) -> builtins.set[str]:
    """What this browser holds challenges for."""
    return {purpose for token in challenges(state) if (purpose := _purpose_of(state, token)) is not None}


def drop_challenge(state: AppState, token: str) -> None:
    """Forget a challenge of this browser."""
    handle = state.tokens.load_handle(token)
    if handle is None:
        return
    companions.drop(state, "challenge", challenge_id(handle))
    own = state.tokens.load_handle(get("challenge", handle.purpose))
    if own is not None and own.challenge_id == handle.challenge_id:
        delete("challenge", handle.purpose)


def _companions(state: AppState, kind: str) -> list[Companion]:
    """Those of this browser, unless the app has cleared the session in this request."""
    _notice_a_cleared_session()
    return companions.find_all(state, kind)


def _purpose_of(state: AppState, token: str) -> str | None:
    handle = state.tokens.load_handle(token)
    return None if handle is None else handle.purpose


def may_send_on(state: AppState, purpose: str, where: str) -> bool:
    """Whether somebody may be sent there without a form. Not twice within seconds: that would go round for ever."""
    id = companions.id_of(hashlib.sha256(f"{purpose} {where}".encode()).digest())
    last = companions.find(state, "on", id)
    if last is not None and state.clock() * 1000 - last.saved_at < _ROUND * 1000:
        return False
    companions.save(state, "on", id, "", life=_ROUND)
    return True


# Requirements


def requirement(purpose: str) -> Requirement | None:
    """What the guard asked of this session for the purpose, while that is fresh."""
    return load_requirement(get("requirement", purpose))


def load_requirement(token: str | None) -> Requirement | None:
    state = current_state()
    asked = state.tokens.load_requirement(token)
    if asked is None or asked.expires_at <= state.clock() or asked.user != state.own_identifier():
        return None
    return asked


# Proofs


def store_proof(state: AppState, proof: Proof, token: str, bucket: bytes) -> None:
    """After a verification: keep the proof, renew the session, and know this browser from now on.

    :raises StoreUnavailable: an earlier proof of this browser could not be ended.
    """
    _notice_a_cleared_session()
    _end_what_it_replaces(state, proof)
    purpose = proof.purpose
    _save_proof(state, get("proof", purpose))
    kept = _kept()
    left = {"proof": _table(kept, "proof") | {purpose: token}}
    asked = load_requirement(get("requirement", purpose))
    if asked is None or asked.context == proof.context:
        left["requirement"] = _without(_table(kept, "requirement"), purpose)
    # Whoever planted or saw the session from before must not share the one from now on.
    _keep(kept | left | {"secret": new_secret()})
    regenerate = getattr(state.app.session_interface, "regenerate", None)
    if regenerate is not None:
        regenerate(session)
    csrf.renew()
    _save_proof(state, token)
    remember_browser(state, proof, bucket)


def _save_proof(state: AppState, token: str | None) -> None:
    """Give a proof its companion cookie, if it has none."""
    proof = state.tokens.load_proof(token)
    if proof is None or token is None:
        return
    id = companions.id_of(proof.proof_id)
    if companions.find(state, "proof", id) is None:
        companions.save(state, "proof", id, token, life=proof.expires_at - int(state.clock()))


def _end_what_it_replaces(state: AppState, new: Proof) -> None:
    """End this browser's earlier proofs for just the same, and those that there is no more room for.

    Nobody could log them out any more, once the browser has forgotten them.
    """
    replaced = [proof for proof in _own_proofs(state) if (proof.purpose, proof.context) == (new.purpose, new.context)]
    crowded_out = (state.tokens.load_proof(each.token) for each in companions.too_many(state, "proof"))
    # A proof for one payment has less to lose than the one that somebody is signed in by.
    for proof in (*replaced, *(proof for proof in crowded_out if proof is not None and proof.context)):
        state.end(proof)
        drop_proof(state, proof)


def drop_proof(state: AppState, proof: Proof) -> None:
    """Forget a proof of this browser."""
    companions.drop(state, "proof", companions.id_of(proof.proof_id))
    own = state.tokens.load_proof(get("proof", proof.purpose))
    if own is not None and own.proof_id == proof.proof_id:
        delete("proof", proof.purpose)


def heal(state: AppState, proof: Proof) -> None:
    """Put a proof of this browser back into the session, if a late answer has taken it from there.

    To be called where the session may be written.
    """
    is_own = companions.find(state, "proof", companions.id_of(proof.proof_id)) is not None
    if is_own and get("proof", proof.purpose) is None:
        set("proof", proof.purpose, state.tokens.dump_proof(proof))


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
    tokens = [companion.token for companion in _companions(state, "proof")]
    return state.own_identifier(), request.headers.get("Authorization"), get("proof", purpose), *tokens


def _kept(session: MutableMapping[str, Any] = session) -> dict[str, Any]:
    kept = session.get(_KEY)
    return kept if isinstance(kept, dict) else {}


def _table(kept: dict[str, Any], kind: str) -> dict[str, str]:
    table = kept.get(kind)
    return table if isinstance(table, dict) else {}


def _without(table: dict[str, str], purpose: str) -> dict[str, str]:
    return {name: value for name, value in table.items() if name != purpose}


def propose_secret(secret: str) -> None:
    """Take the session's secret from the form that this browser sends, if the session has none yet.

    The page of the form may not have been allowed to write the session. Two clicks on its button are of one session.
    """
    if not isinstance(_kept().get("secret"), str) and re.fullmatch("[0-9A-Za-z_-]{24}", secret):
        _notice_a_cleared_session()
        _keep(_kept() | {"secret": secret})


def new_secret() -> str:
    """A secret for a session or, until that may be written, for a form."""
    return urlsafe_b64encode(secrets.token_bytes(18)).decode()


def _session_secret() -> bytes:
    secret = _kept().get("secret")
    if not isinstance(secret, str):
        secret = new_secret()
        _notice_a_cleared_session()
        _keep(_kept() | {"secret": secret})
    return urlsafe_b64decode(secret)


def bearer_proof(state: AppState) -> Proof | None:
    """The proof in ``Authorization: Bearer``; a bearer token that is not ours is simply none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return state.tokens.load_proof(token.strip()) if scheme.lower() == "bearer" else None


def proofs(state: AppState, purpose: str) -> Iterable[Proof]:
    """The proofs that this client shows for a purpose: its bearer token, then what its browser holds."""
    bearer = bearer_proof(state)
    if bearer is not None:
        yield bearer
    for proof in _own_proofs(state):
        if proof.purpose == purpose:
            yield proof


def all_proofs(state: AppState) -> list[Proof]:
    """Every proof that this client shows, its bearer token included."""
    bearer = bearer_proof(state)
    return [*([] if bearer is None else [bearer]), *_own_proofs(state)]


def _own_proofs(state: AppState) -> Iterable[Proof]:
    """What this browser holds: the session's proofs first, then those of companion cookies, the newest first."""
    tokens = list(get_all("proof").values())
    for token in tokens:
        proof = state.tokens.load_proof(token)
        if proof is not None:
            yield proof
    for companion in _companions(state, "proof"):
        proof = None if companion.token in tokens else state.tokens.load_proof(companion.token)
        if proof is not None and _may_be_late(state, proof):
            yield proof


def _may_be_late(state: AppState, proof: Proof) -> bool:
    """Whether a proof that is in its companion cookie alone counts.

    Soon after the verification it does: a late answer took it from the session. Later on only beside a session that
    holds something: one that the server has ended takes its proofs along.
    """
    return state.clock() - proof.verified_at < _LATE or bool(session)


# What the app does to the session


def finish(response: Response) -> None:
    """When the app has done what it does to the session, and before that is saved: write the companion cookies."""
    if not companions.has_pending() and not getattr(_unseen_session(), "modified", True):
        return
    _notice_a_cleared_session()
    if companions.has_pending():
        companions.write(current_state(), response, permanent=bool(_unseen_session().permanent))


def _notice_a_cleared_session() -> None:
    """An app that has cleared its session, as at its own log-out, means our companion cookies too.

    A late answer that took our part of the session away is something else: the session came without it.
    """
    if not has_request_context() or _KEY in _unseen_session():
        return
    state = current_state()
    if companions.have_come(state) and (_is_noted_as_written() or _came_with_ours(state)):
        companions.drop_all(state)
        vars(request).pop(_WRITTEN, None)


def _note_our_own_write() -> None:
    if has_request_context():
        vars(request)[_WRITTEN] = True


def _is_noted_as_written() -> bool:
    return _WRITTEN in vars(request)


def _came_with_ours(state: AppState) -> bool:
    before: Any = state.app.session_interface.open_session(state.app, _request())
    return bool(before) and (_KEY in before or not _unseen_session())


def _unseen_session() -> Any:
    """The session, without the look at it being counted: each look adds ``Vary: Cookie`` to the answer."""
    context: Any = request_ctx._get_current_object()  # type: ignore[attr-defined]
    # Flask 3.1.3 counts looks at the public name.
    seen = vars(context).get("_session")
    return context.session if seen is None else seen


def _request() -> Any:
    return request._get_current_object()  # type: ignore[attr-defined]
