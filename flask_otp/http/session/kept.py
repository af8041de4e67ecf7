"""Our part of the session: one text for each kind of value and each purpose."""

from __future__ import annotations

from typing import Any

from flask import session
from flask.sessions import SessionMixin

from .cleared import KEY, note_our_own_write, notice_a_cleared_session

#: Maximum characters of all handles of a session, and of all requirements.
_ROOM = 1200
#: How to continue after a verification. One is enough, and two long ones would exceed the cookie: the newest is kept.
_WAYS_ON = ("next", "repeat")


def set(kind: str, purpose: str, value: str) -> None:
    """Keep a ``challenge``, ``proof``, ``requirement``, ``next`` or ``repeat`` of a purpose in the session."""
    notice_a_cleared_session()
    kept = our_part()
    if kind in _WAYS_ON:
        kept = {name: table for name, table in kept.items() if name not in _WAYS_ON}
    table = table_of(kept, kind) | {purpose: value}
    if kind in ("challenge", "requirement"):
        # Browsers drop a cookie that is too long, so the other values make room for this one.
        for other in [name for name in table if name != purpose]:
            if sum(map(len, table.values())) > _ROOM:
                del table[other]
    keep(kept | {kind: table})


def get(kind: str, purpose: str) -> str | None:
    value = table_of(our_part(), kind).get(purpose)
    return value if isinstance(value, str) else None


def get_all(kind: str) -> dict[str, str]:
    return table_of(our_part(), kind)


def take(kind: str, purpose: str) -> str | None:
    """The value, which the session does not keep any longer."""
    kept = our_part()
    table = table_of(kept, kind)
    if purpose not in table:
        return None
    keep(kept | {kind: without(table, purpose)})
    value = table[purpose]
    return value if isinstance(value, str) else None


def delete(kind: str, purpose: str) -> None:
    take(kind, purpose)


def keep(kept: dict[str, Any]) -> None:
    """Write our part of the session only if it changes: each write undoes changes by other responses."""
    own = _own_session()
    if own.get(KEY) != kept:
        own[KEY] = kept
        note_our_own_write()


def our_part() -> dict[str, Any]:
    kept = _own_session().get(KEY)
    return kept if isinstance(kept, dict) else {}


def _own_session() -> SessionMixin:
    """The session itself: each access through Flask's proxy calls five functions."""
    own: SessionMixin = session._get_current_object()  # type: ignore[attr-defined]
    return own


def table_of(kept: dict[str, Any], kind: str) -> dict[str, str]:
    table = kept.get(kind)
    return table if isinstance(table, dict) else {}


def without(table: dict[str, str], purpose: str) -> dict[str, str]:
    return {name: value for name, value in table.items() if name != purpose}
