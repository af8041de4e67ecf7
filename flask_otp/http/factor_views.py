"""Pages and API for signed-in users to add and remove authenticator apps, and to renew recovery codes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from itertools import chain, count
from typing import Any

from flask import Blueprint, Response, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from ..channels.kept import KEPT_FACTORS
from ..errors import InvalidCode, InvalidRequest, OTPError, RateLimited, VerificationRequired
from ..languages import N_, gettext, tell_language
from ..models import Enrolment
from ..site import BLUEPRINT
from ..state import AppState, current_state
from . import routes, session
from .requests import read_body, wants_html

Answer = ResponseReturnValue

#: The guard: ``(purpose, channels, max_age) -> None`` if the request may pass, else the response to return.
Guard = Callable[[str, tuple[str, ...], int], Any]
#: A view that takes the canonical identifier of the signed-in user.
View = Callable[[AppState, str], Answer]

#: Maximum age of the user's last code, in seconds.
FRESH = 900


def add_routes(blueprint: Blueprint, guard: Guard) -> None:
    """
    :param guard: does the same as ``@otp_required``, which is in a higher layer.
    """
    views: dict[str, View] = {"app": show, "add_app": add, "remove_app": remove, "renew_recovery": renew}
    for route in routes.FACTORS:
        view = _guarded(views[route.endpoint], guard)
        blueprint.add_url_rule(route.path, route.endpoint, view, methods=[route.method])


def _guarded(view: View, guard: Guard) -> Callable[[], Answer]:
    @wraps(view)
    def guarded() -> Answer:
        state = current_state()
        if state.hooks.factors_loader is None:
            raise NotFound
        own = state.own_identifier()
        if own is None:
            raise VerificationRequired(N_("Please sign in first."))
        refusal = _refusal(state, own, guard)
        return view(state, own) if refusal is None else refusal

    return guarded


def _refusal(state: AppState, own: str, guard: Guard) -> Any:
    """The response if the user must verify a code first.

    A user with an app must show a code of it or a recovery code: access to the mailbox must not be enough to replace
    the app. For a first app, a code by any channel is accepted, or a recent sign-in with a password if the app says so.
    """
    has_app = bool(state.factors.enroller.factors(own).totp)
    may_enrol = state.hooks.may_enrol
    if not has_app and may_enrol is not None and may_enrol() is True:
        return None
    for purpose, rules in state.settings.purposes.items():
        channels = state.routing.channels_of(rules)
        kept = tuple(name for name in KEPT_FACTORS if name in channels)
        if kept and has_app:
            return guard(purpose, kept, FRESH)
        sending = tuple(name for name in channels if name not in KEPT_FACTORS)
        if sending and not has_app:
            return guard(purpose, sending, FRESH)
    # No purpose accepts such a code, so none could be requested.
    return guard(next(iter(state.settings.purposes)), (), FRESH)


def show(state: AppState, own: str) -> Answer:
    """A new QR code. Nothing is saved, so opening the page changes nothing."""
    if wants_html():
        return _app_page(state, own, None)
    return jsonify(_described(state, own) | _enrolment(state.factors.enroller.begin(own, _free_name(state, own))))


def add(state: AppState, own: str) -> Answer:
    body = read_body(routes.ADD_APP)
    network = session.network()
    try:
        if network is not None:
            state.limits.count_verify(network)
        if "enrolment" not in body:
            raise InvalidRequest(N_("Please scan the QR code first."))
        if not body.get("code", "").strip():
            raise InvalidCode(N_("Please enter the code."))
        codes = state.factors.enroller.confirm(body["enrolment"], body["code"], name=body.get("name"), identifier=own)
    except (InvalidCode, InvalidRequest, RateLimited) as error:
        if not wants_html():
            raise
        again = state.factors.enroller.show_again(body.get("enrolment", ""), own)
        return _app_page(state, own, again, error=error, name=body.get("name"))
    return _changed(state, own, codes)


def remove(state: AppState, own: str) -> Answer:
    body = read_body(routes.REMOVE_APP)
    try:
        state.factors.enroller.remove(own, body.get("name", ""))
    except InvalidRequest as error:
        if not wants_html():
            raise
        return _app_page(state, own, None, error=error)
    return _changed(state, own, ())


def renew(state: AppState, own: str) -> Answer:
    read_body(routes.RENEW_RECOVERY)
    return _changed(state, own, state.factors.enroller.renew(own))


def _changed(state: AppState, own: str, codes: tuple[str, ...]) -> Answer:
    if not wants_html():
        return jsonify(_described(state, own) | ({"recovery_codes": list(codes)} if codes else {}))
    if not codes:
        return redirect(url_for(f"{BLUEPRINT}.app"), 303)
    # Not after a redirect, because the codes would have to be stored in between.
    page = state.render_page(
        "recovery.html", codes=codes, next_url=_way_out(state), app_url=url_for(f"{BLUEPRINT}.app")
    )
    return _answer(page, None)


def _app_page(
    state: AppState, own: str, enrolment: Enrolment | None, *, error: OTPError | None = None, name: str | None = None
) -> Answer:
    factors = state.factors.enroller.factors(own)
    if enrolment is None:
        # If there is no room for another app, existing apps can still be removed.
        with suppress(InvalidRequest):
            enrolment = state.factors.enroller.begin(own, _free_name(state, own))
    page = state.render_page(
        "app.html",
        enrolment=enrolment,
        factors=factors,
        new_name=_free_name(state, own) if name is None else name,
        app_url=url_for(f"{BLUEPRINT}.app"),
        remove_url=url_for(f"{BLUEPRINT}.remove_app"),
        recovery_url=url_for(f"{BLUEPRINT}.renew_recovery"),
        next_url=_way_out(state),
        error=error,
    )
    return _answer(page, error)


def _way_out(state: AppState) -> str:
    return request.script_root + state.settings.default_next


def _answer(page: str, error: OTPError | None) -> Answer:
    response = Response(page, error.code if error else 200)
    tell_language(response)
    if error is not None:
        response.headers.update(error.extra_headers())
    return response


def _free_name(state: AppState, own: str) -> str:
    """A name suggestion, which the user may change."""
    taken, phone = state.factors.enroller.factors(own).totp, gettext(N_("phone"))
    names = chain([phone], (f"{phone} {number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def _described(state: AppState, own: str) -> dict[str, Any]:
    factors = state.factors.enroller.factors(own)
    return {"apps": list(factors.totp), "recovery_left": factors.recovery_left}


def _enrolment(enrolment: Enrolment) -> dict[str, Any]:
    return {
        "enrolment": enrolment.token,
        "uri": enrolment.uri,
        "secret": enrolment.secret,
        "svg": enrolment.svg,
        "expires_in": enrolment.expires_in,
    }
