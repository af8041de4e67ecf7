"""Finds guards that do not guard and pages that would not work, before the app serves its first request."""

from __future__ import annotations

import logging
import os
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from flask import Blueprint, Flask

from .channels.kept import KEPT_FACTORS
from .config.parsers import nearest
from .config.settings import Settings
from .delivery.environment import loses_background
from .delivery.routing import Router
from .errors import ConfigError
from .limits import risk
from .site import BLUEPRINT

logger = logging.getLogger("flask_otp")

_PAGE = "python/otp-required"

#: The functions and classes under a guard. None of them may be a view itself.
_guarded: weakref.WeakSet[Any] = weakref.WeakSet()
#: The purpose and channels of each guard, by the guarding function.
_guards: weakref.WeakKeyDictionary[Callable[..., Any], tuple[str, tuple[str, ...]]] = weakref.WeakKeyDictionary()
#: Seconds for which each guard accepts a trusted browser instead of a proof.
_trusting: weakref.WeakKeyDictionary[Callable[..., Any], int] = weakref.WeakKeyDictionary()
#: The longest of them for each purpose, by app. Filled when the app starts to serve.
_offers: weakref.WeakKeyDictionary[Flask, dict[str, int]] = weakref.WeakKeyDictionary()
#: The endpoints that each ``protect`` exempts.
_exempt: weakref.WeakKeyDictionary[Callable[..., Any], frozenset[str]] = weakref.WeakKeyDictionary()


def note_guarded(view: Any) -> None:
    """Record that this function or class is under a guard."""
    _guarded.update(_layers(view))


def note_guard(
    guard: Callable[..., Any],
    purpose: str,
    channels: tuple[str, ...],
    exempt: frozenset[str] = frozenset(),
    trust: int | None = None,
) -> None:
    """Record that this function guards."""
    _guards[guard] = purpose, channels
    _trusting[guard] = trust or 0
    _exempt[guard] = exempt


def check_app(app: Flask, blueprint: Blueprint, routing: Router, settings: Settings) -> None:
    """Refuse to serve an app that uses us wrongly.

    :raises ConfigError: see the functions below.
    """
    routing.check_names()
    routing.check_dispatcher()
    check_guards(app, {name: routing.channels_of(purpose) for name, purpose in settings.purposes.items()})
    check_mount(app, blueprint, links=settings.links)
    _offers[app] = _find_offers(app)


def trust_offered(app: Flask) -> dict[str, int]:
    """Seconds that a browser can be trusted, by purpose: the longest time that any guard of the app allows."""
    return _offers[app] if app in _offers else _find_offers(app)


def _find_offers(app: Flask) -> dict[str, int]:
    offers: dict[str, int] = {}
    for guard in _guards_of(app):
        purpose = _guards[guard][0]
        offers[purpose] = max(offers.get(purpose, 0), _trusting[guard])
    return offers


def _guards_of(app: Flask) -> Iterable[Callable[..., Any]]:
    functions = [hook for hooks in app.before_request_funcs.values() for hook in hooks]
    for view in app.view_functions.values():
        view_class = getattr(view, "view_class", None)
        functions += [*_layers(view), *(vars(view_class).values() if view_class else ())]
    return (function for function in functions if callable(function) and function in _guards)


def warn_of_settings(app: Flask, settings: Settings) -> None:
    """Warn about settings that work but are usually mistakes. ``flask otp doctor`` reports more."""
    if app.config.get("OTP_STORAGE_URI") is None:
        warnings.warn(
            "OTP_STORAGE_URI is not set: codes and limits are kept in this process's memory, so each worker has "
            "its own and a restart forgets them; set it to redis://..., or to memory:// if that is what you want",
            stacklevel=4,
        )
    lost = loses_background() if settings.delivery == "background" else None
    if lost is not None:
        warnings.warn(
            f"OTP_DELIVERY is 'background', and deliveries may be lost: {lost}; use a queue "
            "(@otp.dispatcher), or set OTP_DELIVERY = 'inline'",
            stacklevel=4,
        )
    chance = risk.compute(settings).one_account
    if chance > settings.max_annual_risk:
        warnings.warn(
            f"with these settings, an attacker may guess into one account with a chance of {chance:.1%} a year "
            f"({risk.one_in(chance)}), more than OTP_MAX_ANNUAL_RISK ({settings.max_annual_risk:g}): lower "
            "OTP_FAILURE_BUDGET or raise OTP_CODE_LENGTH; 'flask otp doctor' shows the details",
            stacklevel=4,
        )


def tell_of_reloads(app: Flask) -> None:
    """Log, during development with Werkzeug's reloader, why a changed file signs the developer out."""
    is_reloaded = app.debug and os.environ.get("WERKZEUG_RUN_MAIN") == "true"
    if is_reloaded and app.config.get("OTP_STORAGE_URI") is None:
        logger.warning(
            "OTP_STORAGE_URI is not set: when a file changes, the reloader starts the app again, and all codes and "
            "sign-ins are gone; OTP_STORAGE_URI = 'sqlite:///dev.db' keeps them (install 'flask-otp-codes[sql]')"
        )


def check_guards(app: Flask, purposes: Mapping[str, Collection[str]]) -> None:
    """Refuse to serve an app with a guard that does not guard, or that no client can pass.

    :param purposes: the channels of each purpose.
    :raises ConfigError: ``@otp_required`` is above the route decorator, or names an unknown purpose or channel; or
        ``protect`` exempts an endpoint that does not exist.
    """
    for endpoint, view in app.view_functions.items():
        view_class = getattr(view, "view_class", None)
        meant = view in _guarded or any(base in _guarded for base in getattr(view_class, "__mro__", ()))
        if meant and not any(layer in _guards for layer in _layers(view)):
            raise ConfigError(
                f"@otp_required is above the route decorator of {endpoint!r}, or was dropped from its class's "
                "decorators: put it below @app.route"
            )
        methods = vars(view_class).values() if view_class else ()
        _check_wants(endpoint, (*_layers(view), *methods), purposes)
    for name, hooks in app.before_request_funcs.items():
        _check_wants(f"protect({name or app.name})", hooks, purposes)
        for exempt in (exempt for hook in hooks for exempt in _exempt.get(hook, ())):
            if not any(exempt in (endpoint, endpoint.rpartition(".")[2]) for endpoint in app.view_functions):
                hint = nearest(exempt, list(app.view_functions))
                raise ConfigError(f"protect({name or app.name}): there is no endpoint {exempt!r} to exempt: {hint}")


def check_mount(app: Flask, blueprint: Blueprint, *, links: bool) -> None:
    """
    :raises ConfigError: our blueprint is mounted where its URLs do not work, a guard refuses its pages too, or links
        need it and it is not mounted.
    """
    if links and blueprint not in app.blueprints.values():
        raise ConfigError("OTP_LINKS needs otp.blueprint, which serves the links: mount it")
    for name, mounted in app.blueprints.items():
        if mounted is blueprint and name != BLUEPRINT:
            raise ConfigError(f"otp.blueprint is mounted as {name!r}: mount it on the app itself, under its own name")
    for rule in app.url_map.iter_rules(f"{BLUEPRINT}.start") if app.blueprints.get(BLUEPRINT) is blueprint else ():
        if rule.rule == "/":
            raise ConfigError("otp.blueprint is mounted without a url_prefix: it would answer for the whole app")
        if any(layer in _guarded for hook in app.before_request_funcs[None] for layer in _layers(hook)):
            raise ConfigError(
                "@otp_required is on a before_request function of the app, and so guards the page that asks for a "
                "code: use otp.protect(app)"
            )


def _check_wants(where: str, guards: Iterable[Any], purposes: Mapping[str, Collection[str]]) -> None:
    for purpose, channels in (_guards[guard] for guard in guards if callable(guard) and guard in _guards):
        if purpose not in purposes:
            raise ConfigError(f"{where}: the purpose {purpose!r} is not in OTP_PURPOSES", see=_PAGE)
        known = list(purposes[purpose])
        # Without any channel the app still starts, and during development the console replaces them all.
        lenient = [name for name in known if name not in KEPT_FACTORS] in ([], ["console"])
        unknown = [name for name in channels if name not in known and (name in KEPT_FACTORS or not lenient)]
        if unknown:
            hint = "it needs otp.factors_loader" if unknown[0] in KEPT_FACTORS else nearest(unknown[0], known)
            raise ConfigError(
                f"{where}: no channel of the purpose {purpose!r} is called {unknown[0]!r}: {hint}", see=_PAGE
            )


def _layers(function: Any) -> Iterable[Any]:
    """The function, and the functions that its decorators wrap."""
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)
