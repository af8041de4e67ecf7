"""pytest fixtures for the tests of apps. They use your fixture ``app``. In ``conftest.py``::

    pytest_plugins = ["flask_otp.testing.fixtures"]

They work only if ``app.testing`` is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from . import Clock, OTPClient, Outbox, capture_codes, set_clock


@pytest.fixture
def otp_codes(app: Flask) -> Iterator[Outbox]:
    """The messages of this test, which are not sent: ``otp_codes.code`` is the newest code."""
    with capture_codes(app) as outbox:
        yield outbox


@pytest.fixture
def otp_clock(app: Flask) -> Iterator[Clock]:
    """A clock that stands at the start of the test: ``otp_clock.advance("5m")``. Network limits use the real time."""
    clock = Clock()
    before = set_clock(app, clock)
    yield clock
    set_clock(app, before)


@pytest.fixture
def otp_client(app: Flask) -> Callable[..., OTPClient]:
    """``otp_client("ann@example.com", purpose="login")``: a client that starts verified. See :class:`OTPClient`."""

    def client(verified: str, **options: Any) -> OTPClient:
        return OTPClient(app, app.response_class, verified=verified, **options)

    return client
