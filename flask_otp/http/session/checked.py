"""What a request found verified. It is kept as long as the request object."""

from __future__ import annotations

from typing import NamedTuple

from flask import Request, request

from ...crypto.payloads import Proof
from ...state import AppState
from .. import companions
from ..requests import this_request
from .cleared import notice_a_cleared_session
from .kept import get

_CHECKED = "_flask_otp_checked"
#: The signed-in user, the bearer token, the session's proof, and the companion cookies that this request has changed.
Shown = tuple[str | None, str | None, str | None, tuple[str, ...]]


class Checked(NamedTuple):
    """What a request found for a purpose: a valid proof, or none."""

    proof: Proof | None
    #: The user who was signed in, and the proofs that the client showed.
    shown: Shown
    #: Number of proofs ended before (:class:`~flask_otp.state.Trust`).
    ends: int
    #: The guard has spent the proof for this request, so the store does not know it any more.
    is_spent: bool = False


def checked_proofs(state: AppState) -> dict[str, Checked]:
    """What this request has already found, by purpose.

    It belongs to the request object. An environ may be passed on: Flask-SocketIO creates the request of each event from
    the environ of the handshake, and a view may pass its own to the request of another client.
    """
    by_app: dict[int, dict[str, Checked]] = vars(request).setdefault(_CHECKED, {})
    return by_app.setdefault(id(state), {})


def note_checked(state: AppState, purpose: str, proof: Proof | None, ends: int, *, is_spent: bool = False) -> None:
    """Remember the result for the purpose for the rest of this request. ``ends`` is the number of endings before."""
    checked_proofs(state)[purpose] = Checked(proof, _shown(state, purpose), ends, is_spent)


def note_passed(state: AppState, proof: Proof, ends: int, asking: Request, token: str | None, own: str | None) -> None:
    """As :func:`note_checked`, for the session's own proof: its token is here, so the session was not cleared. The
    request has no bearer token.

    :param own: the signed-in user's identifier.
    """
    shown = own, None, token, companions.changes(asking)
    by_app: dict[int, dict[str, Checked]] = vars(asking).setdefault(_CHECKED, {})
    by_app.setdefault(id(state), {})[proof.purpose] = Checked(proof, shown, ends)


def find_checked(state: AppState, purpose: str) -> Checked | None:
    """The result of this request for the purpose, if it is still valid.

    It is not valid after another user has signed in, after the proof has ended, or after the session has got another
    proof.
    """
    found = checked_proofs(state).get(purpose)
    if found is None or found.shown != _shown(state, purpose):
        return None
    if found.proof is None or found.is_spent or found.ends == state.trust.ends:
        is_good = True
    else:
        # Something has ended since then, perhaps this proof.
        is_good = state.vouches(found.proof)
    return found if is_good and (found.proof is None or state.clock() < found.proof.expires_at) else None


def forget_checked(state: AppState, identifier: str) -> None:
    """The identifier was revoked, so this request's results for it are no longer valid."""
    checked = checked_proofs(state)
    for purpose, found in list(checked.items()):
        if found.proof is not None and found.proof.identifier == identifier:
            del checked[purpose]


def _shown(state: AppState, purpose: str) -> Shown:
    """Everything that can change within a request. Its cookies cannot, so only its changes to them are included."""
    notice_a_cleared_session()
    asking = this_request()
    return (
        state.own_identifier(),
        asking.environ.get("HTTP_AUTHORIZATION"),
        get("proof", purpose),
        companions.changes(asking),
    )
