"""A step-up in which there is nothing to choose: the code is sent at once, and the next page asks for it.

The page that asks for an address is a ``GET``, and a ``GET`` must not send a message because some page, mail or
prefetcher has named its URL. So :func:`sent_at_once` needs all of these, and otherwise the person gets the page with
its button:

- The guard has just refused this browser, and said so in its session. It does this only for a navigation that no other
  site has caused.
- The browser says that a person navigates, in ``Sec-Fetch-*``, which no page can set (W3C Fetch Metadata).
- The code can go only to the signed-in user's own address, by only one channel.
- This browser has no open challenge for the same requirement. If it has one, its page is shown: a reload or a second
  tab sends nothing.
"""

from __future__ import annotations

from flask import redirect, request

from ..crypto.payloads import Requirement
from ..errors import OTPError
from ..state import AppState
from . import actions, companions, pages, session
from .answers import Answer, challenge_answer
from .requests import is_meant

#: Seconds after the guard's refusal in which the page may send: the browser follows the redirect at once.
_JUST_NOW = 30


def sent_at_once(state: AppState, purpose: str, requirement: str | None, way_back: str | None) -> Answer | None:
    """Send the code and redirect to the page that asks for it. ``None`` if the person must press a button first.

    :param requirement: the requirement in the URL, if there is one.
    """
    token = session.get("requirement", purpose)
    if request.method != "GET" or not is_meant() or requirement not in (None, token):
        return None
    asked = session.load_requirement(token)
    if asked is None or not _is_clear(state, asked):
        return None
    id = _open_challenge(state, asked)
    if id is not None:
        return redirect(pages.url("enter", purpose, of=id, next=way_back), 303)
    try:
        challenge = actions.send_as_asked(state, None, None, purpose, token, is_own_form=True)
    except OTPError as error:
        return pages.start(state, purpose, requirement=token, way_back=way_back, error=error)
    return challenge_answer(state, challenge, way_back)


def _is_clear(state: AppState, asked: Requirement) -> bool:
    """Whether the guard has asked just now and left nothing to choose. ``asked.user`` is the signed-in user."""
    return (
        state.clock() - asked.made_at <= _JUST_NOW
        and asked.user is not None
        and asked.identifier in (None, asked.user)
        and len(pages.channels(state, asked.purpose, asked)) == 1
    )


def _open_challenge(state: AppState, asked: Requirement) -> str | None:
    """The challenge of this browser that this requirement needs, if its code is still accepted."""
    for token in session.challenges(state):
        handle = state.tokens.load_handle(token)
        if (
            handle is not None
            and (handle.purpose, handle.context) == (asked.purpose, asked.context)
            and handle.identifier == asked.user
            and (not asked.channels or handle.channel in asked.channels)
            and state.clock() < handle.expires_at
        ):
            id = session.challenge_id(handle)
            kept = companions.find(state, "challenge", id)
            if kept is None or kept.note != pages.OVER:
                return id
    return None
