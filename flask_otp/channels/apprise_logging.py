"""Keeps the libraries below a channel from logging what they send.

Apprise logs the whole message and the recipient, and urllib3 the addresses that it asks for, in which some providers
want the key, and even the text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: First parts of the loggers' names: Apprise's, and those of what it sends by.
_LIBRARIES = ("apprise", "charset_normalizer", "chardet", "oauthlib", "requests", "requests_oauthlib", "urllib3")

#: The warnings of the delivery that this thread is at.
_heard: ContextVar[list[str] | None] = ContextVar("flask_otp_heard", default=None)


@contextmanager
def mute_loggers() -> Iterator[list[str]]:
    """Within the ``with``, this thread's records of those libraries go nowhere; what it gives fills with the warnings.

    Other threads, and the app's own use of the same libraries, log as ever.
    """
    for logger in _loggers():
        logger.addFilter(_is_loud)  # once at most
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def _loggers() -> Iterator[logging.Logger]:
    # Each of them: a filter does not see the records of the loggers below its own.
    for name in _LIBRARIES:
        yield logging.getLogger(name)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in _LIBRARIES:
            yield logger


def _is_loud(record: logging.LogRecord) -> bool:
    heard = _heard.get()
    if heard is not None and record.levelno >= logging.WARNING:
        heard.append(record.getMessage())
    return heard is None
