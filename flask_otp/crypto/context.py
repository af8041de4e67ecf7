"""The context that a code is bound to, as canonical JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..errors import InvalidRequest
from ..languages import N_

#: Maximum bytes of a context's JSON. It travels, sealed, in tokens that must fit into a cookie and a 4 KiB request.
MAX_CONTEXT = 512


def context_digest(context: Any) -> bytes:
    """The digest of a context. Empty for ``None``, which means no context."""
    return b"" if context is None else json_digest(context)


def json_digest(context: Any) -> bytes:
    """A JSON value as 32 bytes, equal only for equal values: ``True`` differs from ``1``.

    :raises ValueError: the value is not JSON, or an object has a key that is not a string. This is a bug in the app.
    :raises InvalidRequest: the JSON is longer than :data:`MAX_CONTEXT`, or has no canonical form: NaN, an infinity,
        half a surrogate pair, or a number or nesting depth that Python refuses to write. A client can send each of
        these.
    """
    try:
        _check_json(context)
        text = json.dumps(context, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    except _NotJson:
        raise
    except (ValueError, RecursionError):
        raise InvalidRequest from None
    if len(text) > MAX_CONTEXT:
        raise InvalidRequest(N_("There is too much to confirm with one code."))
    return hashlib.sha256(text).digest()


class _NotJson(ValueError):
    """The app passed a value that no client can send."""


def _check_json(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _NotJson(f"a context's keys must be strings, not {key!r}")
            _check_json(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_json(item)
    elif not (value is None or isinstance(value, (str, int, float, bool))):
        raise _NotJson(f"a context must be a JSON value, not {type(value).__name__}")
