"""How a guard refuses: browsers are sent to the form and come back, others get 401."""

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

#: Characters of a requirement and a way back that an address has room for, so that no server on the way cuts it short.
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
    # In the address, so that two tabs ask for two things, and a visitor from another site needs no session for it.
    says_more = bool(rule.context or rule.channels or asked.identifier is not None)
    # But no order that another site has posted: its page would ask the person to confirm what they never entered.
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
    """Where the browser should return to: this page, or for a form that is not kept, the page it stood on."""
    if request.method in ("GET", "HEAD"):
        path = request_path()
    elif request.referrer and request.referrer.startswith(own_origin() + "/"):
        path = request.referrer[len(own_origin()) :]
    else:
        return None
    return path if is_safe_path(path) else None


def may_write(state: AppState) -> bool:
    """Whether this request may write the session: a person navigates, and no other site has sent them.

    What a poll writes, or an image, takes back what an answer before it has set.
    """
    return is_navigation() and not is_cross_origin(state.settings.base_url)


class Refused(VerificationRequired, RoutingException):
    """The guard's refusal as Flask itself answers it.

    Flask gives no routing exception to an error handler. So the redirect and the headers reach the client although the
    app shows pages of its own for ``HTTPException``, 401 or ``Exception``, which know nothing of them.
    """

    @classmethod
    def of(cls, error: VerificationRequired) -> Refused:
        refused = cls.__new__(cls)
        vars(refused).update(vars(error))
        return refused


def has_handler_for_ours() -> bool:
    """Whether the app handles our own error by its class: that handler knows what it has there, so it is asked."""
    handlers = current_app.error_handler_spec
    return any(
        VerificationRequired in handlers[name].get(code, {})
        for name in (*request.blueprints, None)
        for code in (VerificationRequired.code, None)
    )
