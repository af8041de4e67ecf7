"""A code and its circumstances, rendered into the message that a person reads.

The templates are ``flask_otp/subject.txt``, ``email.txt``, ``email.html`` and ``sms.txt``; an app's own of the same
path come first.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from jinja2 import ChoiceLoader, Environment, PackageLoader

from .channels.base import Message
from .codes import display
from .errors import BLUEPRINT
from .identifiers import kind


def message_templates(app: Flask) -> Environment:
    """The app's own Jinja environment, and ours behind it, since the blueprint may not be mounted."""
    loaders = [loader for loader in (app.jinja_env.loader,) if loader is not None]
    return app.jinja_env.overlay(loader=ChoiceLoader([*loaders, PackageLoader("flask_otp")]))


def link_address(app: Flask, base_url: str, purpose: str, secret: str) -> str:
    """Where the link of a message leads: the origin from the settings, the path from the app's own routes."""
    routes = app.url_map.bind("", script_name=app.config["APPLICATION_ROOT"])
    values = {"secret": secret} if purpose == "login" else {"secret": secret, "purpose": purpose}
    path = urlsplit(routes.build(f"{BLUEPRINT}.link", values))._replace(scheme="", netloc="").geturl()
    return base_url + path


def render_message(
    templates: Environment,
    *,
    code: str,
    channel: str,
    recipient: str,
    purpose: str,
    facts: Any,
    expires_in: int,
    site_name: str,
    base_url: str | None,
    link: str | None = None,
) -> Message:
    """Render the message from ``templates``, which :func:`message_templates` makes. Needs no request."""
    words = {
        "code": display(code),
        "site_name": site_name,
        "purpose": purpose,
        "minutes": expires_in // 60,
        "facts": facts if isinstance(facts, dict) else None,
        "origin_host": urlsplit(base_url).hostname if base_url else None,
        "link": link,
    }

    def render(name: str) -> str:
        # Not flask.render_template: the app's context processors may want a request, which a worker does not have.
        return templates.get_template(f"flask_otp/{name}").render(words).strip()

    is_email = kind(recipient) == "email"
    return Message(
        channel=channel,
        recipient=recipient,
        code=code,
        purpose=purpose,
        site_name=site_name,
        # One line, whatever a template or a site's name holds: a line break would be a header of its own.
        subject=" ".join(render("subject.txt").split()),
        text=render("email.txt" if is_email else "sms.txt"),
        html=render("email.html") if is_email else "",
        expires_in=expires_in,
        # A text message has no room for it, and a chat's preview would open it.
        link=link if is_email else None,
    )
