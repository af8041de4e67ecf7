"""Guards that do not guard and pages that would not work, found when an app begins to serve, so that it does not."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from flask import Blueprint, Flask

from .config.parsers import nearest
from .config.settings import Settings
from .delivery.routing import Router
from .errors import ConfigError
from .site import BLUEPRINT

logger = logging.getLogger("flask_otp")

#: The functions and classes under a guard: none of them may be a view itself.
_guarded: weakref.WeakSet[Any] = weakref.WeakSet()
#: Which purpose and channels each guard wants: by the function that does the guarding.
_guards: weakref.WeakKeyDictionary[Callable[..., Any], tuple[str, tuple[str, ...]]] = weakref.WeakKeyDictionary()
#: The endpoints that each ``protect`` leaves open.
_exempt: weakref.WeakKeyDictionary[Callable[..., Any], frozenset[str]] = weakref.WeakKeyDictionary()


def note_guarded(view: Any) -> None:
    """A guard was put on this function or class."""
    _guarded.update(_layers(view))


def note_guard(
    guard: Callable[..., Any], purpose: str, channels: tuple[str, ...], exempt: frozenset[str] = frozenset()
) -> None:
    """This function guards."""
    _guards[guard] = purpose, channels
    _exempt[guard] = exempt


def check_app(app: Flask, blueprint: Blueprint, routing: Router, settings: Settings) -> None:
    """Refuse to serve an app that uses us wrongly.

    :raises ConfigError: see the functions below.
    """
    routing.check_names()
    check_guards(app, {name: routing.channels_of(purpose) for name, purpose in settings.purposes.items()})
    check_mount(app, blueprint, links=settings.links)


def tell_of_reloads(app: Flask) -> None:
    """Log, while an app is developed under Werkzeug's reloader, why a changed file signs its developer out."""
    is_reloaded = app.debug and os.environ.get("WERKZEUG_RUN_MAIN") == "true"
    if is_reloaded and app.config.get("OTP_STORAGE_URI") is None:
        logger.warning(
            "OTP_STORAGE_URI is not set: when a file changes, the reloader starts the app again, and all codes and "
            "sign-ins are gone; OTP_STORAGE_URI = 'sqlite:///dev.db' keeps them (install 'flask-otp-codes[sql]', then "
            "run flask otp init-db)"
        )


def check_guards(app: Flask, purposes: Mapping[str, Collection[str]]) -> None:
    """Refuse to serve an app with a guard that does not guard, or that no client can pass.

    :param purposes: the channels of each purpose.
    :raises ConfigError: ``@otp_required`` stands above the route decorator, or names an unknown purpose or channel;
        ``protect`` exempts what does not exist.
    """
    for endpoint, view in app.view_functions.items():
        view_class = getattr(view, "view_class", None)
        meant = view in _guarded or any(base in _guarded for base in getattr(view_class, "__mro__", ()))
        if meant and not any(layer in _guards for layer in _layers(view)):
            raise ConfigError(
                f"@otp_required stands above the route of {endpoint!r}, or was dropped from its class's decorators: "
                "put it under @app.route"
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
    :raises ConfigError: our blueprint is where its own addresses do not work, or nowhere, and links need it.
    """
    if links and blueprint not in app.blueprints.values():
        raise ConfigError("OTP_LINKS needs otp.blueprint, where the links lead: mount it")
    for name, mounted in app.blueprints.items():
        if mounted is blueprint and name != BLUEPRINT:
            raise ConfigError(f"otp.blueprint is mounted as {name!r}: mount it on the app itself, under its own name")
    for rule in app.url_map.iter_rules(f"{BLUEPRINT}.start") if app.blueprints.get(BLUEPRINT) is blueprint else ():
        if rule.rule == "/":
            raise ConfigError("otp.blueprint is mounted without a url_prefix: it would answer for the whole app")


def _check_wants(where: str, guards: Iterable[Any], purposes: Mapping[str, Collection[str]]) -> None:
    for purpose, channels in (_guards[guard] for guard in guards if callable(guard) and guard in _guards):
        if purpose not in purposes:
            raise ConfigError(f"{where}: the purpose {purpose!r} is not in OTP_PURPOSES")
        known = list(purposes[purpose])
        # With none the app starts all the same, and while it is developed the console stands in for all of them.
        unknown = [name for name in channels if name not in known] if known not in ([], ["console"]) else []
        if unknown:
            hint = nearest(unknown[0], known)
            raise ConfigError(f"{where}: no channel of the purpose {purpose!r} is called {unknown[0]!r}: {hint}")


def _layers(function: Any) -> Iterable[Any]:
    """The function, and what its decorators wrap."""
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)
