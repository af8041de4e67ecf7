"""The cookie of a trusted browser: whom it is trusted for, and for how long. The store decides."""

from __future__ import annotations

from collections.abc import Iterable

from ..crypto.payloads import Proof
from ..startup_checks import trust_offered
from ..state import AppState
from .cookies import own_name, set_own
from .requests import this_request

#: Maximum pairs of purpose and person that one browser is trusted for. The newest are kept.
_MOST = 4
_SEPARATOR = "~"


def offered(state: AppState, purpose: str, identifier: str, context: bytes) -> int:
    """Seconds that a browser may be trusted after this verification. 0 if it may not.

    Only the signed-in person's own code counts, and only a code for the purpose without a context.
    """
    if context or state.hooks.identifier_loader is None or state.own_identifier() != identifier:
        return 0
    return trust_offered(state.app).get(purpose, 0)


def basis(state: AppState, token: str) -> object:
    """The state that :func:`remember` compares, from before the code of this handle is checked."""
    handle = state.tokens.load_handle(token)
    return None if handle is None else state.factors.trusted.basis(handle.identifier)


def remember(state: AppState, proof: Proof, basis: object) -> None:
    """Trust this browser from now on, if a guard allows it.

    :param basis: the result of :func:`basis`.
    """
    life = offered(state, proof.purpose, proof.identifier, proof.context)
    trust = state.factors.trusted.remember(proof, life, basis) if life else None
    if trust is None:
        return
    others = [old for old in _all(state) if (old.purpose, old.identifier) != (trust.purpose, trust.identifier)]
    _set_cookie(state, [trust, *others][:_MOST])


def proofs(state: AppState, purpose: str) -> Iterable[Proof]:
    """The trust that this browser claims. The store has not been asked yet."""
    return (trust for trust in _all(state) if trust.purpose == purpose)


def forget(state: AppState, purpose: str | None) -> None:
    """End the trust in this browser, for one purpose or for all.

    :raises StoreUnavailable: the browser may still be trusted.
    """
    known = _all(state)
    ended = [trust for trust in known if purpose in (None, trust.purpose)]
    for trust in ended:
        state.end(trust)
    if ended:
        _set_cookie(state, [trust for trust in known if trust not in ended])


def _all(state: AppState) -> list[Proof]:
    texts = this_request().cookies.get(own_name(state, "trust"), "").split(_SEPARATOR)[:_MOST]
    found = [state.factors.trusted.load(text) for text in texts if text]
    return [trust for trust in found if trust is not None and state.clock() < trust.expires_at]


def _set_cookie(state: AppState, trusted: list[Proof]) -> None:
    value = _SEPARATOR.join(state.factors.trusted.dump(trust) for trust in trusted)
    now = int(state.clock())
    life = max((trust.expires_at for trust in trusted), default=now) - now
    set_own(state, "trust", value, max_age=life)
