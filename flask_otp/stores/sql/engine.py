"""SQLAlchemy engines as the store needs them: each statement commits itself, and nothing waits for long."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from ...errors import ConfigError, StoreUnavailable
from . import drivers
from .deadline import RECONNECTING, connect_within, connecting

logger = logging.getLogger("flask_otp")

#: The server may not write: a replica that was the main server before a failover.
READ_ONLY = ("25006", 1290, 1836)
#: What tells it before anything is changed. PostgreSQL says so of a standby too.
READ_ONLY_NOW = {
    "postgresql": "current_setting('transaction_read_only')",
    **dict.fromkeys(("mysql", "mariadb"), "@@global.read_only"),
}


class ProcessEngines:
    """One engine for each process, made at its first use there.

    A fork copies connections, and two processes that use one connection read each other's answers. Python's hooks tell
    of no fork that a C program makes, as uWSGI does, so the process is asked for its id each time. There is no lock:
    a fork may copy it while it is held. The engine of another process stays here, untouched, because to throw it away
    would close its connections.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engines: dict[int, Engine] = {}

    def get(self) -> Engine:
        process = os.getpid()
        engine = self._engines.get(process)
        # Of two threads that come first, both get the engine of one.
        return self._engines.setdefault(process, self._make()) if engine is None else engine

    def close(self) -> None:
        """Close the connections of this process. A further use makes new ones."""
        engine = self._engines.get(os.getpid())
        if engine is not None:
            engine.dispose()


def parse_url(uri: str) -> URL:
    """
    :raises ConfigError: SQLAlchemy does not take it, or it is not for a store that many connections share.
    """
    try:
        url = make_url(uri)
        if url.drivername == "postgres":  # as hosting platforms write it, and SQLAlchemy does not take it
            url = url.set(drivername="postgresql")
        url = drivers.with_driver(url)
        dialect = url.get_dialect()
    except (SQLAlchemyError, ValueError):
        # What SQLAlchemy says may quote the URL, and so a password.
        raise ConfigError("OTP_STORAGE_URI is not a URL that SQLAlchemy takes") from None
    if dialect.is_async:
        raise ConfigError(f"OTP_STORAGE_URI: {dialect.driver} is a driver for asyncio; name another")
    drivers.check(dialect)
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
        defaults = {"pool_size": size, "max_overflow": 0, "pool_timeout": RECONNECTING * timeout, "pool_use_lifo": True}
    ours: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        # Nothing is ever left to roll back, and some drivers would spend a round trip on it.
        "pool_reset_on_return": None,
        "skip_autocommit_rollback": True,
        "hide_parameters": True,
    }
    try:
        arguments = {
            key: value for key, value in drivers.arguments(dialect.driver, timeout).items() if key not in url.query
        }
        ours["connect_args"] = arguments | options.get("connect_args", {})
        engine = create_engine(url, **defaults | options | ours)
    except ModuleNotFoundError as error:
        raise ConfigError(f"OTP_STORAGE_URI needs the database driver {error.name}, which is not installed") from None
    except (SQLAlchemyError, TypeError, ValueError):
        raise ConfigError("OTP_STORAGE_URI or OTP_STORAGE_OPTIONS is not what SQLAlchemy takes") from None
    if dialect.name != "sqlite":
        _bound(engine, timeout)
    return engine


def _bound(engine: Engine, timeout: float) -> None:
    """Have each connection made in time, and left when its server may not write."""
    driver_error = engine.dialect.loaded_dbapi.Error

    def connect(dialect: Any, _: object, arguments: Any, options: Any) -> Any:
        try:
            seconds = min(timeout, connecting())
            return connect_within(seconds, lambda: drivers.connect(dialect.driver, arguments, options))
        except (driver_error, StoreUnavailable):
            raise
        except OSError as error:
            raise StoreUnavailable from error
        except Exception as error:
            logger.error("the database driver cannot connect: %s; see OTP_STORAGE_OPTIONS", type(error).__name__)
            raise StoreUnavailable from error

    def leave(context: ExceptionContext) -> None:
        # For SQLAlchemy then all connections are lost: they lead to the same server.
        context.is_disconnect |= drivers.has_said(context.original_exception, READ_ONLY)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "handle_error", leave)
