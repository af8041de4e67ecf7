"""Where the state lives: :func:`store_from_uri` gives the store that a URI names."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from . import memory, redis
from .base import Asking, Attempt, Opened, Opening, Policy, Redeemed, Redemption, Store
from .connections import SCHEMES

_FACTORIES = {"memory": memory.from_uri} | dict.fromkeys(SCHEMES, redis.from_uri)


def store_from_uri(uri: str, prefix: str, options: dict[str, Any]) -> Store:
    """The store for ``OTP_STORAGE_URI``.

    :raises ConfigError: the scheme is unknown, or the options do not fit it.
    """
    scheme = uri.partition("://")[0]
    if scheme not in _FACTORIES:
        # A URI may hold a password, at the wrong place too, so no part of it is quoted.
        raise ConfigError(f"OTP_STORAGE_URI must begin with one of {', '.join(f'{name}://' for name in _FACTORIES)}")
    return _FACTORIES[scheme](uri, prefix, options)


__all__ = ["Asking", "Attempt", "Opened", "Opening", "Policy", "Redeemed", "Redemption", "Store", "store_from_uri"]
