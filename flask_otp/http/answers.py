"""The responses of the views: the next page or JSON, or the form again with its error."""

from __future__ import annotations

from flask import jsonify, redirect, request
from flask.typing import ResponseReturnValue

from ..errors import ChallengeRequired, InvalidCode, OTPError
from ..languages import N_
from ..models import Challenge, Verification
from ..state import AppState, current_state
from ..urls import is_safe_path
from . import actions, pages, pending_form, session
from .requests import is_cross_origin, wants_html

Answer = ResponseReturnValue
#: Seconds after a verification in which submitting the same form again continues instead of failing.
JUST_NOW = 60


def challenge_answer(state: AppState, challenge: Challenge, way_back: str | None) -> Answer:
    if wants_html():
        handle = state.tokens.load_handle(challenge.handle)
        id = None if handle is None else session.challenge_id(handle)
        return redirect(pages.url("enter", challenge.purpose, of=id, next=way_back), 303)
    return jsonify(
        challenge=challenge.handle,
        channel=challenge.channel,
        destination=challenge.destination,
        purpose=challenge.purpose,
        code_length=challenge.code_length,
        expires_in=challenge.expires_in,
        resend_in=challenge.resend_in,
        other_channels=list(challenge.other_channels),
    )


def verified_answer(
    state: AppState, verification: Verification, way_back: str | None, *, in_session: bool = True
) -> Answer:
    """
    :param in_session: the session may name the next page. Otherwise only the client does.
    """
    purpose = verification.purpose
    kept_way = session.take("next", purpose) if in_session else None
    wanted = kept_way if way_back is None else way_back
    next_path = _next_path(state, wanted)
    if state.hooks.verified_handler is not None:
        answer: Answer | None = state.hooks.verified_handler(verification)
        if answer is not None:
            return answer
    if in_session and not wanted:
        # Only now: the handler may have signed a user in or out. A form kept by another tab is not the next page.
        kept = pending_form.find(state, purpose, new=verification.proof)
        if kept is not None:
            next_path = pages.url("repeat", purpose, of=pending_form.id_of(kept[0]))
    if wants_html():
        return redirect(next_path, 303)
    return jsonify(
        verified=True,
        identifier=verification.identifier,
        channel=verification.channel,
        channels=list(verification.channels),
        purpose=purpose,
        verified_at=verification.verified_at.isoformat(),
        proof=verification.proof,
        proof_expires_in=round((verification.expires_at - verification.verified_at).total_seconds()),
        next=next_path,
    )


def _next_path(state: AppState, wanted: str | None) -> str:
    """Where to continue: on the wanted page, or else on that of ``OTP_DEFAULT_NEXT``."""
    return wanted if wanted and is_safe_path(wanted) else request.script_root + state.settings.default_next


def _wanted(purpose: str, way_back: str | None) -> str | None:
    """Where the client wants to go: where the form says, even if that is nowhere; otherwise where the session says."""
    return session.get("next", purpose) if way_back is None else way_back


def sent_on(
    state: AppState, purpose: str, requirement: str | None, way_back: str | None, *, within: int | None = None
) -> Answer | None:
    """Redirect a client that already has what the page would give.

    :param within: accept only proofs from the last ``within`` seconds. Without a requirement, only the sign-in counts
        by default, because another purpose may need a new verification.
    """
    asked = session.load_requirement(requirement) or session.requirement(purpose)
    asked = asked if asked is not None and asked.purpose == purpose else None
    if is_cross_origin(state.settings.base_url) or (asked is None and within is None and purpose != "login"):
        return None
    since = state.clock() - within if within is not None else 0.0
    if asked is None:
        held = actions.find_held(state, purpose, b"", since)
    else:
        since = max(since, asked.made_at)
        held = actions.find_held(state, purpose, asked.context, since, asked.identifier, asked.channels)
    where = _next_path(state, _wanted(purpose, way_back))
    # A client that was sent back at once needs something we cannot know: the app may check proofs by its own rules.
    return redirect(where, 303) if held is not None and session.may_send_on(state, purpose, where) else None


def after_verification(state: AppState, purpose: str) -> Answer | None:
    """Redirect a browser that has just verified for this purpose. The store is asked only by the next page's guard."""
    since = state.clock() - JUST_NOW
    if any(proof.purpose == purpose and since <= proof.verified_at for proof in session.proofs(state, purpose)):
        return redirect(_next_path(state, session.get("next", purpose)), 303)
    return None


def start_again(purpose: str, way_back: str | None = None) -> Answer:
    """Redirect to the page that asks for an address.

    :raises InvalidRequest: there is no such purpose.
    """
    current_state().service.purpose(purpose)
    return redirect(pages.url("start", purpose, next=way_back), 303)


def form_again(body: dict[str, str], identifier: str | None, error: OTPError) -> Answer:
    """The rejected form, with the typed and chosen values. For a new code, the page of the old code."""
    state, purpose = current_state(), body.get("purpose", "login")
    handle = state.tokens.load_handle(body.get("challenge")) if identifier is None else None
    if handle is not None:
        return pages.enter(state, body["challenge"], handle, way_back=body.get("next"), error=error, is_over=True)
    return pages.start(
        state,
        purpose,
        requirement=body.get("requirement"),
        way_back=body.get("next"),
        identifier=identifier or "",
        channel=body.get("channel"),
        error=error,
    )


def code_again(body: dict[str, str], error: OTPError, *, is_link: bool = False) -> Answer:
    """The code page of the form's challenge, with the challenge's current state.

    A browser that has already verified with it, in another tab or by a first click, is redirected to the next page.
    """
    state, purpose, way_back = current_state(), actions.own_purpose(body.get("purpose")), body.get("next")
    token = body.get("challenge") or session.challenge(state, purpose)
    handle = state.tokens.load_handle(token)
    if token is None or handle is None:
        known = purpose if purpose in state.settings.purposes else "login"
        return pages.start(state, known, way_back=way_back, error=error)
    is_over = isinstance(error, ChallengeRequired) or (isinstance(error, InvalidCode) and error.is_over)
    if is_over:
        since = state.clock() - JUST_NOW
        if actions.find_held(state, handle.purpose, handle.context, since, handle.identifier) is not None:
            return redirect(_next_path(state, _wanted(handle.purpose, way_back)), 303)
        session.note_on_challenge(state, handle, token, pages.OVER)
    elif is_link and isinstance(error, InvalidCode):
        is_typed = state.service.is_typed(handle.purpose)
        text = (
            N_("That link is no longer valid. Please type the code.")
            if is_typed
            else N_("That link is no longer valid.")
        )
        error = InvalidCode(text)
    return pages.enter(state, token, handle, way_back=way_back, error=error, is_over=is_over)
