"""Database drivers whose waits can be limited, and the meaning of their errors."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sqlalchemy.engine import URL, Dialect

from ....errors import ConfigError

#: For a URL without a driver, the first one that is installed. SQLAlchemy's own choice differs between its versions,
#: and may be a driver whose waits cannot be limited.
_PREFERRED = {"postgresql": ("psycopg", "pg8000"), "mysql": ("pymysql",), "mariadb": ("pymysql",)}

#: Drivers with a module here.
_BOUNDED = ("psycopg", "pg8000", "pymysql")

#: libpq's minimum. No caller waits this long: it only ends the abandoned thread.
_LIBPQ_TIMEOUT = 2


def with_driver(url: URL) -> URL:
    """The URL, with our choice of driver if it names none."""
    names = _PREFERRED.get(url.drivername)
    if names is None:
        return url
    driver = next((name for name in names if find_spec(name) is not None), names[0])
    return url.set(drivername=f"{url.drivername}+{driver}")


def check(dialect: type[Dialect]) -> None:
    """
    :raises ConfigError: this driver could wait for ever for a silent server.
    """
    if dialect.name != "sqlite" and dialect.driver not in _BOUNDED:
        instead = " or ".join(_PREFERRED.get(dialect.name, _BOUNDED))
        raise ConfigError(f"OTP_STORAGE_URI: the driver {dialect.driver} may wait for ever; install and name {instead}")


def arguments(driver: str, timeout: float) -> dict[str, Any]:
    """The timeouts that the driver supports itself, and what else it needs."""
    known: dict[str, dict[str, Any]] = {
        "pysqlite": {"timeout": timeout},
        # In a database without an encoding (SQL_ASCII), psycopg would return bytes for text, and SQLAlchemy could not
        # connect.
        "psycopg": {"connect_timeout": _LIBPQ_TIMEOUT, "client_encoding": "utf8"},
        "pg8000": {"timeout": timeout},
        "pymysql": dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), timeout),
    }
    return known.get(driver, {})


def connect(driver: str, positional: Any, named: Any) -> Any:
    """A connection whose waits the current verb's deadline limits."""
    return import_module(f".{driver}", __name__).connect(*positional, **named)


def has_said(cause: BaseException | None, codes: tuple[str | int, ...]) -> bool:
    """Whether the error has one of these codes: a SQLSTATE, a MySQL error number, or an SQLite message."""
    first: Any = cause.args[0] if cause is not None and cause.args else None
    state = getattr(cause, "sqlstate", None) or (first.get("C") if isinstance(first, dict) else None)
    return state in codes or first in codes
