"""Where the state lives: :func:`store_from_uri` gives the store that a URI names."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from . import memory, redis
from .base import Asking, Opened, Opening, Policy, Redeemed, Redemption, Store

_FACTORIES = {"memory": memory.from_uri} | dict.fromkeys(redis.SCHEMES, redis.from_uri)


def store_from_uri(uri: str, prefix: str, options: dict[str, Any]) -> Store:
    """The store for ``OTP_STORAGE_URI``.

    :raises ConfigError: the scheme is unknown, or the options do not fit it.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme not in _FACTORIES:
        # A URI may hold a password, so it is not quoted whole.
        raise ConfigError(f"OTP_STORAGE_URI: unknown scheme {scheme!r}; known are {', '.join(_FACTORIES)}")
    return _FACTORIES[scheme](uri, prefix, options)


__all__ = ["Asking", "Opened", "Opening", "Policy", "Redeemed", "Redemption", "Store", "store_from_uri"]
