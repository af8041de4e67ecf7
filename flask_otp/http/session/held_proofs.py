"""The proofs that a client shows, and the storage of a new one."""

from __future__ import annotations

from collections.abc import Iterable

from flask import request, session

from ...crypto.payloads import Handle, Proof
from ...state import AppState
from .. import companions, csrf
from ..known_browser import remember as remember_browser
from .asking_client import new_secret
from .cleared import companions_of, notice_a_cleared_session
from .held_challenges import challenge_id, is_of, load_requirement
from .kept import delete, get, get_all, keep, our_part, set, table_of, without

#: Seconds after a verification in which a response may still arrive late.
_LATE = 600


def proofs(state: AppState, purpose: str) -> Iterable[Proof]:
    """The proofs that this client shows for a purpose: its bearer token, then those of its browser."""
    bearer = bearer_proof(state)
    if bearer is not None:
        yield bearer
    for proof in own_proofs(state):
        if proof.purpose == purpose:
            yield proof


def all_proofs(state: AppState) -> list[Proof]:
    """All proofs that this client shows, including its bearer token."""
    bearer = bearer_proof(state)
    return [*([] if bearer is None else [bearer]), *own_proofs(state)]


def bearer_proof(state: AppState) -> Proof | None:
    """The proof in ``Authorization: Bearer``. ``None`` if the bearer token is not ours."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return state.tokens.load_proof(token.strip()) if scheme.lower() == "bearer" else None


def own_proofs(state: AppState) -> Iterable[Proof]:
    """This browser's proofs: first the session's, then those in companion cookies, newest first."""
    tokens = list(get_all("proof").values())
    for token in tokens:
        proof = state.tokens.load_proof(token)
        if proof is not None:
            yield proof
    for companion in companions_of(state, "proof"):
        proof = None if companion.token in tokens else state.tokens.load_proof(companion.token)
        if proof is not None and _may_be_late(state, proof):
            yield proof


def _may_be_late(state: AppState, proof: Proof) -> bool:
    """Whether a proof counts that is only in its companion cookie.

    It does soon after the verification, because a late response may have removed it from the session. Later it counts
    only if the session is not empty: a session that the server has ended takes its proofs with it.
    """
    return state.clock() - proof.verified_at < _LATE or bool(session)


def store_proof(state: AppState, handle: Handle, proof: Proof, token: str, bucket: bytes) -> None:
    """After a verification: keep the proof instead of the challenge, renew the session, and make this browser a known
    browser.

    :param handle: of the challenge that was verified.
    :raises StoreUnavailable: an earlier proof of this browser could not be ended.
    """
    notice_a_cleared_session()
    _end_what_it_replaces(state, proof)
    companions.drop(state, "challenge", challenge_id(handle))
    purpose, kept = proof.purpose, our_part()
    held, challenges, requirements = (table_of(kept, kind) for kind in ("proof", "challenge", "requirement"))
    if purpose in held:
        _save_proof(state, held[purpose], state.tokens.load_proof(held[purpose]))
    left = {"proof": held | {purpose: token}}
    if purpose in challenges and is_of(state, challenges[purpose], handle):
        left["challenge"] = without(challenges, purpose)
    if purpose in requirements:
        asked = load_requirement(requirements[purpose])
        if asked is None or asked.context == proof.context:
            left["requirement"] = without(requirements, purpose)
    # An attacker who planted or read the old session must not share the new one.
    keep(kept | left | {"secret": new_secret()})
    regenerate = getattr(state.app.session_interface, "regenerate", None)
    if regenerate is not None:
        regenerate(session)
    csrf.renew()
    _save_proof(state, token, proof)
    remember_browser(state, handle, proof, bucket)


def _save_proof(state: AppState, token: str, proof: Proof | None) -> None:
    """Set the companion cookie of a proof, if it has none."""
    if proof is None:
        return
    id = companions.id_of(proof.proof_id)
    if companions.find(state, "proof", id) is None:
        companions.save(state, "proof", id, token, life=proof.expires_at - int(state.clock()))


def _end_what_it_replaces(state: AppState, new: Proof) -> None:
    """End this browser's earlier proofs for the same purpose and context, and those without room.

    Once the browser has forgotten them, they could not be logged out any more.
    """
    replaced = [proof for proof in own_proofs(state) if (proof.purpose, proof.context) == (new.purpose, new.context)]
    crowded_out = (state.tokens.load_proof(each.token) for each in companions.too_many(state, "proof"))
    # A proof for one payment is less important than the proof of the sign-in.
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
    """Put a proof of this browser back into the session, if a late response has removed it.

    Call it only where the session may be written.
    """
    is_own = companions.find(state, "proof", companions.id_of(proof.proof_id)) is not None
    if is_own and get("proof", proof.purpose) is None:
        set("proof", proof.purpose, state.tokens.dump_proof(proof))
