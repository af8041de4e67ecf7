"""What of the store suite is tried at night only."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A class that names the ``usual`` parts of the suite has all others marked ``long``."""
    for item in items:
        usual = getattr(getattr(item, "cls", None), "usual", None)
        if usual and not any(item.originalname in vars(part) for part in usual):  # type: ignore[attr-defined]
            item.add_marker("long")
