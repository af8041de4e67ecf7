"""Implements ``otp.send`` and similar methods in a request: the service's flows, with the session and the client."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from flask import has_request_context

from ..crypto.context import context_digest
from ..crypto.payloads import Once, Proof, Requirement
from ..errors import ChallengeRequired, InvalidCode, InvalidIdentifier, InvalidRequest, StoreUnavailable
from ..languages import N_
from ..models import Challenge, Verification
from ..signals import proof_revoked
from ..state import AppState, current_state
from . import pending_form, session, trusted_browser


def send(identifier: str, channel: str | None, purpose: str, context: Any) -> Challenge:
    return _send(current_state(), identifier, channel, purpose, context_digest(context), context, ())


def send_as_asked(
    state: AppState,
    identifier: str | None,
    channel: str | None,
    purpose: str | None,
    requirement: str | None,
    once: Once | None = None,
    *,
    in_session: bool = True,
    is_own_form: bool = False,
) -> Challenge:
    """Send for a client over HTTP. The client cannot change what the guard or the app has fixed.

    :param once: identifies a repetition of this request.
    :param in_session: read the session and keep the handle there. Otherwise the client supplies everything itself.
    :param is_own_form: our own page's form carries what the guard asked for when the page was made. What the session
        has by now may belong to another tab.
    """
    if requirement is not None:
        asked = session.load_requirement(requirement)
        if asked is None or purpose not in (None, asked.purpose):
            raise InvalidRequest(N_("The requirement is not valid, or is too old. Repeat the request that gave it."))
    else:
        takes_sessions = in_session and not is_own_form
        asked = session.requirement("login" if purpose is None else purpose) if takes_sessions else None
    purpose = asked.purpose if asked else "login" if purpose is None else purpose
    fixed = fixed_identifier(state, asked)
    if fixed is not None:
        if identifier is not None and state.identifiers.parse(identifier).value != fixed:
            raise InvalidIdentifier(N_("The code can only go to your own address."))
        identifier = fixed
    if identifier is None:
        raise InvalidIdentifier
    is_typed = fixed is None
    if asked is None:
        return _send(
            state, identifier, channel, purpose, b"", None, (), is_typed=is_typed, once=once, in_session=in_session
        )
    return _send(
        state,
        identifier,
        channel,
        purpose,
        asked.context,
        asked.context_values,
        asked.channels,
        is_typed=is_typed,
        once=once,
        in_session=in_session,
    )


def send_anew(state: AppState, token: str, once: Once | None = None, *, in_session: bool = True) -> Challenge:
    """Send a new code in place of an expired one, to the same identifier, for the same purpose and context.

    :param once: identifies a repetition of this request.
    :raises ChallengeRequired: the handle is invalid, belongs to another user, or its code expired long ago.
    """
    handle = state.tokens.load_handle(token)
    if handle is None or not handle.may_start_again(state.clock()) or not _is_own(state, token):
        raise ChallengeRequired
    return _send(
        state,
        handle.identifier,
        handle.channel,
        handle.purpose,
        handle.context,
        handle.context_values,
        (),
        is_typed=handle.is_typed,
        once=once,
        in_session=in_session,
    )


def _send(
    state: AppState,
    identifier: str,
    channel: str | None,
    purpose: str,
    context: bytes,
    context_values: Any,
    channels: tuple[str, ...],
    *,
    is_typed: bool = False,
    once: Once | None = None,
    in_session: bool = True,
) -> Challenge:
    challenge = state.service.send(
        identifier,
        channel=channel,
        purpose=purpose,
        context=context,
        context_values=context_values,
        channels=channels,
        client=session.client(state, in_session=in_session, once=once),
        user=state.own_identifier() if has_request_context() else None,
        is_typed=is_typed,
    )
    return _keep(state, challenge) if in_session else challenge


def resend(
    handle: str | None, purpose: str | None, channel: str | None = None, *, in_session: bool = True
) -> Challenge:
    state, token = current_state(), _handle(handle, purpose, in_session=in_session)
    if not _is_own(state, token):
        raise ChallengeRequired
    client = session.client(state, in_session=in_session)
    if channel is not None:
        challenge = state.service.switch(token, channel, client, purpose)
    else:
        challenge = state.service.resend(token, client, purpose)
    return _keep(state, challenge) if in_session else challenge


def verify(code: str, handle: str | None, identifier: str | None, purpose: str, context: Any) -> Verification:
    token, digest = _handle(handle, purpose), context_digest(context)
    return _verify(current_state(), code, token, purpose, identifier, digest)


def verify_as_asked(
    state: AppState,
    code: str,
    handle: str | None,
    purpose: str | None,
    *,
    is_link: bool,
    trust: bool = False,
    in_session: bool = True,
) -> Verification:
    """Redeem a code or a link for a client over HTTP. The handle supplies the purpose and the identifier.

    :param trust: the person wants this browser to be trusted, if a guard allows it.
    :param in_session: keep the proof in the session. Otherwise only the response contains it.
    :raises InvalidRequest: a browser cannot be trusted without a cookie.
    """
    if trust and not in_session:
        raise InvalidRequest(N_("%(name)s is not expected here.", name="trust"))
    token = _handle(handle, purpose, in_session=in_session)
    return _verify(state, code, token, purpose, is_link=is_link, trust=trust, in_session=in_session)


def _is_own(state: AppState, token: str) -> bool:
    """Whether the challenge belongs to the signed-in user: they requested it, or it went to their own address.

    A code that went to another address must never become the second factor of this session. The service refuses tokens
    that are not handles.
    """
    if state.hooks.identifier_loader is None or not has_request_context():
        return True
    handle, own = state.tokens.load_handle(token), state.own_identifier()
    return handle is None or own in (handle.user, handle.identifier)


def _verify(
    state: AppState,
    code: str,
    token: str,
    purpose: str | None,
    identifier: str | None = None,
    context: bytes | None = None,
    *,
    is_link: bool = False,
    trust: bool = False,
    in_session: bool = True,
) -> Verification:
    if not isinstance(code, str) or not _is_own(state, token):
        raise InvalidCode
    basis = trusted_browser.basis(state, token) if trust else None
    verification, handle, proof, bucket = state.service.verify(
        code,
        token,
        purpose=purpose,
        identifier=identifier,
        context=context,
        network=session.network(),
        known=session.known(state),
        is_link=is_link,
    )
    if not in_session:
        if state.hooks.verified_handler is not None:  # it may call otp.verification()
            session.note_checked(state, proof.purpose, proof, state.trust.ends)
    elif has_request_context():
        session.store_proof(state, handle, proof, verification.proof, bucket)
        if trust:
            # The code is used up, and the person has verified: if the store fails now, only the trust is missing.
            with suppress(StoreUnavailable):
                trusted_browser.remember(state, proof, basis)
    return verification


def forget(purpose: str | None = None) -> None:
    """End the proofs of this client's session and its bearer token, and drop its outstanding challenges.

    :raises StoreUnavailable: the proofs may still be valid, and the session is unchanged.
    """
    state = current_state()
    store, tokens, now = state.store, state.tokens, int(state.clock())
    ended = [proof for proof in session.all_proofs(state) if purpose in (None, proof.purpose)]
    handles = [tokens.load_handle(token) for token in session.challenges(state)]
    dropped = [handle for handle in handles if handle and purpose in (None, handle.purpose)]
    for proof in ended:
        state.end(proof)
    for handle in dropped:
        store.drop(handle.subject, handle.challenge_id, now)
    trusted_browser.forget(state, purpose)
    # Only now: if the store failed, the session must show that the client is still verified.
    for proof in ended:
        session.drop_proof(state, proof)
    for handle in dropped:
        session.drop_challenge(state, handle)
    for kind in ("proof", "challenge", "requirement", "next", "repeat"):
        for name in session.get_all(kind):
            if purpose in (None, name):
                session.delete(kind, name)
    session.checked_proofs(state).clear()
    for proof in ended:
        whom = {"identifier": proof.identifier, "purposes": (proof.purpose,)}
        state.events.tell(proof_revoked, "ended", proof, arguments=whom)


def revoke(identifier: str) -> None:
    state = current_state()
    try:
        address = state.service.revoke(identifier)
    finally:
        state.trust.clear()
    if has_request_context():
        session.forget_checked(state, address)


def find_held(
    state: AppState, purpose: str, context: bytes, since: float, identifier: str | None = None, channels: Any = ()
) -> Proof | None:
    """A valid proof of this browser for the same purpose and context, not older than ``since``. If found, no code is
    needed.

    :param identifier: whose proof it must be. ``None``: the signed-in user's, or anyone's if no user can be signed in.
    :param channels: the proof must be by one of these channels. Empty means any.
    :raises StoreUnavailable: the store does not answer.
    """
    own = identifier if identifier is not None else state.own_identifier()
    for proof in session.proofs(state, purpose):
        # A bearer token may be for any purpose.
        of_this = (proof.purpose, proof.context) == (purpose, context)
        fits = of_this and own in (None, proof.identifier) and since <= proof.verified_at
        in_time = state.clock() < proof.expires_at
        if fits and in_time and proof.is_by(channels) and state.vouches(proof):
            return proof
    return None


def fixed_identifier(state: AppState, asked: Requirement | None) -> str | None:
    """The identifier that the client cannot change, in canonical form. ``None`` if the client may choose it."""
    if asked is not None and asked.identifier is not None:
        return asked.identifier
    return state.own_identifier()


def own_purpose(purpose: str | None) -> str:
    """The purpose of the session's challenge if the client names none: the only challenge's, or ``login``."""
    if purpose is not None:
        return purpose
    purposes = session.purposes_of_challenges(current_state()) if has_request_context() else set()
    return purposes.pop() if len(purposes) == 1 else "login"


def _handle(given: str | None, purpose: str | None, *, in_session: bool = True) -> str:
    """
    :raises TypeError: the app passed the :class:`Challenge` itself.
    :raises ChallengeRequired: there is none.
    """
    if isinstance(given, Challenge):
        raise TypeError("challenge must be the handle of a Challenge: pass challenge.handle")
    if given is not None:
        return given
    looks = in_session and has_request_context()
    handle = session.challenge(current_state(), own_purpose(purpose)) if looks else None
    if handle is None:
        raise ChallengeRequired
    return handle


def _keep(state: AppState, challenge: Challenge) -> Challenge:
    handle = state.tokens.load_handle(challenge.handle) if has_request_context() else None
    if handle is not None:
        session.store_challenge(state, handle, challenge.handle)
        pending_form.tie(state, handle)
    return challenge
