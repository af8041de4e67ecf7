"""What we ask a database past the store: how big it is, what it was asked, and to be filled quickly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, event, insert, select, text
from sqlalchemy.pool import NullPool

#: Bytes on the disk.
_SIZES = {
    "sqlite": text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"),
    "postgresql": text("SELECT pg_database_size(current_database())"),
}


def size(uri: str) -> int:
    engine = _engine(uri)
    with engine.connect() as connection:
        return int(connection.execute(_SIZES[engine.dialect.name]).scalar_one())


def copy_row(uri: str, prefix: str, subject: bytes, others: Sequence[bytes]) -> None:
    """Give each of the others the row that ``subject`` has in the table of this prefix."""
    engine, tables = _engine(uri), MetaData()
    tables.reflect(engine, only=lambda name, _: name.startswith(prefix))
    (table,) = tables.tables.values()
    with engine.begin() as connection:
        rows = [dict(row) for row in connection.execute(select(table).limit(2)).mappings()]
        model = next(row for row in rows if subject in row.values())
        column = next(name for name, value in model.items() if value == subject)
        connection.execute(insert(table), [model | {column: other} for other in others])


@contextmanager
def statements() -> Iterator[list[str]]:
    """Within the ``with``, what every database is asked."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def _engine(uri: str) -> Engine:
    return create_engine(uri, poolclass=NullPool)
