"""Flask-WTF's CSRF token: renewed with the session, and replaced in a kept form."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from flask import current_app, g, session


def renew() -> None:
    """Forget the session's token: an attacker who planted or read the old session knows it. The next form makes one."""
    if _is_used():
        session.pop(_name(), None)
        g.pop(_name(), None)


def refreshed(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of a kept form, with the current token instead of the one from before the session was renewed."""
    if not _is_used():
        return list(fields)
    # A form with a prefix also puts it before this field's name.
    name, generate = _name(), sys.modules["flask_wtf.csrf"].generate_csrf
    return [(field, generate() if field == name or field.endswith(f"-{name}") else value) for field, value in fields]


def _is_used() -> bool:
    # No token exists for this session unless Flask-WTF is imported.
    return "flask_wtf.csrf" in sys.modules


def _name() -> str:
    return str(current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token"))
