"""How a guard refuses: browsers are redirected to the form and return, other clients get 401."""

from __future__ import annotations

from typing import Any

from flask import current_app, request, url_for
from werkzeug.routing import RoutingException

from ..crypto.payloads import REQUIREMENT_LIFE, Requirement
from ..errors import VerificationRequired
from ..http import pending_form, session
from ..http.requests import is_cross_origin, is_navigation, own_origin, request_path
from ..site import BLUEPRINT
from ..state import AppState
from ..urls import is_safe_path
from .fitting import Asked
from .rules import Rule

#: Maximum characters of a requirement and a return path in a URL, so no server on the way cuts it off.
_ADDRESS = 2800


def refusal(state: AppState, rule: Rule, asked: Asked) -> VerificationRequired:
    required = Requirement(
        purpose=rule.purpose,
        context=asked.context,
        context_values=asked.context_values,
        identifier=asked.identifier,
        channels=rule.channels,
        expires_at=int(state.clock()) + REQUIREMENT_LIFE,
        user=state.own_identifier(),
    )
    token = state.tokens.dump_requirement(required)
    if may_write(state):
        session.set("requirement", rule.purpose, token)
    way_back = None if pending_form.keep(state, required) else _way_back()
    # In the URL, so two tabs can have different requirements, and a visitor from another site needs no session for it.
    says_more = bool(rule.context or rule.channels or asked.identifier is not None)
    # But no order posted by another site: its page would ask the person to confirm what they never entered.
    says_more = says_more and (request.method in ("GET", "HEAD") or may_write(state))
    arguments: dict[str, Any] = {
        "next": way_back,
        "purpose": None if rule.purpose == "login" else rule.purpose,
        "requirement": token if says_more and len(token) + len(way_back or "") <= _ADDRESS else None,
    }
    location = url_for(f"{BLUEPRINT}.start", **arguments) if state.is_mounted else None
    return VerificationRequired(
        purpose=rule.purpose,
        channels=rule.channels,
        max_age=rule.max_age,
        requirement=token,
        location=location,
    )


def _way_back() -> str | None:
    """Where the browser returns to: this page, or the page of a form that is not kept."""
    if request.method in ("GET", "HEAD"):
        path = request_path()
    elif request.referrer and request.referrer.startswith(own_origin() + "/"):
        path = request.referrer[len(own_origin()) :]
    else:
        return None
    return path if is_safe_path(path) else None


def may_write(state: AppState) -> bool:
    """Whether this request may write the session: a person navigates, and no other site has sent them.

    A write by a poll or an image could undo what an earlier response has set.
    """
    return is_navigation() and not is_cross_origin(state.settings.base_url)


class Refused(VerificationRequired, RoutingException):
    """The guard's refusal as an exception that Flask answers itself.

    Flask passes no routing exception to error handlers. So the redirect and the headers reach the client even if the
    app has its own pages for ``HTTPException``, 401 or ``Exception``, which do not know them.
    """

    @classmethod
    def of(cls, error: VerificationRequired) -> Refused:
        refused = cls.__new__(cls)
        vars(refused).update(vars(error))
        return refused


def has_handler_for_ours() -> bool:
    """Whether the app has a handler for our own error class. Such a handler knows the error, so it is called."""
    handlers = current_app.error_handler_spec
    return any(
        VerificationRequired in handlers[name].get(code, {})
        for name in (*request.blueprints, None)
        for code in (VerificationRequired.code, None)
    )
