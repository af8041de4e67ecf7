"""SQLAlchemy engines for the store: each statement commits itself, and all waits are short."""

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

#: The server is read-only: a replica that was the main server before a failover.
READ_ONLY = ("25006", 1290, 1836)
#: A query that tells this before a change. PostgreSQL reports it for a standby too.
READ_ONLY_NOW = {
    "postgresql": "current_setting('transaction_read_only')",
    **dict.fromkeys(("mysql", "mariadb"), "@@global.read_only"),
}


class ProcessEngines:
    """One engine per process, created at its first use there.

    A fork copies connections, and two processes with the same connection read each other's answers. Python's fork hooks
    do not notice a fork by C code, as in uWSGI, so the process id is checked each time. There is no lock, because a
    fork may copy it while it is held. Another process's engine is kept untouched, because dropping it would close its
    connections.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engines: dict[int, Engine] = {}

    def get(self) -> Engine:
        process = os.getpid()
        engine = self._engines.get(process)
        # If two threads come first, both get the engine of one of them.
        return self._engines.setdefault(process, self._make()) if engine is None else engine

    def close(self) -> None:
        """Close this process's connections. The next use opens new ones."""
        engine = self._engines.get(os.getpid())
        if engine is not None:
            engine.dispose()


def parse_url(uri: str) -> URL:
    """
    :raises ConfigError: SQLAlchemy does not accept the URL, or connections could not share its database.
    """
    try:
        url = make_url(uri)
        if url.drivername == "postgres":  # used by hosting platforms, but not accepted by SQLAlchemy
            url = url.set(drivername="postgresql")
        url = drivers.with_driver(url)
        dialect = url.get_dialect()
    except (SQLAlchemyError, ValueError):
        # SQLAlchemy's message may quote the URL, and so a password.
        raise ConfigError("OTP_STORAGE_URI is not a URL that SQLAlchemy accepts") from None
    if dialect.is_async:
        raise ConfigError(f"OTP_STORAGE_URI: {dialect.driver} is an asyncio driver; use another one")
    drivers.check(dialect)
    if dialect.name == "sqlite" and (":memory:" in (url.database or ":memory:") or url.query.get("mode") == "memory"):
        raise ConfigError("OTP_STORAGE_URI: each connection would have its own in-memory database; use memory://")
    return url


def make_engine(url: URL, options: dict[str, Any], timeout: float) -> Engine:
    """An engine whose connections commit each statement and give up after ``timeout`` seconds.

    :param options: passed to :func:`sqlalchemy.create_engine`.
    :raises ConfigError: SQLAlchemy does not accept the options, or the driver is not installed.
    """
    dialect = url.get_dialect()
    defaults: dict[str, Any] = {}
    if "poolclass" not in options:  # another pool may not accept the default pool's options
        # Threads take turns with one SQLite connection, because several would poll for the file's lock.
        size = 1 if dialect.name == "sqlite" else 10
        defaults = {"pool_size": size, "max_overflow": 0, "pool_timeout": RECONNECTING * timeout, "pool_use_lifo": True}
    ours: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        # There is never anything to roll back, and some drivers would use a round trip for it.
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
        raise ConfigError("OTP_STORAGE_URI or OTP_STORAGE_OPTIONS is not accepted by SQLAlchemy") from None
    if dialect.name != "sqlite":
        _bound(engine, timeout)
    return engine


def _bound(engine: Engine, timeout: float) -> None:
    """Limit the time to connect, and drop connections to a server that is read-only."""
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
        # SQLAlchemy then drops all connections, because they lead to the same server.
        context.is_disconnect |= drivers.has_said(context.original_exception, READ_ONLY)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "handle_error", leave)
