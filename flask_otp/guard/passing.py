"""The guard itself: whether the current request may pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask import Response, after_this_request, current_app

from ..channels.kept import TRUSTED
from ..errors import ConfigError, InvalidRequest
from ..http import pending_form, session, trusted_browser
from ..http.requests import this_request
from ..models import Verification
from ..signals import guard_decided
from ..state import AppState, current_state
from ..urls import is_own_root
from .fitting import Asked, asked_by, fits, why_refused
from .refusal import Refused, has_handler_for_ours, may_write, refusal
from .rules import Rule


def enforce(rule: Rule) -> Any:
    """Return ``None`` if the current request may pass, else the response of the app's ``unauthorized_handler``.

    If Flask answers ``OPTIONS`` itself, it still does, because a preflight has no credentials. A view with its own
    ``OPTIONS`` needs a proof, as for any method. Without one, Flask's answer replaces the refusal.

    :raises VerificationRequired: the request may not pass, and there is no such handler.
    :raises StoreUnavailable: the store does not answer, so the request may not pass.
    """
    asking = this_request()
    is_options = asking.method == "OPTIONS"
    if is_options and getattr(asking.url_rule, "provide_automatic_options", False):
        return current_app.make_default_options_response()
    after_this_request(_mark_private)
    state = current_state()
    if rule.purpose not in state.settings.purposes:
        raise ConfigError(f"otp_required: the purpose {rule.purpose!r} is not in OTP_PURPOSES")
    if _passes_at_once(state, rule):
        return None
    asked, ends = asked_by(state, rule), state.trust.ends
    for proof in session.proofs(state, rule.purpose):
        is_it = fits(state, proof, rule, asked.context, asked.person)
        if is_it and (state.end(proof) if rule.once else state.vouches(proof)):
            if may_write(state):
                session.heal(state, proof)
                pending_form.forget_if_this_is_it(state, proof)
            session.note_checked(state, rule.purpose, proof, ends, is_spent=rule.once)
            state.events.tell(guard_decided, "passed", proof)
            return None
    if rule.trust is not None and _is_trusted(state, rule, rule.trust, asked, ends):
        return None
    if is_options:
        return current_app.make_default_options_response()
    if not is_own_root():
        return InvalidRequest().as_problem()
    if guard_decided.receivers:
        state.events.tell(guard_decided, "refused", reason=why_refused(state, rule, asked), purpose_name=rule.purpose)
    error = refusal(state, rule, asked)
    answer = None if state.hooks.unauthorized_handler is None else state.hooks.unauthorized_handler(error)
    if answer is None:
        raise error if has_handler_for_ours() else Refused.of(error)
    return answer


def _passes_at_once(state: AppState, rule: Rule) -> bool:
    """A shortcut with a third of the steps for the usual case: the session has the proof, and the rule is plain.

    It accepts only requests that :func:`enforce` would accept too, with the same effects. All other requests go through
    :func:`enforce`.
    """
    asking = this_request()
    if (
        not rule.is_plain
        or asking.method not in ("GET", "HEAD")  # other methods may submit the form that is kept for this proof
        or "HTTP_AUTHORIZATION" in asking.environ
    ):
        return False
    token, ends = session.get("proof", rule.purpose), state.trust.ends
    proof = state.tokens.load_proof(token)
    if proof is None:
        return False
    own = state.own_identifier()
    if not (fits(state, proof, rule, b"", own) and state.vouches(proof)):
        return False
    session.note_passed(state, proof, ends, asking, token, own)
    state.events.tell(guard_decided, "passed", proof)
    return True


def require(purpose: str, channels: tuple[str, ...], max_age: int) -> Any:
    """The guard of our own pages: like :func:`enforce` with these arguments."""
    return enforce(Rule(purpose, max_age, channels))


def find_verification(purpose: str) -> Verification | None:
    """The current client's verification for a purpose: the one that the guard accepted, else one without context."""
    state = current_state()
    if state.is_asking:
        return None  # it is not known yet who is signed in, and so whose proof it must be
    found = session.find_checked(state, purpose)
    if found is None:
        rule = Rule(purpose)
        asked, ends = asked_by(state, rule), state.trust.ends
        own = (p for p in session.proofs(state, purpose) if fits(state, p, rule, asked.context, asked.person))
        proof = next((p for p in own if state.vouches(p)), None)
        session.note_checked(state, purpose, proof, ends)
    else:
        proof = found.proof
    return None if proof is None else state.service.verification(proof)


def _is_trusted(state: AppState, rule: Rule, life: int, asked: Asked, ends: int) -> bool:
    """Whether this browser may skip the code: it has been trusted for the signed-in person, for ``life`` seconds."""
    if state.hooks.identifier_loader is None:
        raise ConfigError("otp_required: trust needs an identifier_loader, which returns the signed-in user")
    own, oldest = state.own_identifier(), state.clock() - life
    for trust in trusted_browser.proofs(state, rule.purpose):
        if (
            trust.identifier == own
            and trust.verified_at >= oldest
            and fits(state, trust, rule, asked.context, asked.person)
            and state.vouches(trust)
        ):
            proof = replace(trust, channel=TRUSTED)
            session.note_checked(state, rule.purpose, proof, ends)
            state.events.tell(guard_decided, "passed", proof)
            return True
    return False


def _mark_private(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    # An app that saves a session it has read sets this itself. Doing it twice costs more than the whole guard.
    if not getattr(session.unseen_session(), "accessed", False):
        response.vary.add("Cookie")
    return response
