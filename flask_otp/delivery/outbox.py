"""``OTP_OUTBOX``: remembers the last messages of this process for the developer's page."""

from __future__ import annotations

from collections import deque

from flask import Flask

from ..models import Message

#: Messages kept. Older ones are dropped.
_MOST = 50


class DeveloperOutbox:
    """The last messages that this process has sent. It keeps nothing outside debug and testing mode.

    :param is_wanted: the setting ``OTP_OUTBOX``.
    """

    def __init__(self, app: Flask, is_wanted: bool) -> None:
        self._app = app
        self._is_wanted = is_wanted
        self._kept: deque[Message] = deque(maxlen=_MOST)

    @property
    def is_on(self) -> bool:
        """Checked each time, because ``app.run(debug=True)`` sets the mode after the app was set up."""
        return self._is_wanted and (self._app.debug or self._app.testing)

    def add(self, message: Message) -> None:
        if self.is_on:
            self._kept.append(message)

    def messages(self) -> list[Message]:
        """The messages, the newest first. A copy, because other threads send."""
        return list(self._kept)[::-1]
