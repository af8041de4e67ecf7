"""App contexts for work outside a request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

logger = logging.getLogger("flask_otp")


@contextmanager
def own_app_context(app: Flask) -> Iterator[None]:
    """A new app context. If the app's own teardown function fails, that is only logged: the work itself has ended."""
    context, failure = app.app_context(), None
    context.push()
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        try:
            context.pop(failure)
        except Exception as error:
            logger.error("a teardown function of the app failed after a delivery: %s", type(error).__name__)
        failure = None  # its traceback refers to this frame
