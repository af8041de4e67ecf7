"""The suite that every store passes, ours and yours: behaviour, step by step against the memory store, and races.

It needs pytest::

    from flask_otp.testing.stores import StoreSuite

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def storage_uri(self, my_server):
            my_server.empty()
            return my_server.uri
"""

from __future__ import annotations

from pkgutil import iter_modules

import pytest

# Before the modules are imported: then their failures show the compared values.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

from .subject_driver import (  # noqa: E402
    BROWSER,
    DAY,
    GONE,
    HOUR,
    MATCH,
    MONTH,
    NETWORK,
    NO_LIMITS,
    POLICY,
    QUIET,
    REFUSE,
    REFUSED,
    SEND,
    WAIT,
    WRONG,
    SubjectDriver,
    new_id,
)
from .suite import StoreSuite  # noqa: E402

__all__ = [
    "BROWSER",
    "DAY",
    "GONE",
    "HOUR",
    "MATCH",
    "MONTH",
    "NETWORK",
    "NO_LIMITS",
    "POLICY",
    "QUIET",
    "REFUSE",
    "REFUSED",
    "SEND",
    "WAIT",
    "WRONG",
    "StoreSuite",
    "SubjectDriver",
    "new_id",
]
