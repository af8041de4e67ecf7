"""Composes the message of a handle with the app's own code: its templates and its hooks."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from .. import languages
from ..channels.base import refuse_coroutine
from ..crypto.payloads import Handle
from ..models import Message
from .components import Components
from .failover import Secrets, redact
from .messages import build_message, link_address, render_message
from .moulds import Moulds
from .outcomes import Outcomes

logger = logging.getLogger("flask_otp")

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class _Secrets:
    """The values that a log line must not show, if there is no message yet."""

    code: str
    recipient: str
    link: str | None


class Composer:
    """Composes the messages of one app."""

    def __init__(self, components: Components, outcomes: Outcomes) -> None:
        self._parts = components
        self._app = components.app
        self._settings = components.settings
        self._hooks = components.hooks
        self._moulds = Moulds(components.templates)
        self._outcomes = outcomes

    def compose(self, handle: Handle, recipient: str, message_id: str, locale: str | None = None) -> Message:
        """
        :param locale: language of the message. By default the current one.
        :raises DeliveryFailed: a template or the app's builder failed.
        """
        with languages.speaking(locale):
            unsaid = _Secrets(handle.code, recipient, self._link(handle))
            message = self._shielded(
                "a template", handle, message_id, unsaid, lambda: self._render(handle, recipient, message_id)
            )
            builder = self._hooks.message_builder
            if builder is None:
                return message
            return self._shielded(
                "the message_builder", handle, message_id, message, lambda: build_message(builder, message)
            )

    def is_vetoed(self, handle: Handle, message: Message) -> bool:
        """Whether the app's ``before_send`` refuses the message.

        :raises DeliveryFailed: the hook failed.
        """
        hook = self._hooks.before_send
        if hook is None:
            return False

        def ask() -> object:
            answer = hook(message)
            refuse_coroutine(answer, "before_send")
            return answer

        return self._shielded("before_send", handle, message.id, message, ask) is False

    def _shielded(self, what: str, handle: Handle, message_id: str, unsaid: Secrets, work: Callable[[], T]) -> T:
        """The result of the app's own code. Its exception ends here, because it may quote the code, and error trackers
        keep the variables of all frames.

        :raises DeliveryFailed: the app's code raised an exception.
        """
        try:
            return work()
        except Exception as error:
            reason = redact(f"{type(error).__name__} {_place(error)}: {error}", unsaid)
        logger.error("%s failed: %s", what, reason)
        return self._outcomes.fail(handle, message_id)

    def _render(self, handle: Handle, recipient: str, message_id: str) -> Message:
        message = render_message(
            self._moulds,
            code=handle.code if self._outcomes.purpose(handle).typed else "",
            channel=handle.channel,
            recipient=recipient,
            purpose=handle.purpose,
            context_values=handle.context_values,
            expires_in=self._outcomes.life_left(handle),
            site_name=self._parts.site_name,
            base_url=self._settings.base_url,
            link=self._link(handle),
            code_in_subject=self._settings.code_in_subject,
        )
        return replace(message, id=message_id)

    def _link(self, handle: Handle) -> str | None:
        base_url = self._settings.base_url if self._settings.links else None
        return None if base_url is None else link_address(self._app, base_url, handle.purpose, handle.link)


def _place(error: Exception) -> str:
    """The line that raised the error: that of the template, where a function which the template called raised it."""
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    templates = [(file, line) for file, line in lines if file.endswith((".txt", ".html"))]
    file, line = (templates or lines)[-1]
    return f"({os.path.basename(file)}, line {line})"
