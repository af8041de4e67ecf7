"""Programs that pip cannot install. A test that needs one is skipped where it is missing, or fails if all must run."""

from __future__ import annotations

import os
import shutil

import pytest

#: By the name of its Debian package. Chromium without a window comes first: it takes a third of the processor time.
PROGRAMS = {
    "chromium": ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"),
    "mariadb-server": ("mariadbd",),
    "pgbouncer": ("pgbouncer",),
    "oathtool": ("oathtool",),
    "zbar-tools": ("zbarimg",),
}


def program(package: str) -> str:
    """The path of a package's program. ``.ci/run`` sets ``REQUIRE_PROGRAMS``, and then none may be missing."""
    for name in PROGRAMS[package]:
        if path := shutil.which(name):
            return path
    if os.environ.get("REQUIRE_PROGRAMS"):
        pytest.fail(f"{package} is not installed, and REQUIRE_PROGRAMS is set")
    pytest.skip(f"{package} is not installed")
