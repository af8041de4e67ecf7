"""The pages: their contents, and where their forms are submitted.

Every form carries its own state: the challenge, the requirement, the way back. So two tabs never interfere, whatever
the session contains in the meantime.
"""

from __future__ import annotations

import hmac
from typing import Any

from flask import Response, request, url_for

from .. import identifiers
from ..channels.kept import KEPT_FACTORS, RECOVERY
from ..crypto.payloads import REQUIREMENT_LIFE, Handle, Requirement
from ..errors import OTPError, accepts_html
from ..languages import tell_language
from ..state import AppState
from ..urls import is_safe_path
from . import actions, companions, csrf, session, trusted_browser
from .pending_form import Repeat
from .requests import request_path

#: Notes on a challenge in its companion cookie: its message was sent again; no code will be accepted for it.
SENT_AGAIN, OVER = "a", "o"

#: The query parameter for the second try, from our own origin.
_SECOND_TRY = "again"


def url(endpoint: str, purpose: str, **arguments: Any) -> str:
    """The URL of one of our pages."""
    return url_for(f".{endpoint}", purpose=None if purpose == "login" else purpose, **arguments)


def start(
    state: AppState,
    purpose: str,
    *,
    requirement: str | None = None,
    way_back: str | None = None,
    identifier: str = "",
    channel: str | None = None,
    error: OTPError | None = None,
) -> Response:
    """The page that asks for an address.

    :param identifier: the text typed before.
    :param channel: the channel chosen before.
    """
    rules = state.service.purpose(purpose)
    asked = session.load_requirement(requirement)
    if asked is None or asked.purpose != purpose:
        asked, requirement = session.requirement(purpose), session.get("requirement", purpose)
    fixed = actions.fixed_identifier(state, asked)
    return _page(
        state,
        "send.html",
        error,
        purpose=purpose,
        typed=rules.typed,
        send_url=url_for(".send"),
        next=session.get("next", purpose) or "" if way_back is None else way_back,
        requirement=requirement if asked is not None else None,
        form=session.new_secret(),
        identifier=identifier,
        destination=None if fixed is None else identifiers.readable(identifiers.mask(fixed)),
        accepts=state.routing.accepts(rules),
        at_home=state.identifiers.country is not None,
        channels=channels(state, purpose, asked),
        channel=channel,
        context_values=_context_values(asked.context_values if asked else None),
    )


def channels(state: AppState, purpose: str, asked: Requirement | None) -> list[str]:
    """The channels that the page offers."""
    names = state.routing.channels_of(state.service.purpose(purpose))
    allowed = [name for name in names if not (asked and asked.channels) or name in asked.channels]
    # Recovery codes are for people who have lost everything else. The code page links to them.
    return [name for name in allowed if name != RECOVERY] or allowed


def _other_ways(state: AppState, handle: Handle) -> list[str]:
    """The channels that the person can change to, those with the same code first.

    They come from the settings alone, so they reveal nothing about the person.
    """
    asked, rules = session.requirement(handle.purpose), state.settings.purposes.get(handle.purpose)
    wanted = asked.channels if asked is not None else ()
    names = [] if rules is None else list(state.routing.channels_of(rules))
    allowed = [name for name in names if name != handle.channel and (not wanted or name in wanted)]
    kept = [name for name in allowed if name in KEPT_FACTORS]
    if handle.channel not in KEPT_FACTORS:
        return [*(name for name in state.service.other_channels(handle) if name in allowed), *kept]
    # One alternative that sends a code is enough. The start page has the others.
    return [*kept, *[name for name in allowed if name not in KEPT_FACTORS][:1]]


def enter(
    state: AppState,
    token: str,
    handle: Handle,
    *,
    way_back: str | None = None,
    error: OTPError | None = None,
    is_over: bool = False,
) -> Response:
    """The page that asks for a challenge's code, or offers a new code if none will be accepted any more.

    It looks the same for known and unknown identifiers: both have a challenge with an expiry and attempts.
    """
    kept = companions.find(state, "challenge", session.challenge_id(handle))
    note = kept.note if kept is not None else ""
    is_expired = handle.expires_at <= state.clock()
    try:
        handle = state.service.refresh(handle, session.client(state))
    except OTPError as refusal:
        # A person who opens the page must see why the code is not accepted.
        error = error or refusal
    challenge = state.service.describe(handle)
    is_typed = handle.is_typed and handle.channel not in KEPT_FACTORS
    return _page(
        state,
        "verify.html",
        error,
        purpose=handle.purpose,
        typed=state.service.is_typed(handle.purpose),
        challenge=challenge,
        handle=token,
        destination=identifiers.readable(handle.identifier) if is_typed else challenge.destination,
        trust_days=_trust_days(state, handle),
        other_ways=_other_ways(state, handle),
        is_expired=is_expired,
        is_over=is_over or note == OVER,
        was_sent_again=note == SENT_AGAIN,
        verify_url=url_for(".verify"),
        resend_url=url_for(".resend"),
        send_url=url_for(".send"),
        next=session.get("next", handle.purpose) or "" if way_back is None else way_back,
        start_url=_start_url(state, handle, way_back),
        context_values=_context_values(handle.context_values),
    )


def _trust_days(state: AppState, handle: Handle) -> int:
    """Number of days that the browser can be trusted, if the person agrees."""
    return trusted_browser.offered(state, handle.purpose, handle.identifier, handle.context) // 86400


def _start_url(state: AppState, handle: Handle, way_back: str | None) -> str | None:
    """Where the code can be sent to another address for the same purpose. ``None`` if it can go only to this one."""
    asked = session.requirement(handle.purpose)
    if actions.fixed_identifier(state, asked) is not None and not handle.is_typed:
        return None
    token = session.get("requirement", handle.purpose) if handle.context else None
    if handle.context and (asked is None or asked.context != handle.context):
        is_fresh = handle.may_start_again(state.clock())
        token = state.tokens.dump_requirement(_requirement_of(state, handle)) if is_fresh else None
    id = session.challenge_id(handle) if handle.is_typed else None
    return url("start", handle.purpose, of=id, next=way_back, requirement=token)


def _requirement_of(state: AppState, handle: Handle) -> Requirement:
    """The requirement of a challenge after another tab's has replaced it in the session."""
    until = int(state.clock()) + REQUIREMENT_LIFE
    return Requirement(
        handle.purpose, handle.context, handle.context_values, None, (handle.channel,), until, handle.user
    )


def typed_before(state: AppState, id: str) -> str:
    """The address that this browser typed for the challenge with this id, so the person can correct a typing error."""
    handle = state.tokens.load_handle(session.find_challenge(state, id)) if id else None
    return identifiers.readable(handle.identifier) if handle is not None and handle.is_typed else ""


def repeat(state: AppState, kept: Repeat) -> Response:
    """The page with the button that submits a kept form."""
    response = _page(
        state,
        "repeat.html",
        None,
        purpose=kept.purpose,
        path=kept.path,
        fields=csrf.refreshed(zip(kept.fields[::2], kept.fields[1::2], strict=True)),
        context_values=_context_values(kept.context_values),
    )
    # The app's view may lead on to another site, such as a payment provider's.
    response.headers["Content-Security-Policy"] = state.settings.form_policy
    return response


def link(state: AppState, purpose: str, secret: str, token: str | None, handle: Handle | None) -> Response:
    """The page behind a message's link: one button, in the browser that requested the code.

    :param handle: the link's challenge, if this browser holds it.
    """
    again = purpose if purpose in state.settings.purposes else "login"
    response = _page(
        state,
        "link.html",
        None,
        purpose=purpose,
        typed=state.service.is_typed(purpose),
        link=secret,
        handle=token,
        challenge=None if handle is None else state.service.describe(handle),
        trust_days=0 if handle is None else _trust_days(state, handle),
        context_values=_context_values(handle.context_values if handle is not None else None),
        verify_url=url_for(".verify"),
        start_url=url("start", again),
    )
    # The URL must not appear in a Referer, not even in our own log. "no-referrer" would also remove the form's Origin.
    response.headers["Referrer-Policy"] = "strict-origin"
    return response


def challenge_of_link(state: AppState, purpose: str, secret: str) -> tuple[str | None, Handle | None]:
    """This browser's challenge, if the link belongs to it. 144 bits cannot be guessed: this is no attempt."""
    for token in session.challenges(state):
        handle = state.tokens.load_handle(token)
        if handle is None or handle.purpose != purpose:
            continue
        if hmac.compare_digest(secret.encode(), handle.link.encode()):
            return token, handle
    return None, None


def blocked(state: AppState) -> Response:
    """The page for a browser without cookies, which can neither hold a challenge nor be signed in."""
    response = _page(state, "blocked.html", None, start_url=url_for(".start"))
    response.status_code = 400
    return response


def has_cookies(state: AppState) -> bool:
    """Whether the browser has sent back any cookie that we or the app's session set."""
    name = state.app.session_interface.get_cookie_name(state.app)
    return name in request.cookies or companions.have_come(state)


def from_our_own_origin(state: AppState) -> Response | None:
    """Let a visitor who comes from another site without the session load the page a second time.

    With ``SESSION_COOKIE_SAMESITE = "Strict"``, the browser does not send the session if another site or a mail led to
    this page or to a redirect before it. A request from our own page includes it.
    """
    interface = state.app.session_interface
    is_strict = (interface.get_cookie_samesite(state.app) or "").lower() == "strict"
    from_elsewhere = request.method == "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site"
    if not (is_strict and from_elsewhere and accepts_html()) or _SECOND_TRY in request.args or has_cookies(state):
        return None
    # The page that the guard refused, so the guard checks again.
    wanted = request.args.get("next", "")
    path = request_path()
    here = f"{path}{'&' if '?' in path else '?'}{_SECOND_TRY}=1"
    response = _page(state, "once_more.html", None, url=wanted if is_safe_path(wanted) else here)
    # The URL may be that of a link, with its secret.
    response.headers["Referrer-Policy"] = "strict-origin"
    return response


def _page(state: AppState, template: str, error: OTPError | None, **values: Any) -> Response:
    page = state.render_page(template, error=error, **values)
    response = Response(page, error.code if error else 200, content_type="text/html; charset=utf-8")
    tell_language(response)
    response.headers["Content-Security-Policy"] = state.settings.page_policy
    if error is not None:
        response.headers.update(error.extra_headers())
    return response


def _context_values(context_values: Any) -> dict[str, Any] | None:
    return context_values if isinstance(context_values, dict) else None
