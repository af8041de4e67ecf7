"""Which tests pytest-xdist gives to one process: those that share what takes seconds to start.

It has a marker for this, ``xdist_group``, of which pytest 9.2 takes no notice.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

#: A part of a test's name, and what is shared. The first that fits counts.
_SHARED = {
    "tests/browser/": "Chromium",
    "tests/servers/test_(topologies|faults|outages)": "topologies",
    "tests/stores/test_suite": "broken stores",
    "tests/delivery/test_email.*slow_server": "slow mail servers",
    "test_the_(sdist|wheel)_": "sdist",
    "tests/unit/test_layers": "the package's syntax trees",
    "(?i)postgres|pg8000": "PostgreSQL",
    "(?i)mariadb": "MariaDB",
}


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Any other test goes to the process that is free, with all its parameters: sending each alone costs seconds."""

    def _split_scope(self, nodeid: str) -> str:
        shared = (name for part, name in _SHARED.items() if re.search(part, nodeid))
        return next(shared, nodeid.partition("[")[0])
