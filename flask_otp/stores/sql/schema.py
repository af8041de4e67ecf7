"""The table of the SQL store, and how it comes to be."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import VARBINARY, BigInteger, Column, Connection, Engine, Index, LargeBinary, MetaData, Table, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

#: Seconds between two tries to make the table.
_PAUSE = 0.002


def make_table(prefix: str) -> Table:
    """One row for each subject; ``expires_at`` is in seconds since 1970, and when the row means nothing any more."""
    # MySQL wants a length for a key, and more than a plain BLOB's 64 KiB must be asked for.
    key = LargeBinary().with_variant(VARBINARY(255), "mysql", "mariadb")
    return Table(
        f"{prefix}_subject",
        MetaData(),
        Column("subject", key, primary_key=True),
        Column("state", LargeBinary(2**24 - 1), nullable=False),
        Column("expires_at", BigInteger, nullable=False, index=True),
    )


def create(table: Table, connection: Connection) -> None:
    """Make the table, or what is missing of it."""
    parts: list[Table | Index] = [table, *table.indexes]
    for part in parts:
        try:
            part.create(connection, checkfirst=True)
        except DBAPIError:
            # Another process may have made it since this one looked.
            part.create(connection, checkfirst=True)


def create_on_connect(table: Table, engine: Engine, timeout: float) -> None:
    """Have each new connection to an SQLite file look for the table, and make it within ``timeout`` seconds."""

    def make(connection: Any, dialect: Any) -> None:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table.name,)).fetchone():
            return
        # Readers then do not wait for a writer, and a write waits for the disk once, not three times.
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
                # Of those who turn a new file to WAL at once, SQLite refuses all but one, whatever their time-out.
                if error.args[:1] != ("database is locked",) or time.monotonic() > deadline:
                    connection.close()
                    raise
            time.sleep(_PAUSE)

    event.listen(engine, "do_connect", connect)
