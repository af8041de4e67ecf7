"""The client of a request: its network, its session's secret, and what its browser has verified."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode

from flask import has_request_context

from ...crypto.payloads import Client, KnownBrowser, Once
from ...networks import network_of, tell_of_proxy
from ...state import AppState
from ..known_browser import known_browsers
from ..requests import this_request
from .cleared import notice_a_cleared_session
from .kept import keep, our_part


def client(state: AppState, *, in_session: bool = True, once: Once | None = None) -> Client:
    """The client of the current request, if there is one.

    :param once: identifies a repetition of this request.
    :param in_session: use the session's secret to recognise the client, and create a secret if there is none.
    """
    if not has_request_context():
        return Client(once=once)
    return Client(network(), session_secret() if in_session else b"", tuple(known_browsers(state)), once)


def known(state: AppState) -> tuple[KnownBrowser, ...]:
    """The subjects that this browser has verified."""
    return tuple(known_browsers(state)) if has_request_context() else ()


def network() -> str | None:
    """The client's network. ``None`` outside a request."""
    if not has_request_context():
        return None
    asking = this_request()
    tell_of_proxy(asking.environ)
    return network_of(asking.remote_addr)


def propose_secret(secret: str) -> None:
    """Take the session's secret from the form that this browser submits, if the session has none yet.

    The form's page may not have been allowed to write the session. Two clicks on its button must belong to one session.
    """
    if not isinstance(our_part().get("secret"), str) and re.fullmatch("[0-9A-Za-z_-]{24}", secret):
        notice_a_cleared_session()
        keep(our_part() | {"secret": secret})


def new_secret() -> str:
    """A secret for a session, or for a form until the session may be written."""
    return urlsafe_b64encode(secrets.token_bytes(18)).decode()


def session_secret() -> bytes:
    kept = our_part()
    secret = kept.get("secret")
    if not isinstance(secret, str):
        secret = new_secret()
        notice_a_cleared_session()
        keep(kept | {"secret": secret})
    return urlsafe_b64decode(secret)
