"""The HTTP API and its two pages: parse, call, answer. JSON in, JSON out; form in, page or redirect out."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, json, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ..errors import (
    PAGE_HEADERS,
    ChallengeRequired,
    DeliveryFailed,
    InvalidCode,
    InvalidIdentifier,
    InvalidRequest,
    OTPError,
    RateLimited,
    StoreUnavailable,
    VerificationRequired,
    accepts_html,
)
from ..languages import N_
from ..models import Challenge, Verification
from ..site import BLUEPRINT
from ..state import AppState, current_state
from ..urls import is_own_root, is_safe_path
from . import actions, openapi, pages, pending_form, routes, session
from .requests import (
    allow_trusted_origin,
    is_cross_origin,
    read_body,
    read_idempotency_key,
    refuse_cross_origin,
    wants_html,
)

Answer = ResponseReturnValue

#: Where a person gets who opens the address of a form: by Back, by a bookmark, or after a log-in elsewhere.
_PAGE_OF = {"send": "start", "resend": "enter", "logout": "start", "app/remove": "app", "recovery": "app"}
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
#: Errors that a person can mend on the form, or by trying again from it.
_ON_THE_FORM = (InvalidIdentifier, InvalidCode, RateLimited, DeliveryFailed, StoreUnavailable)
#: Seconds after a verification in which the same form, sent again, leads on and not to a refusal.
_JUST_NOW = 60


def create_blueprint() -> Blueprint:
    """The routes, to be mounted at ``OTP_URL_PREFIX``. They find their app's state at each request."""
    blueprint = Blueprint(BLUEPRINT, "flask_otp", template_folder="templates", static_folder="static")
    blueprint.before_request(_refuse_foreign_root)
    blueprint.before_request(_refuse_cross_origin)
    blueprint.before_request(pages.from_our_own_origin)
    blueprint.after_request(_add_headers)
    blueprint.register_error_handler(HTTPException, _answer_error)
    for route in routes.ROUTES:
        if route.endpoint not in _VIEWS:
            continue  # :mod:`.factor_views` adds it
        blueprint.add_url_rule(route.path, route.endpoint, _VIEWS[route.endpoint], methods=[route.method])
    blueprint.add_url_rule("/", "unknown_root", unknown, methods=_METHODS[1:])
    blueprint.add_url_rule("/<path:rest>", "unknown", unknown, methods=_METHODS)
    return blueprint


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
    on = _sent_on(state, purpose, requirement, way_back)
    if on is not None:
        return on
    identifier = pages.typed_before(state, request.args.get("of", ""))
    return pages.start(state, purpose, requirement=requirement, way_back=way_back, identifier=identifier)


def send() -> Answer:
    body = read_body(routes.SEND)
    once = read_idempotency_key(body)
    named = [name for name in ("identifier", "email", "phone") if name in body]
    identifier = body[named[0]] if named else None
    session.propose_secret(body.get("form", ""))
    if "requirement" in body and wants_html() and session.load_requirement(body["requirement"]) is None:
        # The form has waited for too long, or for somebody else: the guard asks anew.
        purpose = body.get("purpose", "login")
        return redirect(body["next"] if is_safe_path(body.get("next", "")) else pages.url("start", purpose), 303)
    try:
        if len(named) > 1:
            raise InvalidIdentifier(N_("Give one of identifier, email and phone."))
        if "challenge" in body and not named:
            challenge = actions.send_anew(body["challenge"])
        else:
            challenge = actions.send_as_asked(
                identifier,
                body.get("channel"),
                body.get("purpose"),
                body.get("requirement"),
                once=once,
            )
    except ChallengeRequired:
        if not wants_html():
            raise
        return redirect(pages.url("start", actions.own_purpose(body.get("purpose")), next=body.get("next")), 303)
    except _ON_THE_FORM as error:
        if not wants_html():
            raise
        return _form_again(body, identifier, error)
    if is_safe_path(body.get("next", "")):
        session.set("next", challenge.purpose, body["next"])
    return _challenge_answer(challenge, body.get("next"))


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
    on = _sent_on(state, purpose, None, request.args.get("next"), within=_JUST_NOW)
    return redirect(pages.url("start", purpose, next=request.args.get("next")), 303) if on is None else on


def verify() -> Answer:
    body = read_body(routes.VERIFY)
    given = [name for name in ("code", "link") if name in body]
    if not given:
        raise InvalidCode(N_("Please enter the code."))
    if len(given) > 1:
        raise InvalidRequest(N_("Give one of code and link."))
    purpose, is_link = body.get("purpose"), given == ["link"]
    try:
        verification = actions.verify_as_asked(
            body[given[0]], body.get("challenge"), purpose, is_link=is_link, trust="trust" in body
        )
    except ChallengeRequired:
        if not wants_html():
            raise
        own = actions.own_purpose(purpose)
        on = _sent_on(current_state(), own, None, body.get("next"), within=_JUST_NOW)
        return redirect(pages.url("start", own, next=body.get("next")), 303) if on is None else on
    except _ON_THE_FORM as error:
        if not wants_html():
            raise
        return _code_again(body, error, is_link=is_link)
    return _verified_answer(verification, body.get("next"))


def resend() -> Answer:
    body = read_body(routes.RESEND)
    purpose, channel = body.get("purpose"), body.get("channel")
    state = current_state()
    try:
        challenge = actions.resend(body.get("challenge"), purpose, channel)
    except (ChallengeRequired, *_ON_THE_FORM) as error:
        if not wants_html():
            raise
        return _code_again(body, error)
    if wants_html() and channel is None:
        handle = state.tokens.load_handle(challenge.handle)
        if handle is not None:
            session.note_on_challenge(state, handle, challenge.handle, pages.SENT_AGAIN)
    return _challenge_answer(challenge, body.get("next"))


def confirm() -> Answer:
    """The page that sends a refused form again, once its sender has verified and presses the button."""
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
    """Whether codes can be sent and verified, for a load balancer or a supervisor, where ``OTP_HEALTH`` says so."""
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


def unknown(rest: str = "") -> Answer:
    """What is not ours, answered in our manner. Known paths come here with a method they do not have."""
    if rest in _PAGE_OF and request.method in ("GET", "HEAD") and accepts_html():
        return redirect(url_for(f".{_PAGE_OF[rest]}"), 303)
    if methods := routes.methods_of(rest):
        raise MethodNotAllowed(methods)
    raise NotFound


def describe() -> Answer:
    """The OpenAPI document, where the app shows it."""
    state = current_state()
    if not state.settings.openapi:
        raise NotFound
    return jsonify(openapi.document(state))


_VIEWS: dict[str, Callable[..., Answer]] = {
    "start": start,
    "send": send,
    "enter": enter,
    "verify": verify,
    "resend": resend,
    "link": pages.link,
    "repeat": confirm,
    "logout": logout,
    "health": health,
    "openapi": describe,
}


def _form_again(body: dict[str, str], identifier: str | None, error: OTPError) -> Answer:
    """The form that did not do, with what was typed and chosen; for a new code, the page of the old one."""
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


def _code_again(body: dict[str, str], error: OTPError, *, is_link: bool = False) -> Answer:
    """The code page of the challenge that the form was for, and what is so of it.

    Whoever has verified by it already, in another tab or by the click before, is sent on.
    """
    state, purpose, way_back = current_state(), actions.own_purpose(body.get("purpose")), body.get("next")
    token = body.get("challenge") or session.challenge(state, purpose)
    handle = state.tokens.load_handle(token)
    if token is None or handle is None:
        known = purpose if purpose in state.settings.purposes else "login"
        return pages.start(state, known, way_back=way_back, error=error)
    is_over = isinstance(error, ChallengeRequired) or (isinstance(error, InvalidCode) and error.is_over)
    if is_over:
        since = state.clock() - _JUST_NOW
        if actions.find_held(state, handle.purpose, handle.context, since, handle.identifier) is not None:
            return redirect(_next_path(state, handle.purpose, way_back), 303)
        session.note_on_challenge(state, handle, token, pages.OVER)
    elif is_link and isinstance(error, InvalidCode):
        error = InvalidCode(N_("That link is no longer valid. Please type the code."))
    return pages.enter(state, token, handle, way_back=way_back, error=error, is_over=is_over)


def _sent_on(
    state: AppState, purpose: str, requirement: str | None, way_back: str | None, *, within: int | None = None
) -> Answer | None:
    """A redirect for whoever already has what the page would give.

    :param within: only by a proof of the last so many seconds. By default, without a requirement, only the sign-in
        counts: another purpose may be meant to be verified once more.
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
    where = _next_path(state, purpose, way_back)
    # Sent back at once, they need something else than we can know of: an app may look at a proof by rules of its own.
    return redirect(where, 303) if held is not None and session.may_send_on(state, purpose, where) else None


def _challenge_answer(challenge: Challenge, way_back: str | None) -> Answer:
    if wants_html():
        handle = current_state().tokens.load_handle(challenge.handle)
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


def _verified_answer(verification: Verification, way_back: str | None) -> Answer:
    state = current_state()
    wanted = session.get("next", verification.purpose) if way_back is None else way_back
    next_path = _next_path(state, verification.purpose, way_back)
    session.delete("next", verification.purpose)
    if state.hooks.verified_handler is not None:
        answer: Answer | None = state.hooks.verified_handler(verification)
        if answer is not None:
            return answer
    # Not before: the handler may have signed somebody in, or out. A form that another tab keeps is not the way on.
    proof = state.tokens.load_proof(verification.proof)
    kept = None if wanted else pending_form.find(state, verification.purpose, new=proof)
    if kept is not None:
        next_path = pages.url("repeat", verification.purpose, of=pending_form.id_of(kept[0]))
    if wants_html():
        return redirect(next_path, 303)
    return jsonify(
        verified=True,
        identifier=verification.identifier,
        channel=verification.channel,
        channels=list(verification.channels),
        purpose=verification.purpose,
        verified_at=verification.verified_at.isoformat(),
        proof=verification.proof,
        proof_expires_in=round((verification.expires_at - verification.verified_at).total_seconds()),
        next=next_path,
    )


def _next_path(state: AppState, purpose: str, given: str | None) -> str:
    """Where it goes on: where the form says, though that be nowhere; else where the session does."""
    wanted = session.get("next", purpose) or "" if given is None else given
    return wanted if is_safe_path(wanted) else request.script_root + state.settings.default_next


def _refuse_foreign_root() -> Answer | None:
    # No page, which would have its style and its forms on that other host.
    return None if is_own_root() else InvalidRequest().as_problem()


def _refuse_cross_origin() -> None:
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        settings = current_state().settings
        refuse_cross_origin(settings.base_url, settings.trusted_origins)


def _add_headers(response: Response) -> Response:
    present = {name.lower() for name, _ in response.headers}
    response.headers.extend([(name, value) for name, value in PAGE_HEADERS.items() if name.lower() not in present])
    if "vary" in present:
        response.vary.add("Cookie")
    # Static files come with a caching header of their own, and under this prefix nothing is cached.
    response.headers["Cache-Control"] = "no-store"
    return response


def finish(response: Response) -> Response:
    """After all functions of the app, also its CORS extension, and before the session is saved."""
    session.finish(response)
    if request.blueprint == BLUEPRINT:
        state = current_state()
        if state.is_mounted:
            allow_trusted_origin(response, state.settings.trusted_origins)
    return response


def _answer_error(error: HTTPException) -> Answer:
    if error.code is not None and error.code < 400:
        return error.get_response()
    if isinstance(error, VerificationRequired) and error.location is not None:
        return error.get_response()  # a guard of our own: browsers are led to the form
    ours = error if isinstance(error, OTPError) else OTPError.from_http(error)
    response = current_state().render_error(ours) if wants_html() else ours.as_problem()
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response
