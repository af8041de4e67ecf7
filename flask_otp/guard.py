"""``@otp_required``: nobody passes without a verification that fits, and that the store still vouches for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial, wraps
from inspect import iscoroutinefunction, signature
from typing import Any, NamedTuple, TypeVar, overload

from flask import Flask, Response, after_this_request, current_app, request, url_for
from flask import session as flask_session
from flask.views import View
from werkzeug.routing import RoutingException

from .config.parsers import seconds
from .crypto.context import json_digest
from .crypto.payloads import REQUIREMENT_LIFE, Proof, Requirement
from .errors import ConfigError, InvalidRequest, VerificationRequired
from .factors.trusted import TRUSTED
from .http import pending_form, session, trusted_browser
from .http.requests import is_cross_origin, is_navigation, own_origin, request_path
from .models import Verification
from .signals import guard_decided
from .site import BLUEPRINT
from .startup_checks import note_guard, note_guarded
from .state import AppState, current_state
from .stores.base import LEEWAY
from .urls import is_own_root, is_safe_path

F = TypeVar("F", bound=Callable[..., Any])

_DAY = 86400
#: Characters of a requirement and a way back that an address has room for, so that no server on the way cuts it short.
_ADDRESS = 2800


@dataclass(frozen=True)
class Rule:
    """The arguments of one guard, checked."""

    purpose: str
    max_age: int | None = None
    channels: tuple[str, ...] = ()
    context: Callable[[], Any] | None = None
    identifier: Callable[[], str] | None = None
    once: bool = False
    #: Seconds after a verification for which its browser does not need another one, if the person wants that.
    trust: int | None = None


def make_rule(
    purpose: str = "login",
    max_age: str | int | timedelta | None = None,
    channels: Iterable[str] = (),
    context: Callable[[], Any] | None = None,
    identifier: Callable[[], str] | None = None,
    once: bool = False,
    trust: str | int | timedelta | None = None,
) -> Rule:
    """
    :raises ConfigError: an argument is of the wrong kind.
    """
    if not isinstance(purpose, str):
        raise ConfigError(f"otp_required: purpose must be a name, not {purpose!r}")
    for name, function in (("context", context), ("identifier", identifier)):
        if function is not None and not _can_be_called(function):
            raise ConfigError(
                f"otp_required: {name} must be a function without arguments, and no async one: "
                "it is called at each request"
            )
    names = () if isinstance(channels, str) or not isinstance(channels, Iterable) else tuple(channels)
    if channels != () and (not names or not all(isinstance(name, str) for name in names)):
        raise ConfigError(f'otp_required: channels must be a list of names, such as ("sms",), not {channels!r}')
    try:
        oldest = None if max_age is None else seconds(max_age)
    except ValueError as error:
        raise ConfigError(f"otp_required: max_age {error}, not {max_age!r}") from None
    return Rule(purpose, oldest, names, context, identifier, bool(once), _trust(trust, context, once))


def _trust(trust: str | int | timedelta | None, context: object, once: bool) -> int | None:
    """
    :raises ConfigError: it is no duration, or makes no sense with the other arguments.
    """
    if trust is None:
        return None
    if context is not None or once:
        raise ConfigError("otp_required: trust cannot be combined with context or once: each of those needs a new code")
    try:
        life = seconds(trust)
    except ValueError as error:
        raise ConfigError(f"otp_required: trust {error}, not {trust!r}") from None
    if not _DAY <= life <= 90 * _DAY:
        raise ConfigError(f"otp_required: trust must be between 1 and 90 days, not {trust!r}")
    return life


def _can_be_called(function: object) -> bool:
    if not callable(function) or iscoroutinefunction(function):
        return False
    try:
        signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # a built-in that does not tell
        return True
    return True


@overload
def otp_required(view: F) -> F: ...
@overload
def otp_required(
    *,
    purpose: str = ...,
    max_age: str | int | timedelta | None = ...,
    channels: Iterable[str] = ...,
    context: Callable[[], Any] | None = ...,
    identifier: Callable[[], str] | None = ...,
    once: bool = ...,
    trust: str | int | timedelta | None = ...,
) -> Callable[[F], F]: ...
def otp_required(view: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Let only verified clients into a view: a function, an ``async def`` or a class-based view.

    Put it under the route decorator. Browsers are sent to the form and come back; others get 401.

    :param purpose: what the code must have been for.
    :param max_age: the oldest acceptable verification: ``"5m"``, seconds or a timedelta.
    :param channels: only verifications by one of these channels. A code that was sent again by another channel counts
        only if that one is named too.
    :param context: a function whose JSON value the code must have been bound to.
    :param identifier: a function that says whose verification it must be.
    :param once: each verification passes one request only.
    :param trust: 1 to 90 days. A signed-in person may tick a box beside the code, and this browser then passes for so
        long without another one. Needs an ``identifier_loader``. ``max_age`` refuses it as soon as the code is too old.
    :raises ConfigError: at import or at the first request, when it is used wrongly.
    """
    rule = make_rule(**options)
    if view is None:
        return partial(_guard, rule)
    return _guard(rule, view)


def _guard(rule: Rule, view: Any) -> Any:
    if isinstance(view, type) and issubclass(view, View):
        view.decorators = [*view.decorators, partial(_guard, rule)]
        note_guarded(view)
        return view
    if not callable(view):
        raise ConfigError("otp_required must be put on a view function or class")

    is_async = iscoroutinefunction(view)

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        refusal = enforce(rule)
        if refusal is not None:
            return refusal
        return (current_app.ensure_sync(view) if is_async else view)(*args, **kwargs)

    note_guarded(view)
    note_guard(guarded, rule.purpose, rule.channels, trust=rule.trust)
    return guarded


def enforce(rule: Rule) -> Any:
    """Return ``None`` where the current request may pass, else what the app's ``unauthorized_handler`` answers.

    Where Flask answers ``OPTIONS`` itself it does so, since a preflight has no credentials. A view with an ``OPTIONS``
    of its own is reached with a proof, as by any method. Without one, Flask's answer takes the place of a refusal.

    :raises VerificationRequired: it may not, and there is no such handler.
    :raises StoreUnavailable: nobody can say, so it may not.
    """
    is_options = request.method == "OPTIONS"
    if is_options and getattr(request.url_rule, "provide_automatic_options", True):
        return current_app.make_default_options_response()
    after_this_request(_mark_private)
    state = current_state()
    if rule.purpose not in state.settings.purposes:
        raise ConfigError(f"otp_required: the purpose {rule.purpose!r} is not in OTP_PURPOSES")
    asked, ends = _asked(state, rule), state.trust.ends
    for proof in session.proofs(state, rule.purpose):
        if _fits(state, proof, rule, asked) and (state.end(proof) if rule.once else state.vouches(proof)):
            if _may_write(state):
                session.heal(state, proof)
                pending_form.forget_if_this_is_it(state, proof)
            session.note_checked(state, rule.purpose, proof, ends, is_spent=rule.once)
            state.events.tell(guard_decided, "passed", proof)
            return None
    if rule.trust is not None and _is_trusted(state, rule, asked, ends):
        return None
    if is_options:
        return current_app.make_default_options_response()
    if not is_own_root():
        return InvalidRequest().as_problem()
    if guard_decided.receivers:
        state.events.tell(guard_decided, "refused", reason=_why_refused(state, rule, asked), purpose_name=rule.purpose)
    error = _refusal(state, rule, asked)
    answer = None if state.hooks.unauthorized_handler is None else state.hooks.unauthorized_handler(error)
    if answer is None:
        raise error if _has_handler_for_ours() else _Refused.of(error)
    return answer


class _Refused(VerificationRequired, RoutingException):
    """The guard's refusal as Flask itself answers it.

    Flask gives no routing exception to an error handler. So the redirect and the headers reach the client although the
    app shows pages of its own for ``HTTPException``, 401 or ``Exception``, which know nothing of them.
    """

    @classmethod
    def of(cls, error: VerificationRequired) -> _Refused:
        refused = cls.__new__(cls)
        vars(refused).update(vars(error))
        return refused


def _has_handler_for_ours() -> bool:
    """Whether the app handles our own error by its class: that handler knows what it has there, so it is asked."""
    handlers = current_app.error_handler_spec
    return any(
        VerificationRequired in handlers[name].get(code, {})
        for name in (*request.blueprints, None)
        for code in (VerificationRequired.code, None)
    )


def _may_write(state: AppState) -> bool:
    """Whether this request may write the session: a person navigates, and no other site has sent them.

    What a poll writes, or an image, takes back what an answer before it has set.
    """
    return is_navigation() and not is_cross_origin(state.settings.base_url)


def require(purpose: str, channels: tuple[str, ...], max_age: int) -> Any:
    """The guard of our own pages: as :func:`enforce` with these arguments."""
    return enforce(Rule(purpose, max_age, channels))


def protector(rule: Rule, exempt: Iterable[str], blueprint: str) -> Callable[[], Any]:
    """A ``before_request`` function that guards every endpoint but ours, the app's static files, and the exempt ones.

    :param blueprint: name of the blueprint that it is for, so that ``exempt`` may leave it out.
    """
    if isinstance(exempt, str):
        raise ConfigError(f'protect: exempt must be a list of endpoints, such as ["{exempt}"]')
    exempt = frozenset(exempt)

    def protect() -> Any:
        endpoint = request.endpoint
        if endpoint is None or _is_static_files() or _is_ours(request.blueprint):
            return None
        return None if endpoint in exempt or _local(endpoint, blueprint) in exempt else enforce(rule)

    note_guard(protect, rule.purpose, rule.channels, exempt, rule.trust)
    return protect


def find_verification(purpose: str) -> Verification | None:
    """The verification of the current client for a purpose: the one that the guard let in, else one without context."""
    state = current_state()
    if state.is_asking:
        return None  # nobody can say yet who is signed in, so whose a proof would have to be
    found = session.find_checked(state, purpose)
    if found is None:
        rule = Rule(purpose)
        asked, ends = _asked(state, rule), state.trust.ends
        fitting = (p for p in session.proofs(state, purpose) if _fits(state, p, rule, asked) and state.vouches(p))
        proof = next(fitting, None)
        session.note_checked(state, purpose, proof, ends)
    else:
        proof = found.proof
    return None if proof is None else state.service.verification(proof)


def _is_trusted(state: AppState, rule: Rule, asked: _Asked, ends: int) -> bool:
    """Whether this browser may go without a code: it is trusted for the person who is signed in, and no other."""
    if state.hooks.identifier_loader is None:
        raise ConfigError("otp_required: trust needs an identifier_loader, which says who is signed in")
    own = state.own_identifier()
    if rule.trust is None or own is None:
        return False
    oldest = state.clock() - rule.trust
    for trust in trusted_browser.proofs(state, rule.purpose):
        if (
            trust.identifier == own
            and trust.verified_at >= oldest
            and _fits(state, trust, rule, asked)
            and state.vouches(trust)
        ):
            proof = replace(trust, channel=TRUSTED)
            session.note_checked(state, rule.purpose, proof, ends)
            state.events.tell(guard_decided, "passed", proof)
            return True
    return False


class _Asked(NamedTuple):
    """What a rule comes to at the current request."""

    context: bytes
    context_values: Any
    identifier: str | None


def _asked(state: AppState, rule: Rule) -> _Asked:
    context_values = rule.context() if rule.context is not None else None
    return _Asked(
        # A context that comes out as None is still one: a proof without context must not do for it.
        context=b"" if rule.context is None else json_digest(context_values),
        context_values=context_values,
        identifier=None if rule.identifier is None else state.identifiers.named(rule.identifier()).value,
    )


def _fits(state: AppState, proof: Proof, rule: Rule, asked: _Asked) -> bool:
    now = state.clock()
    identifier = asked.identifier if asked.identifier is not None else state.own_identifier()
    return (
        proof.purpose == rule.purpose
        and proof.context == asked.context
        and identifier in (None, proof.identifier)
        and proof.is_by(rule.channels)
        and proof.verified_at <= now + LEEWAY
        and (rule.max_age is None or now - proof.verified_at <= rule.max_age)
        and now < proof.expires_at
    )


def _why_refused(state: AppState, rule: Rule, asked: _Asked) -> str:
    """Why the first proof of the client did not do, for the signal ``guard_decided``."""
    proof = next(iter(session.proofs(state, rule.purpose)), None)
    if proof is None:
        return "no_proof"
    now = state.clock()
    identifier = asked.identifier if asked.identifier is not None else state.own_identifier()
    reasons = {
        "context": proof.context != asked.context,
        "identifier": identifier not in (None, proof.identifier),
        "channel": not proof.is_by(rule.channels),
        "expired": proof.expires_at <= now or proof.verified_at > now + LEEWAY,
        "age": rule.max_age is not None and now - proof.verified_at > rule.max_age,
    }
    return next((reason for reason, holds in reasons.items() if holds), "ended")


def _refusal(state: AppState, rule: Rule, asked: _Asked) -> VerificationRequired:
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
    if _may_write(state):
        session.set("requirement", rule.purpose, token)
    way_back = None if pending_form.keep(state, required) else _way_back()
    # In the address, so that two tabs ask for two things, and a visitor from another site needs no session for it.
    says_more = bool(rule.context or rule.channels or asked.identifier is not None)
    # But no order that another site has posted: its page would ask the person to confirm what they never entered.
    says_more = says_more and (request.method in ("GET", "HEAD") or _may_write(state))
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


def _mark_private(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    # Whoever saves a session that was looked at says so himself; twice costs more than the whole guard.
    if not getattr(flask_session, "accessed", False):
        response.vary.add("Cookie")
    return response


def _is_static_files() -> bool:
    """Whether this is the route that Flask itself has made for the app's static folder. A view may have its name."""
    rule = request.url_rule
    if rule is None or rule.endpoint != "static" or not current_app.has_static_folder:
        return False
    made_by_flask = getattr(current_app.view_functions["static"], "__module__", None) == Flask.__module__
    return made_by_flask and rule.rule == f"{current_app.static_url_path}/<path:filename>"


def _is_ours(blueprint: str | None) -> bool:
    return blueprint is not None and current_app.blueprints.get(blueprint) is current_state().blueprint


def _local(endpoint: str, blueprint: str) -> str:
    """The endpoint as its blueprint calls it, whatever that is nested in; "" where it is another's."""
    before, _, name = endpoint.rpartition(".")
    return name if blueprint and (before == blueprint or before.endswith("." + blueprint)) else ""
