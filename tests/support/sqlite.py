"""SQLite files that need not outlive a power cut. Otherwise a test waits for the disk most of its time."""

from __future__ import annotations

import sqlite3
from typing import Any


class Unsynced(sqlite3.Connection):
    """Leaves it to the system when its writes reach the disk."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.execute("PRAGMA synchronous = OFF")


#: For ``OTP_STORAGE_OPTIONS``.
UNSYNCED: dict[str, Any] = {"connect_args": {"factory": Unsynced}}
