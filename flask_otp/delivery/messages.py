"""A code and its circumstances, rendered into the message that a person reads.

The templates are ``flask_otp/subject.txt``, ``email.txt``, ``email.html`` and ``sms.txt``. An app's own of the same
path come first, and before them those in a folder with the purpose's name: ``flask_otp/transfer/subject.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any
from urllib.parse import urlsplit

from flask import Flask

from .. import languages
from ..crypto.codes import display
from ..identifiers import kind
from ..models import Message
from ..rendering import Templates
from ..site import BLUEPRINT

#: What a message builder may change.
BUILT = ("subject", "text", "html")

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def link_address(app: Flask, base_url: str, purpose: str, secret: str) -> str:
    """Where the link of a message leads: the origin from the settings, the path from the app's own routes."""
    routes = app.url_map.bind("", script_name=app.config["APPLICATION_ROOT"])
    values = {"secret": secret} if purpose == "login" else {"secret": secret, "purpose": purpose}
    path = urlsplit(routes.build(f"{BLUEPRINT}.link", values))._replace(scheme="", netloc="").geturl()
    return base_url + path


def render_message(
    templates: Templates,
    *,
    code: str,
    channel: str,
    recipient: str,
    purpose: str,
    context_values: Any,
    expires_in: int,
    site_name: str,
    base_url: str | None,
    link: str | None = None,
    code_in_subject: bool = False,
) -> Message:
    """Render the message from ``templates``, in the current language. Needs no request."""
    context_values = deepcopy(context_values) if isinstance(context_values, dict) else None
    words: dict[str, Any] = {
        "code": display(code),
        "site_name": site_name,
        "purpose": purpose,
        "minutes": expires_in // 60,
        "context_values": context_values,
        "origin_host": urlsplit(base_url).hostname if base_url else None,
        "link": link,
        **languages.page_attributes(),
    }

    def render(name: str, **other: Any) -> str:
        # Not flask.render_template: the app's context processors may want a request, which a worker does not have.
        return templates.of_message(purpose, name).render(words | other).strip()

    is_email = kind(recipient) == "email"
    subject = render("subject.txt", link=None) if code_in_subject else render("subject.txt", link=None, code=None)
    return Message(
        channel=channel,
        recipient=recipient,
        code=code,
        purpose=purpose,
        site_name=site_name,
        subject=_one_line(subject),
        text=render("email.txt" if is_email else "sms.txt"),
        html=render("email.html") if is_email else "",
        expires_in=expires_in,
        # A text message has no room for it, and a chat's preview would open it.
        link=link if is_email else None,
        context_values=context_values,
        language=words["lang"],
    )


def build_message(builder: Callable[[Message], Message], message: Message) -> Message:
    """What the app's ``message_builder`` makes of a message.

    :raises TypeError: it gave no message, or one whose parts are no text.
    :raises ValueError: it changed more than :data:`BUILT`. Neither quotes what it gave.
    """
    built = builder(message)
    if not isinstance(built, Message):
        raise TypeError(f"it must return a Message, not {type(built).__name__}")
    if not all(isinstance(getattr(built, name), str) for name in BUILT):
        raise TypeError("subject, text and html must be text")
    changed = [item.name for item in fields(Message) if getattr(built, item.name) != getattr(message, item.name)]
    if wrong := [name for name in changed if name not in BUILT]:
        raise ValueError(f"it may change {', '.join(BUILT)}, but changed {', '.join(wrong)}")
    return replace(message, subject=_one_line(built.subject), text=built.text, html=built.html)


def _one_line(text: str) -> str:
    """Whatever a template, a builder or a site's name holds: a line break would be a header of its own."""
    return " ".join(_CONTROLS.sub(" ", text).split())
