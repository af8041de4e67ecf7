"""``otp.protect``: one guard for every view of an app or a blueprint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, current_app, request

from ..errors import ConfigError
from ..startup_checks import note_guard
from ..state import current_state
from .passing import enforce
from .rules import Rule


def protector(rule: Rule, exempt: Iterable[str], blueprint: str) -> Callable[[], Any]:
    """A ``before_request`` function that guards every endpoint except ours, the static files and the exempt ones.

    :param blueprint: name of the protected blueprint. ``exempt`` may leave it out.
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


def _is_static_files() -> bool:
    """Whether this is the route that Flask made for the app's static folder. A view may have the same name."""
    rule = request.url_rule
    if rule is None or rule.endpoint != "static":
        return False
    made_by_flask = current_app.view_functions["static"].__module__ == Flask.__module__
    return made_by_flask and rule.rule == f"{current_app.static_url_path}/<path:filename>"


def _is_ours(blueprint: str | None) -> bool:
    return blueprint is not None and current_app.blueprints.get(blueprint) is current_state().blueprint


def _local(endpoint: str, blueprint: str) -> str:
    """The endpoint's name within its blueprint, however that is nested. Empty if it belongs to another one."""
    before, _, name = endpoint.rpartition(".")
    return name if blueprint and (before == blueprint or before.endswith("." + blueprint)) else ""
