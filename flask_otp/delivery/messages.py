"""Renders a code and its context into the message that a person reads.

The templates are ``flask_otp/subject.txt``, ``email.txt``, ``email.html`` and ``sms.txt``. An app's own templates at
the same path take precedence, and before them those in a folder named after the purpose:
``flask_otp/transfer/subject.txt``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any
from urllib.parse import urlsplit

from flask import Flask

from .. import context_text, languages
from ..crypto.codes import display
from ..identifiers import kind
from ..models import Message
from ..site import BLUEPRINT
from .moulds import Moulds, one_line

#: The fields that a message builder may change.
BUILT = ("subject", "text", "html")


def link_address(app: Flask, base_url: str, purpose: str, secret: str) -> str:
    """The URL of a message's link: the origin from the settings, the path from the app's routes."""
    routes = app.url_map.bind("", script_name=app.config["APPLICATION_ROOT"])
    values = {"secret": secret} if purpose == "login" else {"secret": secret, "purpose": purpose}
    path = urlsplit(routes.build(f"{BLUEPRINT}.link", values))._replace(scheme="", netloc="").geturl()
    return base_url + path


def render_message(
    moulds: Moulds,
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
    """Render the message in the current language. Works without a request.

    :param code: empty if there is no code to type: then the message has only the link.
    :raises ValueError: the message would have neither code nor link.
    """
    context_values = deepcopy(context_values) if isinstance(context_values, dict) else None
    words: dict[str, Any] = {
        "code": display(code),
        "site_name": site_name,
        "purpose": purpose,
        "minutes": expires_in // 60,
        "context_values": context_text.show(context_values),
        "origin_host": urlsplit(base_url).hostname if base_url else None,
        "link": link,
        **languages.page_attributes(),
    }
    is_email = kind(recipient) == "email"
    if not code and not (link and is_email):
        raise ValueError("the purpose has no code to type, and this recipient gets no link")
    parts = moulds.render(words, is_email=is_email, code_in_subject=code_in_subject)
    return Message(
        channel=channel,
        recipient=recipient,
        code=code,
        purpose=purpose,
        site_name=site_name,
        subject=parts.subject,
        text=parts.text,
        html=parts.html,
        expires_in=expires_in,
        # A text message has no room for it, and a chat's preview would open it.
        link=link if is_email else None,
        context_values=context_values,
        language=words["lang"],
    )


def build_message(builder: Callable[[Message], Message], message: Message) -> Message:
    """Apply the app's ``message_builder`` to a message.

    :raises TypeError: it returned no message, or one whose parts are not text.
    :raises ValueError: it changed more than :data:`BUILT`. The errors do not quote the returned value.
    """
    built = builder(message)
    if not isinstance(built, Message):
        raise TypeError(f"it must return a Message, not {type(built).__name__}")
    if not all(isinstance(getattr(built, name), str) for name in BUILT):
        raise TypeError("subject, text and html must be text")
    changed = [item.name for item in fields(Message) if getattr(built, item.name) != getattr(message, item.name)]
    if wrong := [name for name in changed if name not in BUILT]:
        raise ValueError(f"it may change {', '.join(BUILT)}, but changed {', '.join(wrong)}")
    return replace(message, subject=one_line(built.subject), text=built.text, html=built.html)
