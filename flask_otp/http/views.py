"""The HTTP API and its two pages: parse, call, answer. JSON in, JSON out; form in, page or redirect out."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, json, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from .. import identifiers
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
)
from ..languages import N_, tell_language
from ..models import Challenge, Verification
from ..site import BLUEPRINT
from ..state import AppState, current_state
from ..urls import is_safe_path
from . import actions, pages, pending_form, session
from .requests import read_body, refuse_cross_origin, wants_html

Answer = ResponseReturnValue

_ROUTES = {"": "GET", "send": "POST", "verify": "GET, POST", "resend": "POST", "repeat": "GET", "logout": "POST"}
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
#: Errors that a person can mend on the form, or by trying again from it.
_ON_THE_FORM = (InvalidIdentifier, InvalidCode, RateLimited, DeliveryFailed, StoreUnavailable)


def create_blueprint() -> Blueprint:
    """The routes, to be mounted at ``OTP_URL_PREFIX``. They find their app's state at each request."""
    blueprint = Blueprint(BLUEPRINT, "flask_otp", template_folder="templates", static_folder="static")
    blueprint.before_request(_refuse_cross_origin)
    blueprint.after_request(_add_headers)
    blueprint.register_error_handler(HTTPException, _answer_error)
    blueprint.add_url_rule("/", "start", start)
    blueprint.add_url_rule("/send", "send", send, methods=["POST"])
    blueprint.add_url_rule("/verify", "enter", enter, methods=["GET"])
    blueprint.add_url_rule("/verify", "verify", verify, methods=["POST"])
    blueprint.add_url_rule("/resend", "resend", resend, methods=["POST"])
    blueprint.add_url_rule("/link/<secret>", "link", pages.show, methods=["GET"])
    blueprint.add_url_rule("/repeat", "repeat", confirm, methods=["GET"])
    blueprint.add_url_rule("/logout", "logout", logout, methods=["POST"])
    blueprint.add_url_rule("/health", "health", health, methods=["GET"])
    blueprint.add_url_rule("/", "unknown_root", unknown, methods=_METHODS[1:])
    blueprint.add_url_rule("/<path:rest>", "unknown", unknown, methods=_METHODS)
    return blueprint


def start() -> Answer:
    """The page that asks for an address."""
    purpose = request.args.get("purpose", "login")
    state = current_state()
    state.service.purpose(purpose)
    wanted = request.args.get("next", "")
    if is_safe_path(wanted):
        session.set("next", purpose, wanted)
    session.client(state)
    return _start_page(state, purpose)


def send() -> Answer:
    body = read_body("identifier", "email", "phone", "channel", "purpose", "requirement", "next")
    named = [name for name in ("identifier", "email", "phone") if name in body]
    identifier = body[named[0]] if named else None
    purpose = body.get("purpose")
    try:
        if len(named) > 1:
            raise InvalidIdentifier(N_("Give one of identifier, email and phone."))
        challenge = actions.send_as_asked(identifier, body.get("channel") or None, purpose, body.get("requirement"))
    except _ON_THE_FORM as error:
        if not wants_html():
            raise
        return _start_page(
            current_state(),
            "login" if purpose is None else purpose,
            error=error,
            identifier=identifier or "",
            channel=body.get("channel"),
        )
    if is_safe_path(body.get("next", "")):
        session.set("next", challenge.purpose, body["next"])
    return _challenge_answer(challenge)


def enter() -> Answer:
    """The page that asks for the code."""
    purpose = request.args.get("purpose", "login")
    state = current_state()
    state.service.purpose(purpose)
    if state.tokens.load_handle(session.get("challenge", purpose)) is None:
        return redirect(_url("start", purpose), 303)
    return _code_page(state, purpose)


def verify() -> Answer:
    body = read_body("code", "link", "challenge", "purpose")
    given = [name for name in ("code", "link") if name in body]
    if not given:
        raise InvalidCode(N_("Please enter the code."))
    if len(given) > 1:
        raise InvalidRequest(N_("Give one of code and link."))
    purpose, is_link = body.get("purpose"), given == ["link"]
    try:
        verification = actions.verify_as_asked(body[given[0]], body.get("challenge"), purpose, is_link=is_link)
    except ChallengeRequired:
        if not wants_html():
            raise
        return redirect(_url("start", actions.own_purpose(purpose)), 303)
    except _ON_THE_FORM as error:
        if not wants_html():
            raise
        if is_link and isinstance(error, InvalidCode):
            error = InvalidCode(N_("That link is no longer valid. Please type the code."))
        return _code_page(current_state(), actions.own_purpose(purpose), error=error)
    return _verified_answer(verification)


def resend() -> Answer:
    body = read_body("challenge", "purpose")
    purpose = body.get("purpose")
    try:
        challenge = actions.resend(body.get("challenge"), purpose)
    except ChallengeRequired as error:
        if not wants_html():
            raise
        return _start_page(current_state(), actions.own_purpose(purpose), error=error)
    except _ON_THE_FORM as error:
        if not wants_html():
            raise
        return _code_page(current_state(), actions.own_purpose(purpose), error=error)
    return _challenge_answer(challenge)


def confirm() -> Answer:
    """The page that sends a refused form again, once its sender has verified and presses the button."""
    purpose = request.args.get("purpose", "login")
    state = current_state()
    state.service.purpose(purpose)
    found = pending_form.find(state, purpose)
    if found is None or not state.vouches(found[1]):
        return redirect(request.script_root + state.settings.default_next, 303)
    kept = found[0]
    page = state.render_page(
        "repeat.html",
        purpose=purpose,
        path=kept.path,
        fields=list(zip(kept.fields[::2], kept.fields[1::2], strict=True)),
        context_values=_context_values(kept.context_values),
    )
    return _page(page, None)


def logout() -> Answer:
    read_body()
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
    if rest in _ROUTES:
        raise MethodNotAllowed(_ROUTES[rest].split(", "))
    raise NotFound


def _challenge_answer(challenge: Challenge) -> Answer:
    if wants_html():
        return redirect(_url("enter", challenge.purpose), 303)
    return jsonify(
        challenge=challenge.handle,
        channel=challenge.channel,
        destination=challenge.destination,
        purpose=challenge.purpose,
        code_length=challenge.code_length,
        expires_in=challenge.expires_in,
        resend_in=challenge.resend_in,
    )


def _verified_answer(verification: Verification) -> Answer:
    state = current_state()
    kept = session.get("next", verification.purpose) or ""
    session.delete("next", verification.purpose)
    next_path = kept if is_safe_path(kept) else request.script_root + state.settings.default_next
    if state.hooks.verified_handler is not None:
        answer: Answer | None = state.hooks.verified_handler(verification)
        if answer is not None:
            return answer
    # Not before: the handler may have signed somebody in, or out.
    if pending_form.find(state, verification.purpose) is not None:
        next_path = _url("repeat", verification.purpose)
    if wants_html():
        return redirect(next_path, 303)
    return jsonify(
        verified=True,
        identifier=verification.identifier,
        channel=verification.channel,
        purpose=verification.purpose,
        verified_at=verification.verified_at.isoformat(),
        proof=verification.proof,
        proof_expires_in=round((verification.expires_at - verification.verified_at).total_seconds()),
        next=next_path,
    )


def _start_page(
    state: AppState, purpose: str, *, error: OTPError | None = None, identifier: str = "", channel: str | None = None
) -> Answer:
    rules = state.service.purpose(purpose)
    asked = session.requirement(purpose)
    fixed = actions.fixed_identifier(state, asked)
    routing = state.routing
    channels = [name for name in routing.channels_of(rules) if not (asked and asked.channels) or name in asked.channels]
    page = state.render_page(
        "send.html",
        purpose=purpose,
        send_url=url_for(".send"),
        next=session.get("next", purpose) or "",
        identifier=identifier,
        destination=identifiers.mask(fixed) if fixed is not None else None,
        accepts=routing.accepts(rules),
        channels=channels,
        channel=channel,
        context_values=_context_values(asked.context_values if asked else None),
        error=error,
    )
    return _page(page, error)


def _code_page(state: AppState, purpose: str, *, error: OTPError | None = None) -> Answer:
    handle = state.tokens.load_handle(session.get("challenge", purpose))
    if handle is None:
        return _start_page(state, purpose if purpose in state.settings.purposes else "login", error=error)
    asked = session.requirement(purpose)
    page = state.render_page(
        "verify.html",
        purpose=purpose,
        challenge=state.service.describe(handle),
        verify_url=url_for(".verify"),
        resend_url=url_for(".resend"),
        start_url=None if actions.fixed_identifier(state, asked) is not None else _url("start", purpose),
        context_values=_context_values(handle.context_values),
        error=error,
    )
    return _page(page, error)


def _page(page: str, error: OTPError | None) -> Answer:
    response = Response(page, error.code if error else 200)
    tell_language(response)
    if error is not None:
        response.headers.update(error.extra_headers())
    return response


def _context_values(context_values: Any) -> dict[str, Any] | None:
    return context_values if isinstance(context_values, dict) else None


def _url(endpoint: str, purpose: str) -> str:
    return url_for(f".{endpoint}", purpose=None if purpose == "login" else purpose)


def _refuse_cross_origin() -> None:
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        refuse_cross_origin(current_state().settings.base_url)


def _add_headers(response: Response) -> Response:
    present = {name.lower() for name, _ in response.headers}
    response.headers.extend([(name, value) for name, value in PAGE_HEADERS.items() if name.lower() not in present])
    if "vary" in present:
        response.vary.add("Cookie")
    # Static files come with a caching header of their own, and under this prefix nothing is cached.
    response.headers["Cache-Control"] = "no-store"
    return response


def _answer_error(error: HTTPException) -> Answer:
    if error.code is not None and error.code < 400:
        return error.get_response()
    ours = error if isinstance(error, OTPError) else OTPError.from_http(error)
    response = current_state().render_error(ours) if wants_html() else ours.as_problem()
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response
