"""Flask-WTF's token against forged forms: renewed with the session, and written anew into a form that has waited."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from flask import current_app, g, session


def renew() -> None:
    """Forget the session's token: who planted or saw the session from before knows it. The next form makes another."""
    if _is_used():
        session.pop(_name(), None)
        g.pop(_name(), None)


def refreshed(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of a kept form, with the token of now in place of the one from before the session was renewed."""
    if not _is_used():
        return list(fields)
    # A form with a prefix has it before the name of this field, too.
    name, generate = _name(), sys.modules["flask_wtf.csrf"].generate_csrf
    return [(field, generate() if field == name or field.endswith(f"-{name}") else value) for field, value in fields]


def _is_used() -> bool:
    # Nobody has made a token for this session unless it is imported.
    return "flask_wtf.csrf" in sys.modules


def _name() -> str:
    return str(current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token"))
