"""How many examples a property is tried on: a few, the same in each run, or at night many, and new ones."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

#: ``.ci/nightly`` sets ``HYPOTHESIS_PROFILE=default``. Otherwise a change is judged by what it changes.
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "repeatable")
IS_NIGHT = PROFILE != "repeatable"


def load_profile() -> None:
    settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
    settings.load_profile(PROFILE)


def examples(usual: int, at_night: int, **options: Any) -> settings:
    """Fixtures of the test are shared by all its examples."""
    options = {"suppress_health_check": [HealthCheck.function_scoped_fixture], "deadline": None} | options
    return settings(max_examples=at_night if IS_NIGHT else usual, **options)


def at_night(*values: Any) -> list[Any]:
    """Parameters that are tried at night only, since others like them are tried each time."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.long) for value in values
    ]
