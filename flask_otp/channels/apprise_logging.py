"""Keeps the libraries below a channel from logging what they send.

Apprise logs the whole message and the recipient. urllib3 logs request URLs, and some providers put the key or even the
text into the URL.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: First parts of the logger names of Apprise and the libraries it sends with.
_LIBRARIES = ("apprise", "charset_normalizer", "chardet", "oauthlib", "requests", "requests_oauthlib", "urllib3")

#: Warnings of the delivery that runs in this thread.
_heard: ContextVar[list[str] | None] = ContextVar("flask_otp_heard", default=None)


@contextmanager
def mute_loggers() -> Iterator[list[str]]:
    """Drop this thread's log records of those libraries. Yields a list that collects the warnings.

    Other threads, and the app's own use of the same libraries, log as usual.
    """
    for logger in _loggers():
        logger.addFilter(_is_loud)  # added only once, even if called again
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def _loggers() -> Iterator[logging.Logger]:
    # Each logger separately: a filter does not apply to records of child loggers.
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
