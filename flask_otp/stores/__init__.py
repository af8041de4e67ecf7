"""The stores of the state. :func:`store_from_uri` creates the store that a URI names."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from ..errors import ConfigError
from ..lazy import lazy
from ..redis_clients.schemes import SCHEMES
from . import former_names, memory
from .base import Attempt, ChallengeRequest, Claim, OpenOutcome, OpenResult, Policy, RedeemOutcome, RedeemResult, Store
from .record_store import RecordStore

#: Creates a store from ``OTP_STORAGE_URI``, ``OTP_KEY_PREFIX`` and ``OTP_STORAGE_OPTIONS``.
Factory = Callable[[str, str, dict[str, Any]], Store]

#: A driver name may follow: ``postgresql+psycopg://``.
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
_PAGE = "stores/make-it-known"


def register_store(scheme: str, factory: Factory) -> None:
    """Register a store for ``scheme://`` in ``OTP_STORAGE_URI``, and for ``scheme+anything://`` unless that is
    registered.

    Call it before ``init_app``. An installed package can use an entry point in the group ``flask_otp.stores`` instead,
    named after the scheme. If a scheme is registered again, the later factory is used.

    :param factory: called as ``factory(uri, prefix, options)``, once per app. It should create the store without
        contacting a server, because an app must start while the server is down. If the URI or the options are wrong, it
        raises :exc:`~flask_otp.errors.ConfigError` without quoting the URI.
    :raises ConfigError: the scheme is built in, or is not a valid scheme.
    """
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ConfigError(f"a scheme must be lower-case letters, digits, +, . and -, not {scheme!r}", see=_PAGE)
    if scheme.partition("+")[0] in _FACTORIES:
        raise ConfigError(f"{scheme}:// is built into flask_otp and cannot be replaced", see=_PAGE)
    _registered[scheme] = factory


def store_from_uri(uri: str, prefix: str, options: dict[str, Any]) -> Store:
    """Create the store for ``OTP_STORAGE_URI``.

    :raises ConfigError: the scheme is unknown, or the options do not fit it.
    """
    factory = factory_for(uri)
    try:
        store = factory(uri, prefix, options)
    except ConfigError:
        raise
    except Exception as error:
        # The error may quote the URI.
        raise ConfigError(f"OTP_STORAGE_URI: creating the store raised a {type(error).__name__}") from None
    if not isinstance(store, Store):
        raise ConfigError("OTP_STORAGE_URI: its factory did not return a flask_otp.stores.Store")
    return store


def factory_for(uri: str) -> Factory:
    """
    :raises ConfigError: the scheme is unknown.
    """
    scheme = uri.partition("://")[0]
    base = scheme.partition("+")[0]
    factory = _FACTORIES.get(base if base in _DATABASES else scheme) or _foreign(scheme)
    if factory is None:
        # A URI may hold a password, also in the wrong place, so no part of it is quoted.
        known = ", ".join(f"{name}://" for name in (*_FACTORIES, *_registered))
        raise ConfigError(f"OTP_STORAGE_URI must begin with one of {known}")
    return factory


def _foreign(scheme: str) -> Factory | None:
    """The factory of an app or an installed package."""
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


def __getattr__(name: str) -> Any:
    return former_names.find(name)
