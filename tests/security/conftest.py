"""The apps of all attacks are watched by every observer: metrics, traces, the audit log and the statistics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.observers import observed


@pytest.fixture(autouse=True)
def observers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Checked when the test has ended. Those who compare times or calls have the observers that they want."""
    if not request.path.name.startswith(("test_attacks", "test_relay", "test_revocation")):
        yield
        return
    with observed():
        yield
