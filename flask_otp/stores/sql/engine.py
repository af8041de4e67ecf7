"""SQLAlchemy engines as the store needs them: each statement commits itself, and nothing waits for long."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError

from ...errors import ConfigError, StoreUnavailable
from .deadline import Deadlines, connect_within

logger = logging.getLogger("flask_otp")

#: For a URL that names no driver. SQLAlchemy's own choice is not the same in all of its versions.
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}

#: libpq takes nothing shorter. Nobody waits that long: it ends the thread that :func:`connect_within` leaves behind.
_LIBPQ = {"connect_timeout": 2}

_deadlines: WeakKeyDictionary[Engine, Deadlines] = WeakKeyDictionary()
_inherited: list[object] = []


def parse_url(uri: str) -> URL:
    """
    :raises ConfigError: SQLAlchemy does not take it, or it is not for a store that many connections share.
    """
    try:
        url = make_url(uri)
        driver = _DRIVERS.get(url.drivername)
        if driver is not None and find_spec(driver) is not None:
            url = url.set(drivername=f"{url.drivername}+{driver}")
        dialect = url.get_dialect()
    except (SQLAlchemyError, ValueError):
        # What SQLAlchemy says may quote the URL, and so a password.
        raise ConfigError("OTP_STORAGE_URI is not a URL that SQLAlchemy takes") from None
    if dialect.is_async:
        raise ConfigError(f"OTP_STORAGE_URI: {dialect.driver} is a driver for asyncio; name another")
    if dialect.name == "sqlite" and (":memory:" in (url.database or ":memory:") or url.query.get("mode") == "memory"):
        raise ConfigError("OTP_STORAGE_URI: each connection would have an SQLite memory of its own; use memory://")
    return url


def make_engine(url: URL, options: dict[str, Any], timeout: float) -> Engine:
    """An engine whose connections commit each statement, and give up after ``timeout`` seconds.

    :param options: for :func:`sqlalchemy.create_engine`.
    :raises ConfigError: SQLAlchemy does not take the options, or the driver is not installed.
    """
    dialect = url.get_dialect()
    defaults: dict[str, Any] = {}
    if "poolclass" not in options:  # another pool may not take what the usual one does
        # Threads take turns: at one connection of SQLite, since several would sleep and poll for the file's lock.
        size = 1 if dialect.name == "sqlite" else 10
        defaults = {"pool_size": size, "max_overflow": 0, "pool_timeout": timeout, "pool_use_lifo": True}
    ours: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        # Nothing is ever left to roll back, and some drivers would spend a round trip on it.
        "pool_reset_on_return": None,
        "skip_autocommit_rollback": True,
        "hide_parameters": True,
    }
    try:
        arguments = {key: value for key, value in _arguments(dialect.driver, timeout).items() if key not in url.query}
        ours["connect_args"] = arguments | options.get("connect_args", {})
        engine = create_engine(url, **defaults | options | ours)
    except ModuleNotFoundError as error:
        raise ConfigError(f"OTP_STORAGE_URI needs the database driver {error.name}, which is not installed") from None
    except (SQLAlchemyError, TypeError, ValueError):
        raise ConfigError("OTP_STORAGE_URI or OTP_STORAGE_OPTIONS is not what SQLAlchemy takes") from None
    deadlines = _deadlines[engine] = Deadlines(timeout)
    if dialect.name != "sqlite":
        _keep(deadlines, engine, timeout)
    return engine


def _arguments(driver: str, timeout: float) -> dict[str, Any]:
    """The time-outs that a driver can keep itself."""
    known: dict[str, dict[str, Any]] = {
        "pysqlite": {"timeout": timeout},
        "psycopg": _LIBPQ,
        "psycopg2": _LIBPQ,
        "pymysql": dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), timeout),
    }
    return known.get(driver, {})


def _keep(deadlines: Deadlines, engine: Engine, timeout: float) -> None:
    """Have each connection made in time, and each use of it end in time."""
    driver_error = engine.dialect.loaded_dbapi.Error

    def connect(dialect: Any, record: object, arguments: Any, options: Any) -> Any:
        try:
            connection = connect_within(timeout, lambda: dialect.connect(*arguments, **options))
        except (driver_error, StoreUnavailable):
            raise
        except Exception as error:
            logger.error("the database driver cannot connect: %s; see OTP_STORAGE_OPTIONS", type(error).__name__)
            raise StoreUnavailable from error
        start(connection, record)
        return connection

    def start(connection: Any, record: object, _: object = None) -> None:
        # PyMySQL has no such method, and keeps its time-outs itself.
        if hasattr(connection, "fileno"):
            try:
                deadlines.start(record, connection.fileno())
            except (driver_error, OSError):
                raise DisconnectionError from None

    def end(_: object, record: object) -> None:
        deadlines.end(record)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "checkout", start)
    event.listen(engine, "checkin", end)


def _after_fork() -> None:
    """The connections are the parent's: the child lets go of them without a word, and makes its own."""
    for engine, deadlines in list(_deadlines.items()):
        # Kept, since SQLite may not even close what it inherits.
        _inherited.append(engine.pool)
        engine.dispose(close=False)
        deadlines.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
