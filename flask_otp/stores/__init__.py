"""Where the state lives: :func:`store_from_uri` gives the store that a URI names."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from ..errors import ConfigError
from ..lazy import lazy
from ..redis_clients.schemes import SCHEMES
from . import memory
from .base import Attempt, ChallengeRequest, Claim, OpenOutcome, OpenResult, Policy, RedeemOutcome, RedeemResult, Store
from .record_store import RecordStore

#: Makes a store of ``OTP_STORAGE_URI``, ``OTP_KEY_PREFIX`` and ``OTP_STORAGE_OPTIONS``.
Factory = Callable[[str, str, dict[str, Any]], Store]

#: A driver's name may follow: ``postgresql+psycopg://``.
_DATABASES = ("sqlite", "postgresql", "postgres", "mariadb", "mysql")


_redis = lazy(".redis", __package__)
_sql = lazy(".sql", __package__)


def _sql_from_uri(uri: str, prefix: str, options: dict[str, Any]) -> Store:
    try:
        import_module("sqlalchemy")
    except ImportError:
        raise ConfigError("OTP_STORAGE_URI names a database: install flask-otp-codes[sql]") from None
    store: Store = _sql.SQLStore(uri, prefix, options)
    return store


def _redis_from_uri(uri: str, prefix: str, options: dict[str, Any]) -> Store:
    store: Store = _redis.from_uri(uri, prefix, options)
    return store


_FACTORIES: dict[str, Factory] = {
    "memory": memory.from_uri,
    **dict.fromkeys(SCHEMES, _redis_from_uri),
    **dict.fromkeys(_DATABASES, _sql_from_uri),
}
_registered: dict[str, Factory] = {}


def register_store(scheme: str, factory: Factory) -> None:
    """Let ``OTP_STORAGE_URI`` begin with ``scheme://``, or with ``scheme+anything://`` where that is not registered.

    Call it before ``init_app``. An installed package can do without: by an entry point in the group
    ``flask_otp.stores`` that has the scheme for its name. Registered again, a scheme gets the later factory.

    :param factory: called as ``factory(uri, prefix, options)``, once for each app. It should make the store without
        talking to a server, since an app must start when the server is down. For a URI or options that do not fit, it
        raises :exc:`~flask_otp.errors.ConfigError`, and says nothing of what is in the URI.
    :raises ConfigError: the scheme is one of ours, or is no scheme.
    """
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ConfigError(f"a scheme is lower-case letters, digits, +, . and -, not {scheme!r}")
    if scheme.partition("+")[0] in _FACTORIES:
        raise ConfigError(f"{scheme}:// is a store of flask_otp's own, and cannot be replaced")
    _registered[scheme] = factory


def store_from_uri(uri: str, prefix: str, options: dict[str, Any]) -> Store:
    """The store for ``OTP_STORAGE_URI``.

    :raises ConfigError: the scheme is unknown, or the options do not fit it.
    """
    factory = factory_for(uri)
    try:
        store = factory(uri, prefix, options)
    except ConfigError:
        raise
    except Exception as error:
        # What it says may quote the URI too.
        raise ConfigError(f"OTP_STORAGE_URI: the store was not made, by a {type(error).__name__}") from None
    if not isinstance(store, Store):
        raise ConfigError("OTP_STORAGE_URI: what its factory makes is no flask_otp.stores.Store")
    return store


def factory_for(uri: str) -> Factory:
    """
    :raises ConfigError: the scheme is unknown.
    """
    scheme = uri.partition("://")[0]
    base = scheme.partition("+")[0]
    factory = _FACTORIES.get(base if base in _DATABASES else scheme) or _foreign(scheme)
    if factory is None:
        # A URI may hold a password, at the wrong place too, so no part of it is quoted.
        known = ", ".join(f"{name}://" for name in (*_FACTORIES, *_registered))
        raise ConfigError(f"OTP_STORAGE_URI must begin with one of {known}")
    return factory


def _foreign(scheme: str) -> Factory | None:
    """The factory that an app or an installed package brings."""
    base = scheme.partition("+")[0]
    for name in () if base in _FACTORIES else (scheme, base):
        if name in _registered:
            return _registered[name]
        for entry_point in entry_points(group="flask_otp.stores", name=name):
            try:
                factory: Factory = entry_point.load()
            except Exception as error:
                raise ConfigError(f"OTP_STORAGE_URI: {entry_point.value}, for {name}://, cannot be loaded") from error
            return factory
    return None


__all__ = [
    "Attempt",
    "ChallengeRequest",
    "Claim",
    "OpenOutcome",
    "OpenResult",
    "Policy",
    "RecordStore",
    "RedeemOutcome",
    "RedeemResult",
    "Store",
    "register_store",
    "store_from_uri",
]
