"""Companion cookies: one for each challenge, proof and kept form of a browser, besides the session.

A session is written as a whole: Flask's as one cookie, Flask-Session's as one record. A response that left the server
early and arrives late restores the older session, and the changes of later responses are lost. A companion cookie has
its own name, so no other response overwrites it. The session is still read first.

A companion cookie is not trusted: its token is signed, and the store decides.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import NamedTuple

from flask import Request, Response

from ..state import AppState
from .cookies import attributes, set_cookie
from .requests import this_request

#: Maximum characters of all companion cookies of a kind. A server accepts about 8 KiB of cookies, most of it for the
#: app's session.
_ROOM = {"challenge": 1200, "proof": 1200, "repeat": 1100}

#: Seconds that a challenge's cookie stays after its code has expired, so the page can say so.
_AFTERLIFE = 3600

_PENDING = "flask_otp.companions"
_SAVED_AT = re.compile("[0-9a-f]{1,12}")


@dataclass(frozen=True)
class Companion:
    """One companion cookie."""

    kind: str
    id: str
    #: When the server set it, in milliseconds since 1970.
    saved_at: int
    #: One letter that tells a page what happened to a challenge. Empty: nothing. Only displayed, never trusted.
    note: str
    token: str

    @property
    def value(self) -> str:
        return f"{self.saved_at:x}.{self.note}.{self.token}"


class _Cookie(NamedTuple):
    """What the response does to one cookie. ``None`` deletes it."""

    companion: Companion | None
    max_age: int | None


def id_of(name: bytes) -> str:
    """The short name of a challenge, a proof or a form: eight characters, short enough for a URL."""
    return urlsafe_b64encode(name).decode()[:8]


def find_all(state: AppState, kind: str) -> list[Companion]:
    """This browser's companion cookies of a kind, newest first, including those set by this request."""
    asking = this_request()
    cookies, pending = asking.cookies, _pending(asking)
    if not (cookies or pending):
        return []
    prefix = _prefix(state, kind)
    mine = [(name, value) for name, value in cookies.items() if name.startswith(prefix)]
    found = {name: _read(kind, name[len(prefix) :], value) for name, value in mine}
    found |= {name: cookie.companion for name, cookie in pending.items() if name.startswith(prefix)}
    # Within one millisecond, the later one in the header first: browsers send cookies in the order of their creation.
    there = [each for each in found.values() if each is not None]
    return sorted(there, key=lambda each: each.saved_at)[::-1]


def find(state: AppState, kind: str, id: str) -> Companion | None:
    return next((each for each in find_all(state, kind) if each.id == id), None)


def save(state: AppState, kind: str, id: str, token: str, *, life: int, note: str = "") -> None:
    """Set a companion cookie with the response to this request.

    :param life: seconds that the token is valid.
    """
    companion = Companion(kind, id, int(state.clock() * 1000), note, token)
    max_age = life + _AFTERLIFE if kind == "challenge" else life
    _change(this_request(), _prefix(state, kind) + id, _Cookie(companion, max_age))


def drop(state: AppState, kind: str, id: str) -> None:
    """Delete a companion cookie with the response to this request."""
    asking, name = this_request(), _prefix(state, kind) + id
    if name in asking.cookies:
        _change(asking, name, _Cookie(None, None))
    elif has_pending(asking):
        _pending(asking).pop(name, None)


def drop_all(state: AppState) -> None:
    """Delete every companion cookie that came with this request, and set none."""
    asking, prefix = this_request(), _prefix(state)
    vars(asking)[_PENDING] = {name: _Cookie(None, None) for name in asking.cookies if name.startswith(prefix)}


def have_come(state: AppState) -> bool:
    """Whether this request has a companion cookie, or sets one."""
    asking = this_request()
    if has_pending(asking):
        return True
    prefix = _prefix(state)
    return any(name.startswith(prefix) for name in asking.cookies)


def too_many(state: AppState, kind: str) -> list[Companion]:
    """The companion cookies that must go to make room for the newest, oldest first. The newest always stays."""
    left, crowded_out = _ROOM[kind], []
    for index, companion in enumerate(find_all(state, kind)):
        left -= len(companion.value)
        if left < 0 and index > 0:
            crowded_out.append(companion)
    return crowded_out[::-1]


def write(state: AppState, response: Response, *, permanent: bool) -> None:
    """Write the changes of this request to its response.

    :param permanent: whether the session outlives the browser. If not, proofs end with it, as the session does.
    """
    where = _attributes(state)
    for name, (companion, max_age) in _pending(this_request()).items():
        if companion is None:
            set_cookie(response, name, "", max_age=0, attributes=where)
        else:
            kept_for = None if companion.kind == "proof" and not permanent else max_age
            set_cookie(response, name, companion.value, max_age=kept_for, attributes=where)


def has_pending(asking: Request) -> bool:
    """Whether the response to this request sets or deletes a companion cookie."""
    return bool(asking.__dict__.get(_PENDING))


def changes(asking: Request) -> tuple[str, ...]:
    """The companion cookies that the response to this request sets and deletes, each as one text."""
    pending = _pending(asking)
    return (
        tuple(f"{name}={companion and companion.value}" for name, (companion, _) in pending.items()) if pending else ()
    )


def _pending(asking: Request) -> dict[str, _Cookie]:
    # Stored on the request object: an environ that is passed on does not inherit it, nor does another app.
    pending: dict[str, _Cookie] = asking.__dict__.get(_PENDING, {})
    return pending


def _change(asking: Request, name: str, cookie: _Cookie) -> None:
    vars(asking).setdefault(_PENDING, {})[name] = cookie


def _prefix(state: AppState, kind: str = "") -> str:
    # Named like the session's cookie, so two apps on one host have separate ones, and with its "__Host-" prefix if it
    # has one.
    return f"{state.app.session_interface.get_cookie_name(state.app)}_otp_{kind[:1]}{'_' if kind else ''}"


def _attributes(state: AppState) -> str:
    """The attributes of the session's cookie, so both are sent with the same requests."""
    app, interface = state.app, state.app.session_interface
    return attributes(
        path=interface.get_cookie_path(app),
        domain=interface.get_cookie_domain(app),
        secure=interface.get_cookie_secure(app),
        samesite=interface.get_cookie_samesite(app) or "Lax",
        partitioned=interface.get_cookie_partitioned(app),
    )


def _read(kind: str, id: str, value: str) -> Companion | None:
    saved_at, _, rest = value.partition(".")
    note, _, token = rest.partition(".")
    # Only as we write it: anyone can send a number that is too large for the clock's.
    return Companion(kind, id, int(saved_at, 16), note[:1], token) if _SAVED_AT.fullmatch(saved_at) else None
