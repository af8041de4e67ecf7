"""``@otp_required``: the guard of one view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, overload

from flask import current_app
from flask.views import View

from ..errors import ConfigError
from ..startup_checks import note_guard, note_guarded
from .passing import enforce
from .rules import Rule, make_rule

F = TypeVar("F", bound=Callable[..., Any])


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
    """Allow only verified clients into a view: a function, an ``async def`` or a class-based view.

    Put it below the route decorator. Browsers are redirected to the form and return afterwards; other clients get 401.

    :param purpose: the purpose that the code must have been sent for.
    :param max_age: maximum age of the verification: ``"5m"``, seconds or a timedelta.
    :param channels: accept only verifications by one of these channels. If a code was sent again by another channel,
        that channel must be listed too.
    :param context: a function that returns the JSON value that the code must be bound to.
    :param identifier: a function that returns whose verification it must be.
    :param once: each verification is accepted for one request only.
    :param trust: 1 to 90 days. A signed-in user may tick a box next to the code, and this browser then passes without
        another code for this time. Needs an ``identifier_loader``. ``max_age`` still refuses it when the code is too
        old.
    :raises ConfigError: the decorator is used wrongly. Raised at import or on the first request.
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
