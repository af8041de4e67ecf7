"""The challenges and requirements that a browser holds."""

from __future__ import annotations

import builtins
import hashlib

from ...crypto.payloads import Handle, Requirement
from ...state import AppState, current_state
from .. import companions
from .cleared import companions_of
from .kept import get, get_all, set

#: Seconds in which a browser is not redirected to the same page again.
_ROUND = 10


def store_challenge(state: AppState, handle: Handle, token: str) -> None:
    """Keep a challenge as the session's challenge for its purpose, and in a companion cookie."""
    set("challenge", handle.purpose, token)
    id, left = challenge_id(handle), handle.expires_at - int(state.clock())
    companions.save(state, "challenge", id, token, life=left)
    for other in companions.too_many(state, "challenge"):
        companions.drop(state, "challenge", other.id)


def note_on_challenge(state: AppState, handle: Handle, token: str, note: str) -> None:
    """Record what happened to a challenge of this browser, for the code page: one letter, see :mod:`.pages`."""
    if find_challenge(state, challenge_id(handle)) is not None:
        left = handle.expires_at - int(state.clock())
        companions.save(state, "challenge", challenge_id(handle), token, life=left, note=note)


def challenge_id(handle: Handle) -> str:
    """The name of a challenge in URLs. It is useless without the handle."""
    return companions.id_of(handle.challenge_id)


def find_challenge(state: AppState, id: str) -> str | None:
    """The challenge of this browser that a URL names."""
    found = companions.find(state, "challenge", id)
    if found is not None:
        return found.token
    handles = ((token, state.tokens.load_handle(token)) for token in get_all("challenge").values())
    return next((token for token, handle in handles if handle is not None and challenge_id(handle) == id), None)


def challenge(state: AppState, purpose: str) -> str | None:
    """The challenge that this browser requested last for the purpose."""
    own = get("challenge", purpose)
    others = [each.token for each in companions_of(state, "challenge") if _purpose_of(state, each.token) == purpose]
    # A late response may have restored an older one in the session, or none at all.
    return others[0] if others and (own is None or own in others) else own


def challenges(state: AppState) -> list[str]:
    """All challenges of this browser, the session's first."""
    return list(
        dict.fromkeys([*get_all("challenge").values(), *(each.token for each in companions_of(state, "challenge"))])
    )


def purposes_of_challenges(state: AppState) -> builtins.set[str]:
    """The purposes of this browser's challenges."""
    return {purpose for token in challenges(state) if (purpose := _purpose_of(state, token)) is not None}


def drop_challenge(state: AppState, handle: Handle) -> None:
    """Delete the companion cookie of a challenge."""
    companions.drop(state, "challenge", challenge_id(handle))


def is_of(state: AppState, token: str | None, handle: Handle) -> bool:
    """Whether a token is a handle of the same challenge."""
    own = state.tokens.load_handle(token)
    return own is not None and own.challenge_id == handle.challenge_id


def _purpose_of(state: AppState, token: str) -> str | None:
    handle = state.tokens.load_handle(token)
    return None if handle is None else handle.purpose


def may_send_on(state: AppState, purpose: str, where: str) -> bool:
    """Whether a browser may be redirected there without a form. Not twice within seconds, to avoid a redirect loop."""
    id = companions.id_of(hashlib.sha256(f"{purpose} {where}".encode()).digest())
    last = companions.find(state, "on", id)
    if last is not None and state.clock() * 1000 - last.saved_at < _ROUND * 1000:
        return False
    companions.save(state, "on", id, "", life=_ROUND)
    return True


def requirement(purpose: str) -> Requirement | None:
    """The guard's requirement for the purpose in this session, while it is fresh."""
    return load_requirement(get("requirement", purpose))


def load_requirement(token: str | None) -> Requirement | None:
    if token is None:
        return None
    state = current_state()
    asked = state.tokens.load_requirement(token)
    if asked is None or asked.expires_at <= state.clock() or asked.user != state.own_identifier():
        return None
    return asked
