"""Reads Flask's own settings that our security depends on."""

from __future__ import annotations

from flask import Flask

from ..errors import ConfigError

_MIN_SECRET = 16


def refuse_text_for_flags(app: Flask) -> None:
    """In debug and testing mode, codes may be printed and secrets may be short. Flask treats any text as true there.

    :raises ConfigError: one of the two settings is text.
    """
    for key in ("DEBUG", "TESTING"):
        if isinstance(app.config.get(key), (str, bytes)):
            raise ConfigError(
                f"{key} must be True or False, not text such as {app.config[key]!r}: all text means yes",
                see="settings/debug-and-testing",
            )


def secret_keys(app: Flask) -> list[bytes]:
    """``SECRET_KEY``, then ``SECRET_KEY_FALLBACKS``.

    :raises ConfigError: there is no ``SECRET_KEY``, a key is neither text nor bytes, the fallbacks are no list of keys,
        or a key is shorter than 16 bytes. In debug and testing mode, keys may be short.
    """
    secret = app.secret_key
    if not secret:
        raise ConfigError("SECRET_KEY is not set before OTP(app): make one with secrets.token_hex(), and keep it")
    if not isinstance(secret, (str, bytes)):
        # FLASK_SECRET_KEY with digits alone is a number for from_prefixed_env.
        raise ConfigError(f"SECRET_KEY must be text or bytes, not {type(secret).__name__}")
    fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or []
    if not isinstance(fallbacks, (list, tuple)) or not all(key and isinstance(key, (str, bytes)) for key in fallbacks):
        raise ConfigError("SECRET_KEY_FALLBACKS must be a list of non-empty keys")
    keys = [_as_bytes(key) for key in (secret, *fallbacks)]
    if min(map(len, keys)) < _MIN_SECRET and not (app.debug or app.testing):
        name = "SECRET_KEY" if len(keys[0]) < _MIN_SECRET else "SECRET_KEY_FALLBACKS: a key"
        raise ConfigError(
            f"{name} is shorter than {_MIN_SECRET} bytes: make one with secrets.token_hex()", see="settings/secret-key"
        )
    return keys


def _as_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
