"""The table of the SQL store, and its creation."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import VARBINARY, BigInteger, Column, Connection, Engine, Index, LargeBinary, MetaData, Table, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

#: Seconds between two tries to create the table.
_PAUSE = 0.002


def make_table(prefix: str) -> Table:
    """One row per subject. ``expires_at`` is when the row expires, in seconds since 1970."""
    # MySQL needs a length for a key, and a larger type than BLOB for more than 64 KiB.
    key = LargeBinary().with_variant(VARBINARY(255), "mysql", "mariadb")
    return Table(
        f"{prefix}_subject",
        MetaData(),
        Column("subject", key, primary_key=True),
        Column("state", LargeBinary(2**24 - 1), nullable=False),
        Column("expires_at", BigInteger, nullable=False, index=True),
    )


def create(table: Table, connection: Connection) -> None:
    """Create the table, or its missing parts."""
    parts: list[Table | Index] = [table, *table.indexes]
    for part in parts:
        try:
            part.create(connection, checkfirst=True)
        except DBAPIError:
            # Another process may have created it since this one looked.
            part.create(connection, checkfirst=True)


def create_on_connect(table: Table, engine: Engine, timeout: float) -> None:
    """Let each new connection to an SQLite file check for the table, and create it within ``timeout`` seconds."""

    def make(connection: Any, dialect: Any) -> None:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table.name,)).fetchone():
            return
        # With WAL, readers do not wait for a writer, and a write waits for the disk once instead of three times.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
        for index in table.indexes:
            connection.execute(str(CreateIndex(index, if_not_exists=True).compile(dialect=dialect)))

    def connect(dialect: Any, _: object, arguments: Any, options: Any) -> Any:
        deadline = time.monotonic() + timeout
        connection = dialect.connect(*arguments, **options)
        while True:
            try:
                make(connection, dialect)
                return connection
            except BaseException as error:
                # If several connections switch a new file to WAL at once, SQLite refuses all but one, whatever their
                # timeout.
                if error.args[:1] != ("database is locked",) or time.monotonic() > deadline:
                    connection.close()
                    raise
            time.sleep(_PAUSE)

    event.listen(engine, "do_connect", connect)
