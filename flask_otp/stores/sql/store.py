"""The store for sites with a database: one row per subject, in SQLite, PostgreSQL, MariaDB or MySQL.

A verb reads its row, decides, and writes the row back only if it has not changed since. If it has, another caller
was faster, and the verb reads and decides again. Each statement commits itself: no transaction is left open, no lock is
held while Python computes, and no two verbs can deadlock.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, bindparam, delete, insert, literal_column, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from ...errors import ConfigError, StoreUnavailable
from ...outages import Cause
from ..base import NOBODY
from ..codec import pack, unpack
from ..record import Record
from ..record_store import RecordStore
from .deadline import TOO_LATE, Deadline, within
from .drivers import has_said
from .engine import READ_ONLY, READ_ONLY_NOW, ProcessEngines, make_engine, parse_url
from .schema import create, create_on_connect, make_table

logger = logging.getLogger("flask_otp")

T = TypeVar("T")

#: Seconds. Locks on an SQLite file are short. A server that is silent for this long may stay silent.
_TIMEOUT = 0.25
_SQLITE_TIMEOUT = 0.75
_MAINTENANCE_TIMEOUT = 60

#: Maximum seconds between losing a race and the next try.
_PAUSE = 0.002

_MISSING_TABLE = ("42P01", 1146)
#: An existing row (pg8000 has no error class for it), serialisation failures, deadlocks, locks: the database reports
#: that the statement changed nothing.
_ROLLED_BACK = ("23505", "40001", "40P01", "55P03", 1020, 1205, 1213, "database is locked")


#: Values that mean "off" in the databases' settings.
_NO = ("0", "off")


class _IsReplica(SQLAlchemyError):
    """The server is read-only: it was the main server before a failover, or never was."""


class SQLStore(RecordStore):
    """State in a database. Safe for any number of threads, processes and machines.

    :param uri: a SQLAlchemy URL of SQLite, PostgreSQL, MariaDB or MySQL.
    :param prefix: prefix of the table's name.
    :param options: ``timeout`` in seconds, and options of :func:`sqlalchemy.create_engine`.
    """

    def __init__(self, uri: str, prefix: str = "otp", options: dict[str, Any] | None = None) -> None:
        self._url = parse_url(uri)
        self._options = dict(options or {})
        is_file = self._url.get_backend_name() == "sqlite"
        self._timeout = self._options.pop("timeout", _SQLITE_TIMEOUT if is_file else _TIMEOUT)
        if not isinstance(self._timeout, (int, float)) or not self._timeout > 0:
            raise ConfigError("OTP_STORAGE_OPTIONS: timeout must be a number of seconds above 0")
        self._table = make_table(prefix)
        columns = self._table.c
        is_subject = columns.subject == bindparam("key")
        is_as_read = is_subject & (columns.state == bindparam("old"))
        read_only: ColumnElement[str] = literal_column(READ_ONLY_NOW.get(self._url.get_backend_name(), "0"))
        self._select = select(columns.state, read_only).where(is_subject)
        self._is_read_only = select(read_only)
        self._insert = insert(self._table)
        self._update = update(self._table).where(is_as_read)
        self._delete = delete(self._table).where(is_as_read)
        self._engines = ProcessEngines(lambda: self._make_engine(self._timeout))
        self._patient_engines = ProcessEngines(lambda: self._make_engine(_MAINTENANCE_TIMEOUT))
        self._make_engine(self._timeout)  # reports a wrong option now. It is not used, because a fork may follow.

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        return self._engines.get()

    def _make_engine(self, timeout: float) -> Engine:
        engine = make_engine(self._url, self._options, timeout)
        if engine.dialect.name == "sqlite":
            create_on_connect(self._table, engine, timeout)
        return engine

    def close(self) -> None:
        """Close the connections. The next verb opens new ones."""
        self._engines.close()
        self._patient_engines.close()

    def load(self, subject: bytes) -> Record:
        with within(self._timeout) as deadline, self._connect(self.engine) as connection:
            return _unpack(self._read_first(connection, subject, deadline))

    def change(self, subject: bytes, now: int, verb: Callable[[Record], T]) -> T:
        last_try = time.monotonic() + self._timeout
        with within(self._timeout) as deadline, self._connect(self.engine) as connection:
            state = self._read_first(connection, subject, deadline)
            while True:
                record = _unpack(state)
                answer = verb(record)
                if self._write(connection, subject, state, record, now, deadline):
                    return answer
                if time.monotonic() > last_try:
                    raise StoreUnavailable(cause=Cause("timeout", "contention"))
                time.sleep(random.uniform(0, _PAUSE))  # noqa: S311
                state = self._read(connection, subject)

    def probe(self, now: int) -> None:
        super().probe(now)
        with within(self._timeout) as deadline, self._connect(self.engine) as connection:
            self._on_first(connection, deadline, self._try_to_write)

    def _try_to_write(self, connection: Connection) -> None:
        self._refuse_replica(connection, connection.execute(self._is_read_only).scalar_one())
        # Deletes nothing, and is refused like any change.
        connection.execute(self._delete, {"key": NOBODY, "old": b""})

    def _read_first(self, connection: Connection, subject: bytes, deadline: Deadline) -> bytes | None:
        """Read with an old connection, which the server or the network may have dropped; then with a new one.

        Nothing is charged yet. A later failure is not retried, unless the database reports that nothing changed.
        """
        return self._on_first(connection, deadline, lambda connection: self._read(connection, subject))

    def _on_first(self, connection: Connection, deadline: Deadline, ask: Callable[[Connection], T]) -> T:
        try:
            return ask(connection)
        except (DBAPIError, _IsReplica) as error:
            is_lost = isinstance(error, _IsReplica) or error.connection_invalidated
            if not is_lost or not deadline.may_reconnect():
                raise
            connection.rollback()  # after this, SQLAlchemy uses another connection
            return ask(connection)

    def _read(self, connection: Connection, subject: bytes) -> bytes | None:
        """
        :raises _IsReplica: the server's data may be out of date, and lack a revocation.
        """
        row = connection.execute(self._select, {"key": subject}).one_or_none()
        if row is None:
            return None
        state, read_only = row
        self._refuse_replica(connection, read_only)
        return bytes(state)

    def _refuse_replica(self, connection: Connection, read_only: object) -> None:
        """
        :raises _IsReplica: the server's setting says that it is read-only.
        """
        if str(read_only).lower() not in _NO:
            connection.invalidate()
            # The idle connections lead to the same server.
            connection.engine.dispose()
            raise _IsReplica("the server is read-only")

    def _write(
        self, connection: Connection, subject: bytes, old: bytes | None, record: Record, now: int, deadline: Deadline
    ) -> bool:
        """Save the record if the row has not changed since. ``False``: certainly nothing was written."""
        expires_at = record.expires_at()
        new = pack(record) if expires_at > now else None
        if new == old:
            return True
        if not deadline.left():
            raise StoreUnavailable(cause=TOO_LATE)  # the caller would not wait for the answer
        try:
            if old is None:
                values = {"subject": subject, "state": new, "expires_at": expires_at}
                connection.execute(self._insert, values)  # one row, or an error
                return True
            if new is None:
                return connection.execute(self._delete, {"key": subject, "old": old}).rowcount == 1
            values = {"key": subject, "old": old, "state": new, "expires_at": expires_at}
            return connection.execute(self._update, values).rowcount == 1
        except IntegrityError:  # a row exists by now
            return False
        except DBAPIError as error:
            if has_said(error.orig, READ_ONLY) and deadline.may_reconnect():
                connection.rollback()  # after this, SQLAlchemy uses another connection
            elif not has_said(error.orig, _ROLLED_BACK):
                raise
            return False

    # Maintenance

    def prepare(self) -> bool:
        with within(_MAINTENANCE_TIMEOUT), self._connect(self._patient_engines.get()) as connection:
            create(self._table, connection)
        return True

    def purge(self, now: int, limit: int) -> int:
        subject, _, expires_at = self._table.c
        with within(_MAINTENANCE_TIMEOUT), self._connect(self._patient_engines.get()) as connection:
            found = select(subject).where(expires_at <= now).order_by(expires_at).limit(limit)
            subjects = connection.execute(found).scalars().all()
            # Checked again, because a row may have been renewed in the meantime.
            gone = delete(self._table).where(subject.in_(subjects), expires_at <= now)
            return connection.execute(gone).rowcount if subjects else 0

    @contextmanager
    def _connect(self, engine: Engine) -> Iterator[Connection]:
        """
        :raises StoreUnavailable: for any error of SQLAlchemy.
        """
        try:
            with engine.connect() as connection:
                try:
                    yield connection
                except DBAPIError:
                    # It may lead to a server that is no longer the main one.
                    connection.invalidate()
                    raise
        except SQLAlchemyError as error:
            if isinstance(error, DBAPIError) and has_said(error.orig, _MISSING_TABLE):
                logger.error("the table %s does not exist: run 'flask otp init-db'", self._table.name)
            raise StoreUnavailable from error


def _unpack(state: bytes | None) -> Record:
    try:
        return Record() if state is None else unpack(state)
    except IndexError:
        logger.error("a row of the store was not written by flask_otp")
        raise StoreUnavailable from None
