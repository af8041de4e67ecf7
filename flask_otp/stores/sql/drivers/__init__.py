"""The drivers of database servers whose waits can be bounded, and what says which error they tell."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sqlalchemy.engine import URL, Dialect

from ....errors import ConfigError

#: For a URL that names no driver, the first that is installed. SQLAlchemy's own choice is not the same in all of its
#: versions, and may be one that cannot be bounded.
_PREFERRED = {"postgresql": ("psycopg", "pg8000"), "mysql": ("pymysql",), "mariadb": ("pymysql",)}

#: Those with a module of ours.
_BOUNDED = ("psycopg", "pg8000", "pymysql")

#: libpq takes nothing shorter. No caller waits that long: it only ends the thread that is left behind.
_LIBPQ_TIMEOUT = 2


def with_driver(url: URL) -> URL:
    """The URL, with the driver that we choose if it names none."""
    names = _PREFERRED.get(url.drivername)
    if names is None:
        return url
    driver = next((name for name in names if find_spec(name) is not None), names[0])
    return url.set(drivername=f"{url.drivername}+{driver}")


def check(dialect: type[Dialect]) -> None:
    """
    :raises ConfigError: nothing would end a wait of this driver for a server that is silent.
    """
    if dialect.name != "sqlite" and dialect.driver not in _BOUNDED:
        instead = " or ".join(_PREFERRED.get(dialect.name, _BOUNDED))
        raise ConfigError(f"OTP_STORAGE_URI: the driver {dialect.driver} may wait for ever; install and name {instead}")


def arguments(driver: str, timeout: float) -> dict[str, Any]:
    """The time-outs that a driver can keep itself."""
    known: dict[str, dict[str, Any]] = {
        "pysqlite": {"timeout": timeout},
        "psycopg": {"connect_timeout": _LIBPQ_TIMEOUT},
        "pg8000": {"timeout": timeout},
        "pymysql": dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), timeout),
    }
    return known.get(driver, {})


def connect(driver: str, positional: Any, named: Any) -> Any:
    """A connection whose waits the deadline of the current verb bounds."""
    return import_module(f".{driver}", __name__).connect(*positional, **named)


def has_said(cause: BaseException | None, codes: tuple[str | int, ...]) -> bool:
    """Whether the database gave one of these reasons: a SQLSTATE, a number of MySQL's, or words of SQLite's."""
    first: Any = cause.args[0] if cause is not None and cause.args else None
    state = getattr(cause, "sqlstate", None) or (first.get("C") if isinstance(first, dict) else None)
    return state in codes or first in codes
