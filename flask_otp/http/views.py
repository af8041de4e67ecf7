"""The views of the HTTP API and its pages: parse, call, respond. JSON gets JSON, a form gets a page or a redirect."""

from __future__ import annotations

from flask import Response, json, jsonify, redirect, request
from werkzeug.exceptions import NotFound

from ..errors import (
    ChallengeRequired,
    DeliveryFailed,
    InvalidCode,
    InvalidIdentifier,
    InvalidRequest,
    RateLimited,
    StoreUnavailable,
)
from ..languages import N_
from ..state import current_state
from ..urls import is_safe_path
from . import actions, openapi, pages, pending_form, routes, session, step_up
from .answers import (
    JUST_NOW,
    Answer,
    after_verification,
    challenge_answer,
    code_again,
    form_again,
    sent_on,
    start_again,
    verified_answer,
)
from .requests import is_cross_origin, read_body, read_idempotency_key, wants_html

#: Errors that a person can correct on the form, or by submitting it again.
_ON_THE_FORM = (InvalidIdentifier, InvalidCode, RateLimited, DeliveryFailed, StoreUnavailable)


def start() -> Answer:
    """The page that asks for an address."""
    purpose = request.args.get("purpose", "login")
    state = current_state()
    state.service.purpose(purpose)
    requirement, way_back = request.args.get("requirement"), request.args.get("next")
    if not is_cross_origin(state.settings.base_url):
        if way_back is not None and is_safe_path(way_back):
            session.set("next", purpose, way_back)
        session.client(state)
    on = sent_on(state, purpose, requirement, way_back)
    if on is not None:
        return on
    sent = step_up.sent_at_once(state, purpose, requirement, way_back)
    if sent is not None:
        return sent
    identifier = pages.typed_before(state, request.args.get("of", ""))
    return pages.start(state, purpose, requirement=requirement, way_back=way_back, identifier=identifier)


def send() -> Answer:
    state, body = current_state(), read_body(routes.SEND)
    once = read_idempotency_key(body)
    named = [name for name in ("identifier", "email", "phone") if name in body]
    identifier = body[named[0]] if named else None
    in_session = "session" not in body
    if in_session:
        session.propose_secret(body.get("form", ""))
    if "requirement" in body and wants_html() and session.load_requirement(body["requirement"]) is None:
        # The form has waited too long, or belongs to another user: let the guard ask again.
        if is_safe_path(body.get("next", "")):
            return redirect(body["next"], 303)
        return start_again(body.get("purpose", "login"))
    try:
        if len(named) > 1:
            raise InvalidIdentifier(N_("Give one of identifier, email and phone."))
        if "challenge" in body and not named:
            challenge = actions.send_anew(state, body["challenge"], once, in_session=in_session)
        else:
            challenge = actions.send_as_asked(
                state,
                identifier,
                body.get("channel"),
                body.get("purpose"),
                body.get("requirement"),
                once=once,
                in_session=in_session,
                is_own_form="form" in body,
            )
    except ChallengeRequired:
        if not wants_html():
            raise
        return start_again(actions.own_purpose(body.get("purpose")), body.get("next"))
    except _ON_THE_FORM as error:
        if not wants_html():
            raise
        return form_again(body, identifier, error)
    if in_session and is_safe_path(body.get("next", "")):
        session.set("next", challenge.purpose, body["next"])
    return challenge_answer(state, challenge, body.get("next"))


def enter() -> Answer:
    """The page that asks for the code."""
    purpose, id = request.args.get("purpose", "login"), request.args.get("of")
    state = current_state()
    state.service.purpose(purpose)
    token = session.challenge(state, purpose) if id is None else session.find_challenge(state, id)
    handle = state.tokens.load_handle(token)
    if token is not None and handle is not None and handle.purpose == purpose:
        return pages.enter(state, token, handle, way_back=request.args.get("next"))
    if id is not None and not pages.has_cookies(state):
        return pages.blocked(state)
    on = sent_on(state, purpose, None, request.args.get("next"), within=JUST_NOW)
    return redirect(pages.url("start", purpose, next=request.args.get("next")), 303) if on is None else on


def verify() -> Answer:
    state, body = current_state(), read_body(routes.VERIFY)
    given = [name for name in ("code", "link") if name in body]
    if not given:
        raise InvalidCode(N_("Please enter the code."))
    if len(given) > 1:
        raise InvalidRequest(N_("Give one of code and link."))
    purpose, is_link, in_session = body.get("purpose"), given == ["link"], "session" not in body
    try:
        verification = actions.verify_as_asked(
            state,
            body[given[0]],
            body.get("challenge"),
            purpose,
            is_link=is_link,
            trust="trust" in body,
            in_session=in_session,
        )
    except ChallengeRequired:
        if not wants_html():
            raise
        own = actions.own_purpose(purpose)
        on = sent_on(state, own, None, body.get("next"), within=JUST_NOW)
        return start_again(own, body.get("next")) if on is None else on
    except _ON_THE_FORM as error:
        if not wants_html():
            raise
        return code_again(body, error, is_link=is_link)
    return verified_answer(state, verification, body.get("next"), in_session=in_session)


def resend() -> Answer:
    body = read_body(routes.RESEND)
    purpose, channel = body.get("purpose"), body.get("channel")
    state = current_state()
    try:
        challenge = actions.resend(body.get("challenge"), purpose, channel, in_session="session" not in body)
    except (ChallengeRequired, *_ON_THE_FORM) as error:
        if not wants_html():
            raise
        return code_again(body, error)
    if wants_html() and channel is None:
        handle = state.tokens.load_handle(challenge.handle)
        if handle is not None:
            session.note_on_challenge(state, handle, challenge.handle, pages.SENT_AGAIN)
    return challenge_answer(state, challenge, body.get("next"))


def link(secret: str) -> Answer:
    """The page behind a message's link.

    Mail scanners open links, run scripts and press buttons, and other programs that fetch links may do the same. So
    opening a link asks the store nothing and counts nothing, and only a browser that holds the challenge gets a form.
    """
    state = current_state()
    if not state.settings.links:
        raise NotFound
    purpose = request.args.get("purpose", "login")
    token, handle = pages.challenge_of_link(state, purpose, secret)
    if handle is not None and handle.expires_at <= state.clock():
        # That page says that the code has expired, and offers a new one.
        return redirect(pages.url("enter", purpose, of=session.challenge_id(handle)), 303)
    on = after_verification(state, purpose) if handle is None else None
    return pages.link(state, purpose, secret, token, handle) if on is None else on


def confirm() -> Answer:
    """The page that submits a refused form again, once the person has verified and presses the button."""
    purpose = request.args.get("purpose", "login")
    state = current_state()
    state.service.purpose(purpose)
    found = pending_form.find(state, purpose, id=request.args.get("of"))
    if found is None or not state.vouches(found[1]):
        return redirect(request.script_root + state.settings.default_next, 303)
    return pages.repeat(state, found[0])


def logout() -> Answer:
    read_body(routes.LOGOUT)
    actions.forget()
    if wants_html():
        return redirect(request.script_root + current_state().settings.default_next, 303)
    return Response(status=204)


def health() -> Answer:
    """Whether codes can be sent and verified, for a load balancer or a supervisor. Enabled by ``OTP_HEALTH``."""
    state = current_state()
    if not state.settings.health:
        raise NotFound
    try:
        state.check_health()
    except StoreUnavailable as error:
        answer = error.as_problem()
        answer.data = json.dumps(error.problem() | {"part": error.part, "cause": error.cause.kind})
        return answer
    return Response(status=204)


def describe() -> Answer:
    """The OpenAPI document, if the app publishes it."""
    state = current_state()
    if not state.settings.openapi:
        raise NotFound
    return jsonify(openapi.document(state))
