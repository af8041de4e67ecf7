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
